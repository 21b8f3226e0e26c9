# SPDX-License-Identifier: Apache-2.0
"""Exports: the CSV is the library's, the page shows the numbers and says "edited"; what cannot be written is told."""

import re
from pathlib import Path

import pytest
import slicer

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.images.io import read_image
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.reports.table import write_measurements_csv
from ProstateXferSlicer.scene.parameters import measurementsOf
from study_child.fixtures import sceneState, until


@pytest.fixture
def finished(panel, t2w_volume, study_of):
    """The panel after a run of the default tasks."""
    panel.choose(t2w=t2w_volume)
    panel.run(study_of("prostate", "dil"))
    return panel


def report(panel, dialogs, path):
    """Press the button, choose the path, wait for the page; the page."""
    dialogs.paths = [path]
    panel.ui.exportReportButton.click()
    assert panel.ui.statusLabel.text == "Writing the report…"
    assert not panel.ui.exportReportButton.enabled and "being written" in panel.ui.exportReportButton.toolTip
    until(lambda: panel.ui.exportReportButton.enabled, 60)
    assert not dialogs.texts("error"), dialogs.messages
    assert panel.ui.statusLabel.text == f"Written: {path}"
    return path.read_text(encoding="utf-8")


def test_without_results_the_buttons_are_grey_and_say_so(panel):
    assert not panel.ui.exportCsvButton.enabled and "no measurements yet" in panel.ui.exportCsvButton.toolTip
    assert not panel.ui.exportReportButton.enabled and "no results yet" in panel.ui.exportReportButton.toolTip


def test_the_csv_is_that_of_the_library(finished, whole_study, tmp_path, dialogs):
    path = tmp_path / "Maße für Öl.csv"
    dialogs.paths = [path]
    finished.ui.exportCsvButton.click()
    assert path.read_bytes() == (whole_study / "measurements.csv").read_bytes()
    assert finished.ui.statusLabel.text == f"Written: {path}"


def test_the_csv_has_the_edited_numbers(finished, tmp_path, dialogs):
    finished.parameters.segmentation.GetSegmentation().RemoveSegment("DIL")
    finished.ui.remeasureButton.click()
    dialogs.paths = [tmp_path / "edited.csv"]
    finished.ui.exportCsvButton.click()
    expected = write_measurements_csv(measurementsOf(finished.parameters), tmp_path / "expected.csv")
    assert (tmp_path / "edited.csv").read_bytes() == expected.read_bytes()
    assert "DIL" not in expected.read_text(encoding="utf-8")


def test_a_csv_dialog_that_is_cancelled_writes_nothing(finished, dialogs, tmp_path):
    before = finished.ui.statusLabel.text
    finished.ui.exportCsvButton.click()
    assert dialogs.fileQuestions == ["Write the measurements"]
    assert finished.ui.statusLabel.text == before and not list(tmp_path.glob("*.csv"))


def test_a_csv_that_cannot_be_written_is_told_in_one_sentence(finished, dialogs, tmp_path):
    dialogs.paths = [tmp_path / "no such folder" / "a.csv"]
    finished.ui.exportCsvButton.click()
    assert len(dialogs.texts("error")) == 1 and "no such folder' does not exist" in dialogs.texts("error")[0]


def test_the_report_has_the_numbers_and_no_word_of_an_edit_or_a_change(finished, dialogs, tmp_path):
    before = sceneState()
    page = report(finished, dialogs, tmp_path / "Bericht für Öl.html")
    gland = measurementsOf(finished.parameters)[0]
    text = re.sub(r"<[^>]+>", " ", page)
    assert f"{gland.volume_cm3:.1f}" in text and "Prostate" in text and "Research use only" in text
    assert "was edited" not in text and "has changed since" not in text
    assert sceneState() == before


def test_the_report_says_edited_and_has_the_new_numbers(finished, dialogs, tmp_path):
    assert '<th scope="row">DIL</th>' in report(finished, dialogs, tmp_path / "run.html")
    finished.parameters.segmentation.GetSegmentation().RemoveSegment("DIL")
    finished.ui.remeasureButton.click()
    page = report(finished, dialogs, tmp_path / "edited.html")
    assert "The segmentation was edited by a person after the run." in page
    assert '<th scope="row">DIL</th>' not in page and '<th scope="row">Prostate</th>' in page


def test_the_report_is_of_the_images_of_the_run_whatever_is_chosen_since(
    panel, cbct_volume, t2w_volume, study_of, dialogs, tmp_path
):
    panel.choose(cbct=cbct_volume, prostate=False, dil=False, ctFromCbct=True)
    study = study_of("ct-from-cbct")
    panel.run(study)
    panel.choose(cbct=t2w_volume)
    panel.child.replaces = {"report"}
    panel.child.does(hold=True)
    dialogs.paths = [tmp_path / "report.html"]
    panel.ui.exportReportButton.click()
    until(lambda: panel.child.calls)
    given = StudyResult.read(Path(panel.child.calls[0]["words"][1]))
    assert image_sha256(read_image(given.inputs.cbct)) == given.image_sha256["cbct"]
    assert image_sha256(read_image(given.path("ct-from-cbct"))) == image_sha256(
        read_image(StudyResult.read(study).path("ct-from-cbct"))
    )


def test_an_image_of_the_run_that_was_removed_is_named(finished, t2w_volume, dialogs, tmp_path):
    slicer.mrmlScene.RemoveNode(t2w_volume)
    dialogs.paths = [tmp_path / "report.html"]
    finished.ui.exportReportButton.click()
    assert dialogs.texts("error") == ["The T2w image of the last run was removed from the scene: run again."]
    assert finished.ui.statusLabel.text == "The report was not written."
    assert not list(tmp_path.glob("*.html"))


def test_a_report_that_cannot_be_written_is_told_in_one_sentence(finished, dialogs, tmp_path):
    dialogs.paths = [tmp_path / "no such folder" / "a.html"]
    finished.ui.exportReportButton.click()
    assert len(dialogs.texts("error")) == 1 and "no such folder' does not exist" in dialogs.texts("error")[0]
    assert finished.ui.statusLabel.text == "The report was not written."


def test_a_full_disk_is_told(finished, dialogs, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    dialogs.paths = [tmp_path / "a.html"]
    monkeypatch.setattr("tempfile.mkdtemp", full)
    finished.ui.exportReportButton.click()
    assert len(dialogs.texts("error")) == 1 and "free space" in dialogs.texts("error")[0]


def test_a_panel_that_goes_stops_the_report(finished, dialogs, tmp_path):
    dialogs.paths = [tmp_path / "a.html"]
    finished.child.replaces = {"report"}
    finished.child.does(hold=True)
    finished.ui.exportReportButton.click()
    until(lambda: finished.child.calls)
    finished.widget.cleanup()
    until(finished.child.areGone)
    assert not list(tmp_path.glob("*.html"))
