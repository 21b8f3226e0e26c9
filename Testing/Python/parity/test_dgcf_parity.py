# SPDX-License-Identifier: Apache-2.0
"""DGCF against the released generator (HiLab-git/DGCF), on random weights."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.strict import load_strictly
from ProstateXferLib.networks.upsampled_conv import shifted_interpolation

TOLERANCE = 1e-4
FUSIONS = ("cnn", "se", "gated", "none")
VARIANTS = {
    "layers_FTFT": {"levels": (False, True, False, True)},
    "layers_FFFT": {"levels": (False, False, False, True)},
    "layers_TFFF": {"levels": (True, False, False, False)},
    "use_cnn_false": {"cnn_encoder": False},
}


@pytest.fixture(params=FUSIONS)
def reference(request, golden):
    return golden(f"dgcf/gen_{request.param}.npz")


def network_of(reference) -> DGCF:
    return DGCF.from_state_dict(reference.weights("w::"))


def test_sizes_and_fusion_are_read_off_the_keys(reference):
    network = network_of(reference)
    assert network.fusion == reference["meta_fusion_type"]
    assert network.base_channels == reference["meta_base_ch"]
    assert network.feature_width == reference["meta_embed_dim"]
    assert network.levels == (True,) * 4 and network.cnn_encoder


def test_output_with_and_without_features(reference, both_paths):
    network, image = network_of(reference), reference.tensor("in_img")
    for features, name in ((reference.tensor("in_dino_feats"), "out_eval"), (None, "out_eval_nodino")):
        ours = network(image, features).detach()
        torch.testing.assert_close(ours, reference.tensor(name), rtol=0, atol=TOLERANCE)


def test_every_part_gives_the_reference_activations(reference, both_paths):
    network, seen = network_of(reference), {}
    names = [key.removeprefix("stat::") for key in reference if key.startswith("stat::")]
    for name in names:
        # A decoder stage runs its upsampling and first convolution as one; its last part gives what the stage gives.
        network.get_submodule(f"{name}.2" if ".up" in name else name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.detach().double()})
        )
    network(reference.tensor("in_img"), reference.tensor("in_dino_feats"))
    assert len(names) == 16 and set(seen) == set(names)
    for name, x in seen.items():
        assert list(x.shape) == reference[f"shape::{name}"].tolist(), name
        figures = [x.mean(), x.std(), x.min(), x.max(), x.abs().sum()]
        np.testing.assert_allclose([float(v) for v in figures], reference[f"stat::{name}"], rtol=2e-3, atol=2e-4)
        if f"mid::{name}" in reference:
            torch.testing.assert_close(x.float(), reference.tensor(f"mid::{name}"), rtol=0, atol=TOLERANCE)


def test_one_training_step(reference):
    network = network_of(reference).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.9, 0.999), eps=1e-8)
    output = network(reference.tensor("in_img"), reference.tensor("in_dino_feats"))
    loss = (output - reference.tensor("in_target")).abs().mean()
    loss.backward()
    torch.testing.assert_close(output.detach(), reference.tensor("train_out"), rtol=0, atol=TOLERANCE)
    assert float(loss.detach()) == pytest.approx(float(reference["train_l1"]), abs=1e-5)

    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    norms = dict(zip(reference["grad_norm_names"].tolist(), reference["grad_norm_values"], strict=True))
    assert {name: float(grad.norm()) for name, grad in gradients.items()} == pytest.approx(norms, rel=2e-3, abs=1e-6)

    optimiser.step()
    after = network.state_dict()
    for key in [key for key in reference if key.startswith("after::")]:
        name = key.removeprefix("after::")
        expected, tolerance = reference.tensor(key), 1e-6
        if f"grad::{name}" in reference:
            gradient = reference.tensor(f"grad::{name}")
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-5)
            # The first step of Adam is lr * sign(gradient): no use to compare where the gradient is rounding noise.
            tolerance = torch.where(gradient.abs() < 1e-7, 4.1e-4, 1e-6)
        elif name.endswith("running_var"):
            tolerance = 1e-5
        assert (torch.abs(after[name] - expected) <= tolerance).all(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_own_the_references_keys_and_give_its_output(golden, variant, both_paths):
    whole, results = golden("dgcf/gen_cnn.npz"), golden("dgcf/gen_variants.npz")
    weights, keys = whole.weights("w::"), set(results[f"keys::{variant}"].tolist())
    part = {key: value for key, value in weights.items() if key in keys}
    asked = DGCF(8, 32, **VARIANTS[variant]).eval()
    load_strictly(asked, part, what="variant")
    told = DGCF.from_state_dict(part)
    assert set(asked.state_dict()) == keys
    assert (told.levels, told.cnn_encoder) == (asked.levels, asked.cnn_encoder)
    for network in (asked, told):
        ours = network(whole.tensor("in_img"), whole.tensor("in_dino_feats")).detach()
        torch.testing.assert_close(ours, results.tensor(f"out::{variant}"), rtol=0, atol=TOLERANCE)


# What follows makes one mistake at a time and sees it.


def error_of(reference, network, features=None):
    features = reference.tensor("in_dino_feats") if features is None else features
    return float((network(reference.tensor("in_img"), features).detach() - reference.tensor("out_eval")).abs().max())


def test_tanh_gelu_is_told_from_the_reference(golden, monkeypatch):
    reference = golden("dgcf/gen_cnn.npz")
    monkeypatch.setattr(F, "gelu", functools.partial(F.gelu, approximate="tanh"))
    assert error_of(reference, network_of(reference)) > 10 * TOLERANCE


def test_another_eps_of_the_norms_is_told_from_the_reference(reference, both_paths):
    network = network_of(reference)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    assert error_of(reference, network) > 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        lambda features: features.flip(1),
        lambda features: features.unflatten(2, (4, 4)).transpose(2, 3).flatten(2, 3),
    ],
    ids=["levels reversed", "token grid transposed"],
)
def test_features_in_another_order_are_told_from_the_reference(reference, wrong):
    assert error_of(reference, network_of(reference), wrong(reference.tensor("in_dino_feats"))) > 0.1


def test_aligned_corners_are_told_from_the_reference(reference, monkeypatch, request):
    network, interpolate = network_of(reference), F.interpolate
    shifted_interpolation.cache_clear()  # right ones made before
    request.addfinalizer(shifted_interpolation.cache_clear)  # wrong ones made here

    def aligned(x, size=None, scale_factor=None, mode="bilinear", align_corners=False, **options):
        return interpolate(x, size, scale_factor, mode, align_corners=True, **options)

    monkeypatch.setattr(F, "interpolate", aligned)
    assert error_of(reference, network) > 0.1
