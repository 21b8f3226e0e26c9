# SPDX-License-Identifier: Apache-2.0
"""PANTHER's recipes: a chain from organs over CT to MR, what goes over from stage to stage, and what is kept."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from ProstateXferLib.checkpoints.file_format import read_card, read_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.files import file_sha256
from ProstateXferLib.pipelines.segmenter import Segmenter

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")

from dataset_trees.trees import write_tree
from dataset_trees.volumes import gland_labels, image_array, lesion_labels, write
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.training.finished_run import drop_weights_of_run
from ProstateXferLib.training.recipe.reading import read_recipe

STAGES = ("foundation", "ct", "mr")
SIZES = ("preprocessing.spacing_zyx_mm=[3.0, 2.5, 2.0]", "preprocessing.tile_zyx=[8, 16, 16]")
SMALL = (
    *(f"stages.{stage}.network.arguments={{base_features: 4}}" for stage in STAGES),
    *(f"stages.{stage}.settings.{size}" for stage in STAGES for size in SIZES),
    *(f"stages.{stage}.loop.precision=fp32" for stage in STAGES),
    *(f"stages.{stage}.loop.workers=0" for stage in STAGES),
    "stages.mr.split.folds=2",
    "stages.mr.loop.validate_epochs=1",
    # Too small to change a weight: what a stage took over from the one before can still be seen when it is done.
    *(f"stages.{stage}.optimiser.learning_rate=1e-30" for stage in STAGES[1:]),
)


def ct_array(seed):
    return image_array(seed) - 200


def nnunet_tree(folder, labels, drawn):
    for case in range(2):
        write(ct_array(10 + case), folder / "imagesTr" / f"c{case}_0000.nii.gz")
        write(drawn, folder / "labelsTr" / f"c{case}.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 2}
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def msd_pancreas_tree(folder):
    for case in range(2):
        write(ct_array(20 + case), folder / "imagesTr" / f"pancreas_{case}.nii.gz")
        write(gland_labels() + lesion_labels(), folder / "labelsTr" / f"pancreas_{case}.nii.gz")
    names = [f"pancreas_{case}.nii.gz" for case in range(2)]
    description = {
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Every data set that the recipe names, by the names that its label maps really have."""
    root = tmp_path_factory.mktemp("panther")
    organs = read_recipe("panther/task1").stages[0].settings.heads[0].values
    values = {"background": 0} | {name: value for value, name in enumerate(organs, start=1)}
    drawn = np.arange(gland_labels().size).reshape(gland_labels().shape) % 14
    nnunet_tree(root / "Dataset218_AMOS22", values, drawn.astype(np.uint8))
    msd_pancreas_tree(root / "Task07_Pancreas")
    panorama = {"background": 0, "Pancreatic tumour": 1, "Pancreas": [4, 5]}
    nnunet_tree(root / "PANORAMA", panorama, 4 * gland_labels() - 3 * lesion_labels())
    write_tree("panther", root / "PANTHER")
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """`prostatexfer train panther/task1`, two steps a stage."""
    folder = tmp_path_factory.mktemp("run")
    words = [word for change in SMALL for word in ("--set", change)]
    words += ["-o", str(folder / "task1.safetensors"), "--data", str(data), "--steps", "2", "--device", "cpu"]
    assert main(["train", "panther/task1", *words]) == 0
    return folder


def test_all_but_stem_and_outputs_goes_over_from_stage_to_stage(trained):
    stages = trained / "task1.run" / "stages"
    files = ["01-foundation/final", "02-ct/final", "03-mr/final"]
    foundation, ct, mr = (read_checkpoint(stages / f"{file}.safetensors")[1] for file in files)
    for before, after in ((foundation, ct), (ct, mr)):
        assert before.keys() == after.keys()
        fresh = {name for name in after if "stem" in name or "seg_layers" in name}
        assert {name.split(".")[1] for name in fresh} == {"stem", "seg_layers"}
        for name in after.keys() - fresh:
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-20, msg=name)
    # Both begin at random from one seed, but the foundation's were trained.
    stems = [name for name in ct if "stem" in name and name.endswith("conv.weight")]
    assert stems
    assert not any(torch.equal(ct[name], foundation[name]) for name in stems)
    output = [name for name in ct if "seg_layers" in name and name.endswith("weight")]
    assert {foundation[name].shape[0] for name in output} == {14}
    assert {ct[name].shape[0] for name in output} == {3}


def test_the_result_finds_pancreas_and_tumour_on_mr_and_knows_its_way(trained):
    card = read_card(trained / "task1.safetensors")
    assert (card.inputs, [s.name for s in card.structures]) == (("T1w",), ["Pancreas", "Pancreatic tumour"])
    assert [entry["stage"] for entry in card.history] == list(STAGES)
    assert [[source["layout"] for source in entry["data"]] for entry in card.history] == [
        ["nnunet"],
        ["msd", "nnunet"],
        ["panther"],
    ]
    assert [sum(source["cases"] for source in entry["data"]) for entry in card.history] == [2, 4, 2]
    assert card.arguments["deep_supervision"]


def test_best_and_final_are_candidates_with_their_validation(trained):
    run = trained / "task1.run"
    listed = json.loads((run / "candidates.json").read_text(encoding="utf-8"))
    assert [entry["kind"] for entry in listed["candidates"]] == ["best", "final"]
    for entry in listed["candidates"]:
        assert file_sha256(run / entry["path"]) == entry["sha256"]
        assert set(entry["validation"]) == {"dice", "dice_pancreas", "dice_pancreatic_tumour"}
    paths = [run / entry["path"] for entry in listed["candidates"]]
    assert len(Segmenter(paths, device="cpu").checkpoints) == 2
    assert listed["recipe"]["name"] == "panther-task1"


def test_a_run_whose_weights_are_dropped_lists_no_candidates(trained, tmp_path):
    copy = tmp_path / "task1.run"
    (copy / "stages" / "03-mr").mkdir(parents=True)
    for name in ("candidates.json", "stages/03-mr/best.safetensors", "stages/03-mr/metrics.jsonl"):
        (copy / name).write_bytes((trained / "task1.run" / name).read_bytes())
    drop_weights_of_run(tmp_path / "task1.safetensors")
    assert [path.name for path in copy.rglob("*") if path.is_file()] == ["metrics.jsonl"]


@pytest.mark.parametrize(("arm", "augmentation"), [("task1-da5", "da5"), ("task1-da5-ord0", "da5_ord0")])
def test_an_augmentation_arm_differs_in_the_last_stage_alone(arm, augmentation):
    plain, other = read_recipe("panther/task1").stages, read_recipe(f"panther/{arm}").stages
    assert plain[:2] == other[:2]
    settings = dataclasses.replace(plain[2].settings, augmentation=augmentation)
    assert other[2] == dataclasses.replace(plain[2], settings=settings)
    assert plain[2].settings.augmentation == "nnunet"


def test_other_recipes_are_the_same_chain_from_a_given_start_or_longer_or_smaller():
    chain, given = read_recipe("panther/task1").stages, read_recipe("panther/task1-from-foundation").stages
    assert given[1] == chain[2]
    assert given[0] == dataclasses.replace(
        chain[1], start=dataclasses.replace(chain[1].start, checkpoint="multitalent-v2")
    )
    *earlier, last = read_recipe("panther/task2").stages
    assert tuple(earlier) == chain
    assert (last.data[0].options, last.settings.sequences) == ({"task": 2}, ("T2w",))
    same = {"name": "mr", "data": chain[2].data, "settings": chain[2].settings}
    assert dataclasses.replace(last, **same) == chain[2]
    for stage in read_recipe("panther/task1-small").stages:
        rules = stage.settings.preprocessing
        assert (rules.tile_zyx, rules.spacing_zyx_mm) == ((128, 128, 128), (1.5, 1.5, 1.5))


def test_the_planned_network_is_resenc_l_at_192_voxels():
    rules = read_recipe("panther/task1").stages[2].settings.preprocessing
    plan = planned_unet(rules.tile_zyx, rules.spacing_zyx_mm, channels=1, classes=3, residual=True)
    assert plan["n_blocks_per_stage"] == [1, 3, 4, 6, 6, 6]
    assert plan["features_per_stage"] == [32, 64, 128, 256, 320, 320]
