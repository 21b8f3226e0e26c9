# SPDX-License-Identifier: Apache-2.0
"""Components are numbered by size, joined over corners, and the same whichever library finds them."""

import sys
import types
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from scipy import ndimage

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import components_by_volume


def test_the_largest_component_is_number_one():
    mask = np.zeros((4, 10, 10), dtype=bool)
    mask[0, 0, 0:2] = True
    mask[2:4, 5:9, 5:9] = True
    mask[0, 9, 0:3] = True
    labels, count = components_by_volume(mask)
    assert count == 3
    assert [labels[3, 6, 6], labels[0, 9, 1], labels[0, 0, 1]] == [1, 2, 3]
    assert np.array_equal(labels > 0, mask)


def test_voxels_that_meet_at_a_corner_are_one_component():
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert components_by_volume(mask)[1] == 1


def test_equal_components_are_numbered_in_the_order_of_the_array():
    mask = np.zeros((3, 1, 5), dtype=bool)
    mask[2, 0, 0] = mask[0, 0, 4] = mask[0, 0, 0] = True
    labels, _ = components_by_volume(mask)
    assert [labels[0, 0, 0], labels[0, 0, 4], labels[2, 0, 0]] == [1, 2, 3]


def test_an_empty_mask_has_no_component():
    labels, count = components_by_volume(np.zeros((2, 3, 4)))
    assert count == 0
    assert not labels.any()


def test_numbers_do_not_depend_on_the_library(monkeypatch):
    mask = np.random.default_rng(1).random((6, 20, 20)) < 0.04
    by_scipy = components_by_volume(mask)

    def numbered_backwards(array, connectivity):
        assert connectivity == 26
        labels, count = ndimage.label(array, structure=np.ones((3, 3, 3)))
        return np.where(labels > 0, count + 1 - labels, 0).astype(np.uint16)

    cc3d = types.ModuleType("cc3d")
    cc3d.connected_components = numbered_backwards
    cc3d.__spec__ = ModuleSpec("cc3d", loader=None)
    monkeypatch.setitem(sys.modules, "cc3d", cc3d)
    by_cc3d = components_by_volume(mask)
    assert by_cc3d[1] == by_scipy[1] > 5
    assert np.array_equal(by_cc3d[0], by_scipy[0])


def test_a_slice_is_no_volume():
    with pytest.raises(ProstateXferError, match="need a 3-D mask"):
        components_by_volume(np.ones((4, 4)))
