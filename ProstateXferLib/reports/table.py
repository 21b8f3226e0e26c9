# SPDX-License-Identifier: Apache-2.0
"""Measurements as CSV and JSON for software, and as a table for people."""

import csv
import io
import json
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ProstateXferLib.files import write_text
from ProstateXferLib.metrics.measurement import Measurement, Vector
from ProstateXferLib.reports.page import Table

JSON_FORMAT = "ProstateXfer measurements 1"

# 1e-4 mm and 1e-6 cm3 are far below any voxel; more digits would only be harder to read.
_DECIMALS = {"_mm": 4, "_cm3": 6, "_fraction": 6, "dice": 6}
_NONE = "–"
_LEAST_TEXT_WIDTH = 80

# Header, unit, and the text of the cell for a measurement and its number of parts.
_Column = tuple[str, str, Callable[[Measurement, int], str]]


def measurement_record(measurement: Measurement) -> dict[str, Any]:
    """One measurement as a flat dict, in the order of the CSV's columns; the unit is the end of the name."""
    m = measurement
    return {
        "id": m.id,
        "structure": m.structure,
        "label": m.label,
        "component": m.component,
        "part_of": m.part_of,
        "volume_cm3": m.volume_cm3,
        "voxel_count": m.voxel_count,
        **_spread("centroid_{}_mm", "lps", m.centroid_lps),
        **_spread("centroid_{}_mm", "ra", m.centroid_ras and m.centroid_ras[:2]),
        **_spread("extent_{}_mm", ("lr", "ap", "si"), m.extent_mm),
        **_spread("bounds_{}_min_mm", "lps", m.bounds_lps and m.bounds_lps[0]),
        **_spread("bounds_{}_max_mm", "lps", m.bounds_lps and m.bounds_lps[1]),
        "max_diameter_mm": m.max_diameter_mm,
        **_spread("offset_from_gland_{}_mm", "lps", m.offset_from_gland_lps),
        "offset_from_gland_mm": m.offset_from_gland_mm,
        "share_of_gland_fraction": m.share_of_gland,
        "touches_border": m.touches_border,
        "dice": m.dice,
        "volume_difference_cm3": m.volume_difference_cm3,
        "centroid_distance_mm": m.centroid_distance_mm,
        "volume_low_cm3": m.volume_low_cm3,
        "volume_high_cm3": m.volume_high_cm3,
        "samples": m.samples,
        "seen_by": m.seen_by,
    }


def write_measurements_csv(measurements: Sequence[Measurement], path: str | Path) -> Path:
    """One row a measurement, one value a column with its unit in the header; what does not exist is an empty cell.

    `centroid_l_mm`, `_p_`, `_s_` are DICOM coordinates; Slicer's are `centroid_r_mm`, `_a_`, `_s_`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(measurement_record(_EMPTY)), lineterminator="\n")
    writer.writeheader()
    for measurement in measurements:
        writer.writerow({name: _csv_cell(name, v) for name, v in measurement_record(measurement).items()})
    return write_text(Path(path), text.getvalue())


def write_measurements_json(
    measurements: Sequence[Measurement], path: str | Path, *, provenance: Mapping[str, Any] | None = None
) -> Path:
    """`{"format", "provenance", "measurements": [...]}` in full precision; vectors are lists, what is missing is null.

    The entries carry the names of `Measurement`'s fields. `provenance` may hold anything JSON can, paths and dates.
    """
    document = {
        "format": JSON_FORMAT,
        "provenance": dict(provenance or {}),
        "measurements": [asdict(m) for m in measurements],
    }
    text = json.dumps(_json_value(document), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(Path(path), text + "\n")


def measurement_tables(measurements: Sequence[Measurement], *, sampled_by: str = "") -> list[Table]:
    """The tables for a report: the measurements and, where there is a reference, the comparison with it.

    Positions have direction letters, which read the same in LPS and RAS. Where there are samples the volume has their
    range and lesions have the number that see them; `sampled_by` says what the samples are ("members", "folds",
    "mirrorings").
    """
    tables = [_measurement_table(measurements, sampled_by)]
    if any(m.dice is not None for m in measurements):
        tables.append(_table("Comparison with the reference", _COMPARISON_COLUMNS, measurements, _COMPARISON_CAPTION))
    return tables


def measurements_text(measurements: Sequence[Measurement], *, sampled_by: str = "") -> str:
    """The same tables in fixed width for the terminal, without a line end at the end.

    What the range of volumes is stands below: a terminal shows no captions, and nobody must take it for an interval
    of confidence.
    """
    tables = [_fixed_width(table) for table in measurement_tables(measurements, sampled_by=sampled_by)]
    if any(m.samples for m in measurements):
        width = max(map(len, tables[0].splitlines()))
        tables[0] += f"\n{textwrap.fill(_samples_caption(measurements, sampled_by), max(width, _LEAST_TEXT_WIDTH))}"
    return "\n\n".join(tables)


def directed(vector: Vector | None) -> str:
    """`(-1.2, 20.3, 45.1)` in LPS as "R 1.2, P 20.3, S 45.1"."""
    if vector is None:
        return _NONE
    letters = zip(vector, ("LR", "PA", "SI"), strict=True)
    return ", ".join(f"{pair[value < 0]} {abs(value):.1f}" for value, pair in letters)


def _measurement_table(measurements: Sequence[Measurement], sampled_by: str) -> Table:
    columns, caption = list(_MEASUREMENT_COLUMNS), _MEASUREMENT_CAPTION
    if any(m.samples for m in measurements):
        columns[1] = ("Volume (range)", _CM3, lambda m, _: _volume_with_range(m))
        caption = f"{caption} {_samples_caption(measurements, sampled_by)}"
    return _table("Measurements", columns, measurements, caption)


def _samples_caption(measurements: Sequence[Measurement], sampled_by: str) -> str:
    """What the range and the count are, and what they are not."""
    counts = sorted({m.samples for m in measurements if m.samples})
    several = " or ".join(map(str, counts))
    seen = any(m.seen_by is not None for m in measurements)
    return _SAMPLES_CAPTION.format(several=several, voices=sampled_by or "samples") + seen * _SEEN_BY_CAPTION


def _table(title: str, columns: Sequence[_Column], measurements: Sequence[Measurement], caption: str) -> Table:
    parts = Counter(m.label for m in measurements if m.component)
    return Table(
        title=title,
        header=[header for header, _, _ in columns],
        units=[unit for _, unit, _ in columns],
        rows=[[cell(m, 0 if m.component else parts[m.label]) for _, _, cell in columns] for m in measurements],
        caption=caption,
        indented=frozenset(i for i, m in enumerate(measurements) if m.component),
    )


def _fixed_width(table: Table) -> str:
    """First and last column to the left, the others to the right; parts are indented."""
    rows = [["  " * (i in table.indented) + row[0], *row[1:]] for i, row in enumerate(table.rows)]
    lines = [list(table.header), list(table.units), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    last = len(widths) - 1

    def padded(line: Sequence[str]) -> str:
        cells = zip(range(len(line)), line, widths, strict=True)
        return "  ".join(c.ljust(w) if i in (0, last) else c.rjust(w) for i, c, w in cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([padded(lines[0]), padded(lines[1]), rule, *map(padded, rows)])


def _spread(pattern: str, axes: Sequence[str], values: Sequence[float] | None) -> dict[str, float | None]:
    """One entry for each axis."""
    return dict(zip((pattern.format(a) for a in axes), values or (None,) * len(axes), strict=True))


def _csv_cell(name: str, value: Any) -> str:
    """The text of a cell; booleans are `true` and `false` as in JSON."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        decimals = next(d for ending, d in _DECIMALS.items() if name.endswith(ending))
        return f"{value:z.{decimals}f}"
    return str(value)


def _json_value(value: Any) -> Any:
    """The value in JSON's types: NaN becomes null, tuples lists, everything unknown (paths, dates) its text."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return _json_value(value.item()) if hasattr(value, "item") else str(value)


def _number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    return _NONE if value is None else format(value, f"{'+' if sign else ''}z.{decimals}f")


def _volume_with_range(m: Measurement) -> str:
    """ "42.10 (39.80–44.00)"."""
    volume = _number(m.volume_cm3, 2)
    if m.volume_low_cm3 is None:
        return volume
    return f"{volume} ({_number(m.volume_low_cm3, 2)}–{_number(m.volume_high_cm3, 2)})"


def _size(vector: Vector | None) -> str:
    return _NONE if vector is None else " × ".join(f"{value:.1f}" for value in vector)


def _reference_volume_cm3(m: Measurement) -> float | None:
    return None if m.volume_difference_cm3 is None else m.volume_cm3 - m.volume_difference_cm3


def _share(m: Measurement) -> str:
    """Per cent of the gland, for itself and its parts: that of a bladder would be true and mean nothing."""
    belongs = m.part_of is not None or m.offset_from_gland_mm is None
    return _number(100 * m.share_of_gland if belongs and m.share_of_gland is not None else None, 1)


def _remark(m: Measurement, parts: int) -> str:
    """What the reader must know about the row."""
    if not m.voxel_count:
        return "not found"
    remarks = {
        f"{parts} parts": parts > 1,
        f"seen by {m.seen_by} of {m.samples}": m.seen_by is not None,
        "cut by image edge": m.touches_border,
    }
    return ", ".join(remark for remark, holds in remarks.items() if holds)


def _diameter(m: Measurement, parts: int) -> str:
    """From one lesion to the next would be read as the size of one."""
    return _number(None if parts > 1 else m.max_diameter_mm, 1)


_CM3 = "cm³"
_MEASUREMENT_COLUMNS: tuple[_Column, ...] = (
    ("Structure", "", lambda m, _: m.id),
    ("Volume", _CM3, lambda m, _: _number(m.volume_cm3, 2)),
    ("Of gland", "%", lambda m, _: _share(m)),
    ("Diameter", "mm", _diameter),
    ("L-R × A-P × S-I", "mm", lambda m, _: _size(m.extent_mm)),
    ("Centroid", "mm", lambda m, _: directed(m.centroid_lps)),
    ("From gland centroid", "mm", lambda m, _: directed(m.offset_from_gland_lps)),
    ("Distance", "mm", lambda m, _: _number(m.offset_from_gland_mm, 1)),
    ("Remark", "", _remark),
)
_COMPARISON_COLUMNS: tuple[_Column, ...] = (
    ("Structure", "", lambda m, _: m.id),
    ("Volume", _CM3, lambda m, _: _number(m.volume_cm3, 2)),
    ("Reference volume", _CM3, lambda m, _: _number(_reference_volume_cm3(m), 2)),
    ("Difference", _CM3, lambda m, _: _number(m.volume_difference_cm3, 2, sign=True)),
    ("Dice", "", lambda m, _: _number(m.dice, 3)),
    ("Between centroids", "mm", lambda m, _: _number(m.centroid_distance_mm, 1)),
    ("Remark", "", _remark),
)
_MEASUREMENT_CAPTION = (
    "The row of the prostate includes its lesions. L1, L2, ... are the separate parts of a lesion structure from the "
    "largest. Diameter is the largest one in any direction; L-R, A-P and S-I are the sides of the box around the "
    "structure along the patient's axes. Centroids are in scanner coordinates; the letters say on which side of the "
    "scanner's origin, or of the gland's centroid, they lie: Right or Left, Anterior or Posterior, Superior or "
    "Inferior of the patient."
)
_SAMPLES_CAPTION = (
    "In brackets: least and largest volume among what {several} {voices} found alone. It is the range of so many "
    "voices and no confidence interval: they may agree and all be wrong, and their average may lie outside it."
)
_SEEN_BY_CAPTION = (
    " Seen by (remark): how many of them have a lesion there too (intersection over union at least 0.1); of the whole "
    "structure, how many see any of its parts."
)
_COMPARISON_CAPTION = (
    "Each lesion part is compared with the reference part it overlaps most, and where it overlaps none with the "
    "nearest one. A reference lesion that was missed has no row of its own."
)
_EMPTY = Measurement(structure="", label=0, component=0, id="", volume_cm3=0.0, voxel_count=0)
