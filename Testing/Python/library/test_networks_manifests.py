# SPDX-License-Identifier: Apache-2.0
"""The names and shapes of the published files (Testing/Data/state-dicts) build their networks and load strictly.

The tensors are zeros that take no memory, and the networks are built without any, but for the smallest.
"""

import json
from pathlib import Path

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks import DGCF, DINOv3, MRDINOv3
from ProstateXferLib.networks.dgcf import is_dgcf
from ProstateXferLib.networks.dinov3_names import is_dinov3

MANIFESTS = Path(__file__).resolve().parents[2] / "Data" / "state-dicts"
SMALL, BASE, LARGE = (384, 12, 6), (768, 12, 12), (1024, 24, 16)  # width, depth, heads
ENCODERS = {
    "official_dinov3_vits16": SMALL,
    "official_dinov3_vitb16": BASE,
    "official_dinov3_vitl16": LARGE,
    "meddinov3_vitb16_backbone": BASE,
    "transformers_safetensors_dinov3_vits16": SMALL,
    "transformers_safetensors_dinov3_vitb16": BASE,
    "transformers5_inmemory_dinov3_vits16": SMALL,
    "transformers5_inmemory_dinov3_vitb16": BASE,
    "transformers5_inmemory_dinov3_vitl16": LARGE,
    "timm_vit_small_patch16_dinov3": SMALL,
    "timm_vit_base_patch16_dinov3": BASE,
    "timm_vit_base_patch16_dinov3_qkvb": BASE,
    "timm_vit_large_patch16_dinov3": LARGE,
}
PARAMETERS = {SMALL: 21_601_152, BASE: 85_669_632, LARGE: 303_154_176}  # reference notes, 1.1
DGCFS = {
    "cnn": ("cnn", 30_816_673),
    "se": ("se", 24_198_033),
    "gated": ("gated", 27_682_273),
    "none": ("none", 23_847_713),
    "cnn_layers_FTFT": ("cnn", None),
    "cnn_layers_FFFT": ("cnn", None),
    "none_no_cnn_encoder": ("none", None),
    "cnn_no_cnn_encoder": ("cnn", None),
}

pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")


def zeros(entries) -> dict[str, torch.Tensor]:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int64": torch.int64}
    return {name: torch.zeros((), dtype=dtypes[dtype]).expand(shape) for name, shape, dtype in entries}


def read(name: str) -> dict[str, torch.Tensor]:
    return zeros(json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8")))


@pytest.fixture
def weightless(monkeypatch):
    """Networks are built on the device "meta": they have shapes and no memory."""
    for network in (DINOv3, MRDINOv3, DGCF):
        build = network.__init__

        def on_meta(self, *args, build=build, **options):
            with torch.device("meta"):
                build(self, *args, **options)

        monkeypatch.setattr(network, "__init__", on_meta)


def parameters(network) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_each_size_and_naming_loads(weightless, name):
    state = read(name)
    assert is_dinov3(state) and not is_dgcf(state)
    network = DINOv3.from_state_dict(state)
    assert (network.width, network.depth, network.heads) == ENCODERS[name]
    assert (network.hidden, network.prefix) == (4 * network.width, 5)
    medical = name.startswith("meddinov3")
    assert (network.eps, network.rope_dtype) == ((1e-6, torch.bfloat16) if medical else (1e-5, torch.float32))
    unbiased = medical or (name.startswith("timm") and not name.endswith("qkvb"))
    biases = 0 if not unbiased else 3 * network.width * network.depth
    assert parameters(network) == PARAMETERS[ENCODERS[name]] - biases


def test_the_smallest_runs():
    """Real memory, real numbers: the official ViT-S/16 with weights drawn at random."""
    state = read("official_dinov3_vits16")
    generator = torch.Generator().manual_seed(0)
    filled = {key: 0.02 * torch.randn(tensor.shape, generator=generator) for key, tensor in state.items()}
    filled["rope_embed.periods"] = filled["rope_embed.periods"].abs() + 1
    network = DINOv3.from_state_dict(filled)
    with torch.no_grad():
        taken = network.intermediate(torch.randn(1, 3, 32, 32, generator=generator))
    assert [tuple(tokens.shape) for tokens in taken] == [(1, 4, 384)] * 4
    assert all(torch.isfinite(tokens).all() for tokens in taken)


def test_the_dinov3_baseline_of_meddinov3_loads_without_registers(weightless):
    network = DINOv3.from_state_dict(read("meddinov3repo_base_dinov3_trainer_backbone"))
    assert (network.width, network.depth, network.heads, network.prefix) == (*BASE, 1)
    assert (network.eps, network.rope_dtype) == (1e-6, torch.bfloat16)


def test_the_teacher_file_loads_and_its_training_heads_are_dropped(weightless):
    state = {f"backbone.{key}": tensor for key, tensor in read("meddinov3_vitb16_backbone").items()}
    state["dino_head.mlp.0.weight"] = state["ibot_head.last_layer.weight"] = torch.zeros(1)
    network = DINOv3.from_state_dict({"teacher": state})
    assert (network.width, network.eps, network.rope_dtype) == (768, 1e-6, torch.bfloat16)


def test_the_segmentation_network_loads(weightless):
    network = MRDINOv3.from_state_dict(read("meddinov3_primus_multiscale_vitb16_2cls"))
    assert network.blocks == (2, 5, 8, 11)
    assert network.heads["segmentation"].classes == 2
    assert parameters(network) == 110_718_530  # reference notes, 2.2
    assert parameters(network.up_projection) == 25_076_546


@pytest.mark.parametrize("variant", DGCFS)
def test_each_dgcf_variant_loads(weightless, variant):
    manifest = json.loads((MANIFESTS / "dgcf_generator.json").read_text(encoding="utf-8"))["variants"][variant]
    state = zeros(manifest["entries"])
    assert is_dgcf(state) and not is_dinov3(state)
    network = DGCF.from_state_dict(state)
    fusion, count = DGCFS[variant]
    assert (network.fusion, network.base_channels, network.feature_width) == (fusion, 64, 768)
    asked = manifest["constructor_kwargs"]
    assert network.levels == tuple(asked.get("use_dino_layers", [True] * 4))
    assert network.cnn_encoder == asked.get("use_cnn", True)
    assert parameters(network) == manifest["n_trainable_params"] == (count or manifest["n_trainable_params"])


def test_the_dgcf_that_never_worked_is_refused():
    manifest = json.loads((MANIFESTS / "dgcf_generator.json").read_text(encoding="utf-8"))["variants"]["attn"]
    with pytest.raises(ProstateXferError, match="'attn'"):
        DGCF.from_state_dict(zeros(manifest["entries"]))


def test_an_nnunet_is_none_of_these():
    state = read("nnunet_plainconvunet_tiny_golden_2d")
    assert not is_dinov3(state) and not is_dgcf(state)
    with pytest.raises(ProstateXferError, match=r"'encoder\.stages\.0\.0\.convs\.0\.conv\.weight'"):
        DINOv3.from_state_dict(state)
