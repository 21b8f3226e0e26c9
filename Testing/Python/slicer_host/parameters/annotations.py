# SPDX-License-Identifier: Apache-2.0
"""What may stand beside a type in Annotated[...]: a default, limits, and hints for the widget."""

import abc
import dataclasses
import typing
from collections.abc import Callable
from typing import Annotated, Any


class Default:
    """The value a parameter begins with; with `generator` it is made anew each time."""

    def __init__(self, value=None, *, generator: Callable[[], Any] | None = None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        """The value to begin with."""
        return self._generator() if self._generator else self._value


@dataclasses.dataclass
class Decimals:
    """How many decimals a number's widget shows."""

    value: int


@dataclasses.dataclass
class SingleStep:
    """How far an arrow of a number's widget goes."""

    value: float


class Validator(abc.ABC):
    """Refuses values by raising."""

    @abc.abstractmethod
    def validate(self, value) -> None:
        """Raise ValueError (or TypeError) for a value that is not allowed."""


class NotNone(Validator):
    """None is refused."""

    def validate(self, value) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    """Other types are refused; None is not looked at."""

    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'")


class WithinRange(Validator):
    """From minimum to maximum, both included."""

    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    """Not below this."""

    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must not be less than {self.minimum}, is {value}")


class Maximum(Validator):
    """Not above this."""

    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must not be greater than {self.maximum}, is {value}")


class Choice(Validator):
    """One of these."""

    def __init__(self, choices):
        self.choices = choices

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


class Exclude(Validator):
    """None of these."""

    def __init__(self, excludedValues):
        self.excludedValues = excludedValues

    def validate(self, value) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, but must not be one of {self.excludedValues}")


def splitAnnotations(datatype) -> tuple[Any, tuple]:
    """The bare type and what is beside it. A union has to be Optional or Union: Slicer 5.8 does not know `X | None`."""
    bare, *beside = typing.get_args(Annotated[datatype, None])
    return bare, tuple(beside[:-1])


def first(annotations, kind: type):
    """The first annotation of a kind, or None."""
    return next((entry for entry in annotations if isinstance(entry, kind)), None)
