# SPDX-License-Identifier: Apache-2.0
"""Calibration numbers against outcomes whose true frequencies are known."""

import numpy as np
import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.calibration import (
    at_a_bound,
    bin_of,
    brier_score,
    calibration_error,
    fit_temperature,
    frequency_band,
    log_odds,
    negative_log_likelihood,
    reliability_table,
)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values)))


def both_outcomes(said, true):
    """Every probability twice, happened and not, with the weight of its true frequency: no draw, no noise."""
    said, true = np.asarray(said, float), np.asarray(true, float)
    happened = np.repeat([True, False], said.size)
    return np.tile(said, 2), happened, np.concatenate([true, 1 - true])


def test_ten_voxels_by_hand():
    """Two bins: of five that were given 0.2 two happened, of five that were given 0.9 three."""
    p = np.repeat([0.2, 0.9], 5)
    y = np.array([1, 1, 0, 0, 0, 1, 1, 1, 0, 0])
    table = reliability_table(p, y, bins=2)
    assert table.probability == pytest.approx([0.2, 0.9]) and table.frequency == pytest.approx([0.4, 0.6])
    assert table.share == pytest.approx([0.5, 0.5]) and table.edges == pytest.approx([0, 0.5, 1])
    assert calibration_error(table) == pytest.approx(0.5 * 0.2 + 0.5 * 0.3)
    assert brier_score(p, y) == pytest.approx((2 * 0.64 + 3 * 0.04 + 3 * 0.01 + 2 * 0.81) / 10)
    expected = -(2 * np.log(0.2) + 3 * np.log(0.8) + 3 * np.log(0.9) + 2 * np.log(0.1)) / 10
    assert negative_log_likelihood(p, y) == pytest.approx(expected)


def test_a_weight_stands_for_as_many_voxels():
    p, y, w = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 1, 0, 1]), np.array([3, 1, 2, 5])
    many = (np.repeat(p, w), np.repeat(y, w))
    assert calibration_error(reliability_table(p, y, w)) == pytest.approx(calibration_error(reliability_table(*many)))
    assert brier_score(p, y, w) == pytest.approx(brier_score(*many))
    assert negative_log_likelihood(p, y, w) == pytest.approx(negative_log_likelihood(*many))
    assert fit_temperature(p, y, w) == pytest.approx(fit_temperature(*many), rel=1e-5)


def test_true_frequencies_have_no_calibration_error_and_temperature_one():
    said = np.linspace(0.01, 0.99, 197)
    p, y, w = both_outcomes(said, said)
    assert calibration_error(reliability_table(p, y, w)) == pytest.approx(0, abs=1e-12)
    assert fit_temperature(p, y, w) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("true", [0.3, 0.66, 1.7, 4.0])
def test_the_temperature_that_spoiled_probabilities_is_found(true):
    odds = np.linspace(-4, 4, 401)
    p, y, w = both_outcomes(sigmoid(odds), sigmoid(odds / true))
    assert fit_temperature(p, y, w) == pytest.approx(true, rel=1e-3)


def test_no_other_temperature_has_a_smaller_loss():
    rng = np.random.default_rng(3)
    odds = rng.normal(0, 3, 2000)
    y = rng.random(2000) < sigmoid(0.4 * odds + 0.8)  # leaning, too: no temperature fits it exactly
    p, found = sigmoid(odds), fit_temperature(sigmoid(odds), y)
    losses = [negative_log_likelihood(sigmoid(log_odds(p) / t), y) for t in (found * 0.98, found, found * 1.02)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_a_probability_of_nothing_is_no_opinion_that_a_temperature_could_change():
    odds = np.linspace(-3, 3, 61)
    p, y, w = both_outcomes(sigmoid(odds), sigmoid(odds / 2))
    with_zeros = (np.append(p, [0, 0]), np.append(y, [True, False]), np.append(w, [5, 5]))
    assert fit_temperature(*with_zeros) == pytest.approx(fit_temperature(p, y, w), rel=1e-6)


def test_outcomes_that_a_threshold_separates_end_at_a_bound():
    temperature = fit_temperature(np.array([0.4, 0.45, 0.6, 0.7]), np.array([0, 0, 1, 1]))
    assert at_a_bound(temperature) and temperature < 0.1
    assert not at_a_bound(1.0)


@pytest.mark.parametrize(("y", "word"), [([0, 0, 0], "outside"), ([1, 1, 1], "inside")])
def test_outcomes_of_one_kind_fit_nothing(y, word):
    with pytest.raises(ProstateXferError, match=f"{word} the reference"):
        fit_temperature(np.array([0.2, 0.5, 0.9]), np.array(y))


def test_one_voxel_that_was_surely_wrong_does_not_outweigh_all_others():
    assert negative_log_likelihood(np.array([0.0]), np.array([1])) == pytest.approx(-np.log(1e-6))
    assert log_odds(np.array([0.0, 0.5, 1.0])) == pytest.approx([-13.8155096, 0, 13.8155096])


def test_a_bin_holds_its_lower_edge_and_the_last_one_both():
    assert bin_of(np.array([0, 0.099, 0.1, 0.5, 0.999, 1.0]), 10).tolist() == [0, 0, 1, 5, 9, 9]


def test_empty_bins_are_no_number_and_no_error():
    table = reliability_table(np.array([0.05, 0.95]), np.array([0, 1]), bins=10)
    assert np.isnan(table.frequency[1:9]).all() and (table.share[1:9] == 0).all()
    assert calibration_error(table) == pytest.approx(0.05)


def test_the_band_is_that_of_patients_and_not_of_voxels():
    """Two kinds of patients, always right and never: whatever the number of voxels, the frequency may be nearly any."""
    groups = np.repeat(np.arange(10), 1000)
    y = np.repeat([0, 1] * 5, 1000)
    p = np.full(10000, 0.5)
    low, high = frequency_band(p, y, groups=groups, bins=2)
    assert np.isnan(low[0]) and np.isnan(high[0])
    # The mean of ten coins: quantiles of a binomial distribution.
    assert low[1] == pytest.approx(0.2) and high[1] == pytest.approx(0.8)
    again = frequency_band(p, y, groups=groups.astype(str), bins=2)
    assert np.array_equal(low, again[0], equal_nan=True)


def test_of_one_patient_no_spread_is_known():
    low, high = frequency_band(np.array([0.2, 0.8, 0.8]), np.array([0, 1, 0]), groups=np.array(["a", "a", "b"]), bins=2)
    assert np.isnan(low[0]) and low[1] == 0 and high[1] == 1


@pytest.mark.parametrize(
    ("p", "y", "w", "match"),
    [
        ([0.1, 1.2], [0, 1], None, "outside 0 to 1"),
        ([0.1, np.nan], [0, 1], None, "outside 0 to 1"),
        ([0.1, 0.2], [0, 2], None, "neither 0 nor 1"),
        ([0.1, 0.2], [0, 1, 1], None, "one length"),
        ([0.1, 0.2], [0, 1], [1.0, -1.0], "weight is negative"),
        ([], [], None, "no voxel"),
    ],
)
def test_what_cannot_be_is_refused(p, y, w, match):
    with pytest.raises(ProstateXferError, match=match):
        brier_score(np.array(p), np.array(y), None if w is None else np.array(w))
