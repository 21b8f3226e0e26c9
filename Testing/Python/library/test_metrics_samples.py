# SPDX-License-Identifier: Apache-2.0
"""What samples tell of a result, on spheres of known volume: range of volumes, who sees a lesion, what was missed."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_images.grids import voxel_centres_lps

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.metrics import measure, missed_lesions
from ProstateXferLib.metrics.missed_lesions import SMALLEST_CM3
from ProstateXferLib.metrics.sample_agreement import ComponentMap

TILT = math.radians(15)
GRID = Grid(
    (64, 60, 40),
    (1.0, 1.0, 1.5),
    (-30.0, -28.0, -20.0),
    (1, 0, 0, 0, math.cos(TILT), -math.sin(TILT), 0, math.sin(TILT), math.cos(TILT)),
)
CENTRE = GRID.index_to_lps([32, 30, 20])


def ball(offset_mm, radius_mm):
    """Voxels (z, y, x) whose centre lies within the radius of a point, given from the middle of the grid."""
    return np.linalg.norm(voxel_centres_lps(GRID) - (CENTRE + offset_mm), axis=-1) <= radius_mm


def sphere_cm3(radius_mm):
    return 4 / 3 * math.pi * radius_mm**3 / 1000


def sample(*balls, name="fold 1", structures=(PROSTATE, DIL)):
    """Balls (value, offset, radius) painted one over the other."""
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    for value, offset_mm, radius_mm in balls:
        labels[ball(offset_mm, radius_mm)] = value
    return SimpleNamespace(name=name, labels=GRID.image(labels), structures=tuple(structures))


def segmentation(result, *samples):
    return SimpleNamespace(
        labels=result.labels,
        structures=result.structures,
        names={s.value: s.name for s in result.structures},
        samples=tuple(samples),
    )


def rows_of(result, *samples):
    return {row.id: row for row in measure(segmentation(result, *samples))}


MIDDLE = (0, 0, 0)
RIGHT, LEFT = (-9, 0, 0), (9, 0, 0)


def gland(radius_mm, *lesions):
    return sample((1, MIDDLE, radius_mm), *((2, offset, radius) for offset, radius in lesions))


def test_the_interval_goes_from_the_least_to_the_largest_volume_of_the_samples():
    row = rows_of(gland(15), gland(14), gland(16), gland(15.5))["Prostate"]
    assert row.volume_low_cm3 == pytest.approx(sphere_cm3(14), rel=0.01)
    assert row.volume_high_cm3 == pytest.approx(sphere_cm3(16), rel=0.01)
    assert (row.samples, row.seen_by) == (3, None)


def test_keeping_samples_changes_nothing_else():
    result = gland(15, (RIGHT, 4), (LEFT, 3))
    alone = measure(SimpleNamespace(labels=result.labels, structures=result.structures, names=None))
    told = measure(segmentation(result, gland(14), gland(15, (RIGHT, 4))))
    nothing = {"volume_low_cm3": None, "volume_high_cm3": None, "samples": None, "seen_by": None}
    assert [replace(row, **nothing) for row in told] == alone
    assert all(row.samples == 2 for row in told)
    assert all(getattr(row, name) is None for row in alone for name in nothing)


def test_the_whole_gland_of_a_sample_includes_its_own_lesion_where_it_touches_the_gland():
    bulging = (0, 17, 0)  # half in, half out
    with_lesion = gland(15, (bulging, 5))
    apart = gland(15, ((0, 24, 0), 2))
    row = rows_of(gland(15), with_lesion, apart)["Prostate"]
    whole = ball(MIDDLE, 15) | ball(bulging, 5)
    assert row.volume_high_cm3 == pytest.approx(np.count_nonzero(whole) * 1.5e-3)
    assert row.volume_low_cm3 == pytest.approx(np.count_nonzero(ball(MIDDLE, 15)) * 1.5e-3)


def test_zones_of_a_sample_make_its_gland_as_they_make_that_of_the_result():
    zones = (PROSTATE, PERIPHERAL_ZONE, TRANSITION_ZONE)
    of_zones = [sample((3, MIDDLE, r), (4, MIDDLE, r / 2), structures=zones) for r in (14, 15, 16)]
    rows = rows_of(of_zones[1], of_zones[0], of_zones[2])
    assert rows["Prostate"].volume_low_cm3 == pytest.approx(sphere_cm3(14), rel=0.01)
    assert rows["Transition zone"].volume_high_cm3 == pytest.approx(sphere_cm3(8), rel=0.03)


def test_a_lesion_is_seen_by_the_samples_that_overlap_it_enough():
    result = gland(15, (RIGHT, 4), (LEFT, 3))
    rows = rows_of(
        result,
        gland(15, (RIGHT, 4), (LEFT, 3)),
        gland(15, ((-8, 0, 0), 4.5)),  # a little aside
        gland(15, (RIGHT, 1.5)),  # IoU about 0.05: too small to be the same
        gland(15, ((0, -9, 0), 4)),  # another one
    )
    assert (rows["DIL L1"].seen_by, rows["DIL L2"].seen_by, rows["DIL"].seen_by) == (2, 1, 2)
    assert {rows[name].samples for name in ("DIL", "DIL L1", "DIL L2")} == {4}
    assert rows["DIL L1"].volume_low_cm3 is None
    assert rows["DIL"].volume_low_cm3 == pytest.approx(sphere_cm3(1.5), rel=0.15)


@pytest.mark.parametrize(("shared", "seen"), [(2, 1), (1, 0)])
def test_a_tenth_of_the_union_is_enough_and_less_is_not(shared, seen):
    one, other = np.zeros((1, 1, 40), bool), np.zeros((1, 1, 40), bool)
    one[..., :11] = True
    other[..., 11 - shared : 22 - shared] = True  # unions of 20 and 21 voxels
    mine, its = ComponentMap.of(one).matches(ComponentMap.of(other))
    assert len(mine) == len(its) == seen


def test_a_lesion_that_no_sample_knows_of_has_a_count_of_zero_and_no_lesion_has_none():
    rows = rows_of(gland(15, (RIGHT, 4)), gland(15), gland(15))
    assert (rows["DIL"].seen_by, rows["DIL L1"].seen_by) == (0, 0)
    assert (rows["DIL"].volume_low_cm3, rows["DIL"].volume_high_cm3) == (0.0, 0.0)
    absent = rows_of(gland(15), gland(15, (RIGHT, 4)), gland(15))["DIL"]
    assert absent.voxel_count == 0 and absent.seen_by is None
    assert (absent.volume_low_cm3, absent.samples) == (0.0, 2)
    assert absent.volume_high_cm3 == pytest.approx(sphere_cm3(4), rel=0.03)


def test_only_samples_that_know_a_structure_speak_of_it_and_one_voice_is_no_range():
    glands = [sample((7, MIDDLE, r), structures=(PROSTATE.with_value(7),)) for r in (14, 15, 16)]
    lesion = sample((1, RIGHT, 4), structures=(DIL.with_value(1),))
    rows = rows_of(gland(15, (RIGHT, 4)), *glands, lesion)
    assert rows["Prostate"].samples == 3
    assert rows["Prostate"].volume_low_cm3 == pytest.approx(sphere_cm3(14), rel=0.01)
    assert rows["DIL"].samples is rows["DIL"].volume_low_cm3 is rows["DIL"].seen_by is None
    assert rows["DIL L1"].samples is None


def test_samples_are_matched_by_the_models_names_when_the_rows_have_others():
    result = gland(15)
    rows = measure(segmentation(result, gland(14), gland(16)), {1: "Prostata", 2: "Herd (lesion)"})
    assert rows[0].id == "Prostata" and rows[0].samples == 2


def test_a_sample_on_another_grid_is_refused():
    other = gland(15)
    other.labels.SetSpacing((1.0, 1.0, 2.0))
    with pytest.raises(ProstateXferError, match="sample 'fold 1'"):
        measure(segmentation(gland(15), gland(15), other))


def test_a_lesion_that_most_samples_see_and_the_result_does_not_hold_is_told_once_with_volume_and_place():
    right, left = (RIGHT, 4), (LEFT, 3)
    found = missed_lesions(
        segmentation(
            gland(15, left),
            gland(15, right, left),
            gland(15, ((-9, 1, 0), 4.5), left),
            gland(15, left, ((0, -9, 0), 3)),  # a third, alone
            gland(15, right),
        )
    )
    assert [(lesion.structure, lesion.seen_by, lesion.samples) for lesion in found] == [("DIL", 3, 4)]
    assert found[0].volume_low_cm3 == pytest.approx(sphere_cm3(4), rel=0.03)
    assert found[0].volume_high_cm3 == pytest.approx(sphere_cm3(4.5), rel=0.03)
    assert found[0].centroid_lps == pytest.approx(np.add(CENTRE, (-9, 1, 0)), abs=0.3)


def test_a_lesion_in_pieces_counts_once_for_its_sample():
    whole = (2, RIGHT, 4)
    in_pieces = sample((1, MIDDLE, 15), whole)
    labels = np.array(ball(RIGHT, 4))
    middle_x = 32 - 9
    labels[:, :, middle_x] = False
    halves = np.where(labels, 2, ball(MIDDLE, 15))
    in_pieces.labels = GRID.image(halves.astype(np.uint8))
    found = missed_lesions(segmentation(gland(15), in_pieces, gland(15), gland(15)))
    assert found == []  # one of three
    found = missed_lesions(segmentation(gland(15), in_pieces, sample((1, MIDDLE, 15), whole), gland(15)))
    assert [(lesion.seen_by, lesion.samples) for lesion in found] == [(2, 3)]
    assert found[0].volume_high_cm3 == pytest.approx(sphere_cm3(4), rel=0.03)


def test_half_of_the_samples_are_not_most_of_them():
    seen = gland(15, (RIGHT, 4))
    assert missed_lesions(segmentation(gland(15), seen, seen, gland(15), gland(15))) == []
    assert len(missed_lesions(segmentation(gland(15), seen, seen, gland(15)))) == 1


def test_specks_are_not_told():
    speck = gland(15, (RIGHT, 2))
    assert sphere_cm3(2) < SMALLEST_CM3 < sphere_cm3(3)
    assert missed_lesions(segmentation(gland(15), speck, speck)) == []
    assert len(missed_lesions(segmentation(gland(15), speck, speck), smallest_cm3=0.01)) == 1


def test_nothing_is_missed_without_samples_or_lesions_or_by_one_voice():
    assert missed_lesions(segmentation(gland(15))) == []
    assert missed_lesions(segmentation(gland(15), gland(14), gland(15))) == []
    assert missed_lesions(segmentation(gland(15), gland(15, (RIGHT, 4)))) == []
    empty = sample()
    assert missed_lesions(segmentation(empty, empty, empty)) == []
    assert measure(segmentation(empty, empty, empty))[0].volume_high_cm3 == 0.0


def noise(seed, share=0.03):
    return np.random.default_rng(seed).random((24, 96, 96)) < share


def test_components_match_as_counting_pair_by_pair_has_it():
    one, other = (ComponentMap.of(noise(seed, 0.08)[:6, :20, :20]) for seed in (1, 2))
    expected = set()
    for i in range(len(one.voxel_counts)):
        for j in range(len(other.voxel_counts)):
            first, second = one.labels_zyx == i + 1, other.labels_zyx == j + 1
            if (first & second).sum() >= 0.1 * (first | second).sum():
                expected.add((i, j))
    assert len(expected) > 3
    assert set(zip(*(numbers.tolist() for numbers in one.matches(other)), strict=True)) == expected


def test_thousands_of_components_take_no_minutes():
    grid = Grid((96, 96, 24), (1.0, 1.0, 1.0))
    result = SimpleNamespace(labels=grid.image(np.zeros((24, 96, 96), np.uint8)), structures=(DIL,), names={2: "DIL"})
    result.samples = tuple(
        SimpleNamespace(name=str(seed), labels=grid.image(2 * noise(seed).astype(np.uint8)), structures=(DIL,))
        for seed in range(3)
    )
    assert ComponentMap.of(noise(0)).voxel_counts.size > 1500
    started = time.process_time()
    found = missed_lesions(result, smallest_cm3=0.0)
    assert time.process_time() - started < 5.0
    assert found and all(lesion.seen_by >= 2 for lesion in found)
