# SPDX-License-Identifier: Apache-2.0
"""How a typed value is written to the parameter node and read from it."""

import enum
import pathlib
import typing
from collections.abc import MutableSequence

import slicer

from slicer_host.parameters.annotations import Default, IsInstance, NotNone, Validator, splitAnnotations

_PATHS = (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePath, pathlib.PurePosixPath)
_registered: list[type] = []


def parameterNodeSerializer(cls: type) -> type:
    """Class decorator that makes a serializer known."""
    _registered.append(cls)
    return cls


def makeSerializer(datatype) -> tuple["Serializer", Default | None]:
    """The serializer for a (perhaps annotated) type, and its Default annotation."""
    bare, annotations = splitAnnotations(datatype)
    for cls in _registered:
        if cls.canSerialize(bare):
            serializer = cls(bare)
            break
    else:
        raise Exception(f"Unable to create serializer for type: {bare}")
    serializer.validators = [
        *serializer.validators,
        *(entry for entry in annotations if isinstance(entry, Validator)),
    ]
    return serializer, next((entry for entry in annotations if isinstance(entry, Default)), None)


class Serializer:
    """Writes a value as one string parameter; subclasses say how it reads."""

    validators: "list[Validator]" = ()
    canCache = True

    def __init__(self, datatype):
        self.type = datatype
        self.validators = [NotNone(), IsInstance(datatype)]

    @staticmethod
    def canSerialize(_datatype) -> bool:
        """Whether this class is for the type."""
        return False

    def default(self):
        """The value without a Default."""
        return self.type()

    def validate(self, value) -> None:
        """Raise for a value that is not allowed."""
        for validator in self.validators:
            validator.validate(value)

    def isIn(self, node, name: str) -> bool:
        """Whether the node has a value of this name."""
        return bool(node.HasParameter(name))

    def write(self, node, name: str, value) -> None:
        """Check and write."""
        self.validate(value)
        node.SetParameter(name, self.text(value))

    def text(self, value) -> str:
        """The value as it is stored."""
        return str(value)

    def read(self, node, name: str):
        """The value."""
        return self.type(node.GetParameter(name))

    def remove(self, node, name: str) -> None:
        """Take the value away."""
        node.UnsetParameter(name)


@parameterNodeSerializer
class NumberSerializer(Serializer):
    """int and float; an int will do for a float."""

    def __init__(self, datatype):
        super().__init__(datatype)
        self.validators = [NotNone(), IsInstance((int, float) if datatype is float else int)]

    @staticmethod
    def canSerialize(datatype) -> bool:
        return datatype in (int, float)


@parameterNodeSerializer
class TextSerializer(Serializer):
    """str and paths."""

    @staticmethod
    def canSerialize(datatype) -> bool:
        return datatype is str or datatype in _PATHS


@parameterNodeSerializer
class BoolSerializer(Serializer):
    """ "True" or "False"."""

    @staticmethod
    def canSerialize(datatype) -> bool:
        return datatype is bool

    def read(self, node, name: str) -> bool:
        return node.GetParameter(name) == "True"


@parameterNodeSerializer
class EnumSerializer(Serializer):
    """Stored by name; the first member is the default."""

    def __init__(self, datatype):
        super().__init__(datatype)
        self.validators = [IsInstance(datatype)]

    @staticmethod
    def canSerialize(datatype) -> bool:
        return isinstance(datatype, type) and issubclass(datatype, enum.Enum)

    def default(self):
        return next(iter(self.type))

    def text(self, value) -> str:
        return value.name

    def read(self, node, name: str):
        key = node.GetParameter(name)
        if key not in self.type.__members__:
            raise ValueError(f"Found {key!r} in parameter node but it is not a name in {self.type!r}")
        return self.type[key]


@parameterNodeSerializer
class NodeSerializer(Serializer):
    """A node of the scene, stored as a node reference; None is allowed."""

    def __init__(self, datatype):
        super().__init__(datatype)
        self.validators = [IsInstance(datatype)]

    @staticmethod
    def canSerialize(datatype) -> bool:
        return isinstance(datatype, type) and issubclass(datatype, slicer.vtkMRMLNode)

    def default(self):
        return None

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        node.SetParameter(name, "")  # says that there is a value, even if it is None
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name: str):
        return node.GetNodeReference(name)

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class NoneSerializer(Serializer):
    """None as a member of a union."""

    def default(self):
        return None

    def validate(self, value) -> None:
        if value is not None:
            raise ValueError("Value must be None")

    def read(self, _node, _name: str):
        return None


@parameterNodeSerializer
class UnionSerializer(Serializer):
    """Optional[...] and unions: the member that takes the value stores it under its number."""

    def __init__(self, datatype):
        self.type, self.validators = datatype, []
        self._members = [
            NoneSerializer(member) if member is type(None) else makeSerializer(member)[0]
            for member in typing.get_args(datatype)
        ]
        self.canCache = all(member.canCache for member in self._members)

    @staticmethod
    def canSerialize(datatype) -> bool:
        return typing.get_origin(datatype) is typing.Union

    def default(self):
        isOptional = len(self._members) == 2 and isinstance(self._members[1], NoneSerializer)
        return None if isOptional else self._members[0].default()

    def isIn(self, node, name: str) -> bool:
        return any(member.isIn(node, f"{name}.{index}") for index, member in enumerate(self._members))

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        index, member = self._memberFor(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            member.write(node, f"{name}.{index}", value)

    def _memberFor(self, value) -> tuple[int, Serializer]:
        reason = TypeError(f"Unable to write value '{value}' of type '{type(value)}'")
        for index, member in enumerate(self._members):
            if isinstance(member, NoneSerializer) != (value is None):
                continue
            try:
                member.validate(value)
            except (TypeError, ValueError) as problem:
                reason = problem
            else:
                return index, member
        raise reason

    def read(self, node, name: str):
        for index, member in enumerate(self._members):
            if member.isIn(node, f"{name}.{index}"):
                return member.read(node, f"{name}.{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node, name: str) -> None:
        for index, member in enumerate(self._members):
            member.remove(node, f"{name}.{index}")


class ObservedList(MutableSequence):
    """A list that writes itself to the parameter node whenever it is changed."""

    def __init__(self, serializer: "ListSerializer", node, name: str, values: list):
        self._serializer, self._node, self._name, self._values = serializer, node, name, values

    def __getitem__(self, index):
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other) -> bool:
        return self._values == (other._values if isinstance(other, ObservedList) else other)

    def __repr__(self) -> str:
        return f"ObservedList({self._values})"

    def __setitem__(self, index, value) -> None:
        self._values[index] = value
        self._save()

    def __delitem__(self, index) -> None:
        del self._values[index]
        self._save()

    def insert(self, index: int, value) -> None:
        """As of a list."""
        self._values.insert(index, value)
        self._save()

    def _save(self) -> None:
        try:
            self._serializer.write(self._node, self._name, self._values)
        finally:
            self._values = self._serializer.read(self._node, self._name)._values


@parameterNodeSerializer
class ListSerializer(Serializer):
    """list[...]: the length, and one parameter for each element."""

    def __init__(self, datatype):
        self.type, self.validators = datatype, []
        self._element = makeSerializer(typing.get_args(datatype)[0])[0]
        self.canCache = self._element.canCache

    @staticmethod
    def canSerialize(datatype) -> bool:
        return typing.get_origin(datatype) is list

    def default(self) -> list:
        return []

    def isIn(self, node, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def _length(self, node, name: str) -> int:
        return int(node.GetParameter(f"{name}.len")) if self.isIn(node, name) else 0

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        for element in value:
            self._element.validate(element)
        with slicer.util.NodeModify(node):
            before = self._length(node, name)
            for index, element in enumerate(value):
                self._element.write(node, f"{name}.{index}", element)
            for index in range(len(value), before):
                self._element.remove(node, f"{name}.{index}")
            node.SetParameter(f"{name}.len", str(len(value)))

    def read(self, node, name: str) -> ObservedList:
        values = [self._element.read(node, f"{name}.{index}") for index in range(self._length(node, name))]
        return ObservedList(self, node, name, values)

    def remove(self, node, name: str) -> None:
        for index in range(self._length(node, name)):
            self._element.remove(node, f"{name}.{index}")
        node.UnsetParameter(f"{name}.len")
