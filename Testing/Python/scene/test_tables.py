# SPDX-License-Identifier: Apache-2.0
"""Measurements in a table node: the same numbers, with their units, and nothing where there is nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import BLADDER, DIL, PROSTATE
from ProstateXferLib.metrics.measure import measure
from ProstateXferSlicer.scene.tables import readTable, volumesChart, writeTable

_NAMES = {s.value: s.name for s in (PROSTATE, DIL, BLADDER)} | {9: "Näme"}


def _labels(lesions=2) -> sitk.Image:
    voxels = np.zeros((20, 30, 30), np.uint8)
    voxels[4:14, 5:20, 5:20] = PROSTATE.value
    voxels[5:9, 6:10, 6:10] = DIL.value
    if lesions > 1:
        voxels[11:13, 15:17, 15:17] = DIL.value
    voxels[15:20, 8:15, 8:15] = BLADDER.value
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-20.0, 10.0, 5.0))
    return image


@pytest.fixture
def measurements():
    return measure(_labels(), names=_NAMES)


@pytest.fixture
def table(scene, measurements):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", "Maße größer")
    writeTable(measurements, node)
    return node


def test_every_row_reads_back_as_it_was_measured(table, measurements):
    rows = readTable(table)

    assert [row.id for row in rows] == ["Prostate", "DIL", "DIL L1", "DIL L2", "Bladder", "Näme"]
    for row, m in zip(rows, measurements, strict=True):
        assert row.volumeCm3 == m.volume_cm3
        assert row.centroidRas == m.centroid_ras
        assert row.extentMm == m.extent_mm
        assert row.offsetFromGlandMm == m.offset_from_gland_mm
        assert row.touchesBorder == m.touches_border


def test_an_offset_is_told_in_slicers_directions(table, measurements):
    left, posterior, superior = measurements[2].offset_from_gland_lps

    assert readTable(table)[2].offsetFromGlandRas == (-left, -posterior, superior)


def test_what_does_not_exist_is_missing_and_not_zero(table):
    rows = {row.id: row for row in readTable(table)}

    absent = rows["Näme"]
    assert absent.volumeCm3 == 0
    assert (absent.centroidRas, absent.extentMm, absent.maxDiameterMm, absent.touchesBorder) == (None,) * 4
    assert rows["Prostate"].offsetFromGlandRas is None
    assert rows["Prostate"].dice is None
    column = table.GetTable().GetColumnByName("centroid_r_mm")
    assert math.isnan(column.GetValue(5))


def test_numbers_that_would_mislead_are_left_out_as_in_the_report(table):
    rows = {row.id: row for row in readTable(table)}

    assert rows["DIL"].maxDiameterMm is None  # from one lesion to the other
    assert rows["DIL L1"].maxDiameterMm > 0
    assert rows["Bladder"].shareOfGlandPercent is None
    assert rows["Prostate"].shareOfGlandPercent == 100


def test_the_diameter_of_a_single_lesion_is_that_of_the_whole(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode")
    writeTable(measure(_labels(lesions=1), names=_NAMES), node)

    rows = {row.id: row for row in readTable(node)}

    assert rows["DIL"].maxDiameterMm == rows["DIL L1"].maxDiameterMm > 0


def test_touching_the_edge_is_said_in_words(table):
    texts = {table.GetCellText(row, 0): table.GetCellText(row, _column(table, "touches_border")) for row in range(6)}

    assert texts["Prostate"] == "no"
    assert texts["Bladder"] == "yes"
    assert texts["Näme"] == ""


def _column(table, name: str) -> int:
    return [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())].index(name)


def test_columns_have_titles_units_and_descriptions(table):
    assert table.GetUseColumnTitleAsColumnHeader()
    assert table.GetColumnTitle("volume_cm3") == "Volume (cm³)"
    assert table.GetColumnUnitLabel("volume_cm3") == "cm³"
    assert table.GetColumnTitle("centroid_a_mm") == "Centroid A (mm)"
    assert table.GetColumnUnitLabel("share_of_gland_percent") == "%"
    for index in range(table.GetNumberOfColumns()):
        name = table.GetColumnName(index)
        assert table.GetColumnTitle(name)
        # Slicer loses text in double quotes when it reads a saved table.
        assert table.GetColumnDescription(name)
        assert '"' not in table.GetColumnDescription(name)


def test_a_comparison_has_its_columns_and_a_table_without_one_has_not(scene, table):
    reference = _labels(lesions=1)
    measured = measure(_labels(), names=_NAMES, reference=reference)
    compared = scene.AddNewNodeByClass("vtkMRMLTableNode")
    writeTable(measured, compared)

    row = {row.id: row for row in readTable(compared)}["DIL"]

    assert row.dice == measured[1].dice
    assert row.volumeDifferenceCm3 == measured[1].volume_difference_cm3
    assert row.centroidDistanceMm == measured[1].centroid_distance_mm
    assert table.GetTable().GetColumnByName("dice") is None


def test_writing_again_replaces_rows_and_columns(table, scene):
    writeTable(measure(_labels(), names=_NAMES, reference=_labels()), table)
    writeTable(measure(_labels(lesions=1), names={1: "Prostate", 2: "DIL", 5: "Bladder"}), table)

    assert [row.id for row in readTable(table)] == ["Prostate", "DIL", "DIL L1", "Bladder"]
    assert table.GetTable().GetColumnByName("dice") is None
    assert table.GetColumnTitle("volume_cm3") == "Volume (cm³)"


def test_nothing_measured_is_a_table_without_rows(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode")
    writeTable([], node)

    assert readTable(node) == []


def test_a_foreign_table_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", "fremd")

    with pytest.raises(ProstateXferError, match="'fremd' holds no measurements"):
        readTable(node)


def test_a_saved_scene_keeps_the_table(table, scene, tmp_path):
    before = readTable(table)
    chart = volumesChart(table)
    assert chart.GetName() == "Maße größer volumes"

    assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "s.mrb"), True)

    back = scene.GetFirstNodeByClass("vtkMRMLTableNode")
    after = readTable(back)
    assert [row.id for row in after] == [row.id for row in before]
    for new, old in zip(after, before, strict=True):
        assert new.volumeCm3 == pytest.approx(old.volumeCm3, rel=1e-5)
        for name in ("centroidRas", "extentMm", "maxDiameterMm", "offsetFromGlandRas", "shareOfGlandPercent", "dice"):
            value = getattr(old, name)
            assert getattr(new, name) == (None if value is None else pytest.approx(value, rel=1e-5)), name
        assert new.touchesBorder == old.touchesBorder
    assert back.GetColumnTitle("volume_cm3") == "Volume (cm³)"
    assert back.GetColumnUnitLabel("volume_cm3") == "cm³"
    assert volumesChart(back) is scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")


def test_the_chart_shows_the_volumes_with_names_and_units(table):
    chart = volumesChart(table)

    series = chart.GetNthPlotSeriesNode(0)
    assert chart.GetNumberOfPlotSeriesNodes() == 1
    assert series.GetTableNode() is table
    assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeBar
    for name in (series.GetYColumnName(), series.GetLabelColumnName()):
        assert table.GetTable().GetColumnByName(name) is not None
    assert chart.GetYAxisTitle() == "Volume (cm³)"


def test_a_table_has_one_chart(table, scene):
    assert volumesChart(table) is volumesChart(table)
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 1

    other = scene.AddNewNodeByClass("vtkMRMLTableNode", "other")
    writeTable([], other)

    assert volumesChart(other) is not volumesChart(table)


def test_what_samples_say_has_columns_only_where_there_are_samples(scene, table, measurements):
    names = ("volume_low_cm3", "volume_high_cm3", "samples", "seen_by")
    assert all(table.GetTable().GetColumnByName(name) is None for name in names)
    told = [replace(measurements[0], volume_low_cm3=1.5, volume_high_cm3=2.25, samples=5), *measurements[1:]]
    told[1] = replace(measurements[1], volume_low_cm3=0.0, volume_high_cm3=0.5, samples=5, seen_by=0)

    writeTable(told, table)

    gland, lesion, part, *_ = readTable(table)
    assert (gland.volumeLowCm3, gland.volumeHighCm3, gland.samples, gland.seenBy) == (1.5, 2.25, 5, None)
    assert (lesion.volumeLowCm3, lesion.samples, lesion.seenBy) == (0.0, 5, 0)
    assert part.samples is part.seenBy is part.volumeLowCm3 is None
    writeTable(measurements, table)
    assert all(table.GetTable().GetColumnByName(name) is None for name in names)
