# SPDX-License-Identifier: Apache-2.0
"""Every step of nnU-Net's way from an image to labels but the convolutions gives nnU-Net's own numbers, bit for bit."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.nnunet.export import probabilities_on_grid
from ProstateXferLib.pipelines.nnunet.preparation import prepare_study
from ProstateXferLib.pipelines.nnunet.resampling import resampled, separate_axis
from ProstateXferLib.pipelines.nnunet.sliding_window import gaussian, study_logits
from ProstateXferLib.pipelines.tiling import tile_starts
from ProstateXferLib.pipelines.windows import Windows
from ProstateXferLib.progress import SilentProgress

CASES = [f"{configuration}_{case}" for configuration in ("2d", "3d_fullres") for case in "ab"]
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


@pytest.fixture(scope="module")
def misc(nnunet):
    with np.load(nnunet / "nnunet_misc.npz") as file:
        return {key: file[key] for key in file.files}


def case_of(nnunet, name, tta):
    """(arrays of the golden case, its study as we prepare it, the plan)."""
    with np.load(nnunet / f"nnunet_{name}_{tta}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    folder = nnunet / "nnunet_model" / f"nnUNetTrainer__nnUNetPlans__{name[:-2]}"
    plan = load_checkpoint(folder).card.preprocessing.nnunet
    image = sitk.GetImageFromArray(arrays["in/image_zyx"])
    image.SetSpacing(arrays["in/spacing_zyx"].tolist()[::-1])
    return arrays, prepare_study([image], plan, SilentProgress()), plan


@pytest.mark.parametrize("name", CASES)
def test_crop_normalisation_and_resampling(nnunet, name):
    arrays, study, _ = case_of(nnunet, name, "tta")
    assert np.array_equal(study.channels, arrays["pre/data"])
    assert [(side.start, side.stop) for side in study.crop.box] == [tuple(row) for row in arrays["pre/bbox"].tolist()]
    assert study.crop.shape_before == tuple(arrays["pre/shape_before_cropping"])
    assert study.crop.shape == tuple(arrays["pre/shape_after_cropping"])


@pytest.mark.parametrize("kind", ["aniso", "aniso_z", "iso"])
@pytest.mark.parametrize("order", [3, 1])
def test_resampling(misc, kind, order):
    shape, spacing, target = misc[f"resample/{kind}_spec"]
    axis = separate_axis(spacing, target)
    assert axis == (None if kind == "iso" else 0)
    ours = resampled(misc["resample/input"], tuple(map(int, shape)), order=order, axis=axis)
    assert np.array_equal(ours, misc[f"resample/{kind}_data_order{order}"])


@pytest.mark.parametrize("tile", [(20, 24), (16, 16), (8, 16, 12)])
@pytest.mark.parametrize("precision", DTYPES)
def test_importance_of_a_window_s_voxels(misc, tile, precision):
    expected = misc[f"gaussian/{'x'.join(map(str, tile))}_{precision}"]
    assert np.array_equal(gaussian(tile, DTYPES[precision]).numpy(), expected)


def test_places_of_windows(nnunet):
    import json

    steps = json.loads((nnunet / "nnunet_misc.json").read_text(encoding="utf-8"))["steps"]
    assert {entry["step"] for entry in steps} > {0.5}
    for entry in steps:
        pairs = zip(entry["image"], entry["tile"], strict=True)
        assert [tile_starts(size, side, entry["step"]) for size, side in pairs] == entry["steps"]


def test_a_place_that_falls_between_two_voxels_is_rounded_as_nnunet_s_arithmetic_does():
    # 7 * (955 / 14) is just below 477.5, 7 * 955 / 14 is 477.5 and would be rounded to 478.
    assert tile_starts(1099, 144)[7] == 477


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tta", ["notta", "tta"])
def test_from_the_folds_logits_to_labels(nnunet, name, tta):
    arrays, study, plan = case_of(nnunet, name, tta)
    total = torch.from_numpy(arrays["sw/logits_fold0"]).add_(torch.from_numpy(arrays["sw/logits_fold1"])).div_(2)
    assert np.array_equal(total.numpy(), arrays["sw/logits_ensemble"])
    probabilities = probabilities_on_grid(total, study, plan, regions=False)
    assert np.array_equal(probabilities, arrays["out/probabilities_czyx"])
    assert np.array_equal(probabilities.argmax(axis=0), arrays["out/segmentation_zyx"])


class Pointwise(torch.nn.Module):
    """Logits that no order of sums can change, and that mirroring does: value, square, and both by place."""

    def forward(self, image):
        ramp = torch.arange(image.shape[-1], dtype=torch.float32) / 16
        return torch.cat([image, image * image, image * ramp], dim=1)


def nnunet_sum(padded, patch, axes):
    """Half precision sums, written as specified (4.3), one window after the other: (K, ...) of one plane or volume."""
    network, sizes = Pointwise(), padded.shape[1:]
    bell = gaussian(patch, torch.float16)
    total, norm = torch.zeros(3, *sizes, dtype=torch.half), torch.zeros(sizes, dtype=torch.half)
    subsets = [s for n in range(1, len(axes) + 1) for s in itertools.combinations([axis + 2 for axis in axes], n)]
    starts = [tile_starts(size, side) for size, side in zip(sizes, patch, strict=True)]
    for corner in itertools.product(*starts):
        place = tuple(slice(first, first + side) for first, side in zip(corner, patch, strict=True))
        window = padded[(slice(None), *place)][None]
        logits = network(window)
        for subset in subsets:
            logits += torch.flip(network(torch.flip(window, subset)), subset)
        if subsets:
            logits /= len(subsets) + 1
        weighted = logits[0]
        weighted *= bell
        total[(slice(None), *place)] += weighted
        norm[place] += bell
    return total / norm


@pytest.mark.parametrize(
    ("patch", "axes"), [((16, 12), ()), ((16, 12), (0, 1)), ((8, 16, 12), ()), ((8, 16, 12), (0, 2))]
)
def test_half_precision_sums_of_given_logits(patch, axes):
    channels = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 11, 23, 9)).astype(np.float32))
    runner = AdaptiveRunner(lambda _: None, torch.device("cpu"), 2, SilentProgress())
    options = {"classes": 3, "axes": axes, "dtype": torch.float32, "runner": runner, "progress": SilentProgress()}
    ours = study_logits(Pointwise(), channels, patch, accumulate="fp16", **options)
    windows = Windows.over((11, 23, 9), patch)
    padded = windows.padded(channels)
    planes = [padded[:, z] for z in range(padded.shape[1])] if len(patch) == 2 else None
    whole = (
        nnunet_sum(padded, patch, axes)
        if planes is None
        else torch.stack([nnunet_sum(plane, patch, axes) for plane in planes], dim=1)
    )
    inner = tuple(slice(b, b + n) for b, n in zip(windows.before_zyx, windows.shape_zyx, strict=True))
    assert ours.dtype == torch.float16 and torch.equal(ours, whole[(slice(None), *inner)])
    exact = study_logits(Pointwise(), channels, patch, accumulate="fp32", **options)
    assert exact.dtype == torch.float32 and not torch.equal(exact, ours.float())
