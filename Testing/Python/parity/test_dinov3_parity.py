# SPDX-License-Identifier: Apache-2.0
"""DINOv3 against facebookresearch/dinov3 and MedDINOv3's fork of it, on random weights."""

import functools

import pytest
import torch
from torch.nn import functional as F

from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.rope import rope_periods, rope_tables

# The tolerances of the reference run: bfloat16 tables round differently under another attention kernel.
TOLERANCE = {"official": 1e-5, "meddinov3": 2e-3}
IMAGES = ("a", "b")  # square, and 64 x 96


@functools.cache
def network_of(read, kind: str) -> DINOv3:
    return DINOv3.from_state_dict(read(f"mr-dinov3/vit_tiny_{kind}.npz").weights("w/"))


@pytest.fixture(params=["official", "meddinov3"])
def kind(request):
    return request.param


@pytest.fixture
def reference(golden, kind):
    return golden(f"mr-dinov3/vit_tiny_{kind}.npz")


@pytest.fixture
def network(golden, kind, both_paths):
    return network_of(golden, kind)


@pytest.fixture
def equals(reference, kind):
    def check(ours, name, tolerance=TOLERANCE[kind]):
        torch.testing.assert_close(ours.detach(), reference.tensor(name), rtol=0, atol=tolerance)

    return check


def error_against(reference, network, image="a"):
    ours = network.features(reference.tensor(f"in/{image}"))["patches"].detach()
    return float((ours - reference.tensor(f"out/{image}/ff_x_norm_patchtokens")).abs().max())


def test_settings_are_read_off_the_names_and_tensors(network, reference):
    assert network.eps == reference["meta/eps"]
    assert network.rope_dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[str(reference["meta/rope_dtype"])]
    assert network.heads == reference["meta/num_heads"]
    assert network.prefix == 1 + reference["meta/n_storage_tokens"]
    assert (network.width, network.depth, network.hidden) == (64, 4, 256)


@pytest.mark.parametrize("image", IMAGES)
def test_position_tables(network, reference, equals, image):
    rows, columns = (side // 16 for side in reference[f"in/{image}"].shape[-2:])
    sin, cos = rope_tables(rows, columns, network.rope_embed.periods, dtype=network.rope_dtype, prefix=5)
    equals(sin[5:].float(), f"out/{image}/rope_sin", 1e-6)
    equals(cos[5:].float(), f"out/{image}/rope_cos", 1e-6)
    assert not sin[:5].any() and (cos[:5] == 1).all()  # class and storage tokens are not turned


@pytest.mark.parametrize("image", IMAGES)
def test_tokens_before_the_first_block(network, reference, equals, image):
    equals(network._embed(reference.tensor(f"in/{image}"), None)[0], f"out/{image}/tokens_in", 1e-5)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("image", IMAGES)
def test_every_block_gives_the_reference_tokens(network, reference, equals, image, norm):
    taken = network.intermediate(reference.tensor(f"in/{image}"), blocks=range(4), norm=norm, prefix=True)
    for index, tokens in enumerate(taken):
        name = f"out/{image}/block{index}_{'norm' if norm else 'raw'}"
        equals(tokens[:, 0], f"{name}_cls")
        equals(tokens[:, 1:5], f"{name}_reg")
        equals(tokens[:, 5:], f"{name}_patch")


@pytest.mark.parametrize("image", IMAGES)
def test_the_last_two_blocks_as_maps(network, reference, equals, image):
    pixels = reference.tensor(f"in/{image}")
    rows, columns = pixels.shape[-2] // 16, pixels.shape[-1] // 16
    for index, tokens in enumerate(network.intermediate(pixels, blocks=(2, 3))):
        equals(tokens.transpose(1, 2).unflatten(2, (rows, columns)), f"out/{image}/last2_norm_reshaped_{index}")


@pytest.mark.parametrize("image", IMAGES)
def test_all_features_after_the_last_block(network, reference, equals, image):
    features = network.features(reference.tensor(f"in/{image}"))
    equals(features["class"], f"out/{image}/ff_x_norm_clstoken")
    equals(features["storage"], f"out/{image}/ff_x_storage_tokens")
    equals(features["patches"], f"out/{image}/ff_x_norm_patchtokens")
    equals(features["prenorm"], f"out/{image}/ff_x_prenorm")
    equals(network(reference.tensor(f"in/{image}")), f"out/{image}/forward")


@pytest.mark.parametrize("image", IMAGES)
def test_masked_patches_are_replaced_by_the_mask_token(network, reference, equals, image):
    features = network.features(reference.tensor(f"in/{image}"), reference.tensor(f"in/{image}_mask"))
    equals(features["patches"], f"out/{image}/masked_x_norm_patchtokens")
    equals(features["class"], f"out/{image}/masked_x_norm_clstoken")


def test_features_for_dgcf_are_the_normed_patch_tokens_of_four_blocks(golden, both_paths):
    reference = golden("dgcf/dinov3_tiny_and_mldp.npz")
    network = DINOv3.from_state_dict(reference.weights("w::"))
    assert [network.width, network.heads] == reference["meta_embed_heads"].tolist()
    image = reference.tensor("in_a").expand(-1, 3, -1, -1)
    for name, norm in (("feats_a", True), ("NOT_REFERENCE_feats_a_without_final_norm", False)):
        ours = torch.stack(network.intermediate(image, (2, 5, 8, 11), norm=norm), dim=1).detach()
        torch.testing.assert_close(ours, reference.tensor(name), rtol=0, atol=1e-4)


# What follows makes one mistake at a time and sees it (on the training path, whose layers can be replaced).


def with_unrounded_periods(weights):
    count = len(weights["rope_embed.periods"])
    weights["rope_embed.periods"] = 100.0 ** (torch.arange(count) / count)


def with_key_bias(weights):
    for key in [key for key in weights if key.endswith("bias_mask")]:
        weights[key] = torch.ones_like(weights[key])


@pytest.mark.parametrize(("mistake", "at_least"), [(with_unrounded_periods, 1e-3), (with_key_bias, 0.05)])
def test_weights_with_one_mistake_are_told_from_the_reference(golden, mistake, at_least):
    reference = golden("mr-dinov3/vit_tiny_official.npz")
    weights = reference.weights("w/")
    mistake(weights)
    assert error_against(reference, DINOv3.from_state_dict(weights)) > at_least


def test_missing_registers_are_told_from_the_reference(golden):
    reference = golden("mr-dinov3/vit_tiny_official.npz")
    network = DINOv3.from_state_dict(reference.weights("w/"))
    network.storage_tokens, network.prefix = torch.nn.Parameter(torch.zeros(1, 0, 64)), 1
    assert error_against(reference, network) > 0.1


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("official", {"eps": 1e-6}), ("official", {"rope_dtype": "bf16"}), ("meddinov3", {"rope_dtype": "fp32"})],
)
def test_a_wrong_setting_is_told_from_the_reference(golden, kind, settings):
    reference = golden(f"mr-dinov3/vit_tiny_{kind}.npz")
    wrong = DINOv3.from_state_dict(reference.weights("w/"), **settings)
    assert error_against(reference, wrong) > TOLERANCE[kind]


def test_tanh_gelu_is_told_from_the_reference(golden, monkeypatch):
    reference = golden("mr-dinov3/vit_tiny_official.npz")
    network = network_of(golden, "official")
    monkeypatch.setattr(F, "gelu", functools.partial(F.gelu, approximate="tanh"))
    assert error_against(reference, network) > 10 * TOLERANCE["official"]


def test_missing_rotation_is_told_from_the_reference(golden, monkeypatch):
    reference = golden("mr-dinov3/vit_tiny_official.npz")
    network = network_of(golden, "official")
    monkeypatch.setattr("ProstateXferLib.networks.dinov3.rotate", lambda tokens, sin, cos: tokens)
    assert error_against(reference, network) > 0.1


def test_made_up_periods_are_those_of_the_released_files():
    """Meta's ViT-S/B/L hold these sixteen values, the formula's rounded to bfloat16 (reference notes, 1.3)."""
    released = [1, 1.3359375, 1.78125, 2.375, 3.15625, 4.21875, 5.625, 7.5]
    released += [10, 13.3125, 17.75, 23.75, 31.625, 42.25, 56.25, 75]
    assert rope_periods(64).tolist() == released
