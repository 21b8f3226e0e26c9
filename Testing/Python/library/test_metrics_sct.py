# SPDX-License-Identifier: Apache-2.0
"""Scores of synthetic CTs by hand, at their edges, and by their properties; parity is tested with the golden files."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import mae_hu, me_hu, sct, sct_dice
from ProstateXferLib.metrics.sct.window_statistics import WindowStatistics

SCORES = (sct.mae, sct.me, sct.psnr, sct.ssim, sct.ms_ssim)
RANDOM = np.random.default_rng(11)
CT = np.clip(RANDOM.normal(0, 300, (14, 20, 22)).cumsum(axis=2) / 4, -1024, 1500).astype(np.int16)
SYNTHETIC = (CT + RANDOM.normal(10, 60, CT.shape)).astype(np.int16)
MASK = np.zeros(CT.shape, dtype=np.uint8)
MASK[4:11, 4:16, 4:18] = 1


def test_errors_by_hand_with_and_without_clipping():
    truth, synthetic = np.array([[[0, 100, 3500]]]), np.array([[[10, 80, 3900]]])
    assert sct.mae(truth, synthetic) == pytest.approx(430 / 3) == mae_hu(truth, synthetic)
    assert sct.me(truth, synthetic) == pytest.approx(390 / 3) == me_hu(truth, synthetic)
    assert sct.mae(truth, synthetic, None, (-1024, 3000)) == pytest.approx(30 / 3)


def test_psnr_by_hand():
    truth, synthetic = np.zeros((1, 1, 4)), np.full((1, 1, 4), 40.24)
    assert sct.psnr(truth, synthetic) == pytest.approx(40.0)  # 4024 / 40.24 = 100
    assert sct.psnr(truth, synthetic, None, sct.SYNTHRAD2025_RANGE) == pytest.approx(20 * math.log10(4095 / 40.24))
    assert sct.psnr(truth, np.full((1, 1, 4), 9000.0)) == pytest.approx(20 * math.log10(4024 / 3000))
    assert sct.psnr(truth, synthetic, None, (0, 20)) == 0.0  # clipped to the range, the error is all of it
    assert sct.psnr(truth, synthetic, None, (0, 20), clip=False) == pytest.approx(20 * math.log10(20 / 40.24))


def test_the_range_may_be_that_of_the_reference_inside_the_mask():
    truth, mask = np.array([[[-500.0, 0, 100, 900]]]), np.array([[[0, 1, 1, 0]]])
    expected = 20 * math.log10(100 / math.sqrt((50**2 + 0) / 2))
    assert sct.psnr(truth, truth + np.array([[[0, 50, 50, 0]]]), mask, "reference") == pytest.approx(expected)
    constant = np.zeros((9, 9, 9))
    assert math.isnan(sct.psnr(constant, constant + 1, None, "reference", clip=False))
    assert math.isnan(sct.ssim(constant, constant, None, "reference"))


def test_nothing_differs():
    assert [score(CT, CT, MASK) for score in SCORES] == [0.0, 0.0, math.inf, 1.0, 1.0]


@pytest.mark.parametrize("score", SCORES)
def test_an_empty_mask_has_no_score(score):
    assert math.isnan(score(CT, SYNTHETIC, np.zeros_like(MASK)))


def test_similarity_sees_nothing_of_the_rim_and_of_thin_volumes():
    rim = np.ones_like(MASK)
    rim[3:-3, 3:-3, 3:-3] = 0
    assert math.isnan(sct.ssim(CT, SYNTHETIC, rim)) and math.isfinite(sct.psnr(CT, SYNTHETIC, rim))
    assert math.isnan(sct.ssim(CT[:6], SYNTHETIC[:6]))
    assert math.isfinite(sct.ssim(CT[:7], SYNTHETIC[:7]))


@pytest.mark.parametrize("score", SCORES)
def test_what_lies_outside_the_mask_does_not_matter(score):
    other_truth, other = CT.copy(), SYNTHETIC.copy()
    other_truth[MASK == 0], other[MASK == 0] = 777, -333
    assert score(other_truth, other, MASK) == pytest.approx(score(CT, SYNTHETIC, MASK))


@pytest.mark.parametrize("score", [sct.mae, sct.psnr, sct.ssim, sct.ms_ssim])
def test_scores_are_symmetric(score):
    assert score(CT, SYNTHETIC, MASK) == pytest.approx(score(SYNTHETIC, CT, MASK))
    assert sct.me(CT, SYNTHETIC, MASK) == pytest.approx(-sct.me(SYNTHETIC, CT, MASK))


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=12)
def test_scores_know_no_axis_and_but_for_ms_ssim_no_direction(axes, flips):
    turned = [np.flip(v.transpose(axes), [k for k in range(3) if flips[k]]) for v in (CT, SYNTHETIC, MASK)]
    for score in (sct.mae, sct.me, sct.psnr, sct.ssim):
        assert score(*turned) == pytest.approx(score(CT, SYNTHETIC, MASK))
    straight = [volume.transpose(axes) for volume in (CT, SYNTHETIC, MASK)]
    assert sct.ms_ssim(*straight) == pytest.approx(sct.ms_ssim(CT, SYNTHETIC, MASK))


@given(st.integers(-500, 500))
@settings(max_examples=12)
def test_scores_shift_with_the_range(shift):
    low, high = -4000, 4000
    one = [score(CT, SYNTHETIC, MASK, (low, high)) for score in SCORES[:4]]
    two = [score(CT + shift, SYNTHETIC + shift, MASK, (low + shift, high + shift)) for score in SCORES[:4]]
    assert two == pytest.approx(one)


def test_more_noise_is_never_better():
    noise = np.random.default_rng(2).normal(size=CT.shape)
    scores = [[score(CT, CT + sigma * noise, MASK) for sigma in (5, 50, 200)] for score in SCORES]
    assert np.all(np.diff(scores[0]) > 0)
    for falling in scores[2:]:
        assert np.all(np.diff(falling) < 0)


def test_window_statistics_are_those_of_the_cube():
    found = WindowStatistics.of(CT.astype(float), SYNTHETIC.astype(float))
    cube = (slice(2, 9), slice(5, 12), slice(7, 14))
    here = (5, 8, 10)
    one, two = CT[cube].ravel().astype(float), SYNTHETIC[cube].ravel().astype(float)
    assert found.mean_one[here] == pytest.approx(one.mean())
    assert found.variance_two[here] == pytest.approx(two.var(ddof=1))
    assert found.covariance[here] == pytest.approx(np.cov(one, two)[0, 1])


def test_the_body_is_found_in_the_reference():
    body = np.full((5, 40, 40), -1000, dtype=np.int16)
    body[:, 10:30, 10:30] = 20
    synthetic = body.copy()
    synthetic[:, 12, 12] += 100
    synthetic[:, 0, 0] = 3000  # outside
    assert sct.mae(body, synthetic, "body") == pytest.approx(100 / 400)
    image, other = (sitk.GetImageFromArray(volume) for volume in (body, synthetic))
    assert sct.mae(image, other, "body") == pytest.approx(100 / 400)
    assert sct.sct_scores(image, other, "body", similarity=False).n_voxels == 5 * 400


def test_all_scores_at_once_are_the_single_ones():
    found = sct.sct_scores(CT, SYNTHETIC, MASK, sct.DGCF_RANGE)
    assert (found.mae_hu, found.me_hu) == (sct.mae(CT, SYNTHETIC, MASK), sct.me(CT, SYNTHETIC, MASK))
    single = [score(CT, SYNTHETIC, MASK, sct.DGCF_RANGE) for score in (sct.psnr, sct.ssim, sct.ms_ssim)]
    assert [found.psnr_db, found.ssim, found.ms_ssim] == single
    assert found.n_voxels == MASK.sum() and found.hu_range == sct.DGCF_RANGE
    quick = sct.sct_scores(CT, SYNTHETIC, MASK, similarity=False)
    assert math.isnan(quick.ssim) and quick.mae_hu == found.mae_hu


def test_every_voxel_belongs_to_one_tissue():
    edges = np.array([-1024, -251, -250, 0, 250, 251, 3000]).reshape(1, 1, -1)
    masks = [sct.tissue_mask(edges, tissue)[0, 0].tolist() for tissue in sct.TISSUE_CLASSES]
    assert [tissue.name for tissue in sct.TISSUE_CLASSES] == ["air", "soft tissue", "bone"]
    assert np.sum(masks, axis=0).tolist() == [1] * 7
    assert masks[1] == [False, False, True, True, True, False, False]


def test_scores_by_the_true_tissue():
    truth = np.array([[[-900, -800, 0, 50, 400]]])
    synthetic = np.array([[[-900, 100, 10, 40, 100]]])
    found = sct.scores_by_tissue(truth, synthetic, np.array([[[1, 1, 1, 1, 0]]]), similarity=False)
    assert found["air"].mae_hu == 450 and found["air"].n_voxels == 2
    assert found["soft tissue"].mae_hu == 10 and found["soft tissue"].me_hu == 0
    assert math.isnan(found["bone"].mae_hu) and found["bone"].n_voxels == 0
    images = [sitk.GetImageFromArray(volume.astype(np.int16)) for volume in (truth, synthetic)]
    assert sct.scores_by_tissue(*images, similarity=False)["bone"].me_hu == -300


LABELS = np.array([[[0, 1, 1, 2, 2, 3]]])
FOUND = np.array([[[0, 1, 0, 2, 2, 4]]])


def test_labels_count_where_the_reference_has_them():
    found = sct_dice(LABELS, FOUND)
    assert found.dice == pytest.approx({1: 2 / 3, 2: 1.0, 3: 0.0, 4: math.nan}, nan_ok=True)
    assert found.summary.mean == pytest.approx(5 / 9)
    assert (found.summary.n_used, found.summary.n_total) == (3, 4)
    assert sct_dice(LABELS, FOUND, counted="prediction").summary.n_used == 3
    assert sct_dice(LABELS, FOUND, counted="either").summary.mean == pytest.approx((2 / 3 + 1) / 4)


def test_labels_have_names_and_a_mask():
    found = sct_dice(LABELS, FOUND, {1: "bladder", 9: "rectum"}, mask=np.array([[[1, 1, 0, 0, 0, 0]]]))
    assert found.dice == pytest.approx({"bladder": 1.0, "rectum": math.nan}, nan_ok=True)
    assert math.isnan(sct_dice(LABELS * 0, FOUND * 0).summary.mean)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sct_dice(LABELS / 2, FOUND), "labels are whole numbers"),
        (lambda: sct_dice(LABELS, FOUND, counted="all"), "counted='all' is unknown"),
        (lambda: sct_dice(LABELS, FOUND[..., 1:]), "they must be equal"),
        (lambda: sct.psnr(CT, SYNTHETIC, None, (100, 100)), "is empty; give a lower and an upper end"),
        (lambda: sct.psnr(CT, SYNTHETIC, None, "population"), "range 'population' is unknown"),
        (lambda: sct.ssim(CT, SYNTHETIC, "head"), "mask 'head' is unknown"),
        (lambda: sct.mae(CT[0], SYNTHETIC[0]), "a volume"),
        (lambda: sct.mae(CT * math.nan, SYNTHETIC), "not finite"),
        (lambda: sct.mae(CT, SYNTHETIC, MASK[1:]), "they must be equal"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(ProstateXferError, match=message):
        call()
