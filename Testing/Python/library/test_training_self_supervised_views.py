# SPDX-License-Identifier: Apache-2.0
"""Crops of unlabelled slices and which of their patches are hidden."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.augmentation import slice_intensity
from ProstateXferLib.training.augmentation.block_masks import block_mask, masked_counts
from ProstateXferLib.training.augmentation.views import CropSizes, ViewOptions, random_box, slice_views
from ProstateXferLib.training.cache.prepared import prepared_cases
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.sampling.slice_views import MaskOptions, UnlabelledCase, ViewSamples
from ProstateXferLib.training.tasks.self_supervision import slice_preprocessing

SIZES = CropSizes(large=64, small=32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_slice(rows=80, columns=96, seed=0):
    """A slice without fine detail, so that it looks the same at two resolutions."""
    coarse = torch.randn(1, 1, 6, 7, generator=generator(seed))
    return F.interpolate(coarse, size=(rows, columns), mode="bicubic", align_corners=True)[0, 0]


# One scale for all slices


def test_a_standardised_slice_has_mean_zero_and_deviation_one():
    pixels = slice_intensity.standardised(smooth_slice() * 40 + 300, clamp_percentiles=True)
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-5) and float(pixels.std()) == pytest.approx(1, abs=1e-5)


def test_outliers_are_clamped_to_the_percentiles_as_numpy_has_them():
    pixels = torch.randn(50, 60, generator=generator())
    pixels[0, :10] = 1e4
    clamped = np.clip(pixels.numpy(), *np.percentile(pixels.numpy(), (0.5, 99.5)))
    expected = (clamped - clamped.mean()) / clamped.std(ddof=1)
    np.testing.assert_allclose(slice_intensity.standardised(pixels, clamp_percentiles=True), expected, atol=1e-4)


def test_a_flat_slice_becomes_zeros():
    assert not slice_intensity.standardised(torch.full((8, 8), 5.0), clamp_percentiles=True).any()


@pytest.mark.parametrize(("sequence", "clamps"), [("T2w", True), ("CT", False)])
def test_slices_from_the_cache_are_those_of_the_raw_image(tmp_path, sequence, clamps):
    """The cache scales whole volumes; per slice nothing of that is left."""
    values = np.random.default_rng(0).normal(0, 700, (3, 20, 24)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    sitk.WriteImage(image, str(tmp_path / "image.nii.gz"))
    case = Case("one", "one", {sequence: tmp_path / "image.nii.gz"})
    (prepared,) = prepared_cases(
        [case],
        slice_preprocessing(sequence),
        (),
        sequences=(sequence,),
        folder=tmp_path / "cache",
        progress=SilentProgress(),
    )
    # The file's axes run to Left, Posterior and Superior, as the network's do.
    raw = torch.from_numpy(values[1])
    raw = raw if clamps else raw.clamp(-1000, 1000)
    ours = UnlabelledCase(prepared, clamps).slice_at(1)
    torch.testing.assert_close(ours, slice_intensity.standardised(raw, clamp_percentiles=clamps), rtol=0, atol=1e-4)


# Random intensities, with MONAI as the reference


def test_blur_is_monais_away_from_the_border():
    from monai.transforms import GaussianSmooth

    pixels = smooth_slice() + 0.3 * torch.randn(80, 96, generator=generator(1))
    reference = torch.as_tensor(GaussianSmooth((0.6, 0.9))(pixels[None]))[0]
    ours = slice_intensity.smoothed(pixels, (0.6, 0.9))
    torch.testing.assert_close(ours[5:-5, 5:-5], reference[5:-5, 5:-5], rtol=0, atol=1e-4)
    assert float(ours.std()) < float(pixels.std())


def test_a_blurred_border_does_not_darken():
    assert torch.allclose(slice_intensity.smoothed(torch.full((9, 9), 2.0), (1.0, 1.0)), torch.tensor(2.0))


def test_contrast_is_monais():
    from monai.transforms import AdjustContrast

    reference = torch.as_tensor(AdjustContrast(1.3)(smooth_slice()[None]))[0]
    torch.testing.assert_close(slice_intensity.with_gamma(smooth_slice(), 1.3), reference, rtol=0, atol=1e-5)


def test_low_resolution_is_monais():
    from monai.transforms import RandSimulateLowResolution

    transform = RandSimulateLowResolution(prob=1.0, upsample_mode="bilinear", zoom_range=(0.7, 0.7))
    reference = torch.as_tensor(transform(smooth_slice()[None]))[0]
    torch.testing.assert_close(slice_intensity.coarsened(smooth_slice(), 0.7), reference, rtol=0, atol=1e-5)


def test_changes_come_as_often_as_they_should():
    """Nothing happens with 0.9 x 0.8 x 0.85 x 0.75 x 0.9 = 0.413 of the slices; five standard errors of 1000 draws."""
    pixels = smooth_slice(16, 16)
    left_alone = sum(torch.equal(slice_intensity.distorted(pixels, generator(seed)), pixels) for seed in range(1000))
    assert abs(left_alone / 1000 - 0.4131) < 5 * math.sqrt(0.4131 * 0.5869 / 1000)


# Crops


def test_crops_have_the_sizes_asked_for():
    views = slice_views(smooth_slice(), CropSizes(64, 32, gram=96), ViewOptions(small_count=5), generator())
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        "large": (2, 1, 64, 64), "small": (5, 1, 32, 32), "gram": (2, 1, 96, 96),
    }  # fmt: skip


def test_a_gram_crop_shows_the_same_place_undistorted():
    for seed in range(6):
        views = slice_views(smooth_slice(), CropSizes(64, 32, gram=128), ViewOptions(distort=False), generator(seed))
        small = F.interpolate(views["gram"], size=(64, 64), mode="bicubic", antialias=True)
        assert float((small - views["large"]).abs().max()) < 0.05
        assert not torch.equal(views["large"][0], views["large"][1])


def test_flips_mirror_the_crop_and_nothing_else():
    one, other = (
        slice_views(smooth_slice(), SIZES, ViewOptions(flip=flip, distort=False), generator(3)) for flip in (0.0, 1.0)
    )
    for name in ("large", "small"):
        torch.testing.assert_close(one[name], other[name].flip(-1), rtol=0, atol=1e-5)


def test_boxes_have_the_area_and_the_aspect_asked_for():
    for seed in range(200):
        top, left, rows, columns = random_box((320, 300), (0.05, 0.32), generator(seed))
        assert 0 <= top <= 320 - rows and 0 <= left <= 300 - columns
        assert 0.048 < rows * columns / (320 * 300) < 0.325 and 0.74 < columns / rows < 1.35


def test_a_long_slice_gives_its_middle():
    assert random_box((20, 200), (0.9, 1.0), generator()) == (0, 86, 20, 27)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (CropSizes, {"large": 100}),
        (CropSizes, {"small": 0}),
        (CropSizes, {"share": 0.0}),
        (ViewOptions, {"large_scale": (0.5, 0.4)}),
        (ViewOptions, {"small_count": 0}),
        (MaskOptions, {"ratio": (0.6, 0.5)}),
    ],
)
def test_senseless_options_are_refused(kind, wrong):
    with pytest.raises(ProstateXferError):
        kind(**wrong)


# Hidden patches


def test_a_mask_hides_exactly_as_many_patches_as_asked_for():
    for seed in range(100):
        count = seed % 49
        mask = block_mask(
            (7, 7), count, rectangles=random.Random(seed), singles=np.random.RandomState(seed), largest=24
        )
        assert mask.sum() == count


def test_half_of_the_crops_hide_evenly_more_patches():
    assert masked_counts(8, 100, share=0.5, ratio=(0.1, 0.5)) == [20, 30, 40, 50, 0, 0, 0, 0]
    assert masked_counts(1, 100, share=0.5, ratio=(0.1, 0.5)) == [0]


# Samples


@dataclass
class FakeCase:
    """Stands for an image; remembers which of its slices were asked for."""

    slices: int
    seen: list = field(default_factory=list)

    @property
    def prepared(self):
        return SimpleNamespace(shape_zyx=(self.slices, 80, 96))

    def slice_at(self, z):
        self.seen.append(z)
        return smooth_slice(seed=z)


def samples_of(*sources, sizes=(SIZES,), batch_size=4, seed=0):
    return ViewSamples(
        sources, sizes=sizes, views=ViewOptions(small_count=2), masks=MaskOptions(), batch_size=batch_size, seed=seed
    )


def test_a_sample_is_a_function_of_its_number():
    one, other = samples_of((1.0, [FakeCase(5)])), samples_of((1.0, [FakeCase(5)]))
    first = one[7]
    for number in (3, 9):
        other[number]
    again = other[7]
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["large"], one[8]["large"])
    assert not torch.equal(first["large"], samples_of((1.0, [FakeCase(5)]), seed=1)[7]["large"])


def test_every_slice_of_every_case_is_drawn():
    cases = [FakeCase(3), FakeCase(1), FakeCase(4)]
    samples = samples_of((1.0, cases))
    assert len(samples) == 8
    for number in range(120):
        samples[number]
    assert [sorted(set(case.seen)) for case in cases] == [[0, 1, 2], [0], [0, 1, 2, 3]]


def test_sources_are_drawn_by_weight_not_by_size():
    large, small = FakeCase(50), FakeCase(2)
    samples = samples_of((0.25, [large]), (0.75, [small]))
    for number in range(300):
        samples[number]
    # Five standard errors of 300 draws.
    assert abs(len(small.seen) / 300 - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 300)


def test_the_masks_of_a_batch_are_spread_over_its_crops():
    samples = samples_of((1.0, [FakeCase(5)]))
    orders = []
    for batch in range(6):
        masks = torch.stack([samples[4 * batch + i]["masks"] for i in range(4)])
        counts = masks.sum(-1).flatten().tolist()
        assert sorted(counts) == sorted(masked_counts(8, 16, share=0.5, ratio=(0.1, 0.5)))
        orders.append(tuple(counts))
    assert len(set(orders)) > 3


def test_a_batch_has_one_set_of_crop_sizes_and_batches_differ():
    sizes = (CropSizes(64, 32, share=0.5), CropSizes(32, 16, gram=64, share=0.5))
    samples = samples_of((1.0, [FakeCase(5)]), sizes=sizes)
    sides = [{samples[4 * batch + i]["large"].shape[-1] for i in range(4)} for batch in range(12)]
    assert all(len(side) == 1 for side in sides) and set().union(*sides) == {32, 64}


def test_no_slice_is_a_clear_error():
    with pytest.raises(ProstateXferError, match="no image to learn from"):
        samples_of((1.0, []))
