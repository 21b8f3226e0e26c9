# SPDX-License-Identifier: Apache-2.0
"""An ensemble is one small checkpoint that names its members by sha256, and runs only with exactly these."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_images.voxels import noise
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.ensemble_card import average_of, is_ensemble, members_of
from ProstateXferLib.checkpoints.ensemble_members import find_member_paths
from ProstateXferLib.checkpoints.file_format import validate_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.loose_models import models_in
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import BLADDER, DIL, PROSTATE
from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.opinion_pool import OpinionPool
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((40, 32, 6), (1.0, 1.2, 3.0), (3.0, -4.0, 5.0))


@pytest.fixture(scope="module")
def image():
    return noise(GRID, 4)


@pytest.fixture
def tokens(tmp_path, random_state, segmentation_card):
    """Path of a random MR-DINOv3 of that name."""

    def make(name, seed=0, **card):
        state = random_state(seed, encoder_seed=seed, gland=2)
        card = dataclasses.replace(segmentation_card("gland", **card), name=name)
        return write_checkpoint(tmp_path / f"{name}.safetensors", card, state)

    return make


@pytest.fixture
def dense(tmp_path):
    """Path of a random 3-D U-Net at a spacing of its own."""

    def make(name, **changes):
        heads = changes.get("heads", (Head("gland", (PROSTATE.value,)),))
        classes = sum(head.classes for head in heads)
        arguments = planned_unet((8, 16, 16), (2, 1, 1), channels=1, classes=classes, base_features=4)
        fields = {"structures": (PROSTATE,), "heads": heads} | changes
        rule = Preprocessing(intensity=IntensityRule("zscore"), spacing_zyx_mm=(2.0, 1.5, 1.5), tile_zyx=(8, 16, 16))
        card = ModelCard(
            name=name,
            task="segmentation",
            architecture="plain_conv_unet",
            arguments=arguments,
            preprocessing=rule,
            **fields,
        )
        torch.manual_seed(7)
        state = dense_network("plain_conv_unet", arguments).state_dict()
        return write_checkpoint(tmp_path / f"{name}.safetensors", card, state)

    return make


@pytest.fixture
def nnunet(tmp_path):
    """A 2-D nnU-Net folder of two folds that finds the prostate."""
    return write_folder(
        tmp_path / "nnUNetTrainer__nnUNetPlans__2d",
        configuration(2, spacing=[1.5, 1.5], patch_size=[16, 16]),
        name="2d",
        folds=("0", "1"),
        weights=lambda fold: random_weights(2, classes=2, seed=int(fold)),
        dataset={"labels": {"background": 0, "Prostate": 1}},
    )


def probability(model, image, **options):
    return sitk.GetArrayFromImage(Segmenter(model, device="cpu", **options).predict(image).probabilities["Prostate"])


def test_an_ensemble_is_a_checkpoint_of_a_few_kilobytes_that_names_its_members_by_sha256(tmp_path, tokens):
    a, b = tokens("a"), tokens("b", 1)
    made = make_ensemble(tmp_path / "both.safetensors", [a, b], weights=(3, 1), average="logit")
    assert made.path.stat().st_size < 8000
    assert validate_checkpoint(made.path) == made.card == load_checkpoint(made.path).card
    assert is_ensemble(made.card) and average_of(made.card) == "logit"
    first, second = members_of(made.card)
    assert (first.name, first.weight, first.file) == ("a", 0.75, "a.safetensors")
    assert (second.sha256, second.weight) == (load_checkpoint(b).sha256, 0.25)


@pytest.mark.parametrize("average", ["probability", "logit"])
def test_mixed_members_are_averaged_on_the_inputs_grid_with_their_weights(
    tmp_path, image, tokens, dense, nnunet, average
):
    members, weights = [tokens("a"), dense("b"), nnunet], (0.5, 0.3, 0.2)
    found = Segmenter(
        make_ensemble(tmp_path / "mix.safetensors", members, weights=weights, average=average), device="cpu"
    ).predict(image)
    pool = OpinionPool(average)
    for member, weight in zip(members, weights, strict=True):
        pool.add(("Prostate",), {"Prostate": probability(member, image)}, weight=weight)
    expected = pool.result()["Prostate"]
    assert Grid.of(found.labels).same_as(GRID)
    assert sitk.GetArrayFromImage(found.probabilities["Prostate"]) == pytest.approx(expected, abs=2e-6)
    assert np.array_equal(
        sitk.GetArrayFromImage(found.labels) == 1, sitk.GetArrayFromImage(found.probabilities["Prostate"]) > 0.5
    )


def test_a_list_of_an_nnunets_folds_counts_as_one_and_an_ensembles_members_count_each(tmp_path, image, nnunet):
    other = write_folder(
        tmp_path / "more" / "nnUNetTrainer__nnUNetPlans__2d",
        configuration(2, spacing=[1.5, 1.5], patch_size=[16, 16]),
        name="2d",
        folds=("2",),
        weights=lambda fold: random_weights(2, classes=2, seed=9),
        dataset={"labels": {"background": 0, "Prostate": 1}},
    )
    alone = [probability(folder, image) for folder in (nnunet, other)]
    ensemble = make_ensemble(tmp_path / "two.safetensors", [nnunet, other])
    assert probability(ensemble, image) == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-6)
    three_folds = probability([nnunet, other], image)  # the mean of three folds' logits, as nnU-Net takes it
    assert np.abs(three_folds - (alone[0] + alone[1]) / 2).max() > 1e-3


def test_the_record_names_the_ensemble_its_members_and_their_weights(tmp_path, image, tokens):
    made = make_ensemble(tmp_path / "both.safetensors", [tokens("a"), tokens("b", 1)], weights=(3, 1))
    record = Segmenter(made, device="cpu").predict(image).provenance
    assert [model["name"] for model in record.models] == ["both", "a", "b"]
    assert record.models[0]["sha256"] == made.sha256
    assert (record.options["average"], record.options["weights"]) == ("probability", [0.75, 0.25])


def test_the_heaviest_members_rules_count(tmp_path, tokens):
    paths = []
    for name, seed, threshold in (("strict", 0, 0.9), ("loose", 1, 0.2)):
        path = tokens(name, seed)
        checkpoint = load_checkpoint(path)
        heads = tuple(dataclasses.replace(head, threshold=threshold) for head in checkpoint.card.heads)
        state = checkpoint.build().state_dict()
        paths.append(write_checkpoint(path, dataclasses.replace(checkpoint.card, heads=heads), state))
    for weights, threshold in (((2, 1), 0.9), ((1, 2), 0.2)):
        made = make_ensemble(tmp_path / f"{threshold}.safetensors", paths, weights=weights)
        assert [head.threshold for head in made.card.heads] == [threshold]


def test_members_with_structures_of_their_own_give_them_all(tmp_path, image, tokens, dense):
    lesion = dense("lesion", structures=(DIL,), heads=(Head("dil", (DIL.value,)),))
    found = Segmenter(make_ensemble(tmp_path / "all.safetensors", [tokens("gland"), lesion]), device="cpu").predict(
        image
    )
    assert set(found.probabilities) == {"Prostate", "DIL"}
    assert sitk.GetArrayFromImage(found.probabilities["DIL"]) == pytest.approx(
        sitk.GetArrayFromImage(Segmenter(lesion, device="cpu").predict(image).probabilities["DIL"]), abs=1e-6
    )


def test_a_member_given_twice_counts_twice(tmp_path, tokens):
    a, b = tokens("a"), tokens("b", 1)
    made = make_ensemble(tmp_path / "both.safetensors", [a, b, a])
    assert [(member.name, round(member.weight, 6)) for member in members_of(made.card)] == [
        ("a", 0.666667),
        ("b", 0.333333),
    ]


def test_a_member_is_found_under_another_name_by_what_it_holds(tmp_path, tokens):
    made = make_ensemble(tmp_path / "both.safetensors", [tokens("a"), tokens("b", 1)])
    (tmp_path / "a.safetensors").rename(tmp_path / "renamed.safetensors")
    assert [path.name for path in find_member_paths(made.card, made.path)] == ["renamed.safetensors", "b.safetensors"]


def test_a_missing_and_a_changed_member_are_told_apart_and_nothing_runs_with_fewer(tmp_path, tokens):
    made = make_ensemble(tmp_path / "both.safetensors", [tokens("a"), tokens("b", 1)])
    tokens("b", 2)
    with pytest.raises(ProstateXferError, match="'b' of the ensemble 'both' is not the file it was chosen with"):
        Segmenter(made, device="cpu")
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ProstateXferError, match="'b' .* of the ensemble 'both' is not on this machine"):
        Segmenter(made, device="cpu")


def test_members_elsewhere_are_refused_or_copied_beside(tmp_path, image, tokens, nnunet):
    folder = tmp_path / "out"
    folder.mkdir()
    members = [tokens("a"), nnunet]
    with pytest.raises(ProstateXferError, match="would not be found again"):
        make_ensemble(folder / "both.safetensors", members)
    assert list(folder.iterdir()) == []
    made = make_ensemble(folder / "both.safetensors", members, copy_members=True)
    assert all(path.is_relative_to(folder / "both.members") for path in find_member_paths(made.card, made.path))
    assert list(models_in(folder)) == [made.path]  # the copies are no models of their own
    moved = folder.rename(tmp_path / "moved")
    (tmp_path / "a.safetensors").unlink()
    assert probability(moved / "both.safetensors", image).shape == GRID.shape_zyx


def test_an_ensemble_that_names_files_outside_its_folder_is_refused(tmp_path, tokens):
    made = make_ensemble(tmp_path / "both.safetensors", [tokens("a"), tokens("b", 1)])
    for file in ("../a.safetensors", "/etc/passwd", "C:\\a.safetensors", ""):
        arguments = json.loads(json.dumps(made.card.arguments))
        arguments["members"][0]["file"] = file
        card = dataclasses.replace(made.card, arguments=arguments)
        with pytest.raises(ProstateXferError, match="leaves the ensemble's folder"):
            members_of(card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.clear(), "names no members"),
        (lambda m: m[0].update(weight=0.9), "do not sum to 1"),
        (lambda m: m[0].update(weight=-1), "weights are above 0"),
        (lambda m: m[0].update(weight=True), "weights are above 0"),
        (lambda m: m[0].update(sha256="abc"), "has no sha256"),
        (lambda m: m[0].pop("file"), "is malformed"),
        (lambda m: m[0].update(extra=1), "is malformed"),
        (lambda m: m.append(dict(m[0])), "names a member twice"),
    ],
)
def test_a_malformed_card_is_refused_with_a_sentence(tmp_path, tokens, change, message):
    made = make_ensemble(tmp_path / "both.safetensors", [tokens("a"), tokens("b", 1)])
    arguments = json.loads(json.dumps(made.card.arguments))
    change(arguments["members"])
    with pytest.raises(ProstateXferError, match=message):
        members_of(dataclasses.replace(made.card, arguments=arguments))


def test_what_cannot_be_averaged_is_refused(tmp_path, tokens, dense):
    a, ensemble = tokens("a"), tmp_path / "e.safetensors"
    both = dense("both", structures=(PROSTATE, BLADDER), heads=(Head("all", (PROSTATE.value, BLADDER.value)),))
    for members, weights, message in (
        ([], None, "at least one member"),
        ([a], (1, 2), "1 members have 2 weights"),
        ([a], (0,), "not all above 0"),
        ([a, both], None, "among different structures"),
        ([make_ensemble(tmp_path / "inner.safetensors", [a])], None, "is an ensemble itself"),
    ):
        with pytest.raises(ProstateXferError, match=message):
            make_ensemble(ensemble, members, weights)
        assert not ensemble.exists()


def test_an_ensemble_has_no_network_and_is_run_alone(tmp_path, tokens):
    a = tokens("a")
    made = make_ensemble(tmp_path / "e.safetensors", [a, tokens("b", 1)])
    with pytest.raises(ProstateXferError, match="has no weights of its own"):
        made.build()
    with pytest.raises(ProstateXferError, match="is an ensemble and is run alone"):
        Segmenter([made, a], device="cpu")
