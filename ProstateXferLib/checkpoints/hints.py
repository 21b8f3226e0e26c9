# SPDX-License-Identifier: Apache-2.0
"""What a user may tell an importer that the file itself does not say."""

from collections.abc import Iterable, Mapping
from typing import Any

from ProstateXferLib.errors import ProstateXferError

COMMON = ("name", "title", "licence", "citation", "training_data", "eps", "rope_dtype")


def check_hints(hints: dict[str, Any], extra: Iterable[str], kind: str) -> None:
    """Refuse a hint that this kind of file has no use for, so that a typing error is not silently dropped."""
    allowed = {*COMMON, *extra}
    for key in hints:
        if key not in allowed:
            raise ProstateXferError(f"'{key}' means nothing for {kind}: the hints are {', '.join(sorted(allowed))}.")
    eps = hints.get("eps")
    if eps is not None and not (isinstance(eps, int | float) and 0 < eps < 1):
        raise ProstateXferError(f"eps must be a small number above zero, not {eps!r}.")


def numbers(
    hints: Mapping[str, Any], key: str, kind: type[int] | type[float], count: int | None = None
) -> tuple | None:
    """A hint of several numbers of a `kind` (`count` of them, or at least one); None where it was not given."""
    value = hints.get(key)
    if value is None:
        return None
    try:
        chosen = tuple(kind(number) for number in value)
    except (TypeError, ValueError):
        chosen = ()
    if not chosen or len(chosen) != (count or len(chosen)):
        raise ProstateXferError(f"{key} must be {count or 'some'} numbers, not {value!r}.")
    return chosen


def card_texts(hints: dict[str, Any], defaults: dict[str, str]) -> dict[str, str]:
    """The card's plain sentences: the user's where given, else the defaults."""
    keys = ("name", "title", "licence", "citation", "training_data")
    return {key: str(hints[key]) if hints.get(key) else defaults[key] for key in keys}


def encoder_arguments(hints: dict[str, Any], *, eps: float, rope_dtype: str) -> dict[str, Any]:
    """eps and rope_dtype as JSON values, the user's where given."""
    asked = hints.get("rope_dtype")
    if asked is not None and asked not in ("fp32", "bf16"):
        raise ProstateXferError(f"rope_dtype must be 'fp32' or 'bf16', not '{asked}'.")
    return {
        "eps": float(hints["eps"]) if hints.get("eps") is not None else eps,
        "rope_dtype": asked or rope_dtype,
    }
