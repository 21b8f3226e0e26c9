# SPDX-License-Identifier: Apache-2.0
"""Every fault put into a sound data set is found, at the right case, and nothing else is."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from watchers.watcher import Watcher

from dataset_trees import GRID, TREES, gland_labels, image_array, lesion_labels, write_tree
from dataset_trees.volumes import write
from ProstateXferLib.errors import CancelledError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.datasets.integrity import bad_cases, check_cases
from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.recipe.schema import Source


@pytest.fixture
def folder(tmp_path):
    return write_tree("cases", tmp_path / "set")


def problems_of(folder, layout="cases", **options):
    return check_cases(find_cases(Source(layout, options=options), folder), SilentProgress())


def only_problem(folder, case_id, severity, **options):
    """What the one problem says; it is this case's."""
    problems = problems_of(folder, **options)
    assert [(problem.case_id, problem.severity) for problem in problems] == [(case_id, severity)]
    assert problems[0].advice.endswith(".")
    return problems[0].what


@pytest.mark.parametrize("layout", TREES)
def test_a_sound_tree_of_every_layout_has_no_problem(layout, tmp_path):
    assert problems_of(write_tree(layout, tmp_path / "set"), layout) == []


def test_a_file_that_is_cut_off_is_found(folder):
    path = folder / "a" / "t2w.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut off" in only_problem(folder, "a", "error")


def test_files_that_vanish_are_found(folder):
    cases = find_cases(Source("cases"), folder)
    (folder / "b" / "lesion.nii.gz").unlink()
    (folder / "c" / "t2w.nii.gz").unlink()
    problems = check_cases(cases, SilentProgress())
    assert [(p.case_id, p.severity) for p in problems] == [("b", "error"), ("c", "error")]
    assert all("missing" in problem.what for problem in problems)
    assert bad_cases(problems) == ["b", "c"]


def test_an_image_of_one_value_is_found(folder):
    write(np.full(GRID.shape_zyx, 5.0, dtype=np.float32), folder / "a" / "t2w.nii.gz")
    assert "empty: every voxel is 5" in only_problem(folder, "a", "error")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["t2w.nii", "t2w.nii.gz", "t2w.nrrd", "t2w.mha"])
def test_values_that_are_no_numbers_are_found_in_every_format(folder, name, kind):
    array = image_array(0).astype(kind)
    array[2, 3, 4], array[2, 3, 5] = np.nan, np.inf
    (folder / "a" / "t2w.nii.gz").unlink()
    write(array, folder / "a" / name)
    assert "has 2 voxels that are not finite numbers" in only_problem(folder, "a", "error")


def test_a_mask_on_another_grid_is_found_and_a_rounded_header_is_none(folder):
    shifted = Grid(GRID.size_xyz, GRID.spacing_xyz, (-19.996, -29.996, 5.0))
    write_image(shifted.image(gland_labels()), folder / "a" / "gland.nii.gz")
    assert problems_of(folder) == []
    shifted = replace(shifted, origin_lps=(-19.0, -30.0, 5.0))
    write_image(shifted.image(gland_labels()), folder / "a" / "gland.nii.gz")
    assert "another grid" in only_problem(folder, "a", "error")


def test_an_empty_gland_is_an_error_and_an_empty_lesion_is_one_of_positive_cases_only(folder):
    write(lesion_labels(0), folder / "b" / "lesion.nii.gz")
    assert problems_of(folder) == []
    (folder / "cases.csv").write_text("case_id,positive\na,0\nb,1\n", encoding="utf-8")
    assert "mask of DIL is empty" in only_problem(folder, "b", "error")
    (folder / "cases.csv").unlink()
    write(gland_labels(0), folder / "c" / "gland.nii.gz")
    assert "mask of Prostate is empty" in only_problem(folder, "c", "error")


def test_label_values_that_do_not_occur_are_found(folder):
    (folder / "cases.csv").write_text("case_id,positive\nb,1\n", encoding="utf-8")
    assert "empty" in only_problem(folder, "b", "error", lesion_values=[3])


def test_a_mask_where_the_image_shows_nothing_is_found(folder):
    array = image_array(0)
    array[:, 10:] = 0
    write(array, folder / "a" / "t2w.nii.gz")
    assert problems_of(folder) == []  # half of the gland is not more than half
    array[:, 9:] = 0
    write(array, folder / "a" / "t2w.nii.gz")
    assert "60% of Prostate lies where the image is empty" in only_problem(folder, "a", "error")


def test_a_lesion_away_from_the_gland_is_told(folder):
    outside = np.roll(lesion_labels(), 8, axis=2)
    write(outside, folder / "b" / "lesion.nii.gz")
    assert "of DIL lies more than 3 mm outside" in only_problem(folder, "b", "warning")


def test_a_lesion_that_crosses_the_drawn_edge_a_little_is_not_told(folder):
    labels = np.zeros(GRID.shape_zyx, dtype=np.uint8)
    labels[3:5, 8:12, 14:19] = 1  # the gland ends at 17: one voxel of 2 mm beyond
    write(labels, folder / "b" / "lesion.nii.gz")
    assert problems_of(folder) == []


def test_an_implausible_gland_is_told(folder):
    write(lesion_labels(), folder / "a" / "gland.nii.gz")
    assert "The prostate has 0.36 cm³; 5 to 400 are plausible." in only_problem(folder, "a", "warning")


def test_one_image_under_two_patients_is_found_whatever_its_type_and_header(folder):
    moved = Grid(GRID.size_xyz, GRID.spacing_xyz, (1.0, 2.0, 3.0))
    write_image(moved.image(image_array(0).astype(np.float32)), folder / "c" / "t2w.nii.gz")
    write_image(moved.image(gland_labels()), folder / "c" / "gland.nii.gz")
    assert "the same as one of 'a', another patient" in only_problem(folder, "c", "error")


def test_one_image_twice_in_a_patient_is_a_warning(folder):
    (folder / "cases.csv").write_text("case_id,patient_id\na,p\nc,p\n", encoding="utf-8")
    shutil.copy(folder / "a" / "t2w.nii.gz", folder / "c" / "t2w.nii.gz")
    assert "the same as one of 'a'." in only_problem(folder, "c", "warning")


def test_checking_reports_its_way_and_can_be_stopped(folder):
    watch = Watcher(stop_after=2)
    with pytest.raises(CancelledError):
        check_cases(find_cases(Source("cases"), folder), watch)
    told = [(step, round(fraction, 2), message) for step, fraction, message in watch.reports]
    assert told == [("check", 0.0, "a"), ("check", 0.33, "b")]
    assert watch.warnings == []


def test_the_real_cases_are_sound(real_data):
    problems = check_cases(find_cases(Source("cases", "real/prostate_t2w"), real_data), SilentProgress())
    assert problems == []
