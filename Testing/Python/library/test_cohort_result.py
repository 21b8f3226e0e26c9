# SPDX-License-Identifier: Apache-2.0
"""study.json: what is written is read again, and what is not ours is refused in one sentence."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ProstateXferLib.cohort.options import StudyInputs, StudyOptions
from ProstateXferLib.cohort.result import FORMAT, STUDY_FILE, StudyResult
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.metrics.measure import measure


@pytest.fixture
def result(tmp_path):
    labels = make_phantom(1).render(modalities=("t2w",)).labels
    return StudyResult(
        folder=tmp_path,
        case="Ärger 7",
        inputs=StudyInputs(t2w=Path("/a folder/t2w.nii.gz"), cbct=Path("/b/cbct.mha")),
        options=StudyOptions(tasks=("prostate", "ct-from-mr"), models_folder=Path("/m m"), threads=2),
        image_sha256={"t2w": "a"},
        file_sha256={"t2w": "b"},
        outputs={"segmentation": "segmentation.seg.nrrd"},
        measurements=tuple(measure(labels, reference=labels)),
        synthesis={"ct-from-mr": {"mae_body_hu": 12.5, "mae_bone_hu": None}},
        warnings=("One.", "Two."),
        provenance={"segmentation": {"models": [{"name": "m", "sha256": "s"}], "seconds": 1.5}},
        models=({"name": "m", "tasks": ["prostate"]},),
        seconds=3.25,
    )


def test_what_was_written_is_read_again(result):
    path = result.write()
    assert path == result.folder / STUDY_FILE
    assert StudyResult.read(result.folder) == result
    assert len(result.measurements) > 2
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == FORMAT


def test_an_edit_is_remembered(result):
    replace(result, edited=True).write()
    assert StudyResult.read(result.folder).edited is True


def test_nan_becomes_null_which_every_reader_of_json_takes(result):
    replace(result, synthesis={"ct-from-mr": {"mae_bone_hu": math.nan}}).write()
    text = (result.folder / STUDY_FILE).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert StudyResult.read(result.folder).synthesis == {"ct-from-mr": {"mae_bone_hu": None}}


def test_an_output_has_a_path_and_a_missing_one_has_none(result):
    assert result.path("segmentation") == result.folder / "segmentation.seg.nrrd"
    assert result.path("uncertainty") is None


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ProstateXferError, match="is no study folder"):
        StudyResult.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "is damaged"),
        ("[]", "is not of the format"),
        ('{"format": "ProstateXfer study 9"}', "is not of the format 'ProstateXfer study 1'"),
        (json.dumps({"format": FORMAT}), "is malformed"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_one_sentence(tmp_path, text, part):
    (tmp_path / STUDY_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ProstateXferError) as caught:
        StudyResult.read(tmp_path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_output_outside_the_folder_is_refused(result):
    replace(result, outputs={"segmentation": "../secret"}).write()
    with pytest.raises(ProstateXferError, match="lies outside the folder"):
        StudyResult.read(result.folder)
