# SPDX-License-Identifier: Apache-2.0
"""PlainConvUNet with nnU-Net's own weights gives nnU-Net's own logits."""

import itertools
import json

import numpy as np
import pytest
import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.networks.dense import load_dense_network
from ProstateXferLib.networks.plain_conv_unet import PlainConvUNet
from ProstateXferLib.pipelines.dense_logits import dense_logits, window_runner
from ProstateXferLib.progress import SilentProgress

CONFIGURATIONS = ("2d", "3d_fullres")


def weights_of(folder, configuration, fold):
    with np.load(folder / "nnunet_model" / f"{configuration}_fold{fold}_weights.npz") as file:
        return {key.removeprefix("w/"): torch.tensor(file[key]) for key in file.files}


def plan_of(folder, configuration):
    """(arch_kwargs with channels and classes, patch size) of the plans that nnU-Net wrote."""
    results = folder / "nnunet_model" / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    plans = json.loads((results / "plans.json").read_text(encoding="utf-8"))["configurations"][configuration]
    labels = json.loads((results / "dataset.json").read_text(encoding="utf-8"))["labels"]
    return {**plans["architecture"]["arch_kwargs"], "input_channels": 1, "num_classes": len(labels)}, plans[
        "patch_size"
    ]


def nnunet_logits(network, data, patch, mirror_axes, number=torch.half):
    """Sliding window as specified (4.3), float16 accumulators and all; `data` (C, ...) -> (K, ...)."""
    from scipy.ndimage import gaussian_filter

    delta = np.zeros(patch)
    delta[tuple(side // 2 for side in patch)] = 1
    bell = gaussian_filter(delta, [side / 8 for side in patch], mode="constant")
    bell = torch.from_numpy(bell / (bell.max() / 10)).to(number)
    bell[bell == 0] = bell[bell > 0].min()
    sizes = data.shape[1:]
    wanted = [max(side, n) for side, n in zip(patch, sizes, strict=True)]
    margins = [((w - n) // 2, w - n - (w - n) // 2) for w, n in zip(wanted, sizes, strict=True)]
    padded = torch.nn.functional.pad(data, [m for pair in reversed(margins) for m in pair])
    starts = []
    for size, side in zip(wanted, patch, strict=True):
        count = int(np.ceil((size - side) / (side * 0.5))) + 1
        starts.append([round(i * (size - side) / max(count - 1, 1)) for i in range(count)])
    axes = [axis - len(patch) for axis in mirror_axes]
    mirrorings = [subset for n in range(len(axes) + 1) for subset in itertools.combinations(axes, n)]
    total, norm = None, torch.zeros(wanted, dtype=number)
    for start in itertools.product(*starts):
        place = tuple(slice(s, s + side) for s, side in zip(start, patch, strict=True))
        window = padded[(slice(None), *place)][None]
        logits = sum(network(window.flip(axes)).flip(axes) for axes in mirrorings) / len(mirrorings)
        if total is None:
            total = torch.zeros((logits.shape[1], *wanted), dtype=number)
        total[(slice(None), *place)] += logits[0] * bell
        norm[place] += bell
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margins, sizes, strict=True))
    return (total / norm)[(slice(None), *inner)]


def whole_study(network, data, patch, mirror_axes, number=torch.half):
    """As nnU-Net runs a configuration: 2-D slice by slice."""
    if len(patch) == 3:
        return nnunet_logits(network, data, patch, mirror_axes, number)
    planes = [nnunet_logits(network, data[:, z], patch, mirror_axes, number) for z in range(data.shape[1])]
    return torch.stack(planes, dim=1)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_nnunets_weights_load_by_name_and_every_alias_is_accounted_for(nnunet, configuration):
    weights = weights_of(nnunet, configuration, 0)
    arguments, _ = plan_of(nnunet, configuration)
    network = load_dense_network("plain_conv_unet", arguments, weights)
    own = network.state_dict()
    assert set(own) < set(weights)
    assert not any("all_modules" in key or key.startswith("decoder.encoder") for key in own)
    assert all(torch.equal(own[key], weights[key]) for key in own)


@pytest.mark.parametrize("tta", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_logits_are_those_of_nnunet(nnunet, configuration, fold, case, tta):
    with np.load(nnunet / f"nnunet_{configuration}_{case}_tta.npz") as file:
        data = torch.tensor(file["pre/data"])
    with np.load(nnunet / f"nnunet_{configuration}_{case}_{'tta' if tta else 'notta'}.npz") as file:
        expected = torch.tensor(file[f"sw/logits_fold{fold}"])
        axes = [int(axis) for axis in file["in/mirror_axes"]] if tta else []
    arguments, patch = plan_of(nnunet, configuration)
    network = load_dense_network("plain_conv_unet", arguments, weights_of(nnunet, configuration, fold))
    with torch.inference_mode():
        logits = whole_study(network, data, patch, axes)
    assert logits.dtype == expected.dtype == torch.half
    # They were made on another processor, whose convolutions add up in another order: float32 differs by 1e-6, which
    # now and then tips the last digit of a float16 (0.3 % of the voxels), most where the float16 Gaussian runs out.
    difference = (logits.float() - expected.float()).abs()
    assert (difference > 0).float().mean() < 0.005
    assert difference.max() < 0.005


@pytest.mark.parametrize("tta", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_our_sliding_window_is_nnunets_but_for_its_half_precision(nnunet, configuration, case, tta):
    """In exact arithmetic both are one; in nnU-Net's float16 the Gaussian runs out, in 3-D more than in 2-D."""
    with np.load(nnunet / f"nnunet_{configuration}_{case}_tta.npz") as file:
        data = torch.tensor(file["pre/data"])
    with np.load(nnunet / f"nnunet_{configuration}_{case}_{'tta' if tta else 'notta'}.npz") as file:
        expected = torch.tensor(file["sw/logits_fold0"]).float()
        axes = [int(axis) for axis in file["in/mirror_axes"]] if tta else []
    arguments, patch = plan_of(nnunet, configuration)
    letters = "zyx"[-len(patch) :]
    card = ModelCard(
        name="golden",
        task="segmentation",
        architecture="plain_conv_unet",
        arguments=arguments,
        preprocessing=Preprocessing(
            IntensityRule("zscore"),
            **{f"tile_{letters}": tuple(patch)},
            mirror_axes=tuple(letters[axis] for axis in axes),
        ),
        structures=(PROSTATE, DIL),
        heads=(Head("both", (PROSTATE.value, DIL.value)),),
    )
    network = load_dense_network("plain_conv_unet", arguments, weights_of(nnunet, configuration, 0))
    progress = SilentProgress()
    runner = window_runner(card, data, move=network.to, device=torch.device("cpu"), progress=progress)
    with torch.inference_mode():
        logits = dense_logits(network, card, data, runner=runner, dtype=torch.float32, tta=tta, progress=progress)
        exact = whole_study(network, data, patch, axes, torch.double).float()
    assert torch.allclose(logits, exact, atol=2e-4)
    assert (logits.argmax(0) == expected.argmax(0)).float().mean() > 0.995
    if configuration == "2d":
        assert (logits - expected).abs().max() < 0.03  # specification 4.3: up to 0.023


def test_the_networks_are_2d_and_3d_by_their_strides(nnunet):
    networks = {name: PlainConvUNet.from_arguments(plan_of(nnunet, name)[0]) for name in CONFIGURATIONS}
    assert [networks[name].plan.dimensions for name in CONFIGURATIONS] == [2, 3]
