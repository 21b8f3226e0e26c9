# SPDX-License-Identifier: Apache-2.0
"""nnU-Net folds as candidates: which cases they held out, their files under the model's names, and cases of others."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from ensemble_cases.cones import write_model
from nnunet_results.cross_validation import DATA_SET, LABELS, in_turn, write_raw, write_splits, write_trained
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.nnunet_labels import drawn_values
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_pair import read_labels
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.studies.ensemble_selection.held_out import HeldOut, joined_plan
from ProstateXferLib.studies.ensemble_selection.held_out_of_nnunet import held_out_of_nnunet
from ProstateXferLib.studies.ensemble_selection.opened_plan import open_plan
from ProstateXferLib.studies.ensemble_selection.plan import Candidate
from ProstateXferLib.studies.ensemble_selection.training_cases import check_not_trained_on
from ProstateXferLib.training.datasets.case import Case, Mask

TWO_FOLDS = in_turn(cases=4, folds=2)


@pytest.fixture
def no_variables(monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def raw(tmp_path, no_variables):
    return write_raw(tmp_path / "raw", cases=4)


@pytest.fixture
def trained(tmp_path):
    return write_trained(tmp_path / "results", held_out=TWO_FOLDS)


def folds_of(source):
    (candidate,) = source.candidates
    return {case: model.name for case, model in candidate.models.items()}


EXPECTED = {"case0": "fold_0", "case1": "fold_1", "case2": "fold_0", "case3": "fold_1"}


def test_each_case_goes_to_the_fold_that_validated_it(trained, raw):
    source = held_out_of_nnunet(trained, raw=raw)
    assert folds_of(source) == EXPECTED and source.warnings == () and not source.recorded
    assert source.candidates[0].name == "nnUNetTrainer__nnUNetPlans__3d_fullres"
    assert held_out_of_nnunet(trained, "mine", raw=raw).candidates[0].name == "mine"


def test_splits_tell_it_where_nothing_was_validated(tmp_path, raw, monkeypatch):
    trained = write_trained(tmp_path / "results", held_out=TWO_FOLDS, validated=False)
    with pytest.raises(ProstateXferError, match="fold_0' has no images in its folder 'validation'.*--nnunet-splits"):
        held_out_of_nnunet(trained, raw=raw)
    splits = write_splits(tmp_path / "preprocessed" / DATA_SET / "splits_final.json", TWO_FOLDS)
    assert folds_of(held_out_of_nnunet(trained, raw=raw, splits=splits)) == EXPECTED
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_raw", str(raw.parent))
    assert folds_of(held_out_of_nnunet(trained)) == EXPECTED


def test_the_data_set_s_name_is_also_read_where_the_folder_was_moved(tmp_path, trained, raw, monkeypatch):
    moved = trained.rename(tmp_path / "nnunet")
    monkeypatch.setenv("nnUNet_raw", str(raw.parent))
    assert folds_of(held_out_of_nnunet(moved)) == EXPECTED
    plans = json.loads((moved / "plans.json").read_text(encoding="utf-8"))
    (moved / "plans.json").write_text(json.dumps({**plans, "dataset_name": "ours"}), encoding="utf-8")
    with pytest.raises(ProstateXferError, match="Nothing tells where the images .* lie: .*--nnunet-raw, or set"):
        held_out_of_nnunet(moved)


def test_splits_and_validation_that_disagree_are_refused(tmp_path, trained, raw):
    splits = write_splits(tmp_path / "splits_final.json", TWO_FOLDS)
    assert folds_of(held_out_of_nnunet(trained, raw=raw, splits=splits)) == EXPECTED
    write_splits(splits, {"0": ["case0", "case1"], "1": ["case2", "case3"]})
    with pytest.raises(ProstateXferError, match=r"disagree about 'case1' \(the fold did not validate it\)"):
        held_out_of_nnunet(trained, raw=raw, splits=splits)
    write_splits(splits, {"0": ["case0", "case2"]})
    with pytest.raises(ProstateXferError, match="has 1 folds, and there is a '.*fold_1'"):
        held_out_of_nnunet(trained, raw=raw, splits=splits)
    splits.write_text('{"train": []}', encoding="utf-8")
    with pytest.raises(ProstateXferError, match='is no splits_final.json, a list with "train" and "val"'):
        held_out_of_nnunet(trained, raw=raw, splits=splits)
    with pytest.raises(ProstateXferError, match=r"There is no file '.*none.json'"):
        held_out_of_nnunet(trained, raw=raw, splits=tmp_path / "none.json")


def test_a_case_of_two_folds_is_named(tmp_path, raw):
    trained = write_trained(tmp_path / "results", held_out={"0": ["case0", "case1"], "1": ["case1", "case2"]})
    with pytest.raises(ProstateXferError, match="fold_0' and fold_1 both held out the case 'case1'"):
        held_out_of_nnunet(trained, raw=raw)


def test_missing_folds_and_cases_that_nobody_held_out_are_told(tmp_path, raw):
    trained = write_trained(tmp_path / "results", held_out={"0": ["case0"], "2": ["case1"]})
    (warning,) = held_out_of_nnunet(trained, "mine", raw=raw).warnings
    assert warning == (
        "'mine' has fold_0, fold_2, and fold_1 is missing: 2 of the 4 cases of its data set were held out by none and "
        "are not in the plan."
    )
    splits = write_splits(tmp_path / "s.json", {"0": ["case0"], "1": ["case2"], "2": ["case1"], "3": ["case3"]})
    assert "fold_1, fold_3 are missing" in held_out_of_nnunet(trained, raw=raw, splits=splits).warnings[0]


def test_what_held_nothing_out_is_no_candidate(tmp_path, trained, raw):
    every = write_trained(tmp_path / "all", held_out={"all": ["case0"]})
    with pytest.raises(ProstateXferError, match="has fold_all alone, which was trained on every case"):
        held_out_of_nnunet(every, raw=raw)
    with pytest.raises(ProstateXferError, match=r"fold_1' is one fold: .* so give '.*3d_fullres'"):
        held_out_of_nnunet(trained / "fold_1", raw=raw)
    shutil.copytree(every / "fold_all", trained / "fold_all")
    assert folds_of(held_out_of_nnunet(trained, raw=raw)) == EXPECTED


def test_another_data_set_than_the_one_trained_on_is_refused(tmp_path, trained, raw):
    for key, value in (("labels", {**LABELS, "lesion": 2}), ("channel_names", {"0": "ADC"})):
        other = write_raw(tmp_path / key, cases=4, **{key: value})
        with pytest.raises(ProstateXferError, match=f"differ in {key}: give the data set that it was trained on"):
            held_out_of_nnunet(trained, raw=other)
    (raw / "imagesTr" / "case3_0000.nii.gz").unlink()
    with pytest.raises(ProstateXferError, match="The case 'case3', which '.*fold_1' held out, is not in"):
        held_out_of_nnunet(trained, raw=raw)


def test_labels_that_leave_voxels_out_are_refused(tmp_path, no_variables):
    labels = {**LABELS, "ignore": 2}
    trained = write_trained(tmp_path / "results", held_out=TWO_FOLDS, dataset={"labels": labels})
    with pytest.raises(ProstateXferError, match="have an 'ignore'"):
        held_out_of_nnunet(trained, raw=write_raw(tmp_path / "raw", cases=4, labels=labels))


def test_references_and_sequences_are_called_as_the_model_calls_them(tmp_path, no_variables):
    """Regions in nnU-Net's way, "t2" for T2w, and a channel name that only the import knows."""
    about = {
        "labels": {"background": 0, "gland": [1, 2], "lesion": [2]},
        "regions_class_order": [1, 2],
        "channel_names": {"0": "t2", "1": "HBV"},
    }
    raw = write_raw(tmp_path / "raw", cases=2, **about)
    for number in range(2):
        file = raw / "labelsTr" / f"case{number}.nii.gz"
        image = read_image(file)
        labels = sitk.GetArrayFromImage(image)
        labels[4, 14:18, 14:18] = 2
        write_image(Grid.of(image).image(labels), file)
        images = raw / "imagesTr"
        shutil.copy(images / f"case{number}_0000.nii.gz", images / f"case{number}_0001.nii.gz")
    settings = configuration(channels=2, patch_size=[8, 32, 32], spacing=[3.0, 1.5, 1.5])
    weights = random_weights(channels=2, classes=2)
    folder = write_folder(tmp_path / "t", settings, folds=("0", "1"), weights=weights, dataset=about)
    splits = write_splits(tmp_path / "splits.json", {"0": ["case0"], "1": ["case1"]})
    source = held_out_of_nnunet(folder, raw=raw, splits=splits)
    plan = joined_plan([source, dataclasses.replace(source, candidates=(renamed(source, "again"),))], tmp_path)
    card = load_checkpoint(folder).card
    assert card.inputs == ("T2w", "high-b") and [one.name for one in card.structures] == ["Prostate", "DIL"]
    assert plan.cases[0].others == {"high-b": raw / "imagesTr" / "case0_0001.nii.gz"}
    reference = read_labels(plan.cases[0].reference)
    assert reference.own_names == {1: "Prostate", 2: "DIL"}
    drawn = read_image(raw / "labelsTr" / "case0.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(reference.image), sitk.GetArrayFromImage(drawn))


@pytest.mark.parametrize(
    ("labels", "order", "expected"),
    [
        ({"background": 0, "PZ": 2, "TZ": 1}, None, {"Transition zone": (1,), "Peripheral zone": (2,)}),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 3}, [1, 2, 3], {"whole": 1, "core": 2, "rim": 3}),
        ({"background": [0], "lesion": [2], "gland": [1, 2]}, [2, 1], {"DIL": (), "Prostate": (1, 2)}),
    ],
)
def test_no_value_of_a_label_map_shows_two_structures(labels, order, expected):
    """What a later region is written over is the later one's alone, as in nnU-Net's own results."""
    values = drawn_values({"labels": labels, "regions_class_order": order})
    assert values == {name: (own,) if isinstance(own, int) else own for name, own in expected.items()}


def renamed(source, name):
    return Candidate(name, source.candidates[0].models)


@pytest.fixture
def ours(tmp_path, raw, threshold_state, segmentation_card):
    """One checkpoint of ours for the same images, which lie elsewhere in another kind of file, with zones drawn."""
    model = write_model(tmp_path / "gland.safetensors", threshold_state, segmentation_card("gland"), 0.3)
    folder = tmp_path / "ours"
    folder.mkdir()
    cases = []
    for number in range(4):
        image = write_image(read_image(raw / "imagesTr" / f"case{number}_0000.nii.gz"), folder / f"{number}.nrrd")
        masks = {"Transition zone": (Mask(raw / "labelsTr" / f"case{number}.nii.gz"),)}
        cases.append(Case(f"case{number}", f"patient{number // 2}", {"T2w": image}, masks))
    candidate = Candidate("gland", {case.case_id: model for case in cases})
    return HeldOut("'gland'", (candidate,), tuple(cases), (load_checkpoint(model).card,))


def test_cases_of_ours_and_of_an_nnunet_are_one_by_name_and_image(tmp_path, trained, raw, ours):
    plan = joined_plan([ours, held_out_of_nnunet(trained, "nnunet", raw=raw)], tmp_path)
    assert plan.names == ("gland", "nnunet") and len(plan.cases) == 4
    case = plan.cases[2]
    assert (case.name, case.patient, case.image) == ("case2", "patient1", tmp_path / "ours" / "2.nrrd")
    assert set(read_labels(case.reference).own_names.values()) == {"Transition zone", "Prostate"}
    (warning,) = check_not_trained_on(open_plan(plan))
    assert warning.startswith(
        "No record tells which cases the nnU-Net models of the candidate 'nnunet' were trained on"
    )


def test_one_name_for_two_images_is_refused(tmp_path, trained, raw, ours):
    shutil.copy(tmp_path / "ours" / "0.nrrd", tmp_path / "ours" / "1.nrrd")
    with pytest.raises(
        ProstateXferError, match="The case 'case1' is one image in '.*1.nrrd' and another in '.*case1_0"
    ):
        joined_plan([ours, held_out_of_nnunet(trained, raw=raw)], tmp_path)


def test_cases_that_only_one_of_them_has_are_named_with_the_missing_fold(tmp_path, raw, ours):
    half = write_trained(tmp_path / "half", held_out={"0": TWO_FOLDS["0"], "2": ["case3"]})
    with pytest.raises(ProstateXferError, match=r"'nnunet' held out no case 'case1' \(1 of the 4 .*fold_1 is missing"):
        joined_plan([ours, held_out_of_nnunet(half, "nnunet", raw=raw)], tmp_path)
    fewer = dataclasses.replace(ours, cases=ours.cases[:3])
    source = held_out_of_nnunet(write_trained(tmp_path / "whole", held_out=TWO_FOLDS), "nnunet", raw=raw)
    with pytest.raises(ProstateXferError, match=r"'gland' held out no case 'case3' .* matched by name alone"):
        joined_plan([fewer, source], tmp_path)
    assert not (tmp_path / "references").exists()


def test_two_candidates_of_one_name_need_names(tmp_path, trained, raw):
    source = held_out_of_nnunet(trained, raw=raw)
    with pytest.raises(ProstateXferError, match="Two candidates are called 'nnUNetTrainer__nnUNetPlans__3d_fullres'"):
        joined_plan([source, source], tmp_path)
