# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study`: every output of models that compare grey values, voxel by voxel."""

import io
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.pelvis import VOXEL_CM3, pelvis, pelvis_labels
from made_images.voxels import array_of
from outcomes.written_files import files_below, rows_of
from watchers.watcher import Watcher

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cli.progress import ConsoleProgress
from ProstateXferLib.cohort.options import StudyInputs, StudyOptions, Task
from ProstateXferLib.cohort.result import STUDY_FILE, StudyResult
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.pipelines.uncertainty import binary_entropy_bits

GRID = Grid((48, 40, 4), (1.0, 1.2, 3.0), (-20.0, 5.0, 30.0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
ALL = ("prostate", "dil", "ct-from-mr", "ct-from-cbct")


EXPECTED = pelvis_labels()
CBCT = np.random.default_rng(0).integers(-1000, 1500, GRID.shape_zyx).astype(np.int16)
CT = (np.tanh((CBCT + 1024) / 1512 - 1) + 1) / 2 * 3024 - 1024


@pytest.fixture
def images(tmp_path):
    """A study whose file names have spaces."""
    folder = tmp_path / "my images"
    folder.mkdir()
    adc = Grid((24, 20, 4), (2.0, 2.4, 3.0), (-19.5, 5.6, 30.0), GRID.direction).image(
        np.arange(1920, dtype=np.int16).reshape(4, 20, 24)
    )
    written = {
        "t2w": GRID.image(pelvis()),
        "adc": adc,
        "cbct": GRID.image(CBCT),
        "reference_ct": GRID.image(np.rint(CT - 40).astype(np.int16)),
        "reference_segmentation": GRID.image(EXPECTED.astype(np.uint8)),
    }
    return {name: write_image(image, folder / f"{name}.nii.gz") for name, image in written.items()}


def study(images, *words, out, tasks=("prostate", "dil")):
    inputs = StudyInputs(**images).to_arguments()
    words = [str(word) for word in words]
    return main(["study", *inputs, "--tasks", *tasks, "-o", str(out), "--device", "cpu", *words])


def only(images, *names):
    return {name: images[name] for name in names}


def test_every_task_leaves_its_files_and_their_voxels_are_right(offline_models, images, tmp_path, capsys):
    out = tmp_path / "out put" / "study"
    assert study(only(images, "t2w", "cbct", "reference_ct", "reference_segmentation"), out=out, tasks=ALL) == 0
    assert files_below(out) == [
        "ct-from-cbct-difference.nii.gz",
        "ct-from-cbct.nii.gz",
        "ct-from-mr-difference.nii.gz",
        "ct-from-mr.nii.gz",
        "measurements.csv",
        "segmentation.seg.nrrd",
        "study.json",
        "uncertainty.nii.gz",
    ]
    labels, structures = read_segmentation(out / "segmentation.seg.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(labels), EXPECTED)
    assert [s.name for s in structures] == ["Prostate", "DIL"]
    synthetic = read_image(out / "ct-from-cbct.nii.gz")
    assert synthetic.GetPixelID() == sitk.sitkInt16
    assert np.abs(sitk.GetArrayFromImage(synthetic) - CT).max() < 2
    difference = read_image(out / "ct-from-cbct-difference.nii.gz")
    assert difference.GetPixelID() == sitk.sitkInt16
    inside = array_of(read_image(out / "ct-from-cbct-difference.nii.gz")) != 0
    assert inside.any()
    assert np.abs(array_of(read_image(out / "ct-from-cbct-difference.nii.gz"))[inside] - 40).max() < 3
    for name in files_below(out):
        if name.endswith((".nrrd", ".gz")):
            assert Grid.of(read_image(out / name)).same_as(GRID)
    told = capsys.readouterr()
    assert f"{(EXPECTED > 0).sum() * VOXEL_CM3:.2f}" in told.out
    assert "Research use only" in told.out
    assert "mae body 40." in told.out
    assert "Segmenting the prostate and DIL" in told.err


def test_study_json_tells_all_that_is_needed_to_repeat_it(offline_models, images, tmp_path):
    out = tmp_path / "study"
    given = only(images, "t2w", "cbct", "reference_ct", "reference_segmentation")
    assert study(given, "--case", "Ärger 7", out=out, tasks=ALL) == 0
    result = StudyResult.read(out)
    assert (result.case, result.folder, result.edited) == ("Ärger 7", out, False)
    assert result.inputs == StudyInputs(**given)
    assert result.options == StudyOptions(tasks=ALL, device="cpu")
    assert result.file_sha256 == {name: file_sha256(path) for name, path in given.items()}
    assert result.image_sha256["t2w"] == image_sha256(read_image(images["t2w"]))
    assert set(result.provenance) == {"segmentation", "ct-from-mr", "ct-from-cbct"}
    model = {name: file_sha256(offline_models / f"{name}.safetensors") for name in ("prostate-dil-small",)}
    assert result.provenance["segmentation"]["models"] == [
        {"name": "prostate-dil-small", "sha256": model["prostate-dil-small"]}
    ]
    assert (result.models[0]["name"], result.models[0]["tasks"]) == ("prostate-dil-small", ["prostate", "dil"])
    assert result.provenance["segmentation"]["options"]["device"] == "cpu"
    assert result.seconds > 0
    rows = {row.id: row for row in result.measurements}
    assert rows["Prostate"].volume_cm3 == pytest.approx((EXPECTED > 0).sum() * VOXEL_CM3)
    assert rows["Prostate"].dice == rows["DIL"].dice == 1
    scores = result.synthesis["ct-from-cbct"]
    assert scores["mae_body_hu"] == pytest.approx(40, abs=1)
    assert scores["mean_error_body_hu"] == pytest.approx(40, abs=1)
    assert 0 < scores["compared_fraction"] <= 1
    assert [row["id"] for row in rows_of(out / "measurements.csv")] == list(rows)


def test_the_uncertainty_is_the_entropy_of_the_models_probabilities(offline_models, images, tmp_path):
    assert study(only(images, "t2w"), out=tmp_path / "s") == 0
    found = read_image(tmp_path / "s" / "uncertainty.nii.gz")
    assert found.GetPixelID() == sitk.sitkFloat32
    model = Segmenter(offline_models / "prostate-dil-small.safetensors", device="cpu")
    probabilities = model.predict(read_image(images["t2w"])).probabilities
    expected = np.max([binary_entropy_bits(sitk.GetArrayFromImage(p)) for p in probabilities.values()], axis=0)
    assert np.allclose(sitk.GetArrayFromImage(found), expected, atol=1e-6)
    assert study(only(images, "t2w"), "--no-uncertainty", out=tmp_path / "s") == 0
    assert "uncertainty.nii.gz" not in files_below(tmp_path / "s")


@pytest.mark.parametrize(
    ("tasks", "expected", "names"),
    [
        (("prostate",), np.where(EXPECTED > 0, 1, 0), ["Prostate"]),
        (("dil",), np.where(EXPECTED == 2, 2, 0), ["DIL"]),
    ],
)
def test_only_what_was_asked_for_is_in_the_segmentation(offline_models, images, tmp_path, tasks, expected, names):
    assert study(only(images, "t2w"), out=tmp_path / "s", tasks=tasks) == 0
    labels, structures = read_segmentation(tmp_path / "s" / "segmentation.seg.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(labels), expected)
    assert [s.name for s in structures] == names
    assert {row.structure for row in StudyResult.read(tmp_path / "s").measurements} == set(names)


def test_a_synthetic_ct_alone_has_no_segmentation_and_no_table(offline_models, images, tmp_path):
    assert study(only(images, "t2w"), out=tmp_path / "s", tasks=("ct-from-mr",)) == 0
    assert files_below(tmp_path / "s") == ["ct-from-mr.nii.gz", "study.json"]


@pytest.fixture
def lesion_model(tmp_path, threshold_state, segmentation_card):
    """A model of its own for the DIL: all below 0.3005 of its gland, and its gland is larger than ours."""
    card = segmentation_card("gland", "dil", name="lesions")
    state = threshold_state(gland=(-0.9,), dil=(0.3005,), inverted=("dil",))
    return write_checkpoint(tmp_path / "lesions.safetensors", card, state)


def test_two_models_run_one_after_the_other_and_what_lies_outside_is_cut_and_told(
    offline_models, images, lesion_model, tmp_path, capsys
):
    out = tmp_path / "s"
    with_stray = pelvis()
    with_stray[1, 33:36, 5:9] = -500
    write_image(GRID.image(with_stray), images["t2w"])
    outside = np.count_nonzero((with_stray <= -500) & (EXPECTED == 0))
    words = ("--dil-model", lesion_model, "--json")
    assert study(only(images, "t2w"), *words, out=out) == 0
    result = StudyResult.read(out)
    (warning,) = [text for text in result.warnings if "cut off" in text]
    assert warning.startswith(f"{outside * VOXEL_CM3:.2f} cm³ of the DIL lay outside")
    assert [m["name"] for m in result.provenance["segmentation"]["models"]] == ["prostate-dil-small", "lesions"]
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [step for step, _ in itertools.groupby(e["step"] for e in events if e["event"] == "progress")]
    assert steps == [
        "Reading the images",
        "Segmenting the prostate",
        "Segmenting the DIL",
        "Measuring",
        "Writing",
        "Done",
    ]
    labels, _ = read_segmentation(out / "segmentation.seg.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(labels), EXPECTED)


def test_json_lines_tell_one_growing_fraction_and_the_whole_result(offline_models, images, tmp_path, capsys):
    assert study(only(images, "t2w", "adc", "cbct"), "--json", out=tmp_path / "s", tasks=ALL) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    progress = [event for event in told if event["event"] == "progress"]
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert [step for step, _ in itertools.groupby(event["step"] for event in progress)] == [
        "Reading the images",
        "Segmenting the prostate and DIL",
        "Measuring",
        "CT from MR",
        "CT from CBCT",
        "Writing",
        "Done",
    ]
    result = told[-1]
    assert (result.pop("event"), result.pop("folder")) == ("result", str(tmp_path / "s"))
    assert result == json.loads((tmp_path / "s" / STUDY_FILE).read_text(encoding="utf-8"))
    assert {"event": "warning", "message": "The ADC map was not used: the models read T2w only."} in told


def test_the_time_left_is_right_for_a_step_that_begins_in_the_middle(monkeypatch):
    now, shown = iter((100.0, 110.0)), io.StringIO()
    monkeypatch.setattr("ProstateXferLib.cli.progress.time.monotonic", lambda: next(now))
    progress = ConsoleProgress(shown)
    progress.update("CT from MR", 0.5)
    progress.update("CT from MR", 0.75)  # a quarter of the whole in 10 s, and a quarter to go
    assert "0:10 left" in shown.getvalue().splitlines()[-1]


def test_a_diffusion_map_goes_to_the_model_that_takes_it(
    offline_models, images, tmp_path, threshold_state, segmentation_card
):
    card = segmentation_card("gland", name="adc-gland", inputs=("ADC",))
    model = write_checkpoint(tmp_path / "adc.safetensors", card, threshold_state(gland=(0.9005,)))
    words = ("--prostate-model", model)
    assert study(only(images, "t2w", "adc"), *words, out=tmp_path / "s", tasks=("prostate",)) == 0
    labels = read_image(tmp_path / "s" / "segmentation.seg.nrrd")
    assert Grid.of(labels).same_as(GRID)
    assert 0 < sitk.GetArrayFromImage(labels).mean() < 1
    assert StudyResult.read(tmp_path / "s").warnings == ()


def test_a_models_folder_is_searched_first(tiny_models, images, tmp_path, monkeypatch):
    monkeypatch.delenv("PROSTATEXFER_MODELS", raising=False)
    assert study(only(images, "t2w"), "--models-folder", tiny_models, out=tmp_path / "s") == 0
    sha256 = file_sha256(tiny_models / "prostate-dil-small.safetensors")
    assert StudyResult.read(tmp_path / "s").models[0]["sha256"] == sha256
    assert "PROSTATEXFER_MODELS" not in os.environ


@pytest.mark.parametrize(
    ("names", "words", "code", "sentence"),
    [
        (("cbct",), (), 2, "Choose a T2w image for Prostate and DIL."),
        (("t2w",), ("--dil-model", "no-such"), 2, "There is no model named 'no-such'"),
        (("t2w",), ("--dil-model", "dgcf-mr-to-ct-small"), 2, "makes a synthetic CT and cannot do DIL"),
        (("t2w",), ("--device", "gpu"), 2, "The device 'gpu' is not known"),
        (("t2w",), ("--device", "cuda:99"), 1, "Device 'cuda:99' was asked for"),
        (("t2w",), ("--tasks", "bladder"), 2, "invalid choice: 'bladder'"),
        (("t2w",), ("--threads", "0"), 2, "0 CPU threads cannot be used"),
        (("t2w",), ("--adc", "gone.nii.gz"), 1, "There is no file or folder 'GONE'"),
        (("t2w",), ("--reference-segmentation", "gone.nii.gz"), 1, "There is no file or folder 'GONE'"),
        (("t2w",), ("-o", "full"), 1, "The folder 'full' holds files that are no study (mine.txt)"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    offline_models, images, tmp_path, monkeypatch, capsys, names, words, code, sentence
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    monkeypatch.setattr(Segmenter, "predict", lambda *_: pytest.fail("it should have been refused before the work"))
    before = files_below(tmp_path)
    assert study(only(images, *names), *words, out="s") == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith("prostatexfer: ")
    assert sentence.replace("GONE", str(tmp_path / "gone.nii.gz")) in told.err.splitlines()[-1]
    assert "Traceback" not in told.err
    assert files_below(tmp_path) == before


def test_images_of_another_patient_are_refused(offline_models, images, tmp_path, capsys):
    for name in ("adc", "reference_ct"):
        image = read_image(images[name])
        image.SetOrigin((4000.0, 0.0, 0.0))
        moved = write_image(image, tmp_path / "moved.nii.gz")
        given = {**only(images, "t2w"), name: moved}
        assert study(given, out=tmp_path / "s", tasks=("prostate", "ct-from-mr")) == 1
        assert "covers 0% of the reference image" in capsys.readouterr().err
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("checks", [1, 5, 9, 12, 14])
def test_stopping_ends_with_130_and_leaves_what_was_there(
    offline_models, images, tmp_path, monkeypatch, capsys, checks
):
    out = tmp_path / "s"
    assert study(only(images, "t2w"), "--case", "former", out=out) == 0
    before, asked = files_below(tmp_path), itertools.count(1)
    monkeypatch.setattr("ProstateXferLib.cli.progress.stop_requested", lambda: next(asked) >= checks)
    assert study(only(images, "t2w", "cbct"), "--json", out=out, tasks=ALL) == 130
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["exit_code"], last["message"]) == ("error", 130, "Cancelled: nothing was written.")
    assert files_below(tmp_path) == before
    assert not [path for path in tmp_path.rglob(".*")]
    assert StudyResult.read(out).case == "former"


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(offline_models, images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "s"
    assert study(only(images, "t2w"), "--case", "former", out=out) == 0
    before, write = files_below(tmp_path), sitk.WriteImage

    def full_disk(image, path, **options):
        if "uncertainty" in path:
            Path(path).write_bytes(b"half")
            raise RuntimeError("no space left on device")
        write(image, path, **options)

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    assert study(only(images, "t2w"), out=out) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("prostatexfer: Cannot write ")
    assert files_below(tmp_path) == before
    assert not [path for path in tmp_path.rglob(".*")]
    assert StudyResult.read(out).case == "former"


def test_images_that_no_task_looks_at_are_not_opened(offline_models, images, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    given = {**only(images, "t2w"), "cbct": tmp_path / "broken.nii.gz", "reference_ct": tmp_path / "broken.nii.gz"}
    assert study(given, out=tmp_path / "s") == 0
    result = StudyResult.read(tmp_path / "s")
    assert set(result.inputs.given()) == {"t2w", "cbct", "reference_ct"}
    assert set(result.file_sha256) == {"t2w"}


def test_the_same_function_serves_python(offline_models, images, tmp_path):
    import ProstateXferLib as px

    watcher = Watcher()
    result = px.run_study(
        px.StudyInputs(t2w=images["t2w"]),
        px.StudyOptions(tasks=(Task.PROSTATE,), device="cpu"),
        tmp_path / "s",
        watcher,
    )
    assert StudyResult.read(tmp_path / "s") == result
    assert result.path("segmentation").is_file()
    assert watcher.warnings == []
