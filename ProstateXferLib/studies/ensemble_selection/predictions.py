# SPDX-License-Identifier: Apache-2.0
"""What every model says of its cases: each pair predicted once, kept on disk, found again by the next run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.ensemble_card import names_found
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.errors import CancelledError
from ProstateXferLib.files import make_folder
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.pipelines.device import resolve_device
from ProstateXferLib.pipelines.inputs import matched_inputs
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import Progress, SubProgress, raise_if_cancelled
from ProstateXferLib.studies.ensemble_selection.deciding_heads import deciding_heads
from ProstateXferLib.studies.ensemble_selection.opened_plan import OpenedPlan
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions
from ProstateXferLib.studies.ensemble_selection.plan import PlannedCase
from ProstateXferLib.studies.ensemble_selection.prediction_file import (
    PredictionFile,
    find_prediction,
    prediction_path,
    write_prediction,
)
from ProstateXferLib.version import __version__

PREDICTING = "Predicting"


@dataclass(frozen=True)
class Predictions:
    """All kept predictions.

    Attributes:
        files: case -> candidate -> maps.
        grids: case -> grid of its image.
        image_sha256: case -> sequence -> hash of the image.
        predicted, found: how many were made by this run, and how many by an earlier one.
    """

    files: Mapping[str, Mapping[str, PredictionFile]]
    grids: Mapping[str, Grid]
    image_sha256: Mapping[str, Mapping[str, str]]
    predicted: int
    found: int


def predict_all(opened: OpenedPlan, options: SelectionOptions, folder: Path, progress: Progress) -> Predictions:
    """Predict what is not in the folder yet; a model is loaded once, for all of its cases.

    Raises:
        ProstateXferError: an image that cannot be read or segmented.
        CancelledError: the user stopped; what was predicted stays, and the same call goes on from there.
    """
    make_folder(folder)
    grids, hashes = _images(opened.plan.cases, SubProgress(progress, 0.0, 0.05))
    paths = _paths(opened, options, folder, hashes)
    kept = {path: find_prediction(path) for path in {path for own in paths.values() for path in own.values()}}
    missing: dict[str, dict[str, tuple[Path, PlannedCase]]] = {}
    for case in opened.plan.cases:
        for candidate, path in paths[case.name].items():
            if kept[path] is None:
                model = opened.checkpoint(candidate, case.name)
                missing.setdefault(model.sha256, {})[case.name] = (path, case)
    total, done = sum(map(len, missing.values())), 0
    checkpoints = {one.sha256: one for one in opened.checkpoints.values()}
    for sha256, cases in missing.items():
        segmenter = _segmenter(checkpoints[sha256], options)
        for path, case in cases.values():
            _raise_if_stopped(progress)
            share = [0.05 + 0.95 * number / total for number in (done, done + 1)]
            part = _Named(SubProgress(progress, *share), f"{done + 1} of {total}: {case.name}")
            kept[path] = write_prediction(path, _maps(segmenter, case, opened.structure, part))
            done += 1
    progress.update(PREDICTING, 1.0, f"{done} predicted, {len(kept) - done} kept from before")
    files = {case: {name: kept[path] for name, path in own.items()} for case, own in paths.items()}
    return Predictions(files, grids, hashes, done, len(kept) - done)


def _raise_if_stopped(progress: Progress) -> None:
    if progress.cancelled():
        raise CancelledError("Cancelled: what was predicted is kept, and the same command goes on from there.")


class _Named:
    """Progress that tells the case instead of what goes on in it."""

    def __init__(self, inner: Progress, text: str) -> None:
        self._inner, self._text = inner, text

    def update(self, step: str, fraction: float, message: str = "") -> None:
        self._inner.update(PREDICTING, fraction, self._text)

    def warn(self, message: str) -> None:
        self._inner.warn(message)

    def cancelled(self) -> bool:
        return self._inner.cancelled()


def _images(cases: Sequence[PlannedCase], progress: Progress) -> tuple[dict[str, Grid], dict[str, dict[str, str]]]:
    """Grid and hashes of every case's images; under "" the first sequence, whatever a model calls it."""
    grids: dict[str, Grid] = {}
    hashes: dict[str, dict[str, str]] = {}
    for number, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update(PREDICTING, number / len(cases), f"reading {case.name}")
        image = read_image(case.image)
        grids[case.name] = Grid.of(image)
        others = {name: image_sha256(read_image(path)) for name, path in case.others.items()}
        hashes[case.name] = {"": image_sha256(image), **others}
    return grids, hashes


def _paths(
    opened: OpenedPlan, options: SelectionOptions, folder: Path, hashes: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Path]]:
    """Case -> candidate -> file; the name stands for all that the prediction depends on."""
    paths: dict[str, dict[str, Path]] = {}
    for case in opened.plan.cases:
        for candidate in opened.plan.names:
            checkpoint = opened.checkpoint(candidate, case.name)
            card = checkpoint.card
            heads = deciding_heads(card, opened.structure)
            key = {
                "model": checkpoint.sha256,
                "images": [hashes[case.name].get(name.lower(), "") for name in ("", *card.inputs[1:])],
                "structures": [name for head in heads for name in names_found(card, head)],
                "precision": options.precision,
                "device": resolve_device(options.device).type,
                "tta": options.tta,
                "version": __version__,
            }
            paths.setdefault(case.name, {})[candidate] = prediction_path(folder, key)
    return paths


def _segmenter(checkpoint: Checkpoint, options: SelectionOptions) -> Segmenter:
    """Of one model alone, without its own temperatures, which do not count in an ensemble."""
    bare = replace(checkpoint, card=replace(checkpoint.card, calibration=()))
    return Segmenter(bare, device=options.device, tta=options.tta, precision=options.precision)


def _maps(segmenter: Segmenter, case: PlannedCase, structure: str, progress: Progress) -> dict[str, np.ndarray]:
    """Probabilities (z, y, x) of what decides about the structure."""
    (checkpoint,) = segmenter.checkpoints
    card, (first, *others) = checkpoint.card, checkpoint.card.inputs
    images = {name: read_image(case.others[name.lower()]) for name in others if name.lower() in case.others}
    images = matched_inputs({first: read_image(case.image), **images}, card)
    found = segmenter.predict(images, progress).probabilities
    wanted = [name for head in deciding_heads(card, structure) for name in names_found(card, head)]
    return {name: sitk.GetArrayFromImage(found[name]) for name in wanted}
