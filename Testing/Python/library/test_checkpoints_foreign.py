# SPDX-License-Identifier: Apache-2.0
"""A file from a stranger is opened without running anything that is in it; damage is told in one sentence."""

import builtins
import datetime
import os
import pickle
import random
import re
import zipfile

import numpy as np
import pytest
import torch
from model_files.hostile_pickle import Calls
from outcomes.refusal import refusal
from safetensors.torch import save_file
from torch import nn

from ProstateXferLib.checkpoints.foreign import read_foreign, state_dict_of
from ProstateXferLib.checkpoints.importers import import_checkpoint
from ProstateXferLib.errors import ProstateXferError

WEIGHTS = {"cls_token": torch.ones(1, 1, 4), "blocks.0.norm1.weight": torch.arange(6.0)}


class Custom:
    """An object of a class of somebody's own."""


def system(marker):
    return Calls(os.system, f'echo caught > "{marker}"')


def evaluated(marker):
    return Calls(builtins.eval, f"open({str(marker)!r}, 'w').close()")


def executed_in_depth(marker):
    call = Calls(builtins.exec, f"open({str(marker)!r}, 'w').close()")
    return {"epoch": 3, "logging": [{"losses": (1.0, [call])}]}


def popen(marker):
    import subprocess

    return Calls(subprocess.Popen, ["touch", str(marker)])


PAYLOADS = [system, evaluated, executed_in_depth, popen]


def zipped(content, path):
    torch.save(content, path)


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain(content, path):
    with path.open("wb") as stream:
        pickle.dump(content, stream, protocol=2)


WRITERS = [zipped, legacy, plain]


def beside_weights(write, extra):
    """In a plain pickle tensors alone are refused, which would hide what else is in it."""
    return {"extra": extra} if write is plain else {**WEIGHTS, "extra": extra}


@pytest.mark.skipif(os.name == "nt", reason="the payloads are commands of a POSIX shell")
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_malicious_file_is_refused_and_nothing_in_it_runs(tmp_path, payload, write):
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    write(beside_weights(write, payload(marker)), path)
    for function in (read_foreign, lambda source: import_checkpoint(source, tmp_path / "out.safetensors")):
        told = refusal(function, path)
        assert "could run code; nothing in it was executed" in told
    assert not marker.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.skipif(os.name == "nt", reason="the payloads are commands of a POSIX shell")
@pytest.mark.parametrize("payload", [system, evaluated, executed_in_depth], ids=lambda payload: payload.__name__)
def test_those_files_do_run_when_they_are_opened_freely(tmp_path, payload):
    """Or the test before would prove nothing."""
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    zipped({**WEIGHTS, "extra": payload(marker)}, path)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (Custom(), "Custom"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (nn.Sequential(nn.Linear(2, 2)), "torch.nn.modules"),
        (np.array([Custom()], dtype=object), "numpy"),
        (datetime.date(2026, 1, 1), "datetime.date"),
    ],
    ids=["custom class", "whole module", "whole network", "numpy array of objects", "date"],
)
def test_objects_that_are_not_weights_are_refused_by_name(tmp_path, extra, named, write):
    path = tmp_path / "model.pth"
    for content in (extra, beside_weights(write, extra)):
        write(content, path)
        assert named in refusal(read_foreign, path)


def test_a_pytorch_whose_reader_was_not_safe_is_refused(tmp_path, monkeypatch):
    zipped(WEIGHTS, tmp_path / "weights.pth")
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.5.1+cpu"))
    assert "update it to 2.6 or later" in refusal(read_foreign, tmp_path / "weights.pth")
    assert read_foreign(tmp_path / "weights.safetensors").keys() == WEIGHTS.keys()


def test_the_refused_function_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    zipped({"extra": system(tmp_path / "marker")}, path)
    assert re.search(r"\((posix|nt)\.system\)", refusal(read_foreign, path))


@pytest.mark.parametrize("write", [zipped, legacy], ids=lambda write: write.__name__)
def test_weights_and_plain_values_come_back(tmp_path, write):
    path = tmp_path / "weights.pth"
    content = {"state_dict": WEIGHTS, "epoch": 3, "history": [1.5, None, {"lr": (1e-3, True)}], "names": {"a", "b"}}
    write(content, path)
    read = read_foreign(path)
    assert {key: read[key] for key in ("epoch", "history", "names")} == {
        key: content[key] for key in ("epoch", "history", "names")
    }
    assert all(torch.equal(read["state_dict"][key], WEIGHTS[key]) for key in WEIGHTS)


def with_module_renamed(path, old: bytes, new: bytes):
    """The same file as another version of numpy would have written it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            assert not name.endswith("data.pkl") or old in data
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("spelling", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numpy_scalars_beside_the_weights_are_read(tmp_path, spelling):
    """nnU-Net logs them; numpy 2 writes another module name than numpy 1."""
    path = tmp_path / "checkpoint_final.pth"
    scalars = [np.float64(0.25), np.float32(0.5), np.int64(7), np.bool_(True)]
    zipped({"network_weights": WEIGHTS, "logging": {"dice": scalars}}, path)
    with_module_renamed(path, b"numpy._core.multiarray", spelling)
    assert [float(value) for value in read_foreign(path)["logging"]["dice"]] == [0.25, 0.5, 7, 1]


def test_real_nnunet_checkpoints_open_and_are_known_to_be_none_of_ours(golden_data, tmp_path):
    found = sorted((golden_data / "mr-dinov3" / "nnunet_model").glob("*/fold_0/checkpoint_final.pth"))
    assert found
    for path in found:
        content = read_foreign(path)
        assert "init_args" in content and all(isinstance(v, torch.Tensor) for v in state_dict_of(content).values())
        told = refusal(import_checkpoint, path, tmp_path / "out.safetensors")
        assert "no checkpoint that ProstateXfer knows" in told and "'encoder.stages.0.0.convs.0.conv.weight'" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "network_weights", "net"])
def test_wrappers_and_the_prefix_of_data_parallel_are_taken_off(wrapper):
    wrapped = {"epoch": 3, wrapper: {f"module.{key}": value for key, value in WEIGHTS.items()}}
    assert state_dict_of(wrapped) == WEIGHTS
    assert state_dict_of(WEIGHTS) == WEIGHTS
    mixed = {"module.a": 1, "b": 2}
    assert state_dict_of(mixed) == mixed


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"This is no checkpoint, but a letter.\n",
        b"\x5c\x01\x00\x00" + bytes(344),
        b"\x1f\x8b\x08\x00" + bytes(20),
        b"PK\x03\x04" + bytes(40),
        b"PK\x05\x06" + bytes(18),
        pickle.dumps([1, 2]),
        pickle.dumps({"a": 1}, protocol=4),
        b"\x80\x02.",
    ],
    ids=["empty", "text", "NIfTI", "gzip", "zip cut off", "empty zip", "list", "plain dict", "nothing"],
)
def test_a_file_of_another_kind_is_one_sentence_that_accuses_nobody(tmp_path, content, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    told = refusal(read_foreign, path)
    assert path.name in told and "could run code" not in told


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), "text", 3])
def test_a_checkpoint_that_is_no_dictionary_says_what_it_is(tmp_path, content):
    path = tmp_path / "list.pth"
    zipped(content, path)
    assert f"holds a {type(content).__name__}, not a dictionary of weights" in refusal(read_foreign, path)


def test_a_missing_file_and_a_folder(tmp_path):
    assert "There is no file" in refusal(read_foreign, tmp_path / "nothing.pth")
    assert "There is no file" in refusal(read_foreign, tmp_path)


@pytest.mark.parametrize("write", [zipped, legacy], ids=lambda write: write.__name__)
def test_a_download_that_broke_off_is_one_sentence(tmp_path, write):
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    write(WEIGHTS, whole)
    data = whole.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 40)):
        cut.write_bytes(data[:length])
        told = refusal(read_foreign, cut)
        assert write is legacy or "is not a PyTorch checkpoint or is cut off" in told  # or within a type's name


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_damage_anywhere_is_one_sentence_or_harmless(tmp_path, write):
    path = tmp_path / "damaged.pth"
    write({"weights": WEIGHTS, "logging": [np.float64(0.5)]} if write is not plain else {"a": [1, (2.5, "x")]}, path)
    data, chance = path.read_bytes(), random.Random(0)
    for place in range(0, len(data), max(1, len(data) // 300)):
        path.write_bytes(data[:place] + bytes([data[place] ^ chance.randrange(1, 256)]) + data[place + 1 :])
        try:
            read_foreign(path)
        except ProstateXferError as error:
            assert "\n" not in str(error)


def test_damage_in_a_foreign_safetensors_file_is_one_sentence_or_harmless(tmp_path):
    path = tmp_path / "damaged.safetensors"
    save_file(WEIGHTS, path)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 3]) + data[place + 1 :])
        try:
            read_foreign(path)
        except ProstateXferError as error:
            assert "damaged.safetensors" in str(error)
    path.write_bytes(data[:-1])
    assert "not a complete safetensors file" in refusal(read_foreign, path)
