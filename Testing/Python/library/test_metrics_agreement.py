# SPDX-License-Identifier: Apache-2.0
"""Volume RMSE, ICC(A,1) and Bland-Altman by hand and by their properties; parity is in the same golden file."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import bland_altman, icc_a1, volume_rmse

GOLDEN = json.loads(
    (Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics" / "stats.json").read_text(encoding="utf-8")
)
REFERENCE, PREDICTION = GOLDEN["volume_ref_ml"], GOLDEN["volume_pred_ml"]
FUNCTIONS = (volume_rmse, icc_a1, bland_altman)


def test_icc_and_rmse_are_those_of_pingouin_and_the_challenge():
    assert icc_a1(REFERENCE, PREDICTION).value == pytest.approx(GOLDEN["icc_2_1"], abs=1e-9)
    in_mm3 = [np.array(values) * 1000 for values in (REFERENCE, PREDICTION)]
    assert volume_rmse(*in_mm3).value == pytest.approx(GOLDEN["rmse_volume_mm3"], rel=1e-9)


def test_the_interval_of_the_icc_is_that_of_pingouin():
    found = icc_a1(REFERENCE, PREDICTION)
    assert (round(found.low, 2), round(found.high, 2)) == (0.76, 0.97)  # pingouin 0.7.0 rounds to two digits
    wider = icc_a1(REFERENCE, PREDICTION, confidence=0.99)
    assert wider.low < found.low < found.value < found.high < wider.high


def test_the_textbook_case_of_shrout_and_fleiss():
    # Psychol Bull 1979;86:420, table 2, first two judges: ICC(2,1) from its analysis of variance by hand.
    one, two = np.array([9, 6, 8, 7, 10, 6.0]), np.array([2, 1, 4, 1, 5, 2.0])
    table = np.stack([one, two], axis=1)
    total = table.mean()
    rows = 2 * ((table.mean(axis=1) - total) ** 2).sum() / 5
    columns = 6 * ((table.mean(axis=0) - total) ** 2).sum() / 1
    error = (((table - total) ** 2).sum() - 5 * rows - columns) / 5
    expected = (rows - error) / (rows + error + 2 * (columns - error) / 6)
    assert icc_a1(one, two).value == pytest.approx(expected)


def test_a_constant_offset_is_no_agreement():
    one = np.arange(10.0)
    assert icc_a1(one, one).value == pytest.approx(1)
    assert icc_a1(one, one + 5).value < 0.5


def test_bland_altman_by_hand():
    found = bland_altman([1, 2, 3, 4], [2, 2, 5, 5])
    differences = np.array([1, 0, 2, 1.0])
    sd = differences.std(ddof=1)
    assert found.differences == tuple(differences) and found.means == (1.5, 2.0, 4.0, 4.5)
    assert (found.bias, found.sd) == (1.0, pytest.approx(sd))
    assert found.upper == pytest.approx(1 + 1.959964 * sd)
    assert found.lower == pytest.approx(1 - 1.959964 * sd)
    student = 3.182446  # t with 3 degrees of freedom, two-sided 95 %
    assert found.bias_interval == pytest.approx((1 - student * sd / 2, 1 + student * sd / 2), rel=1e-6)
    reach = student * sd * math.sqrt(1 / 4 + 1.959964**2 / 6)
    assert found.upper_interval == pytest.approx((found.upper - reach, found.upper + reach), rel=1e-5)


def test_cases_without_a_value_are_left_out_and_counted():
    one, two = [1.0, math.nan, 3.0, 5.0], [1.5, 2.0, math.nan, 5.5]
    for function in FUNCTIONS:
        found = function(one, two)
        assert (found.n_used, found.n_total) == (2, 4)
    assert volume_rmse(one, two).value == pytest.approx(0.5)
    assert bland_altman(one, two).bias == pytest.approx(0.5)


@pytest.mark.parametrize("cases", [0, 1])
def test_too_few_cases_have_no_spread(cases):
    one, two = [2.0] * cases, [3.0] * cases
    assert math.isnan(icc_a1(one, two).value)
    assert math.isnan(bland_altman(one, two).upper)
    assert volume_rmse(one, two).value == pytest.approx(1.0 if cases else math.nan, nan_ok=True)


def test_no_spread_at_all_has_no_icc():
    assert math.isnan(icc_a1([2.0, 2.0], [2.0, 2.0]).value)


def test_lengths_must_match():
    for function in FUNCTIONS:
        with pytest.raises(ProstateXferError, match="match the cases first"):
            function([1.0, 2.0], [1.0])


volumes = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=3, max_size=20)


@given(volumes, st.floats(0.1, 10), st.floats(-5, 5), st.randoms(use_true_random=False))
def test_agreement_is_symmetric_and_knows_neither_unit_nor_order(pairs, factor, shift, random):
    one, two = np.array(pairs).T
    found = icc_a1(one, two)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    for other in (icc_a1(two, one), icc_a1(*np.array(shuffled).T), icc_a1(factor * one + shift, factor * two + shift)):
        if np.ptp(one) + np.ptp(two) > 1e-3:
            assert other.value == pytest.approx(found.value, abs=1e-6, nan_ok=True)
    assert found.value <= 1 + 1e-9 or math.isnan(found.value)
    assert bland_altman(one, two).bias == pytest.approx(-bland_altman(two, one).bias)
    assert volume_rmse(factor * one, factor * two).value == pytest.approx(factor * volume_rmse(one, two).value)


def test_hardly_any_freedom_makes_no_fuss():
    for two in ([4.0, 4.0, 2.0], [1.0, 1.0, 3.0000001], [1.0, 1.0, 1.0], [3.0, 3.0, 1.0]):
        found = icc_a1([1.0, 1.0, 3.0], two)
        assert math.isnan(found.low) or found.low <= found.high
