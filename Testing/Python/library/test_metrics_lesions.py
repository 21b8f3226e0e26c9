# SPDX-License-Identifier: Apache-2.0
"""Lesion detection by both rules, on boxes whose overlaps are known."""

import math
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import detect_lesions, picai_score, summarize_detection

SPACING_ZYX = (3.0, 0.5, 0.5)


def boxes(*spans, value=1, dtype=np.uint8, length=200):
    """A strip (1, 4, length) with boxes over the given spans of x."""
    strip = np.zeros((1, 4, length), dtype=dtype)
    for start, stop in spans:
        strip[..., start:stop] = value
    return strip


def test_any_voxel_in_common_detects_a_lesion():
    reference = boxes((10, 20), (40, 50), (80, 90))
    prediction = boxes((19, 30), (120, 130))
    exam = detect_lesions(reference, prediction)
    assert (exam.true_positives, exam.false_negatives, exam.false_positives) == (1, 2, 1)
    assert exam.sensitivity == pytest.approx(1 / 3)
    assert exam.precision == pytest.approx(1 / 2)
    assert exam.f_beta() == pytest.approx(5 / (5 + 4 * 2 + 1))


def test_one_component_over_two_lesions_detects_both():
    exam = detect_lesions(boxes((10, 20), (22, 30)), boxes((15, 25)))
    assert (exam.true_positives, exam.false_positives) == (2, 0)


def test_two_components_on_one_lesion_are_one_detection():
    exam = detect_lesions(boxes((10, 40)), boxes((5, 15), (30, 50)))
    assert (exam.true_positives, exam.false_positives) == (1, 0)
    (lesion,) = exam.lesions
    assert lesion.candidates == (1, 2)
    assert lesion.dice == pytest.approx(2 * 15 / (30 + 30))
    assert lesion.iou == pytest.approx(15 / 45)


@pytest.mark.parametrize("rule", ["any-overlap", "picai"])
@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ((), (), (math.nan, math.nan, math.nan, 0)),
        ((), ((0, 9),), (math.nan, 0.0, 0.0, 1)),
        (((0, 9),), (), (0.0, math.nan, 0.0, 0)),
        (((0, 9),), ((0, 9),), (1.0, 1.0, 1.0, 0)),
    ],
)
def test_empty_masks_are_no_error(rule, reference, prediction, expected):
    exam = detect_lesions(boxes(*reference), boxes(*prediction), rule)
    found = (exam.sensitivity, exam.precision, exam.f_beta(), exam.false_positives)
    assert found == pytest.approx(expected, nan_ok=True)


def test_picai_needs_a_tenth_of_the_union():
    reference = boxes((0, 50))
    just = detect_lesions(reference, boxes((45, 50)), "picai")  # IoU 5/50
    below = detect_lesions(reference, boxes((46, 50)), "picai")
    assert (just.true_positives, just.false_positives) == (1, 0)
    assert (below.true_positives, below.false_negatives, below.false_positives) == (0, 1, 1)
    assert detect_lesions(reference, boxes((46, 50)), "any-overlap").true_positives == 1


def test_picai_ignores_a_second_candidate_on_a_lesion():
    reference, prediction = boxes((0, 40)), boxes((0, 20), (25, 40))
    exam = detect_lesions(reference, prediction, "picai")
    assert [candidate.verdict for candidate in exam.candidates] == ["true", "ignored"]
    strict = detect_lesions(reference, prediction, "picai", ignore_unmatched_overlapping=False)
    assert [candidate.verdict for candidate in strict.candidates] == ["true", "false"]


def test_picai_prefers_two_matches_to_one_better_match():
    reference, prediction = boxes((0, 20), (21, 60)), boxes((10, 50), (52, 60))
    exam = detect_lesions(reference, prediction, "picai")
    assert exam.true_positives == 2
    assert [lesion.candidates for lesion in exam.lesions] == [(2,), (1,)]


def test_a_dice_overlap_can_be_asked_for():
    exam = detect_lesions(boxes((0, 50)), boxes((46, 50)), "picai", overlap="DSC")
    assert exam.true_positives == 1
    assert exam.results == [(1, 1.0, pytest.approx(2 * 4 / 54))] and exam.overlap == "DSC"


def test_a_floating_point_prediction_has_confidences():
    prediction = boxes((0, 9), value=0.7, dtype=np.float32) + boxes((50, 59), value=0.2, dtype=np.float32)
    exam = detect_lesions(boxes((5, 12)), prediction, "picai")
    assert exam.case_confidence == pytest.approx(0.7)
    assert [result[:2] for result in exam.results] == [(1, pytest.approx(0.7)), (0, pytest.approx(0.2))]
    assert detect_lesions(boxes((5, 12)), boxes()).case_confidence == 0


def test_a_probability_map_is_no_detection_map():
    smooth = np.linspace(0.01, 0.99, 800).reshape(1, 4, 200)
    with pytest.raises(ProstateXferError, match=r"make one with detection_map\(probabilities\) first"):
        detect_lesions(boxes((0, 9)), smooth, "picai")
    assert detect_lesions(boxes((0, 9)), smooth, "any-overlap").true_positives == 1


def test_corners_connect_unless_faces_are_asked_for():
    diagonal = np.zeros((2, 2, 2), dtype=bool)
    diagonal[0, 0, 0] = diagonal[1, 1, 1] = True
    assert len(detect_lesions(diagonal, diagonal).lesions) == 1
    assert len(detect_lesions(diagonal, diagonal, connectivity=6).lesions) == 2
    assert len(detect_lesions(diagonal, diagonal, "picai", connectivity=6).lesions) == 1


def test_volumes_and_distances_are_those_of_the_geometry():
    reference, prediction = boxes((0, 40), (100, 110)), boxes((6, 40), (150, 160))
    exam = detect_lesions(reference, prediction, spacing_zyx=SPACING_ZYX)
    assert [lesion.volume_cm3 for lesion in exam.lesions] == pytest.approx([160 * 0.75e-3, 40 * 0.75e-3])
    assert exam.lesions[0].centroid_distance_mm == pytest.approx(3 * 0.5)
    # Missed: the nearest candidate, however far.
    assert exam.lesions[1].centroid_distance_mm == pytest.approx(50 * 0.5)
    image, other = (sitk.GetImageFromArray(array) for array in (reference, prediction))
    for each in (image, other):
        each.SetSpacing(SPACING_ZYX[::-1])
        each.SetDirection((0, 1, 0, 0, 0, 1, 1, 0, 0))
    assert detect_lesions(image, other) == exam
    without = detect_lesions(reference, prediction)
    assert math.isnan(without.lesions[0].volume_cm3) and math.isnan(without.lesions[0].centroid_distance_mm)


def test_the_subset_of_large_lesions():
    voxel_cm3 = 0.01
    spacing = (10.0, 1.0, 1.0)
    assert math.prod(spacing) / 1000 == voxel_cm3
    reference = boxes((0, 25), (40, 50))  # 1.0 and 0.4 cm³
    prediction = boxes((20, 24), (42, 44), (60, 90), (110, 120))  # on each lesion, 1.2 and 0.4 cm³ beside
    exam = detect_lesions(reference, prediction, spacing_zyx=spacing)
    assert (len(exam.lesions), exam.true_positives, exam.false_positives) == (2, 2, 2)
    large = exam.above(1.0)
    assert (len(large.lesions), large.true_positives, large.false_positives) == (1, 1, 1)
    with pytest.raises(ProstateXferError, match="pass images or a spacing"):
        detect_lesions(reference, prediction).above(1.0)


def test_a_cohort_counts_every_exam_for_false_positives_and_says_what_it_used():
    exams = [
        detect_lesions(boxes((0, 9), (20, 29)), boxes((0, 9))),  # sensitivity 1/2
        detect_lesions(boxes(), boxes((0, 9), (20, 29))),  # two false positives, no sensitivity
        detect_lesions(boxes(), boxes()),  # nothing at all
    ]
    found = summarize_detection(exams)
    assert (found.n_exams, found.n_lesions, found.n_detected, found.n_false_positives) == (3, 2, 1, 2)
    assert found.false_positives_per_exam == pytest.approx(2 / 3)
    assert found.pooled_sensitivity == 0.5 and found.pooled_precision == pytest.approx(1 / 3)
    assert (found.sensitivity.mean, found.sensitivity.n_used, found.sensitivity.n_total) == (0.5, 1, 3)
    assert (found.f_beta.n_used, found.false_positives.n_used) == (2, 3)
    assert found.f_beta.median == pytest.approx((5 / 9 + 0) / 2)
    assert math.isnan(summarize_detection([]).pooled_sensitivity)


@given(st.integers(0, 2**32 - 1), st.permutations(range(3)), st.sampled_from(["any-overlap", "picai"]))
def test_detection_knows_neither_place_nor_order_of_axes(seed, axes, rule):
    random = np.random.default_rng(seed)
    pair = [random.random((4, 9, 9)) < 0.12 for _ in range(2)]
    spacing = np.array([3.0, 0.5, 0.7])
    moved = [np.pad(mask, ((1, 0), (3, 2), (0, 5))).transpose(axes) for mask in pair]
    one = detect_lesions(*pair, rule, spacing_zyx=spacing)
    two = detect_lesions(*moved, rule, spacing_zyx=spacing[list(axes)])
    assert (one.true_positives, one.false_positives) == (two.true_positives, two.false_positives)
    assert sorted(lesion.volume_cm3 for lesion in one.lesions) == pytest.approx(
        sorted(lesion.volume_cm3 for lesion in two.lesions)
    )


@given(st.integers(0, 2**32 - 1))
def test_any_overlap_is_symmetric_in_what_touches(seed):
    random = np.random.default_rng(seed)
    pair = [random.random((3, 8, 8)) < 0.15 for _ in range(2)]
    one, two = detect_lesions(*pair), detect_lesions(*pair[::-1])
    assert len(one.lesions) == len(two.candidates)
    assert one.false_negatives == two.false_positives
    assert one.false_positives == two.false_negatives


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "froc"}, "rule 'froc' is unknown"),
        ({"connectivity": 18}, "cannot be 18-connected"),
        ({"rule": "picai", "overlap": "HD"}, "overlap 'HD' is unknown"),
        ({"rule": "picai", "min_overlap": 0.0}, "least overlap of 0.0 is impossible"),
        ({"prediction": -boxes((0, 9), dtype=np.float32)}, "confidences below zero"),
        ({"prediction": np.ones((2, 2, 2))}, "they must be equal"),
        ({"reference": np.ones((2, 2)), "prediction": np.ones((2, 2))}, "matched in 3-D"),
    ],
)
def test_what_cannot_be_matched_is_refused(options, message):
    arguments = {"reference": boxes((0, 9)), "prediction": boxes((0, 9))} | options
    with pytest.raises(ProstateXferError, match=message):
        detect_lesions(**arguments)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "picai_eval", None)
    with pytest.raises(ProstateXferError, match=r"need the package picai_eval.*prostatexfer\[evaluate\]"):
        picai_score([])


def test_lesions_of_real_cases_are_found_by_themselves_and_missed_by_nothing(real_data):
    for folder in sorted((real_data / "real" / "picai_masks").glob("*"))[::4]:
        lesion, gland = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("lesion", "gland"))
        gland.CopyInformation(lesion)  # directions differ in the sixth digit
        pieces = sitk.ConnectedComponent(lesion > 0, True)
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.Execute(pieces)
        volumes = sorted((statistics.GetPhysicalSize(k) / 1000 for k in statistics.GetLabels()), reverse=True)
        itself = detect_lesions(lesion, lesion, "picai")
        assert [each.volume_cm3 for each in itself.lesions] == pytest.approx(volumes)
        assert itself.sensitivity == 1 and itself.false_positives == 0
        # A gland that covers every lesion detects all of them by any overlap, and hardly any by a tenth of the union.
        assert detect_lesions(lesion, gland > 0).precision >= detect_lesions(lesion, gland > 0, "picai").precision
