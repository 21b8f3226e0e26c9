# SPDX-License-Identifier: Apache-2.0
"""A calibration finds the temperature by which probabilities were spoiled, and reports it on others than it was
fitted on."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from watchers.watcher import Watcher

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.metrics.calibration import brier_score, fit_temperature, negative_log_likelihood
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.studies.calibration.calibrated_checkpoint import (
    check_calibrated_checkpoint,
    write_calibrated_checkpoint,
)
from ProstateXferLib.studies.calibration.case_list import CalibrationCase, read_case_list
from ProstateXferLib.studies.calibration.fitting import fit_structure
from ProstateXferLib.studies.calibration.options import CalibrationOptions
from ProstateXferLib.studies.calibration.references import paired_with, reference_mask
from ProstateXferLib.studies.calibration.run import run_calibration
from ProstateXferLib.studies.calibration.voxels import case_voxels, near_structure

GRID = Grid((48, 32, 4), (1.0, 1.0, 3.0))
OPTIONS = CalibrationOptions(data="test cases")
TRUE = 2.5


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values)))


def drawn_case(name, odds, true, *, patient=None, seed=0):
    """A case whose outcomes are drawn as if the log-odds divided by `true` were right."""
    happened = np.random.default_rng(seed).random(odds.shape) < sigmoid(odds / true)
    whole = np.ones(odds.shape, bool)
    return case_voxels(sigmoid(odds), happened, whole, case=name, patient=patient or name)


@pytest.fixture(scope="module")
def model(tmp_path_factory, threshold_state, segmentation_card):
    """A checkpoint for gland (brighter than 300) and DIL (darker than -300)."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    state = threshold_state(gland=(0.3,), dil=(0.3,), inverted=("dil",))
    return load_checkpoint(write_checkpoint(path, segmentation_card("gland", "dil"), state))


@pytest.fixture(scope="module")
def cases(tmp_path_factory, model):
    """Six cases whose gland references are drawn from the model's own log-odds divided by `TRUE`."""
    segmenter, folder, found = Segmenter(model, device="cpu"), tmp_path_factory.mktemp("cases"), []
    for k in range(6):
        rng = np.random.default_rng(k)
        array = np.full(GRID.shape_zyx, -100, np.int16)
        array[:, 2:30, 2:46] = rng.integers(100, 500, (4, 28, 44))
        p = sitk.GetArrayFromImage(segmenter.predict(GRID.image(array)).probabilities["Prostate"]).astype(np.float64)
        odds = np.log(np.clip(p, 1e-6, 1 - 1e-6) / (1 - np.clip(p, 1e-6, 1 - 1e-6)))
        labels = ((rng.random(p.shape) < sigmoid(odds / TRUE)) & (p > 0)).astype(np.uint8)
        paths = [folder / f"{k}-{role}.nii.gz" for role in ("image", "reference")]
        for path, volume in zip(paths, (array, labels), strict=True):
            write_image(GRID.image(volume), path)
        found.append(CalibrationCase(f"case {k}", f"patient {k}", {"T2w": paths[0]}, paths[1]))
    return found


def test_the_models_spoiled_probabilities_are_mended(model, cases):
    watch = Watcher()
    (fitted,) = run_calibration(model, cases, OPTIONS, device="cpu", progress=watch)
    found = fitted.calibration
    assert (found.structure, found.cases, found.patients, found.folds) == ("Prostate", 6, 6, 5)
    assert found.temperature == pytest.approx(TRUE, rel=0.06)
    assert found.temperature_low <= found.temperature <= found.temperature_high
    assert found.after.calibration_error < 0.03 < found.before.calibration_error
    assert found.after.brier < found.before.brier
    assert found.after.negative_log_likelihood < found.before.negative_log_likelihood
    assert all(gain > 0 for gain in fitted.gains.values()) and fitted.gain.low > 0 and not fitted.warnings
    assert watch.warnings == ["'DIL' is not calibrated: no reference shows it."]
    assert Calibration.from_json(found.to_json()) == found
    assert watch.fractions == sorted(watch.fractions) and watch.fractions[-1] == 1


def test_an_earlier_temperature_does_not_count_when_it_is_fitted_anew(model, cases):
    (first,) = run_calibration(model, cases[:3], OPTIONS, device="cpu", progress=Watcher())
    warm = replace(model, card=replace(model.card, calibration=(replace(first.calibration, temperature=9.0),)))
    (again,) = run_calibration(warm, cases[:3], OPTIONS, device="cpu", progress=Watcher())
    assert again.calibration == first.calibration


def test_whoever_stops_gets_nothing(model, cases):
    with pytest.raises(CancelledError):
        run_calibration(model, cases, OPTIONS, device="cpu", progress=Watcher(stop_after=3))


def test_the_temperature_that_reports_was_not_fitted_on_the_case_that_reports():
    """One patient unlike the others: in its own report it has the temperature of the others and is worse for it."""
    odds = np.linspace(-4, 4, 4001)
    alike = [drawn_case(f"{k}", odds, 3.0, seed=k) for k in range(5)]
    other = drawn_case("odd", odds, 0.5, seed=9)
    fitted = fit_structure("Prostate", [*alike, other], replace(OPTIONS, folds=6))
    assert fitted.calibration.temperature_high == pytest.approx(3.0, rel=0.1)  # of the fold without "odd"
    assert fitted.gains["odd"] < 0 and all(fitted.gains[case.case] > 0 for case in alike)
    ours = negative_log_likelihood(other.probability, other.happened, other.voxels)
    at_high = sigmoid(np.log(other.probability / (1 - other.probability)) / fitted.calibration.temperature_high)
    expected = ours - negative_log_likelihood(at_high, other.happened, other.voxels)
    assert fitted.gains["odd"] == pytest.approx(expected, abs=1e-4)


def test_two_cases_of_one_patient_are_never_on_both_sides():
    odds = np.linspace(-4, 4, 2001)
    both = [drawn_case(name, odds, 0.5, patient="twice", seed=k) for k, name in enumerate("ab")]
    others = [drawn_case(f"{k}", odds, 3.0, seed=k) for k in range(2, 5)]
    fitted = fit_structure("Prostate", [*both, *others], replace(OPTIONS, folds=5))
    assert (fitted.calibration.cases, fitted.calibration.patients, fitted.calibration.folds) == (5, 4, 4)
    assert fitted.calibration.temperature_high == pytest.approx(3.0, rel=0.1)  # neither a nor b was in that fold


def test_every_case_weighs_the_same_however_large():
    odds = np.linspace(-4, 4, 1001)
    small = [drawn_case(f"{k}", odds, 1.0, seed=k) for k in range(3)]
    large = [replace(case, voxels=case.voxels * 1000) for case in small[:1]]
    one, two = (fit_structure("Prostate", cases, OPTIONS).calibration for cases in (small, [*large, *small[1:]]))
    assert one.temperature == pytest.approx(two.temperature, rel=1e-6)
    assert sum(item.voxels for item in two.before.bins) == sum(case.voxels.sum() for case in [*large, *small[1:]])


def test_no_gain_on_others_is_told():
    """Every patient needs another temperature, so that none helps the next one."""
    odds = np.linspace(-4, 4, 2001)
    cases = [drawn_case(f"{k}", odds, true, seed=k) for k, true in enumerate((0.5, 1.0, 2.0))]
    (warning,) = fit_structure("Prostate", cases, OPTIONS).warnings
    assert "not shown that the temperature of 'Prostate' helps" in warning


def test_two_patients_are_too_few():
    odds = np.linspace(-4, 4, 101)
    cases = [drawn_case(name, odds, 1.0, patient=name[0]) for name in ("a1", "a2", "b")]
    with pytest.raises(ProstateXferError, match=r"in 2 patient\(s\): a calibration needs 3 or more"):
        fit_structure("Prostate", cases, OPTIONS)


def test_voxels_that_say_the_same_are_counted_together_without_changing_a_number():
    rng = np.random.default_rng(5)
    p = sigmoid(rng.normal(0, 4, 20000)).astype(np.float32)
    p[:500] = 0
    y = rng.random(20000) < p**0.7
    grouped = case_voxels(p, y, np.ones(p.shape, bool), case="a", patient="a")
    assert len(grouped.voxels) < 4000 and grouped.voxels.sum() == 20000
    sides = ((p, y, None), (grouped.probability, grouped.happened, grouped.voxels))
    for metric in (brier_score, negative_log_likelihood, fit_temperature):
        alone, together = (metric(*side) for side in sides)
        assert together == pytest.approx(alone, rel=1e-4), metric.__name__
    assert grouped.voxels[grouped.probability == 0].sum() == 500


def test_only_what_is_near_the_structure_counts():
    reference, p = np.zeros((5, 21, 21), bool), np.zeros((5, 21, 21))
    reference[2, 10, 5], p[2, 10, 15] = True, 0.5
    region = near_structure(p, reference, (3.0, 1.0, 1.0), 4.0)
    z, y, x = np.indices(region.shape)
    distance = np.minimum(*(np.sqrt((3 * (z - 2)) ** 2 + (y - 10) ** 2 + (x - c) ** 2) for c in (5, 15)))
    assert np.array_equal(region, distance <= 4)
    assert not near_structure(p * 0.9, reference & False, (3.0, 1.0, 1.0), 4.0).any()


def lesion_cases(tmp_path, model, lesions):
    """Cases with a gland; where `lesions` says so, a dark lesion and (or) its reference."""
    found = []
    for k, (dark, marked) in enumerate(lesions):
        rng = np.random.default_rng(k)
        array = np.full(GRID.shape_zyx, -100, np.int16)
        array[:, 2:30, 2:46] = 600
        labels = (array == 600).astype(np.uint8)
        if dark:
            array[1:3, 8:20, 12:36] = rng.integers(-500, -200, (2, 12, 24))
        if marked:
            labels[1:3, 8:20, 12:36] = np.where(rng.random((2, 12, 24)) < 0.7, 2, 1)
        paths = [tmp_path / f"{k}-{role}.nii.gz" for role in ("image", "reference")]
        for path, volume in zip(paths, (array, labels), strict=True):
            write_image(GRID.image(volume), path)
        found.append(CalibrationCase(f"case {k}", f"{k}", {"T2w": paths[0]}, paths[1]))
    return found


def test_a_lesion_that_the_model_sees_and_the_reference_has_not_counts_and_where_neither_sees_one_nothing(
    tmp_path, model
):
    cases = lesion_cases(tmp_path, model, [(True, True), (True, True), (True, True), (True, False), (False, False)])
    watch = Watcher()
    options = replace(OPTIONS, structures=("DIL",))
    (fitted,) = run_calibration(model, cases, options, device="cpu", progress=watch)
    assert fitted.calibration.structure == "DIL" and fitted.calibration.cases == 4
    assert any("1 case(s) left out" in text and "case 4" in text for text in watch.warnings)
    (without,) = run_calibration(model, cases[:3], options, device="cpu", progress=Watcher())
    assert fitted.calibration.temperature > without.calibration.temperature * 1.05  # a false alarm makes less sure


def test_an_unknown_structure_and_references_without_one_are_sentences(tmp_path, model):
    cases = lesion_cases(tmp_path, model, [(True, False)] * 3)
    with pytest.raises(ProstateXferError, match="does not find 'Bladder': it finds Prostate, DIL"):
        run_calibration(model, cases, replace(OPTIONS, structures=("Bladder",)), progress=Watcher())
    with pytest.raises(ProstateXferError, match=r"'DIL' in .* case\(s\): All voxels .* lie outside the reference"):
        run_calibration(model, cases, replace(OPTIONS, structures=("DIL",)), device="cpu", progress=Watcher())


def test_a_reference_on_another_grid_is_told_with_its_case(tmp_path, model):
    (case,) = lesion_cases(tmp_path, model, [(True, True)])
    write_image(Grid((48, 32, 4), (1.0, 1.0, 3.5)).image(np.ones((4, 32, 48), np.uint8)), case.reference)
    with pytest.raises(ProstateXferError, match="case 'case 0' cannot be used: The reference does not lie"):
        run_calibration(model, [case], OPTIONS, device="cpu", progress=Watcher())


@pytest.mark.parametrize(("together", "expected"), [(False, {0, 1, 2, 3}), (True, {0, 1})])
def test_the_gland_includes_its_lesion_unless_one_softmax_sets_them_apart(segmentation_card, together, expected):
    card = segmentation_card("gland", "dil")
    if together:
        card = replace(card, heads=(replace(card.heads[0], values=(PROSTATE.value, DIL.value)),))
    grid = Grid((6, 1, 1), (1.0, 1.0, 1.0))
    reference = grid.image(np.array([[[1, 1, 2, 2, 0, 0]]], np.uint8))
    path_like = type("L", (), {"image": reference, "own_names": None})
    pair = paired_with(grid.image(np.zeros((1, 1, 6), np.uint8)), path_like, card, LabelNames.of_card(card))
    assert set(np.flatnonzero(reference_mask(pair, card, "Prostate"))) == expected
    assert set(np.flatnonzero(reference_mask(pair, card, "DIL"))) == {2, 3}


def test_the_copy_has_the_same_weights_and_the_new_card(model, cases, tmp_path):
    (fitted,) = run_calibration(model, cases[:3], OPTIONS, device="cpu", progress=Watcher())
    other = replace(fitted.calibration, structure="DIL")
    before = model.path.read_bytes()
    first = write_calibrated_checkpoint(model, [other], tmp_path / "first.safetensors")
    copy = write_calibrated_checkpoint(first, [fitted.calibration], tmp_path / "copy.safetensors")
    assert {one.structure for one in copy.card.calibration} == {"Prostate", "DIL"}
    assert copy.card.history[-1]["start"] == {"file": "first.safetensors", "sha256": first.sha256}
    assert replace(copy.card, calibration=(), history=()) == replace(model.card, history=())
    old, new = read_checkpoint(model.path)[1], read_checkpoint(copy.path)[1]
    assert old.keys() == new.keys() and all(bool((old[key] == new[key]).all()) for key in old)
    assert model.path.read_bytes() == before


def test_an_ensemble_is_calibrated_as_a_whole(model, cases):
    made = cases[:3]
    ensemble = make_ensemble(model.path.with_name("e.safetensors"), [model.path])
    output = model.path.with_name("calibrated.safetensors")
    check_calibrated_checkpoint(ensemble, output)
    (fitted,) = run_calibration(ensemble, made, OPTIONS, device="cpu", progress=Watcher())
    copy = write_calibrated_checkpoint(ensemble, [fitted.calibration], output)
    assert copy.path.stat().st_size < 50_000
    (alone,) = run_calibration(model, made, OPTIONS, device="cpu", progress=Watcher())
    assert fitted.calibration.temperature == pytest.approx(alone.calibration.temperature, rel=1e-3)
    options = Segmenter(copy, device="cpu").predict(GRID.image(np.zeros(GRID.shape_zyx) + 9 * np.eye(32, 48)))
    assert options.provenance.options["calibrated"] is True


def test_what_cannot_be_copied_is_refused_before_the_work(model, tmp_path):
    for output, match in (
        (tmp_path / "x.pth", "must end in .safetensors"),
        (model.path, "is the model itself"),
        (tmp_path / "none/x.safetensors", "does not exist"),
    ):
        with pytest.raises(ProstateXferError, match=match):
            check_calibrated_checkpoint(model, output)
    with pytest.raises(ProstateXferError, match="nnU-Net folder.*import"):
        check_calibrated_checkpoint(replace(model, path=tmp_path), tmp_path / "x.safetensors")
    ensemble = make_ensemble(model.path.with_name("e.safetensors"), [model.path])
    with pytest.raises(ProstateXferError, match="would not be found from .* beside the first one"):
        check_calibrated_checkpoint(ensemble, tmp_path / "x.safetensors")


def test_a_list_names_cases_patients_and_further_sequences(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "adc.nii.gz", "r.nii.gz"):
        (tmp_path / name).touch()
    table = tmp_path / "cases.csv"
    table.write_text("Image;reference;adc;patient\na.nii.gz;r.nii.gz;adc.nii.gz;p1\nb.nii.gz;r.nii.gz;adc.nii.gz;\n")
    one, two = read_case_list(table, ("T2w", "ADC"))
    assert (one.name, one.patient, two.patient) == ("a", "p1", "b")
    assert one.images == {"T2w": tmp_path / "a.nii.gz", "ADC": tmp_path / "adc.nii.gz"}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image\na\n", "lacks the column 'reference'"),
        ("image,reference\n", "lists no case"),
        ("image,reference,adc\n", "unknown column 'adc': for this model"),
        ("image,reference\na.nii.gz,none.nii.gz\n", r"Line 2 .* no file or folder 'none.nii.gz' \(reference\)"),
        ("image,reference\na.nii.gz,\n", r"Line 2 .* \(reference\)"),
        ("image,reference\na.nii.gz,a.nii.gz\na.nii.gz,a.nii.gz\n", "'a' stands twice"),
        ("image,reference\na.nii.gz\n", "1 cells and the header 2"),
        ("image,image,reference\n", "column 'image' twice"),
    ],
)
def test_a_list_with_a_mistake_says_which(tmp_path, text, match):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(ProstateXferError, match=match):
        read_case_list(tmp_path / "cases.csv", ("T2w",))


@pytest.mark.parametrize(("change", "match"), [({"folds": 1}, "nothing to test on"), ({"region_mm": -1.0}, "region")])
def test_options_that_cannot_be_are_refused(change, match):
    with pytest.raises(ProstateXferError, match=match):
        replace(OPTIONS, **change)
