# SPDX-License-Identifier: Apache-2.0
"""MR-DINOv3 against the segmentation networks of MedDINOv3 (Primus, Primus_Multiscale), on random weights."""

import functools

import pytest
import torch
from torch.nn import functional as F

from ProstateXferLib.networks import patch_decode
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.networks.patch_decode import PatchDecode

TOLERANCE = 2e-3  # bfloat16 position tables; the reference run's own figure
KINDS = ("multiscale", "single")
IMAGES = ("a", "b")  # square, and not


@functools.cache
def network_of(read, kind: str) -> MRDINOv3:
    blocks = (0, 1, 2, 3) if kind == "multiscale" else (3,)
    return MRDINOv3.from_state_dict(read(f"mr-dinov3/primus_{kind}_tiny.npz").weights("w/"), blocks=blocks)


@pytest.fixture(params=[(kind, image) for kind in KINDS for image in IMAGES], ids="-".join)
def case(request, golden, both_paths):
    """Network, input, and a function that gives the reference's result of a name."""
    kind, image = request.param
    reference = golden(f"mr-dinov3/primus_{kind}_tiny.npz")
    result = functools.partial(lambda name: reference.tensor(f"out/{image}/{name}"))
    return network_of(golden, kind), reference.tensor(f"in/{image}"), result


def plain_decode(head: PatchDecode, features: torch.Tensor) -> list[torch.Tensor]:
    """The published head layer by layer on maps: what each stage gives, and last the logits."""
    maps = [features]
    for convolution, norm in head.decode[:-1]:
        x = F.conv_transpose2d(maps[-1], convolution.weight, convolution.bias, stride=2)
        x = F.layer_norm(x.permute(0, 2, 3, 1), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        maps.append(F.gelu(x.permute(0, 3, 1, 2)))
    return [*maps[1:], F.conv2d(maps[-1], head.decode[-1].weight, head.decode[-1].bias)]


def as_map(tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return tokens.transpose(1, 2).unflatten(2, (image.shape[-2] // 16, image.shape[-1] // 16))


def test_settings_are_read_off_the_file(golden):
    for kind in KINDS:
        reference, network = golden(f"mr-dinov3/primus_{kind}_tiny.npz"), network_of(golden, kind)
        assert network.dino_encoder.eps == reference["meta/eps"]
        assert network.dino_encoder.rope_dtype == torch.bfloat16
        assert network.dino_encoder.heads == reference["meta/num_heads"]
        assert reference["meta/layernorm2d_eps"] == patch_decode.NORM_EPS
    multiscale = golden("mr-dinov3/primus_multiscale_tiny.npz")
    assert MRDINOv3.from_state_dict(multiscale.weights("w/")).blocks == tuple(multiscale["meta/interaction_indices"])


def test_tokens_of_all_tapped_blocks(case):
    network, image, result = case
    ours = as_map(network.encode(image), image).detach()
    torch.testing.assert_close(ours, result("fused_features"), rtol=0, atol=TOLERANCE)


def test_the_first_two_stages_of_the_plain_head(case):
    network, _, result = case
    stages = [stage.detach() for stage in plain_decode(network.heads["segmentation"], result("fused_features"))]
    torch.testing.assert_close(stages[0], result("decode_stage0"), rtol=0, atol=1e-5)
    torch.testing.assert_close(stages[1], result("decode_stage1"), rtol=0, atol=1e-5)


def test_logits_of_the_whole_network(case):
    network, image, result = case
    torch.testing.assert_close(network(image).detach(), result("logits"), rtol=0, atol=TOLERANCE)


def test_logits_from_the_references_own_tokens(case):
    """Without the encoder's bfloat16 in the way, the head agrees to fp32 rounding."""
    network, _, result = case
    ours = network.heads["segmentation"](result("fused_features")).detach()
    torch.testing.assert_close(ours, result("logits"), rtol=1e-5, atol=2e-5)


def test_a_head_of_patch_8_with_odd_widths(golden, both_paths):
    reference = golden("mr-dinov3/patch_decode_p8.npz")
    weights = reference.weights("w/")
    sizes = PatchDecode.sizes_of(weights)
    assert sizes == {"width": 40, "classes": 5, "patch": 8}  # widths 40, 20, 10, 5
    head = PatchDecode(**sizes)
    head.load_state_dict(weights)
    for ours in (head(reference.tensor("in/x")), plain_decode(head, reference.tensor("in/x"))[-1]):
        torch.testing.assert_close(ours.detach(), reference.tensor("out/y"), rtol=0, atol=1e-5)


# What follows makes one mistake at a time and sees it.


def error_of_logits(golden, network):
    reference = golden("mr-dinov3/primus_multiscale_tiny.npz")
    return float((network(reference.tensor("in/a")).detach() - reference.tensor("out/a/logits")).abs().max())


def test_reversed_levels_are_told_from_the_reference(golden):
    network = MRDINOv3.from_state_dict(golden("mr-dinov3/primus_multiscale_tiny.npz").weights("w/"))
    encode = network.encode
    network.encode = lambda image: torch.cat(encode(image).chunk(4, dim=-1)[::-1], dim=-1)
    assert error_of_logits(golden, network) > 0.1


def test_levels_without_the_final_norm_are_told_from_the_reference(golden, monkeypatch):
    network = MRDINOv3.from_state_dict(golden("mr-dinov3/primus_multiscale_tiny.npz").weights("w/"))
    intermediate = network.dino_encoder.intermediate
    monkeypatch.setattr(
        network.dino_encoder, "intermediate", lambda image, blocks: intermediate(image, blocks, norm=False)
    )
    assert error_of_logits(golden, network) > 0.1


def test_an_official_encoder_setting_is_told_from_the_reference(golden):
    weights = golden("mr-dinov3/primus_multiscale_tiny.npz").weights("w/")
    assert error_of_logits(golden, MRDINOv3.from_state_dict(weights, rope_dtype="fp32")) > TOLERANCE


def test_a_wrong_eps_in_the_head_is_told_from_the_reference(golden, monkeypatch):
    monkeypatch.setattr(patch_decode, "NORM_EPS", 1e-2)
    weights = golden("mr-dinov3/primus_multiscale_tiny.npz").weights("w/")
    assert error_of_logits(golden, MRDINOv3.from_state_dict(weights)) > TOLERANCE


def test_swapped_pixels_within_a_patch_are_told_from_the_reference(golden):
    network = MRDINOv3.from_state_dict(golden("mr-dinov3/primus_multiscale_tiny.npz").weights("w/"))
    for stage in network.heads["segmentation"].decode[:-1]:
        stage[0].weight.data = stage[0].weight.data.transpose(2, 3).contiguous()
    assert error_of_logits(golden, network) > 0.1
