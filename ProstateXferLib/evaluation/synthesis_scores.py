# SPDX-License-Identifier: Apache-2.0
"""All metrics of one synthetic CT against the true one."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_result import WHOLE, MethodResult, Value
from ProstateXferLib.evaluation.catalog import water_depth_key
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.evaluation.label_pair import on_grid, read_labels
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.metrics.sct import scores_by_tissue, sct_scores
from ProstateXferLib.metrics.sct.scores import SctScores
from ProstateXferLib.metrics.sct_dice import sct_dice
from ProstateXferLib.metrics.water_equivalent_depth import compare_water_equivalent_depth

BODY = "Body"
AIR_HU = -1024.0
HISTOGRAM_EDGES_HU = np.arange(-1024.0, 2001.0, 16.0)
"""Of the HU histograms; values beyond belong to the outermost bins."""
_SCORES = {"mae_hu": "mae", "me_hu": "me", "psnr_db": "psnr", "ssim": "ssim", "ms_ssim": "ms_ssim"}


@dataclass(frozen=True)
class CtReference:
    """A true CT and the mask (uint8, on its grid) inside which synthetic CTs are compared with it."""

    ct: sitk.Image
    inside: sitk.Image

    @property
    def histogram(self) -> tuple[int, ...]:
        """Voxels of the mask in each bin of HU."""
        return _histogram(self.ct, self.inside)


def read_ct_reference(files: Mapping[str, Path]) -> CtReference:
    """The reference CT of a case with its body mask, or the body found in it where there is no file."""
    ct = read_image(files["reference"])
    check_image(ct, "reference CT")
    if "body" not in files:
        return CtReference(ct, body_mask(ct))
    labels = read_labels(files["body"]).image
    inside, _ = on_grid(labels, Grid.of(ct), resample=False, what="body mask")
    return CtReference(ct, sitk.Cast(inside != 0, sitk.sitkUInt8))


def read_synthetic_ct(path: Path, grid: Grid, *, resample: bool) -> tuple[sitk.Image, str]:
    """The synthetic CT on the reference's grid, and a warning where it was not there before."""
    image = read_image(path)
    check_image(image, "synthetic CT")
    return on_grid(image, grid, resample=resample, what="synthetic CT", interpolation="linear", outside=AIR_HU)


def score_synthetic_ct(
    reference: CtReference, prediction: sitk.Image, files: Mapping[str, Path], options: EvaluationOptions
) -> MethodResult:
    """The scores in the body and in each tissue class, and what labels and a target allow beyond them."""
    if not sitk.GetArrayViewFromImage(reference.inside).any():
        raise ProstateXferError("The body mask of the reference CT has no voxel: give one with --bodies.")
    truth, synthetic, inside = (sitk.GetArrayFromImage(i) for i in (reference.ct, prediction, reference.inside))
    values = [*_score_values(BODY, sct_scores(truth, synthetic, inside, options.hu_range))]
    for name, scores in scores_by_tissue(truth, synthetic, inside).items():
        values += _score_values(name.capitalize(), scores)
    values += _organ_values(files, options)
    values += _depth_values(reference, prediction, files)
    return MethodResult(
        values=tuple(values),
        declared=frozenset(value.structure for value in values),
        histogram=_histogram(prediction, reference.inside),
    )


def _score_values(structure: str, scores: SctScores) -> Iterator[Value]:
    fields = asdict(scores)
    reason = "no voxel of this class" if not scores.n_voxels else "the mask is too small or too near the border"
    for field, metric in _SCORES.items():
        yield Value(structure, WHOLE, metric, fields[field], reason if math.isnan(fields[field]) else "")


def _organ_values(files: Mapping[str, Path], options: EvaluationOptions) -> Iterator[Value]:
    """Dice of the labels that one model gave on both CTs."""
    if not {"prediction_labels", "reference_labels"} <= files.keys():
        return
    reference, prediction = (read_labels(files[role]) for role in ("reference_labels", "prediction_labels"))
    image, _ = on_grid(prediction.image, Grid.of(reference.image), resample=options.resample, what="predicted labels")
    names = reference.own_names or _names(options.reference_names, reference.image)
    found = sct_dice(reference.image, image, names)
    for name, value in found.dice.items():
        yield Value(str(name), WHOLE, "organ_dice", value, "not in the reference" if math.isnan(value) else "")


def _names(names: LabelNames, image: sitk.Image) -> dict[int, str] | None:
    """The names of the organs, None where nobody gave any: they go by their values then."""
    if not names.given:
        return None
    return names.names_of(int(value) for value in np.unique(sitk.GetArrayViewFromImage(image)) if value)


def _depth_values(reference: CtReference, prediction: sitk.Image, files: Mapping[str, Path]) -> Iterator[Value]:
    """Water-equivalent depth of a target under the four beams."""
    if "target" not in files:
        return
    target, _ = on_grid(read_labels(files["target"]).image, Grid.of(reference.ct), resample=False, what="target")
    found = compare_water_equivalent_depth(reference.ct, prediction, target, body=reference.inside)
    for beam, difference in found.items():
        value = difference.mean_absolute_mm
        yield Value("Target", WHOLE, water_depth_key(beam), value, "the target is empty" if math.isnan(value) else "")


def _histogram(ct: sitk.Image, inside: sitk.Image) -> tuple[int, ...]:
    within = sitk.GetArrayViewFromImage(inside) != 0
    values = sitk.GetArrayViewFromImage(ct)[within]
    edges = HISTOGRAM_EDGES_HU
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    return tuple(counts.tolist())
