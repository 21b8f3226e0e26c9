# SPDX-License-Identifier: Apache-2.0
"""A cohort: every aggregate knows of how many cases it is, whatever failed and however many processes worked."""

import math

import numpy as np
import pytest
from watchers.watcher import Watcher

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.agreement import volume_agreements
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.detection import detections
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.evaluation.method_comparison import compare_methods
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.run import run_evaluation
from ProstateXferLib.evaluation.summaries import Summaries
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image

GRID = Grid((32, 32, 10), (1.0, 1.0, 3.0))
NAMED = {
    "prediction_names": LabelNames({1: "Prostate", 2: "DIL"}),
    "reference_names": LabelNames({1: "Prostate", 2: "DIL"}),
}


def study(shift=0, lesion=0, stray=False):
    """A gland of 16 x 16 x 6 voxels; a lesion of `lesion` voxels per side and 2 slices (3 mm) in its middle."""
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[2:8, 8 + shift : 24 + shift, 8:24] = 1
    labels[4:6, 14 + shift : 14 + shift + lesion, 14 : 14 + lesion] = 2
    if stray:
        labels[3, 20:22, 20:22] = 2
    return labels


@pytest.fixture
def cohort(tmp_path):
    """cohort(*cases): files of cases that are dicts of role to labels, confidences or raw bytes."""

    def write(*cases):
        found = []
        for number, roles in enumerate(cases):
            files = {}
            for role, content in roles.items():
                files[role] = tmp_path / f"{role}{number}.nii.gz"
                if isinstance(content, bytes):
                    files[role].write_bytes(content)
                else:
                    write_image(GRID.image(content), files[role])
            found.append(CaseFiles(f"case{number}", files))
        return found

    return write


def pair(prediction, reference, **more):
    return {"prediction": prediction, "reference": reference, **more}


def test_results_do_not_depend_on_the_number_of_processes(cohort):
    cases = cohort(*(pair(study(k % 3, 4), study(0, 3 + k % 2)) for k in range(5)), pair(b"bad", study()))
    one, two = (run_evaluation(cases, EvaluationOptions(), jobs=jobs, progress=Watcher()) for jobs in (1, 2))
    assert one.results == two.results
    assert [row.summary for row in Summaries(one).rows] == [row.summary for row in Summaries(two).rows]


def test_a_failed_case_is_counted_and_in_no_mean(cohort):
    cases = cohort(pair(study(), study()), pair(b"bad", study()), {"reference": study()})
    evaluation = run_evaluation(cases, EvaluationOptions(), jobs=1)
    assert evaluation.n_failed == 2
    summary = Summaries(evaluation).of("prediction", "Prostate", "dice")
    assert (summary.mean, summary.n_used, summary.n_total) == (1.0, 1, 3)
    assert [case for case, _, _ in evaluation.failures] == ["case1", "case2"]
    assert "no prediction" in evaluation.failures[1][2]


def test_a_cohort_in_which_every_case_fails_is_an_error_with_the_first_sentence(cohort):
    with pytest.raises(ProstateXferError, match="None of the 2 cases .* 'case0': .*damaged"):
        run_evaluation(cohort(*[pair(b"bad", study())] * 2), EvaluationOptions(), jobs=1)


def test_a_structure_that_one_case_has_is_evaluated_in_all(cohort):
    """A negative patient without a finding is two empty masks, and counts."""
    cases = cohort(pair(study(0, 4), study(0, 4)), pair(study(), study()), pair(study(), study()))
    evaluation = run_evaluation(cases, EvaluationOptions(), jobs=1)
    assert evaluation.column("prediction", "DIL", "dice") == [1, 1, 1]
    assert evaluation.column("prediction", "DIL", "volume_reference")[1:] == [0, 0]
    assert len(evaluation.exams("prediction", "DIL")) == 3
    assert math.isnan(evaluation.column("prediction", "DIL", "lesion_sensitivity")[1])


def test_what_one_side_never_speaks_of_is_told_and_left_out_unless_it_is_named(cohort):
    cases = cohort(pair(study(), study(0, 4)), pair(study(), study()))
    watch = Watcher()
    evaluation = run_evaluation(cases, EvaluationOptions(), jobs=1, progress=watch)
    assert evaluation.structures == ("Prostate",)
    assert "No prediction speaks of DIL" in watch.warnings[0]
    named = run_evaluation(cases, EvaluationOptions(**NAMED), jobs=1)
    assert named.column("prediction", "DIL", "dice") == [0, 1]
    asked = run_evaluation(cases, EvaluationOptions(structures=("DIL",)), jobs=1)
    assert asked.structures == ("DIL",)
    assert asked.column("prediction", "DIL", "dice") == [0, 1]


def test_nothing_in_common_is_an_error_that_says_what_to_do(cohort):
    options = EvaluationOptions(reference_names=LabelNames({1: "Bladder"}))
    with pytest.raises(ProstateXferError, match="no structure in common.*--names"):
        run_evaluation(cohort(pair(study(), study())), options, jobs=1, progress=Watcher())


def test_detection_is_summed_over_lesions_strata_and_exams(cohort):
    """Lesions of 0.6, 1.5 and 2.4 cm³: the first is missed, and one exam has a false positive."""
    sizes = [10, 16]
    cases = cohort(
        pair(study(), study(0, sizes[0])),
        pair(study(0, sizes[1], stray=False), study(0, sizes[1])),
        pair(study(0, 0, stray=True), study()),
    )
    (found,) = detections(run_evaluation(cases, EvaluationOptions(**NAMED), jobs=1))
    whole = found.summaries["Any overlap"]
    assert (whole.n_lesions, whole.n_detected, whole.n_false_positives, whole.n_exams) == (2, 1, 1, 3)
    assert found.summaries["Any overlap, ≥ 1 cm³"].n_lesions == 1
    by_name = {one.stratum.name: one for one in found.strata}
    assert (by_name["small"].n_lesions, by_name["small"].n_detected, by_name["small"].n_false_positives) == (1, 0, 1)
    assert (by_name["medium"].n_lesions, by_name["medium"].n_detected) == (1, 1)
    assert found.point == pytest.approx((1 / 3, 1 / 2))
    assert found.curve is None


def confidences(*parts):
    voxels = np.zeros(GRID.shape_zyx, np.float32)
    for box, value in parts:
        voxels[box] = value
    return voxels


LESION_BOX, AWAY = np.s_[4:6, 14:18, 14:18], np.s_[8:9, 2:4, 2:4]


def test_detection_maps_make_an_exact_curve(cohort):
    cases = cohort(
        pair(study(0, 4), study(0, 4), confidence=confidences((LESION_BOX, 0.9), (AWAY, 0.333))),
        pair(study(0, 4), study(0, 4), confidence=confidences((LESION_BOX, 0.2))),
    )
    (found,) = detections(run_evaluation(cases, EvaluationOptions(), jobs=1))
    assert found.curve.thresholds == pytest.approx((0.9, 0.333, 0.2))
    assert found.curve.sensitivity == (0.5, 0.5, 1.0)
    assert found.curve.false_positives_per_exam == (0.0, 0.5, 0.5)


def test_probability_maps_are_cut_at_the_thresholds(cohort):
    graded = confidences((LESION_BOX, 0.3), (np.s_[4:6, 14:16, 14:18], 0.8), (AWAY, 0.5))
    cases = cohort(pair(study(0, 4), study(0, 4), confidence=graded))
    options = EvaluationOptions(thresholds=(0.1, 0.45, 0.6, 0.9))
    (found,) = detections(run_evaluation(cases, options, jobs=1))
    assert found.curve.thresholds == (0.9, 0.6, 0.45, 0.1)
    assert found.curve.sensitivity == (0, 1, 1, 1)
    assert found.curve.false_positives_per_exam == (0, 0, 1, 1)


def test_confidences_above_one_fail_their_case_in_a_sentence(cohort):
    cases = cohort(
        pair(study(0, 4), study(0, 4)),
        pair(study(0, 4), study(0, 4), confidence=confidences((LESION_BOX, 3.0))),
    )
    evaluation = run_evaluation(cases, EvaluationOptions(), jobs=1)
    assert "values must be between 0 and 1" in evaluation.failures[0][2]


def test_two_methods_are_tested_on_the_pairs_that_both_have(cohort):
    cases = cohort(
        *(pair(study(1 + k % 2), study(), other=study(3 + k % 3)) for k in range(8)), pair(study(1), study())
    )
    evaluation = run_evaluation(cases, EvaluationOptions(methods=("A", "B")), jobs=1)
    tests = {test.metric.key: test.comparison for test in compare_methods(evaluation)}
    assert {"dice", "hd95", "centroid_distance"} <= tests.keys()
    assert (tests["dice"].n_used, tests["dice"].n_total) == (8, 9)
    assert tests["dice"].median_difference < 0
    assert tests["dice"].p < tests["dice"].p_adjusted <= 1
    assert tests["dice"].correction == "holm"
    summaries = Summaries(evaluation)
    assert summaries.of("A", "Prostate", "dice").n_used == 9
    assert summaries.of("B", "Prostate", "dice").n_used == 8


def test_volumes_agree_over_the_cases_that_did_not_fail(cohort):
    evaluation = run_evaluation(cohort(pair(study(1), study()), pair(b"", study())), EvaluationOptions(), jobs=1)
    (found,) = volume_agreements(evaluation)
    assert (found.bland_altman.bias, found.rmse_cm3.value) == (0, 0)
    assert (found.bland_altman.n_used, found.bland_altman.n_total) == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"methods": ("A", "A")},
        {"tolerances_mm": ()},
        {"tolerances_mm": (-1.0,)},
        {"tolerances_mm": (1.0, 1.0)},
        {"strata_edges_cm3": (2.0, 1.0)},
        {"hu_range": (100.0, -100.0)},
        {"empty": "worst"},
    ],
)
def test_options_without_meaning_are_refused_before_any_work(wrong):
    with pytest.raises(ProstateXferError):
        EvaluationOptions(**wrong)
