# SPDX-License-Identifier: Apache-2.0
"""The page of one study: what was found, what was synthesized, how, and how far to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.synthesis import mae_hu, me_hu
from ProstateXferLib.reports.calibration_section import ModelCalibration, calibration_figures, calibration_notes
from ProstateXferLib.reports.figures import axial_slices, sagittal_coronal, synthetic_ct
from ProstateXferLib.reports.outlines import Outline, outlines_of, sample_outlines
from ProstateXferLib.reports.page import Figure, Page, Table
from ProstateXferLib.reports.table import measurement_tables

METHODS = (
    "Structures were segmented slice by slice by a small MR-DINOv3 (a vision transformer with patch-decode "
    "heads), the DIL "
    "head near the gland alone; labels lie on the image's own grid. Volumes count voxels; the prostate includes "
    "the DIL that touches it. Centroids are means of voxel centres in patient coordinates (mm).",
    "Synthetic CTs were made slice by slice by a small DGCF (a residual U-Net guided by DINOv3 tokens), -1024 "
    "to 2000 HU.",
)


@dataclass(frozen=True)
class SyntheticResult:
    """One synthetic CT with the image it came from and, where known, the true CT and the body mask on the same grid."""

    title: str
    source: sitk.Image
    synthetic: sitk.Image
    truth: sitk.Image | None = None
    body: sitk.Image | None = None


@dataclass(frozen=True)
class Study:
    """What a study's page is made of; `segmentation` is a `pipelines.Segmentation` or None, `reference` likewise.

    `image` is what was segmented, `uncertainty` lies on its grid; `methods` replaces the words on the shipped models.
    `samples` are what the "members", "folds" or "mirrorings" (`sampled_by`) found alone, on the grid of the image.
    """

    title: str
    subtitle: str
    image: sitk.Image | None
    segmentation: Any
    measurements: Sequence[Measurement]
    reference: Any = None
    uncertainty: sitk.Image | None = None
    methods: Sequence[str] | None = None
    calibrations: Sequence[ModelCalibration] = ()
    synthetic: Sequence[SyntheticResult] = ()
    warnings: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Any] = ()
    sampled_by: str = ""


def study_page(study: Study) -> Page:
    """Figures, tables and texts of a study."""
    outlines = [] if study.segmentation is None else outlines_of(study.segmentation, reference=study.reference)
    figures = []
    if outlines:
        known = "; dashed: the reference" if study.reference is not None else ""
        figures = [
            Figure("Axial slices", f"T2w with the outlines found (solid{known}).", axial_slices(study.image, outlines)),
            Figure(
                "Sagittal and coronal",
                "Through the centre of the smallest structure found; slices are not interpolated.",
                sagittal_coronal(study.image, outlines),
            ),
        ]
    figures += _sample_figures(study, outlines)
    if study.uncertainty is not None:
        figures.append(
            Figure(
                "Uncertainty of the segmentation",
                "Binary entropy of the model's probability in bits, the largest over the structures: black is sure, "
                "white undecided. It does not say where a model is surely wrong.",
                axial_slices(study.uncertainty, outlines, window=(0.0, 1.0)),
            )
        )
    figures += [figure for known in study.calibrations for figure in calibration_figures(known)]
    for result in study.synthetic:
        figures += _synthesis_figures(result)
    tables = (
        [] if study.segmentation is None else [*measurement_tables(study.measurements, sampled_by=study.sampled_by)]
    )
    compared = [result for result in study.synthetic if result.truth is not None]
    if compared:
        tables.append(_error_table(compared))
    methods = study.methods
    if methods is None:
        methods = METHODS if study.synthetic else METHODS[:1]
    methods = [*methods, *calibration_notes(study.calibrations)]
    return Page(study.title, study.subtitle, methods, study.warnings, figures, tables, study.provenance)


def _sample_figures(study: Study, outlines: Sequence[Outline]) -> list[Figure]:
    """What each sample found alone, thinly, and the result on top; nothing without samples."""
    if not study.samples:
        return []
    found = SimpleNamespace(structures=study.segmentation.structures, samples=study.samples)
    result = [outline for outline in outlines if not outline.dashed]
    names = ", ".join(sample.name for sample in study.samples)
    caption = (
        f"What each of {len(study.samples)} {study.sampled_by} found alone (thin; {names}), and the result of them "
        "together (thick). Where the lines part they disagree; where they lie together they may still all be wrong."
    )
    return [Figure("Agreement of the samples", caption, axial_slices(study.image, [*sample_outlines(found), *result]))]


def synthesis_errors(result: SyntheticResult) -> dict[str, float]:
    """Mean absolute and mean error in HU inside the body and, by the true CT's class, in soft tissue and bone."""
    truth = sitk.GetArrayFromImage(result.truth)
    body = sitk.GetArrayFromImage(result.body) > 0
    masks = {
        "body": body,
        "soft tissue": body & (truth >= -250) & (truth <= 250),  # the HU classes of DGCF's evaluation
        "bone": body & (truth > 250),
    }
    predicted = sitk.GetArrayFromImage(result.synthetic)
    errors = {f"MAE {name}": mae_hu(truth, predicted, mask) for name, mask in masks.items()}
    return {**errors, "mean error body": me_hu(truth, predicted, body)}


def _synthesis_figures(result: SyntheticResult) -> list[Figure]:
    beside = " beside the true CT, and their difference inside the body" if result.truth is not None else ""
    shared = {"source": result.source, "truth": result.truth, "mask": result.body}
    return [
        Figure(
            f"{result.title}, soft tissue window",
            f"The input and the synthetic CT{beside}.",
            synthetic_ct(result.synthetic, **shared),
        ),
        Figure(
            f"{result.title}, bone window",
            f"The same slices, -500 to 1300 HU{beside}.",
            synthetic_ct(result.synthetic, **shared, window="bone", difference_hu=400.0),
        ),
    ]


def _error_table(results: Sequence[SyntheticResult]) -> Table:
    errors = [synthesis_errors(result) for result in results]
    header = ["Synthetic CT", *(key[0].upper() + key[1:] for key in errors[0])]
    rows = [
        [result.title, *("–" if np.isnan(value) else f"{value:.1f}" for value in values.values())]
        for result, values in zip(results, errors, strict=True)
    ]
    return Table(
        "Error of the synthetic CT",
        header,
        rows,
        caption="Inside the body; soft tissue is -250 to 250 HU and bone above 250 HU in the true CT.",
        units=["", *["HU"] * len(errors[0])],
    )
