# SPDX-License-Identifier: Apache-2.0
"""What nnU-Net's plans may ask for, in the Segmenter: transposes, regions, channels, readers, normalisations."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.checkpoints.nnunet_plan import ChannelNormalization
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.nnunet.crop import crop_to_nonzero
from ProstateXferLib.pipelines.nnunet.normalization import normalize_in_place
from ProstateXferLib.pipelines.nnunet.resampling import separate_axis
from ProstateXferLib.pipelines.segmenter import Segmenter


def noise_image(shape_zyx, spacing_zyx=(1.0, 1.0, 1.0), seed=0):
    values = np.random.default_rng(seed).normal(size=shape_zyx).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing_zyx[::-1])
    return image


def predicted(model, image, **options):
    """(labels, {structure: probability}) as arrays."""
    found = Segmenter(model, device="cpu", **options).predict(image)
    maps = {name: sitk.GetArrayFromImage(volume) for name, volume in found.probabilities.items()}
    return sitk.GetArrayFromImage(found.labels), maps


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_a_transposed_plan_sees_the_transposed_image(tmp_path, order):
    settings = configuration(spacing=[1.5, 1.0, 0.75], patch_size=[8, 16, 8])
    plain = write_folder(tmp_path / "plain", settings)
    turned = write_folder(tmp_path / "turned", settings, transpose_forward=list(order))
    spacing = (1.2, 0.8, 1.0)
    image = noise_image((9, 14, 12), spacing)
    array = np.ascontiguousarray(sitk.GetArrayFromImage(image).transpose(order))
    other = sitk.GetImageFromArray(array)
    other.SetSpacing([spacing[axis] for axis in order][::-1])
    (labels, maps), (expected, expected_maps) = predicted(turned, image), predicted(plain, other)
    back = np.argsort(order)
    assert len(np.unique(expected)) > 1
    assert np.abs(maps["Prostate"] - expected_maps["Prostate"].transpose(back)).max() < 1e-4
    assert np.mean(labels != expected.transpose(back)) < 0.002
    assert np.abs(maps["Prostate"] - predicted(plain, image)[1]["Prostate"]).max() > 1e-3


REGIONS = {"background": 0, "prostate": [1, 2], "lesion": 2}


@pytest.mark.parametrize(("order", "value_where_both"), [([1, 2], 2), ([2, 1], 1)])
def test_regions_overlap_and_later_ones_are_written_over_earlier_ones(tmp_path, order, value_where_both):
    weights = random_weights(classes=2, seed=2)
    dataset = {"labels": REGIONS, "regions_class_order": order}
    folder = write_folder(tmp_path / "f", weights=weights, dataset=dataset)
    image = noise_image((8, 8, 8))
    labels, maps = predicted(folder, image)
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    normal = torch.from_numpy(((values - values.mean()) / values.std()).astype(np.float32))
    with torch.inference_mode():  # one window holds the whole image
        logits = load_checkpoint(folder).build()(normal[None, None])[0]
    both = torch.sigmoid(logits).numpy()
    assert np.abs(np.stack([maps["Prostate"], maps["DIL"]]) - both).max() < 1e-5
    expected = np.where(both[1] > 0.5, order[1], np.where(both[0] > 0.5, order[0], 0))
    assert np.array_equal(labels, expected)
    overlap = (both > 0.5).all(axis=0)
    assert overlap.any() and set(labels[overlap]) == {value_where_both}


def test_regions_and_classes_of_the_same_structures_are_not_averaged(tmp_path):
    dataset = {"labels": REGIONS, "regions_class_order": [1, 2]}
    regions = write_folder(tmp_path / "r", weights=random_weights(classes=2), dataset=dataset)
    with pytest.raises(ProstateXferError, match="only one of them as a region"):
        Segmenter([regions, write_folder(tmp_path / "c")], device="cpu")


def test_every_channel_follows_its_own_rule_and_place(tmp_path):
    properties = {"1": {"percentile_00_5": -1.0, "percentile_99_5": 1.0, "mean": 0.25, "std": 2.0}}
    settings = configuration(channels=2, normalization_schemes=["NoNormalization", "CTNormalization"])
    folder = write_folder(
        tmp_path / "f",
        settings,
        weights=random_weights(channels=2, seed=1),
        dataset={"channel_names": {"1": "ADC", "0": "T2W"}},
        foreground_intensity_properties_per_channel=properties,
    )
    images = {"ADC": noise_image((8, 8, 8), seed=1), "T2w": noise_image((8, 8, 8), seed=2)}
    _, maps = predicted(folder, images)
    t2w, adc = (sitk.GetArrayFromImage(images[name]) for name in ("T2w", "ADC"))
    channels = np.stack([t2w, (np.clip(adc, -1, 1) - 0.25) / 2])
    with torch.inference_mode():
        expected = torch.softmax(load_checkpoint(folder).build()(torch.from_numpy(channels)[None])[0], dim=0)
    assert np.abs(maps["DIL"] - expected[2].numpy()).max() < 1e-5


def test_channels_on_different_grids_are_brought_together_and_that_is_told(tmp_path):
    settings = configuration(channels=2)
    dataset = {"channel_names": {"0": "T2", "1": "ADC"}}
    folder = write_folder(tmp_path / "f", settings, weights=random_weights(channels=2), dataset=dataset)
    images = {"T2w": noise_image((12, 16, 16)), "ADC": noise_image((8, 8, 8), (1.5, 2.0, 2.0), seed=1)}
    images["ADC"].SetOrigin((0.5, 0.5, 0.25))  # the outer edges of both are the same
    with pytest.warns(UserWarning, match="resampled onto the grid"):
        found = Segmenter(folder, device="cpu").predict(images)
    assert "resampled onto the grid of the first" in found.provenance.warnings[0]
    same = images | {"ADC": sitk.Resample(images["ADC"], images["T2w"], sitk.Transform(), sitk.sitkLinear, 0.0)}
    expected = predicted(folder, same)[1]["DIL"]
    inner = (slice(1, -1),) * 3  # at the edge it is a convention what lies half a voxel outside
    difference = sitk.GetArrayFromImage(found.probabilities["DIL"]) - expected
    assert np.abs(difference[inner]).max() < 0.1 and np.abs(difference[inner]).mean() < 0.01
    images["ADC"].SetOrigin((500.0, 0.0, 0.0))
    with pytest.raises(ProstateXferError, match="lies elsewhere"):
        Segmenter(folder, device="cpu").predict(images)


def test_a_reader_that_reorients_gives_the_same_however_the_image_is_stored(tmp_path):
    folder = write_folder(tmp_path / "f", image_reader_writer="NibabelIOWithReorient")
    as_stored = write_folder(tmp_path / "g")
    ras = noise_image((10, 12, 9), (1.5, 1.0, 1.0))
    ras.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    expected, stored = predicted(folder, ras)[0], predicted(as_stored, ras)[0]
    assert np.array_equal(expected, stored) and len(np.unique(expected)) > 1
    for order in ("LPS", "SAL", "PIR"):
        other = sitk.DICOMOrient(ras, order)
        labels = Segmenter(folder, device="cpu").predict(other).labels
        assert labels.GetDirection() == other.GetDirection() and labels.GetSize() == other.GetSize()
        assert np.array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(labels, "RAS")), expected)


def test_a_network_of_meddinov3_runs_as_its_own_nnunet_would_run_it(tmp_path, random_network):
    network = random_network("mr_dinov3")
    settings = configuration(2, patch_size=[32, 48])
    folder = write_folder(tmp_path / "f", settings, weights=network.state_dict(), name="2d", mirror_axes=(0, 1))
    image = noise_image((2, 32, 48), (3.0, 1.0, 1.0))
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    slices = torch.from_numpy(((values - values.mean()) / values.std()).astype(np.float32))[:, None]
    with torch.inference_mode():
        expected = torch.softmax(network(slices), dim=1)
        turned = [network(slices.flip(axes)).flip(axes) if axes else network(slices) for axes in ((), 2, 3, (2, 3))]
    assert np.abs(predicted(folder, image)[1]["Prostate"] - expected[:, 1].numpy()).max() < 1e-4
    mirrored = torch.softmax(torch.stack(turned).mean(dim=0), dim=1)
    assert np.abs(predicted(folder, image, tta=True)[1]["Prostate"] - mirrored[:, 1].numpy()).max() < 1e-4


def test_outside_the_nonzero_region_there_is_background(tmp_path):
    image = noise_image((8, 8, 8))
    array = sitk.GetArrayFromImage(image)
    array[:2], array[..., 6:] = 0, 0
    labels, maps = predicted(write_folder(tmp_path / "f"), sitk.GetImageFromArray(array))
    assert not labels[:2].any() and not labels[..., 6:].any() and labels.any()
    assert not maps["Prostate"][:2].any() and maps["Prostate"][2:, :, :6].all()


def test_holes_in_the_image_belong_to_it():
    volume = np.zeros((1, 7, 7, 7), dtype=np.float32)
    volume[0, 1:6, 1:6, 1:6] = 5
    volume[0, 3, 3, 3] = 0
    cropped, crop = crop_to_nonzero(volume)
    assert cropped.shape == (1, 5, 5, 5) and crop.inside.all()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (ChannelNormalization("zscore"), lambda v, inside: (v - v.mean()) / v.std()),
        (
            ChannelNormalization("zscore", use_mask=True),
            lambda v, inside: np.where(inside, (v - v[inside].mean()) / v[inside].std(), v),
        ),
        (
            ChannelNormalization("ct", lower=-50.0, upper=80.0, mean=20.0, deviation=40.0),
            lambda v, inside: (np.clip(v, -50, 80) - 20) / 40,
        ),
        (ChannelNormalization("nonorm"), lambda v, inside: v),
        (ChannelNormalization("rescale_to_0_1"), lambda v, inside: (v - v.min()) / (v.max() - v.min())),
    ],
)
def test_normalisations_are_what_their_names_say(rule, expected):
    rng = np.random.default_rng(0)
    volume, inside = rng.normal(10, 60, size=(6, 7, 8)), rng.random((6, 7, 8)) > 0.3
    scaled = volume.astype(np.float32)
    normalize_in_place(scaled, rule, inside)
    assert scaled.dtype == np.float32 and np.abs(scaled - expected(volume, inside)).max() < 1e-4


def test_rgb_values_are_divided_and_others_refused():
    volume, inside = np.array([[[0.0, 51.0, 255.0]]], dtype=np.float32), np.ones((1, 1, 3), dtype=bool)
    normalize_in_place(volume, ChannelNormalization("rgb_to_0_1"), inside)
    assert volume.ravel().tolist() == pytest.approx([0, 0.2, 1])
    with pytest.raises(ProstateXferError, match="from 0 to 255"):
        normalize_in_place(volume * 300, ChannelNormalization("rgb_to_0_1"), inside)


@pytest.mark.parametrize(
    ("spacing", "target", "forced", "axis"),
    [
        ((3.1, 1, 1), (1, 1, 1), None, 0),
        ((3.0, 1, 1), (1, 1, 1), None, None),
        ((1, 1, 1), (1, 4, 1), None, 1),
        ((4, 4, 1), (1, 1, 1), None, None),
        ((4, 1, 1), (1, 1, 1), False, None),
        ((1, 1, 2), (1, 1, 1), True, 2),
    ],
)
def test_slices_are_kept_apart_where_one_axis_is_much_coarser(spacing, target, forced, axis):
    assert separate_axis(spacing, target, forced) == axis


def test_another_way_of_adding_up_is_refused(tmp_path):
    with pytest.raises(ProstateXferError, match="fp32, fp16"):
        Segmenter(write_folder(tmp_path / "f"), device="cpu", accumulate="bf16")
