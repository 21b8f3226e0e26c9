# SPDX-License-Identifier: Apache-2.0
"""Stand-in for `slicer.parameterNodeWrapper`, written anew, with its names, rules and traps.

Not here: dict, tuple and Any as types, ranges of two numbers, createGui.
"""

from slicer_host.parameters.annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
)
from slicer_host.parameters.connectors import GuiConnector, createGuiConnector, parameterNodeGuiConnector
from slicer_host.parameters.pack import isParameterPack, nestedParameterNames, parameterPack
from slicer_host.parameters.serializers import Serializer, parameterNodeSerializer
from slicer_host.parameters.wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "GuiConnector",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "Serializer",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "isParameterPack",
    "nestedParameterNames",
    "parameterNodeGuiConnector",
    "parameterNodeSerializer",
    "parameterNodeWrapper",
    "parameterPack",
]
