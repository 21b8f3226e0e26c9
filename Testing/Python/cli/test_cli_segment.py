# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer segment`: what it writes, prints and refuses, with a model that compares grey values."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.pelvis import GRID, pelvis, pelvis_labels
from outcomes.written_files import files_below, rows_of

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.segmenter import Segmenter


@pytest.fixture
def image(tmp_path):
    return write_image(GRID.image(pelvis()), tmp_path / "t2w.nii.gz")


def segment(image, *words):
    return main(["segment", str(image), "--device", "cpu", *map(str, words)])


def test_the_segmentation_its_record_and_the_table_come_out(offline_models, image, tmp_path, capsys):
    output = tmp_path / "out" / "found.seg.nrrd"
    output.parent.mkdir()
    assert segment(image, "-o", output) == 0
    assert files_below(output.parent) == ["found.seg.nrrd", "found.seg.nrrd.json"]
    labels, structures = read_segmentation(output)
    assert {structure.value: structure.name for structure in structures} == {1: "Prostate", 2: "DIL"}
    expected = pelvis_labels()
    assert np.array_equal(sitk.GetArrayFromImage(labels), expected)
    assert Grid.of(labels).same_as(GRID)
    told = capsys.readouterr()
    volume_cm3 = (expected > 0).sum() * 3.6 / 1000  # the row of the prostate includes its lesion
    assert f"{volume_cm3:.2f}" in told.out
    assert "Research use only" in told.out
    assert "segment" in told.err


def test_the_record_names_image_model_and_options(offline_models, image, tmp_path):
    assert segment(image, "-o", tmp_path / "found.seg.nrrd", "--tta", "--decode-everything") == 0
    record = json.loads((tmp_path / "found.seg.nrrd.json").read_text(encoding="utf-8"))
    model = offline_models / "prostate-dil-small.safetensors"
    assert record["image"] == str(image)
    assert record["models"] == [{"name": "prostate-dil-small", "sha256": file_sha256(model)}]
    assert record["options"] == {
        "device": "cpu",
        "precision": "fp32",
        "tta": True,
        "skip_outside": False,
        "calibrated": False,
    }
    assert record["input_sha256"] == {"T2w": image_sha256(read_image(image))}
    assert record["warnings"] == []


def test_json_lines_tell_progress_and_the_result(offline_models, image, tmp_path, capsys):
    output = tmp_path / "found.seg.nrrd"
    assert segment(image, "-o", output, "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in told[:-1]] == ["progress"] * (len(told) - 1)
    fractions = [event["fraction"] for event in told[:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    result = told[-1]
    assert (result["event"], result["segmentation"]) == ("result", str(output))
    assert [row["id"] for row in result["measurements"]][:2] == ["Prostate", "DIL"]


def test_measurements_and_probabilities_are_written_where_asked(offline_models, image, tmp_path):
    table, folder = tmp_path / "found.csv", tmp_path / "deep" / "probabilities"
    assert segment(image, "-o", tmp_path / "found.seg.nrrd", "--csv", table, "--probabilities", folder) == 0
    rows = rows_of(table)
    assert [row["id"] for row in rows][:2] == ["Prostate", "DIL"]
    assert float(rows[1]["volume_cm3"]) == pytest.approx(2 * 4 * 6 * 3.6 / 1000)
    assert files_below(folder) == ["dil.nii.gz", "prostate.nii.gz"]
    gland = read_image(folder / "prostate.nii.gz")
    assert Grid.of(gland).same_as(GRID)
    assert np.array_equal(sitk.GetArrayFromImage(gland) > 0.5, pelvis() == 600)


def test_another_ending_gives_a_plain_label_map(offline_models, image, tmp_path):
    assert segment(image, "-o", tmp_path / "labels.nii.gz") == 0
    labels = read_image(tmp_path / "labels.nii.gz")
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(labels) == 1, pelvis() == 600)


def test_several_models_are_named_in_the_record(
    offline_models, image, tmp_path, threshold_state, segmentation_card, capsys
):
    second = write_checkpoint(
        tmp_path / "second.safetensors", segmentation_card("gland", name="second"), threshold_state(gland=(0.4005,))
    )
    assert segment(image, "-o", tmp_path / "f.seg.nrrd", "-m", "prostate-dil-small", second) == 0
    record = json.loads((tmp_path / "f.seg.nrrd.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in record["models"]] == ["prostate-dil-small", "second"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("-m", "no-such-model"), 1, "There is no model named 'no-such-model'"),
        (("-m", "nowhere.safetensors"), 1, "There is no checkpoint 'nowhere.safetensors'"),
        (("-m", "dgcf-mr-to-ct-small"), 1, "is a synthesis model and cannot segment"),
        (("--device", "cuda:99"), 1, "Device 'cuda:99' was asked for, but PyTorch sees"),
        (("--device", "gpu"), 1, "Device 'gpu' is not known"),
        (("--precision", "fp8"), 2, "invalid choice: 'fp8'"),
        (("--threads", "0"), 2, "--threads must be at least 1"),
        (("--csv", "missing-folder/table.csv"), 1, "The folder 'missing-folder' does not exist"),
        (("-o", "missing-folder/f.seg.nrrd"), 1, "The folder 'missing-folder' does not exist"),
        (("-o", "found.png"), 1, "Cannot write 'found.png'; use one of the endings"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    offline_models, image, tmp_path, monkeypatch, capsys, words, code, sentence
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "predict", lambda *_: pytest.fail("it should have been refused before the work"))
    assert segment(image, "-o", "found.seg.nrrd", *words) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith("prostatexfer: ")
    assert sentence in told.err.splitlines()[-1]
    assert "Traceback" not in told.err
    assert files_below(tmp_path) == ["t2w.nii.gz"]


def test_an_unusable_image_is_one_sentence_and_a_json_event(offline_models, tmp_path, capsys):
    image = write_image(GRID.image(np.full(GRID.shape_zyx, 5, np.int16)), tmp_path / "flat.nii.gz")
    assert segment(image, "-o", tmp_path / "found.seg.nrrd", "--json") == 1
    told = capsys.readouterr()
    event = json.loads(told.out.splitlines()[-1])
    assert (event["event"], event["exit_code"]) == ("error", 1)
    assert told.err == f"prostatexfer: {event['message']}\n"
    assert "every voxel is 5" in event["message"]
    assert files_below(tmp_path) == ["flat.nii.gz"]


def test_a_missing_image_is_told_before_any_work(offline_models, tmp_path, capsys):
    assert segment(tmp_path / "nowhere.nii.gz", "-o", tmp_path / "found.seg.nrrd") == 1
    assert "There is no file or folder" in capsys.readouterr().err


def test_stopping_ends_with_130_and_leaves_nothing(offline_models, image, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ProstateXferLib.cli.progress.stop_requested", lambda: True)
    assert segment(image, "-o", tmp_path / "found.seg.nrrd", "--json") == 130
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["message"] == "Cancelled: nothing was written."
    assert files_below(tmp_path) == ["t2w.nii.gz"]


def test_a_failed_write_leaves_the_former_result_and_no_half_file(offline_models, image, tmp_path, monkeypatch, capsys):
    output = tmp_path / "found.seg.nrrd"
    output.write_text("the former result", encoding="utf-8")

    def full_disk(image, path, **options):
        Path(path).write_bytes(b"half")
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    assert segment(image, "-o", output) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("prostatexfer: ")
    assert output.read_text(encoding="utf-8") == "the former result"
    assert files_below(tmp_path) == ["found.seg.nrrd", "t2w.nii.gz"]


def test_threads_are_set_for_pytorch(offline_models, image, tmp_path):
    import torch

    before = torch.get_num_threads()
    try:
        assert segment(image, "-o", tmp_path / "found.seg.nrrd", "--threads", "1") == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# A dense network, and a model of two sequences


@pytest.fixture
def dense_file(tmp_path):
    """dense_file(*sequences): a small 3-D U-Net with random weights for these sequences."""
    import torch

    from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
    from ProstateXferLib.images.intensity import IntensityRule
    from ProstateXferLib.images.structures import PROSTATE
    from ProstateXferLib.networks.dense import dense_network
    from ProstateXferLib.networks.unet_planning import planned_unet

    def make(*sequences):
        plan = planned_unet((8, 16, 16), (3.0, 1.0, 1.0), channels=len(sequences), classes=2, base_features=2)
        card = ModelCard(
            name="small-unet",
            task="segmentation",
            architecture="plain_conv_unet",
            arguments=plan,
            inputs=sequences,
            preprocessing=Preprocessing(IntensityRule("zscore"), tile_zyx=(8, 16, 16)),
            structures=(PROSTATE,),
            heads=(Head("gland", (PROSTATE.value,)),),
        )
        torch.manual_seed(0)
        state = dense_network(card.architecture, plan).state_dict()
        return write_checkpoint(tmp_path / "small-unet.safetensors", card, state)

    return make


def test_a_dense_network_is_shown_and_segments_from_the_command_line(dense_file, image, tmp_path, capsys):
    model = dense_file("T2w")
    assert main(["models", str(model)]) == 0
    assert "segmentation (plain_conv_unet), from T2w" in capsys.readouterr().out
    assert segment(image, "-m", model, "-o", tmp_path / "found.seg.nrrd", "--tta") == 0
    labels, structures = read_segmentation(tmp_path / "found.seg.nrrd")
    expected = Segmenter(model, device="cpu", tta=True).predict(read_image(image))
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(expected.labels))
    assert [structure.name for structure in structures] == ["Prostate"]
    record = json.loads((tmp_path / "found.seg.nrrd.json").read_text(encoding="utf-8"))
    assert record["models"] == [{"name": "small-unet", "sha256": file_sha256(model)}]


def test_the_second_sequence_is_given_by_its_name(dense_file, image, tmp_path, capsys):
    model, output = dense_file("T2w", "ADC"), tmp_path / "found.seg.nrrd"
    adc = write_image(GRID.image(pelvis() // 2 + 7), tmp_path / "adc.nii.gz")
    assert segment(image, "-m", model, "-o", output) != 0
    assert "ADC is missing (given: T2w)" in capsys.readouterr().err
    assert segment(image, "-m", model, "-o", output, "--also", f"ADC={adc}") == 0
    record = json.loads((tmp_path / "found.seg.nrrd.json").read_text(encoding="utf-8"))
    assert record["also"] == {"ADC": str(adc)}
    assert record["input_sha256"] == {"T2w": image_sha256(read_image(image)), "ADC": image_sha256(read_image(adc))}
    assert segment(image, "-m", model, "-o", output, "--also", "adc.nii.gz") != 0
    assert "'adc.nii.gz' is not of the form SEQUENCE=IMAGE" in capsys.readouterr().err
