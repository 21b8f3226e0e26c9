# SPDX-License-Identifier: Apache-2.0
"""Measurements survive the way to CSV and JSON, and read well in the terminal."""

import csv
import datetime
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import Measurement
from ProstateXferLib.reports import (
    measurement_tables,
    measurements_text,
    write_measurements_csv,
    write_measurements_json,
)

GLAND = Measurement(
    structure="Prostate",
    label=1,
    component=0,
    id="Prostate",
    volume_cm3=41.2034567891,
    voxel_count=54938,
    centroid_lps=(-1.25, 20.5, -45.125),
    centroid_ras=(1.25, -20.5, -45.125),
    extent_mm=(50.0, 41.0, 39.0),
    bounds_lps=((-26.0, 0.0, -65.0), (24.0, 41.0, -26.0)),
    max_diameter_mm=52.3,
    share_of_gland=1.0,
    touches_border=False,
)
LESION = replace(
    GLAND,
    structure="DIL",
    label=2,
    id="DIL",
    part_of="Prostate",
    volume_cm3=0.84,
    share_of_gland=0.0204,
    offset_from_gland_lps=(-8.0, 6.0, 0.0),
    offset_from_gland_mm=10.0,
)
PART = replace(LESION, component=1, id="DIL L1", touches_border=True)
OTHER_PART = replace(LESION, component=2, id="DIL L2")
ABSENT = Measurement(structure='Blase, "voll"', label=5, component=0, id='Blase, "voll"', volume_cm3=0.0, voxel_count=0)
ROWS = [GLAND, LESION, PART, OTHER_PART, ABSENT]


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_column_of_the_csv_names_its_unit(tmp_path):
    header = list(read_csv(write_measurements_csv(ROWS, tmp_path / "m.csv"))[0])
    without_unit = ["id", "structure", "label", "component", "part_of", "voxel_count", "touches_border", "dice"]
    assert [name for name in header if not re.search(r"_(mm|cm3|fraction)$", name)] == without_unit
    assert {"centroid_l_mm", "centroid_p_mm", "centroid_s_mm", "centroid_r_mm", "centroid_a_mm"} <= set(header)


def test_the_csv_gives_back_what_was_measured(tmp_path):
    gland, lesion, part, _, absent = read_csv(write_measurements_csv(ROWS, tmp_path / "m.csv"))
    assert float(gland["volume_cm3"]) == pytest.approx(GLAND.volume_cm3, abs=1e-6)
    assert [float(gland[f"centroid_{axis}_mm"]) for axis in "lpsra"] == [-1.25, 20.5, -45.125, 1.25, -20.5]
    assert [float(lesion[f"offset_from_gland_{axis}_mm"]) for axis in "lps"] == [-8.0, 6.0, 0.0]
    assert (part["id"], part["component"], part["touches_border"]) == ("DIL L1", "1", "true")
    assert absent["structure"] == 'Blase, "voll"'
    assert absent["volume_cm3"] == "0.000000"
    assert absent["centroid_l_mm"] == absent["dice"] == absent["touches_border"] == ""


def test_no_measurement_still_gives_a_header(tmp_path):
    text = write_measurements_csv([], tmp_path / "m.csv").read_text(encoding="utf-8")
    assert text.startswith("id,structure,label,component,")
    assert text.count("\n") == 1


def test_the_json_gives_back_every_field_exactly(tmp_path):
    provenance = {"model": Path("models/x.safetensors"), "voxels": np.int64(3), "score": math.nan, "grid": (1, 2)}
    provenance["date"] = datetime.date(2025, 11, 21)
    path = write_measurements_json(ROWS, tmp_path / "m.json", provenance=provenance)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["format"] == "ProstateXfer measurements 1"
    assert document["measurements"] == json.loads(json.dumps([asdict(row) for row in ROWS]))
    assert document["provenance"] == {
        "model": str(Path("models/x.safetensors")),
        "voxels": 3,
        "score": None,
        "grid": [1, 2],
        "date": "2025-11-21",
    }


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = write_measurements_csv([GLAND], tmp_path / "m.csv")
    before = path.read_bytes()

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(ProstateXferError, match="could not be written"):
        write_measurements_csv(ROWS, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ProstateXferError, match="does not exist"):
        write_measurements_json(ROWS, tmp_path / "nowhere" / "m.json")


def test_the_table_says_what_a_reader_needs():
    (table,) = measurement_tables(ROWS)
    assert {len(row) for row in table.rows} == {len(table.header)} == {len(table.units)}
    gland, lesion, part, _, absent = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert gland["Centroid"] == "R 1.2, P 20.5, I 45.1"
    assert lesion["From gland centroid"] == "R 8.0, P 6.0, S 0.0"
    assert lesion["Remark"] == "2 parts"
    assert lesion["Diameter"] == "–"
    assert part["Diameter"] == "52.3"
    assert part["Remark"] == "cut by image edge"
    assert (absent["Volume"], absent["Centroid"], absent["Remark"]) == ("0.00", "–", "not found")
    assert table.indented == {2, 3}


def test_only_parts_of_the_gland_show_their_share_of_it():
    bladder = replace(LESION, id="Bladder", structure="Bladder", part_of=None, share_of_gland=1.42)
    (table,) = measurement_tables([GLAND, LESION, bladder])
    assert [row[table.header.index("Of gland")] for row in table.rows] == ["100.0", "2.0", "–"]


def test_a_reference_adds_a_second_table():
    compared = replace(GLAND, dice=0.9, volume_difference_cm3=-1.2, centroid_distance_mm=0.7)
    _, comparison = measurement_tables([compared])
    row = dict(zip(comparison.header, comparison.rows[0], strict=True))
    assert (row["Dice"], row["Difference"], row["Reference volume"]) == ("0.900", "-1.20", "42.40")
    assert row["Between centroids"] == "0.7"


def test_the_terminal_table_is_aligned_and_not_too_wide():
    lines = measurements_text(ROWS).splitlines()
    assert max(map(len, lines)) <= 140
    assert lines[0].split()[:2] == ["Structure", "Volume"]
    assert lines[1].split()[0] == "cm³"
    end = lines[0].index("Volume") + len("Volume")
    assert [line[:end].split()[-1] for line in lines[3:]] == ["41.20", "0.84", "0.84", "0.84", "0.00"]
    assert lines[5].startswith("  DIL L1")


def test_a_value_that_rounds_to_zero_has_no_minus():
    row = replace(GLAND, dice=1.0, volume_difference_cm3=-1e-9, centroid_distance_mm=0.0)
    assert "-0" not in measurements_text([row])
