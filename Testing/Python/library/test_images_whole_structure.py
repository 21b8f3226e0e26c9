# SPDX-License-Identifier: Apache-2.0
"""The prostate includes the lesions in it, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from ProstateXferLib.images.structures import BLADDER, DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.images.whole_structure import whole_structure_mask


@pytest.fixture
def labels() -> np.ndarray:
    """A prostate (z, y, x) of 5 x 6 x 6 voxels, not a lesion yet."""
    array = np.zeros((12, 14, 16), np.uint8)
    array[3:8, 4:10, 4:10] = PROSTATE.value
    return array


def test_a_lesion_inside_belongs_to_the_prostate(labels):
    whole = labels > 0
    labels[4:6, 5:8, 5:8] = DIL.value
    assert np.array_equal(whole_structure_mask(labels, PROSTATE, (PROSTATE, DIL)), whole)


def test_a_lesion_that_touches_at_a_corner_belongs_to_it_as_a_whole(labels):
    labels[8:10, 10:12, 10:12] = DIL.value
    assert whole_structure_mask(labels, PROSTATE, (PROSTATE, DIL)).sum() == 5 * 6 * 6 + 8


def test_a_lesion_one_voxel_away_does_not(labels):
    labels[9:11, 11:13, 11:13] = DIL.value
    assert whole_structure_mask(labels, PROSTATE, (PROSTATE, DIL)).sum() == 5 * 6 * 6


def test_each_lesion_is_judged_alone(labels):
    labels[4, 5, 5] = DIL.value
    labels[0, 0, 0] = DIL.value
    mask = whole_structure_mask(labels, PROSTATE, (PROSTATE, DIL))
    assert mask[4, 5, 5] and not mask[0, 0, 0]


def test_without_any_prostate_a_lesion_makes_none(labels):
    labels[:] = 0
    labels[4, 5, 5] = DIL.value
    assert not whole_structure_mask(labels, PROSTATE, (PROSTATE, DIL)).any()


def test_zones_make_up_the_prostate_even_where_the_model_has_no_label_for_it(labels):
    whole = labels > 0
    peripheral, transition, lesion = (
        s.with_value(v) for v, s in ((1, PERIPHERAL_ZONE), (2, TRANSITION_ZONE), (3, DIL))
    )
    labels[3:8, 4:7, 4:10] = 2
    labels[4:6, 8:10, 5:8] = 3
    assert np.array_equal(whole_structure_mask(labels, PROSTATE, (peripheral, transition, lesion)), whole)


def test_a_part_of_a_part_belongs_to_the_whole(labels):
    whole = labels > 0
    lesion = replace(DIL, part_of=PERIPHERAL_ZONE.name)
    labels[3:8, 7:10, 4:10] = PERIPHERAL_ZONE.value
    labels[4:6, 8:10, 5:8] = lesion.value
    structures = (PROSTATE, PERIPHERAL_ZONE, lesion)
    assert np.array_equal(whole_structure_mask(labels, PROSTATE, structures), whole)
    assert whole_structure_mask(labels, PERIPHERAL_ZONE, structures).sum() == 5 * 3 * 6


def test_parts_in_a_circle_come_to_an_end(labels):
    circle = (replace(PROSTATE, part_of="DIL"), DIL)
    assert np.array_equal(whole_structure_mask(labels, circle[0], circle), labels > 0)


def test_other_structures_are_not_touched(labels):
    labels[0:3, 4:10, 4:10] = BLADDER.value
    structures = (PROSTATE, DIL, BLADDER)
    assert np.array_equal(whole_structure_mask(labels, BLADDER, structures), labels == BLADDER.value)
    assert np.array_equal(whole_structure_mask(labels, PROSTATE, structures), labels == PROSTATE.value)
