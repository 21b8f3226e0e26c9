# SPDX-License-Identifier: Apache-2.0
"""What members found alone, on the command line: ranges of volume, who sees a lesion, and lesions the result lacks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.pelvis import GRID, VOXEL_CM3
from outcomes.written_files import rows_of

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.cohort.report import study_report
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.cohort.sample_file import read_samples
from ProstateXferLib.images.io import write_image
from ProstateXferLib.pipelines.ensemble import make_ensemble

CORE_CM3, WHOLE_CM3 = 2 * 20 * 20 * VOXEL_CM3, 2 * 20 * 24 * VOXEL_CM3
LESION_CM3 = 2 * 4 * 6 * VOXEL_CM3


@pytest.fixture
def image(tmp_path):
    """A gland of 600 with a rim of 350 at its left, and a lesion of -500 in it."""
    array = np.zeros(GRID.shape_zyx, np.int16)
    array[:, 0] = -900
    array[1:3, 10:30, 12:32] = 600
    array[1:3, 10:30, 32:36] = 350
    array[1:3, 14:18, 20:26] = -500
    return write_image(GRID.image(array), tmp_path / "t2w.nii.gz")


@pytest.fixture
def members(tmp_path, threshold_state, segmentation_card):
    """ "wide" takes the rim for gland and sees the lesion; "narrow" does neither; "keen" sees the lesion alone."""
    folder = tmp_path / "models"
    folder.mkdir()
    card = segmentation_card("gland", "dil")

    def member(name, gland, dil):
        state = threshold_state(gland=(gland,), dil=(dil,), inverted=("dil",))
        return write_checkpoint(folder / f"{name}.safetensors", replace(card, name=name), state)

    return {
        "wide": member("wide", 0.3005, 0.3005),
        "narrow": member("narrow", 0.4505, 0.7005),
        "keen": member("keen", 0.4505, 0.3005),
    }


@pytest.fixture
def deaf_ensemble(members, tmp_path):
    """An ensemble of three in which the two that see the lesion are overruled."""
    three = (members["wide"], members["keen"], members["narrow"])
    return make_ensemble(tmp_path / "models" / "deaf.safetensors", three, weights=(0.1, 0.1, 0.8)).path


def segment(image, *words):
    return main(["segment", str(image), "--device", "cpu", *map(str, words)])


def rows_by_id(path):
    return {row["id"]: row for row in rows_of(path)}


def test_segment_tells_range_and_count_of_the_members(image, members, tmp_path, capsys):
    output, table = tmp_path / "f.seg.nrrd", tmp_path / "f.csv"
    assert segment(image, "-o", output, "--samples", "--csv", table, "-m", *members.values()) == 0
    rows = rows_by_id(table)
    gland, lesion = rows["Prostate"], rows["DIL L1"]
    # "narrow" finds no lesion, so its gland has a hole there.
    assert float(gland["volume_low_cm3"]) == pytest.approx(CORE_CM3 - LESION_CM3, abs=1e-6)
    assert float(gland["volume_high_cm3"]) == pytest.approx(WHOLE_CM3, abs=1e-6)
    assert (gland["samples"], lesion["seen_by"], rows["DIL"]["seen_by"]) == ("3", "2", "2")
    assert float(rows["DIL"]["volume_low_cm3"]) == 0
    assert float(rows["DIL"]["volume_high_cm3"]) == pytest.approx(LESION_CM3, abs=1e-6)
    told = capsys.readouterr().out
    assert "seen by 2 of 3" in told and "3 members" in told and "no confidence interval" in told
    record = json.loads((tmp_path / "f.seg.nrrd.json").read_text(encoding="utf-8"))["samples"]
    assert (record["sampled_by"], record["names"]) == ("members", ["wide", "narrow", "keen"])
    assert [row["id"] for row in record["agreement"]] == ["Prostate", "DIL", "DIL L1"]
    assert record["agreement"][2]["seen_by"] == 2


def test_segment_without_the_option_tells_nothing_of_samples(image, members, tmp_path, capsys):
    assert segment(image, "-o", tmp_path / "f.seg.nrrd", "-m", *members.values()) == 0
    assert "een by" not in capsys.readouterr().out
    assert "samples" not in json.loads((tmp_path / "f.seg.nrrd.json").read_text(encoding="utf-8"))


def test_mirrorings_are_samples_too_and_one_network_alone_is_told_to_have_none(image, members, tmp_path, capsys):
    assert segment(image, "-o", tmp_path / "f.seg.nrrd", "--samples", "--tta", "-m", members["wide"]) == 0
    assert "seen by 4 of 4" in capsys.readouterr().out
    assert segment(image, "-o", tmp_path / "f.seg.nrrd", "--samples", "-m", members["wide"]) == 0
    told = capsys.readouterr()
    assert "There are no samples" in told.err and "een by" not in told.out


def test_a_lesion_that_most_members_see_and_the_result_lacks_is_a_warning(image, deaf_ensemble, tmp_path, capsys):
    assert segment(image, "-o", tmp_path / "f.seg.nrrd", "--samples", "-m", deaf_ensemble) == 0
    left, posterior, superior = GRID.index_to_lps([22.5, 15.5, 1.5])
    place = f"centroid L {left:.1f}, P {posterior:.1f}, S {superior:.1f} mm"
    assert f"2 of 3 members see a DIL of {LESION_CM3:.2f} cm³ that the result does not hold, {place}" in (
        capsys.readouterr().err
    )


@pytest.fixture
def study(image, deaf_ensemble, tmp_path):
    """study(*words): the folder of a study by the ensemble."""

    def study(*words):
        out = ["-o", str(tmp_path / "study"), "--device", "cpu"]
        models = [f"--prostate-model={deaf_ensemble}", f"--dil-model={deaf_ensemble}"]
        assert main(["study", f"--t2w={image}", *models, *out, *words]) == 0
        return tmp_path / "study"

    return study


def test_a_study_keeps_the_samples_their_agreement_and_what_was_missed(study, capsys):
    folder = study()
    told = capsys.readouterr()
    assert "3 members" in told.out and "2 of 3 members see a DIL" in told.err
    result = StudyResult.read(folder)
    assert result.sampled_by == "members"
    assert any("2 of 3 members see a DIL" in warning for warning in result.warnings)
    gland = result.measurements[0]
    assert (gland.samples, gland.volume_high_cm3) == (3, pytest.approx(WHOLE_CM3))
    assert rows_by_id(result.path("measurements"))["Prostate"]["samples"] == "3"
    wide, keen, narrow = read_samples(result.path("samples"))
    assert (wide.name, keen.name, narrow.name) == ("wide", "keen", "narrow")
    assert np.count_nonzero(sitk.GetArrayFromImage(wide.labels) == 2) == 2 * 4 * 6
    assert np.count_nonzero(sitk.GetArrayFromImage(narrow.labels)) == round((CORE_CM3 - LESION_CM3) / VOXEL_CM3)


def test_a_study_without_uncertainty_keeps_none(study):
    result = StudyResult.read(study("--no-uncertainty"))
    assert result.sampled_by == "" and "samples" not in result.outputs
    assert all(row.samples is None for row in result.measurements)


def test_the_page_shows_what_each_member_found_and_an_edited_study_does_not(study):
    pytest.importorskip("matplotlib")
    folder = study()
    page = study_report(folder)
    figure = next(figure for figure in page.figures if figure.title == "Agreement of the samples")
    assert "3 members" in figure.caption and "wide, keen, narrow" in figure.caption
    assert "range" in page.tables[0].header[1]
    replace(StudyResult.read(folder), edited=True).write()
    page = study_report(folder)
    assert "Agreement of the samples" not in [figure.title for figure in page.figures]
    assert page.tables[0].header[1] == "Volume"
    assert any("left out" in warning for warning in page.warnings)


def test_a_page_whose_samples_are_gone_is_refused_in_one_sentence(study, capsys):
    folder = study()
    (folder / "samples.seg.nrrd").unlink()
    assert main(["report", str(folder), "-o", str(folder.parent / "page.html")]) == 1
    assert "samples.seg.nrrd' is gone from the study folder" in capsys.readouterr().err


def test_a_study_of_an_earlier_version_is_still_read(study):
    folder = study()
    path = folder / "study.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["sampled_by"]
    for row in values["measurements"]:
        for name in ("volume_low_cm3", "volume_high_cm3", "samples", "seen_by"):
            del row[name]
    path.write_text(json.dumps(values), encoding="utf-8")
    result = StudyResult.read(folder)
    assert result.sampled_by == "" and result.measurements[0].samples is None
