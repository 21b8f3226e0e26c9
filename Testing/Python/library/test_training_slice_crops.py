# SPDX-License-Identifier: Apache-2.0
"""Crops of slices: labels that follow the image, intensities that stay finite, lesions painted where lesions lie."""

import math

import numpy as np
import pytest
import torch

from ProstateXferLib.training.augmentation.painted_lesions import LesionPainter, paint_lesion
from ProstateXferLib.training.augmentation.slice_crops import (
    CropOptions,
    blur,
    random_crop_grid,
    random_intensity,
    sample,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_without_randomness_a_crop_is_the_image_around_its_centre():
    options = CropOptions(size=16, rotation_deg=0, scale=(1.0, 1.0), shift=0, elastic_px=0, flip=False)
    image = torch.randn(1, 40, 50, generator=seeded())
    grid = random_crop_grid((40, 50), (19.5, 29.5), options, seeded())
    assert torch.allclose(sample(image, grid), image[:, 12:28, 22:38], atol=1e-4)


@pytest.mark.parametrize("angle_deg", [15.0, 40.0])
def test_rotation_and_scaling_stay_within_their_limits(angle_deg):
    options = CropOptions(size=16, rotation_deg=angle_deg, scale=(0.5, 2.0), shift=3, elastic_px=0, flip=False)
    angles, zooms, shifts = [], [], []
    for seed in range(200):
        grid = random_crop_grid((100, 100), (50, 50), options, seeded(seed))
        pixels = ((grid + 1) * 100 - 1) / 2  # x, y
        step = pixels[0, 1] - pixels[0, 0]
        angles.append(math.degrees(math.atan2(step[1], step[0])))
        zooms.append(1 / float(step.norm()))
        shifts.append((pixels.mean((0, 1)) - 50).abs().max().item())
    assert angle_deg * 0.9 < max(map(abs, angles)) <= angle_deg + 1e-3
    assert 0.5 - 1e-4 <= min(zooms) < 0.6 < 1.7 < max(zooms) <= 2.0 + 1e-4
    assert max(shifts) <= 3 + 1e-3


def test_intensity_changes_leave_the_crop_finite_and_in_its_shape():
    for seed in range(60):
        image = torch.randn(1, 48, 48, generator=seeded(seed))
        changed = random_intensity(image, seeded(seed))
        assert changed.shape == image.shape
        assert torch.isfinite(changed).all()
    constant = torch.zeros(1, 32, 32)
    assert all(torch.isfinite(random_intensity(constant, seeded(seed))).all() for seed in range(40))


def test_blurring_keeps_the_mean_of_a_plane_and_has_the_width_asked_for():
    assert torch.allclose(blur(torch.full((1, 20, 20), 3.0), 1.2), torch.full((1, 20, 20), 3.0), atol=1e-5)
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    spread = blur(point, 2.0)[0].sum(0)
    variance = (spread * (torch.arange(41) - 20.0) ** 2).sum() / spread.sum()
    assert float(variance) == pytest.approx(4.0, rel=0.1)  # cut at three sigma


def gland_disc(radius, size=96):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (y - 50) ** 2 + (x - 44) ** 2 < radius**2


def test_painted_lesions_lie_in_the_gland_and_are_darker_than_it():
    gland = gland_disc(25)
    image = torch.randn(1, 96, 96, generator=seeded(1)) * 0.3
    image[0][gland] += 1.0
    darker = []
    for seed in range(60):
        changed, lesion = paint_lesion(image, gland, 1.0, seeded(seed))
        if not lesion.any():
            assert torch.equal(changed, image)
            continue
        assert not (lesion & ~gland).any()
        assert lesion.sum() >= 20
        darker.append(float((image - changed)[0][lesion].mean()))
        assert changed[0][lesion].mean() < changed[0][gland & ~lesion].mean()
        change = (changed - image)[0].abs()
        assert not change[blur(gland[None].float(), 1.0)[0] == 0].any()  # outside the gland, but for its soft rim
        far = blur(lesion[None].float(), 4.0)[0] == 0
        assert change[far & gland].sum() < 0.02 * change[lesion].sum()
    assert len(darker) > 50
    assert min(darker) > 0  # by how much is drawn: 0.6 to 1 of the way to the gland's darkest tenth or below
    assert np.mean(darker) > 0.3


def test_a_gland_that_the_slice_only_grazes_gets_no_lesion():
    gland, image = gland_disc(7), torch.randn(1, 96, 96, generator=seeded())
    for seed in range(20):
        changed, lesion = paint_lesion(image, gland, 1.0, seeded(seed))
        assert torch.equal(changed, image)
        assert not lesion.any()


def test_a_lesion_has_the_size_in_millimetres_whatever_the_pixels():
    areas = {}
    for spacing, radius, size in ((1.0, 25, 96), (0.5, 50, 192)):
        gland = gland_disc(radius, size)
        image = torch.randn(1, size, size, generator=seeded(1))
        found = [paint_lesion(image, gland, spacing, seeded(seed))[1].sum() * spacing**2 for seed in range(80)]
        areas[spacing] = float(torch.stack(found).float().mean())
    assert areas[0.5] == pytest.approx(areas[1.0], rel=0.25)


def painted(known, *, share=1.0, count=20):
    """What the painter makes of `count` samples with a gland of 1000 pixels."""
    painter = LesionPainter(lesion=(1, 2), gland=(0, (1, 2)), share=share, spacing_mm=1.0)
    sample = {
        "image": torch.randn(1, 96, 96, generator=seeded(1)),
        "labels": gland_disc(25).long(),
        "known": torch.tensor(known),
    }
    return sample, [painter(dict(sample), seeded(seed)) for seed in range(count)]


def test_what_was_looked_for_is_not_painted_and_neither_is_what_has_no_gland():
    for known in ([True, True], [False, False]):
        sample, results = painted(known)
        for result in results:
            assert all(torch.equal(result[key], sample[key]) for key in sample)


def test_where_nobody_looked_a_share_gets_a_lesion_and_all_count_as_looked_at():
    sample, results = painted([True, False], share=0.5, count=60)
    lesions = [bool((result["labels"] == 2).any()) for result in results]
    assert all(result["known"].tolist() == [True, True] for result in results)
    assert sample["known"].tolist() == [True, False]  # the sample that was given stays as it is
    assert 0.25 < np.mean(lesions) < 0.75
    for result, lesion in zip(results, lesions, strict=True):
        assert lesion != torch.equal(result["image"], sample["image"])
        assert torch.equal(result["labels"] > 0, sample["labels"] > 0)
