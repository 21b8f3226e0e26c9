# SPDX-License-Identifier: Apache-2.0
"""What the label values of nnU-Net's dataset.json mean: classes, or overlapping regions."""

from collections.abc import Mapping, Sequence
from typing import Any

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import Structure, generic_structure, structure_by_name

HEAD = "segmentation"


def nnunet_head(dataset: Mapping[str, Any], names: Sequence[str] | None = None) -> tuple[Head, tuple[Structure, ...]]:
    """The head and its structures, in the order of the network's channels.

    Args:
        dataset: dataset.json.
        names: other names for them, in that order.

    Raises:
        ProstateXferError: labels that nnU-Net itself would not take.
    """
    labels = {str(name): value for name, value in dataset.get("labels", {}).items() if name != "ignore"}
    overlapping = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    found = _regions(labels, dataset) if overlapping else _classes(labels)
    own = list(found) if names is None else [str(name) for name in names]
    if len(own) != len(found):
        raise ProstateXferError(
            f"The network finds {len(found)} structures ({', '.join(found)}), but {len(own)} names were given."
        )
    values = tuple(found.values())
    return Head(HEAD, values, overlapping=overlapping), _structures(own, values)


def drawn_values(dataset: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Structure, as `nnunet_head` names it -> the values that show it in a label map of the data set.

    Of a region these are the values that no later region is written over, as in nnU-Net's own results: with
    "prostate": [1, 2] and "lesion": 2 the prostate keeps 1. So no value shows two structures; a region may have none.

    Raises:
        ProstateXferError: labels that nnU-Net itself would not take.
    """
    head, structures = nnunet_head(dataset)
    names = [structure.name for structure in structures]
    if not head.overlapping:
        return {name: (value,) for name, value in zip(names, head.values, strict=True)}
    labels = [value for name, value in dataset["labels"].items() if name != "ignore" and value not in (0, [0])]
    owners = {
        value: name
        for name, own in zip(names, labels, strict=True)
        for value in (own if isinstance(own, list) else [own])
    }
    return {name: tuple(sorted(value for value, owner in owners.items() if owner == name)) for name in names}


def _classes(labels: Mapping[str, Any]) -> dict[str, int]:
    values = {name: value[0] if isinstance(value, list) else value for name, value in labels.items()}
    if not all(isinstance(value, int) for value in values.values()):
        raise ProstateXferError("dataset.json has labels whose values are no whole numbers: get it again.")
    ordered = sorted(values.items(), key=lambda item: item[1])
    if [value for _, value in ordered] != list(range(len(ordered))) or len(ordered) < 2:
        raise ProstateXferError(
            f"dataset.json's label values {sorted(values.values())} must be 0, 1, 2, ... without a gap: get it again."
        )
    return dict(ordered[1:])


def _regions(labels: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, int]:
    """Region name -> value it is written as; later ones are written over earlier ones."""
    names = [name for name, value in labels.items() if value not in (0, [0])]
    order = dataset.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(names) or not all(isinstance(v, int) and v > 0 for v in order):
        raise ProstateXferError(
            f"dataset.json has {len(names)} regions ({', '.join(names)}) and needs a regions_class_order with as many "
            f"label values; it is {order}."
        )
    return dict(zip(names, order, strict=True))


def _structures(names: Sequence[str], values: Sequence[int]) -> tuple[Structure, ...]:
    known = [_known(name) for name in names]
    titles = [structure.name if structure else name for structure, name in zip(known, names, strict=True)]
    if len(set(titles)) != len(titles):  # "lesion" and "tumor" would both be the DIL
        known = [None] * len(names)
    return tuple(
        structure.with_value(value) if structure else generic_structure(value, name)
        for structure, name, value in zip(known, names, values, strict=True)
    )


def _known(name: str) -> Structure | None:
    try:
        return structure_by_name(name)
    except ProstateXferError:  # a name of the user's own: kept, without codes
        return None
