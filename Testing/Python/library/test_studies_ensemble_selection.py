# SPDX-License-Identifier: Apache-2.0
"""Choosing an ensemble from predictions: the best mixture is known, found, and worth on held-out cases what is said."""

import json
import shutil

import numpy as np
import pytest
from ensemble_cases.cones import write_cone_plan

from ProstateXferLib.checkpoints.ensemble_card import members_of
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.io import read_image
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.studies.ensemble_selection import predictions as predicting
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions
from ProstateXferLib.studies.ensemble_selection.output import write_selection
from ProstateXferLib.studies.ensemble_selection.plan_file import read_plan
from ProstateXferLib.studies.ensemble_selection.prediction_file import find_prediction
from ProstateXferLib.studies.ensemble_selection.run import run_selection

pytest.importorskip("matplotlib")

CANDIDATES = {"large": (0.11, 0.09), "small": (0.49, 0.51), "wrong": (0.7, 0.72)}
QUICK = {"device": "cpu", "folds": 3, "rounds": 3, "patience": 2}


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory, threshold_state, segmentation_card):
    folder = tmp_path_factory.mktemp("cones")
    return write_cone_plan(folder, CANDIDATES, threshold_state, segmentation_card("gland"))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Kept predictions, shared by the tests, as by the runs of one user."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def chosen(plan_file, work):
    return run_selection(read_plan(plan_file), SelectionOptions(**QUICK), work)


@pytest.fixture(scope="module")
def written(chosen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    write_selection(chosen, folder, name="cones")
    return folder


def test_who_finds_too_much_and_who_finds_too_little_are_chosen_together_and_beat_the_mean_of_all(chosen):
    nested = chosen.nested
    assert nested.final == Members.equal(("large", "small"))
    assert [fold.chosen for fold in nested.folds] == [nested.final] * 3
    assert nested.final_baseline == Members.equal(("large", "small", "wrong"))
    assert nested.verdict == "beats"
    assert chosen.verdict == "On 10 held-out cases of 10 patients the chosen ensemble beats the baseline."
    dice, *_, volume = nested.differences
    # Radius 12 mm found to within a voxel, against the radius at the mean of three thresholds.
    assert dice.chosen > 0.95 and dice.difference > 0.02
    assert volume.chosen < 0.5 < volume.baseline


def test_weights_on_the_simplex_find_the_same_pair(plan_file, work):
    options = SelectionOptions(method="simplex", steps=4, trade=0.5, boundary="masd", **QUICK)
    found = run_selection(read_plan(plan_file), options, work)
    assert found.nested.final == Members.equal(("large", "small"))
    assert found.front.exhaustive and found.front.chosen.members == found.nested.final
    # Four parts among three candidates, and the baseline's thirds.
    assert len(found.front.evaluated) == 15 + 1
    assert (found.effort.predicted, found.effort.found) == (0, 30)


def test_a_named_baseline_is_what_has_to_be_beaten(plan_file, work):
    options = SelectionOptions(baseline=("large", "small"), **QUICK)
    nested = run_selection(read_plan(plan_file), options, work).nested
    assert nested.final_baseline == nested.final
    assert nested.verdict == "ties" and all(difference.difference == 0 for difference in nested.differences)
    with pytest.raises(ProstateXferError, match="baseline names 'huge', which is none of large, small, wrong"):
        run_selection(read_plan(plan_file), SelectionOptions(baseline=("huge",), **QUICK), work)


def test_several_processes_give_the_same_numbers(plan_file, work, chosen):
    again = run_selection(read_plan(plan_file), SelectionOptions(**QUICK), work, jobs=2)
    assert again.nested.differences == chosen.nested.differences
    assert again.front == chosen.front


def test_a_second_run_predicts_nothing_and_a_changed_model_is_predicted_anew(
    plan_file, work, chosen, monkeypatch, threshold_state, segmentation_card, tmp_path
):
    work = shutil.copytree(work, tmp_path / "work")
    assert chosen.effort.predicted + chosen.effort.found == 30

    def refuse(*args, **options):
        raise AssertionError("a network was run")

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "Segmenter", refuse)
        assert run_selection(read_plan(plan_file), SelectionOptions(**QUICK), work).effort.predicted == 0
    other = write_cone_plan(tmp_path, {**CANDIDATES, "small": (0.45,)}, threshold_state, segmentation_card("gland"))
    again = run_selection(read_plan(other), SelectionOptions(**QUICK), work)
    assert (again.effort.predicted, again.effort.found) == (10, 20)


def test_a_stop_keeps_what_was_predicted(plan_file, tmp_path):
    class Stopping(SilentProgress):
        def cancelled(self):
            return len(list(tmp_path.glob("*.safetensors"))) >= 2

    with pytest.raises(CancelledError):
        run_selection(read_plan(plan_file), SelectionOptions(**QUICK), tmp_path, progress=Stopping())
    kept = list(tmp_path.iterdir())
    assert len(kept) == 2 and all(find_prediction(path) for path in kept)


def test_a_damaged_prediction_is_made_again(plan_file, work, chosen, tmp_path):
    work = shutil.copytree(work, tmp_path / "work")
    victim = next(iter(work.glob("*.safetensors")))
    whole = file_sha256(victim)
    victim.write_bytes(victim.read_bytes()[:-10])
    assert run_selection(read_plan(plan_file), SelectionOptions(**QUICK), work).effort.predicted == 1
    assert file_sha256(victim) == whole


def test_the_file_holds_every_fold_with_its_share_and_the_held_out_numbers(chosen, written):
    made = load_checkpoint(written / "ensemble.safetensors")
    assert made.card.name == "cones"
    assert {member.name: member.weight for member in members_of(made.card)} == {
        "large-0": 0.25,
        "large-1": 0.25,
        "small-0": 0.25,
        "small-1": 0.25,
    }
    scores = {score.metric: score for score in made.card.scores}
    assert scores["Dice, nested cross-validation"].value == pytest.approx(chosen.nested.differences[0].chosen, abs=1e-6)
    assert scores["NSD at 5 mm, nested cross-validation"].cases == 10
    (entry,) = made.card.history
    assert entry["selection"]["method"] == "greedy" and entry["verdict"] == "beats"
    assert len(entry["split"]["ids"]["choosing"]) == 10 and "case0" not in json.dumps(entry)


def test_what_was_written_runs_and_finds_the_gland(plan_file, written):
    labels = Segmenter(written / "ensemble.safetensors", device="cpu").predict(
        read_image(plan_file.parent / "case0.nii.gz")
    )
    truth = read_image(plan_file.parent / "case0-gland.nii.gz")
    one, two = (np.asarray(image) for image in map(_array, (labels.labels, truth)))
    assert 2 * (one & two).sum() / (one.sum() + two.sum()) > 0.9


def test_the_record_has_every_number_and_the_report_the_verdict(chosen, written):
    record = json.loads((written / "selection.json").read_text(encoding="utf-8"))
    assert record["final"] == {"large": 0.5, "small": 0.5}
    assert [fold["chosen"] for fold in record["folds"]] == [record["final"]] * 3
    assert sum(len(fold["reporting"]["chosen"]["cases"]) for fold in record["folds"]) == 10
    assert record["candidates"]["wrong"]["aggregate"]["dice"] < record["candidates"]["large"]["aggregate"]["dice"]
    assert record["options"]["structure"] == "Prostate" and record["options"]["seed"] == 0
    assert set(record["cases"]) == {f"case{n}" for n in range(10)}
    assert len(record["cases"]["case0"]["image_sha256"][""]) == 64
    page = (written / "report.html").read_text(encoding="utf-8")
    assert chosen.verdict in page and "Research use only" in page
    assert "data:image/png;base64," in page and "the equal mean of all candidates" in page


def test_few_patients_are_told_that_nothing_can_be_shown(tmp_path, threshold_state, segmentation_card):
    plan = write_cone_plan(tmp_path, {"a": (0.1,), "b": (0.5,)}, threshold_state, segmentation_card("gland"), cases=4)
    with pytest.warns(UserWarning, match="With 4 patients no difference can be shown"):
        found = run_selection(read_plan(plan), SelectionOptions(device="cpu", folds=2), tmp_path / "work")
    assert found.nested.verdict == "ties"


def _array(image):
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image) > 0
