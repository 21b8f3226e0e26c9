# SPDX-License-Identifier: Apache-2.0
"""Intensities are scaled over the whole volume, as the reference pipelines do it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule, denormalize, normalize

HU = IntensityRule("window", lower=-1024, upper=2000)
VOLUME = np.random.default_rng(3).gamma(2.0, 150.0, size=(5, 20, 20)).astype(np.float32)


def test_zscore_has_mean_zero_and_deviation_one():
    scaled = normalize(VOLUME, IntensityRule("zscore"))
    assert scaled.dtype == np.float32
    assert abs(scaled.mean(dtype=np.float64)) < 1e-6 and abs(scaled.std(dtype=np.float64) - 1) < 1e-6


def test_zscore_clips_first_where_percentiles_are_given():
    scaled = normalize(VOLUME, IntensityRule("zscore", lower_percentile=0.5, upper_percentile=99.5))
    clipped = np.clip(VOLUME, *np.percentile(VOLUME, (0.5, 99.5)))
    assert np.allclose(scaled, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)


def test_zscore_of_a_flat_volume_is_zero():
    assert not normalize(np.full((3, 3, 3), 7), IntensityRule("zscore")).any()


def test_percentiles_map_to_minus_one_and_one():
    scaled = normalize(VOLUME, IntensityRule("percentile"))
    low, high = np.percentile(VOLUME, (1, 99))
    assert scaled.min() == -1 and scaled.max() == 1
    assert np.isclose(
        normalize(VOLUME, IntensityRule("percentile")).ravel()[0], 2 * (VOLUME[0, 0, 0] - low) / (high - low) - 1
    )


def test_a_flat_volume_is_refused_where_percentiles_would_divide_by_zero():
    with pytest.raises(ProstateXferError, match="flat"):
        normalize(np.full((3, 3, 3), 7), IntensityRule("percentile"))


def test_percentiles_map_to_zero_and_one_as_well():
    scaled = normalize(VOLUME, IntensityRule("percentile01"))
    low, high = np.percentile(VOLUME, (1, 99))
    assert scaled.dtype == np.float32
    assert np.allclose(scaled, (np.clip(VOLUME, low, high) - low) / (high - low), atol=1e-6)
    assert (scaled.min(), scaled.max()) == (0, 1)
    with pytest.raises(ProstateXferError, match="flat"):
        normalize(np.full((3, 3, 3), 7), IntensityRule("percentile01"))


def test_a_volume_is_standardised_with_the_training_sets_numbers_not_its_own():
    rule = IntensityRule("standardise", mean=120.0, deviation=40.0)
    assert np.allclose(normalize(VOLUME, rule), (VOLUME - 120.0) / 40.0, atol=1e-5)
    assert np.array_equal(normalize(VOLUME[:2], rule), normalize(VOLUME, rule)[:2])


def test_nnunets_rule_for_ct_is_a_clip_and_the_training_sets_numbers():
    rule = IntensityRule("standardise", lower=50.0, upper=300.0, mean=120.0, deviation=40.0)
    assert np.allclose(normalize(VOLUME, rule), (np.clip(VOLUME, 50, 300) - 120.0) / 40.0, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kind": "standardise"}, "mean None and deviation None"),
        ({"kind": "standardise", "mean": 1.0, "deviation": 0.0}, "the deviation above zero"),
        ({"kind": "standardise", "mean": float("nan"), "deviation": 1.0}, "both must be numbers"),
        (
            {"kind": "standardise", "mean": 1.0, "deviation": 1.0, "lower_percentile": 1, "upper_percentile": 99},
            "limits",
        ),
        ({"kind": "percentile01", "lower": 0.0, "upper": 1.0}, "wrong limits"),
        ({"kind": "zscore", "mean": 1.0}, "'zscore' takes no mean and deviation"),
    ],
)
def test_rules_with_numbers_of_another_rule_are_refused(fields, told):
    with pytest.raises(ProstateXferError, match=told):
        IntensityRule(**fields)


@given(st.floats(-1024, 2000))
def test_hu_inside_the_window_come_back(hu):
    assert np.isclose(denormalize(normalize(np.full((1, 1, 1), hu), HU), HU).item(), hu, atol=1e-3)


def test_hu_outside_the_window_are_clipped():
    assert denormalize(normalize(np.array([-3000, 9000]), HU), HU).tolist() == [-1024, 2000]


def test_only_a_window_can_be_undone():
    with pytest.raises(ProstateXferError, match="window"):
        denormalize(VOLUME, IntensityRule("zscore"))


@pytest.mark.parametrize(
    "rule", [HU, IntensityRule("zscore"), IntensityRule("percentile", lower_percentile=0.5, upper_percentile=99.5)]
)
def test_a_rule_survives_the_model_card(rule):
    assert IntensityRule.from_json(rule.to_json()) == rule


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "minmax"},
        {"kind": "window"},
        {"kind": "window", "lower": 5, "upper": 5},
        {"kind": "window", "lower": 0, "upper": float("inf")},
        {"kind": "window", "lower": 0, "upper": 1, "lower_percentile": 1, "upper_percentile": 99},
        {"kind": "percentile", "lower_percentile": 1},
        {"kind": "percentile", "lower_percentile": 1, "upper_percentile": 101},
        {"kind": "zscore", "lower": 0, "upper": 1},
        {"kind": "zscore", "lower_percentile": "1", "upper_percentile": 99},
        {"kind": "zscore", "mean": 3},
        {},
    ],
    ids=str,
)
def test_wrong_rules_are_refused(fields):
    with pytest.raises(ProstateXferError):
        IntensityRule.from_json(fields)


def test_mr_percentiles_and_values_are_those_of_the_reference(golden_data):
    golden = np.load(golden_data / "dgcf" / "prep_mr.npz")
    low, high = golden["ptile_1_99"].astype(np.float64)
    scaled = normalize(golden["raw_mr"], IntensityRule("percentile"))
    assert np.allclose(scaled, 2 * (np.clip(golden["raw_mr"], low, high) - low) / (high - low) - 1, atol=1e-6)
    assert np.allclose(resized(scaled[6], golden["A_6"]), golden["A_6"][0, 0], atol=1e-5)


def test_cbct_values_and_hu_are_those_of_the_reference(golden_data):
    golden = np.load(golden_data / "dgcf" / "prep_cbct.npz")
    for raw, name in (("raw_cbct", "A_2"), ("raw_ct", "B_2")):
        assert np.allclose(resized(normalize(golden[raw], HU)[2], golden[name]), golden[name][0, 0], atol=1e-5)
    fake = denormalize(golden["net_out_fake"], HU)
    assert np.allclose(resized(fake[2, 0], golden["recon_3d"]), golden["recon_3d"][2], atol=1e-2)


def resized(slice_yx: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The slice at the reference's network size: bilinear, half-pixel centres, no smoothing."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(slice_yx))[None, None]
    return torch.nn.functional.interpolate(tensor, size=like.shape[-2:], mode="bilinear", align_corners=False).numpy()[
        0, 0
    ]
