# SPDX-License-Identifier: Apache-2.0
"""From trained folds to a plan: each case by the fold that validated it, and by no weights that saw it."""

import json
import shutil

import pytest
from ensemble_cases.cones import write_case
from nnunet_results.cross_validation import write_raw, write_trained

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.cli.main import main
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.label_pair import read_labels
from ProstateXferLib.studies.ensemble_selection.case_hashes import hashed_case
from ProstateXferLib.studies.ensemble_selection.opened_plan import open_plan
from ProstateXferLib.studies.ensemble_selection.plan_file import read_plan
from ProstateXferLib.studies.ensemble_selection.plan_of_runs import plan_of_runs, read_run
from ProstateXferLib.studies.ensemble_selection.training_cases import check_not_trained_on

yaml = pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")

RECIPE = {
    "name": "tiny",
    "seed": 3,
    "texts": {"title": "Tiny", "training_data": "cones", "licence": "Apache-2.0", "citation": "none"},
    "stages": [
        {
            "name": "gland",
            "task": "segmentation",
            "settings": {
                "heads": [{"name": "gland", "values": ["Prostate"]}],
                "preprocessing": {"intensity": {"kind": "zscore"}, "spacing_yx_mm": [1.5, 1.5], "tile_yx": [32, 32]},
                "slices": {
                    "foreground_share": 0.5,
                    "even_cases": True,
                    "warp": {"size": 32, "rotation_deg": 0, "scale": [1, 1], "shift": 0, "elastic_px": 0},
                },
            },
            "network": {
                "architecture": "mr_dinov3",
                "arguments": {"encoder": {"width": 32, "depth": 4, "heads": 2, "layer_scale": 1.0}},
            },
            "data": [{"layout": "cases", "path": "cases"}],
            "split": {"rule": "nnunet", "folds": 2},
            "schedule": {"epochs": 2, "steps_per_epoch": 1},
            "loop": {"batch_size": 2, "validate_epochs": 1},
            "selection": {"keep": "best", "metric": "dice"},
        }
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for number in range(4):
        case = root / "cases" / f"patient-{number}"
        case.mkdir(parents=True)
        image, gland = write_case(root, f"c{number}", number)
        shutil.move(image, case / "t2w.nii.gz")
        shutil.move(gland, case / "gland.nii.gz")
    return root


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """`prostatexfer train` of both folds, two steps each."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    for fold in range(2):
        words = ["-o", str(folder / f"fold{fold}.safetensors"), "--data", str(data), "--fold", str(fold)]
        assert main(["train", str(recipe), *words, "--device", "cpu"]) == 0
    return [folder / f"fold{fold}.run" for fold in range(2)]


def test_each_case_is_predicted_by_both_weights_of_the_fold_that_validated_it(runs, data, tmp_path, capsys):
    words = ["ensemble", "plan", *map(str, runs), "-o", str(tmp_path / "plan"), "--data", str(data), "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["candidates"] == {"tiny/best": 2, "tiny/final": 2} and result["cases"] == 4
    plan = read_plan(tmp_path / "plan")
    assert [case.name for case in plan.cases] == [f"patient-{n}" for n in range(4)]
    for candidate, kind in zip(plan.candidates, ("best", "final"), strict=True):
        for case, model in candidate.models.items():
            ids = read_card(model).history[-1]["split"]["ids"]
            assert hashed_case(case) in ids["validation"] and hashed_case(case) not in ids["train"]
            assert model.name == f"{kind}.safetensors"
    labels = read_labels(plan.cases[0].reference)
    assert set(labels.own_names.values()) == {"Prostate"}
    assert check_not_trained_on(open_plan(plan)) == []


def test_a_fold_that_trained_on_a_case_is_refused_by_its_card(runs, data, tmp_path):
    plan = plan_of_runs([("", run) for run in runs], data, tmp_path)
    swapped = dict(zip(plan.candidates[0].models, reversed(plan.candidates[0].models.values()), strict=True))
    assert swapped != plan.candidates[0].models
    plan.candidates[0].models.update(swapped)
    with pytest.raises(ProstateXferError, match="was trained on the case 'patient-"):
        check_not_trained_on(open_plan(plan))


def test_other_data_than_those_trained_on_are_refused(runs, data, tmp_path):
    shutil.copytree(data / "cases", tmp_path / "cases")
    (tmp_path / "cases" / "patient-3").rename(tmp_path / "cases" / "patient-9")
    with pytest.raises(ProstateXferError, match="are not those that .* was trained and validated with"):
        for run in runs:
            read_run(run, tmp_path)


def test_one_fold_twice_or_another_recipe_needs_names_of_arms(runs, data, tmp_path):
    with pytest.raises(ProstateXferError, match="both validated the case .* give one run a fold, or name the arms"):
        plan_of_runs([("", runs[0]), ("", shutil.copytree(runs[0], tmp_path / "copy.run"))], data, tmp_path)
    other = shutil.copytree(runs[1], tmp_path / "other.run")
    recipe = yaml.safe_load((other / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["stages"][0]["loop"]["batch_size"] = 1
    (other / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(ProstateXferError, match=r"other recipes .stages\[0\].loop.batch_size.: give each arm a name"):
        plan_of_runs([("", runs[0]), ("", other)], data, tmp_path)
    with pytest.raises(ProstateXferError, match="'tiny/best' has no model for the case 'patient-"):
        plan_of_runs([("", runs[0]), ("small", other)], data, tmp_path)
    both = plan_of_runs([("a", runs[0]), ("b", runs[0])], data, tmp_path)
    assert both.names == ("a/best", "a/final", "b/best", "b/final") and len(both.cases) == 2


def test_folds_of_ours_and_of_an_nnunet_are_candidates_of_one_plan(runs, data, tmp_path, capsys):
    raw = write_raw(tmp_path / "raw", cases=4)  # the same cones under nnU-Net's names
    for path in [*raw.glob("*Tr/case*")]:
        path.rename(path.with_name(path.name.replace("case", "patient-")))
    held_out = {"0": ["patient-0", "patient-3"], "1": ["patient-1", "patient-2"]}
    nnunet = write_trained(tmp_path / "results", held_out=held_out)
    words = ["ensemble", "plan", *map(str, runs), f"nnunet={nnunet}", "--nnunet-raw", str(raw)]
    assert main([*words, "-o", str(tmp_path / "plan"), "--data", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["candidates"] == {"tiny/best": 2, "tiny/final": 2, "nnunet": 2} and result["cases"] == 4
    plan = read_plan(tmp_path / "plan")
    assert [case.image.resolve() for case in plan.cases] == [
        data / "cases" / f"patient-{n}" / "t2w.nii.gz" for n in range(4)
    ]
    models = {case: path.resolve() for case, path in plan.candidates[-1].models.items()}
    assert models == {case: nnunet / f"fold_{fold}" for fold, cases in held_out.items() for case in cases}
    assert [warning.split("'")[1] for warning in check_not_trained_on(open_plan(plan))] == ["nnunet"]


def test_a_folder_that_is_no_finished_run_is_named(tmp_path, data):
    with pytest.raises(ProstateXferError, match="candidates.json' cannot be read; it is no run folder of a finished"):
        read_run(tmp_path, data)
