# SPDX-License-Identifier: Apache-2.0
"""Which stratum a lesion belongs to, at the edges too."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import (
    detect_lesions,
    detection_by_stratum,
    stratum_of,
    summarize_by_stratum,
    volume_strata,
)


@pytest.mark.parametrize(
    ("volume", "name"),
    [
        (1e-6, "small"),
        (0.999, "small"),
        (1.0, "medium"),
        (1.5, "medium"),
        (2.0, "medium"),
        (2.001, "large"),
        (90.0, "large"),
    ],
)
def test_one_and_two_cm3_are_medium(volume, name):
    assert stratum_of(volume).name == name


@pytest.mark.parametrize("spacing_mm", [0.4, np.float32(0.4)])
def test_rounding_does_not_move_a_lesion_over_an_edge(spacing_mm):
    spacing = float(spacing_mm)
    assert stratum_of(2500 * spacing * spacing * 2.5 / 1000).name == "medium"
    assert stratum_of(5000 * spacing * spacing * 2.5 / 1000).name == "medium"


def test_no_lesion_has_no_stratum():
    assert stratum_of(0.0) is None and stratum_of(math.nan) is None
    with pytest.raises(ProstateXferError, match="is impossible"):
        stratum_of(-1.0)


def test_other_edges_follow_the_same_rule():
    target = volume_strata([1.0])
    assert [stratum.name for stratum in target] == ["small", "large"]
    assert stratum_of(1.0, target).name == "large"
    four = volume_strata([0.5, 1.0, 2.0])
    assert [stratum_of(volume, four).name for volume in (0.4, 0.5, 1.0, 2.0, 2.1)] == [
        "stratum 1",
        "stratum 2",
        "stratum 3",
        "stratum 3",
        "stratum 4",
    ]
    named = volume_strata([1.0, 2.0], ["klein", "mittel", "gross"])
    assert [stratum.label for stratum in named] == ["< 1 cm³", "1 to 2 cm³", "> 2 cm³"]
    assert [stratum.label for stratum in four] == ["< 0.5 cm³", "0.5 ≤ v < 1 cm³", "1 to 2 cm³", "> 2 cm³"]
    assert [stratum.label for stratum in target] == ["< 1 cm³", "≥ 1 cm³"]


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=5, unique=True), st.floats(1e-3, 100))
def test_every_volume_belongs_to_one_stratum(edges, volume):
    strata = volume_strata(sorted(edges)) if all(np.diff(sorted(edges)) > 1e-3) else volume_strata()
    for tried in (volume, *(stratum.lower_cm3 for stratum in strata[1:])):
        assert sum(tried in stratum for stratum in strata) == 1


@pytest.mark.parametrize("edges", [[], [2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, math.inf], [math.nan]])
def test_edges_must_rise(edges):
    with pytest.raises(ProstateXferError, match="make no strata"):
        volume_strata(edges)


def test_names_must_be_as_many_as_strata():
    with pytest.raises(ProstateXferError, match="as many different names"):
        volume_strata([1.0], ["a", "a"])


def test_values_are_summed_up_by_the_volume_of_their_reference():
    found = summarize_by_stratum([0.5, 0.6, 1.0, 0.0, math.nan], [0.2, math.nan, 0.8, 0.9, 0.9])
    assert [(found[name].n_used, found[name].n_total) for name in ("small", "medium", "large")] == [
        (1, 2),
        (1, 1),
        (0, 0),
    ]
    assert found["small"].mean == 0.2 and math.isnan(found["large"].mean)
    assert "(1 of 2 lesions)" in str(found["small"])
    with pytest.raises(ProstateXferError, match="one each is needed"):
        summarize_by_stratum([1.0], [])


def strip(*lengths):
    """Boxes of so many tenths of a cm³ with gaps between, (1, 1, x) at 10 x 10 x 1 mm."""
    row = []
    for length in lengths:
        row += [1] * abs(length) if length > 0 else [0] * abs(length)
    return np.array(row, dtype=np.uint8).reshape(1, 1, -1)


def test_detection_by_the_reference_and_false_positives_by_themselves():
    reference = strip(5, -5, 15, -5, 30, -10, -15, -10, -5, -10)
    prediction = strip(-4, 6, 5, -15, 30, -10, 15, -10, 5, -10)  # the first box touches small and medium
    exam = detect_lesions(reference, prediction, spacing_zyx=(10.0, 10.0, 1.0))
    small, medium, large = detection_by_stratum([exam, exam])
    assert [(s.n_lesions, s.n_detected, s.n_false_positives) for s in (small, medium, large)] == [
        (2, 2, 2),
        (2, 2, 2),
        (2, 2, 0),
    ]
    assert small.precision == 0.5 and large.precision == 1.0
    assert small.false_positives_per_exam == 1.0
    assert math.isnan(detection_by_stratum([])[0].sensitivity)


def test_strata_need_volumes():
    with pytest.raises(ProstateXferError, match="pass images or a spacing"):
        detection_by_stratum([detect_lesions(strip(5, -5), strip(5, -5))])
