# SPDX-License-Identifier: Apache-2.0
"""Measuring the segmentation of the last run again, as it is now."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slicer.i18n import tr as _

from ProstateXferLib.cohort.reference import Reference, matched_reference
from ProstateXferLib.cohort.result import measurement_from_json
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.metrics.measurement import SAMPLE_FIELDS, Measurement
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.progress import Progress, SilentProgress
from ProstateXferSlicer.scene.centroids import writeCentroids
from ProstateXferSlicer.scene.parameters import keepMeasurements
from ProstateXferSlicer.scene.segmentations import segmentationOfNode
from ProstateXferSlicer.scene.tables import writeTable
from ProstateXferSlicer.scene.volumes import imageOfVolume


def remeasure(parameters: Any, progress: Progress | None = None) -> list[Measurement]:
    """Measure the segments, edits included; brings table, centroids and plot up to date and returns the rows.

    The library measures and compares here as it does in a run. `progress` is told what the user must know about the
    reference; `parameters.edited` is set where the segments are no longer those of the run. Until then the rows keep
    what the samples of the run said; an edited segmentation has no samples, and nothing of them is left.

    Raises:
        ProstateXferError: segmentation or image is gone, or cannot be measured.
    """
    if None in (parameters.segmentation, parameters.measuredImage, parameters.measurements):
        raise ProstateXferError(_("Segmentation, table or image of the last run are gone: run Prostate or DIL again."))
    image = imageOfVolume(parameters.measuredImage)
    found = segmentationOfNode(parameters.segmentation, image)
    segmentation = Segmentation(found.labels, found.structures)
    rows = _compared(segmentation, parameters.referenceSegmentation, image, progress or SilentProgress())
    rowsOfRun = _rowsOfRun(parameters.studyRecord)
    parameters.edited = parameters.edited or _state(rows) != _state(rowsOfRun)
    if not parameters.edited:
        rows = [_withSamples(row, ofRun) for row, ofRun in zip(rows, rowsOfRun, strict=True)]
    writeTable(rows, parameters.measurements)
    keepMeasurements(parameters, rows)
    if parameters.centroids is not None:
        writeCentroids(rows, parameters.centroids)
    parameters.usedReferenceSegmentation = parameters.referenceSegmentation
    return rows


def _compared(segmentation: Segmentation, referenceNode: Any, image: Any, progress: Progress) -> list[Measurement]:
    if referenceNode is None:
        return measure(segmentation)
    found = segmentationOfNode(referenceNode, image)
    reference = matched_reference(Reference(found.labels, found.structures, named=True), segmentation, progress)
    return reference.without_unknown(measure(segmentation, reference=reference.labels))


def _rowsOfRun(record: str) -> list[Measurement]:
    return [measurement_from_json(values) for values in json.loads(record)["measurements"]] if record else []


def _withSamples(row: Measurement, ofRun: Measurement) -> Measurement:
    """The row with what the samples of the run said of the same voxels."""
    return replace(row, **{name: getattr(ofRun, name) for name in SAMPLE_FIELDS})


def _state(rows: Sequence[Measurement]) -> list[tuple]:
    """What two measurements of the same segments have in common, whatever the reference; 0.01 mm is rounding."""
    return [
        (row.id, row.voxel_count, row.centroid_ras and tuple(round(value, 2) for value in row.centroid_ras))
        for row in rows
    ]
