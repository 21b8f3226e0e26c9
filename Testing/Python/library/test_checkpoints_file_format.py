# SPDX-License-Identifier: Apache-2.0
"""The one-file checkpoint: whole or not at all, and never altered unnoticed."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from outcomes.refusal import refusal
from outcomes.written_files import files_in
from safetensors.torch import load_file, save_file

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import (
    is_checkpoint,
    read_card,
    read_checkpoint,
    read_header,
    validate_checkpoint,
    write_checkpoint,
)
from ProstateXferLib.checkpoints.loading import load_checkpoint

ODD = 'größer ☃ \U0001f40d "quoted" \\ \t \n \x00 \x1f \x7f </\u2028>'
CARD = ModelCard(name="vit", task="encoder", architecture="dinov3", title=ODD, inputs=())
READERS = (read_card, validate_checkpoint, read_checkpoint, load_checkpoint)


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(5, 3, generator=generator),
        "b": torch.randn(7, generator=generator).to(torch.bfloat16),
        "half": torch.randn(2, 2, generator=generator).half(),
        "count": torch.tensor(3),
        "nothing": torch.zeros(0, 4),
    }


@pytest.fixture
def path(tmp_path, state):
    return write_checkpoint(tmp_path / "größer 1.safetensors", CARD, state)


def test_card_and_weights_come_back_in_their_types(path, state):
    card, weights = read_checkpoint(path)
    assert card == CARD == read_card(path) == validate_checkpoint(path)
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[key], state[key]) and weights[key].dtype == state[key].dtype for key in state)


def test_nothing_but_the_file_is_left_behind(path, tmp_path):
    assert files_in(tmp_path) == ["größer 1.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such rights")
def test_who_may_read_other_files_of_the_user_may_read_it(path, tmp_path):
    (tmp_path / "beside.txt").touch()
    assert path.stat().st_mode == (tmp_path / "beside.txt").stat().st_mode


def test_any_safetensors_reader_can_open_it(path, state):
    assert all(torch.equal(value, state[key]) for key, value in load_file(path).items())


def test_the_same_content_gives_the_same_bytes(path, state, tmp_path):
    for _ in range(8):  # the library below orders the metadata by chance
        again = write_checkpoint(tmp_path / "again.safetensors", CARD, dict(reversed(state.items())))
        assert again.read_bytes() == path.read_bytes()


def test_views_and_shared_weights_are_stored_as_tensors_of_their_own(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    state = {"whole": whole, "row": whole[1], "turned": whole.T, "twin": whole}
    _, weights = read_checkpoint(write_checkpoint(tmp_path / "x.safetensors", CARD, state))
    assert all(torch.equal(weights[key], state[key]) for key in state)


def test_an_older_file_is_replaced_only_by_a_whole_one(path, state):
    before = path.read_bytes()
    assert "is NaN or infinite" in refusal(write_checkpoint, path, CARD, {"a": torch.tensor([1.0, torch.nan])})
    assert path.read_bytes() == before
    write_checkpoint(path, CARD, {"a": torch.ones(1)})
    assert list(read_checkpoint(path)[1]) == ["a"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers_are_not_written(tmp_path, state, value):
    state["b"][3] = value
    told = refusal(write_checkpoint, tmp_path / "x.safetensors", CARD, state)
    assert told == "Weight 'b' of model 'vit' is NaN or infinite: nothing was written."
    assert files_in(tmp_path) == []


def test_a_missing_folder_and_a_wrong_ending_are_refused(tmp_path, state):
    assert "does not exist" in refusal(write_checkpoint, tmp_path / "no" / "x.safetensors", CARD, state)
    assert "must end in .safetensors" in refusal(write_checkpoint, tmp_path / "x.pth", CARD, state)
    assert files_in(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a process's files")
def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """A limit on the size of a process's files makes writing fail where a full disk would."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.errors import ProstateXferError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    card = ModelCard("vit", "encoder", "dinov3")
    write_checkpoint(Path({str(tmp_path)!r}) / "x.safetensors", card, {{"a": torch.ones(9999)}})
except ProstateXferError as error:
    print(error)
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "could not be written" in done.stdout and done.stderr == ""
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_file_cut_off_anywhere_is_refused(path, tmp_path, reader):
    whole = path.read_bytes()
    start = read_header(path)[1]
    cut = tmp_path / "cut.safetensors"
    for length in (0, 1, 7, 8, 9, start // 2, start - 1, start, start + 1, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert "cut.safetensors" in refusal(reader, cut), length
        assert not is_checkpoint(cut)
    cut.write_bytes(whole + b"\0")
    assert f"should be {len(whole)} bytes long but has {len(whole) + 1}" in refusal(reader, cut)


def test_a_change_of_any_byte_is_refused(path, tmp_path):
    whole, altered = path.read_bytes(), tmp_path / "altered.safetensors"
    for place in range(len(whole)):
        altered.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refusal(validate_checkpoint, altered)


def with_header(path, target, change):
    """A copy of a checkpoint whose header went through `change`."""
    header, start = read_header(path)
    text = json.dumps(change(header)).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + path.read_bytes()[start:])
    return target


def test_an_altered_card_is_refused_although_the_file_is_well_formed(path, tmp_path):
    def change(header):
        header["__metadata__"]["card"] = header["__metadata__"]["card"].replace("vit", "tiv")
        return header

    altered = with_header(path, tmp_path / "altered.safetensors", change)
    assert read_card(altered).name == "tiv"  # the card alone is read without the hash,
    assert "was altered after it was written" in refusal(validate_checkpoint, altered)
    assert "was altered after it was written" in refusal(load_checkpoint(altered).build)  # the weights never


def test_a_renamed_or_retyped_weight_is_refused(path, tmp_path):
    def renamed(header):
        return {("z" if key == "a.weight" else key): value for key, value in header.items()}

    def retyped(header):
        header["half"]["dtype"] = "BF16"
        return header

    for change in (renamed, retyped):
        altered = with_header(path, tmp_path / "altered.safetensors", change)
        assert "was altered" in refusal(read_checkpoint, altered)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: [],
        lambda header: 5,
        lambda header: header | {"__metadata__": 5},
        lambda header: header | {"__metadata__": header["__metadata__"] | {"card": 5}},
        lambda header: header | {"__metadata__": header["__metadata__"] | {"card": "{}"}},
        lambda header: header | {"b": 5},
        lambda header: header | {"b": {"data_offsets": 5}},
        lambda header: header | {"b": {"data_offsets": ["x", "y"]}},
        lambda header: {key: value for key, value in header.items() if key != "nothing"} | {"b": {}},
    ],
)
def test_a_header_made_up_by_someone_is_one_sentence(path, tmp_path, change):
    for reader in READERS:
        refusal(reader, with_header(path, tmp_path / "made-up.safetensors", change))


def test_a_header_nested_without_end_is_one_sentence(tmp_path):
    text = b"[" * 200_000
    bomb = tmp_path / "bomb.safetensors"
    bomb.write_bytes(struct.pack("<Q", len(text)) + text)
    assert "its header is no JSON" in refusal(read_card, bomb)


def text_file(path):
    path.write_text("This is no checkpoint, but a letter.\n" * 9, encoding="utf-8")


def zip_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"nothing")


def nifti_file(path):
    nifti = path.with_name("image.nii")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.float32)), str(nifti))
    nifti.replace(path)


def foreign_weights(path):
    save_file({"conv1.weight": torch.ones(3)}, path, metadata={"format": "pt"})


def pytorch_file(path):
    torch.save({"conv1.weight": torch.ones(3)}, path)


@pytest.mark.parametrize("make", [text_file, zip_file, nifti_file, foreign_weights, pytorch_file])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_file_of_another_kind_is_refused_with_what_to_do(tmp_path, make, reader):
    path = tmp_path / "other.safetensors"
    make(path)
    assert not is_checkpoint(path)
    told = refusal(reader, path)
    assert "'other.safetensors'" in told and "import" in told


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_missing_file_and_a_folder_are_refused(tmp_path, reader):
    assert "check the path" in refusal(reader, tmp_path / "nothing.safetensors")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    told = refusal(reader, folder)  # a model may be a folder: nnU-Net's
    assert "check the path" in told or "give the folder that has plans.json" in told
    assert not is_checkpoint(folder)
