# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer evaluate`: exit codes, events, wrong use, and the masks of real patients."""

import json

import numpy as np
import pytest
from outcomes.written_files import rows_of

from ProstateXferLib.cli.main import main
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image

GRID = Grid((32, 32, 8), (1.0, 1.0, 3.0))


def gland(shift=0):
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[2:6, 8 + shift : 24 + shift, 8:24] = 1
    return GRID.image(labels)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """p and r with the cases a and b; the working folder is theirs."""
    for folder, shift in (("p", 1), ("r", 0), ("other", 3)):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            write_image(gland(shift), tmp_path / folder / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*words):
    return main(["evaluate", *map(str, words), "--jobs", "1"])


def test_a_cohort_is_done_with_0_and_its_files_are_told(folders, capsys):
    assert evaluate("p", "r", "-o", "out", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["case"] for event in told if event["event"] == "case"] == ["a", "b"]
    assert told[-1]["event"] == "result"
    assert sorted(told[-1]["files"]) == ["evaluation.json", "metrics.csv", "report.html", "summary.csv"]
    fractions = [event["fraction"] for event in told if event["event"] == "progress"]
    assert fractions == sorted(fractions)


def test_a_bad_case_ends_with_3_and_the_others_are_there(folders, capsys):
    (folders / "p/b.nii.gz").write_bytes(b"bad")
    assert evaluate("p", "r", "-o", "out") == 3
    assert "b: failed" in capsys.readouterr().out
    assert {row["case"] for row in rows_of(folders / "out/metrics.csv") if row["metric"] == "dice"} == {"a"}


def test_a_second_method_is_compared_under_the_names_of_the_folders(folders):
    assert evaluate("p", "r", "-o", "out", "--compare", "other") == 0
    assert {row["method"] for row in rows_of(folders / "out/summary.csv")} == {"p", "other"}


def test_a_csv_names_all_files(folders):
    (folders / "cases.csv").write_text("case,prediction,reference\nx,p/a.nii.gz,r/b.nii.gz\n", encoding="utf-8")
    assert evaluate("cases.csv", "-o", "out", "--no-report") == 0
    assert {row["case"] for row in rows_of(folders / "out/metrics.csv")} == {"x"}


def test_the_command_says_the_same_as_measure(folders, capsys):
    assert evaluate("p", "r", "-o", "out", "--no-report") == 0
    assert main(["measure", "p/a.nii.gz", "--reference", "r/a.nii.gz", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])["measurements"][0]
    values = {row["metric"]: row["value"] for row in rows_of(folders / "out/metrics.csv") if row["case"] == "a"}
    assert float(values["dice"]) == pytest.approx(measured["dice"], rel=1e-9)
    assert float(values["volume_prediction"]) == pytest.approx(measured["volume_cm3"], rel=1e-9)
    assert float(values["centroid_distance"]) == pytest.approx(measured["centroid_distance_mm"], rel=1e-9)


def test_names_come_from_a_card_or_from_words(folders, tmp_path, monkeypatch):
    assert evaluate("p", "r", "-o", "out", "--no-report", "--names", "1=Bladder") == 0
    assert {row["structure"] for row in rows_of(folders / "out/metrics.csv")} == {"Bladder"}
    assert evaluate("p", "r", "-o", "out", "--no-report", "--card", "prostate-dil-small") == 0
    assert {row["structure"] for row in rows_of(folders / "out/metrics.csv")} == {"Prostate", "DIL"}


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("p", "-o", "out"), 2, "Give two folders"),
        (("cases.csv", "r", "-o", "out"), 2, "A CSV names all files itself"),
        (("p", "r", "-o", "out", "--card", "x", "--names", "1=A"), 2, "give one of them"),
        (("p", "r", "-o", "out", "--names", "A"), 2, "'A' is not VALUE=NAME"),
        (("p", "r", "-o", "out", "--tolerances", "-1"), 2, "tolerances"),
        (("p", "r", "-o", "out", "--method-names", "A", "B"), 2, "2 names for 1 methods"),
        (("p", "r", "-o", "out", "--jobs", "0"), 2, "'0' is not a whole number"),
        (("gone", "r", "-o", "out"), 1, "is no folder of cases"),
        (("p", "r", "-o", "no/out"), 1, "does not exist"),
        (("cases.csv", "-o", "out"), 1, "cannot be read"),
    ],
)
def test_wrong_use_is_2_and_what_cannot_start_1(folders, capsys, words, code, sentence):
    assert main(["evaluate", *words]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (folders / "out").exists()


def test_a_stop_is_130_and_leaves_nothing(folders, monkeypatch):
    asked = []
    monkeypatch.setattr("ProstateXferLib.cli.progress.stop_requested", lambda: asked.append(1) or len(asked) > 1)
    assert evaluate("p", "r", "-o", "out") == 130
    assert sorted(path.name for path in folders.iterdir()) == ["other", "p", "r"]


def test_two_automatic_glands_of_real_patients_agree_as_they_should(real_data, tmp_path):
    folder = real_data / "real/prostate_t2w"
    words = ("--prediction-file", "gland_alt.nii.gz", "--reference-file", "gland.nii.gz", "--no-report")
    assert evaluate(folder, folder, "-o", tmp_path / "out", *words) == 3  # one patient has no second gland
    dice = {r["case"]: float(r["value"]) for r in rows_of(tmp_path / "out/metrics.csv") if r["metric"] == "dice"}
    assert len(dice) == 4
    assert all(0.9 < value < 1 for value in dice.values())


def test_real_lesions_are_found_in_themselves_and_glands_hold_most_of_them(real_data, tmp_path):
    folder = real_data / "real/picai_masks"
    words = ("--reference-file", "lesion.nii.gz", "--names", "any=DIL", "--no-report", "-o", tmp_path / "out")
    assert evaluate(folder, folder, "--prediction-file", "lesion.nii.gz", *words) == 0
    rows = rows_of(tmp_path / "out/summary.csv")
    means = {row["metric"]: (float(row["mean"]), row["n_used"], row["n_total"]) for row in rows if row["mean"]}
    assert means["dice"] == (1, "24", "24")
    assert means["lesion_detected"][0] == 1
    assert evaluate(folder, folder, "--prediction-file", "gland.nii.gz", *words) == 0
    recall = next(row for row in rows_of(tmp_path / "out/summary.csv") if row["metric"] == "recall")
    assert 0.7 < float(recall["mean"]) < 1
