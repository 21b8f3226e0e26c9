# SPDX-License-Identifier: Apache-2.0
"""Which label value teaches which class of which head, and when it teaches nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import STRUCTURES, Structure, generic_structure, structure_by_name
from ProstateXferLib.training.losses.dice_ce import IGNORED

_FIRST_GENERIC_VALUE = 1 + max(structure.value for structure in STRUCTURES)
_VALUES = 256


def structures_named(names: Sequence[str]) -> tuple[Structure, ...]:
    """The structures of these names: those of images/structures.py under their own value, others under free values.

    Raises:
        ProstateXferError: two names of one structure, or more of them than a label map has values for.
    """
    found: list[Structure] = []
    for name in names:
        try:
            structure = structure_by_name(name)
        except ProstateXferError:  # a name of the data set's own, e.g. "Pancreatic tumour"
            taken = [item.value for item in found if item.value >= _FIRST_GENERIC_VALUE]
            structure = generic_structure(max(taken, default=_FIRST_GENERIC_VALUE - 1) + 1, name)
        found.append(structure)
    if len({structure.name for structure in found}) != len(found):
        raise ProstateXferError(f"Two of the heads' structures {', '.join(names)} are the same one: name each once.")
    if found and max(structure.value for structure in found) >= _VALUES:
        raise ProstateXferError(f"{len(names)} structures are more than a label map of {_VALUES} values can hold.")
    return tuple(found)


@dataclass(frozen=True)
class HeadTarget:
    """What one head learns from label maps.

    Attributes:
        name: the head's.
        classes: number of its logits, the background included.
        needed: positions, among all structures, of those it learns: a sample teaches it only where all are known.
        class_of: (257,) int64, class of label value v at position v + 1; position 0 is the label -1.
    """

    name: str
    classes: int
    needed: tuple[int, ...]
    class_of: Tensor

    def of(self, labels: Tensor, known: Tensor) -> Tensor:
        """Class numbers (B, ...) int64; -1 where the label is -1 and in all of a sample that does not teach the head.

        Args:
            labels: (B, ...) int64 label values, -1 where nothing is known.
            known: (B, S) bool, which of all structures somebody looked for.
        """
        target = self.class_of.to(labels.device)[labels + 1]
        taught = known[:, list(self.needed)].all(1).to(labels.device)
        return torch.where(taught.view(-1, *[1] * (labels.ndim - 1)), target, IGNORED)


def head_target(name: str, names: Sequence[str], structures: Sequence[Structure]) -> HeadTarget:
    """The target of a head that tells the structures `names` apart; a part (a DIL) counts as the whole that it lies in.

    Where the part is a class of the same head itself, it counts as that.
    """
    by_name = {structure.name: structure for structure in structures}
    class_of = torch.zeros(_VALUES + 1, dtype=torch.int64)
    class_of[0] = IGNORED
    for structure in structures:
        owner: Structure | None = structure
        seen: set[str] = set()
        while owner is not None and owner.name not in names and owner.name not in seen:
            seen.add(owner.name)
            owner = by_name.get(owner.part_of)
        if owner is not None and owner.name in names:
            class_of[structure.value + 1] = 1 + list(names).index(owner.name)
    needed = tuple(position for position, structure in enumerate(structures) if structure.name in names)
    return HeadTarget(name, 1 + len(names), needed, class_of)
