# SPDX-License-Identifier: Apache-2.0
"""The tuned threshold is the one with the best mean F2 over exams, and it is not tuned on nothing."""

import numpy as np
import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.detection_threshold import tune_threshold


def exam(lesion=None, *blobs):
    """Reference with a cube at `lesion`, probability with cubes at (position, probability)."""
    reference, probability = np.zeros((8, 24, 24), bool), np.zeros((8, 24, 24), np.float32)
    if lesion is not None:
        reference[cube(lesion)] = True
    for place, value in blobs:
        probability[cube(place)] = value
    return reference, probability


def cube(place):
    return tuple(slice(start, start + 3) for start in (3, *place))


HIT, AWAY = (2, 2), (15, 15)


def test_it_parts_true_findings_from_false_ones():
    exams = [exam(HIT, (HIT, 0.62), (AWAY, 0.33)), exam(HIT, (HIT, 0.71), (AWAY, 0.28))]
    tuned = tune_threshold(exams)
    assert 0.33 < tuned.threshold <= 0.62
    assert tuned.f_beta == 1.0
    # 0.35 to 0.60 are all perfect: the middle of them is farthest from both falls.
    assert tuned.threshold == pytest.approx(0.45)


def test_a_missed_lesion_costs_more_than_a_false_finding():
    """Low: one hit and one false finding in each exam, F2 = 5·0.5/(4·0.5+1) = 5/6. High: the second exam misses."""
    exams = [exam(HIT, (HIT, 0.9), (AWAY, 0.4)), exam(HIT, (HIT, 0.4), (AWAY, 0.4))]
    tuned = tune_threshold(exams, thresholds=(0.3, 0.7))
    assert tuned.threshold == 0.3
    assert dict(tuned.tried) == {0.3: pytest.approx(5 / 6), 0.7: pytest.approx(0.5)}


def test_exams_are_averaged_and_not_their_lesions_pooled():
    """Pooled, two exams of which one has a false finding give 10/11; their mean is (1 + 5/6) / 2."""
    exams = [exam(HIT, (HIT, 0.9)), exam(HIT, (HIT, 0.9), (AWAY, 0.9))]
    assert tune_threshold(exams, thresholds=(0.5,)).f_beta == pytest.approx((1 + 5 / 6) / 2)


def test_an_exam_without_lesion_and_finding_says_nothing():
    exams = [exam(HIT, (HIT, 0.9)), exam(None)]
    assert tune_threshold(exams, thresholds=(0.5,)).f_beta == 1.0


@pytest.mark.parametrize(
    ("exams", "thresholds", "sentence"),
    [
        ([], (0.5,), "without a lesion"),
        ([exam(None, (AWAY, 0.9))], (0.5,), "without a lesion"),
        ([exam(HIT, (HIT, 0.9))], (0.0, 0.5), "between 0 and 1"),
        ([exam(HIT, (HIT, 0.9))], (), "between 0 and 1"),
    ],
)
def test_what_cannot_be_tuned_is_said(exams, thresholds, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        tune_threshold(exams, thresholds=thresholds)
