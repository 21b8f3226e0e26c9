# SPDX-License-Identifier: Apache-2.0
"""Structures of the ticked tasks, and the gland of one model with the lesions of another: made-up segmentations."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from watchers.watcher import Watcher

from ProstateXferLib.cohort.task import Task
from ProstateXferLib.cohort.ticked_structures import gland_with_lesions, ticked_structures
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import BLADDER, DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.pipelines.provenance import Provenance
from ProstateXferLib.pipelines.sample import Sample
from ProstateXferLib.pipelines.segmentation import Segmentation

GRID = Grid((10, 8, 4), (1.0, 2.0, 5.0), (3.0, 4.0, 5.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
VOXEL_CM3 = 0.01


def record(name, seconds, **options):
    return Provenance(({"name": name, "sha256": name},), options, {"T2w": "x"}, {}, "now", seconds, ("a",))


def segmentation(structures, *boxes, found=None, provenance=None):
    """Boxes (value, slices) painted one over the other."""
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    for value, box in boxes:
        labels[box] = value
    names = [s.name for s in structures] if found is None else found
    probabilities = {name: GRID.image(np.full(GRID.shape_zyx, 0.5, np.float32)) for name in names}
    return Segmentation(GRID.image(labels), tuple(structures), probabilities, provenance)


def array(found):
    return sitk.GetArrayFromImage(found.labels)


GLAND = np.s_[1:3, 2:6, 2:8]
INNER, APART = np.s_[1:3, 3:5, 4:6], np.s_[0, 0, 9]
BOTH = segmentation((PROSTATE, DIL), (1, GLAND), (2, INNER), (2, APART))


def test_both_tasks_keep_everything():
    found = ticked_structures(BOTH, (Task.PROSTATE, Task.DIL))
    assert np.array_equal(array(found), array(BOTH))
    assert list(found.probabilities) == ["Prostate", "DIL"]


def test_without_the_dil_task_the_gland_is_whole_and_a_lesion_apart_from_it_is_gone():
    found = ticked_structures(BOTH, (Task.PROSTATE,))
    expected = np.zeros(GRID.shape_zyx)
    expected[GLAND] = 1
    assert np.array_equal(array(found), expected)
    assert [s.name for s in found.structures] == list(found.probabilities) == ["Prostate"]
    assert Grid.of(found.labels) == GRID


def test_the_dil_task_alone_keeps_lesions_only():
    found = ticked_structures(BOTH, (Task.DIL,))
    assert np.array_equal(array(found), np.where(array(BOTH) == 2, 2, 0))
    assert [s.name for s in found.structures] == ["DIL"]


def test_zones_and_organs_stay_with_the_prostate_task():
    structures = (PROSTATE, DIL, PERIPHERAL_ZONE, TRANSITION_ZONE, BLADDER)
    whole = segmentation(
        structures, (3, GLAND), (4, INNER), (2, np.s_[1, 5, 2:4]), (5, APART), found=["DIL", "Bladder"]
    )
    whole = replace(whole, probabilities=whole.probabilities | dict.fromkeys(("Peripheral zone", "Transition zone")))
    found = ticked_structures(whole, (Task.PROSTATE,))
    assert [s.name for s in found.structures] == ["Prostate", "Peripheral zone", "Transition zone", "Bladder"]
    expected = array(whole)
    expected[expected == 2] = 1  # the lesion's place belongs to the gland, whatever the zone
    assert np.array_equal(array(found), expected)


def test_what_a_card_describes_and_no_head_finds_gets_no_row_of_zeros():
    whole = segmentation((PROSTATE, DIL, BLADDER), (1, GLAND), found=["Prostate", "DIL"])
    assert [s.name for s in ticked_structures(whole, tuple(Task)).structures] == ["Prostate", "DIL"]


@pytest.fixture
def gland():
    return segmentation((PROSTATE,), (1, GLAND), provenance=record("g", 1.5, device="cpu", tta=False))


def test_lesions_of_another_model_are_laid_into_the_gland_and_the_rest_is_cut_and_told(gland):
    outside = np.s_[1:3, 3:5, 6:10]  # 2 x 2 x 2 voxels of these 16 are inside
    lesions = segmentation((DIL,), (2, outside), provenance=record("d", 2.0, device="cuda:0", tta=False))
    watch = Watcher()
    found = gland_with_lesions(gland, lesions, watch)
    expected = np.zeros(GRID.shape_zyx)
    expected[GLAND] = 1
    expected[1:3, 3:5, 6:8] = 2
    assert np.array_equal(array(found), expected)
    assert watch.warnings == [
        f"{8 * VOXEL_CM3:.2f} cm³ of the DIL lay outside the prostate that the other model found, and was cut off."
    ]
    assert list(found.probabilities) == ["Prostate", "DIL"]
    assert found.provenance.models == ({"name": "g", "sha256": "g"}, {"name": "d", "sha256": "d"})
    assert found.provenance.options == {"device": "cpu, cuda:0", "tta": False}
    assert (found.provenance.seconds, found.provenance.warnings) == (3.5, ("a",))


def test_a_lesion_within_the_gland_needs_no_warning(gland):
    watch = Watcher()
    found = gland_with_lesions(gland, segmentation((DIL,), (2, INNER)), watch)
    assert watch.warnings == []
    assert np.count_nonzero(array(found) == 2) == 8


def test_two_models_that_use_one_value_for_two_things_do_not_mix_them_up(gland):
    found = gland_with_lesions(gland, segmentation((DIL.with_value(1),), (1, INNER)), Watcher())
    values = {s.name: s.value for s in found.structures}
    assert len(set(values.values())) == 2
    assert np.count_nonzero(array(found) == values["DIL"]) == 8
    assert np.count_nonzero(array(found)) == 2 * 4 * 6


def test_without_a_gland_every_lesion_is_cut_and_told():
    watch = Watcher()
    found = gland_with_lesions(segmentation((PROSTATE,)), segmentation((DIL,), (2, INNER)), watch)
    assert not array(found).any()
    assert watch.warnings[0].startswith("0.08 cm³ of the DIL lay outside")


def test_the_gland_may_be_its_zones_and_a_lesion_knows_its_gland_by_any_name():
    zones = segmentation((PERIPHERAL_ZONE, TRANSITION_ZONE), (3, GLAND), (4, np.s_[1:3, 2:4, 2:8]))
    watch = Watcher()
    found = gland_with_lesions(zones, segmentation((DIL,), (2, INNER)), watch)
    assert watch.warnings == []
    assert np.count_nonzero(array(found) == 2) == 8
    named = replace(PROSTATE, name="Whole gland")
    found = gland_with_lesions(segmentation((named,), (1, GLAND)), segmentation((DIL,), (2, INNER)), Watcher())
    assert found.structures[1].part_of == "Whole gland"


def sampled(whole, by, *samples):
    """The segmentation with samples (name, segmentation)."""
    voices = tuple(Sample(name, found.labels, found.structures) for name, found in samples)
    return replace(whole, samples=voices, sampled_by=by)


def test_samples_are_ticked_as_the_result_is_and_those_that_know_nothing_of_it_are_left_out():
    of_dil = segmentation((DIL.with_value(1),), (1, INNER))
    both = sampled(BOTH, "members", ("a", BOTH), ("b", segmentation((PROSTATE,), (1, GLAND))), ("c", of_dil))
    found = ticked_structures(both, (Task.PROSTATE,))
    assert [sample.name for sample in found.samples] == ["a", "b"]
    assert np.array_equal(array(found.samples[0]), array(found))
    assert [s.name for s in found.samples[0].structures] == ["Prostate"]
    found = ticked_structures(both, (Task.DIL,))
    assert [sample.name for sample in found.samples] == ["a", "c"]
    assert np.count_nonzero(array(found.samples[1])) == 8
    assert [measure(found)[0].samples, measure(found)[0].seen_by] == [2, 2]


def test_with_two_models_each_structure_has_the_samples_of_its_own_and_lesions_end_at_the_gland_in_them_too():
    smaller = segmentation((PROSTATE,), (1, np.s_[1:3, 2:6, 2:6]))
    whole = segmentation((PROSTATE,), (1, GLAND))
    gland = sampled(whole, "folds", ("fold 0", whole), ("fold 1", smaller))
    outside = segmentation((DIL.with_value(1),), (1, np.s_[1:3, 3:5, 6:10]))
    large = segmentation((DIL.with_value(1),), (1, np.s_[1:3, 2:6, 4:10]))
    nothing = segmentation((DIL.with_value(1),))
    lesion = sampled(outside, "mirrorings", ("fold 0", outside), ("y", large), ("x", nothing))
    found = gland_with_lesions(gland, lesion, Watcher())
    assert found.sampled_by == "folds and mirrorings"
    assert len({sample.name for sample in found.samples}) == 5
    rows = {row.id: row for row in measure(found)}
    # 2 x 4 x 4 and 2 x 4 x 6 voxels; the lesions' voxels beyond the gland of the result (x from 8) are gone.
    assert rows["Prostate"].samples == 2
    assert (rows["Prostate"].volume_low_cm3, rows["Prostate"].volume_high_cm3) == pytest.approx((0.32, 0.48))
    assert (rows["DIL"].samples, rows["DIL"].volume_low_cm3) == (3, 0.0)
    assert rows["DIL"].volume_high_cm3 == pytest.approx(2 * 4 * 4 * VOXEL_CM3)
    assert rows["DIL"].volume_cm3 == pytest.approx(2 * 2 * 2 * VOXEL_CM3)
    assert rows["DIL L1"].seen_by == 2


def test_two_models_of_which_one_has_samples_keep_those():
    whole = segmentation((PROSTATE,), (1, GLAND))
    gland = sampled(whole, "folds", ("fold 0", whole), ("fold 1", whole))
    found = gland_with_lesions(gland, segmentation((DIL,), (2, INNER)), Watcher())
    assert found.sampled_by == "folds"
    rows = {row.id: row for row in measure(found)}
    assert rows["Prostate"].samples == 2 and rows["DIL"].samples is None
