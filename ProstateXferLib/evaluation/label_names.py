# SPDX-License-Identifier: Apache-2.0
"""What the values of a plain label map mean, as the user or a model card says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import DIL, PROSTATE, STRUCTURES, Structure, generic_structure, structure_by_name
from ProstateXferLib.metrics.naming import resolve_structures

ANYTHING = "any"
_UNNAMED = {PROSTATE.value: PROSTATE.name, DIL.value: DIL.name}
_FIRST_FREE_VALUE = 100


@dataclass(frozen=True)
class LabelNames:
    """Names by label value, or one name for every value but 0 (a lesion mask whose values are grades).

    Without either, 1 is the Prostate and 2 the DIL, and nothing is known about what a file without them would mean.
    """

    by_value: Mapping[int, str] = field(default_factory=dict)
    everything: str | None = None

    @classmethod
    def parse(cls, words: Iterable[str]) -> LabelNames:
        """The names of words as `1=Prostate`, `2=DIL`, or `any=DIL` alone; several values may share a name."""
        by_value: dict[int, str] = {}
        everything = None
        for word in words:
            value, _, name = (part.strip() for part in word.partition("="))
            if not name or not (value == ANYTHING or (value.isdecimal() and int(value) > 0)):
                raise ProstateXferError(f"'{word}' is not VALUE=NAME with a whole number from 1, or any=NAME.")
            if value == ANYTHING:
                everything = canonical_name(name)
            elif int(value) in by_value:
                raise ProstateXferError(f"The label value {value} has two names; name each value once.")
            else:
                by_value[int(value)] = canonical_name(name)
        if everything is not None and by_value:
            raise ProstateXferError("any=NAME names every value, so it must be the only name.")
        return cls(by_value, everything)

    @classmethod
    def of_card(cls, card: ModelCard) -> LabelNames:
        """What a segmentation model says its label values mean."""
        if not card.structures:
            raise ProstateXferError(f"The model '{card.name}' labels nothing: choose a segmentation model's card.")
        return cls({structure.value: canonical_name(structure.name) for structure in card.structures})

    @property
    def given(self) -> bool:
        """Whether anything was named at all."""
        return bool(self.by_value) or self.everything is not None

    def names_of(self, values: Iterable[int]) -> dict[int, str]:
        """The name of each label value that occurs."""
        if self.everything is not None:
            return dict.fromkeys(values, self.everything)
        known = self.by_value or _UNNAMED
        return {value: known.get(value) or generic_structure(value).name for value in values}

    def declared(self) -> frozenset[str]:
        """What the file speaks of even where it has no voxel of it; nothing when nothing was named."""
        return frozenset({self.everything} if self.everything else self.by_value.values())

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {ANYTHING: self.everything} if self.everything else {str(v): name for v, name in self.by_value.items()}


def canonical_name(name: str) -> str:
    """The library's own name for a structure it knows ("gland" is the Prostate), any other name as it is."""
    try:
        return structure_by_name(name).name
    except ProstateXferError:
        return name.strip()


def name_of(structure: Structure) -> str:
    """The name under which a segment of a file is compared: its name's, or else its code's, which may be "DIL"."""
    known = {s.name for s in STRUCTURES}
    name = canonical_name(structure.name)
    if name in known:
        return name
    (understood,) = resolve_structures((), {structure.value: structure.name}, _coded(structure))
    code = (understood.type, understood.region, understood.modifier)
    return next((s.name for s in STRUCTURES if (s.type, s.region, s.modifier) == code), name)


@lru_cache
def scheme_of(names: frozenset[str]) -> tuple[Structure, ...]:
    """One structure for each name, with the library's label value where it knows the structure."""
    values = {s.name: s.value for s in STRUCTURES}
    others = sorted(name for name in names if name not in values)
    named = {values[name]: name for name in names if name in values}
    named |= {_FIRST_FREE_VALUE + k: name for k, name in enumerate(others)}
    return resolve_structures((), named)


def _coded(structure: Structure) -> tuple[Structure, ...]:
    """The structure where its codes say something; Slicer codes a segment that nobody described as tissue."""
    nothing = generic_structure(1)
    return () if (structure.category, structure.type) == (nothing.category, nothing.type) else (structure,)
