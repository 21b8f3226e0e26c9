# SPDX-License-Identifier: Apache-2.0
"""The plan of a selection: read strictly, and never with a case that a model was trained on."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from ensemble_cases.cones import GRID, write_case, write_cone_plan, write_model

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.studies.ensemble_selection.case_hashes import hashed_case
from ProstateXferLib.studies.ensemble_selection.opened_plan import open_plan
from ProstateXferLib.studies.ensemble_selection.plan import Plan
from ProstateXferLib.studies.ensemble_selection.plan_file import PLAN_FILE, read_plan, write_plan
from ProstateXferLib.studies.ensemble_selection.planned_files import planned_case
from ProstateXferLib.studies.ensemble_selection.training_cases import check_not_trained_on
from ProstateXferLib.training.datasets.case import Case, Mask

CANDIDATES = {"one": (0.1, 0.2), "two": (0.5,)}


@pytest.fixture
def folder(tmp_path, threshold_state, segmentation_card):
    write_cone_plan(tmp_path, CANDIDATES, threshold_state, segmentation_card("gland"), cases=4)
    return tmp_path


def changed(folder, old, new, *, count=1):
    path = folder / PLAN_FILE
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")
    return path


def test_a_plan_is_read_from_its_file_or_folder_and_written_back_the_same(folder):
    plan = read_plan(folder)
    assert plan == read_plan(folder / PLAN_FILE)
    assert plan.names == ("one", "two") and [case.name for case in plan.cases] == [f"case{n}" for n in range(4)]
    assert plan.candidates[0].models["case1"] == folder / "one-1.safetensors"
    assert [len(candidate.distinct_models) for candidate in plan.candidates] == [2, 1]
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    again = read_plan(write_plan(plan, elsewhere / PLAN_FILE))
    assert again.cases[0].image.resolve() == plan.cases[0].image and again.names == plan.names


def test_patients_and_further_sequences_have_columns(folder):
    changed(folder, "reference\n", "reference,Patient,ADC\n")
    path = folder / PLAN_FILE
    first, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([first, *(f"{row},p{i % 2},case{i % 4}.nii.gz" for i, row in enumerate(rows))]))
    plan = read_plan(folder)
    assert dict(plan.patients) == {"case0": "p0", "case1": "p1", "case2": "p0", "case3": "p1"}
    assert plan.cases[2].others == {"adc": folder / "case2.nii.gz"}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("candidate,", "who,", "lacks the column 'candidate'"),
        ("case3.nii.gz", "gone.nii.gz", "Line 5 of 'plan.csv': there is no file or folder .*gone.nii.gz' .image."),
        (
            "two,two-0.safetensors,case3",
            "one,two-0.safetensors,case3",
            "second one of the candidate 'one'",
        ),
        ("case0,case0.nii.gz", "case0,case1.nii.gz", "case 'case0' other files or another patient"),
        (
            "two,two-0.safetensors,case3,case3.nii.gz,case3-gland.nii.gz\n",
            "",
            "'two' has no model for the case",
        ),
        ("one,one-0.safetensors,case0", "one,,case0", "Line 2 of 'plan.csv' has nothing in the column 'model'"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused_in_one_sentence(folder, old, new, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        read_plan(changed(folder, old, new))


def test_one_candidate_is_nothing_to_choose_from(folder):
    plan = read_plan(folder)
    with pytest.raises(ProstateXferError, match="has 1 candidate"):
        Plan(plan.cases, plan.candidates[:1])


def test_models_that_cannot_be_averaged_are_refused_before_anything_is_predicted(folder, segmentation_card):
    path = folder / "two-0.safetensors"
    card, state = read_checkpoint(path)
    write_checkpoint(path, dataclasses.replace(card, inputs=("ADC",)), state)
    with pytest.raises(ProstateXferError, match="takes T2w and .* takes ADC"):
        open_plan(read_plan(folder))
    two = dataclasses.replace(segmentation_card("gland", "dil"), name="two")
    write_checkpoint(path, two, state)
    with pytest.raises(ProstateXferError, match="find DIL, Prostate: say by --structure"):
        open_plan(read_plan(folder))
    assert open_plan(read_plan(folder), "gland").structure == "Prostate"
    with pytest.raises(ProstateXferError, match="does not find 'DIL'"):
        open_plan(read_plan(folder), "DIL")


def history(*stages):
    """Entries of a card; each stage trained on the cases given."""
    return tuple(
        {"stage": f"stage{n}", "split": {"rule": "nnunet", "ids": {"train": [hashed_case(case) for case in cases]}}}
        for n, cases in enumerate(stages)
    )


def test_a_model_that_was_trained_on_a_case_by_its_own_card_may_not_predict_it(
    folder, threshold_state, segmentation_card
):
    card = segmentation_card("gland")
    # Fold 0 predicts case0 and case2, fold 1 the others.
    write_model(folder / "one-0.safetensors", threshold_state, card, 0.1, history=history(["case1", "case3"]))
    assert check_not_trained_on(open_plan(read_plan(folder))) == []
    write_model(folder / "one-0.safetensors", threshold_state, card, 0.1, history=history([], ["case1", "case2"]))
    with pytest.raises(ProstateXferError, match="'one' was trained on the case 'case2' by its own card"):
        check_not_trained_on(open_plan(read_plan(folder)))


def test_a_start_that_saw_cases_is_told(folder, threshold_state, segmentation_card):
    stages = history(["case0", "case1", "case2"], ["case1"])
    write_model(folder / "one-0.safetensors", threshold_state, segmentation_card("gland"), 0.1, history=stages)
    (warning,) = check_not_trained_on(open_plan(read_plan(folder)))
    assert warning.startswith("An earlier stage ('stage0') of the candidate 'one' was trained on 2 of the cases")


def test_a_case_of_a_data_set_becomes_an_image_and_one_label_map_with_names(tmp_path):
    image, gland = write_case(tmp_path, "a", 0)
    lesion = np.zeros(GRID.shape_zyx, dtype=np.uint8)
    lesion[3:5, 14:18, 14:18] = 3
    lesion = write_image(GRID.image(lesion), tmp_path / "lesion.nii.gz")
    masks = {"DIL": (Mask(lesion, (3,)),), "Prostate": (Mask(gland),), "Bladder": ()}
    case = Case("Case 7/a", "patient 7", {"T2w": image, "ADC": image}, masks)
    planned = planned_case(case, ("T2w", "ADC"), tmp_path / "plan")
    assert (planned.name, planned.patient, planned.image) == ("Case 7/a", "patient 7", image)
    assert planned.others == {"adc": image}
    labels, structures = read_segmentation(planned.reference)
    values = {one.name: one.value for one in structures}
    found = sitk.GetArrayFromImage(labels)
    assert set(values) == {"Prostate", "DIL", "Bladder"}
    assert (found[3:5, 14:18, 14:18] == values["DIL"]).all() and np.count_nonzero(found == values["DIL"]) == 32
    assert np.count_nonzero(found == values["Prostate"]) > 100 and not (found == values["Bladder"]).any()


def test_a_phantom_that_only_a_training_draws_has_no_place_in_a_plan(tmp_path):
    with pytest.raises(ProstateXferError, match="'phantom-1' has no image file"):
        planned_case(Case("phantom-1", "phantom-1", {}), ("T2w",), tmp_path)
