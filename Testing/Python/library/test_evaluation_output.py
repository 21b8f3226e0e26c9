# SPDX-License-Identifier: Apache-2.0
"""The files of an evaluation: all or none, tidy, and a page that needs nothing from anywhere."""

import json
import re

import numpy as np
import pytest
from outcomes.written_files import rows_of
from watchers.watcher import Watcher

from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.evaluation import output
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.output import write_evaluation
from ProstateXferLib.evaluation.run import run_evaluation
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.metrics.froc import FrocCurve
from ProstateXferLib.reports.evaluation_curves import precision_recall
from ProstateXferLib.reports.evaluation_distributions import Panel, distributions

PNG = b"\x89PNG\r\n"
GRID = Grid((32, 32, 8), (1.0, 1.0, 3.0))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Four cases of two methods: one with a <name>, one that fails, one without a lesion."""
    folder = tmp_path_factory.mktemp("cases")
    cases = []
    for number, name in enumerate(("<b>one</b>", "two", "three", "four")):
        files = {}
        for role in ("prediction", "reference", "other"):
            labels = np.zeros(GRID.shape_zyx, np.uint8)
            shift = {"reference": 0, "prediction": 1, "other": 2}[role]
            labels[2:6, 8 + shift : 24, 8:24] = 1
            if name != "three":
                labels[3:5, 12 + shift : 16 + number, 12:16] = 2
            files[role] = folder / f"{role}{number}.nii.gz"
            write_image(GRID.image(labels), files[role])
        if name == "four":
            files["prediction"].write_bytes(b"bad")
        cases.append(CaseFiles(name, files))
    return run_evaluation(cases, EvaluationOptions(methods=("ours", "theirs"), worst=1), jobs=1)


@pytest.fixture(scope="module")
def written(evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "evaluation"
    write_evaluation(evaluation, folder, sources={"predictions": folder}, progress=Watcher())
    return folder


def test_the_table_is_tidy(written):
    table = rows_of(written / "metrics.csv")
    assert list(table[0]) == ["case", "method", "structure", "component", "metric", "value", "unit", "reason"]
    keys = [(r["case"], r["method"], r["structure"], r["component"], r["metric"]) for r in table]
    assert len(set(keys)) == len(keys)
    (failed,) = [r for r in table if r["metric"] == "failed"]
    assert (failed["case"], failed["method"]) == ("four", "ours")
    assert "damaged" in failed["reason"]
    assert all(r["value"] or r["reason"] for r in table)
    hd95 = next(r for r in table if r["metric"] == "hd95")
    assert (hd95["unit"], float(hd95["value"]) >= 0) == ("mm", True)


def test_the_summary_says_how_many_of_how_many(written):
    (dice,) = [
        r
        for r in rows_of(written / "summary.csv")
        if (r["method"], r["structure"], r["metric"]) == ("ours", "Prostate", "dice")
    ]
    assert (dice["n_used"], dice["n_total"], dice["n_of"]) == ("3", "4", "cases")
    assert float(dice["ci95_low"]) <= float(dice["mean"]) <= float(dice["ci95_high"])


def test_the_json_has_options_versions_and_hashes(written, evaluation):
    document = json.loads((written / "evaluation.json").read_text(encoding="utf-8"))
    assert document["format"] == "ProstateXfer evaluation 1"
    assert document["options"]["tolerances_mm"] == [1.0, 2.0]
    assert {"prostatexfer", "numpy", "scipy"} <= document["versions"].keys()
    entry = document["cases"][1]["files"]["reference"]
    assert entry["sha256"] == file_sha256(evaluation.files[1].files["reference"])
    assert (document["n_cases"], document["n_failed"]) == (4, 1)
    assert document["comparison"][0]["correction"] == "holm"


def test_the_page_is_one_file_that_fetches_nothing_and_escapes_names(written):
    html = (written / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert re.findall(r'(?:src|href)="(?!data:)', html) == []
    assert "<b>one</b>" not in html
    assert "&lt;b&gt;one" in html
    for words in (
        "DIL by lesion volume",
        "theirs against ours",
        "Bland–Altman",
        "FROC",
        "Worst case 1",
        "1 of 4 cases failed",
        "Research use only",
        "percentile bootstraps",
    ):
        assert words in html


def test_every_row_of_a_table_has_a_cell_below_each_heading(written):
    html = (written / "report.html").read_text(encoding="utf-8")
    tables = re.findall(r"<h2>([^<]*)</h2>\n<div class=\"scroll\"><table[^>]*>(.*?)</table>", html, re.S)
    assert len(tables) >= 8
    for title, table in tables:
        lines = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.S)
        assert len({len(re.findall(r"<t[hd][ >]", line)) for line in lines}) == 1, title


def test_a_stop_while_drawing_leaves_the_folder_as_it_was(evaluation, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(CancelledError):
        write_evaluation(evaluation, folder, sources={}, progress=Watcher(stop_after=2))
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "metrics.csv").write_text("earlier", encoding="utf-8")
    with pytest.raises(CancelledError):
        write_evaluation(evaluation, folder, sources={}, progress=Watcher(stop_after=2))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "metrics.csv"]
    assert (folder / "metrics.csv").read_text(encoding="utf-8") == "earlier"


def test_without_a_report_an_earlier_one_does_not_stay_beside_new_tables(evaluation, tmp_path):
    (tmp_path / "report.html").touch()
    result = write_evaluation(evaluation, tmp_path, sources={}, report=False, progress=Watcher())
    assert sorted(result.files) == ["evaluation.json", "metrics.csv", "summary.csv"]
    assert not (tmp_path / "report.html").exists()


def test_without_a_browser_the_pdf_is_one_sentence(evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "find_browser", lambda: None)
    watch = Watcher()
    result = write_evaluation(evaluation, tmp_path, sources={}, pdf=True, progress=watch)
    assert "report.pdf" not in result.files
    assert watch.warnings[-1].startswith("No PDF was written")


def test_a_file_in_place_of_the_folder_is_refused(evaluation, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ProstateXferError, match="is a file"):
        write_evaluation(evaluation, tmp_path / "out", sources={}, progress=Watcher())


@pytest.mark.parametrize(
    "values", [[], [0.5], [0.5] * 9, [0.1, np.nan, 0.9], [np.inf, 1.0], list(np.linspace(0, 1, 999))]
)
def test_distributions_of_any_values_can_be_drawn(values):
    panel = Panel("Dice", "Dice (0 to 1)", {"Prostate": {"a": values, "b": []}}, (None, 1.0))
    assert distributions([panel, panel]).startswith(PNG)


def test_precision_and_recall_follow_from_the_curve():
    curve = FrocCurve((0.9, 0.5, 0.1), (0.0, 0.5, 1.0), (0.0, 0.5, 1.0), n_exams=2, n_lesions=2)
    assert precision_recall(curve) == ([0.5, 1.0], [0.5, 0.5])
