# SPDX-License-Identifier: Apache-2.0
"""Measurements survive the way to CSV and JSON, and read well in the terminal."""

import datetime
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from outcomes.written_files import rows_of

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import Measurement, MissedLesion
from ProstateXferLib.reports import (
    measurement_tables,
    measurements_text,
    write_measurements_csv,
    write_measurements_json,
)
from ProstateXferLib.reports.missed_lesion_text import missed_lesion_text, missed_lesion_warnings

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


def test_every_column_of_the_csv_names_its_unit(tmp_path):
    header = list(rows_of(write_measurements_csv(ROWS, tmp_path / "m.csv"))[0])
    without_unit = ["id", "structure", "label", "component", "part_of", "voxel_count", "touches_border", "dice"]
    without_unit += ["samples", "seen_by"]
    assert [name for name in header if not re.search(r"_(mm|cm3|fraction)$", name)] == without_unit
    assert {"centroid_l_mm", "centroid_p_mm", "centroid_s_mm", "centroid_r_mm", "centroid_a_mm"} <= set(header)


def test_the_csv_gives_back_what_was_measured(tmp_path):
    gland, lesion, part, _, absent = rows_of(write_measurements_csv(ROWS, tmp_path / "m.csv"))
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


SAMPLED = [
    replace(GLAND, volume_low_cm3=39.8, volume_high_cm3=44.004, samples=5),
    replace(LESION, volume_low_cm3=0.0, volume_high_cm3=1.2, samples=5, seen_by=4),
    replace(PART, samples=5, seen_by=4),
    replace(OTHER_PART, samples=5, seen_by=1),
    replace(ABSENT),
]


def test_samples_give_the_volume_its_range_and_lesions_a_count():
    (table,) = measurement_tables(SAMPLED, sampled_by="folds")
    gland, lesion, part, other, absent = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert gland["Volume (range)"] == "41.20 (39.80–44.00)"
    assert (lesion["Volume (range)"], lesion["Remark"]) == ("0.84 (0.00–1.20)", "2 parts, seen by 4 of 5")
    assert (part["Volume (range)"], part["Remark"]) == ("0.84", "seen by 4 of 5, cut by image edge")
    assert other["Remark"] == "seen by 1 of 5"
    assert (absent["Volume (range)"], absent["Remark"]) == ("0.00", "not found")
    assert "among what 5 folds found alone" in table.caption and "no confidence interval" in table.caption


def test_without_samples_the_table_does_not_speak_of_them():
    (table,) = measurement_tables(ROWS)
    assert table.header[1] == "Volume"
    assert "brackets" not in table.caption and "een by" not in table.caption


def test_a_gland_alone_has_a_range_and_no_word_on_who_sees_it():
    (table,) = measurement_tables(SAMPLED[:1], sampled_by="members")
    assert "5 members" in table.caption and "een by" not in table.caption


def test_the_csv_has_range_and_count_or_empty_cells(tmp_path):
    rows = rows_of(write_measurements_csv(SAMPLED, tmp_path / "m.csv"))
    names = ("volume_low_cm3", "volume_high_cm3", "samples", "seen_by")
    assert [rows[1][name] for name in names] == ["0.000000", "1.200000", "5", "4"]
    assert [rows[4][name] for name in names] == [""] * 4


def test_the_terminal_says_below_what_the_range_is_and_breaks_its_lines():
    text = measurements_text(SAMPLED, sampled_by="mirrorings")
    assert "5 mirrorings" in " ".join(text.split()) and "no confidence interval" in " ".join(text.split())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 165
    assert max(map(len, lines[8:])) <= max(map(len, lines[:8]))


@pytest.mark.parametrize(
    ("seen_by", "low", "high", "start"),
    [
        (3, 0.31, 0.452, "3 of 5 folds see a DIL of 0.31–0.45 cm³ that the result does not hold"),
        (1, 0.5, 0.5, "1 of 5 folds sees a DIL of 0.50 cm³ that the result does not hold"),
    ],
)
def test_a_missed_lesion_is_told_with_count_volume_and_place(seen_by, low, high, start):
    lesion = MissedLesion(
        structure="DIL",
        seen_by=seen_by,
        samples=5,
        volume_low_cm3=low,
        volume_high_cm3=high,
        centroid_lps=(-12.04, 30.1, -5.0),
    )
    assert missed_lesion_text(lesion, "folds") == f"{start}, centroid R 12.0, P 30.1, I 5.0 mm: look there."


def test_of_many_missed_lesions_the_first_are_told_and_the_others_counted():
    speck = {"structure": "DIL", "seen_by": 2, "samples": 3, "centroid_lps": (0.0, 0.0, 0.0)}
    lesions = [MissedLesion(**speck, volume_low_cm3=v, volume_high_cm3=v) for v in range(8, 0, -1)]
    assert len(missed_lesion_warnings(lesions[:5], "folds")) == 5
    told = missed_lesion_warnings(lesions, "folds")
    assert "8.00 cm³" in told[0] and "4.00 cm³" in told[4]
    assert told[5:] == ["3 more such lesions are in the samples and not in the result."]
