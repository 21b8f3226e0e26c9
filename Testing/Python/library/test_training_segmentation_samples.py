# SPDX-License-Identifier: Apache-2.0
"""Samples of segmentation stages: what is cut, painted, augmented, and drawn besides, by number alone."""

import numpy as np
import pytest
import torch

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import write_image
from ProstateXferLib.training.augmentation.slice_crops import CropOptions
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.sampling.slices import SliceOptions
from ProstateXferLib.training.tasks.segmentation_preparation import preparation, with_training_statistics
from ProstateXferLib.training.tasks.segmentation_samples import SamplesWithDraws, segmentation_samples
from ProstateXferLib.training.tasks.segmentation_settings import (
    HeadSettings,
    PaintSettings,
    PatchSettings,
    SegmentationSettings,
)

AS_IT_IS = IntensityRule("standardise", mean=0.0, deviation=1.0)
HEADS = (HeadSettings("gland", ("Prostate",)), HeadSettings("dil", ("DIL",), within="Prostate"))
CROP = SliceOptions(foreground_share=0.5, warp=CropOptions(size=48))


def settings_of(**changes):
    rules = {"preprocessing": Preprocessing(AS_IT_IS, spacing_yx_mm=(1.0, 1.0), tile_yx=(48, 48)), "slices": CROP}
    return SegmentationSettings(**{"heads": HEADS, **rules, **changes})


def pattern(size=(90, 80)):
    """A gland of value 1 with a lesion of value 2 in it, on slices 1 and 2 of 4."""
    labels = np.zeros((4, *size), np.uint8)
    labels[1:3, 25:65, 20:58] = 1
    labels[1:3, 30:44, 25:37] = 2
    return labels


@pytest.fixture
def case_of(tmp_path):
    """case_of(labels, structures...) -> a case whose image is its label map."""

    def case(labels, *names):
        folder = tmp_path / f"case{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        grid = Grid(labels.shape[::-1], (1.0, 1.0, 3.0))
        write_image(grid.image(labels.astype(np.float32)), folder / "t2w.nii.gz")
        write_image(grid.image(labels), folder / "labels.nii.gz")
        values = {"Prostate": (1, 2), "DIL": (2,)}
        masks = {name: (Mask(folder / "labels.nii.gz", values[name]),) for name in names}
        return Case(folder.name, folder.name, {"T2w": folder / "t2w.nii.gz"}, masks)

    return case


@pytest.fixture
def samples_of(tmp_path_factory):
    """samples_of(settings, (weight, cases), ...) -> samples."""

    def samples(settings, *sources, seed=0):
        prepare = preparation(settings, tmp_path_factory.mktemp("cache"))
        prepared = [(weight, prepare(cases)) for weight, cases in sources]
        return segmentation_samples(prepared, settings, batch_size=4, seed=seed)

    return samples


@pytest.fixture
def plain_intensity(monkeypatch):
    """Crops with their warp, but without changes of intensity."""
    monkeypatch.setattr("ProstateXferLib.training.sampling.slices.random_intensity", lambda image, generator: image)


def test_a_number_gives_the_same_sample_again_and_another_seed_another_one(case_of, samples_of):
    case = case_of(np.minimum(pattern(), 1), "Prostate")
    first, other = (samples_of(settings_of(paint=PaintSettings(share=0.5)), (1.0, [case]), seed=s) for s in (1, 2))
    for index in (0, 5, 17):
        one, two = first[index], first[index]
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(first[i]["image"], other[i]["image"]) for i in range(5))


def test_labels_follow_the_image_through_every_warp(case_of, samples_of, plain_intensity):
    """Where the interpolated pattern is flat, its grey value is the label; between, the label is one of the two."""
    samples, lesion = samples_of(settings_of(), (1.0, [case_of(pattern(), "Prostate", "DIL")])), 0
    for index in range(60):
        image, label = samples[index]["image"][0], samples[index]["labels"]
        flat = (image - image.round()).abs() < 1e-4
        inner = flat & (image.round() != 1)  # 1 may also be half-way between 0 and 2
        assert torch.equal(image.round().long()[inner], label[inner])
        assert float((image - label).abs().max()) <= 2
        lesion += int((label == 2).sum())
    assert lesion > 500


def test_lesions_are_painted_before_intensities_change_and_only_where_nobody_looked(case_of, samples_of):
    gland = np.minimum(pattern(), 1)
    looked, not_looked = case_of(gland, "Prostate", "DIL"), case_of(gland, "Prostate")
    settings = settings_of(paint=PaintSettings(share=1.0))
    none = samples_of(settings, (1.0, [looked]))
    assert not any((none[i]["labels"] == 2).any() for i in range(20))
    some = samples_of(settings, (1.0, [not_looked]))
    assert any((some[i]["labels"] == 2).any() for i in range(20))
    assert all(some[i]["known"].all() for i in range(5))
    never = samples_of(settings_of(), (1.0, [not_looked, looked]))
    assert {tuple(never[i]["known"].tolist()) for i in range(8)} == {(True, False), (True, True)}


def test_sources_are_drawn_by_their_weight(case_of, samples_of, plain_intensity):
    everywhere = np.ones((4, 64, 64), np.uint8)
    everywhere[:, 0, 0] = 0  # an image of one value would be refused
    small = 1 - everywhere
    small[:, 30:34, 30:34] = 1
    first, second = case_of(everywhere, "Prostate"), case_of(small, "Prostate")
    around = SliceOptions(foreground_share=1.0, anywhere=0.0, warp=CropOptions(size=48, shift=0))
    samples = samples_of(settings_of(heads=HEADS[:1], slices=around), (3.0, [first]), (1.0, [second]))
    shares = [float((samples[i]["labels"] == 1).float().mean()) for i in range(len(samples))]
    assert len(shares) == 8
    assert sum(share > 0.4 for share in shares) == 6  # the first case is gland throughout


def test_cases_in_which_nothing_was_looked_for_are_left_out(case_of, samples_of):
    bare, labelled = case_of(pattern()), case_of(pattern(), "Prostate")
    settings = settings_of(heads=HEADS[:1])
    samples = samples_of(settings, (1.0, [bare, labelled]), (1.0, [bare]))
    assert all(samples[i]["known"][0] for i in range(10))
    with pytest.raises(ProstateXferError, match="None of the training cases has Prostate drawn"):
        samples_of(settings, (1.0, [bare]))


def test_a_head_that_no_training_case_teaches_is_refused(case_of, samples_of):
    """Its random voxels would be laid over what the other heads find."""
    gland_only = case_of(np.minimum(pattern(), 1), "Prostate")
    with pytest.raises(ProstateXferError, match="No training case teaches the head 'dil'"):
        samples_of(settings_of(), (1.0, [gland_only]))
    samples_of(settings_of(paint=PaintSettings()), (1.0, [gland_only]))
    samples_of(settings_of(heads=HEADS[:1]), (1.0, [gland_only]))


def test_whole_slices_of_all_sources_have_one_size(case_of, samples_of):
    settings = settings_of(heads=HEADS[:1], slices=SliceOptions(multiple=32))
    wide, high = case_of(pattern((70, 130)), "Prostate"), case_of(pattern((100, 60)), "Prostate")
    samples = samples_of(settings, (1.0, [wide]), (1.0, [high]))
    assert {tuple(samples[i]["image"].shape) for i in range(8)} == {(1, 128, 160)}


@pytest.mark.parametrize(
    "changes", [{"slices": SliceOptions(size_yx=(48, 48))}, {"slices": None, "patches": PatchSettings()}]
)
def test_an_augmented_sample_has_the_tile_s_size_and_no_unknown_border(case_of, samples_of, changes):
    pytest.importorskip("monai")
    samples = samples_of(
        settings_of(heads=HEADS[:1], augmentation="nnunet", **changes), (1.0, [case_of(pattern(), "Prostate")])
    )
    for index in range(6):
        assert samples[index]["image"].shape == (1, 48, 48)
        assert int(samples[index]["labels"].min()) >= 0


def test_every_sample_brings_a_number_for_each_of_its_patches(case_of, samples_of):
    samples = SamplesWithDraws(
        samples_of(settings_of(heads=HEADS[:1]), (1.0, [case_of(pattern(), "Prostate")])), seed=3
    )
    draws = torch.stack([samples[i]["draw"] for i in range(200)])
    assert draws.shape == (200, 9)
    assert torch.equal(draws[7], samples[7]["draw"])
    assert len(draws.unique()) > 1700
    assert 0 <= float(draws.min()) < 0.01 < 0.99 < float(draws.max()) < 1
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.03)


def test_the_training_slices_give_the_rule_its_mean_and_deviation(case_of, tmp_path_factory):
    case, other = case_of(pattern(), "Prostate"), case_of(pattern((70, 70)), "Prostate")
    settings = settings_of(training_statistics=True, slices=SliceOptions(minimum_pixels=100))
    found = with_training_statistics(settings, [case], tmp_path_factory.mktemp("cache")).preprocessing.intensity
    shown = pattern()[1:3]
    assert (found.mean, found.deviation) == (pytest.approx(shown.mean()), pytest.approx(shown.std()))
    both = with_training_statistics(settings, [case, other], tmp_path_factory.mktemp("cache")).preprocessing.intensity
    every = np.concatenate([shown.ravel(), pattern((70, 70))[1:3].ravel()])
    assert (both.mean, both.deviation) == (pytest.approx(every.mean()), pytest.approx(every.std()))
    plain = settings_of()
    assert with_training_statistics(plain, [case], tmp_path_factory.mktemp("cache")) is plain
