# SPDX-License-Identifier: Apache-2.0
"""Lesion detection against picai_eval: its stored results, and the package itself where it is installed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import detect_lesions, detection_map, froc_curve, picai_candidates, picai_score
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.lesion_detection import LesionDetection

FOLDER = Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics"
DETECTION = json.loads((FOLDER / "detection.json").read_text(encoding="utf-8"))
VARIANTS = DETECTION["variants"]
STATS = json.loads((FOLDER / "stats.json").read_text(encoding="utf-8"))
NAMES = {"min_overlap": "min_overlap", "overlap_func": "overlap", "case_confidence_func": "case_confidence"}
NAMES["allow_unmatched_candidates_with_minimal_overlap"] = "ignore_unmatched_overlapping"


@pytest.fixture(scope="module")
def exams():
    """name -> (reference, detection map)."""
    with np.load(FOLDER / "detection.npz") as file:
        return {str(name): pair for name, *pair in zip(file["names"], file["label"], file["det"], strict=True)}


@pytest.fixture(scope="module")
def picai():
    return pytest.importorskip("picai_eval", reason="the optional package picai_eval is not installed")


def options_of(variant):
    return {NAMES[name]: value for name, value in VARIANTS[variant]["kwargs"].items()}


def detected(exams, variant):
    options = options_of(variant)
    options.pop("case_confidence", None)
    return {name: detect_lesions(*pair, "picai", **options) for name, pair in exams.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_lesion_and_false_positive_of_every_exam(exams, variant):
    for name, exam in detected(exams, variant).items():
        expected = sorted(map(tuple, VARIANTS[variant]["lesion_results"][name]))
        assert sorted(exam.results) == [pytest.approx(each, abs=1e-6) for each in expected], name
        if "bayesian" not in variant:
            assert exam.case_confidence == pytest.approx(VARIANTS[variant]["case_pred"][name], abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_froc_curve(exams, variant):
    curve, expected = froc_curve(detected(exams, variant).values()), VARIANTS[variant]["froc"]
    # Theirs ends in a point at confidence 0 with infinitely many false positives.
    assert expected["thresholds"][-1] == 0 and expected["FPR"][-1] == "inf"
    assert curve.thresholds == pytest.approx(expected["thresholds"][:-1], abs=1e-6)
    assert curve.sensitivity == pytest.approx(expected["TPR"][:-1], abs=1e-6)
    assert curve.false_positives_per_exam == pytest.approx(expected["FPR"][:-1], abs=1e-6)
    assert curve.sensitivity[-1] == pytest.approx(expected["TPR"][-1], abs=1e-6)
    for cost, sensitivity in VARIANTS[variant]["lesion_TPR_at_FPR"].items():
        assert curve.sensitivity_at(float(cost)) == pytest.approx(sensitivity, abs=1e-6)
    assert (curve.n_exams, curve.n_lesions) == (VARIANTS[variant]["num_cases"], VARIANTS[variant]["num_lesions"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_through_the_package(picai, exams, variant):
    found, expected = picai_score(iter(exams.values()), **options_of(variant)), VARIANTS[variant]
    assert found.auroc == pytest.approx(expected["auroc"], abs=1e-9)
    assert found.average_precision == pytest.approx(expected["AP"], abs=1e-9)
    assert found.score == pytest.approx(expected["score"], abs=1e-9)
    assert found.precision == pytest.approx(expected["pr"]["precision"], abs=1e-9)
    assert found.recall == pytest.approx(expected["pr"]["recall"], abs=1e-9)
    assert (found.n_exams, found.n_lesions, found.n_positive) == (10, 10, 8)
    assert repr(found.froc.sensitivity) == repr(froc_curve(detected(exams, variant).values()).sensitivity)


def test_the_package_prints_nothing_here(picai, exams, capfd):
    picai_score(exams.values())
    assert capfd.readouterr().out == ""


def test_cohorts_that_the_package_cannot_score(picai, exams):
    reference, prediction = exams["tp_good"]
    nothing = np.zeros_like(reference)
    empty = picai_score([(nothing, nothing.astype(np.float32))])
    assert math.isnan(empty.auroc) and math.isnan(empty.average_precision) and math.isnan(empty.score)
    negative = picai_score([(nothing, prediction)])
    assert math.isnan(negative.average_precision) and negative.n_exams == 1
    positive = picai_score([(reference, prediction)])
    assert math.isnan(positive.auroc) and positive.average_precision == 1.0
    assert picai_score([]).n_exams == 0


@pytest.mark.parametrize("wrong", ["softmax_instead_of_detection_map", "negative_confidence"])
def test_what_the_package_refuses_is_said_in_a_sentence(picai, exams, wrong):
    reference, prediction = exams["tp_good"]
    smooth = np.random.default_rng(0).random(prediction.shape).astype(np.float32)
    given = smooth if wrong.startswith("softmax") else -prediction
    assert DETECTION["errors"][wrong] == "ValueError"
    with pytest.raises(ProstateXferError, match="Exam number 1 cannot be judged: The prediction"):
        picai_score([(reference, given)])
    with pytest.raises(ProstateXferError):
        detect_lesions(reference, given, "picai")


def boxes(*spans):
    strip = np.zeros((1, 4, 260), dtype=np.float32)
    for start, stop in spans:
        strip[..., start:stop] = 1
    return strip


def test_two_good_matches_may_outweigh_three_poor_ones(picai):
    """The package's text says otherwise; its sum of (1 + IoU) decides, and ours with it."""
    from picai_eval.eval import evaluate_case

    reference = boxes((0, 12), (13, 113), (114, 206))
    prediction = boxes((0, 92), (93, 194), (195, 206))
    iou = [[12 / 92, 0, 0], [79 / 113, 20 / 181, 0], [0, 80 / 113, 11 / 92]]
    assert min(iou[0][0], iou[1][1], iou[2][2]) > 0.10  # all three could be matched
    ours = detect_lesions(reference, prediction, "picai")
    theirs, *_ = evaluate_case(prediction, reference)
    assert sorted(ours.results) == [pytest.approx(each, abs=1e-6) for each in sorted(theirs)]
    assert (ours.true_positives, ours.false_positives) == (2, 0)


@pytest.mark.parametrize("seed", range(30))
def test_random_exams_are_judged_as_the_package_judges_them(picai, seed):
    from picai_eval.eval import evaluate_case
    from scipy import ndimage

    random = np.random.default_rng(seed)
    reference = ndimage.gaussian_filter(random.normal(size=(8, 40, 40)), 1.5) > 0.12
    blobs = ndimage.gaussian_filter(random.normal(size=(8, 40, 40)), 1.5) + 0.6 * reference * random.random()
    components, count = ndimage.label(blobs > 0.15, structure=np.ones((3, 3, 3)))
    confidences = np.append(0, random.permutation(count) + 1).astype(np.float32) / (count + 1)
    prediction = confidences[components]
    ours = detect_lesions(reference, prediction, "picai")
    theirs, confidence, *_ = evaluate_case(prediction, reference.astype(np.int32))
    assert sorted(ours.results) == [pytest.approx(each, abs=1e-6) for each in sorted(theirs)]
    assert ours.case_confidence == pytest.approx(confidence)


@pytest.mark.parametrize("threshold", ["dynamic", "dynamic-fast", 0.25, 0.5])
def test_candidates_are_those_that_the_package_stored(threshold):
    with np.load(FOLDER / "candidates.npz") as file:
        found = detection_map(file["softmax"], threshold)
        assert np.array_equal(found, file[f"det_{threshold}"])
    expected = json.loads((FOLDER / "candidates.json").read_text(encoding="utf-8"))[str(threshold)]
    assert sorted(np.unique(found[found > 0])) == pytest.approx(sorted(c for _, c in expected["confidences"]))


def noise_of(kind, seed):
    """A small map of the kinds in which candidates touch, tie, are too small, or are all there is."""
    from scipy import ndimage

    random = np.random.default_rng(seed)
    shape = (random.integers(3, 16), *random.integers(8, 28, 2))
    smooth = ndimage.gaussian_filter(random.normal(size=shape), random.uniform(0.5, 2.5))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return {
        "smooth": smooth,
        "steps": np.round(8 * smooth) / 8,
        "specks": random.random(shape) * (random.random(shape) < 0.1),
        "saturated": np.where(smooth > 0.7, 1.0, 0.3 * smooth),
        "faint": smooth * random.choice([0.005, 0.02, 0.1]),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["smooth", "steps", "specks", "saturated", "faint"])
def test_candidates_of_noise_are_those_of_the_package_to_the_bit(picai, kind):
    from report_guided_annotation import extract_lesion_candidates

    found = 0
    for seed in range(12):
        probability = noise_of(kind, seed)
        for threshold in ("dynamic", "dynamic-fast", 0.0, 0.25):
            theirs = extract_lesion_candidates(probability.copy(), threshold=threshold)[0]
            ours = detection_map(probability, threshold)
            assert np.array_equal(ours, theirs), (seed, threshold)
            found += ours.any()
    assert found > 12


def test_an_image_is_looked_through_once_for_a_candidate_and_not_for_a_component(monkeypatch):
    probability = np.zeros((12, 120, 120), np.float32)
    probability[::3, ::3, ::3] = np.random.default_rng(0).uniform(0.5, 0.9, (4, 40, 40))  # 6400 components
    probability[3:9, 49:61, 49:61] = 0
    probability[4:8, 50:60, 50:60] = 1
    looks = []
    monkeypatch.setattr(
        picai_candidates, "components_by_volume", lambda mask: looks.append(1) or components_by_volume(mask)
    )
    assert np.array_equal(detection_map(probability), np.where(probability == 1, 1, 0))
    assert len(looks) <= 3


def test_candidates_of_an_image_lie_on_its_grid():
    import SimpleITK as sitk

    with np.load(FOLDER / "candidates.npz") as file:
        image = sitk.GetImageFromArray(file["softmax"])
        image.SetSpacing((0.5, 0.5, 3.0))
        found = detection_map(image)
        assert np.array_equal(sitk.GetArrayFromImage(found), file["det_dynamic"])
    assert found.GetSpacing() == image.GetSpacing()
    assert not detection_map(np.zeros((4, 8, 8))).any()
    with pytest.raises(ProstateXferError, match="apply softmax or sigmoid"):
        detection_map(np.full((4, 8, 8), 3.0))
    with pytest.raises(ProstateXferError, match="threshold 'otsu' is unknown"):
        detection_map(np.zeros((4, 8, 8)), "otsu")


@pytest.mark.parametrize("case", STATS["f2"])
def test_f2_from_counts(case):
    empty = np.zeros((1, 1, 100), dtype=np.uint8)
    reference, prediction = empty.copy(), empty.copy()
    for k in range(case["tp"]):
        reference[..., 2 * k] = prediction[..., 2 * k] = 1
    for k in range(case["fn"]):
        reference[..., 40 + 2 * k] = 1
    for k in range(case["fp"]):
        prediction[..., 70 + 2 * k] = 1
    exam = detect_lesions(reference, prediction)
    assert isinstance(exam, LesionDetection)
    assert (exam.true_positives, exam.false_positives, exam.false_negatives) == (case["tp"], case["fp"], case["fn"])
    assert exam.f_beta(2.0) == pytest.approx(float(case["f2"]), nan_ok=True)
