# SPDX-License-Identifier: Apache-2.0
"""DGCF with its norms folded into the convolutions, which must never be noticed."""

import copy

import pytest
import torch
from torch import nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks import DGCF
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF

FUSIONS = ("cnn", "se", "gated", "none")
SIZE = (32, 48)


def inputs(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, *SIZE, generator=generator) * 2 - 1, torch.randn(2, 4, 6, 64, generator=generator)


def infer(network):
    dtype = next(network.parameters()).dtype
    with torch.inference_mode():
        return network(*(x.to(dtype) for x in inputs()))


@pytest.fixture(params=FUSIONS)
def network(request, random_network):
    """A generator that has run once and keeps folded weights."""
    own = random_network("dgcf", fusion=request.param, seed=2)
    infer(own)
    return own


def test_folded_norms_give_what_the_layers_give(network):
    plain = network(*inputs()).detach()  # with gradients on, nothing is folded
    torch.testing.assert_close(infer(network), plain, rtol=0, atol=2e-5)
    assert plain.std() > 0.01


def changed_in_place(network):
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(0.1)
                module.running_var.mul_(1.5)
                module.weight.mul_(1.1)


def changed_by_loading(network):
    floats = {k: 1.1 * v if v.is_floating_point() else v for k, v in network.state_dict().items()}
    network.load_state_dict(floats)


def changed_by_a_training_step(network):
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    network.train()(*inputs()).square().mean().backward()
    optimiser.step()
    network.eval()


def cast(network):
    network.to(torch.bfloat16)


def moved_while_inferring(network):
    with torch.inference_mode():
        network.to(torch.float64).to(torch.float32)


CHANGES = [changed_in_place, changed_by_loading, changed_by_a_training_step, cast, moved_while_inferring]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_folded_weights_follow_the_weights(network, change):
    change(network)
    never_run = DGCF.from_state_dict(copy.deepcopy(network.state_dict())).to(next(network.parameters()).dtype)
    torch.testing.assert_close(infer(network), infer(never_run), rtol=1e-5, atol=1e-5)


def test_training_uses_the_batch_and_updates_the_running_statistics(network):
    evaluated, state = infer(network), copy.deepcopy(network.state_dict())
    with torch.no_grad():  # even then: it is the mode that counts
        trained = network.train()(*inputs())
    assert (trained - evaluated).abs().max() > 1e-3
    after = network.state_dict()
    assert not torch.equal(after["decoder.out.0.block.1.running_mean"], state["decoder.out.0.block.1.running_mean"])
    assert after["decoder.out.0.block.1.num_batches_tracked"] == 1
    assert all(torch.equal(after[k], state[k]) for k in state if k.endswith(".weight"))


def test_folding_adds_nothing_to_the_state_dict(network, random_network):
    assert network.state_dict().keys() == random_network("dgcf", fusion=network.fusion).state_dict().keys()


def test_bfloat16_runs_and_stays_near_fp32(network):
    exact = infer(network)
    rough = infer(copy.deepcopy(network).to(torch.bfloat16))
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.03


def test_output_is_an_image_between_minus_one_and_one(network):
    output = infer(network)
    assert output.shape == (2, 1, *SIZE)
    assert output.abs().max() < 1


@pytest.mark.parametrize("size", [(40, 32), (32, 8)])
def test_a_slice_whose_sides_are_no_multiples_of_16_is_refused(random_network, size):
    with pytest.raises(ProstateXferError, match=f"multiples of 16; got {size[0]} x {size[1]}"):
        random_network("dgcf")(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("shape", [(2, 4, 5, 64), (2, 3, 6, 64), (2, 4, 6, 32), (4, 6, 64)])
def test_features_of_another_shape_are_refused(random_network, shape):
    with pytest.raises(ProstateXferError, match=r"needs DINOv3 features of shape \(B, 4, 6, 64\)"):
        random_network("dgcf")(inputs()[0], torch.zeros(shape))


def test_a_generator_without_encoder_says_that_it_needs_features(random_network):
    network = random_network("dgcf", cnn_encoder=False)
    assert infer(network).shape == (2, 1, *SIZE)
    with pytest.raises(ProstateXferError, match="cannot run without DINOv3 features"):
        network(inputs()[0])
    with pytest.raises(ProstateXferError, match="needs all four DINOv3 levels"):
        DGCF(4, 64, cnn_encoder=False, levels=(True, True, True, False))


def test_an_unknown_fusion_is_refused_with_the_known_ones():
    with pytest.raises(ProstateXferError, match="'attn' is not known: choose one of cnn, se, gated, none"):
        DGCF(4, 64, fusion="attn")


# With its encoder beside it.


def test_features_on_the_fly_are_those_of_the_encoder(random_network):
    generator, encoder = random_network("dgcf"), random_network("dinov3")
    guided = GuidedDGCF(generator, encoder).eval()
    image = inputs()[0]
    with torch.no_grad():
        features = torch.stack(encoder.intermediate(image.expand(-1, 3, -1, -1), (0, 1, 2, 3)), dim=1)
        torch.testing.assert_close(guided(image), generator(image, features), rtol=0, atol=0)


def test_the_encoder_sees_the_cards_range(random_network):
    generator, encoder = random_network("dgcf"), random_network("dinov3")
    image = inputs()[0]
    with torch.no_grad():
        shifted = GuidedDGCF(generator, encoder, encoder_range=(0, 2)).features(image)
        plain = GuidedDGCF(generator, encoder).features(image + 1)
    torch.testing.assert_close(shifted, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blocks", [(0, 1, 2), (0, 1, 2, 3, 3), (3, 2, 1, 0), (0, 1, 2, 4)])
def test_wrong_blocks_are_refused_when_the_network_is_built(random_network, blocks):
    with pytest.raises(ProstateXferError, match="blocks"):
        GuidedDGCF(random_network("dgcf"), random_network("dinov3"), blocks=blocks)


def test_an_encoder_of_another_width_is_refused(random_network):
    with pytest.raises(ProstateXferError, match="tokens of width 64, the encoder given has width 128"):
        GuidedDGCF(random_network("dgcf"), random_network("dinov3", width=128))
