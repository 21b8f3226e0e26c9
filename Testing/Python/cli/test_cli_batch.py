# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer batch`: many cases, one that fails, a kill in the middle, and going on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from outcomes.written_files import rows_of

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cohort import loaded_models
from ProstateXferLib.cohort.result import STUDY_FILE, StudyResult
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image

GRID = Grid((48, 40, 4), (1.0, 1.2, 3.0))
VOXEL_CM3 = 3.6 / 1000
NAMES = ("a", "Ärger 2", "c")


def pelvis(rows):
    """A gland of `rows` x 24 x 2 voxels."""
    array = np.zeros(GRID.shape_zyx, np.int16)
    array[:, 0] = -200
    array[1:3, 10 : 10 + rows, 12:36] = 600
    return GRID.image(array)


@pytest.fixture
def cases(tmp_path):
    """A CSV with three cases whose glands have 10, 12 and 14 rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for rows, name in enumerate(NAMES):
        write_image(pelvis(10 + 2 * rows), folder / f"{name}.nii.gz")
    lines = ["case,t2w", *(f"{name},{name}.nii.gz" for name in NAMES)]
    (folder / "cases.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "cases.csv"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def batch(manifest, out, *words):
    return main(["batch", str(manifest), "-o", str(out), "--device", "cpu", *map(str, words)])


def events(text, kind):
    return [event for event in map(json.loads, text.splitlines()) if event["event"] == kind]


def states(capsys):
    return {event["case"]: event["state"] for event in events(capsys.readouterr().out, "case")}


def gland_rows(out):
    """Case -> rows of its gland, as the table says."""
    rows = [row for row in rows_of(out / "measurements.csv") if row["id"] == "Prostate"]
    return {row["case"]: round(float(row["volume_cm3"]) / VOXEL_CM3 / 48, 6) for row in rows}


ALL_ROWS = {"a": 10, "Ärger 2": 12, "c": 14}


def test_every_case_has_its_folder_its_lines_and_its_rows(offline_models, cases, out, capsys):
    assert batch(cases, out, "--json") == 0
    told = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted([*NAMES, "batch.jsonl", "measurements.csv"])
    for name in NAMES:
        assert StudyResult.read(out / name).case == name
    assert gland_rows(out) == ALL_ROWS
    table = rows_of(out / "measurements.csv")
    assert [(row["case"], row["id"]) for row in table] == [(n, i) for n in NAMES for i in ("Prostate", "DIL")]
    ended = events(told, "case")
    assert [(event["case"], event["state"]) for event in ended] == [(name, "done") for name in NAMES]
    assert {frozenset(event) for event in ended} == {
        frozenset({"event", "case", "state", "seconds", "message", "folder"})
    }
    log = [json.loads(line) for line in (out / "batch.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["case"], line["state"], line["folder"]) for line in log] == [
        (name, "done", str(out / name)) for name in NAMES
    ]
    (result,) = events(told, "result")
    assert (result["done"], result["skipped"], result["failed"]) == (3, 0, 0)
    fractions = [event["fraction"] for event in events(told, "progress")]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any(event["step"] == "2 of 3, Ärger 2: Measuring" for event in events(told, "progress"))


def test_a_person_reads_a_line_for_each_case(offline_models, cases, out, capsys):
    assert batch(cases, out) == 0
    told = capsys.readouterr()
    assert "Ärger 2: done" in told.out
    assert "3 done, 0 skipped, 0 failed. Research use only" in told.out


def test_finished_cases_are_skipped_and_their_rows_stay(offline_models, cases, out, capsys, monkeypatch):
    assert batch(cases, out, "--json") == 0
    before = (out / "measurements.csv").read_bytes()
    monkeypatch.setattr(loaded_models.LoadedModels, "load", lambda *_: pytest.fail("no model is needed"))
    capsys.readouterr()
    assert batch(cases, out, "--json", "--threads", "1") == 0
    assert states(capsys) == dict.fromkeys(NAMES, "skipped")
    assert (out / "measurements.csv").read_bytes() == before


def test_a_renamed_input_is_the_same_case_and_a_changed_one_is_not(offline_models, cases, out, capsys):
    assert batch(cases, out) == 0
    folder = cases.parent
    stamp = (folder / "c.nii.gz").stat()
    changed = write_image(pelvis(20), folder / "c.nii.gz")
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shutil.move(folder / "a.nii.gz", folder / "moved.nii.gz")
    cases.write_text(cases.read_text(encoding="utf-8").replace("a,a.nii.gz", "a,moved.nii.gz"), encoding="utf-8")
    capsys.readouterr()
    assert batch(cases, out, "--json") == 0
    assert states(capsys) == {"a": "skipped", "Ärger 2": "skipped", "c": "done"}
    assert gland_rows(out) == {**ALL_ROWS, "c": 20}


def test_voxels_beside_their_header_and_the_slices_of_a_folder_count_too(tmp_path):
    from ProstateXferLib.cohort.study_images import input_sha256

    header = tmp_path / "a.mhd"
    sitk.WriteImage(pelvis(10), str(header))
    series = tmp_path / "series"
    series.mkdir()
    for name in ("1", "2"):
        (series / name).write_text(name, encoding="utf-8")
    before = input_sha256(header), input_sha256(series)
    text = header.read_bytes()
    sitk.WriteImage(pelvis(12), str(header))
    assert header.read_bytes() == text
    (series / "2").rename(series / "3")
    after = input_sha256(header), input_sha256(series)
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("words", [("--tta",), ("--tasks", "prostate"), ("--no-uncertainty",)])
def test_other_options_do_all_cases_again(offline_models, cases, out, capsys, words):
    assert batch(cases, out) == 0
    capsys.readouterr()
    assert batch(cases, out, "--json", *words) == 0
    assert states(capsys) == dict.fromkeys(NAMES, "done")
    assert gland_rows(out) == ALL_ROWS


def test_another_model_under_the_same_name_does_all_cases_again(
    offline_models, cases, out, tmp_path, capsys, threshold_state, segmentation_card
):
    assert batch(cases, out) == 0
    folder = tmp_path / "newer"
    folder.mkdir()
    card = segmentation_card("gland", "dil", name="prostate-dil-small")
    write_checkpoint(folder / "prostate-dil-small.safetensors", card, threshold_state(gland=(0.7,), dil=(0.7,)))
    capsys.readouterr()
    assert batch(cases, out, "--json", "--models-folder", folder) == 0
    assert states(capsys) == dict.fromkeys(NAMES, "done")


def test_a_case_that_lost_an_output_is_done_again(offline_models, cases, out, capsys):
    assert batch(cases, out) == 0
    (out / "c" / "uncertainty.nii.gz").unlink()
    (out / "a" / STUDY_FILE).write_text("{", encoding="utf-8")
    shutil.rmtree(out / "a")
    capsys.readouterr()
    assert batch(cases, out, "--json") == 0
    assert states(capsys) == {"a": "done", "Ärger 2": "skipped", "c": "done"}


def test_an_edited_case_is_kept(offline_models, cases, out, capsys):
    assert batch(cases, out) == 0
    replace(StudyResult.read(out / "c"), edited=True).write()
    capsys.readouterr()
    assert batch(cases, out, "--json") == 0
    assert states(capsys)["c"] == "skipped"
    assert batch(cases, out, "--json", "--tta") == 3
    told = events(capsys.readouterr().out, "case")
    assert "was edited by a person" in next(event["message"] for event in told if event["case"] == "c")
    assert StudyResult.read(out / "c").edited


def test_a_case_that_fails_does_not_stop_the_others(offline_models, cases, out, capsys):
    (cases.parent / "Ärger 2.nii.gz").write_bytes(b"damaged")
    assert batch(cases, out, "--json") == 3
    told = capsys.readouterr().out
    (failed,) = [event for event in events(told, "case") if event["state"] == "failed"]
    assert (failed["case"], "is damaged" in failed["message"]) == ("Ärger 2", True)
    assert gland_rows(out) == {"a": 10, "c": 14}
    assert not (out / "Ärger 2").exists()
    write_image(pelvis(12), cases.parent / "Ärger 2.nii.gz")
    assert batch(cases, out, "--json") == 0
    assert states(capsys) == {"a": "skipped", "Ärger 2": "done", "c": "skipped"}
    assert gland_rows(out) == ALL_ROWS


def test_an_unexpected_error_is_that_cases_failure(offline_models, cases, out, capsys, monkeypatch):
    from ProstateXferLib.pipelines.segmenter import Segmenter

    predict = Segmenter.predict

    def broken(self, image, progress=None):
        if "Ärger" in progress._watcher._case:
            raise ValueError("a fault\nof ours")
        return predict(self, image, progress)

    monkeypatch.setattr(Segmenter, "predict", broken)
    assert batch(cases, out, "--json") == 3
    told = events(capsys.readouterr().out, "case")
    assert [event["state"] for event in told] == ["done", "failed", "done"]
    assert told[1]["message"] == "unexpected ValueError: a fault of ours (run it alone with --debug)."


def test_all_cases_failed_is_3_too(offline_models, cases, out):
    for name in NAMES:
        (cases.parent / f"{name}.nii.gz").write_bytes(b"damaged")
    assert batch(cases, out) == 3
    assert not (out / "measurements.csv").exists()


def test_a_case_without_the_image_of_its_task_fails_alone(offline_models, cases, out, capsys):
    text = "case,t2w,cbct\n1,a.nii.gz,c.nii.gz\n2,a.nii.gz,\n"
    cases.write_text(text, encoding="utf-8")
    assert batch(cases, out, "--json", "--tasks", "prostate", "ct-from-cbct") == 3
    told = events(capsys.readouterr().out, "case")
    assert [event["message"] for event in told] == ["", "Choose a CBCT for CT from CBCT."]


def test_each_model_is_loaded_once(offline_models, cases, out, monkeypatch):
    from ProstateXferLib.checkpoints import loading

    built, build = [], loading.build_network
    monkeypatch.setattr(loading, "build_network", lambda card, state: built.append(card.name) or build(card, state))
    hashed, sha256 = [], loading.file_sha256
    monkeypatch.setattr(loading, "file_sha256", lambda path: hashed.append(path) or sha256(path))
    assert batch(cases, out, "--tasks", "prostate", "dil", "ct-from-mr") == 0
    assert sorted(built) == ["dgcf-mr-to-ct-small", "prostate-dil-small"]
    assert len(hashed) == 2


def test_synthetic_cts_with_a_reference_have_a_table_of_their_own(offline_models, cases, out):
    cases.write_text("case,t2w,reference_ct\n1,a.nii.gz,c.nii.gz\n2,c.nii.gz,\n", encoding="utf-8")
    assert batch(cases, out, "--tasks", "ct-from-mr") == 0
    (row,) = rows_of(out / "synthesis.csv")
    assert (row["case"], row["synthetic_ct"]) == ("1", "ct-from-mr")
    scores = StudyResult.read(out / "1").synthesis["ct-from-mr"]
    assert float(row["mae_body_hu"]) == pytest.approx(scores["mae_body_hu"], abs=1e-4)


def test_a_folder_of_images_is_a_batch_and_what_no_case_uses_is_told(offline_models, cases, out, capsys):
    (cases.parent / "labels.seg.nrrd").touch()
    assert batch(cases.parent, out) == 0
    assert gland_rows(out) == ALL_ROWS
    assert "No case uses labels.seg.nrrd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("gone.csv", "-o", "out"), 1, "There is no file or folder 'gone.csv'"),
        (("in/cases.csv", "-o", "in"), 1, "The folder 'in' holds files that are no batch"),
        (("in/cases.csv", "-o", "in/cases.csv"), 1, "'in/cases.csv' is a file, and a folder is needed"),
        (("in/cases.csv", "-o", "out", "--dil-model", "no-such"), 2, "There is no model named 'no-such'"),
        (("in/cases.csv", "-o", "out", "--device", "gpu"), 2, "The device 'gpu' is not known"),
        (("in/cases.csv", "-o", "out", "--device", "cuda:99"), 1, "Device 'cuda:99' was asked for"),
    ],
)
def test_where_nothing_can_start_it_is_no_3(
    offline_models, cases, tmp_path, monkeypatch, capsys, words, code, sentence
):
    monkeypatch.chdir(tmp_path)
    assert main(["batch", *words]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("out/*/"))


def test_stopping_ends_with_130_and_what_is_finished_stays(offline_models, cases, out, capsys, monkeypatch):
    log = out / "batch.jsonl"
    monkeypatch.setattr(
        "ProstateXferLib.cli.progress.stop_requested",
        lambda: log.is_file() and len(log.read_text(encoding="utf-8").splitlines()) >= 2,
    )
    assert batch(cases, out, "--json") == 130
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[-1]["exit_code"] == 130
    assert told[-1]["message"].startswith("Cancelled: 2 of 3 cases are finished and stay in")
    assert gland_rows(out) == {"a": 10, "Ärger 2": 12}
    monkeypatch.undo()
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(offline_models))
    assert batch(cases, out, "--json") == 0
    assert states(capsys) == {"a": "skipped", "Ärger 2": "skipped", "c": "done"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system cannot kill without a word")
def test_a_killed_batch_goes_on_where_it_was(offline_models, cases, out, capsys):
    """Killed without a chance to tidy up: the finished cases are whole, and the next run does the rest."""
    root = Path(__file__).resolve().parents[3]
    words = [sys.executable, "-m", "ProstateXferLib", "batch", str(cases), "-o", str(out), "--device", "cpu", "--json"]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and "c: Segmenting" in event["step"]:
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL
    assert gland_rows(out) == {"a": 10, "Ärger 2": 12}
    assert not (out / "c").exists()
    assert batch(cases, out, "--json") == 0
    assert states(capsys) == {"a": "skipped", "Ärger 2": "skipped", "c": "done"}
    assert gland_rows(out) == ALL_ROWS
