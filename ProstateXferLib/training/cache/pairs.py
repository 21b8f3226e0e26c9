# SPDX-License-Identifier: Apache-2.0
"""Paired slices prepared once: source and CT as the network sees them, and where the body is."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.pipelines.preparation import prepare_slices, resize
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.entries import entry_key, open_array, read_entry, write_entry
from ProstateXferLib.training.cache.file_hashes import FileHashes
from ProstateXferLib.training.cache.pair_images import BODY, CT, PairImages, needs_simulation, pair_images
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.layouts.phantoms import PHANTOM_SEED
from ProstateXferLib.version import __version__

PHANTOM_STEP = 2
"""Every second slice of a phantom is kept: 6 mm apart, because neighbours teach little."""
_FORMAT = 1


@dataclass(frozen=True)
class PairRules:
    """How pairs are made.

    Attributes:
        sequence: name of the source among a case's images.
        preprocessing: of the source, as in inference.
        hu_range: HU of -1 and 1 in the target.
        simulated_cbct: draws of noise and artefacts per CT of a case that has no CBCT; 0 refuses such cases.
    """

    sequence: str
    preprocessing: Preprocessing
    hu_range: tuple[float, float]
    simulated_cbct: int = 0


@dataclass(frozen=True)
class PreparedPair:
    """Slices of one case (or of one draw of a simulation); arrays are opened at every use, so that it pickles small.

    Attributes:
        case_id: of the case.
        folder: its entry in the cache.
        shape_zyx: of each of the three arrays.
        sha256: the entry's key: changes with the files, the rules and the library's version.
    """

    case_id: str
    folder: Path
    shape_zyx: tuple[int, int, int]
    sha256: str

    @property
    def source(self) -> np.ndarray:
        """(z, y, x) float32 memory map in [-1, 1]."""
        return open_array(self.folder / "source.npy")

    @property
    def target(self) -> np.ndarray:
        """(z, y, x) float32 memory map in [-1, 1]."""
        return open_array(self.folder / "target.npy")

    @property
    def body(self) -> np.ndarray:
        """(z, y, x) bool memory map."""
        return open_array(self.folder / "body.npy")


def prepared_pairs(cases: Sequence[Case], rules: PairRules, *, folder: Path, progress: Progress) -> list[PreparedPair]:
    """Prepare pairs, or find them prepared: the source exactly as inference does, the CT by the HU range.

    The body is resized bilinearly like the images and counts wherever something of it is left (DGCF, reference notes
    1.2 and 6.1).

    Args:
        cases: see `pair_images`.
        rules: see `PairRules`.
        folder: the cache; made where it is not there.
        progress: told every case; asked whether to stop.

    Raises:
        ProstateXferError: a case that is not a pair.
        CancelledError: the user stopped; what is prepared stays.
    """
    folder = make_folder(folder)
    hashes, pairs = FileHashes(folder), []
    try:
        for index, case in enumerate(cases):
            raise_if_cancelled(progress)
            progress.update("prepare", index / len(cases), f"case {case.case_id}")
            simulated = needs_simulation(case, rules.sequence) and rules.simulated_cbct
            for noise_seed in range(rules.simulated_cbct) if simulated else (None,):
                pairs.append(_prepared(case, rules, noise_seed, folder, hashes))
    finally:
        hashes.save()
    return pairs


def _prepared(case: Case, rules: PairRules, noise_seed: int | None, folder: Path, hashes: FileHashes) -> PreparedPair:
    key = entry_key(_contents(case, rules, noise_seed, hashes))
    place = folder / key[:2] / key
    entry = read_entry(place)
    if entry is None:
        entry = write_entry(
            place, lambda new: _write(new, pair_images(case, rules.sequence, noise_seed=noise_seed), case, rules)
        )
    return PreparedPair(case.case_id, place, tuple(entry["shape_zyx"]), key)


def _contents(case: Case, rules: PairRules, noise_seed: int | None, hashes: FileHashes) -> dict[str, Any]:
    """All that an entry depends on, as plain values."""
    preprocessing = dataclasses.asdict(rules.preprocessing)
    del preprocessing["encoder_range"]  # what happens to prepared slices later
    contents = {
        "kind": "pair",
        "format": _FORMAT,
        "version": __version__,
        "rules": [rules.sequence, preprocessing, rules.hu_range, noise_seed],
    }
    if PHANTOM_SEED in case.attributes:
        return contents | {"phantom": case.attributes[PHANTOM_SEED]}
    images = {
        name: [hashes.of(case.images[name]), case.channels.get(name)]
        for name in (rules.sequence, CT)
        if name in case.images
    }
    body = [[hashes.of(mask.path), mask.values, mask.resample, mask.frame] for mask in case.masks.get(BODY, ())]
    return contents | {"images": images, "body": body}


def _write(folder: Path, images: PairImages, case: Case, rules: PairRules) -> dict[str, Any]:
    step = PHANTOM_STEP if PHANTOM_SEED in case.attributes else 1
    source, ct, body = (image[:, :, ::step] for image in (images.source, images.ct, images.body))
    same_size = {"spacing_yx_mm": rules.preprocessing.spacing_yx_mm, "resize_yx": rules.preprocessing.resize_yx}
    in_hu = Preprocessing(IntensityRule("window", *rules.hu_range), **same_size)
    target = prepare_slices(ct, in_hu).slices.numpy()
    np.save(folder / "source.npy", _named(case, source, rules))
    np.save(folder / "target.npy", target)
    np.save(folder / "body.npy", _body(body, target.shape))
    return {"shape_zyx": list(target.shape)}


def _named(case: Case, source: sitk.Image, rules: PairRules) -> np.ndarray:
    """The source's slices; a flat image is told by its case's name."""
    try:
        return prepare_slices(source, rules.preprocessing).slices.numpy()
    except ProstateXferError as error:
        raise ProstateXferError(f"Case '{case.case_id}', {rules.sequence}: {error}") from error


def _body(body: sitk.Image, shape_zyx: tuple[int, ...]) -> np.ndarray:
    """(z, y, x) bool in network size."""
    plain = Preprocessing(IntensityRule("window", 0.0, 1.0))  # 0 and 1 become -1 and 1
    slices = (prepare_slices(sitk.Cast(body > 0, sitk.sitkFloat32), plain).slices + 1) / 2
    return (resize(slices[:, None], shape_zyx[1:])[:, 0] > 0).numpy()
