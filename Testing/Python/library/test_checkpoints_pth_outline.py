# SPDX-License-Identifier: Apache-2.0
"""The outline of a .pth says what PyTorch would read, without reading weights, and runs nothing."""

import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files.hostile_pickle import Calls
from nnunet_results.folders import configuration, random_weights, write_folder
from outcomes.refusal import refusal

from ProstateXferLib.checkpoints.import_nnunet import nnunet_card
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.pth_outline import TensorOutline, read_outline
from ProstateXferLib.errors import ProstateXferError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint with what nnU-Net leaves beside the weights, and more."""
    parameter = torch.nn.Parameter(torch.ones(5))
    content = {
        "network_weights": OrderedDict({**random_weights(), "half": torch.zeros(2, 3, dtype=torch.bfloat16)}),
        "optimizer_state": {"state": {0: {"momentum_buffer": parameter}}, "param_groups": [{"lr": 1e-2}]},
        "grad_scaler_state": {},
        "logging": {"losses": [np.float64(0.5), np.float32(0.25)], "epochs": np.int64(3)},
        "init_args": {"configuration": "2d", "fold": 0, "device": torch.device("cpu"), "kind": torch.float32},
        "inference_allowed_mirroring_axes": (0, 1),
        "a set": {1, 2},
        "view": torch.arange(12).view(3, 4)[:, 1:3],
    }
    path = tmp_path_factory.mktemp("pth") / "checkpoint_final.pth"
    torch.save(content, path)
    return path


def test_names_and_shapes_are_those_that_pytorch_reads(checkpoint):
    outline, content = read_outline(checkpoint), torch.load(checkpoint, weights_only=False)  # made by this file
    assert list(outline) == list(content)
    weights = {name: tensor.shape for name, tensor in outline["network_weights"].items()}
    assert weights == {name: tuple(tensor.shape) for name, tensor in content["network_weights"].items()}
    assert outline["view"] == TensorOutline((3, 2))
    assert outline["optimizer_state"]["state"][0]["momentum_buffer"] == TensorOutline((5,))
    assert outline["init_args"]["configuration"] == "2d" and outline["inference_allowed_mirroring_axes"] == (0, 1)


def test_what_would_run_something_is_refused_and_named(tmp_path):
    marker, path = tmp_path / "caught", tmp_path / "x.pth"
    torch.save({"network_weights": {}, "x": Calls(os.system, f'echo 1 > "{marker}"')}, path)
    assert "posix.system" in refusal(read_outline, path)
    assert not marker.exists()


def test_a_function_of_an_allowed_package_is_not_called_either(tmp_path):
    class Saves:
        def __reduce__(self):
            return torch.save, ([1], str(tmp_path / "caught"))

    torch.save({"x": Saves()}, tmp_path / "x.pth")
    assert set(read_outline(tmp_path / "x.pth")) == {"x"}
    assert not (tmp_path / "caught").exists()


def test_what_is_no_checkpoint_is_told(tmp_path, checkpoint):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    assert "'cut.pth' is not a PyTorch checkpoint or is cut off" in refusal(read_outline, cut)
    torch.save([1, 2], tmp_path / "list.pth")
    assert "'list.pth' holds no dictionary" in refusal(read_outline, tmp_path / "list.pth")
    assert "There is no file" in refusal(read_outline, tmp_path / "nothing.pth")


@settings(max_examples=150)
@given(place=st.floats(0, 1), value=st.integers(0, 255), length=st.integers(1, 40))
def test_damage_anywhere_is_one_sentence_or_no_harm(tmp_path_factory, checkpoint, place, value, length):
    damaged = tmp_path_factory.mktemp("damaged") / "checkpoint_final.pth"
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = bytearray(source.read(name))
            if name.endswith("data.pkl"):  # an intact archive, so that the pickle itself is put to the test
                start = int(place * (len(content) - 1))
                content[start : start + length] = bytes([value]) * len(content[start : start + length])
            target.writestr(name, bytes(content))
    try:
        assert isinstance(read_outline(damaged), dict)
    except ProstateXferError as error:
        assert "checkpoint_final.pth" in str(error)


def test_the_card_of_a_folder_needs_no_weights_and_no_pytorch(tmp_path):
    folder = write_folder(tmp_path / "f", folds=("0", "1"))
    whole, listed = load_checkpoint(folder).card, nnunet_card(folder)
    assert [entry["imported_from"] for entry in whole.history] == [f"fold_{n}/checkpoint_final.pth" for n in "01"]
    assert listed == replace(whole, history=())
    program = (
        "import sys; from pathlib import Path; from ProstateXferLib.checkpoints.import_nnunet import nnunet_card; "
        f"nnunet_card(Path({str(folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_card_of_meddinov3_s_own_folder_is_known_by_its_weights_names(tmp_path, random_network):
    weights = random_network("mr_dinov3").state_dict()
    folder = write_folder(tmp_path / "f", configuration(2, patch_size=[32, 48]), weights=weights, name="2d_896")
    card = nnunet_card(folder)
    assert card.architecture == "mr_dinov3" and card.preprocessing.nnunet.patch == (32, 48)
    assert "MedDINOv3" in card.citation
