# SPDX-License-Identifier: Apache-2.0
"""Presets: repeatable by seed, labels that stay on the image, probabilities and ranges as published."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.augmentation import local_changes
from ProstateXferLib.training.augmentation.presets import PRESETS, preset
from ProstateXferLib.training.augmentation.steps import Step
from ProstateXferLib.training.augmentation.turn_and_scale import TurnAndScale, middle

ROOT = Path(__file__).resolve().parents[3]
SIZES = ((48, 48), (16, 20, 20), (4, 32, 32))
CASES = [(name, size) for name in PRESETS for size in SIZES]


def make_sample(size, *, channels=1):
    """Smooth images with a bright ellipsoid off the middle, and its label."""
    axes = [torch.linspace(-1, 1, side) for side in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    centre = torch.tensor([0.0, 0.15, -0.1][-len(size) :]).view(-1, *[1] * len(size))
    distance = ((grid - centre) / 0.55).square().sum(0).sqrt()
    image = torch.sigmoid((1 - distance) * 8) * 2 - 1
    labels = (distance < 1).long()
    return {"image": torch.stack([image] * channels), "labels": labels, "known": torch.ones(2, dtype=torch.bool)}


def fingerprint(name, size, seed):
    augmentation = preset(name, spatial_dims=len(size), patch_size=size)
    sample = augmentation(make_sample(augmentation.source_size, channels=2), seed)
    data = sample["image"].numpy().tobytes() + sample["labels"].numpy().tobytes()
    return hashlib.sha256(data).hexdigest()


def test_the_same_seed_gives_the_same_sample_in_another_process():
    """Bit by bit, whatever was augmented before."""
    cases = [(name, size, 5) for name, size in CASES]
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training_augmentation import fingerprint
cases = {cases!r}
print(json.dumps([fingerprint(*case) for case in reversed(cases)][::-1]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout)
    assert [fingerprint(*case) for case in cases] == expected
    for size in SIZES:
        plain = expected[cases.index(("none", size, 5))]
        assert all(expected[cases.index((name, size, 5))] != plain for name in ("nnunet", "da5", "sap"))


@pytest.mark.parametrize(("name", "size"), CASES)
def test_shapes_types_and_values_are_those_of_the_contract(name, size):
    augmentation = preset(name, spatial_dims=len(size), patch_size=size)
    sample = make_sample(augmentation.source_size, channels=2)
    sample["labels"][0] = -1
    kept = {key: value.clone() for key, value in sample.items()}
    for seed in range(25):
        done = augmentation(sample, seed)
        assert done["image"].shape == (2, *size)
        assert done["labels"].shape == size
        assert type(done["image"]) is type(done["labels"]) is torch.Tensor
        assert (done["image"].dtype, done["labels"].dtype) == (torch.float32, torch.int64)
        assert bool(done["image"].isfinite().all())
        assert set(done["labels"].unique().tolist()) <= {0, 1}
        assert done["known"] is sample["known"]
        limit = 20 if name.startswith("da5") else 4  # DA5 adds gradients of up to 5
        assert float(done["image"].abs().max()) < limit
    assert all(torch.equal(sample[key], value) for key, value in kept.items()), "the input was written to"


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, size in CASES if name != "none"])
def test_labels_follow_the_image_through_every_change_of_place(name, size):
    """The bright body stays under its label, to a voxel of edge, after the spatial steps alone."""
    augmentation = preset(name, spatial_dims=len(size), patch_size=size)
    sample = make_sample(augmentation.source_size)
    spatial = ("rotation", "mirror", "quarter", "exchanged")
    steps = [step for step in augmentation.steps if step.name.startswith(spatial)]
    moved = 0
    for seed in range(20):
        random, image, labels = np.random.RandomState(seed), sample["image"], sample["labels"]
        for step in steps:
            image, labels = step(image, labels, random)
        bright = (image[0] > 0).long()
        overlap = 2 * float((bright * labels).sum()) / float(bright.sum() + labels.sum())
        assert overlap > 0.95
        moved += not torch.equal(labels, middle(sample["labels"], size))
    assert moved > 10


@pytest.mark.parametrize("name", ["nnunet", "da5", "sap"])
def test_every_step_happens_as_often_as_it_says(name):
    augmentation = preset(name, spatial_dims=2, patch_size=(12, 12))
    published = {
        "nnunet": [("noise", 0.1), ("blur", 0.2), ("brightness", 0.15), ("contrast", 0.15), ("low resolution", 0.25),
                   ("gamma of the negative", 0.1), ("gamma", 0.3), ("mirror axis 0", 0.5), ("mirror axis 1", 0.5)],
        "da5": [("quarter turns", 0.5), ("exchanged axes", 0.5), ("median or blur", 1.0), ("noise", 0.1),
                ("brightness", 0.1), ("contrast", 0.2), ("low resolution", 0.15), ("gamma of the negative", 0.1),
                ("gamma of the negative again", 0.1), ("mirror axis 0", 0.5), ("mirror axis 1", 0.5),
                ("blank boxes", 0.4), ("brightness gradient", 0.3), ("local gamma", 0.3), ("sharpening", 0.2)],
        "sap": [("mirror axis 0", 0.5), ("mirror axis 1", 0.5), ("quarter turns", 0.2), ("intensity scale", 0.1),
                ("intensity shift", 0.1)],
    }  # fmt: skip
    steps = [step for step in augmentation.steps if step.name != "rotation and scaling"]
    assert [(step.name, step.probability) for step in steps] == published[name]
    # What a channel of its own probability does besides.
    halved = {"blur", "low resolution"} if name == "nnunet" else set()
    if name == "da5":
        halved = {"brightness", "contrast", "low resolution", "blank boxes", "brightness gradient", "local gamma",
                  "sharpening"}  # fmt: skip
    image = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(12, 12, dtype=torch.int64)
    count = 400
    random = np.random.RandomState(1)
    for step in steps:
        changed = sum(not torch.equal(step(image, labels, random)[0], image) for _ in range(count))
        share = step.probability * (0.5 if step.name in halved else 1.0)
        share *= {"median or blur": 0.1, "exchanged axes": 0.5}.get(step.name, 1.0)  # p 0.2 a choice, 0.5 a channel
        if step.name == "quarter turns" and name == "da5":
            share *= 0.75  # one in four turns is none
        assert abs(changed - count * share) <= 4 * np.sqrt(count * share * (1 - share)) + 0.02 * count, step.name


def test_rotation_and_scaling_happen_independently_and_leave_the_others_uninterpolated():
    change = TurnAndScale((16, 16))
    image = torch.randn(1, 20, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(20, 20, dtype=torch.int64)
    random = np.random.RandomState(0)
    count = 1000
    still = sum(torch.equal(change(image, labels, random)[0], image[:, 2:18, 2:18]) for _ in range(count))
    share = 0.8 * 0.8
    assert abs(still - count * share) <= 4 * np.sqrt(count * share * (1 - share))


class FixedDraws:
    """Stands for a generator: 0 for every probability, then this angle, then this factor."""

    def __init__(self, angle, factor):
        self._values = [0.0, 0.0, angle, factor]

    def uniform(self, low=0.0, high=1.0, size=None):
        value = self._values.pop(0)
        return value if size is None else np.full(size, value)


def test_a_quarter_turn_moves_voxels_onto_voxels():
    image = torch.arange(36.0).view(1, 6, 6)
    labels = (image[0] % 3).long()
    change = TurnAndScale((6, 6), rotation=1.0, scaling=0.0)
    turned, turned_labels = change(image, labels, FixedDraws(np.pi / 2, 1.0))
    ways = [k for k in (1, 3) if float((turned - torch.rot90(image, k, (1, 2))).abs().max()) < 1e-4]
    assert len(ways) == 1
    assert torch.equal(turned_labels, torch.rot90(labels, ways[0], (0, 1)))


def test_a_scale_of_two_makes_things_half_as_large():
    """Voxels half a step off the middle are read a whole step off it: between four voxels of 4 x 4 each."""
    image = torch.arange(16.0).view(1, 4, 4)
    change = TurnAndScale((2, 2), rotation=0.0, scaling=1.0)
    shrunk, _ = change(image, image[0].long(), FixedDraws(0.0, 2.0))
    torch.testing.assert_close(shrunk, torch.tensor([[[2.5, 4.5], [10.5, 12.5]]]))


def test_beyond_the_image_there_is_zero_and_background():
    change = TurnAndScale((8, 8), rotation=0.0, scaling=1.0)
    image, labels = change(torch.ones(1, 8, 8), torch.ones(8, 8, dtype=torch.int64), FixedDraws(0.0, 1.4))
    assert (image[0, 0] == 0).all()
    assert (labels[0] == 0).all()
    assert (image[0, 2:6, 2:6] == 1).all()


def test_flat_patches_are_turned_and_scaled_within_their_slices_only():
    change = TurnAndScale((4, 16, 16), rotation=1.0, scaling=1.0)
    assert change.in_slices
    image = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 24, 24).contiguous() + 1
    labels = torch.zeros(4, 24, 24, dtype=torch.int64)
    for seed in range(10):
        turned, _ = change(image, labels, np.random.RandomState(seed))
        for z in range(4):
            assert set(turned[0, z, 6:10, 6:10].round(decimals=4).unique().tolist()) == {z + 1.0}


def test_the_patch_to_cut_is_the_one_that_nnunet_cuts(golden_data):
    sizes = json.loads((golden_data / "mr-dinov3" / "nnunet_misc.json").read_text())["initial_patch_size"]
    checked = 0
    for text, expected in sizes.items():
        final = tuple(int(side) for side in text.strip("()").split(","))
        found = preset("nnunet", spatial_dims=len(final), patch_size=final).source_size
        flat = TurnAndScale(final).in_slices  # whose slices nnU-Net takes back to the final number afterwards
        assert found == ((final[0], *expected[1:]) if flat else tuple(expected))
        checked += 1
    assert checked >= 4


def test_ord0_interpolates_neither_image_nor_labels():
    names = {"da5": False, "da5_ord0": True}
    source = preset("da5", spatial_dims=2, patch_size=(16, 16)).source_size
    image = torch.randint(0, 5, (1, *source), generator=torch.Generator().manual_seed(0)).float()
    for name, whole in names.items():
        spatial = preset(name, spatial_dims=2, patch_size=(16, 16)).steps[0].change
        found = [spatial(image, image[0].long(), np.random.RandomState(seed))[0] for seed in range(20)]
        assert all(torch.equal(item, item.round()) for item in found) == whole


def test_sap_turns_in_the_axial_plane_and_not_where_it_is_no_square():
    assert any("turns" in step.name for step in preset("sap", spatial_dims=3, patch_size=(4, 8, 8)).steps)
    assert not any("turns" in step.name for step in preset("sap", spatial_dims=3, patch_size=(8, 8, 6)).steps)
    (turn,) = [s for s in preset("sap", spatial_dims=3, patch_size=(4, 8, 8)).steps if "turns" in s.name]
    image = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 8, 8)
    for seed in range(5):
        done, _ = turn.change(image, torch.zeros(4, 8, 8, dtype=torch.int64), np.random.RandomState(seed))
        torch.testing.assert_close(done, image)


def test_local_changes_keep_to_their_ranges():
    image = torch.rand(1, 20, 24, 16, generator=torch.Generator().manual_seed(0))
    for seed in range(30):
        random = np.random.RandomState(seed)
        blanked = local_changes.blank_boxes(image, random)
        changed = blanked != image
        assert bool(changed.any())
        torch.testing.assert_close(blanked[changed].mean(), image.mean())
        added = (local_changes.brightness_gradient(image, random) - image).abs().max()
        assert 1 <= float(added) <= 5.0001
        bent = local_changes.local_gamma(image, random)
        assert float(bent.min()) >= float(image.min()) - 1e-5
        assert float(bent.max()) <= float(image.max()) + 1e-5


def test_middle_cuts_and_pads_about_the_same_voxel():
    array = torch.arange(1.0, 10.0).view(3, 3)
    padded = middle(array, (5, 6))
    assert padded.shape == (5, 6)
    torch.testing.assert_close(middle(padded, (3, 4))[:, :3].sum() + middle(padded, (3, 4))[:, 3].sum(), array.sum())
    assert middle(array, (1, 1)).item() == 5
    torch.testing.assert_close(padded[1:4, 1:4], array)


def test_a_step_that_does_not_happen_hands_on_what_it_got():
    never = Step("never", 0.0, lambda image, labels, random: (image + 1, labels))
    image, labels = torch.zeros(1, 2, 2), torch.zeros(2, 2)
    assert never(image, labels, np.random.RandomState(0)) == (image, labels)


@pytest.mark.parametrize("arguments", [("wild", 2, (8, 8)), ("nnunet", 3, (8, 8)), ("nnunet", 2, (8, 0))])
def test_what_there_is_no_preset_for_is_refused(arguments):
    name, dims, size = arguments
    with pytest.raises(ProstateXferError):
        preset(name, spatial_dims=dims, patch_size=size)
