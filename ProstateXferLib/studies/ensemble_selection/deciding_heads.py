# SPDX-License-Identifier: Apache-2.0
"""Which heads of a model decide where a structure is: the others' probability maps need not be kept."""

from collections.abc import Iterator

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import Structure


def deciding_heads(card: ModelCard, structure: str) -> tuple[Head, ...]:
    """The heads, in the card's order, that a structure's whole mask depends on.

    Its own head with all that competes in it; those of its parts, which count as the whole (`whole_structure_mask`);
    and those of the structures that any of these work `within`.

    Raises:
        ProstateXferError: no head finds the structure.
    """
    heads = {name: head for head in card.heads for name in names_found(card, head)}
    if structure not in heads:
        raise ProstateXferError(
            f"The model '{card.name}' does not find '{structure}' (it finds {', '.join(heads)}): choose another "
            "structure with --structure, or leave the model out."
        )
    names, wanted = [structure, *_parts_of(structure, card.structures)], []
    while names:
        head = heads.get(names.pop(0))
        if head is not None and head not in wanted:
            wanted.append(head)
            if head.within is not None:
                names.append(head.within)
    return tuple(head for head in card.heads if head in wanted)


def floor_of(head: Head) -> float:
    """No voxel of less probability becomes one of the head's structures (`postprocessing.compose_labels`)."""
    if head.threshold is not None:
        return head.threshold
    # Of exclusive classes the most probable one wins, the background among them.
    return 0.5 if head.overlapping else 1 / head.classes


def _parts_of(name: str, structures: tuple[Structure, ...]) -> Iterator[str]:
    """The structures that are part of it, directly or through another; a circle of parts ends."""
    seen, wholes = {name}, {name}
    while wholes:
        parts = {structure.name for structure in structures if structure.part_of in wholes} - seen
        yield from sorted(parts)
        seen |= parts
        wholes = parts
