# SPDX-License-Identifier: Apache-2.0
"""FROC curves whose points can be counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import FrocCurve, froc_curve, froc_of_maps

EXAMS = [
    [(1, 0.9, 0.5), (0, 0.8, 0.0), (0, 0.3, 0.0)],
    [(1, 0.4, 0.2), (1, 0.0, 0.0)],
    [(0, 0.4, 0.0)],
    [],
]


def test_a_point_for_every_confidence():
    curve = froc_curve(EXAMS)
    assert curve.thresholds == (0.9, 0.8, 0.4, 0.3)
    assert curve.sensitivity == pytest.approx((1 / 3, 1 / 3, 2 / 3, 2 / 3))
    assert curve.false_positives_per_exam == pytest.approx((0, 1 / 4, 2 / 4, 3 / 4))
    assert (curve.n_exams, curve.n_lesions) == (4, 3)


def test_sensitivity_at_a_price():
    curve = froc_curve(EXAMS)
    assert curve.sensitivity_at(0.0) == pytest.approx(1 / 3)
    assert curve.sensitivity_at(0.49) == pytest.approx(1 / 3)
    assert curve.sensitivity_at(0.5) == pytest.approx(2 / 3)
    assert froc_curve([[(0, 0.9), (1, 0.5)]]).sensitivity_at(0.5) == 0


def test_the_area_is_that_under_straight_lines_and_level_beyond():
    curve = froc_curve(EXAMS)
    rising = (1 / 3 + 2 / 3) / 2 * 1 / 4
    assert curve.area(0.5) == pytest.approx(1 / 3 * 1 / 4 + rising)
    assert curve.area(15) == pytest.approx(1 / 3 * 1 / 4 + rising + 14.5 * 2 / 3)
    half_way = 1 / 3 + 1 / 6
    assert curve.area(0.375) == pytest.approx(1 / 3 * 1 / 4 + (1 / 3 + half_way) / 2 * 1 / 8)
    assert froc_curve([[(1, 0.9)]]).area(15) == pytest.approx(15)


def test_a_point_that_is_worse_and_dearer_does_not_lower_the_area():
    curve = FrocCurve((0.9, 0.5, 0.1), (0.5, 0.2, 0.5), (0.0, 1.0, 0.5), 10, 10)
    assert curve.area(2) == pytest.approx(1.0)


def test_without_a_lesion_there_is_no_sensitivity():
    curve = froc_curve([[(0, 0.5)], []])
    assert math.isnan(curve.sensitivity_at(1)) and math.isnan(curve.area(1)) and math.isnan(curve.sensitivity[0])
    assert curve.false_positives_per_exam == (0.5,)
    assert froc_curve([]).thresholds == ()
    missed = froc_curve([[(1, 0.0)]])
    assert missed.area(15) == 0 and missed.sensitivity_at(15) == 0


def test_maps_are_cut_anew_at_every_threshold():
    reference = np.zeros((1, 1, 20), dtype=bool)
    reference[..., 2:5] = reference[..., 12:15] = True
    probability = np.zeros((1, 1, 20))
    probability[..., 2:6] = 0.8
    probability[..., 6:13] = 0.3  # a bridge to the second lesion
    probability[..., 17:19] = 0.5
    curve = froc_of_maps(iter([(reference, probability)]), [0.1, 0.8, 0.5, 0.9])
    assert curve.thresholds == (0.9, 0.8, 0.5, 0.1)
    assert curve.sensitivity == (0, 0.5, 0.5, 1)
    assert curve.false_positives_per_exam == (0, 0, 1, 1)
    assert (curve.n_exams, curve.n_lesions) == (1, 2)


@pytest.mark.parametrize("thresholds", [[], [0.0, 0.5], [math.nan]])
def test_thresholds_must_leave_something_out(thresholds):
    with pytest.raises(ProstateXferError, match="needs thresholds, all above zero"):
        froc_of_maps([], thresholds)


def test_an_area_of_no_width_is_refused():
    with pytest.raises(ProstateXferError, match="give a number above zero"):
        froc_curve(EXAMS).area(0)


result = st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]))


@given(st.lists(st.lists(result, max_size=6), min_size=1, max_size=6))
def test_counting_one_threshold_after_the_other_gives_the_same(exams):
    exams = [[(lesion, value) for lesion, value in exam if lesion or value > 0] for exam in exams]
    curve = froc_curve(exams)
    flat = [each for exam in exams for each in exam]
    lesions = sum(lesion for lesion, _ in flat)
    for k, threshold in enumerate(curve.thresholds):
        detected = sum(1 for lesion, value in flat if lesion and value >= threshold)
        false = sum(1 for lesion, value in flat if not lesion and value >= threshold)
        assert curve.false_positives_per_exam[k] == pytest.approx(false / len(exams))
        assert curve.sensitivity[k] == pytest.approx(detected / lesions if lesions else math.nan, nan_ok=True)
    assert repr(froc_curve(exams[::-1])) == repr(curve)  # NaN is not equal to itself
