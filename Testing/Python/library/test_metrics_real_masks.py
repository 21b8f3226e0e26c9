# SPDX-License-Identifier: Apache-2.0
"""Measurements of expert and AI masks on real, oblique, anisotropic grids against SimpleITK's own statistics."""

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics import measure


def labels_of(case):
    """1 gland without lesion, 2 lesion, as a model labels them; the files' directions differ in the sixth digit."""
    gland, lesion = (sitk.ReadImage(str(case / f"{name}.nii.gz")) for name in ("gland", "lesion"))
    labels_zyx = np.where(sitk.GetArrayFromImage(lesion) > 0, 2, sitk.GetArrayFromImage(gland) > 0).astype(np.uint8)
    return Grid.of(gland).image(labels_zyx)


def simpleitk_statistics(mask):
    truth = sitk.LabelShapeStatisticsImageFilter()
    truth.Execute(mask)
    return truth


@pytest.mark.parametrize("number", range(0, 24, 3))
def test_every_value_simpleitk_knows_is_equal(real_data, number):
    case = sorted((real_data / "real" / "picai_masks").glob("*"))[number]
    labels = labels_of(case)
    gland, lesion, *components = measure(labels)

    whole = simpleitk_statistics(labels == 2)
    assert lesion.volume_cm3 == pytest.approx(whole.GetPhysicalSize(1) / 1000, rel=1e-6)
    assert lesion.centroid_lps == pytest.approx(whole.GetCentroid(1), abs=1e-6)

    parts = sitk.RelabelComponent(sitk.ConnectedComponent(labels == 2, True), sortByObjectSize=True)
    by_size = simpleitk_statistics(parts)
    assert len(components) == by_size.GetNumberOfLabels()
    sizes = [by_size.GetNumberOfPixels(number) for number in by_size.GetLabels()]
    assert [component.voxel_count for component in components] == sizes
    for number, component in enumerate(components, start=1):
        if sizes.count(sizes[number - 1]) == 1:  # SimpleITK's order of equal sizes is its own
            assert component.centroid_lps == pytest.approx(by_size.GetCentroid(number), abs=1e-6)

    # The gland is what is labelled gland and every lesion part that touches it.
    grown = sitk.BinaryDilate(labels == 1, (1, 1, 1), sitk.sitkBox)
    touching = np.unique(sitk.GetArrayFromImage(sitk.Mask(parts, grown)))
    inside = np.isin(sitk.GetArrayFromImage(parts), touching[touching > 0])
    expected = sitk.GetImageFromArray((inside | (sitk.GetArrayFromImage(labels) == 1)).astype(np.uint8))
    expected.CopyInformation(labels)
    truth = simpleitk_statistics(expected)
    assert gland.volume_cm3 == pytest.approx(truth.GetPhysicalSize(1) / 1000, rel=1e-6)
    assert gland.centroid_lps == pytest.approx(truth.GetCentroid(1), abs=1e-6)
    assert gland.max_diameter_mm >= max(gland.extent_mm[0] - 1, 20)
    assert lesion.share_of_gland == pytest.approx(lesion.volume_cm3 / gland.volume_cm3)


def test_two_readings_of_a_gland_are_compared(real_data):
    case = real_data / "real" / "prostate_t2w" / "prostatex_0000"
    one, two = (
        sitk.Cast(sitk.ReadImage(str(case / f"{name}.nii.gz")) > 0, sitk.sitkUInt8) for name in ("gland", "gland_alt")
    )
    (row,) = measure(one, reference=two)
    truth = sitk.LabelOverlapMeasuresImageFilter()
    truth.Execute(two, one)
    assert row.dice == pytest.approx(truth.GetDiceCoefficient(1), abs=1e-9)
    assert 0 < row.centroid_distance_mm < 5
