# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer import`, as a person and as a program would call it."""

import hashlib
import json

import pytest
import torch
from outcomes.written_files import files_in

from ProstateXferLib.checkpoints.file_format import read_card
from ProstateXferLib.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, where everything of the test lies."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def weights(folder, random_network):
    """weights("dgcf") -> the name of a .pth with a small random network."""

    def save(kind, name=None, **options):
        name = name or f"{kind}.pth"
        torch.save(random_network(kind, **options).state_dict(), folder / name)
        return name

    return save


def test_an_encoder_is_imported_and_its_card_shown(weights, folder, capsys):
    assert main(["import", weights("dinov3"), "vit.safetensors", "--name", "my-vit", "--eps", "1e-4"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith("my-vit: DINOv3 ViT encoder, width 64, 4 blocks\n")
    assert "not a medical device" in told.out
    assert "licence        DINOv3 License (Meta); pass on only under its terms" in told.out
    assert hashlib.sha256((folder / "vit.safetensors").read_bytes()).hexdigest() in told.out
    assert read_card(folder / "vit.safetensors").arguments["eps"] == 1e-4


def test_json_names_the_file_and_its_checksum(weights, folder, capsys):
    assert main(["import", weights("dinov3"), "vit.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "event": "result",
        "checkpoint": "vit.safetensors",
        "sha256": hashlib.sha256((folder / "vit.safetensors").read_bytes()).hexdigest(),
    }


def test_every_option_of_a_segmentation_network_reaches_the_card(weights, folder, capsys):
    words = ["--structures", "Prostate", "my lesion", "--spacing-yx-mm", "0.5", "0.6", "--tile-yx", "64", "96"]
    words += ["--blocks", "0", "1", "2", "3", "--rope-dtype", "bf16", "--title", "t", "--licence", "l"]
    words += ["--citation", "c", "--training-data", "d"]
    assert main(["import", weights("mr_dinov3"), "seg.safetensors", *words]) == 0
    card = read_card(folder / "seg.safetensors")
    assert [structure.name for structure in card.structures] == ["Prostate", "my lesion"]
    assert (card.preprocessing.spacing_yx_mm, card.preprocessing.tile_yx) == ((0.5, 0.6), (64, 96))
    assert (card.arguments["blocks"], card.arguments["rope_dtype"]) == ([0, 1, 2, 3], "bf16")
    assert (card.title, card.licence, card.citation, card.training_data) == ("t", "l", "c", "d")
    assert "structures     1 Prostate, 2 my lesion" in capsys.readouterr().out


def test_a_generator_is_imported_with_its_encoder(weights, folder):
    words = ["--encoder", weights("dinov3"), "--sequence", "CBCT", "--encoder-range", "-1", "1"]
    assert main(["import", weights("dgcf"), "dgcf.safetensors", *words]) == 0
    card = read_card(folder / "dgcf.safetensors")
    assert card.inputs == ("CBCT",)
    assert card.preprocessing.encoder_range == (-1.0, 1.0)
    assert len(card.history) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.pth", "out.safetensors"], "There is no file 'missing.pth': check the path."),
        (["dgcf.pth", "out.pth"], "A checkpoint's file name must end in .safetensors; 'out.pth' does not."),
        (["dgcf.pth", "no/out.safetensors"], "The folder 'no' does not exist: create it or choose another."),
        (
            ["dgcf.pth", "out.safetensors", "--structures", "Prostate"],
            "'structures' means nothing for a DGCF generator",
        ),
        (["dgcf.pth", "out.safetensors", "--encoder", "dgcf.pth"], "These weights are not a DINOv3"),
        (["letter.pth", "out.safetensors"], "'letter.pth' is not a PyTorch checkpoint or is cut off"),
    ],
)
def test_what_fails_is_one_sentence_exit_code_1_and_no_file(weights, folder, capsys, words, told):
    weights("dgcf")
    (folder / "letter.pth").write_text("Dear reader,\n", encoding="utf-8")
    before = files_in(folder)
    assert main(["import", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"prostatexfer: {told}") and err.count("\n") == 1
    assert files_in(folder) == before


def test_a_failure_in_json_is_an_event_with_the_exit_code(folder, capsys):
    assert main(["import", "missing.pth", "out.safetensors", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "event": "error",
        "message": "There is no file 'missing.pth': check the path.",
        "exit_code": 1,
    }


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["weights.pth"],
        ["a.pth", "b.safetensors", "--sequence", "ADC"],
        ["a.pth", "b.safetensors", "--rope-dtype", "fp8"],
        ["a.pth", "b.safetensors", "--tile-yx", "64"],
        ["a.pth", "b.safetensors", "--eps", "small"],
        ["a.pth", "b.safetensors", "--unheard-of"],
    ],
)
def test_wrong_use_is_exit_code_2(folder, capsys, words):
    assert main(["import", *words]) == 2
    assert capsys.readouterr().err.startswith("usage: prostatexfer")
    assert files_in(folder) == []


def test_a_malicious_file_is_refused_and_nothing_in_it_runs(folder, capsys):
    class Payload:
        def __reduce__(self):
            return eval, ("open('marker', 'w').close()",)

    torch.save({"cls_token": torch.ones(1), "extra": Payload()}, "evil.pth")
    assert main(["import", "evil.pth", "out.safetensors"]) == 1
    assert "nothing in it was executed" in capsys.readouterr().err
    assert files_in(folder) == ["evil.pth"]
