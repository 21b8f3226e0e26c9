# SPDX-License-Identifier: Apache-2.0
"""From probabilities to labels: what the cards say about components, size and where a lesion may lie."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.images.structures import Structure


def compose_labels(
    probabilities: Mapping[str, np.ndarray],
    image: sitk.Image,
    cards: Sequence[ModelCard],
    structures: Sequence[Structure],
) -> np.ndarray:
    """Label map (z, y, x) uint8 on the image's grid.

    Each head's structures compete with its background by argmax, or with its threshold; then the head's rules apply;
    then heads are laid over each other, those that work within a structure on top.

    Args:
        probabilities: structure name -> (z, y, x); `background_of` a head's structures may be there, too, and decides
            ties exactly, where the rest to 1 would be rounded.
        image: gives the spacing.
        cards: the models' cards; of heads that name the same structures the first one's rules count.
        structures: merged over the cards.
    """
    spacing_zyx = image.GetSpacing()[::-1]
    labels = np.zeros(image.GetSize()[::-1], dtype=np.uint8)
    value_of = {structure.name: structure.value for structure in structures}
    masks: dict[str, np.ndarray] = {}
    for card, head in sorted(_heads(cards), key=lambda pair: pair[1].within is not None):
        names = {structure.value: structure.name for structure in card.structures}
        wanted = [names[value] for value in head.values]
        if all(name in masks for name in wanted):
            continue
        for name, mask in _head_masks(wanted, probabilities, head).items():
            allowed = masks.get(head.within) if head.within is not None else None
            masks[name] = _apply_rules(mask, head, spacing_zyx, allowed)
            labels[masks[name]] = value_of[name]
    return labels


def _heads(cards: Sequence[ModelCard]) -> list[tuple[ModelCard, Head]]:
    return [(card, head) for card in cards for head in card.heads]


def background_of(names: Iterable[str]) -> str:
    """Key in `probabilities` of the background that competes with these structures, where a model tells it."""
    return f"background of {', '.join(sorted(names))}"


def _head_masks(names: Sequence[str], probabilities: Mapping[str, np.ndarray], head: Head) -> dict[str, np.ndarray]:
    """Argmax over background and the head's structures; with a threshold, over those structures that reach it."""
    threshold = head.threshold
    if head.overlapping:
        return {name: probabilities[name] > (threshold or 0.5) for name in names}
    if threshold is not None:
        stack = np.stack([probabilities[name] for name in names])
        winner = np.argmax(stack, axis=0)
        found = np.max(stack, axis=0) >= threshold
        return {name: found & (winner == index) for index, name in enumerate(names)}
    background = probabilities.get(background_of(names))
    if len(names) == 1 and background is None:
        return {names[0]: probabilities[names[0]] > 0.5}
    stack = np.stack([probabilities[name] for name in names])
    if background is None:
        background = 1.0 - stack.sum(axis=0)
    winner = np.argmax(np.concatenate([background[None], stack]), axis=0)
    return {name: winner == index for index, name in enumerate(names, start=1)}


def _apply_rules(mask: np.ndarray, head: Head, spacing_zyx: Sequence[float], allowed: np.ndarray | None) -> np.ndarray:
    if allowed is not None and mask.any():
        mask = mask & (within_mm(allowed, head.margin_mm, spacing_zyx) if allowed.any() else False)
    if not mask.any() or not (head.largest_only or head.min_volume_cm3 > 0):
        return mask
    return _keep_components(mask, head, float(np.prod(spacing_zyx)) / 1000)


def _keep_components(mask: np.ndarray, head: Head, voxel_cm3: float) -> np.ndarray:
    from scipy import ndimage

    components, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    keep = sizes * voxel_cm3 >= head.min_volume_cm3
    if head.largest_only:
        keep &= np.arange(count) == np.argmax(sizes)
    return np.concatenate([[False], keep])[components]


def within_mm(mask: np.ndarray, margin_mm: float, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Voxels whose centre lies within `margin_mm` of a voxel centre of the mask."""
    if margin_mm <= 0:
        return mask
    from scipy import ndimage

    reach = [int(np.ceil(margin_mm / spacing)) for spacing in spacing_zyx]
    occupied = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - r), s.stop + r) for s, r in zip(occupied, reach, strict=True))
    grown = np.zeros_like(mask)
    grown[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_zyx) <= margin_mm
    return grown


def smoothed(probability: np.ndarray, sigma_mm: float, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Probability (z, y, x) after a Gaussian of `sigma_mm` in physical space; unchanged where that is 0."""
    if sigma_mm <= 0:
        return probability
    from scipy import ndimage

    sigma = [sigma_mm / spacing for spacing in spacing_zyx]
    return ndimage.gaussian_filter(probability, sigma, mode="nearest", truncate=3.0)
