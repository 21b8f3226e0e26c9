# SPDX-License-Identifier: Apache-2.0
"""The structures of this project in Slicer's terminology selector."""

import slicer
import vtk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.resources_dir import resources_dir

CONTEXT_NAME = "Segmentation category and type - ProstateXfer"
FILE_NAME = "ProstateXfer.term.json"


def loadTerminology() -> bool:
    """Offer the list of structures in Slicer's terminology selector, once; returns whether it is offered.

    False where there is no terminologies module, as in a Slicer without it, or where the file was not shipped:
    segments carry their own codes and need no list.
    """
    module = getattr(slicer.modules, "terminologies", None)
    logic = module.logic() if module is not None else None
    if logic is None:
        return False
    names = vtk.vtkStringArray()
    logic.GetLoadedTerminologyNames(names)
    if CONTEXT_NAME in [names.GetValue(index) for index in range(names.GetNumberOfValues())]:
        return True
    try:
        path = resources_dir() / "Terminology" / FILE_NAME
    except ProstateXferError:
        return False
    return path.is_file() and logic.LoadTerminologyFromFile(str(path)) == CONTEXT_NAME
