# SPDX-License-Identifier: Apache-2.0
"""Cases as training reads them: preprocessed once, memory-mapped, known by the sha256 of what they are made from."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.case_arrays import CaseArrays, case_arrays
from ProstateXferLib.training.cache.entries import entry_key, open_array, read_entry, write_entry
from ProstateXferLib.training.cache.file_hashes import FileHashes
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED
from ProstateXferLib.version import __version__

FOREGROUND_VOXELS = 10_000
FOREGROUND_SHARE = 0.01
"""Voxel positions kept of each label value: this many, but at least this share of them (nnU-Net, notes 4.2)."""
_FOREGROUND_SEED = 1234
_FORMAT = 1
_WITHOUT_EFFECT = ("tile_yx", "tile_zyx", "encoder_range", "overlap", "blending", "mirror_axes")
"""Keys of the preprocessing that say what happens to prepared voxels later."""


@dataclass(frozen=True)
class PreparedCase:
    """One prepared case; arrays are opened anew by path at every use, so that it pickles small and holds no file open
    (thousands of maps would exceed a process's limit of open files).

    Attributes:
        case_id, patient_id: of the case.
        folder: its entry in the cache.
        structures: names of the structures asked for, in the order of the card.
        values: their label values, in the same order.
        known: those of them that were annotated; the others may be there, undrawn.
        spacing_zyx: mm between voxels along the arrays' axes (to Superior, to Posterior, to Left).
        shape_zyx: shape of `labels` and of every channel of `image`.
        slice_voxels: label value -> number of its voxels in every slice along z; values that occur.
        sha256: the entry's key: changes with the files, the rules and the library's version.
    """

    case_id: str
    patient_id: str
    folder: Path
    structures: tuple[str, ...]
    values: tuple[int, ...]
    known: tuple[str, ...]
    spacing_zyx: tuple[float, float, float]
    shape_zyx: tuple[int, int, int]
    slice_voxels: Mapping[int, tuple[int, ...]]
    sha256: str

    @property
    def image(self) -> np.ndarray:
        """(C, z, y, x) float32 memory map, channels in the order of the sequences."""
        return open_array(self.folder / "image.npy")

    @property
    def labels(self) -> np.ndarray | None:
        """(z, y, x) uint8 memory map of label values; None where no structure was annotated."""
        return open_array(self.folder / "labels.npy") if self.known else None

    @property
    def foreground(self) -> dict[int, np.ndarray]:
        """Label value -> (n, 3) int32 memory map of positions z, y, x; a seeded choice where there are many."""
        return {value: open_array(self.folder / f"foreground-{value}.npy") for value in self.slice_voxels}


def prepared_cases(
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    structures: Sequence[Structure],
    *,
    sequences: Sequence[str],
    folder: Path,
    progress: Progress,
) -> list[PreparedCase]:
    """Prepare cases exactly as inference does, or find them prepared.

    Entries lie in `folder`, keyed by the sha256 of file contents, rules and library version; an unchanged case costs a
    look at its files' sizes and times. A damaged entry is made anew. Processes may prepare the same cases at once.

    Args:
        cases: what to prepare.
        preprocessing: the card's rules; 3-D where it names a spacing of all three axes.
        structures: what the labels hold, see `case_arrays.label_array` for who lies on top.
        sequences: channels; the first one's grid counts, the others are resampled to it.
        folder: the cache; made where it is not there.
        progress: told every case; asked whether to stop.

    Raises:
        ProstateXferError: a file that is missing or unreadable, a case without one of the sequences.
        CancelledError: the user stopped; what is prepared stays.
    """
    folder = make_folder(folder)
    hashes = FileHashes(folder)
    prepared = []
    try:
        for index, case in enumerate(cases):
            raise_if_cancelled(progress)
            progress.update("prepare", index / len(cases), f"case {case.case_id}")
            prepared.append(_prepared(case, preprocessing, tuple(structures), tuple(sequences), folder, hashes))
    finally:
        hashes.save()
    progress.update("prepare", 1.0, f"{len(prepared)} cases")
    return prepared


def _prepared(
    case: Case,
    preprocessing: Preprocessing,
    structures: tuple[Structure, ...],
    sequences: tuple[str, ...],
    folder: Path,
    hashes: FileHashes,
) -> PreparedCase:
    key = entry_key(_contents(case, preprocessing, structures, sequences, hashes))
    place = folder / key[:2] / key
    entry = read_entry(place)
    if entry is None:
        entry = write_entry(
            place, lambda new: _write(new, case_arrays(case, preprocessing, structures, sequences=sequences))
        )
    return PreparedCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        folder=place,
        structures=tuple(structure.name for structure in structures),
        values=tuple(structure.value for structure in structures),
        known=tuple(entry["known"]),
        spacing_zyx=tuple(entry["spacing_zyx"]),
        shape_zyx=tuple(entry["shape_zyx"]),
        slice_voxels={int(value): tuple(counts) for value, counts in entry["slice_voxels"].items()},
        sha256=key,
    )


def _contents(
    case: Case,
    preprocessing: Preprocessing,
    structures: tuple[Structure, ...],
    sequences: tuple[str, ...],
    hashes: FileHashes,
) -> dict[str, Any]:
    """All that an entry depends on, as plain values."""
    rules = {k: v for k, v in dataclasses.asdict(preprocessing).items() if k not in _WITHOUT_EFFECT}
    contents = {
        "format": _FORMAT,
        "version": __version__,
        "rules": rules,
        "structures": [[s.name, s.value, s.part_of] for s in structures],
        "sequences": sequences,
    }
    if PHANTOM_SEED in case.attributes:
        return contents | {"phantom": dict(case.attributes)}
    missing = [sequence for sequence in sequences if sequence not in case.images]
    if missing:
        raise ProstateXferError(
            f"Case '{case.case_id}' has no {', '.join(missing)} (it has {', '.join(case.images) or 'no image'}): leave "
            "it out or correct the recipe's sequences."
        )
    masks = {
        s.name: [[hashes.of(mask.path), mask.values, mask.frame, mask.resample] for mask in case.masks[s.name]]
        for s in structures
        if s.name in case.masks
    }
    images = [[hashes.of(case.images[sequence]), case.channels.get(sequence)] for sequence in sequences]
    return contents | {"images": images, "masks": masks}


def _write(folder: Path, arrays: CaseArrays) -> dict[str, Any]:
    np.save(folder / "image.npy", arrays.image)
    counts: dict[int, list[int]] = {}
    if arrays.labels is not None:
        np.save(folder / "labels.npy", arrays.labels)
        for value in np.unique(arrays.labels[arrays.labels > 0]).tolist():
            where = arrays.labels == value
            counts[value] = where.sum(axis=(1, 2)).tolist()
            np.save(folder / f"foreground-{value}.npy", _positions(where))
    return {
        "known": list(arrays.known),
        "spacing_zyx": list(arrays.spacing_zyx),
        "shape_zyx": list(arrays.image.shape[1:]),
        "slice_voxels": counts,
    }


def _positions(where: np.ndarray) -> np.ndarray:
    """(n, 3) int32 positions of a seeded choice of the voxels, in raster order."""
    flat = np.flatnonzero(where)
    count = max(min(FOREGROUND_VOXELS, len(flat)), math.ceil(FOREGROUND_SHARE * len(flat)))
    if count < len(flat):
        flat = np.sort(np.random.RandomState(_FOREGROUND_SEED).choice(flat, count, replace=False))
    return np.stack(np.unravel_index(flat, where.shape), axis=1).astype(np.int32)
