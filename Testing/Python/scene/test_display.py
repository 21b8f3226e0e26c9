# SPDX-License-Identifier: Apache-2.0
"""How result volumes look, and that they say what their numbers are."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.scene.display import CT_WINDOWS, showCtWindow, showDifference, showUncertainty
from ProstateXferSlicer.scene.volumes import volumeOfImage


def _volume(dtype=np.int16, name="CT", high=500):
    voxels = np.linspace(-high, high, 6 * 6 * 6).reshape(6, 6, 6).astype(dtype)
    return volumeOfImage(sitk.GetImageFromArray(voxels), name)


def _color(node, value) -> tuple[float, float, float]:
    """The colour a voxel of that value is shown in."""
    display = node.GetDisplayNode()
    low = display.GetLevel() - display.GetWindow() / 2
    colors = display.GetColorNode()
    rgba = [0.0] * 4
    colors.GetColor(round((value - low) / display.GetWindow() * (colors.GetNumberOfColors() - 1)), rgba)
    return tuple(rgba[:3])


@pytest.mark.parametrize(("window", "low", "high"), [("soft tissue", -160, 240), ("bone", -500, 1300)])
def test_a_ct_is_shown_in_the_window_of_that_name(scene, window, low, high):
    node = _volume()

    showCtWindow(node, window)

    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (low, high)
    assert not display.GetAutoWindowLevel()


def test_the_windows_are_those_of_the_reports(scene):
    figures = pytest.importorskip("ProstateXferLib.reports.figures", reason="matplotlib is not installed")

    in_slicer = {name: (level - width / 2, level + width / 2) for name, (width, level) in CT_WINDOWS.items()}

    assert in_slicer == figures.HU_WINDOWS


def test_an_unknown_window_is_refused(scene):
    with pytest.raises(ProstateXferError, match="'lung' is unknown; use one of soft tissue, bone"):
        showCtWindow(_volume(), "lung")


def test_a_ct_says_that_its_numbers_are_hounsfield_units(scene):
    node = _volume()
    showCtWindow(node)

    assert node.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert node.GetVoxelValueQuantity().GetCodeMeaning() == "Attenuation Coefficient"


def test_no_difference_is_white_too_high_is_red_too_low_is_blue(scene):
    node = _volume()
    showDifference(node)

    red, green, blue = _color(node, 200)
    assert red > 2 * max(green, blue)
    red, green, blue = _color(node, -200)
    assert blue > 2 * max(red, green)
    assert min(_color(node, 0)) > 0.9


def test_the_colours_of_a_difference_are_as_far_from_white_on_both_sides(scene):
    node = _volume()
    showDifference(node)

    brightness = [np.mean(_color(node, value)) for value in range(-200, 201, 10)]

    assert np.argmax(brightness) == len(brightness) // 2
    np.testing.assert_allclose(brightness, brightness[::-1], atol=0.1)


def test_the_map_of_uncertainty_lets_the_image_through_where_the_model_is_sure(scene):
    node = _volume(np.float32, "uncertainty", high=1)
    showUncertainty(node)

    display = node.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == pytest.approx(0.05)
    assert display.GetUpperThreshold() > 1.001
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    brightness = [np.mean(_color(node, value)) for value in np.linspace(0, 1, 20)]
    assert np.all(np.diff(brightness) > 0)


def test_each_colour_table_is_made_once(scene):
    for _ in range(2):
        showDifference(_volume())
        showUncertainty(_volume(np.float32, high=1))

    names = [node.GetName() for node in _own_colors(scene)]
    assert len(names) == 2
    assert all("ProstateXfer" in name for name in names)


def _own_colors(scene):
    nodes = slicer.util.getNodesByClass("vtkMRMLColorTableNode")
    return [node for node in nodes if node.GetAttribute("ProstateXferColors")]


def test_after_a_closed_scene_the_colours_are_made_anew(scene):
    showDifference(_volume())
    scene.Clear(False)
    node = _volume()

    showDifference(node)

    assert min(_color(node, 0)) > 0.9


def test_a_saved_scene_keeps_the_colours_and_uses_them_again(scene, tmp_path):
    showDifference(_volume())
    assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "s.mrb"), True)

    node = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    assert min(_color(node, 0)) > 0.9
    assert _color(node, 200)[0] > 2 * _color(node, 200)[2]
    assert node.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    showDifference(_volume(name="second"))
    assert len(_own_colors(scene)) == 1


def test_only_the_display_changes(scene):
    node = _volume()
    before = slicer.util.arrayFromVolume(node).copy()

    showDifference(node)
    showCtWindow(node, "bone")

    assert np.array_equal(slicer.util.arrayFromVolume(node), before)
