# SPDX-License-Identifier: Apache-2.0
"""The namings of DINOv3 weights, made out of one network by the inverse of what the importers do."""

import re

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.dinov3_names import is_dinov3

IMAGE = torch.linspace(-1, 1, 3 * 32 * 48).view(1, 3, 32, 48)


@pytest.fixture
def network(random_network):
    """As Meta releases them: a stored bias whose key third is masked away."""
    return random_network("dinov3")


@pytest.fixture
def without_biases(random_network):
    """As MedDINOv3 trains them."""
    return random_network("dinov3", qkv_bias=False, eps=1e-6, rope_dtype=torch.bfloat16)


def features(network):
    with torch.no_grad():
        return torch.cat(network.intermediate(IMAGE, (1, 3), prefix=True))


def meta(network):
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def hugging_face(network, layer="layer"):
    """Hub files say `layer.0`, transformers 5 in memory `model.layer.0`."""
    plain = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "storage_tokens": "embeddings.register_tokens",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.bias",
    }
    parts = {"attn.proj": "attention.o_proj", "mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"}
    parts |= {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
    state = {}
    for key, tensor in meta(network).items():
        block = re.match(r"blocks\.(\d+)\.(.+)", key)
        if block is None:
            tensor = tensor[None] if key == "mask_token" else tensor
            if key != "rope_embed.periods":
                state[plain.get(key, key)] = tensor
            continue
        index, rest = block.groups()
        prefix = f"{layer}.{index}"
        if rest.startswith("attn.qkv."):
            kind = rest.removeprefix("attn.qkv.")
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                if kind == "weight" or (kind == "bias" and letter != "k"):
                    state[f"{prefix}.attention.{letter}_proj.{kind}"] = third
            continue
        for ours, theirs in parts.items():
            rest = rest.replace(ours, theirs)
        state[f"{prefix}.{rest}"] = tensor
    return state


def timm(network, biases=True):
    state = {}
    for key, tensor in meta(network).items():
        if key.endswith("attn.qkv.bias"):
            if biases:
                state[key.replace("qkv.bias", "q_bias")], _, state[key.replace("qkv.bias", "v_bias")] = tensor.chunk(3)
        elif not key.endswith(("bias_mask", "periods")) and key != "mask_token":
            name = re.sub(r"ls([12])\.gamma", r"gamma_\1", key)
            state["reg_token" if name == "storage_tokens" else name] = tensor
    return state


def teacher(network):
    """MedDINOv3's `model.pth`, with the heads of its self-supervised training."""
    state = {f"backbone.{key}": tensor for key, tensor in meta(network).items()}
    state |= {"dino_head.mlp.0.weight": torch.ones(4, 64), "ibot_head.last_layer.weight": torch.ones(8, 4)}
    return {"teacher": state}


def network_without_query_and_value_biases(network):
    state = meta(network)
    for key in [key for key in state if key.endswith("attn.qkv.bias")]:
        state[key] = torch.zeros_like(state[key])
    return DINOv3.from_state_dict(state)


@pytest.mark.parametrize(
    "naming",
    [meta, hugging_face, lambda network: hugging_face(network, "model.layer"), timm],
    ids=["Meta", "Hugging Face on the hub", "Hugging Face in memory", "timm with biases"],
)
def test_each_naming_of_metas_weights_gives_the_same_tokens(network, naming):
    state = naming(network)
    assert is_dinov3(state)
    named = DINOv3.from_state_dict(state)
    assert (named.eps, named.rope_dtype, named.heads, named.prefix) == (1e-5, torch.float32, 1, 5)
    torch.testing.assert_close(features(named), features(network), rtol=0, atol=0)


def test_timm_without_biases_is_the_network_with_zero_biases(network):
    state = timm(network, biases=False)
    assert is_dinov3(state)
    named = DINOv3.from_state_dict(state)
    assert (named.eps, named.rope_dtype) == (1e-5, torch.float32)
    expected = features(network_without_query_and_value_biases(network))
    torch.testing.assert_close(features(named), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("naming", [meta, teacher, lambda network: teacher(network)["teacher"]])
def test_meddinov3_is_told_by_its_missing_bias(without_biases, naming):
    state = naming(without_biases)
    assert is_dinov3(state)
    named = DINOv3.from_state_dict(state)
    assert (named.eps, named.rope_dtype) == (1e-6, torch.bfloat16)
    torch.testing.assert_close(features(named), features(without_biases), rtol=0, atol=0)


def test_the_dinov3_baseline_of_meddinov3_has_a_whole_bias_and_no_registers(random_network):
    baseline = random_network("dinov3", storage_tokens=0, eps=1e-6, rope_dtype=torch.bfloat16)
    for block in baseline.blocks:
        block.attn.qkv.bias_mask.fill_(1)
    state = {key: tensor for key, tensor in meta(baseline).items() if not key.endswith("bias_mask")}
    named = DINOv3.from_state_dict(state)
    assert (named.eps, named.rope_dtype, named.prefix) == (1e-6, torch.bfloat16, 1)
    torch.testing.assert_close(features(named), features(baseline), rtol=0, atol=0)


def test_what_the_naming_implies_can_be_overruled(network):
    named = DINOv3.from_state_dict(meta(network), eps=1e-3, rope_dtype="bf16")
    assert (named.eps, named.rope_dtype) == (1e-3, torch.bfloat16)
    assert named.blocks[0].norm1.eps == 1e-3 and named.norm.eps == 1e-3
    with pytest.raises(ProstateXferError, match="rope_dtype must be 'fp32' or 'bf16'"):
        DINOv3.from_state_dict(meta(network), rope_dtype="half")


def test_a_bias_mask_that_was_never_initialised_hides_the_key_bias(network):
    state = meta(network)
    for key in [key for key in state if key.endswith("bias_mask")]:
        state[key].fill_(torch.nan)
    torch.testing.assert_close(features(DINOv3.from_state_dict(state)), features(network), rtol=0, atol=0)


def test_half_precision_weights_and_periods_are_taken(network):
    state = meta(network)
    state["rope_embed.periods"] = state["rope_embed.periods"].to(torch.bfloat16)
    named = DINOv3.from_state_dict(state)
    assert named.rope_embed.periods.dtype == torch.float32
    torch.testing.assert_close(features(named), features(network), rtol=0, atol=0)  # they are bfloat16 values already
    halves = {key: tensor.to(torch.bfloat16) for key, tensor in meta(network).items()}
    torch.testing.assert_close(features(DINOv3.from_state_dict(halves)), features(network), rtol=0, atol=0.1)


def test_stored_periods_tell_the_heads_and_else_heads_are_64_wide(random_network):
    narrow = random_network("dinov3", width=128, heads=4)
    assert DINOv3.from_state_dict(meta(narrow)).heads == 4
    assert DINOv3.from_state_dict(hugging_face(narrow)).heads == 2
    with pytest.raises(ProstateXferError, match="heads of width 64, which does not divide the token width 96"):
        DINOv3.from_state_dict(timm(random_network("dinov3", width=96, heads=1)))


def test_the_extra_norm_of_the_satellite_models_is_left_out(network):
    state = meta(network) | {"local_cls_norm.weight": torch.ones(64), "local_cls_norm.bias": torch.ones(64)}
    torch.testing.assert_close(features(DINOv3.from_state_dict(state)), features(network), rtol=0, atol=0)


def test_a_loaded_network_does_not_share_memory_with_the_file(network):
    state = meta(network)
    named = DINOv3.from_state_dict(state)
    before = features(named)
    for tensor in state.values():
        tensor.zero_()
    assert torch.equal(features(named), before)
