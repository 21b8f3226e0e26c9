# SPDX-License-Identifier: Apache-2.0
"""Plain values (from YAML) to dataclasses and back: keys and types are checked, and every complaint names its place."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError


def typed(hint: Any, value: Any, *, where: str) -> Any:
    """`value` as the type `hint`: a dataclass from a mapping, a tuple from a list, and so on at every depth.

    Args:
        hint: a dataclass; bool, int, float, str, Path; tuple, list and dict of these; a Literal; unions of all; Any.
        value: what YAML gives.
        where: the place of `value`, e.g. "mine.yaml: stages[1].optimiser".

    Raises:
        ProstateXferError: an unknown or missing key, a wrong type, or what a dataclass itself refuses.
    """
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _one_of(typing.get_args(hint), value, where=where)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, where=where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise _wrong(where, f"one of {', '.join(map(repr, typing.get_args(hint)))}", value)
        return value
    container = origin or hint
    if container in _CONTAINERS:
        return _CONTAINERS[container](hint, value, where)
    return _plain(hint, value, where=where)


def plain(value: Any) -> Any:
    """The inverse: dataclasses as mappings, tuples as lists, paths as text; what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def inside(where: str, key: str) -> str:
    """The place of `key` in the mapping at `where` ("mine.yaml", "mine.yaml: stages[1]")."""
    return f"{where}.{key}" if ": " in where else f"{where}: {key}"


def unknown_key(where: str, key: Any, known: typing.Iterable[str]) -> ProstateXferError:
    """The complaint about a key that does not exist there, with the one that was probably meant."""
    known = list(known)
    close = get_close_matches(str(key), known, n=1)
    meant = f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(known) or '(none)'}."
    return ProstateXferError(f"{where} has the unknown key '{key}': {meant}")


def _record(cls: type, value: Any, *, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "a mapping of keys to values", value)
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls) if item.init}
    for key in value:
        if key not in fields:
            raise unknown_key(where, key, fields)
    for key, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and key not in value:
            raise ProstateXferError(f"{where} lacks the key '{key}': add it.")
    arguments = {key: typed(hints[key], entry, where=inside(where, key)) for key, entry in value.items()}
    try:
        return cls(**arguments)
    except ProstateXferError as error:
        raise ProstateXferError(f"{where}: {error}") from error


def _one_of(options: tuple, value: Any, *, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return typed(options[0], value, where=where)
    for option in options:  # exact types first: 1 of `float | int` stays a whole number
        if isinstance(option, type) and type(value) is option:
            return value
    records = [option for option in options if dataclasses.is_dataclass(option)]
    if records and isinstance(value, dict):
        # The complaint is that of the kind that was probably meant: most keys known, then fewest that are missing.
        records.sort(key=lambda record: _likeness(record, value), reverse=True)
        complaints = []
        for record in records:
            try:
                return typed(record, value, where=where)
            except ProstateXferError as error:
                complaints.append(error)
        raise complaints[0]
    for option in options:
        try:
            return typed(option, value, where=where)
        except ProstateXferError:
            continue
    raise _wrong(where, " or ".join(_name(option) for option in options), value)


def _likeness(record: type, value: dict) -> tuple[int, int, int]:
    """How well keys fit a dataclass: known ones, misspelt ones, and (fewer is better) fields that are not there."""
    names = [item.name for item in dataclasses.fields(record)]
    misspelt = sum(key not in names and bool(get_close_matches(str(key), names, n=1)) for key in value)
    return len(set(names) & set(value)), misspelt, -len(set(names) - set(value))


def _tuple(hint: Any, value: Any, where: str) -> tuple:
    inner = typing.get_args(hint)
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    if not inner:
        return tuple(value)
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(inner) != len(value):
        raise ProstateXferError(f"{where} must have {len(inner)} entries, not {len(value)}.")
    return tuple(
        typed(kind, item, where=f"{where}[{i}]") for i, (kind, item) in enumerate(zip(inner, value, strict=True))
    )


def _list(hint: Any, value: Any, where: str) -> list:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    (inner,) = typing.get_args(hint) or (Any,)
    return [typed(inner, item, where=f"{where}[{i}]") for i, item in enumerate(value)]


def _mapping(hint: Any, value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise _wrong(where, "a mapping of keys to values", value)
    key_hint, inner = typing.get_args(hint) or (str, Any)
    return {
        typed(key_hint, key, where=f"{where}, key {key!r},"): typed(inner, item, where=inside(where, str(key)))
        for key, item in value.items()
    }


def _plain(hint: Any, value: Any, *, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if (hint is int and isinstance(value, bool)) or not isinstance(value, hint):
        raise _wrong(where, _name(hint), value)
    return value


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)


def _wrong(where: str, wanted: str, value: Any) -> ProstateXferError:
    return ProstateXferError(f"{where} must be {wanted}, not {value!r}.")


_CONTAINERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    tuple: _tuple,
    list: _list,
    dict: _mapping,
    Mapping: _mapping,
}
