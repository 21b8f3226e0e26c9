# SPDX-License-Identifier: Apache-2.0
"""Synthetic CTs: errors in HU that are known, in the body and in its tissues."""

import math

import numpy as np
import pytest

from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.evaluate_case import evaluate_case
from ProstateXferLib.evaluation.kind import detect_kind
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.synthesis_scores import HISTOGRAM_EDGES_HU
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.metrics.sct import sct_scores

GRID = Grid((40, 36, 20), (4.0, 4.0, 4.0), (-80.0, -70.0, 0.0))
BODY, BONE = np.s_[1:19, 4:32, 4:36], np.s_[6:14, 14:20, 10:16]
SCT = EvaluationOptions(kind="sct")


def ct(soft=40, bone=700, noise=0.0):
    voxels = np.full(GRID.shape_zyx, -1000.0)
    voxels[BODY] = soft
    voxels[BONE] = bone
    voxels += np.random.default_rng(0).normal(0, noise, voxels.shape) if noise else 0
    return voxels.astype(np.int16)


@pytest.fixture
def case(tmp_path):
    def write(**arrays):
        paths = {role: tmp_path / f"{role}.nii.gz" for role in arrays}
        for role, array in arrays.items():
            write_image(GRID.image(array) if isinstance(array, np.ndarray) else array, paths[role])
        return CaseFiles("ct", paths)

    return write


def numbers(result, structure):
    assert result.failures == {}
    return {v.metric: v.value for v in result.methods["prediction"].values if v.structure == structure}


def test_a_constant_error_is_found_in_every_tissue(case):
    result = evaluate_case(case(prediction=ct(50, 680), reference=ct()), SCT)
    assert numbers(result, "Soft tissue")["mae"] == pytest.approx(10)
    assert numbers(result, "Bone")["me"] == pytest.approx(-20)
    body = numbers(result, "Body")
    share = (8 * 6 * 6) / (18 * 28 * 32)
    assert body["mae"] == pytest.approx(10 * (1 - share) + 20 * share)
    assert math.isnan(numbers(result, "Air")["mae"])
    reasons = {(v.structure, v.metric): v.reason for v in result.methods["prediction"].values}
    assert reasons["Air", "mae"] == "no voxel of this class"


def test_scores_are_those_of_the_metrics_with_the_mask_that_was_given(case):
    mask = np.zeros(GRID.shape_zyx, np.uint8)
    mask[5:15, 8:28, 8:30] = 1
    predicted, true = ct(60, noise=30), ct()
    found = numbers(evaluate_case(case(prediction=predicted, reference=true, body=mask), SCT), "Body")
    scores = sct_scores(true, predicted, mask, SCT.hu_range)
    assert found["mae"] == pytest.approx(scores.mae_hu)
    assert found["psnr"] == pytest.approx(scores.psnr_db)
    assert found["ssim"] == pytest.approx(scores.ssim)


def test_histograms_count_the_voxels_of_the_body(case):
    result = evaluate_case(case(prediction=ct(3000), reference=ct()), SCT)
    assert sum(result.reference_histogram) == 18 * 28 * 32
    place = int(np.searchsorted(HISTOGRAM_EDGES_HU, 40, side="right")) - 1
    assert result.reference_histogram[place] == 18 * 28 * 32 - 8 * 6 * 6
    assert result.methods["prediction"].histogram[-1] == 18 * 28 * 32 - 8 * 6 * 6


def test_labels_and_a_target_add_their_rows(case):
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[BONE] = 5
    target = np.zeros(GRID.shape_zyx, np.uint8)
    target[9:11, 17:19, 19:21] = 1
    files = case(prediction=ct(140), reference=ct(), target=target, prediction_labels=labels, reference_labels=labels)
    result = evaluate_case(files, SCT)
    assert numbers(result, "5") == {"organ_dice": 1.0}
    assert numbers(result, "Target")["water_depth_anterior"] > 1


def test_another_grid_is_refused_or_interpolated(case):
    coarse = Grid((20, 18, 10), (8.0, 8.0, 8.0), (-78.0, -68.0, 2.0))
    files = case(prediction=coarse.image(ct()[::2, ::2, ::2].copy()), reference=ct())
    assert "different grids" in evaluate_case(files, SCT).failures["prediction"]
    result = evaluate_case(files, EvaluationOptions(kind="sct", resample=True))
    assert "resampled (linear)" in result.methods["prediction"].warnings[0]


def test_an_empty_body_is_a_sentence(case):
    files = case(prediction=ct(), reference=ct(), body=np.zeros(GRID.shape_zyx, np.uint8))
    assert "has no voxel" in evaluate_case(files, SCT).failures["prediction"]


def test_the_kind_is_told_by_the_voxels_where_they_leave_no_doubt(case):
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[BODY] = 1
    assert detect_kind([case(prediction=ct(), reference=ct())]) == "sct"
    assert detect_kind([case(prediction=labels.astype(np.float32), reference=labels)]) == "segmentation"
    with pytest.raises(Exception, match="prediction looks like a CT, the reference looks like a label map.*--kind"):
        detect_kind([case(prediction=ct(), reference=labels)])
    with pytest.raises(Exception, match="neither a label map nor a CT"):
        detect_kind([case(prediction=labels * np.float32(0.5), reference=labels)])
