# SPDX-License-Identifier: Apache-2.0
"""Resampling on the device gives what resampling through images gives."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid, resampled_grid
from ProstateXferLib.images.resample_torch import resample_channels


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("spacing_xyz", [(0.6, 1.3, 2.0), (1.7, 0.9, 4.1)])
def test_channels_and_images_agree_up_to_the_rim(interpolation, spacing_xyz, oblique_direction):
    grid = Grid((13, 11, 7), (1.0, 1.1, 3.0), (5, -4, 3), oblique_direction)
    new = resampled_grid(grid, spacing_xyz)
    channels = np.random.default_rng(0).normal(size=(2, *grid.shape_zyx))
    resampled = resample_channels(torch.from_numpy(channels), new.shape_zyx, interpolation=interpolation)
    for channel, result in zip(channels, resampled.numpy(), strict=True):
        truth = sitk.GetArrayFromImage(resample_to_grid(grid.image(channel), new, interpolation=interpolation))
        assert np.allclose(result, truth, atol=1e-6)


def test_an_unchanged_shape_returns_the_same_tensor():
    channels = torch.zeros(1, 3, 4, 5)
    assert resample_channels(channels, (3, 4, 5)) is channels


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ProstateXferError, match="linear, nearest"):
        resample_channels(torch.zeros(1, 2, 2, 2), (3, 3, 3), interpolation="cubic")
