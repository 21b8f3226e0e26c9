# SPDX-License-Identifier: Apache-2.0
"""Masks of the structures in one label image, by the names that a data set's own description gives its values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import structure_by_name
from ProstateXferLib.training.datasets.case import Mask

_ZONES = ("Peripheral zone", "Transition zone")
_NOT_STRUCTURES = ("background", "ignore")


def structure_name(name: str, renamed: Mapping[str, str]) -> str:
    """How this library calls a data set's label: as the option says, as it knows it ("PZ"), or as it is."""
    if name in renamed:
        return str(renamed[name])
    try:
        return structure_by_name(name).name
    except ProstateXferError:
        return name


def structure_values(
    labels: Mapping[str, int | Sequence[int]], renamed: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """{structure: label values}; both zones without a whole gland make the prostate as well.

    Raises:
        ProstateXferError: a value is no whole number.
    """
    values: dict[str, tuple[int, ...]] = {}
    for name, value in labels.items():
        if name.lower() in _NOT_STRUCTURES:
            continue
        try:
            own = tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)
        except (TypeError, ValueError) as error:
            raise ProstateXferError(
                f"The label '{name}' has the value {value!r}, no whole number: correct it."
            ) from error
        values[structure_name(name, renamed)] = own
    if "Prostate" not in values and all(zone in values for zone in _ZONES):
        values["Prostate"] = tuple(sorted({v for zone in _ZONES for v in values[zone]}))
    return values


def label_masks(path: Path, values: Mapping[str, tuple[int, ...]], *, resample: bool = False) -> dict:
    """{structure: its mask in the label image}."""
    return {name: (Mask(path, own, resample=resample),) for name, own in values.items()}
