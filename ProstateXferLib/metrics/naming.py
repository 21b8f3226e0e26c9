# SPDX-License-Identifier: Apache-2.0
"""Which structures a label map holds, which of them is the gland and which are lesions."""

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import DIL, PROSTATE, Structure, generic_structure, structure_by_name

_LESION_NAME = re.compile(r"(?<![a-z])dil(?![a-z])|lesion|tumou?r", re.IGNORECASE)
_ANATOMICAL_STRUCTURE = PROSTATE.category


def is_gland(structure: Structure) -> bool:
    """Whether the structure is the whole prostate, by its name ("Prostate", "gland", "whole gland") or segment id."""
    return _known(structure.name) is PROSTATE or structure.segment_id == PROSTATE.segment_id


def is_lesion(structure: Structure) -> bool:
    """Whether a structure is split into components: a part that is not normal anatomy, or a name like "DIL".

    The zones are part of the prostate too, but they are anatomy and no lesions.
    """
    part = structure.part_of is not None and structure.category != _ANATOMICAL_STRUCTURE
    return part or bool(_LESION_NAME.search(structure.name))


def gland_of(structures: Iterable[Structure]) -> Structure | None:
    """The first whole-gland structure; the zones alone do not make one."""
    return next((s for s in structures if is_gland(s)), None)


def resolve_structures(
    values: Iterable[int], names: Mapping[int, str] | None, described: Iterable[Structure] = ()
) -> tuple[Structure, ...]:
    """One structure for every label value that occurs, is named or is described, by increasing value.

    `names` wins over the name of a description; a value that has neither is 1 Prostate, 2 DIL (when nothing is named
    or described at all) or "Label n". A lesion belongs to the gland even where nobody said so.
    """
    described = {s.value: s for s in described}
    if names is None and not described:
        named = {PROSTATE.value: PROSTATE.name, DIL.value: DIL.name}
        named = {value: named[value] for value in values if value in named}
    else:
        named = _checked(names or {})
    found = {
        value: _structure(value, named.get(value), described.get(value))
        for value in sorted({*values, *named, *described})
    }
    renamed = {old.name: found[value].name for value, old in described.items()}
    return _with_parents(found.values(), renamed)


def _checked(names: Mapping[int, str]) -> dict[int, str]:
    """The names by plain int; 0 is background and has no structure."""
    try:
        checked = {operator.index(value): name for value, name in names.items()}
    except TypeError:
        wrong = next(value for value in names if not hasattr(value, "__index__"))
        raise ProstateXferError(
            f"The label value {wrong!r} of structure '{names[wrong]}' is not a whole number; names map label values to "
            'text, as in {1: "Prostate"}.'
        ) from None
    for value, name in checked.items():
        if not isinstance(name, str) or not name.strip():
            raise ProstateXferError(f"The name {name!r} of label value {value} is not a text; give it a name.")
    return {value: name for value, name in checked.items() if value != 0}


def _structure(value: int, name: str | None, described: Structure | None) -> Structure:
    """The description under its name, or what is known about the name, or a generic structure."""
    if described is not None:
        return replace(described, name=name or described.name)
    if name is None:
        return generic_structure(value)
    known = _known(name) or (DIL if _LESION_NAME.search(name) else None)
    return replace(known, value=value, name=name) if known else generic_structure(value, name)


def _with_parents(structures: Iterable[Structure], renamed: Mapping[str, str]) -> tuple[Structure, ...]:
    """The structures with `part_of` pointing to a name that exists: what is part of the prostate, to this gland."""
    structures = tuple(structures)
    gland = gland_of(structures)

    def parent(structure: Structure) -> str | None:
        if structure is gland:
            return structure.part_of
        if gland is not None and (
            structure.part_of == PROSTATE.name or (structure.part_of is None and is_lesion(structure))
        ):
            return gland.name
        return renamed.get(structure.part_of, structure.part_of)

    return tuple(replace(s, part_of=parent(s)) for s in structures)


def _known(name: str) -> Structure | None:
    """The structure of the library's table with this name, if there is one."""
    try:
        return structure_by_name(name)
    except ProstateXferError:
        return None
