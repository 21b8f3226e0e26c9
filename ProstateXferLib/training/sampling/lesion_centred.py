# SPDX-License-Identifier: Apache-2.0
"""SAP's balanced sampling: every lesion gives one patch an epoch, and so many lesion-free patches go with them.

Source: SAP (J Bone Oncol 57 (2026) 100745; papers.md 003) and its authors' code: a large lesion is seen no oftener than
a small one, and not at all oftener for having more voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.draws import generator_of
from ProstateXferLib.training.sampling.tensors import cut_box


@dataclass(frozen=True)
class LesionOptions:
    """Patches around lesions and away from them; the numbers are SAP's.

    Attributes:
        size_zyx: voxels of a patch.
        crop_zyx: smallest crop around a lesion from which the patch is cut at random; None takes 4/3 of `size_zyx`.
        margin: voxels that are added on every side of a lesion's box; a crop is larger than `crop_zyx` where box and
            margins need it.
        negatives: lesion-free patches for each lesion.
        structure: name of the structure whose components are the lesions.
    """

    size_zyx: tuple[int, int, int] = (96, 96, 96)
    crop_zyx: tuple[int, int, int] | None = None
    margin: int = 10
    negatives: float = 1.0
    structure: str = "DIL"

    def __post_init__(self) -> None:
        crop = self.crop_zyx or self.size_zyx
        if len(self.size_zyx) != 3 or min(self.size_zyx) < 1 or (np.array(crop) < self.size_zyx).any():
            raise ProstateXferError(f"Lesion patches of {self.size_zyx} voxels do not fit into crops of {crop}.")
        if self.margin < 0 or self.negatives < 0:
            raise ProstateXferError("The lesion patches' margin and negatives must not be negative.")

    @property
    def smallest_crop_zyx(self) -> tuple[int, int, int]:
        """The crop around a small lesion."""
        return self.crop_zyx or tuple(round(4 / 3 * side) for side in self.size_zyx)


@dataclass(frozen=True)
class _Lesion:
    """A component: its case, its box [first, stop) and one of its voxels, near the middle of the box."""

    case: int
    first_zyx: tuple[int, ...]
    stop_zyx: tuple[int, ...]
    anchor_zyx: tuple[int, ...]


class LesionCentredSamples:
    """One patch of every lesion and `negatives` times as many lesion-free ones an epoch, in an order of its own.

    A positive patch lies at random in the crop around its lesion, but so that it holds the voxel of the lesion nearest
    to the middle of its box: at an image's edge, or in a crop more than twice as large as the patch, it could miss it.
    Negatives are drawn anew each epoch from the lesion-free windows that tile every case with 50 % overlap; cases whose
    lesions were not annotated give none. `samples[i]` depends on (seed, i) alone; each gives "image" (C, d, h, w),
    "labels" (d, h, w), "known" (S,) as `PatchSamples` does.

    Args:
        prepared: cases.
        options: see `LesionOptions`.
        seed: of everything that is drawn.

    Raises:
        ProstateXferError: no lesion, or negatives asked for where there is no lesion-free window.
    """

    def __init__(self, prepared: Sequence[PreparedCase], options: LesionOptions, seed: int) -> None:
        self._cases, self._options, self._seed = tuple(prepared), options, seed
        self._lesions: list[_Lesion] = []
        windows = []
        for index, case in enumerate(self._cases):
            self._lesions += _lesions_of(index, case, options.structure)
            free = _free_windows(case, options)
            windows.append(np.insert(free, 0, index, axis=1))
        self._windows = np.concatenate(windows) if windows else np.zeros((0, 4), np.int32)
        self._negatives = round(options.negatives * len(self._lesions))
        if not self._lesions:
            raise ProstateXferError(
                f"None of the {len(self._cases)} cases has a lesion drawn as '{options.structure}': choose other data."
            )
        if self._negatives and not len(self._windows):
            raise ProstateXferError(
                f"No case has a lesion-free window of {options.size_zyx} voxels: make the patches smaller."
            )

    def __len__(self) -> int:
        """Positives and negatives of one epoch."""
        return len(self._lesions) + self._negatives

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        epoch, place = divmod(index, len(self))
        drawn = int(generator_of(self._seed, epoch, "order of lesions").permutation(len(self))[place])
        random = generator_of(self._seed, index, "lesion patch")
        size = self._options.size_zyx
        if drawn < len(self._lesions):
            lesion = self._lesions[drawn]
            return cut_box(self._cases[lesion.case], self._start(lesion, random), size)
        among = generator_of(self._seed, epoch, "lesion-free windows")
        again = self._negatives > len(self._windows)
        chosen = among.choice(len(self._windows), self._negatives, replace=again)[drawn - len(self._lesions)]
        case, *start = self._windows[chosen].tolist()
        return cut_box(self._cases[case], start, size)

    def _start(self, lesion: _Lesion, random: np.random.Generator) -> list[int]:
        """First voxel of a random patch in the crop around a lesion."""
        first, stop, anchor = (np.array(item) for item in (lesion.first_zyx, lesion.stop_zyx, lesion.anchor_zyx))
        size, shape = np.array(self._options.size_zyx), np.array(self._cases[lesion.case].shape_zyx)
        crop = np.maximum(stop - first + 2 * self._options.margin, self._options.smallest_crop_zyx)
        corner = np.clip((first + stop - crop) // 2, 0, np.maximum(shape - crop, 0))
        lowest = np.maximum(corner, anchor - size + 1)
        highest = np.minimum(corner + crop - size, anchor)
        return random.integers(lowest, np.maximum(highest, lowest) + 1).tolist()


def _lesion_mask(case: PreparedCase, structure: str) -> np.ndarray | None:
    """(z, y, x) bool, None where the case has no such lesion."""
    value = dict(zip(case.structures, case.values, strict=True)).get(structure)
    return np.asarray(case.labels) == value if value in case.slice_voxels else None


def _lesions_of(index: int, case: PreparedCase, structure: str) -> list[_Lesion]:
    from scipy import ndimage

    mask = _lesion_mask(case, structure)
    if mask is None:
        return []
    numbered, _ = components_by_volume(mask)
    found = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        first = np.array([side.start for side in box])
        voxels = np.argwhere(numbered[box] == number)
        middle = (np.array([side.stop - side.start for side in box]) - 1) / 2
        anchor = first + voxels[np.argmin(((voxels - middle) ** 2).sum(axis=1))]
        stop = tuple(side.stop for side in box)
        found.append(_Lesion(index, tuple(first.tolist()), stop, tuple(anchor.tolist())))
    return found


def _free_windows(case: PreparedCase, options: LesionOptions) -> np.ndarray:
    """(n, 3) int32 starts of the windows at 50 % overlap that hold no lesion; the last ones end at the image's edge."""
    if options.structure not in case.known:
        return np.zeros((0, 3), np.int32)
    axes = []
    for side, window in zip(case.shape_zyx, options.size_zyx, strict=True):
        last = max(side - window, 0)
        axes.append(np.unique(np.append(np.arange(0, last + 1, max(window // 2, 1)), last)))
    starts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    lesion = _lesion_mask(case, options.structure)
    if lesion is None:
        return starts
    # Summed-area table: the number of lesion voxels in any box from its eight corners.
    table = np.pad(lesion.astype(np.int64).cumsum(0).cumsum(1).cumsum(2), ((1, 0),) * 3)
    stops = np.minimum(starts + np.array(options.size_zyx), lesion.shape)
    count = np.zeros(len(starts), np.int64)
    for corner in np.ndindex(2, 2, 2):
        z, y, x = (np.where(bit, stops[:, axis], starts[:, axis]) for axis, bit in enumerate(corner))
        count += (-1) ** (3 - sum(corner)) * table[z, y, x]
    return starts[count == 0]
