# SPDX-License-Identifier: Apache-2.0
"""@parameterPack: several parameters as one value, with dotted names in the parameter node."""

import typing

import slicer

from slicer_host.parameters.annotations import Default, splitAnnotations
from slicer_host.parameters.serializers import Serializer, makeSerializer, parameterNodeSerializer


def isParameterPack(obj) -> bool:
    """True for a pack's class and for its instances."""
    return getattr(obj, "_is_parameterPack", False)


def _member(name: str, serializer: Serializer) -> property:
    def write(self, value):
        serializer.validate(value)
        vars(self)[f"_{name}"] = value
        self._changed()

    return property(lambda self: vars(self)[f"_{name}"], write)


def parameterPack(cls=None):
    """Class decorator; the members are those with a type."""
    if cls is None:
        return parameterPack
    hints = typing.get_type_hints(cls, include_extras=True)
    if not hints:
        raise ValueError("Unable to find any members in parameterPack")
    members = {}
    for name, datatype in hints.items():
        serializer, default = makeSerializer(datatype)
        if hasattr(cls, name):
            default = Default(getattr(cls, name))
        default = default or Default(generator=serializer.default)
        serializer.validate(default.value)
        members[name] = (serializer, default, datatype)
        setattr(cls, name, _member(name, serializer))

    def init(self, *values, **named):
        for name, value in {**dict(zip(members, values, strict=False)), **named}.items():
            if name not in members:
                raise TypeError(f"__init__() got an unexpected keyword argument '{name}'")
            setattr(self, name, value)
        for name, (_, default, _) in members.items():
            vars(self).setdefault(f"_{name}", default.value)

    def equal(self, other) -> bool:
        return isParameterPack(other) and all(getattr(self, name) == getattr(other, name, None) for name in members)

    cls.__init__, cls.__eq__, cls.__hash__ = init, equal, None
    cls._is_parameterPack, cls.allParameters = True, members
    cls._changed = lambda self: None
    cls.getValue, cls.setValue = _getValue, _setValue
    cls.dataType = classmethod(_dataType)
    return cls


def _getValue(self, name: str):
    top, _, rest = name.partition(".")
    return getattr(self, top).getValue(rest) if rest else getattr(self, top)


def _setValue(self, name: str, value) -> None:
    top, _, rest = name.partition(".")
    if rest:
        getattr(self, top).setValue(rest, value)
    else:
        setattr(self, top, value)


def _dataType(cls, name: str):
    top, _, rest = name.partition(".")
    if top not in cls.allParameters:
        raise ValueError(f"{cls} has no member '{top}'")
    datatype = cls.allParameters[top][2]
    return splitAnnotations(datatype)[0].dataType(rest) if rest else datatype


def nestedParameterNames(pack) -> list[str]:
    """The dotted names of all members."""
    names = []
    for name, (_, _, datatype) in splitAnnotations(pack)[0].allParameters.items():
        bare = splitAnnotations(datatype)[0]
        names += [f"{name}.{below}" for below in nestedParameterNames(bare)] if isParameterPack(bare) else [name]
    return names


@parameterNodeSerializer
class PackSerializer(Serializer):
    """One parameter for each member, `pack.member`."""

    @staticmethod
    def canSerialize(datatype) -> bool:
        return isParameterPack(datatype)

    def isIn(self, node, name: str) -> bool:
        member, (serializer, _, _) = next(iter(self.type.allParameters.items()))
        return serializer.isIn(node, f"{name}.{member}")

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        with slicer.util.NodeModify(node):
            for member, (serializer, _, _) in self.type.allParameters.items():
                serializer.write(node, f"{name}.{member}", getattr(value, member))

    def read(self, node, name: str):
        """A pack that writes itself to the node when a member is set."""
        entries = self.type.allParameters.items()
        pack = self.type(**{member: entry[0].read(node, f"{name}.{member}") for member, entry in entries})
        self._watch(pack, lambda: self.write(node, name, pack))
        return pack

    def _watch(self, pack, save) -> None:
        vars(pack)["_changed"] = save
        for member in pack.allParameters:
            if isParameterPack(getattr(pack, member)):
                self._watch(getattr(pack, member), save)

    def remove(self, node, name: str) -> None:
        for member, (serializer, _, _) in self.type.allParameters.items():
            serializer.remove(node, f"{name}.{member}")
