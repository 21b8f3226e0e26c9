# SPDX-License-Identifier: Apache-2.0
"""SAP's recipes: what goes over from skeleton to lesions, how lesions are drawn, and the threshold they end with."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.file_format import read_card, read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.preprocessing import Preprocessing
from ProstateXferLib.cli.main import main
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL
from ProstateXferLib.networks.plain_conv_unet import PlainConvUNet
from ProstateXferLib.networks.swin_unetr import swin_unetr
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.engine.logs import read_metrics
from ProstateXferLib.training.engine.parameter_groups import assign_parameters

pytest.importorskip("yaml")
pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")

from dataset_trees.trees import write_tree
from dataset_trees.volumes import GRID, image_array, lesion_labels, write
from ProstateXferLib.training.recipe.reading import read_recipe
from ProstateXferLib.training.stage_data import find_data
from ProstateXferLib.training.stage_task import build_task
from ProstateXferLib.training.tasks.segmentation_settings import ThresholdTuning
from ProstateXferLib.training.tasks.threshold_tuning import tune_head_threshold

TILE = "[32, 32, 64]"  # MONAI's SwinUNETR cannot normalise the single voxel that 32 in all directions would leave
TINY = (
    *(
        f"stages.{stage}.network.arguments={{feature_size: 12, depths: [1, 1, 1, 1], window_size: 4}}"
        for stage in ("skeleton", "lesions")
    ),
    *(f"stages.{stage}.settings.preprocessing.tile_zyx={TILE}" for stage in ("skeleton", "lesions")),
    *(f"stages.{stage}.loop.precision=fp32" for stage in ("skeleton", "lesions")),
    *(f"stages.{stage}.loop.workers=0" for stage in ("skeleton", "lesions")),
    f"stages.lesions.settings.lesion_centred.size_zyx={TILE}",
    "stages.skeleton.split.folds=2",
    "stages.lesions.split.folds=3",
    "stages.lesions.split.tuning_fold=2",
)
LESIONS_ALONE = tuple(change for change in TINY if not change.startswith("stages.skeleton"))


def two_lesions():
    labels = lesion_labels(1)
    labels[1:3, 2:4, 2:5] = 2
    return labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two volunteers with a skeleton, and six patients, two of them with two lesions, two without any."""
    root = tmp_path_factory.mktemp("wb-mri")
    volunteers = write_tree("wb-mri", root / "wb-mri-volunteers")
    for name in ("t1w", "dwi", "skeleton"):
        (volunteers / "v02" / "siteA").mkdir(parents=True, exist_ok=True)
        file = f"{name}.nii.gz"
        (volunteers / "v02" / "siteA" / file).write_bytes((volunteers / "v01" / "siteB" / file).read_bytes())
    rows = ["subject,scan,lesions"]
    for patient, labels in enumerate(2 * [two_lesions()] + 2 * [lesion_labels(1)] + 2 * [lesion_labels(0)]):
        scan = root / "wb-mri-metastases" / f"m{patient}" / "first"
        write(image_array(50 + patient), scan / "t1w.nii.gz")
        write(image_array(70 + patient) + 400 * (labels > 0).astype(np.int16), scan / "dwi.nii.gz")
        write(labels, scan / "lesions.nii.gz")
        rows.append(f"m{patient},first,{labels.max()}")
    (root / "wb-mri-metastases" / "scans.csv").write_text("\n".join(rows), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """`prostatexfer train sap/lesions`, two steps a stage; the lesion stage's rate is too small to change a weight."""
    folder = tmp_path_factory.mktemp("sap")
    output = folder / "sap.safetensors"
    rates = ("stages.skeleton.optimiser.learning_rate=0.01", "stages.lesions.optimiser.learning_rate=1e-30")
    words = [word for change in (*TINY, *rates) for word in ("--set", change)]
    words += ["-o", str(output), "--data", str(data), "--steps", "2", "--device", "cpu"]
    assert main(["train", "sap/lesions", *words]) == 0
    return folder


def task_of(data, tmp_path, *changes, recipe="sap/lesions-scratch"):
    chain = read_recipe(recipe, changes=(*LESIONS_ALONE, *changes))
    (stage,) = chain.stages
    found = find_data(stage, data)
    options = {"cache": tmp_path / "cache", "device": torch.device("cpu"), "progress": SilentProgress()}
    return found, build_task(chain, stage, found.split, {}, **options)


def test_encoder_and_decoder_go_over_and_the_head_begins_anew(trained):
    stages = trained / "sap.run" / "stages"
    _, skeleton = read_checkpoint(stages / "01-skeleton" / "best.safetensors")
    card, lesions = read_checkpoint(trained / "sap.safetensors")
    dropped = {name for name in skeleton if "out" in name}
    assert dropped == {"out.conv.conv.weight", "out.conv.conv.bias"}
    for name in skeleton.keys() - dropped:
        torch.testing.assert_close(lesions[name], skeleton[name], rtol=0, atol=1e-20, msg=name)
    assert skeleton["out.conv.conv.weight"].shape[0] == 10
    assert lesions["out.conv.conv.weight"].shape[0] == 2
    assert not torch.equal(lesions["out.conv.conv.weight"], skeleton["out.conv.conv.weight"][:2])
    assert [entry["stage"] for entry in card.history] == ["skeleton", "lesions"]
    assert card.history[1]["start"]["name"] == "stage skeleton"
    assert (card.inputs, card.preprocessing.blending) == (("T1w", "DWI"), "constant")


def test_the_encoder_learns_at_a_fifth_of_the_rate(trained):
    lines = [
        line for line in read_metrics(trained / "sap.run" / "stages" / "02-lesions") if "learning_rate/rest" in line
    ]
    encoder, rest = "learning_rate/swin_vit+swinViT+encoder", "learning_rate/rest"
    assert lines[-1][rest] > 0
    assert lines[-1][encoder] == pytest.approx(lines[-1][rest] / 5)


def test_the_slow_group_is_the_transformer_and_the_convolutional_encoder():
    stage = read_recipe("sap/lesions").stages[1]
    assigned = assign_parameters(swin_unetr(2, 2, feature_size=12), stage.optimiser, stage.groups)
    assert {entry.name.split(".")[0] for entry in assigned if entry.factor == 0.2} == {
        "swinViT",
        *(f"encoder{i}" for i in (1, 2, 3, 4, 10)),
    }
    assert {entry.name.split(".")[0] for entry in assigned if entry.factor == 1.0} == {
        *(f"decoder{i}" for i in (1, 2, 3, 4, 5)),
        "out",
    }
    assert {entry.weight_decay for entry in assigned} == {1e-5}
    assert stage.optimiser.learning_rate * 0.2 == pytest.approx(2e-6)


def test_the_baseline_differs_from_sap_by_its_start_and_its_rates_alone():
    sap, scratch = read_recipe("sap/lesions").stages[1], read_recipe("sap/lesions-scratch").stages
    assert scratch == (dataclasses.replace(sap, start=scratch[0].start, groups=()),)
    assert scratch[0].start.checkpoint is None
    (ready,) = read_recipe("sap/lesions-from-skeleton").stages
    assert ready == dataclasses.replace(sap, start=dataclasses.replace(sap.start, checkpoint="sap-skeleton"))
    anatomy, prostate = read_recipe("sap/prostate").stages
    assert prostate.groups == sap.groups
    assert prostate.start == sap.start
    # Who validates lesions was not trained on in the stage before.
    assert anatomy.split == dataclasses.replace(prostate.split, tuning_fold=-1)


def test_every_lesion_gives_one_patch_an_epoch_and_as_many_are_free_of_lesions(data, tmp_path):
    found, task = task_of(data, tmp_path)
    expected = sum(case.attributes["lesions"] for _, cases in found.split.train for case in cases)
    assert expected >= 2
    assert len(task.samples) == 2 * expected
    lesion = task.card().structures[0].value
    for epoch in range(2):
        samples = [task.samples[i] for i in range(epoch * len(task.samples), (epoch + 1) * len(task.samples))]
        assert sum(bool((sample["labels"] == lesion).any()) for sample in samples) == expected


def test_the_tuning_fold_trains_but_never_validates(data, tmp_path):
    found, _ = task_of(data, tmp_path)
    trained_on = {case.patient_id for _, cases in found.split.train for case in cases}
    tuned_on = {case.patient_id for case in found.split.tuning}
    assert len(tuned_on) == 2
    assert tuned_on < trained_on
    assert not trained_on & {case.patient_id for case in found.split.validation}


def test_the_tuned_threshold_ends_in_the_card_and_in_its_history(trained):
    card = read_card(trained / "sap.safetensors")
    (head,) = card.heads
    assert head.threshold in ThresholdTuning("lesions").thresholds
    tuned = card.history[-1]["tuned"]
    assert (tuned["head"], tuned["threshold"], tuned["beta"]) == ("lesions", head.threshold, 2)
    assert read_card(trained / "sap.run" / "stages" / "02-lesions" / "best.safetensors").heads == card.heads
    assert "tuned" not in card.history[0]


def test_scoring_anew_keeps_the_threshold(trained, data):
    output = trained / "sap.safetensors"
    before = read_card(output)
    rates = ("stages.skeleton.optimiser.learning_rate=0.01", "stages.lesions.optimiser.learning_rate=1e-30")
    words = [word for change in (*TINY, *rates, "texts.title=New") for word in ("--set", change)]
    words += ["-o", str(output), "--data", str(data), "--steps", "2", "--device", "cpu", "--score-only"]
    assert main(["train", "sap/lesions", *words]) == 0
    after = read_card(output)
    assert (after.title, after.heads, after.history) == ("New", before.heads, before.history)


def test_best_and_final_weights_are_listed_for_ensembles(trained):
    run = trained / "sap.run"
    listed = json.loads((run / "candidates.json").read_text(encoding="utf-8"))
    assert (listed["stage"], listed["split"]["fold"]) == ("lesions", 0)
    assert [(entry["kind"], entry["selected"]) for entry in listed["candidates"]] == [("best", True), ("final", False)]
    for entry in listed["candidates"]:
        assert 0 <= entry["validation"]["dice"] <= 1
        assert Segmenter(run / entry["path"], device="cpu").checkpoints[0].sha256 == entry["sha256"]


@pytest.fixture
def any_network(tmp_path):
    """A checkpoint of a small random network, an image, and the probability that it gives there."""
    arguments = planned_unet((8, 16, 16), (1.0, 1.0, 1.0), channels=1, classes=2, base_features=4)
    torch.manual_seed(5)
    card = ModelCard(
        "any",
        "segmentation",
        "plain_conv_unet",
        arguments=arguments,
        preprocessing=Preprocessing(IntensityRule("zscore"), tile_zyx=(8, 16, 16)),
        structures=(DIL,),
        heads=(Head("lesions", (DIL.value,)),),
        history=({"stage": "earlier"}, {"stage": "lesions"}),
    )
    path = write_checkpoint(tmp_path / "any.safetensors", card, PlainConvUNet.from_arguments(arguments).state_dict())
    image = write(image_array(3), tmp_path / "t2w.nii.gz")
    probability = Segmenter(path, device="cpu").predict(sitk.ReadImage(str(image))).probabilities["DIL"]
    return path, image, sitk.GetArrayFromImage(probability)


def test_the_threshold_that_separates_lesions_from_the_rest_is_found_and_rules_the_labels(any_network, tmp_path):
    checkpoint, image, probability = any_network
    tried = tuple(float(q) for q in np.quantile(probability, (0.97, 0.995, 0.999)))
    truth = probability >= tried[0]
    mask = write(truth.astype(np.uint8), tmp_path / "lesion.nii.gz")
    cases = [
        Case("drawn", "p1", {"T2w": image}, {"DIL": (Mask(mask),)}),
        Case("nobody looked", "p2", {"T2w": image}, {"Prostate": (Mask(mask),)}),
    ]
    before = sitk.GetArrayFromImage(Segmenter(checkpoint, device="cpu").predict(sitk.ReadImage(str(image))).labels)
    options = {"device": "cpu", "progress": SilentProgress()}
    tuned = tune_head_threshold(checkpoint, cases, ThresholdTuning("lesions", tried), **options)
    assert (tuned.threshold, tuned.f_beta) == (tried[0], 1.0)
    assert dict(tuned.tried)[tried[2]] < 1
    after = sitk.GetArrayFromImage(Segmenter(checkpoint, device="cpu").predict(sitk.ReadImage(str(image))).labels)
    np.testing.assert_array_equal(after == DIL.value, truth)
    assert (before != after).any()
    assert read_card(checkpoint).history[-1]["tuned"]["threshold"] == tried[0]


def test_exams_without_a_lesion_leave_the_checkpoint_as_it_was(any_network, tmp_path):
    checkpoint, image, _ = any_network
    empty = write(np.zeros(GRID.shape_zyx, np.uint8), tmp_path / "none.nii.gz")
    before = checkpoint.read_bytes()
    with pytest.raises(ProstateXferError, match="without a lesion"):
        tune_head_threshold(
            checkpoint,
            [Case("a", "a", {"T2w": image}, {"DIL": (Mask(empty),)})],
            ThresholdTuning("lesions"),
            device="cpu",
            progress=SilentProgress(),
        )
    assert checkpoint.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("stages.lesions.split.tuning_fold=-1", "keeps no cases"),
        ("stages.lesions.settings.tune=null", "names no head"),
        ("stages.lesions.settings.tune.head=bones", "the heads are lesions"),
        ("stages.lesions.settings.heads=[{name: lesions, values: [Bone lesion, Bone]}]", "one structure alone"),
        ("stages.lesions.settings.heads=[{name: lesions, values: [Bone lesion], threshold: 0.3}]", "of its own"),
        (
            "stages.lesions.settings.heads=[{name: lesions, values: [Bone lesion], min_volume_cm3: 1}]",
            "together with within",
        ),
        ("stages.lesions.settings.tune.thresholds=[0.5, 1.5]", "between 0 and 1"),
    ],
)
def test_a_threshold_that_cannot_be_tuned_is_refused_before_training(data, tmp_path, change, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        task_of(data, tmp_path, change)


def test_a_recipe_leaves_out_stages_that_its_base_has_and_no_others(tmp_path):
    recipe = tmp_path / "own.yaml"
    recipe.write_text("base: sap/lesions\nwithout: [bones]\n", encoding="utf-8")
    with pytest.raises(ProstateXferError, match=r"its base's stages \(skeleton, lesions\)"):
        read_recipe(recipe)
    recipe.write_text("base: sap/lesions\nwithout: [lesions]\n", encoding="utf-8")
    assert [stage.name for stage in read_recipe(recipe).stages] == ["skeleton"]
