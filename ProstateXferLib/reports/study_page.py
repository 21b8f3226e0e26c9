# SPDX-License-Identifier: Apache-2.0
"""The page of one study: what was found, what was synthesized, how, and how far to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.synthesis import mae_hu, me_hu
from ProstateXferLib.reports.figures import axial_slices, sagittal_coronal, synthetic_ct
from ProstateXferLib.reports.outlines import outlines_of
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
    """

    title: str
    subtitle: str
    image: sitk.Image | None
    segmentation: Any
    measurements: Sequence[Measurement]
    reference: Any = None
    uncertainty: sitk.Image | None = None
    methods: Sequence[str] | None = None
    synthetic: Sequence[SyntheticResult] = ()
    warnings: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


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
    if study.uncertainty is not None:
        figures.append(
            Figure(
                "Uncertainty of the segmentation",
                "Binary entropy of the model's probability in bits, the largest over the structures: black is sure, "
                "white undecided. It does not say where a model is surely wrong.",
                axial_slices(study.uncertainty, outlines, window=(0.0, 1.0)),
            )
        )
    for result in study.synthetic:
        figures += _synthesis_figures(result)
    tables = [] if study.segmentation is None else [*measurement_tables(study.measurements)]
    compared = [result for result in study.synthetic if result.truth is not None]
    if compared:
        tables.append(_error_table(compared))
    methods = study.methods
    if methods is None:
        methods = METHODS if study.synthetic else METHODS[:1]
    return Page(study.title, study.subtitle, methods, study.warnings, figures, tables, study.provenance)


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
