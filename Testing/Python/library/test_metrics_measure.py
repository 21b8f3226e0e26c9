# SPDX-License-Identifier: Apache-2.0
"""The measurement table against a made-up gland whose volumes, places and lesions are known."""

import math
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.metrics import Measurement, dice, max_diameter_mm, measure

TILT = math.radians(20)
GRID = Grid(
    (60, 50, 20),
    (1.0, 1.0, 3.0),
    (-30.0, -25.0, -28.0),
    (1, 0, 0, 0, math.cos(TILT), -math.sin(TILT), 0, math.sin(TILT), math.cos(TILT)),
)
VOXEL_CM3 = 0.003
GLAND = np.s_[4:14, 10:40, 15:45]
BIG_LESION = np.s_[6:9, 30:36, 20:26]  # inside the gland
SMALL_LESION = np.s_[10:12, 12:15, 40:47]  # partly in it, so it touches it
FAR_LESION = np.s_[17:18, 2:4, 2:4]  # nowhere near
NAMES = {1: "Prostate", 2: "DIL"}


def label_map(*boxes_and_values, grid=GRID):
    labels = np.zeros(grid.shape_zyx, dtype=np.uint8)
    for box, value in boxes_and_values:
        labels[box] = value
    return grid.image(labels)


@pytest.fixture(scope="module")
def labels():
    return label_map((GLAND, 1), (BIG_LESION, 2), (SMALL_LESION, 2), (FAR_LESION, 2))


@pytest.fixture(scope="module")
def rows(labels):
    return {row.id: row for row in measure(labels)}


def voxels_of(box):
    return math.prod(axis.stop - axis.start for axis in box)


def centre_lps(box):
    return GRID.index_to_lps([(axis.start + axis.stop - 1) / 2 for axis in reversed(box)])


def test_rows_come_by_label_with_the_lesions_from_the_largest(labels):
    assert [row.id for row in measure(labels)] == ["Prostate", "DIL", "DIL L1", "DIL L2", "DIL L3"]
    assert [row.component for row in measure(labels)] == [0, 0, 1, 2, 3]


def test_lesion_components_have_their_volume_and_place(rows):
    for number, box in enumerate((BIG_LESION, SMALL_LESION, FAR_LESION), start=1):
        row = rows[f"DIL L{number}"]
        assert (row.structure, row.label, row.component) == ("DIL", 2, number)
        assert row.voxel_count == voxels_of(box)
        assert row.volume_cm3 == pytest.approx(voxels_of(box) * VOXEL_CM3)
        assert row.centroid_lps == pytest.approx(centre_lps(box))
        assert row.part_of == "Prostate"


def test_the_whole_lesion_structure_is_the_sum_of_its_components(rows):
    assert rows["DIL"].voxel_count == sum(rows[f"DIL L{n}"].voxel_count for n in (1, 2, 3))


def test_the_gland_includes_the_lesions_that_touch_it_and_not_the_far_one(rows):
    outside_part = np.s_[10:12, 12:15, 45:47]
    assert rows["Prostate"].voxel_count == voxels_of(GLAND) + voxels_of(outside_part)


def test_share_and_offset_refer_to_that_gland(rows):
    gland, lesion = rows["Prostate"], rows["DIL L1"]
    assert lesion.share_of_gland == pytest.approx(lesion.volume_cm3 / gland.volume_cm3)
    offset = np.subtract(lesion.centroid_lps, gland.centroid_lps)
    assert lesion.offset_from_gland_lps == pytest.approx(offset)
    assert lesion.offset_from_gland_mm == pytest.approx(np.linalg.norm(offset))
    assert gland.share_of_gland == 1.0
    assert gland.offset_from_gland_lps is None
    assert gland.offset_from_gland_mm is None


def test_slicer_coordinates_differ_in_two_signs(rows):
    left, posterior, superior = rows["DIL"].centroid_lps
    assert rows["DIL"].centroid_ras == (-left, -posterior, superior)


def test_extent_and_bounds_follow_the_patient_on_a_tilted_grid(rows):
    row = rows["DIL L1"]
    c, s = math.cos(TILT), math.sin(TILT)
    assert row.extent_mm == pytest.approx((6.0, 6 * c + 9 * s, 6 * s + 9 * c))
    least, greatest = row.bounds_lps
    assert np.subtract(greatest, least) == pytest.approx(row.extent_mm)
    assert np.add(least, greatest) / 2 == pytest.approx(row.centroid_lps)


def test_the_diameter_is_that_of_the_shape_metric(labels, rows):
    whole = sitk.BinaryThreshold(labels, 2, 2)
    assert rows["DIL"].max_diameter_mm == pytest.approx(max_diameter_mm(whole))


def test_a_structure_cut_by_the_field_of_view_is_flagged():
    cut = measure(label_map((np.s_[0:5, 10:20, 10:20], 1), (np.s_[8:10, 10:20, 10:20], 3)))
    assert [row.touches_border for row in cut] == [True, False]
    last = measure(label_map((np.s_[5:8, 10:20, 50:60], 1)))
    assert last[0].touches_border is True


def test_a_named_structure_without_a_voxel_keeps_its_row(labels):
    rows = measure(labels, {**NAMES, 5: "Bladder"})
    assert rows[-1] == Measurement(
        structure="Bladder", label=5, component=0, id="Bladder", volume_cm3=0.0, voxel_count=0
    )


def test_a_missing_lesion_has_one_row_and_no_component():
    rows = measure(label_map((GLAND, 1)), NAMES)
    assert [(row.id, row.voxel_count) for row in rows] == [("Prostate", 9000), ("DIL", 0)]
    assert rows[1].centroid_lps is rows[1].touches_border is rows[1].share_of_gland is None


def test_an_empty_label_map_gives_empty_rows():
    assert [row.voxel_count for row in measure(label_map(), NAMES)] == [0, 0]
    assert measure(label_map()) == []


def test_unnamed_values_get_a_row_too():
    rows = measure(label_map((GLAND, 1), (BIG_LESION, 7)))
    assert [row.structure for row in rows] == ["Prostate", "Label 7"]
    rows = measure(label_map((GLAND, 1), (BIG_LESION, 7)), {1: "Rectum"})
    assert [row.structure for row in rows] == ["Rectum", "Label 7"]
    assert rows[1].share_of_gland is rows[1].offset_from_gland_mm is None


@pytest.mark.parametrize("name", ["DIL", "dil 2", "Index lesion", "Tumour", "tumor_core", "Prostate lesion"])
def test_a_lesion_is_known_by_its_name(name):
    rows = measure(label_map((GLAND, 4), (BIG_LESION, 9)), {4: "whole gland", 9: name})
    assert [row.id for row in rows] == ["whole gland", name, f"{name} L1"]
    assert rows[0].voxel_count == voxels_of(GLAND)
    assert rows[1].part_of == "whole gland"


def test_zones_alone_make_no_gland_and_are_no_lesions():
    rows = measure(label_map((GLAND, 1), (BIG_LESION, 2)), {1: "PZ", 2: "TZ"})
    assert [row.id for row in rows] == ["PZ", "TZ"]
    assert all(row.share_of_gland is None for row in rows)


def test_zones_belong_to_a_gland_that_is_named():
    rows = measure(label_map((GLAND, 3), (BIG_LESION, 4)), {1: "Prostate", 3: "Peripheral zone", 4: "tz"})
    assert [row.voxel_count for row in rows] == [9000, 9000 - 108, 108]
    assert rows[2].share_of_gland == pytest.approx(108 / 9000)


def test_a_segmentation_brings_its_own_structures(labels):
    prostate = replace(PROSTATE, name="Prostata", value=1)
    lesion = replace(DIL, name="Herd", value=2, part_of="Prostata")
    segmentation = SimpleNamespace(labels=labels, names={1: "Prostata", 2: "Herd"}, structures=(prostate, lesion))
    rows = measure(segmentation)
    assert [row.id for row in rows] == ["Prostata", "Herd", "Herd L1", "Herd L2", "Herd L3"]
    assert rows[0].voxel_count > voxels_of(GLAND)
    assert rows[1].share_of_gland is not None


def test_a_described_zone_stays_anatomy_under_another_name(labels):
    zones = (TRANSITION_ZONE.with_value(1), PERIPHERAL_ZONE.with_value(2))
    segmentation = SimpleNamespace(labels=labels, names=None, structures=zones)
    assert [row.id for row in measure(segmentation, {2: "Rim"})] == ["Transition zone", "Rim"]


# --- with a reference -------------------------------------------------------------------------------------------------


def test_a_perfect_prediction_agrees_with_itself(labels):
    for row in measure(labels, reference=labels):
        assert (row.dice, row.volume_difference_cm3, row.centroid_distance_mm) == (1.0, 0.0, 0.0)


def test_without_a_reference_nothing_is_compared(rows):
    assert all(row.dice is row.volume_difference_cm3 is row.centroid_distance_mm is None for row in rows.values())


def test_whole_structures_are_compared_whole(labels):
    moved = np.s_[6:9, 32:38, 20:26]
    prediction = label_map((GLAND, 1), (moved, 2))
    gland, lesion, *_ = measure(prediction, reference=labels)
    truth = sitk.GetArrayFromImage(labels)
    predicted = sitk.GetArrayFromImage(prediction)
    assert lesion.dice == pytest.approx(dice(truth == 2, predicted == 2))
    truth[FAR_LESION] = 0
    assert gland.dice == pytest.approx(dice(truth > 0, predicted > 0))
    assert gland.volume_difference_cm3 == pytest.approx(-2 * 3 * 2 * VOXEL_CM3)


def test_a_lesion_component_meets_the_reference_component_it_overlaps_most(labels):
    moved = np.s_[6:9, 32:38, 20:26]
    row = measure(label_map((GLAND, 1), (moved, 2)), reference=labels)[2]
    assert row.dice == pytest.approx(4 / 6)
    assert row.centroid_distance_mm == pytest.approx(2.0)
    assert row.volume_difference_cm3 == pytest.approx(0.0)


def test_overlap_beats_nearness():
    long_truth, near_truth = np.s_[5:6, 5:6, 5:45], np.s_[5:6, 7:8, 5:8]
    predicted = np.s_[5:6, 5:6, 5:8]
    row = measure(label_map((predicted, 2)), NAMES, label_map((long_truth, 2), (near_truth, 2)))[2]
    assert row.dice == pytest.approx(2 * 3 / (3 + 40))


def test_without_overlap_the_nearest_component_is_the_partner(labels):
    beside = np.s_[6:9, 30:36, 30:36]
    row = measure(label_map((GLAND, 1), (beside, 2)), reference=labels)[2]
    assert row.dice == 0.0
    assert row.centroid_distance_mm == pytest.approx(10.0)


def test_a_false_alarm_has_no_partner():
    _, whole, component = measure(label_map((GLAND, 1), (BIG_LESION, 2)), reference=label_map((GLAND, 1)))
    for row in (whole, component):
        assert row.dice == 0.0
        assert row.volume_difference_cm3 == pytest.approx(row.volume_cm3)
        assert row.centroid_distance_mm is None


def test_a_missed_lesion_has_a_row_because_the_reference_has_it(labels):
    gland, missed = measure(label_map((GLAND, 1)), reference=labels)
    assert (missed.id, missed.voxel_count, missed.dice) == ("DIL", 0, 0.0)
    assert missed.volume_difference_cm3 == pytest.approx(-(108 + 42 + 4) * VOXEL_CM3)
    assert gland.dice > 0.99


def test_a_structure_absent_from_both_agrees():
    gland = label_map((GLAND, 1))
    assert measure(gland, NAMES, gland)[1].dice == 1.0


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sitk.Image(4, 4, 4, sitk.sitkFloat32), "holds 32-bit floats; labels are whole numbers"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 2), "2 values a voxel"),
        (sitk.Image(4, 4, sitk.sitkUInt8), "2 dimensions; a 3-D label map is needed"),
        (np.zeros((4, 4, 4), np.uint8), "pass a SimpleITK image"),
    ],
)
def test_what_is_no_label_map_is_refused_in_one_sentence(bad, message):
    with pytest.raises(ProstateXferError, match=message) as refused:
        measure(bad)
    assert str(refused.value).endswith(".")
    with pytest.raises(ProstateXferError, match="reference"):
        measure(sitk.Image(4, 4, 4, sitk.sitkUInt8), reference=bad)


def test_names_are_by_whole_numbers(labels):
    with pytest.raises(ProstateXferError, match="'1' of structure 'Prostate' is not a whole number"):
        measure(labels, {"1": "Prostate"})
    with pytest.raises(ProstateXferError, match=r"1\.5 of structure"):
        measure(labels, {1.5: "Prostate"})
    with pytest.raises(ProstateXferError, match="not a text"):
        measure(labels, {1: ""})
    assert measure(labels, {np.uint8(1): "Prostate", 2: "DIL", 0: "background"})[0].label == 1


def test_a_reference_on_another_grid_is_refused(labels):
    other = sitk.Image(labels)
    other.SetOrigin((0.0, 0.0, 0.0))
    with pytest.raises(ProstateXferError, match="label map .* reference .* different grids; resample"):
        measure(labels, reference=other)


def test_a_negative_label_is_refused():
    image = sitk.Image(4, 4, 4, sitk.sitkInt16)
    image[1, 1, 1] = -3
    with pytest.raises(ProstateXferError, match="label value -3; values start at 1"):
        measure(image)


def test_a_row_cannot_be_changed(rows):
    with pytest.raises(FrozenInstanceError):
        rows["DIL"].volume_cm3 = 0.0


def test_the_phantom_is_measured_as_it_was_made():
    study = make_phantom(seed=1).render()
    for row in measure(study.labels):
        truth = study.truth[f"L{row.component}" if row.component else row.structure]
        assert row.volume_cm3 == pytest.approx(truth.volume_cm3, rel=0.03, abs=0.05), row.id
        assert row.centroid_lps == pytest.approx(truth.centroid_lps, abs=0.5), row.id


def test_a_clinical_volume_is_measured_within_a_second():
    grid = Grid((512, 512, 60), (0.35, 0.35, 1.5))
    z, y, x = (axis.astype(np.float32) for axis in np.ogrid[:60, :512, :512])

    def ball(centre_zyx, radii):
        return sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre_zyx, radii, strict=True)) <= 1

    labels = ball((30, 256, 256), (16, 70, 80)).astype(np.uint8)
    for number in range(5):
        labels[ball((22 + 4 * number, 220 + 18 * number, 200 + 26 * number), (1.8, 6 + number, 6))] = 2
    image = grid.image(labels)
    measure(label_map((GLAND, 1), (BIG_LESION, 2)))  # scipy is loaded by now
    start = time.process_time()
    rows = measure(image, reference=image)
    seconds = time.process_time() - start
    assert len(rows) == 7
    assert seconds < 1.0


@pytest.mark.parametrize("first", ["ProstateXferLib.metrics.measure", "ProstateXferLib.metrics", "ProstateXferLib"])
def test_measure_is_the_function_whatever_was_imported_first(first):
    code = f"import {first}\nfrom ProstateXferLib.metrics import measure\nraise SystemExit(not callable(measure))"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
