# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer measure` on boxes, whose volume and place need no computer."""

import json

import numpy as np
import pytest
from outcomes.written_files import rows_of

from ProstateXferLib.cli.main import main
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import DIL, PROSTATE

# Voxels of 2 x 1 x 3 mm; the origin is a voxel centre.
GRID = Grid((40, 40, 20), (2.0, 1.0, 3.0), (-10.0, 5.0, 20.0))
GLAND_CM3 = 20 * 20 * 10 * 6e-3
LESION_CM3 = 4 * 4 * 2 * 6e-3


def boxes(dtype=np.uint8):
    """A gland of 20 x 20 x 10 voxels with a lesion of 4 x 4 x 2 in it, as an array (z, y, x)."""
    labels = np.zeros(GRID.shape_zyx, dtype)
    labels[5:15, 10:30, 10:30] = 1
    labels[6:8, 12:16, 12:16] = 2
    return labels


@pytest.fixture
def a_label_map(tmp_path):
    return write_image(GRID.image(boxes()), tmp_path / "labels.nii.gz")


def measured(*words, capsys):
    """The measurements by id, as --json gives them."""
    code = main(["measure", *map(str, words), "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    return {row["id"]: row for row in json.loads(told.out.splitlines()[-1])["measurements"]}


def test_the_table_shows_names_and_volumes(a_label_map, capsys):
    assert main(["measure", str(a_label_map)]) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[3:5]] == ["Prostate", "DIL"]
    assert f"{GLAND_CM3:.2f}" in table
    assert f"{LESION_CM3:.2f}" in table


def test_volume_and_centroid_are_those_of_the_boxes(a_label_map, capsys):
    rows = measured(a_label_map, capsys=capsys)
    assert rows["Prostate"]["volume_cm3"] == pytest.approx(GLAND_CM3)
    assert rows["Prostate"]["centroid_lps"] == pytest.approx([-10 + 2 * 19.5, 5 + 19.5, 20 + 3 * 9.5])
    assert rows["DIL"]["volume_cm3"] == pytest.approx(LESION_CM3)
    assert rows["DIL"]["share_of_gland"] == pytest.approx(LESION_CM3 / GLAND_CM3)


def test_a_segmentation_file_brings_its_own_names(tmp_path, capsys):
    path = tmp_path / "study.seg.nrrd"
    write_segmentation(GRID.image(boxes()), (PROSTATE, DIL), path)
    rows = measured(path, capsys=capsys)
    assert {"Prostate", "DIL"} <= rows.keys()
    assert rows["Prostate"]["volume_cm3"] == pytest.approx(GLAND_CM3)


def test_names_can_be_given_and_may_hold_blanks(a_label_map, capsys):
    rows = measured(a_label_map, "--names", "1=Peripheral zone", "2=Bladder", capsys=capsys)
    assert list(rows) == ["Peripheral zone", "Bladder"]


def test_labels_written_as_floating_point_are_read_as_labels(tmp_path, capsys):
    path = write_image(GRID.image(boxes(np.float32)), tmp_path / "float.nii.gz")
    assert measured(path, capsys=capsys)["Prostate"]["volume_cm3"] == pytest.approx(GLAND_CM3)


def test_a_reference_adds_the_comparison(a_label_map, tmp_path, capsys):
    smaller = boxes()
    smaller[14] = 0  # one of ten slices: Dice = 2 * 9 / 19
    reference = write_image(GRID.image(smaller), tmp_path / "reference.nii.gz")
    row = measured(a_label_map, "--reference", reference, capsys=capsys)["Prostate"]
    assert row["dice"] == pytest.approx(18 / 19)
    assert row["volume_difference_cm3"] == pytest.approx(GLAND_CM3 / 10)
    assert row["centroid_distance_mm"] == pytest.approx(1.5)


def test_csv_and_json_files_hold_the_same_volumes(a_label_map, tmp_path, capsys):
    files = {"--csv": tmp_path / "table.csv", "--json-out": tmp_path / "table.json"}
    rows = measured(a_label_map, *(word for pair in files.items() for word in pair), capsys=capsys)
    table = {line["id"]: float(line["volume_cm3"]) for line in rows_of(files["--csv"])}
    document = json.loads(files["--json-out"].read_text(encoding="utf-8"))
    assert table == pytest.approx({name: row["volume_cm3"] for name, row in rows.items()}, abs=1e-6)
    assert {row["id"]: row["volume_cm3"] for row in document["measurements"]} == pytest.approx(table, abs=1e-6)
    assert document["provenance"]["labels"] == str(a_label_map)


def test_an_empty_label_map_is_told_so(tmp_path, capsys):
    path = write_image(GRID.image(np.zeros(GRID.shape_zyx, np.uint8)), tmp_path / "empty.nii.gz")
    assert main(["measure", str(path)]) == 0
    assert f"{path} has no labelled voxel." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--names", "Prostate"), "'Prostate' is not VALUE=NAME"),
        (("--names", "0=Air"), "'0=Air' is not VALUE=NAME"),
        (("--names", "1=A", "1=B"), "--names gives one label value two names"),
    ],
)
def test_names_that_mean_nothing_are_wrong_use(a_label_map, capsys, words, complaint):
    assert main(["measure", str(a_label_map), *words]) == 2
    assert complaint in capsys.readouterr().err


def test_probabilities_are_refused_with_what_to_do(tmp_path, capsys):
    path = write_image(GRID.image(boxes(np.float32) / 3), tmp_path / "probabilities.nii.gz")
    assert main(["measure", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"prostatexfer: {path} holds fractions, not labels: give a label map, or threshold it first.\n"
    )


def test_a_reference_on_another_grid_is_refused(a_label_map, tmp_path, capsys):
    shifted = Grid(GRID.size_xyz, GRID.spacing_xyz, (0.0, 0.0, 0.0))
    reference = write_image(shifted.image(boxes()), tmp_path / "reference.nii.gz")
    assert main(["measure", str(a_label_map), "--reference", str(reference)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("prostatexfer: ")
    assert len(told.splitlines()) == 1
