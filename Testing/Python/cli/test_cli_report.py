# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer report`: the page says what study.json says, of the models that were used, and what changed since."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from made_images.pelvis import GRID, pelvis, pelvis_labels

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cohort.report import EDITED, study_report
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.images.io import read_image, write_image

pytest.importorskip("matplotlib")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    gland = np.where(pelvis_labels() == 1, 1, 0).astype(np.uint8)
    return {
        "t2w": write_image(GRID.image(pelvis()), folder / "t2w.nii.gz"),
        "reference-ct": write_image(GRID.image(pelvis() + np.int16(100)), folder / "ct.nii.gz"),
        "reference-segmentation": write_image(GRID.image(gland), folder / "gland.nii.gz"),
    }


@pytest.fixture
def study(offline_models, images, tmp_path):
    """study(*words, only=...) runs the study and returns its folder."""

    def study(*words, given=tuple(images), tasks=("prostate", "dil", "ct-from-mr")):
        inputs = [f"--{name}={images[name]}" for name in given]
        out = ["-o", str(tmp_path / "study"), "--device", "cpu", "--case", "Case <7>"]
        assert main(["study", *inputs, "--tasks", *tasks, *out, *map(str, words)]) == 0
        return tmp_path / "study"

    return study


def page_of(folder, tmp_path):
    path = tmp_path / "page.html"
    assert main(["report", str(folder), "-o", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def test_the_page_shows_tables_figures_warnings_and_provenance(study, tmp_path, capsys):
    folder = study()
    html = page_of(folder, tmp_path)
    result = StudyResult.read(folder)
    assert "<h1>Case &lt;7&gt;</h1>" in html
    for title in (
        "Measurements",
        "Comparison with the reference",
        "Error of the synthetic CT",
        "Axial slices",
        "Uncertainty of the segmentation",
        "CT from MR, soft tissue window",
        "Provenance",
        "Methods",
    ):
        assert f"<h2>{title}</h2>" in html
    for row in result.measurements:
        assert f"<td>{row.volume_cm3:.2f}</td>" in html
    assert f"<td>{result.synthesis['ct-from-mr']['mae_body_hu']:.1f}</td>" in html
    for warning in result.warnings:
        assert warning in html
    assert result.models[0]["sha256"] in html
    assert EDITED not in html
    assert "Research use only" in capsys.readouterr().out
    assert str(tmp_path) not in html  # folders name persons and machines


def test_the_words_on_models_are_those_of_their_cards(
    study, tmp_path, threshold_state, segmentation_card, synthesis_card, pointwise_state
):
    card = segmentation_card(
        "gland", "dil", name="my-model", title="My title", training_data="Twelve cats.", intended_use="For cats."
    )
    mine = write_checkpoint(tmp_path / "mine.safetensors", card, threshold_state(gland=(0.3,), dil=(0.3,)))
    folder = study("--prostate-model", mine, "--dil-model", mine)
    mine.unlink()  # the page needs no model
    html = page_of(folder, tmp_path)
    assert "by the model &#x27;my-model&#x27; (My title). For cats." in html
    assert "The model &#x27;my-model&#x27; was trained on: Twelve cats." in html
    assert "Nobody has stated what the model &#x27;dgcf-mr-to-ct-small&#x27; was trained on." in html
    assert "small MR-DINOv3" not in html
    assert "small DGCF" not in html


def test_an_edit_by_a_person_and_a_changed_image_are_told(study, images, tmp_path):
    folder = study()
    replace(StudyResult.read(folder), edited=True).write()
    changed = pelvis()
    changed[0, 5, 5] = 17
    write_image(GRID.image(changed), images["t2w"])
    html = page_of(folder, tmp_path)
    assert EDITED in html
    assert "The T2w image &#x27;t2w.nii.gz&#x27; has changed since the study was made." in html


def test_a_study_of_one_task_has_what_it_has(study, tmp_path):
    html = page_of(study(given=("t2w",), tasks=("ct-from-mr",)), tmp_path)
    assert "<h2>Measurements</h2>" not in html
    assert "<h2>CT from MR, bone window</h2>" in html
    html = page_of(study("--no-uncertainty", given=("t2w",), tasks=("prostate",)), tmp_path)
    assert "<h2>Uncertainty of the segmentation</h2>" not in html
    assert "Synthetic CT" not in html


def test_a_segmentation_that_an_editor_has_cut_to_its_box_still_fits(study, tmp_path):
    folder = study()
    path = folder / "segmentation.seg.nrrd"
    whole = read_image(path)
    box = whole[8:40, 6:34, 0:4]
    for key in whole.GetMetaDataKeys():
        if key.startswith("Segment"):
            box.SetMetaData(key, whole.GetMetaData(key))
    write_image(box, path)
    assert len(study_report(folder).figures) == 5


def test_the_page_lies_in_the_study_folder_unless_told_otherwise(study, capsys):
    folder = study()
    capsys.readouterr()
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["page"] == str(folder / "report.html")
    assert (folder / "report.html").is_file()
    study()  # and does not stand in the way of the next run
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("gone", "words", "code", "sentence"),
    [
        ("in/t2w.nii.gz", (), 1, "is not there any more: put it back, or run the study again"),
        ("in/gland.nii.gz", (), 1, "is not there any more: put it back"),
        ("in/ct.nii.gz", (), 1, "is not there any more"),
        ("study/ct-from-mr.nii.gz", (), 1, "is gone from the study folder: run the study again"),
        ("study/segmentation.seg.nrrd", (), 1, "is gone from the study folder"),
        ("study/study.json", (), 1, "is no study folder"),
        (None, ("-o", "page.pdf"), 2, "its name must end in .html"),
        (None, ("-o", "nowhere/page.html"), 1, "The folder 'nowhere' does not exist"),
    ],
)
def test_what_is_missing_is_one_sentence(study, tmp_path, monkeypatch, capsys, gone, words, code, sentence):
    folder = study()
    if gone:
        (tmp_path / gone).unlink()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["report", str(folder), *words]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert sentence in told.err.splitlines()[-1]
    assert not (folder / "report.html").exists()


def test_without_matplotlib_the_user_learns_what_to_install(study, monkeypatch, capsys):
    folder = study()
    for name in [module for module in sys.modules if module.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(folder)]) == 1
    assert "Figures need matplotlib, which is not installed; install it with:" in capsys.readouterr().err
