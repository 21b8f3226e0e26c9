# SPDX-License-Identifier: Apache-2.0
"""Encoders as files that other programs read."""

import json

import pytest
import torch

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.export_teacher import export_teacher
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.errors import ProstateXferError

ARGUMENTS = {"eps": 1e-6, "rope_dtype": "bf16"}


@pytest.fixture
def written(tmp_path, random_network):
    def make(*, heads=False, arguments=ARGUMENTS, **options):
        network = random_network("dinov3", **{"qkv_bias": False, "eps": 1e-6, **options})
        state = network.state_dict()
        if heads:
            state = {f"backbone.{name}": value for name, value in state.items()}
            state |= {"dino_head.last_layer.weight": torch.ones(4, 2), "ibot_head.last_layer.weight": torch.ones(4, 2)}
        card = ModelCard(name="tiny", task="encoder", architecture="dinov3", arguments=arguments, inputs=())
        return write_checkpoint(tmp_path / "tiny.safetensors", card, state), network

    return make


@pytest.mark.parametrize("heads", [False, True])
def test_an_exported_encoder_comes_back_by_import(tmp_path, written, heads):
    path, network = written(heads=heads)
    exported = tmp_path / "model.pth"
    assert main(["export", str(path), str(exported)]) == 0
    content = torch.load(exported, weights_only=True)
    assert list(content) == ["teacher"]
    assert {name.split(".")[0] for name in content["teacher"]} - {"backbone"} == (
        {"dino_head", "ibot_head"} if heads else set()
    )
    assert main(["import", str(exported), str(tmp_path / "back.safetensors"), "--name", "back"]) == 0
    card, state = read_checkpoint(tmp_path / "back.safetensors")
    assert {key: card.arguments[key] for key in ARGUMENTS} == ARGUMENTS
    for name, value in network.state_dict().items():
        assert torch.equal(state[name].float(), value)


def test_the_names_and_types_are_those_of_meddinov3s_file(tmp_path, written, golden_data):
    """Twelve blocks, narrow: names and dtypes do not depend on the width."""
    manifest = golden_data.parent / "reference/state-dicts/meddinov3_vitb16_backbone.json"
    if not manifest.is_file():
        pytest.skip(f"there is no '{manifest}'")
    path, _ = written(depth=12)
    teacher = torch.load(export_teacher(path, tmp_path / "model.pth"), weights_only=True)["teacher"]
    ours = {name.removeprefix("backbone."): str(value.dtype).removeprefix("torch.") for name, value in teacher.items()}
    assert ours == {name: dtype for name, _, dtype in json.loads(manifest.read_text())}


@pytest.mark.parametrize("arguments", [{"eps": 1e-5, "rope_dtype": "bf16"}, {"eps": 1e-6, "rope_dtype": "fp32"}])
def test_settings_that_readers_would_not_guess_are_refused(tmp_path, written, arguments):
    with pytest.raises(ProstateXferError, match="would not guess"):
        export_teacher(written(arguments=arguments)[0], tmp_path / "model.pth")
    assert not (tmp_path / "model.pth").exists()


def test_only_pth_files_are_written(tmp_path, written):
    with pytest.raises(ProstateXferError, match="must end in .pth"):
        export_teacher(written()[0], tmp_path / "model.bin")
