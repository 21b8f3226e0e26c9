# SPDX-License-Identifier: Apache-2.0
"""`StudyOptions`: what the panel says before a run, and the command line that means the same."""

import argparse
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.importers import import_checkpoint
from ProstateXferLib.cli.study_options import add_input_arguments, add_study_arguments
from ProstateXferLib.cohort.options import StudyInputs, StudyOptions, Task
from ProstateXferLib.errors import ProstateXferError

T2W, CBCT = StudyInputs(t2w=Path("t2w.nii.gz")), StudyInputs(cbct=Path("cbct.nii.gz"))
OTHER = StudyOptions(
    tasks=(Task.DIL, Task.CT_FROM_CBCT),
    prostate_model="-my gland.safetensors",
    dil_model="/models folder/dil é.safetensors",
    ct_from_mr_model="mr",
    ct_from_cbct_model="cbct",
    models_folder=Path("/a folder/with 'quotes' and spaces"),
    device="cuda:1",
    precision="bf16",
    tta=True,
    decode_everything=True,
    uncertainty=False,
    threads=3,
)


def parsed(words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_input_arguments(parser)
    add_study_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def models(tmp_path, threshold_state, segmentation_card, pointwise_state, synthesis_card):
    """A folder with models that can do some of the tasks."""
    folder = tmp_path / "models"
    folder.mkdir()
    cards = {
        "gland-only": (segmentation_card("gland", name="gland-only"), threshold_state(gland=(0.3,))),
        "both": (segmentation_card("gland", "dil", name="both"), threshold_state(gland=(0.3,), dil=(0.3,))),
        "adc": (
            segmentation_card("gland", "dil", name="adc", inputs=("ADC",)),
            threshold_state(gland=(0.3,), dil=(1,)),
        ),
        "two": (segmentation_card("gland", name="two", inputs=("T2w", "ADC")), threshold_state(gland=(0.3,))),
        "mr": (synthesis_card("T2w", name="mr"), pointwise_state()),
        "cbct": (synthesis_card("CBCT", name="cbct"), pointwise_state()),
    }
    for name, (card, state) in cards.items():
        write_checkpoint(folder / f"{name}.safetensors", card, state)
    channels = {"channel_names": {"0": "T2W", "1": "ADC", "2": "HBV"}}
    nnunet = write_folder(
        tmp_path / "nnunet", configuration(channels=3), dataset=channels, weights=random_weights(channels=3)
    )
    import_checkpoint(nnunet, folder / "three.safetensors", name="three")
    return folder


def test_without_a_task_the_user_is_asked_for_one():
    assert StudyOptions(tasks=()).problem(T2W) == (
        "Choose at least one task: Prostate, DIL, CT from MR or CT from CBCT."
    )


@pytest.mark.parametrize(
    ("tasks", "inputs", "sentence"),
    [
        (("prostate",), StudyInputs(), "Choose a T2w image for Prostate."),
        (("prostate", "dil", "ct-from-mr"), CBCT, "Choose a T2w image for Prostate, DIL and CT from MR."),
        (("ct-from-cbct",), T2W, "Choose a CBCT for CT from CBCT."),
        (("dil", "ct-from-cbct"), StudyInputs(), "Choose a T2w image for DIL, and a CBCT for CT from CBCT."),
    ],
)
def test_a_task_without_its_image_names_both(tasks, inputs, sentence):
    assert StudyOptions(tasks=tasks).problem(inputs) == sentence


def test_the_defaults_run_on_a_t2w_image_although_the_file_is_not_written_yet():
    assert StudyOptions().problem(T2W) is None


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"device": "gpu"}, "The device 'gpu' is not known"),
        ({"device": "cuda:x"}, "The device 'cuda:x' is not known"),
        ({"precision": "fp8"}, "The precision 'fp8' is not known"),
        ({"threads": 0}, "0 CPU threads cannot be used"),
        ({"models_folder": Path("/no/such folder")}, "The models folder '/no/such folder' does not exist"),
        ({"dil_model": "no-such-model"}, "There is no model named 'no-such-model'"),
        ({"dil_model": "gone/away.safetensors"}, "There is no checkpoint 'gone/away.safetensors'"),
        ({"dil_model": "dgcf-mr-to-ct-small"}, "makes a synthetic CT and cannot do DIL"),
        (
            {"tasks": ("ct-from-mr",), "ct_from_mr_model": "dgcf-cbct-to-ct-small"},
            "takes CBCT and cannot do CT from MR",
        ),
        ({"tasks": ("ct-from-mr",), "ct_from_mr_model": "prostate-dil-small"}, "segments and cannot do CT from MR"),
    ],
)
def test_what_cannot_run_is_one_sentence(changes, part):
    problem = StudyOptions(**changes).problem(T2W)
    assert part in problem
    assert "\n" not in problem


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "mps"])
def test_a_device_is_judged_by_its_name_alone(device):
    assert StudyOptions(device=device).problem(T2W) is None


def test_a_model_in_the_users_folder_is_found_by_name(models):
    options = StudyOptions(prostate_model="both", dil_model="both")
    assert "There is no model named 'both'" in options.problem(T2W)
    assert replace(options, models_folder=models).problem(T2W) is None


def test_a_model_without_a_lesion_cannot_do_the_dil(models):
    options = StudyOptions(dil_model="gland-only", models_folder=models)
    assert options.problem(T2W) == ("The model 'gland-only' finds no DIL (Prostate): choose another model for DIL.")
    assert replace(options, tasks=("prostate",), prostate_model="gland-only").problem(T2W) is None


def test_a_model_of_another_sequence_asks_for_it(models):
    options = StudyOptions(tasks=("dil",), dil_model="adc", models_folder=models)
    assert options.problem(T2W) == "Choose the ADC map for DIL, or another model: 'adc' takes ADC."
    assert options.problem(replace(T2W, adc=Path("adc.nii.gz"))) is None
    assert options.problem_of_options() is None


def test_every_image_that_a_model_of_several_lacks_is_asked_for_in_one_sentence(models):
    options = StudyOptions(tasks=("dil",), dil_model="three", models_folder=models)
    takes = "or another model: 'three' takes T2w, ADC and high-b."
    assert options.problem(StudyInputs()) == (f"Choose a T2w image, the ADC map and the high-b image for DIL, {takes}")
    assert options.problem(T2W) == f"Choose the ADC map and the high-b image for DIL, {takes}"
    with_adc = replace(T2W, adc=Path("adc.nii.gz"))
    assert options.problem(with_adc) == f"Choose the high-b image for DIL, {takes}"
    assert options.problem(replace(with_adc, high_b=Path("b.nii.gz"))) is None


def test_images_of_several_models_are_asked_for_together(models):
    options = StudyOptions(tasks=tuple(Task), prostate_model="adc", dil_model="three", models_folder=models)
    assert options.problem(T2W) == (
        "Choose the ADC map for Prostate and DIL, and the high-b image for DIL, and a CBCT for CT from CBCT, or other "
        "models: 'adc' takes ADC and 'three' takes T2w, ADC and high-b."
    )


def test_a_model_that_cannot_do_its_task_asks_for_no_image(models):
    options = StudyOptions(tasks=("prostate",), prostate_model="two", models_folder=models)
    assert "a network of the architecture 'mr_dinov3' takes one" in options.problem(T2W)
    assert options.problem(T2W) == options.problem_of_options()


def test_only_the_models_of_chosen_tasks_count():
    assert StudyOptions(ct_from_mr_model="no-such-model").problem(T2W) is None


@pytest.mark.parametrize("options", [StudyOptions(), OTHER, StudyOptions(tasks=tuple(Task), models_folder=Path("m"))])
def test_the_command_line_means_the_same_options(options):
    assert StudyOptions.from_arguments(parsed(options.to_arguments())) == options
    assert StudyOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_the_other_options_differ_in_every_field():
    assert [f.name for f in fields(StudyOptions) if getattr(OTHER, f.name) == getattr(StudyOptions(), f.name)] == []


def test_the_command_line_means_the_same_inputs():
    inputs = StudyInputs(**{f.name: Path(f"/a folder/{f.name} é.nii.gz") for f in fields(StudyInputs)})
    for given in (inputs, T2W, StudyInputs()):
        assert StudyInputs.from_arguments(parsed(given.to_arguments())) == given


def test_the_order_of_tasks_makes_no_other_options():
    assert StudyOptions(tasks=[Task.DIL, "prostate", "dil"]) == StudyOptions(tasks=("prostate", "dil"))
    with pytest.raises(ProstateXferError, match="The task 'bladder' is not known: use prostate, dil"):
        StudyOptions(tasks=("bladder",))


def test_the_fingerprint_changes_with_what_changes_results_and_with_nothing_else():
    same = replace(StudyOptions(), threads=2, models_folder=Path("elsewhere"), dil_model="/the/same/file.safetensors")
    assert same.fingerprint() == StudyOptions().fingerprint()
    changes = {"tasks": ("dil",), "device": "cpu", "precision": "fp32", "tta": True, "uncertainty": False}
    prints = {replace(StudyOptions(), **{name: value}).fingerprint() for name, value in changes.items()}
    assert len(prints | {StudyOptions().fingerprint()}) == len(changes) + 1


def test_asking_for_a_problem_loads_no_pytorch_and_reads_each_card_once(monkeypatch):
    code = """
import sys
from pathlib import Path
from ProstateXferLib.cohort.options import StudyInputs, StudyOptions, Task
print(sorted({"numpy", "SimpleITK", "torch"} & set(sys.modules)))
inputs = StudyInputs(t2w=Path("a"), cbct=Path("b"))
print(StudyOptions(tasks=tuple(Task)).problem(inputs))
from ProstateXferLib.cohort import model_choice
model_choice.read_card = None
print(StudyOptions(tasks=tuple(Task)).problem(inputs))
print(sorted({"torch", "scipy", "safetensors", "matplotlib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "None", "None", "[]"]
