# SPDX-License-Identifier: Apache-2.0
"""Dice and IoU of single slices, and the three ways in which many of them become one number."""

import csv
import dataclasses
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.orientation import axial_view
from ProstateXferLib.metrics.overlap import OverlapCounts, slice_counts
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence

STRUCTURE = "Prostate"
AVERAGES = ("slice", "patient", "pooled")
DEFAULT_AVERAGE = "slice"
"""What the paper most likely did, see published.NOTES."""


@dataclass(frozen=True)
class SliceOverlap:
    """One test slice: pixels in the reference, in the prediction and in both; `slice_index` counts from inferior."""

    patient_id: str
    case_id: str
    slice_index: int
    reference_pixels: int
    predicted_pixels: int
    common_pixels: int

    @property
    def counts(self) -> OverlapCounts:
        """For the metrics."""
        return OverlapCounts(self.reference_pixels, self.predicted_pixels, self.common_pixels)


@dataclass(frozen=True)
class MeanOverlap:
    """Mean Dice and IoU, as shares of 1, of so many slices (patients, or 1 for pooled pixels)."""

    dice: float
    iou: float
    count: int


def case_overlap(reference: sitk.Image, predicted: sitk.Image, case: Case, *, above_pixels: int) -> list[SliceOverlap]:
    """Axial slices whose reference has more than `above_pixels` pixels, at the image's own pixel size.

    Args:
        reference, predicted: masks on one grid; whatever is not zero is inside.
        case: whose they are.
        above_pixels: the paper's 200.
    """
    view = axial_view(reference)
    drawn, found = (view.apply(sitk.GetArrayFromImage(image)) != 0 for image in (reference, predicted))
    return [
        SliceOverlap(case.patient_id, case.case_id, z, counts.reference, counts.prediction, counts.both)
        for z, counts in enumerate(slice_counts(drawn, found))
        if counts.reference > above_pixels
    ]


def checkpoint_overlap(
    checkpoint: Path, cases: Sequence[Case], *, above_pixels: int, device: str, progress: Progress
) -> list[SliceOverlap]:
    """Segment test cases as a user would, and compare slice by slice.

    Raises:
        ProstateXferError: no prostate is drawn in a case, the model finds none, or a file cannot be read.
        CancelledError: the user stopped.
    """
    segmenter = Segmenter(checkpoint, device=device)
    value = next((s.value for s in segmenter.checkpoints[0].card.structures if s.name == STRUCTURE), None)
    if value is None:
        raise ProstateXferError(f"'{checkpoint.name}' does not segment the {STRUCTURE.lower()}: choose another.")
    overlaps = []
    for index, case in enumerate(cases):
        raise_if_cancelled(progress)
        progress.update("test", index / len(cases), f"case {case.case_id}")
        if STRUCTURE not in case.masks:
            raise ProstateXferError(f"Case '{case.case_id}' has no {STRUCTURE} drawn and cannot test: leave it out.")
        image = read_sequence(case, segmenter.checkpoints[0].card.inputs[0])
        reference = read_mask(case.masks[STRUCTURE], Grid.of(image))
        predicted = segmenter.predict(image).labels == value
        overlaps += case_overlap(reference, predicted, case, above_pixels=above_pixels)
    return overlaps


def mean_overlap(overlaps: Sequence[SliceOverlap], average: str = DEFAULT_AVERAGE) -> MeanOverlap:
    """One number for many slices.

    * "slice": the mean over all slices, whoever they are of.
    * "patient": the slices of a patient pooled, then the mean over patients.
    * "pooled": the pixels of all slices together.

    Raises:
        ProstateXferError: no slice, or another word.
    """
    if average not in AVERAGES:
        raise ProstateXferError(f"average is '{average}': it must be one of {', '.join(AVERAGES)}.")
    if not overlaps:
        raise ProstateXferError("No test slice shows enough of the prostate: check the masks or lower the pixel limit.")
    groups: dict[object, list[OverlapCounts]] = defaultdict(list)
    for number, overlap in enumerate(overlaps):
        groups[{"slice": number, "patient": overlap.patient_id, "pooled": None}[average]].append(overlap.counts)
    pooled = [sum(counts, OverlapCounts(0, 0, 0)) for counts in groups.values()]
    dice, iou = (float(np.mean([counts.score(metric) for counts in pooled])) for metric in ("dice", "iou"))
    return MeanOverlap(dice, iou, len(pooled))


def write_overlaps(path: Path, overlaps: Iterable[SliceOverlap]) -> Path:
    """One line a slice, atomically, so that any average can be worked out later."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(SliceOverlap)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(overlap) for overlap in overlaps)
    return write_text(path, text.getvalue())


def read_overlaps(path: Path) -> list[SliceOverlap]:
    """The inverse of `write_overlaps`.

    Raises:
        ProstateXferError: not such a file.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = dataclasses.fields(SliceOverlap)
            if reader.fieldnames != [column.name for column in columns]:
                raise ValueError("its columns are others")
            return [
                SliceOverlap(**{column.name: column.type(row[column.name]) for column in columns}) for row in reader
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ProstateXferError(f"'{path}' is no table of slices ({error}): remove it and run again.") from error
