# SPDX-License-Identifier: Apache-2.0
"""The four namings in which DINOv3 weights are passed around, and the one network that they all load into.

| naming | told by | differs from Meta's |
|---|---|---|
| Meta | `storage_tokens` | nothing: it is our own naming |
| MedDINOv3 | Meta's names without `bias_mask`, often under `teacher` and `backbone.` | eps 1e-6, bfloat16 RoPE |
| Hugging Face | `embeddings.cls_token` | q, k, v split; no periods, no key bias |
| timm | `reg_token` | gamma names; no periods; biases split or absent |
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import MEDDINOV3_EPS, OFFICIAL_EPS, PATCH
from ProstateXferLib.networks.rope import rope_periods
from ProstateXferLib.networks.strict import check_tensors, load_strictly

ROPE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

_HUGGING_FACE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "storage_tokens",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
}
_HUGGING_FACE_LAYER = {
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
}


def is_dinov3(state: Mapping) -> bool:
    """Whether the keys look like one of the four namings (or its `teacher` wrapper)."""
    keys = set(state)
    marks = {"storage_tokens", "backbone.storage_tokens", "embeddings.cls_token", "reg_token"}
    return bool(keys & marks) or (isinstance(state.get("teacher"), Mapping) and is_dinov3(state["teacher"]))


def to_official_names(state: Mapping) -> dict[str, Tensor]:
    """Any of the four namings -> Meta's names. Tensors keep their dtype; missing periods are made anew.

    Raises:
        ProstateXferError: the keys belong to none of the namings, or one key of the naming is unknown.
    """
    if isinstance(state.get("teacher"), Mapping):
        state = state["teacher"]
    if any(str(key).startswith("backbone.") for key in state):
        # Self-supervised files carry the training heads beside the backbone; MedDINOv3's own loader drops them too.
        heads = ("dino_head", "ibot_head")
        state = {k.removeprefix("backbone."): v for k, v in state.items() if not any(head in k for head in heads)}
    check_tensors(state)
    if any(key.startswith("embeddings.") for key in state):
        return _from_hugging_face(state)
    if "reg_token" in state:
        return _from_timm(state)
    if "cls_token" in state or "patch_embed.proj.weight" in state:
        return dict(state)
    first = next(iter(state), "(empty)")
    raise ProstateXferError(
        f"These weights are not a DINOv3 in any known naming (Meta, Hugging Face, timm, MedDINOv3): the first key is "
        f"'{first}'; choose a DINOv3 ViT-S/B/L/16 file."
    )


def build_dinov3(cls, state: Mapping, *, eps: float | None, rope_dtype: torch.dtype | str | None):
    """The body of `DINOv3.from_state_dict`: names, sizes, settings, strict load, eval mode."""
    official_source = not _is_meddinov3(state)
    named = to_official_names(state)
    _complete(named)
    sizes = _sizes(named)
    eps = eps if eps is not None else (OFFICIAL_EPS if official_source else MEDDINOV3_EPS)
    network = cls(**sizes, eps=eps, rope_dtype=_rope_dtype(rope_dtype, official_source))
    load_strictly(network, named, what="DINOv3")
    return network.eval()


def _is_meddinov3(state: Mapping) -> bool:
    """MedDINOv3's code never stores a bias mask: its own encoder has no qkv bias, its DINOv3 baseline an unmasked one.

    Both kept the constructor's eps and RoPE dtype (specification 2.1 and 2.6), Meta's released files have neither.
    """
    if isinstance(state.get("teacher"), Mapping):
        state = state["teacher"]
    keys = {str(key).removeprefix("backbone.") for key in state}
    metas_names = "cls_token" in keys and "reg_token" not in keys
    return metas_names and not any(key.endswith("attn.qkv.bias_mask") for key in keys)


def _rope_dtype(asked: torch.dtype | str | None, official_source: bool) -> torch.dtype:
    if asked is None:
        return torch.float32 if official_source else torch.bfloat16
    if isinstance(asked, str):
        if asked not in ROPE_DTYPES:
            raise ProstateXferError(f"rope_dtype must be 'fp32' or 'bf16', not '{asked}'.")
        return ROPE_DTYPES[asked]
    return asked


def _complete(named: dict[str, Tensor]) -> None:
    """Fill in what a naming drops without loss: periods, the key-bias mask, the unused mask token."""
    width = _side(named, "cls_token", 3, -1)
    if "rope_embed.periods" not in named:
        named["rope_embed.periods"] = rope_periods(64)  # every published patch-16 model has head width 64
    if "mask_token" not in named:
        named["mask_token"] = torch.zeros(1, width)
    named["mask_token"] = named["mask_token"].reshape(1, -1)
    masks = [tensor for key, tensor in named.items() if key.endswith("attn.qkv.bias_mask")]
    biases = [key for key in named if key.endswith("attn.qkv.bias")]
    if not biases or not all(bool(mask.all()) for mask in masks):
        _tensor(named, "storage_tokens")  # MedDINOv3's DINOv3 baseline alone, whose biases are whole, dropped them
    for key in biases:
        if not masks:
            named[f"{key}_mask"] = torch.ones(3 * width)
        elif f"{key}_mask" in named and torch.isnan(named[f"{key}_mask"]).any():
            named[f"{key}_mask"] = _key_mask(width)  # Meta's buffer is NaN until it was initialised
    # ViT-L distilled on SAT-493M carries an extra norm that evaluation never uses.
    for key in [k for k in named if k.startswith("local_cls_norm.")]:
        del named[key]


def _sizes(named: Mapping[str, Tensor]) -> dict:
    width = named["cls_token"].shape[-1]
    if (patch := _side(named, "patch_embed.proj.weight", 4, -1)) != PATCH:
        raise ProstateXferError(
            f"Key 'patch_embed.proj.weight' has patches of {patch} pixels: only patch size {PATCH} is supported."
        )
    indices = {int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", key) for key in named) if m}
    for index in range(1 + max(indices, default=0)):
        if index not in indices:
            _tensor(named, f"blocks.{index}.norm1.weight")
    head_width = 4 * named["rope_embed.periods"].numel()
    if not head_width or width % head_width:
        raise ProstateXferError(
            f"Key 'rope_embed.periods' means heads of width {head_width}, which does not divide the token width "
            f"{width}."
        )
    return {
        "width": width,
        "depth": len(indices),
        "heads": width // head_width,
        "hidden": _side(named, "blocks.0.mlp.fc1.weight", 2, 0),
        "storage_tokens": _side(named, "storage_tokens", 3, 1) if "storage_tokens" in named else 0,
        "qkv_bias": any(key.endswith("attn.qkv.bias") for key in named),
        "layer_scale": any(key.endswith(".gamma") for key in named),
        "channels": named["patch_embed.proj.weight"].shape[1],
    }


def _tensor(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise ProstateXferError(
            f"Key '{key}' is missing from these DINOv3 weights: the file is incomplete, get it again."
        )
    return state[key]


def _side(state: Mapping[str, Tensor], key: str, axes: int, axis: int) -> int:
    """The length of one axis of a tensor that must have so many."""
    shape = tuple(_tensor(state, key).shape)
    if len(shape) != axes or 0 in shape:
        raise ProstateXferError(f"Key '{key}' has shape {shape} where a DINOv3 needs {axes} axes: choose another file.")
    return shape[axis]


def _key_mask(width: int) -> Tensor:
    """1 for the query and value biases, 0 for the key bias between them."""
    mask = torch.ones(3 * width)
    mask[width : 2 * width] = 0
    return mask


def _from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named, layers = {}, {}  # a dict for its order: the first offending key is the one that is named
    for key, tensor in state.items():
        match = re.match(r"(?:model\.)?layer\.(\d+)\.(.+)", key)  # transformers >= 5 says model.layer in memory
        if match is None:
            if key not in _HUGGING_FACE:
                raise ProstateXferError(f"Key '{key}' is not part of a Hugging Face DINOv3: choose a DINOv3 ViT file.")
            named[_HUGGING_FACE[key]] = tensor
            continue
        layer, rest = match.groups()
        layers[layer] = None
        if re.fullmatch(r"attention\.[qkv]_proj\.(weight|bias)", rest):
            continue
        part = next((p for p in _HUGGING_FACE_LAYER if rest == p or rest.startswith(f"{p}.")), None)
        if part is None:
            raise ProstateXferError(f"Key '{key}' is not part of a Hugging Face DINOv3: choose a DINOv3 ViT file.")
        named[f"blocks.{layer}.{_HUGGING_FACE_LAYER[part]}{rest.removeprefix(part)}"] = tensor
    _tensor(state, "embeddings.register_tokens")  # without them the network would run, and badly
    width = _side(state, "embeddings.cls_token", 3, -1)
    prefix = "model.layer" if any(key.startswith("model.layer.") for key in state) else "layer"
    for layer in layers:
        attention = f"{prefix}.{layer}.attention"
        weights = [_shaped(state, f"{attention}.{letter}_proj.weight", (width, width)) for letter in "qkv"]
        named[f"blocks.{layer}.attn.qkv.weight"] = torch.cat(weights)
        _join_biases(named, state, layer, [f"{attention}.{letter}_proj.bias" for letter in "qv"])
    return named


def _from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {}
    for key, tensor in state.items():
        name = re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key)
        if not name.endswith((".q_bias", ".v_bias")):
            named["storage_tokens" if name == "reg_token" else name] = tensor
    biases = [key for key in state if re.fullmatch(r"blocks\.\d+\.attn\.[qv]_bias", key)]
    for layer in dict.fromkeys(key.split(".")[1] for key in biases):
        _join_biases(named, state, layer, [f"blocks.{layer}.attn.{letter}_bias" for letter in "qv"])
    return named


def _join_biases(named: dict[str, Tensor], state: Mapping[str, Tensor], layer: str, keys: list[str]) -> None:
    """Query and value bias of a layer, where it has them, become the fused bias with an empty key third."""
    if not any(key in state for key in keys):
        return
    width = _side(named, "cls_token", 3, -1)
    query, value = (_shaped(state, key, (width,)) for key in keys)
    named[f"blocks.{layer}.attn.qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    named[f"blocks.{layer}.attn.qkv.bias_mask"] = _key_mask(width)


def _shaped(state: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    tensor = _tensor(state, key)
    if tensor.shape != shape:
        raise ProstateXferError(
            f"Key '{key}' has shape {tuple(tensor.shape)} where this DINOv3 needs {shape}: choose a matching file."
        )
    return tensor
