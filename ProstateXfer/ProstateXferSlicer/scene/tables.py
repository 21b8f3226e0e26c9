# SPDX-License-Identifier: Apache-2.0
"""Measurements as a table node: one row a structure or lesion part, numbers as numbers, missing values as NaN."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import slicer
import vtk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import PROSTATE
from ProstateXferLib.metrics.measurement import Measurement, Vector

_ID, _VOLUME, _TOUCHES = "id", "volume_cm3", "touches_border"
_YES_NO = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True)
class MeasurementRow:
    """One row of a table node; positions and offsets are RAS mm, None is a value that does not exist."""

    id: str
    volumeCm3: float
    centroidRas: Vector | None
    extentMm: Vector | None
    """Along the patient's L-R, A-P and S-I axes."""
    maxDiameterMm: float | None
    offsetFromGlandRas: Vector | None
    offsetFromGlandMm: float | None
    shareOfGlandPercent: float | None
    touchesBorder: bool | None
    dice: float | None
    volumeDifferenceCm3: float | None
    centroidDistanceMm: float | None
    volumeLowCm3: float | None
    volumeHighCm3: float | None
    samples: int | None
    seenBy: int | None


class _Column(NamedTuple):
    """`value` gives the cell for a measurement and its number of parts: a number, a text, a bool or None."""

    name: str
    title: str
    unit: str
    # Without double quotes: Slicer does not get them back from the file of a saved table.
    description: str
    value: Callable[[Measurement, int], Any]


def writeTable(measurements: Sequence[Measurement], node) -> None:
    """Replace whatever the table node holds.

    Columns of comparison are there when a measurement has a reference, columns of samples when a run had some.

    As in the library's reports, the diameter of a lesion in several parts and the share of what is no part of the
    gland are left out: a reader would take them for something else.
    """
    parts = Counter(m.label for m in measurements if m.component)
    columns = _COLUMNS + (_COMPARISON_COLUMNS if any(m.dice is not None for m in measurements) else ())
    columns += _SAMPLE_COLUMNS if any(m.samples for m in measurements) else ()
    wasModifying = node.StartModify()
    node.RemoveAllColumns()
    for column in columns:
        values = [column.value(m, 0 if m.component else parts[m.label]) for m in measurements]
        node.AddColumn(_array(column.name, values))
        node.SetColumnTitle(column.name, column.title)
        node.SetColumnDescription(column.name, column.description)
        if column.unit:
            node.SetColumnUnitLabel(column.name, column.unit)
        if column.name not in _TEXT_COLUMNS:
            # What a cell that is empty in the saved file becomes; the default is 0.
            node.SetColumnNullValue(column.name, "nan")
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.EndModify(wasModifying)


def readTable(node) -> list[MeasurementRow]:
    """The rows of a table that `writeTable` filled, also after the scene was saved (to six digits) and loaded again.

    Raises:
        ProstateXferError: the table is another one.
    """
    table = node.GetTable()
    if table.GetColumnByName(_ID) is None or table.GetColumnByName(_VOLUME) is None:
        raise ProstateXferError(f"The table '{node.GetName()}' holds no measurements; choose the one a run has made.")

    def number(row: int, name: str) -> float | None:
        column = table.GetColumnByName(name)
        value = math.nan if column is None else column.GetVariantValue(row).ToDouble()
        return None if math.isnan(value) else value

    def count(row: int, name: str) -> int | None:
        value = number(row, name)
        return None if value is None else round(value)

    def vector(row: int, pattern: str, axes: Sequence[str]) -> Vector | None:
        values = tuple(number(row, pattern.format(axis)) for axis in axes)
        return None if None in values else values

    def text(row: int, name: str) -> str:
        column = table.GetColumnByName(name)
        return "" if column is None else column.GetVariantValue(row).ToString()

    return [
        MeasurementRow(
            id=text(row, _ID),
            volumeCm3=number(row, _VOLUME) or 0.0,
            centroidRas=vector(row, "centroid_{}_mm", "ras"),
            extentMm=vector(row, "extent_{}_mm", ("lr", "ap", "si")),
            maxDiameterMm=number(row, "max_diameter_mm"),
            offsetFromGlandRas=vector(row, "offset_from_gland_{}_mm", "ras"),
            offsetFromGlandMm=number(row, "offset_from_gland_mm"),
            shareOfGlandPercent=number(row, "share_of_gland_percent"),
            touchesBorder={"yes": True, "no": False}.get(text(row, _TOUCHES)),
            dice=number(row, "dice"),
            volumeDifferenceCm3=number(row, "volume_difference_cm3"),
            centroidDistanceMm=number(row, "centroid_distance_mm"),
            volumeLowCm3=number(row, "volume_low_cm3"),
            volumeHighCm3=number(row, "volume_high_cm3"),
            samples=count(row, "samples"),
            seenBy=count(row, "seen_by"),
        )
        for row in range(table.GetNumberOfRows())
    ]


def volumesChart(tableNode):
    """The bar chart of the table's volumes, in cm³; made once for a table, and it follows the table's changes."""
    for chart in slicer.util.getNodesByClass("vtkMRMLPlotChartNode"):
        for index in range(chart.GetNumberOfPlotSeriesNodes()):
            series = chart.GetNthPlotSeriesNode(index)
            if series is not None and (series.GetTableNode(), series.GetYColumnName()) == (tableNode, _VOLUME):
                return chart
    name = f"{tableNode.GetName()} volumes"
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", f"{name} (bars)")
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    series.SetAndObserveTableNodeID(tableNode.GetID())
    series.SetYColumnName(_VOLUME)
    series.SetLabelColumnName(_ID)
    series.SetColor(*[channel / 255 for channel in PROSTATE.color_rgb])
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle("Volumes")
    chart.SetXAxisTitle("Structure")
    chart.SetYAxisTitle("Volume (cm³)")
    chart.SetLegendVisibility(False)
    return chart


def _array(name: str, values: Sequence[Any]):
    """A VTK column: texts and yes/no as strings, numbers as doubles with NaN for None."""
    isText = name in _TEXT_COLUMNS
    array = vtk.vtkStringArray() if isText else vtk.vtkDoubleArray()
    array.SetName(name)
    for value in values:
        missing = "" if isText else math.nan
        array.InsertNextValue(missing if value is None else value)
    return array


def _axis(vector: Vector | None, index: int, sign: int = 1) -> float | None:
    # The sum makes 0.0 of -0.0.
    return None if vector is None else sign * vector[index] + 0.0


def _share(m: Measurement) -> float | None:
    """Per cent of the gland, for itself and its parts."""
    belongs = m.part_of is not None or m.offset_from_gland_mm is None
    return 100 * m.share_of_gland if belongs and m.share_of_gland is not None else None


_SCANNER = "in Slicer's coordinates, whose origin is that of the scanner"
_EDGE = "Whether it reaches the outermost voxels of the image, so that the image may have cut it"
_COLUMNS = (
    _Column(_ID, "Structure", "", "Structure, or part of a lesion (L1 is the largest)", lambda m, _: m.id),
    _Column(_VOLUME, "Volume (cm³)", "cm³", "Volume of its voxels", lambda m, _: m.volume_cm3),
    *(
        _Column(
            f"centroid_{axis}_mm",
            f"Centroid {axis.upper()} (mm)",
            "mm",
            f"Mean position to {word}, {_SCANNER}",
            lambda m, _, i=i: _axis(m.centroid_ras, i),
        )
        for i, (axis, word) in enumerate((("r", "Right"), ("a", "Anterior"), ("s", "Superior")))
    ),
    *(
        _Column(
            f"extent_{axis}_mm",
            f"Extent {axis.upper()} (mm)",
            "mm",
            f"Size from {words}",
            lambda m, _, i=i: _axis(m.extent_mm, i),
        )
        for i, (axis, words) in enumerate(
            (("lr", "left to right"), ("ap", "anterior to posterior"), ("si", "superior to inferior"))
        )
    ),
    _Column(
        "max_diameter_mm",
        "Max diameter (mm)",
        "mm",
        "Largest distance between two of its points, in any direction; not given for several parts together",
        lambda m, parts: None if parts > 1 else m.max_diameter_mm,
    ),
    *(
        _Column(
            f"offset_from_gland_{axis}_mm",
            f"Offset from gland {axis.upper()} (mm)",
            "mm",
            f"Its centroid from the centroid of the gland, to {word}",
            lambda m, _, i=i, sign=sign: _axis(m.offset_from_gland_lps, i, sign),
        )
        for i, (axis, word, sign) in enumerate((("r", "Right", -1), ("a", "Anterior", -1), ("s", "Superior", 1)))
    ),
    _Column(
        "offset_from_gland_mm",
        "Offset from gland (mm)",
        "mm",
        "Distance of its centroid from the centroid of the gland",
        lambda m, _: m.offset_from_gland_mm,
    ),
    _Column(
        "share_of_gland_percent",
        "Share of gland (%)",
        "%",
        "Its volume in per cent of the gland's",
        lambda m, _: _share(m),
    ),
    _Column(_TOUCHES, "Touches image edge", "", _EDGE, lambda m, _: _YES_NO[m.touches_border]),
)
_COMPARISON_COLUMNS = (
    _Column("dice", "Dice", "", "Overlap with the reference, from 0 to 1", lambda m, _: m.dice),
    _Column(
        "volume_difference_cm3",
        "Volume difference (cm³)",
        "cm³",
        "Its volume minus that of the reference",
        lambda m, _: m.volume_difference_cm3,
    ),
    _Column(
        "centroid_distance_mm",
        "Centroid distance (mm)",
        "mm",
        "Distance of its centroid from that of the reference",
        lambda m, _: m.centroid_distance_mm,
    ),
)
_SAMPLE_COLUMNS = (
    _Column(
        "volume_low_cm3",
        "Least volume (cm³)",
        "cm³",
        "Least volume that a member of the ensemble, a fold or a mirrored image found alone; no confidence interval",
        lambda m, _: m.volume_low_cm3,
    ),
    _Column(
        "volume_high_cm3",
        "Largest volume (cm³)",
        "cm³",
        "Largest volume that a member of the ensemble, a fold or a mirrored image found alone; no confidence interval",
        lambda m, _: m.volume_high_cm3,
    ),
    _Column("samples", "Samples", "", "How many members, folds or mirrored images were asked", lambda m, _: m.samples),
    _Column("seen_by", "Seen by", "", "How many of them have a lesion there, too", lambda m, _: m.seen_by),
)
_TEXT_COLUMNS = (_ID, _TOUCHES)
