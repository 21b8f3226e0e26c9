# SPDX-License-Identifier: Apache-2.0
"""The table of measurements in the panel: one row a structure or lesion; clicking a row names it to the section."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ProstateXferLib.metrics.measurement import Measurement

_MISSING = "–"
_RANGE_TIP = (
    "Least and largest volume that the members of the ensemble, the folds or the mirrored images found alone: the "
    "range of so many voices and no confidence interval. They may all be wrong, and their average may lie outside"
)
_SEEN_TIP = (
    "How many of the members, folds or mirrored images have a lesion there, too (intersection over union at least "
    "0.1); of the whole structure, how many see any of its parts"
)


class ResultsTable:
    """Fills a QTableWidget; numbers stand right, units in the header, lesion components below their structure."""

    def __init__(self, widget: Any, onRow: Callable[[Measurement], None]) -> None:
        self._widget, self._onRow = widget, onRow
        self._rows: list[Measurement] = []
        self._shown: Any = None
        widget.verticalHeader().visible = False
        widget.connect("cellClicked(int,int)", self._onClicked)

    def show(self, rows: Sequence[Measurement], colors: Mapping[str, tuple[float, float, float]] | None = None) -> None:
        """Show these rows; `colors` (0..1) by structure name are put before the names."""
        state = (list(rows), dict(colors or {}))
        if state == self._shown:
            return  # filling it anew would lose the selection
        self._shown, self._rows = state, list(rows)
        columns = _columns(
            compared=any(row.dice is not None for row in rows),
            sampled=any(row.samples for row in rows),
            seen=any(row.seen_by is not None for row in rows),
        )
        widget = self._widget
        widget.clear()
        widget.setRowCount(len(self._rows))
        widget.setColumnCount(len(columns))
        widget.setHorizontalHeaderLabels([f"{title}\n{unit}" for title, unit, _tip, _cell in columns])
        for column, (_title, _unit, tip, cell) in enumerate(columns):
            widget.horizontalHeaderItem(column).setToolTip(tip)
            for number, row in enumerate(self._rows):
                item = qt.QTableWidgetItem(cell(row))
                item.setTextAlignment(qt.Qt.AlignVCenter | (qt.Qt.AlignRight if column else qt.Qt.AlignLeft))
                item.setToolTip(tip)
                if column == 0 and row.structure in state[1]:
                    item.setIcon(_swatch(state[1][row.structure]))
                widget.setItem(number, column, item)
        widget.resizeColumnsToContents()
        widget.resizeRowsToContents()

    def _onClicked(self, row: int, column: int) -> None:
        if 0 <= row < len(self._rows):
            self._onRow(self._rows[row])


def _columns(*, compared: bool, sampled: bool, seen: bool) -> list[tuple[str, str, str, Callable[[Measurement], str]]]:
    """Title, unit, tooltip and cell text of each column.

    Those of a comparison are there only where there is a reference, those of samples where a run had samples.
    """
    found = [
        (_("Structure"), "", _("Structure; L1, L2, … are a lesion's components from the largest"), _name),
        (_("Volume"), "cm³", _("Volume, counted in voxels"), lambda row: f"{row.volume_cm3:.2f}"),
        *([(_("Range"), "cm³", _(_RANGE_TIP), _range)] if sampled else []),
        *([(_("Seen by"), "", _(_SEEN_TIP), _seenBy)] if seen else []),
        (_("Of gland"), "%", _("Share of the gland's volume"), _share),
    ]
    comparison = [
        ("Dice", "", _("Overlap with the reference: 1 is equal, 0 is disjoint"), lambda row: _text(row.dice, 2)),
        ("ΔV", "cm³", _("Volume minus that of the reference"), lambda row: _text(row.volume_difference_cm3, 2)),
        (_("Apart"), "mm", _("Distance of the centroid from the reference's"), _apart),
    ]
    place = [
        ("R", "mm", _("Centroid, to the patient's right"), lambda row: _number(row.centroid_ras, 0)),
        ("A", "mm", _("Centroid, to anterior"), lambda row: _number(row.centroid_ras, 1)),
        ("S", "mm", _("Centroid, to superior"), lambda row: _number(row.centroid_ras, 2)),
        (_("Offset"), "mm", _("From the gland's centroid to this one's, by direction"), _offset),
        (_("Extent"), "LR × AP × SI mm", _("Size of the box around it along the patient's axes"), _extent),
    ]
    return found + (comparison if compared else []) + place


def _name(row: Measurement) -> str:
    cut = " ⚠" if row.touches_border else ""
    return ("   " if row.component else "") + row.id + cut


def _number(vector: Sequence[float] | None, axis: int) -> str:
    return _MISSING if vector is None else f"{vector[axis]:.1f}"


def _range(row: Measurement) -> str:
    """ "39.80–44.00"; the components of a lesion have none."""
    if row.volume_low_cm3 is None:
        return _MISSING
    return f"{row.volume_low_cm3:.2f}–{row.volume_high_cm3:.2f}"


def _seenBy(row: Measurement) -> str:
    return _MISSING if row.seen_by is None else _("{count} of {all}").format(count=row.seen_by, all=row.samples)


def _extent(row: Measurement) -> str:
    return _MISSING if row.extent_mm is None else " × ".join(f"{value:.0f}" for value in row.extent_mm)


def _offset(row: Measurement) -> str:
    """ "R 3.1 P 10.2 I 0.5": letters read the same whatever the frame."""
    if row.offset_from_gland_lps is None:
        return _MISSING
    pairs = zip(row.offset_from_gland_lps, ("LR", "PA", "SI"), strict=True)
    return " ".join(f"{letters[value < 0]} {abs(value):.1f}" for value, letters in pairs)


def _share(row: Measurement) -> str:
    return _MISSING if row.share_of_gland is None else f"{100 * row.share_of_gland:.1f}"


def _apart(row: Measurement) -> str:
    return _text(row.centroid_distance_mm, 1)


def _text(value: float | None, digits: int) -> str:
    return _MISSING if value is None else f"{value:.{digits}f}"


def _swatch(color: tuple[float, float, float]) -> Any:
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor(*(round(255 * part) for part in color)))
    return qt.QIcon(pixmap)
