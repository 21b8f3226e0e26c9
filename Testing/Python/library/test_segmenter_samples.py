# SPDX-License-Identifier: Apache-2.0
"""Samples: what each voice of a run says alone equals a run of that voice alone, and the result does not change."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.import_nnunet import import_nnunet
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((32, 32, 4), (1.0, 1.2, 3.0), (3.0, -4.0, 5.0))


def array_of(image):
    return sitk.GetArrayFromImage(image)


def noise(grid=GRID):
    return grid.image(np.random.default_rng(4).integers(-900, 900, grid.shape_zyx).astype(np.int16))


def mirrored(array, *axes):
    return np.ascontiguousarray(np.flip(array, axes))


@pytest.fixture
def tokens(tmp_path, random_state, segmentation_card):
    def make(name, seed=0, encoder_seed=None, heads=("gland",), **card):
        encoder_seed = seed if encoder_seed is None else encoder_seed
        card = dataclasses.replace(segmentation_card(*heads, **card), name=name)
        state = random_state(seed, encoder_seed=encoder_seed, **dict.fromkeys(heads, 2))
        return write_checkpoint(tmp_path / f"{name}.safetensors", card, state)

    return make


@pytest.fixture
def nnunet(tmp_path):
    return results_folder(tmp_path, patch=(4, 16, 16), folds=("0", "1", "2"))


def results_folder(tmp_path, *, patch, folds):
    return write_folder(
        tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        configuration(3, spacing=[3.0, 1.2, 1.0], patch_size=list(patch)),
        folds=folds,
        weights=lambda fold: random_weights(3, classes=2, seed=int(fold)),
        dataset={"labels": {"background": 0, "Prostate": 1}},
        mirror_axes=(1, 2),
    )


def same_result(model, image, **options):
    """With samples and without, to the bit; returns the former."""
    plain = Segmenter(model, device="cpu", **options).predict(image)
    sampled = Segmenter(model, device="cpu", samples=True, **options).predict(image)
    assert np.array_equal(array_of(plain.labels), array_of(sampled.labels))
    for name, volume in plain.probabilities.items():
        assert np.array_equal(array_of(volume), array_of(sampled.probabilities[name]))
    assert plain.samples == () and plain.sampled_by == ""
    return sampled


@pytest.mark.parametrize("shared", [True, False], ids=["heads on one encoder", "models of their own"])
def test_several_models_are_sampled_by_member_and_each_says_what_it_says_alone(tokens, shared):
    paths = [tokens(f"model-{seed}", seed, encoder_seed=0 if shared else seed) for seed in range(3)]
    found = same_result(paths, noise())
    assert (found.sampled_by, [sample.name for sample in found.samples]) == (
        "members",
        ["model-0", "model-1", "model-2"],
    )
    for path, sample in zip(paths, found.samples, strict=True):
        alone = Segmenter(path, device="cpu").predict(noise())
        assert np.array_equal(array_of(sample.labels), array_of(alone.labels))
        assert [structure.name for structure in sample.structures] == ["Prostate"]
        assert Grid.of(sample.labels).same_as(GRID)


def test_members_of_one_name_can_be_told_apart(tokens, tmp_path):
    first = tokens("unet", 0)
    second = first.rename(tmp_path / "first.safetensors")
    found = Segmenter([second, tokens("unet", 1)], device="cpu", samples=True).predict(noise())
    assert [sample.name for sample in found.samples] == ["unet 1", "unet 2"]


@pytest.mark.parametrize("average", ["probability", "logit"])
def test_an_ensemble_is_sampled_by_member(tmp_path, tokens, nnunet, average):
    member = tokens("a")
    made = make_ensemble(tmp_path / "both.safetensors", [member, nnunet], average=average)
    found = same_result(made, noise())
    assert found.sampled_by == "members"
    for model, sample in zip((member, nnunet), found.samples, strict=True):
        alone = Segmenter(model, device="cpu").predict(noise())
        assert np.array_equal(array_of(sample.labels), array_of(alone.labels))


@pytest.mark.parametrize("accumulate", ["fp32", "fp16"])
def test_one_nnunet_of_several_folds_is_sampled_by_fold(nnunet, tmp_path, accumulate):
    found = same_result(nnunet, noise(), accumulate=accumulate)
    assert (found.sampled_by, [sample.name for sample in found.samples]) == ("folds", ["fold 0", "fold 1", "fold 2"])
    for fold, sample in enumerate(found.samples):
        path = write_checkpoint(tmp_path / f"{fold}.safetensors", *import_nnunet(nnunet, {"fold": fold}))
        alone = Segmenter(path, device="cpu", accumulate=accumulate).predict(noise())
        assert np.array_equal(array_of(sample.labels), array_of(alone.labels))


def test_one_network_is_sampled_by_mirroring_and_not_at_all_without(tokens):
    path = tokens("one")
    assert same_result(path, noise()).samples == ()
    found = same_result(path, noise(), tta=True)
    names = ["as it is", "mirrored along x", "mirrored along y", "mirrored along y, x"]
    assert (found.sampled_by, [sample.name for sample in found.samples]) == ("mirrorings", names)
    for sample, axes in zip(found.samples, ((), (2,), (1,), (1, 2)), strict=True):
        image = GRID.image(mirrored(array_of(noise()), *axes))
        alone = array_of(Segmenter(path, device="cpu").predict(image).labels)
        assert np.count_nonzero(mirrored(alone, *axes) != array_of(sample.labels)) <= 2  # ties of rounding


def test_only_the_mirrorings_that_the_card_allows_are_averaged(tokens):
    """A network that never saw an image front to back says nothing about it."""
    sideways = tokens("sideways", preprocessing={"mirror_axes": ("x",)})
    found = same_result(sideways, noise(), tta=True)
    assert [sample.name for sample in found.samples] == ["as it is", "mirrored along x"]
    every = same_result(tokens("every"), noise(), tta=True)
    assert not np.allclose(
        array_of(every.probabilities["Prostate"]), array_of(found.probabilities["Prostate"]), atol=1e-3
    )
    for mine, same in zip(found.samples, every.samples, strict=False):
        assert np.array_equal(array_of(mine.labels), array_of(same.labels))
    never = tokens("never", preprocessing={"mirror_axes": ()})
    plain = Segmenter(never, device="cpu").predict(noise()).probabilities["Prostate"]
    assert np.array_equal(array_of(same_result(never, noise(), tta=True).probabilities["Prostate"]), array_of(plain))


def test_a_single_fold_of_an_nnunet_is_sampled_by_the_mirrorings_that_it_allows(tmp_path):
    path = results_folder(tmp_path, patch=(4, 32, 32), folds=("0",))  # one window: its weights are not mirrored
    found = same_result(path, noise(), tta=True)
    assert [sample.name for sample in found.samples] == [
        "as it is",
        "mirrored along y",
        "mirrored along x",
        "mirrored along y, x",
    ]
    for sample, axes in zip(found.samples, ((), (1,), (2,), (1, 2)), strict=True):
        image = GRID.image(mirrored(array_of(noise()), *axes))
        alone = array_of(Segmenter(path, device="cpu").predict(image).labels)
        assert np.count_nonzero(mirrored(alone, *axes) != array_of(sample.labels)) <= 4


def test_a_sample_knows_only_the_structures_of_its_model(tokens, tmp_path, random_state, segmentation_card):
    card = dataclasses.replace(
        segmentation_card("gland"), name="lesion", structures=(DIL,), heads=(Head("gland", (DIL.value,)),)
    )
    lesion = write_checkpoint(tmp_path / "lesion.safetensors", card, random_state(3, encoder_seed=0, gland=2))
    found = Segmenter([tokens("gland", encoder_seed=0), lesion], device="cpu", samples=True).predict(noise())
    assert [[structure.name for structure in sample.structures] for sample in found.samples] == [
        [PROSTATE.name],
        [DIL.name],
    ]
    assert found.provenance.options["sampled_by"] == "members"
