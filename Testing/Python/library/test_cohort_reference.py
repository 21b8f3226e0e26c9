# SPDX-License-Identifier: Apache-2.0
"""Reference segmentations of anyone's making against ours: by name, on our grid, and nothing compared with nothing."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from watchers.watcher import Watcher

from ProstateXferLib.cohort.reference import matched_reference, read_reference
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import (
    DIL,
    PERIPHERAL_ZONE,
    PROSTATE,
    RECTUM,
    TRANSITION_ZONE,
    generic_structure,
)
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.pipelines.segmentation import Segmentation

GRID = Grid((20, 16, 8), (1.0, 2.0, 5.0), (3.0, 4.0, 5.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
GLAND, LESION = np.s_[2:6, 3:12, 4:16], np.s_[3:5, 5:8, 6:10]


def painted(*boxes, grid=GRID):
    labels = np.zeros(grid.shape_zyx, np.uint8)
    for value, box in boxes:
        labels[box] = value
    return grid.image(labels)


OURS = Segmentation(painted((1, GLAND), (2, LESION)), (PROSTATE, DIL))


def matched(path, ours=OURS):
    watch = Watcher()
    return matched_reference(read_reference(path), ours, watch), watch.warnings


def array(found):
    return sitk.GetArrayFromImage(found.labels)


def written(tmp_path, labels, structures):
    return write_segmentation(labels, structures, tmp_path / "reference.seg.nrrd")


def test_a_label_map_without_names_is_prostate_and_dil_and_the_user_is_told(tmp_path):
    found, told = matched(write_image(OURS.labels, tmp_path / "r.nii.gz"))
    assert np.array_equal(array(found), sitk.GetArrayFromImage(OURS.labels))
    assert found.values == {1, 2}
    assert told == [
        "The reference segmentation names nothing: its value 1 was taken for the prostate and 2 for the DIL."
    ]


def test_names_count_and_not_label_values(tmp_path):
    path = written(tmp_path, painted((7, GLAND), (1, LESION)), (PROSTATE.with_value(7), DIL.with_value(1)))
    found, told = matched(path)
    assert np.array_equal(array(found), sitk.GetArrayFromImage(OURS.labels))
    assert told == []


@pytest.mark.parametrize(
    ("gland", "lesion"), [("whole_gland", "tumor"), ("PROSTATE", "Index lesion"), ("gland", "dil")]
)
def test_other_spellings_and_names_without_codes_are_understood(tmp_path, gland, lesion):
    structures = (generic_structure(4, gland), generic_structure(9, lesion))
    found, told = matched(written(tmp_path, painted((4, GLAND), (9, LESION)), structures))
    assert np.array_equal(array(found), sitk.GetArrayFromImage(OURS.labels))
    assert told == []


def test_several_lesions_of_theirs_are_the_dil_of_ours(tmp_path):
    second = np.s_[3:5, 9:11, 12:14]
    structures = (PROSTATE, generic_structure(2, "Lesion A"), generic_structure(3, "Lesion B"))
    found, _ = matched(written(tmp_path, painted((1, GLAND), (2, LESION), (3, second)), structures))
    expected = painted((1, GLAND), (2, LESION), (2, second))
    assert np.array_equal(array(found), sitk.GetArrayFromImage(expected))


def test_their_zones_together_are_our_prostate(tmp_path):
    structures = (PERIPHERAL_ZONE, TRANSITION_ZONE)
    path = written(tmp_path, painted((3, GLAND), (4, LESION)), structures)
    found, told = matched(path, Segmentation(painted((1, GLAND)), (PROSTATE,)))
    assert np.array_equal(array(found), sitk.GetArrayFromImage(painted((1, GLAND))))
    assert told == []  # they are compared as what they are part of


def test_their_lesion_belongs_to_the_gland_where_we_have_the_gland_alone(tmp_path):
    path = written(tmp_path, OURS.labels, OURS.structures)
    ours = Segmentation(painted((1, GLAND)), (PROSTATE,))
    found, _ = matched(path, ours)
    (row,) = measure(ours, reference=found.labels)
    assert row.dice == 1


def test_a_gland_alone_does_not_say_that_there_is_no_lesion(tmp_path):
    found, told = matched(written(tmp_path, painted((1, GLAND)), (PROSTATE,)))
    assert told == ["The reference segmentation has no DIL: there was nothing to compare with."]
    rows = found.without_unknown(measure(OURS, reference=found.labels))
    assert [(row.id, row.dice) for row in rows] == [("Prostate", 1.0), ("DIL", None), ("DIL L1", None)]
    assert all(row.volume_difference_cm3 is None for row in rows[1:])


def test_an_empty_segment_does_say_that_there_is_no_lesion(tmp_path):
    found, told = matched(written(tmp_path, painted((1, GLAND)), (PROSTATE, DIL)))
    rows = found.without_unknown(measure(OURS, reference=found.labels))
    assert told == []
    assert rows[1].dice == 0


def test_what_we_do_not_have_is_told(tmp_path):
    path = written(tmp_path, painted((1, GLAND), (2, LESION), (6, np.s_[0, 0, 0])), (PROSTATE, DIL, RECTUM))
    assert matched(path)[1] == ["The reference segmentation also has Rectum, which was not compared."]


def test_another_grid_is_resampled_and_told(tmp_path):
    fine = Grid((40, 32, 16), (0.5, 1.0, 2.5), tuple(GRID.index_to_lps([-0.25, -0.25, -0.25])), GRID.direction)
    labels = resample_to_grid(OURS.labels, fine, interpolation="nearest")
    found, told = matched(written(tmp_path, labels, OURS.structures))
    assert np.array_equal(array(found), sitk.GetArrayFromImage(OURS.labels))
    assert Grid.of(found.labels) == GRID
    assert len(told) == 1
    assert "lies on another grid; it was resampled (nearest neighbour)" in told[0]


def test_a_box_cut_from_our_grid_as_slicer_saves_it_is_no_other_grid(tmp_path):
    labels = OURS.labels[4:16, 3:12, 2:6]
    found, told = matched(written(tmp_path, labels, OURS.structures))
    assert np.array_equal(array(found), sitk.GetArrayFromImage(OURS.labels))
    assert told == []


def test_a_reference_that_sticks_out_is_told_and_one_elsewhere_refused(tmp_path):
    moved = OURS.labels[:, :, :]
    moved.SetOrigin(GRID.index_to_lps([8, 0, 0]))
    _, told = matched(written(tmp_path, moved, OURS.structures))
    assert told == ["Only 67% of the reference segmentation lies within the image; the rest was left."]
    moved.SetOrigin((5000.0, 0.0, 0.0))
    with pytest.raises(ProstateXferError, match="lies outside the image: choose one of the same examination"):
        matched(written(tmp_path, moved, OURS.structures))


def test_an_empty_label_map_is_compared_with_nothing(tmp_path):
    found, told = matched(write_image(painted(), tmp_path / "r.nii.gz"))
    assert found.values == frozenset()
    assert "has no Prostate, DIL" in told[-1]


def test_the_comparison_does_not_depend_on_our_names(tmp_path):
    ours = replace(OURS, structures=(replace(PROSTATE, name="Gland"), replace(DIL, name="Lesion", part_of="Gland")))
    found, told = matched(written(tmp_path, OURS.labels, OURS.structures), ours)
    assert [row.dice for row in measure(ours, reference=found.labels)] == [1, 1, 1]
    assert told == []
