# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer calibrate`: the copy, the report, what is refused at once; and a study made with the copy."""

import json

import numpy as np
import pytest

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image

GRID = Grid((48, 32, 4), (1.0, 1.0, 3.0))


def slab(rng):
    """A noisy gland whose border a reference does not quite follow."""
    array = np.zeros(GRID.shape_zyx, np.int16)
    array[:, 4:28, 8:40] = rng.integers(150, 600, (4, 24, 32))
    return array


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """cases.csv with three patients, in the working folder."""
    monkeypatch.chdir(tmp_path)
    lines = ["image,reference"]
    for k in range(3):
        rng = np.random.default_rng(k)
        array = slab(rng)
        reference = (array + rng.normal(0, 80, array.shape) > 300).astype(np.uint8)
        write_image(GRID.image(array), tmp_path / f"t2w-{k}.nii.gz")
        write_image(GRID.image(reference), tmp_path / f"gland-{k}.nii.gz")
        lines.append(f"t2w-{k}.nii.gz,gland-{k}.nii.gz")
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    return tmp_path


def calibrate(*words):
    return main(["calibrate", *map(str, words), "--device", "cpu"])


def test_a_calibrated_copy_its_report_and_a_study_with_it(offline_models, cases, capsys):
    pytest.importorskip("matplotlib")
    words = ("prostate-dil-small", "--cases", "cases.csv", "-o", "warm.safetensors", "--report", "report", "--json")
    assert calibrate(*words) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fractions = [event["fraction"] for event in told if event["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    result = told[-1]
    (calibration,) = result["calibration"]
    assert (calibration["structure"], calibration["cases"], calibration["data"]) == ("Prostate", 3, "cases")
    assert result["sha256"] == file_sha256(cases / "warm.safetensors")
    assert any("DIL" in text for text in result["warnings"])
    (stored,) = load_checkpoint(cases / "warm.safetensors").card.calibration
    assert stored == Calibration.from_json(calibration)
    page = (cases / "report/report.html").read_text(encoding="utf-8")
    assert "Before and after" in page and "data:image/png" in page
    assert (
        json.loads((cases / "report/calibration.json").read_text())["structures"][0]["temperature"]
        == stored.temperature
    )

    names = ["study", "--t2w", "t2w-0.nii.gz", "-o", "study", "--device", "cpu", "--prostate-model", "warm.safetensors"]
    assert main([*names, "--tasks", "prostate"]) == 0
    record = json.loads((cases / "study/study.json").read_text())
    assert record["models"][0]["calibration"] == [calibration]
    assert record["provenance"]["segmentation"]["options"]["calibrated"] is True
    assert main(["report", "study"]) == 0
    page = (cases / "study/report.html").read_text(encoding="utf-8")
    assert "Calibration of the probabilities: Prostate" in page and "are not calibrated" not in page


def test_a_person_reads_a_sentence(offline_models, cases, capsys):
    assert calibrate("prostate-dil-small", "--cases", "cases.csv", "-o", "warm.safetensors", "--data", "a test") == 0
    told = capsys.readouterr().out
    assert "3 cases of 3 patients (a test)" in told and "Research use only" in told


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("--cases", "none.csv", "-o", "w.safetensors"), 1, "none.csv"),
        (("--cases", "cases.csv", "-o", "w.pth"), 1, "must end in .safetensors"),
        (("--cases", "cases.csv", "-o", "w.safetensors", "--folds", "1"), 2, "nothing to test on"),
        (("--cases", "cases.csv", "-o", "w.safetensors", "--names", "x"), 2, "VALUE=NAME"),
        (("--cases", "cases.csv", "-o", "w.safetensors", "--structure", "Bladder"), 1, "does not find 'Bladder'"),
        (("--cases", "cases.csv"), 2, "-o"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(offline_models, cases, capsys, words, code, match):
    assert calibrate("prostate-dil-small", *words) == code
    assert match in capsys.readouterr().err
    assert not list(cases.glob("w.*"))


def test_a_synthesis_model_has_no_probabilities(offline_models, cases, capsys):
    assert calibrate("dgcf-mr-to-ct-small", "--cases", "cases.csv", "-o", "w.safetensors") == 1
    assert "gives no probabilities" in capsys.readouterr().err
