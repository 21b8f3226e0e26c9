# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer synthesize`: what it writes and refuses, with a model whose CT is tanh of its input."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from outcomes.written_files import files_in

from ProstateXferLib.cli.main import main
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.pipelines.synthesizer import Synthesizer

GRID = Grid((37, 26, 3), (1.0, 1.2, 3.0), (-20.0, 5.0, 30.0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
HU = np.random.default_rng(0).integers(-1000, 1500, GRID.shape_zyx).astype(np.int16)
EXPECTED = (np.tanh((HU + 1024) / 1512 - 1) + 1) / 2 * 3024 - 1024


@pytest.fixture
def image(tmp_path):
    return write_image(GRID.image(HU), tmp_path / "cbct.nii.gz")


def synthesize(image, *words):
    return main(["synthesize", str(image), "--device", "cpu", *map(str, words)])


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha"])
def test_the_synthetic_ct_lies_on_the_images_grid_with_its_record_beside(offline_models, image, tmp_path, capsys, name):
    assert synthesize(image, "-o", tmp_path / name, "--from", "CBCT") == 0
    assert files_in(tmp_path) == sorted(["cbct.nii.gz", name, f"{name}.json"])
    synthetic = read_image(tmp_path / name)
    assert Grid.of(synthetic).same_as(GRID)
    assert synthetic.GetPixelID() == sitk.sitkInt16
    assert np.abs(sitk.GetArrayFromImage(synthetic) - EXPECTED).max() < 2
    record = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    model = offline_models / "dgcf-cbct-to-ct-small.safetensors"
    assert record["models"] == [{"name": "dgcf-cbct-to-ct-small", "sha256": file_sha256(model)}]
    assert list(record["input_sha256"]) == ["CBCT"]
    assert "research use only" in capsys.readouterr().out


def test_the_sequence_chooses_the_model_and_a_model_can_be_named(offline_models, image, tmp_path):
    for words in (
        ("--from", "T2w"),
        ("-m", "dgcf-mr-to-ct-small"),
        ("-m", offline_models / "dgcf-mr-to-ct-small.safetensors"),
    ):
        assert synthesize(image, "-o", tmp_path / "ct.nii.gz", *words) == 0
        record = json.loads((tmp_path / "ct.nii.gz.json").read_text(encoding="utf-8"))
        assert record["models"][0]["name"] == "dgcf-mr-to-ct-small"


def test_json_lines_tell_progress_and_the_result(offline_models, image, tmp_path, capsys):
    assert synthesize(image, "-o", tmp_path / "ct.nrrd", "--from", "CBCT", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["event"] for event in told[:-1]} == {"progress"}
    assert told[-2]["fraction"] == 1
    assert told[-1]["synthetic_ct"] == str(tmp_path / "ct.nrrd")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((), 2, "one of the arguments --from -m/--model is required"),
        (("--from", "CBCT", "-m", "x"), 2, "not allowed with argument"),
        (("--from", "ADC"), 2, "invalid choice: 'ADC'"),
        (("-m", "prostate-dil-small"), 1, "is a segmentation model and makes no CT"),
        (("-m", "no-such-model"), 1, "There is no model named 'no-such-model'"),
        (("--from", "CBCT", "--device", "cuda:99"), 1, "Device 'cuda:99' was asked for"),
        (("--from", "CBCT", "-o", "ct.png"), 1, "Cannot write 'ct.png'; use one of the endings"),
        (("--from", "CBCT", "-o", "nowhere/ct.nii.gz"), 1, "The folder 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    offline_models, image, tmp_path, monkeypatch, capsys, words, code, sentence
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Synthesizer, "predict_with_provenance", lambda *_: pytest.fail("it should have been refused before the work")
    )
    assert synthesize(image, "-o", "ct.nii.gz", *words) == code
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("prostatexfer: ")
    assert sentence in told[-1]
    assert files_in(tmp_path) == ["cbct.nii.gz"]


def test_stopping_ends_with_130_and_leaves_nothing(offline_models, image, tmp_path, monkeypatch):
    monkeypatch.setattr("ProstateXferLib.cli.progress.stop_requested", lambda: True)
    assert synthesize(image, "-o", tmp_path / "ct.nii.gz", "--from", "CBCT") == 130
    assert files_in(tmp_path) == ["cbct.nii.gz"]
