# SPDX-License-Identifier: Apache-2.0
"""Candidates from the tables of `prostatexfer evaluate`: the numbers are the masks', and no gap is filled unasked."""

import csv
import math

import numpy as np
import pytest

from ProstateXferLib.ensembles.candidate_table import CandidateTable
from ProstateXferLib.ensembles.case_metrics import METRIC_KEYS, CaseMetrics
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.reading import ReadingRules, read_candidates
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.run import run_evaluation
from ProstateXferLib.evaluation.tables import write_metrics_csv
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.progress import SilentProgress

GRID = Grid((20, 20, 6), (1.0, 1.0, 3.0))
DIAGONAL_MM = math.hypot(20, 20, 18)
RULES = ReadingRules(structure="Prostate", tolerance_mm=2.0)
NAMES = LabelNames({1: "Prostate"})


def box(first, last):
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[1:5, 5:15, first:last] = 1
    return labels


REFERENCES = {"hit": box(5, 15), "missed": box(5, 15), "nothing": box(5, 5)}
PREDICTIONS = {
    # One voxel too wide on one side: Dice 2 * 10 / 21, volume error 4 * 10 * 3 mm³.
    "wide": {"hit": box(5, 16), "missed": box(5, 5), "nothing": box(5, 5)},
    "exact": {"hit": box(5, 15), "missed": box(5, 15), "nothing": box(5, 5)},
}


def evaluated(folder, predictions, empty="best_worst", broken=()):
    """The folder of one candidate's evaluation."""
    folder.mkdir()
    cases = []
    for case, labels in predictions.items():
        files = {role: folder / f"{case}-{role}.nii.gz" for role in ("prediction", "reference")}
        write_image(GRID.image(labels), files["prediction"])
        write_image(GRID.image(REFERENCES[case]), files["reference"])
        if case in broken:
            files["prediction"].write_bytes(b"bad")
        cases.append(CaseFiles(case, files))
    options = EvaluationOptions(prediction_names=NAMES, reference_names=NAMES, empty=empty)
    result = run_evaluation(tuple(cases), options, jobs=1, progress=SilentProgress())
    write_metrics_csv(result, folder / "metrics.csv")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("candidates")
    found = {name: evaluated(root / name, own) for name, own in PREDICTIONS.items()}
    found["penalty"] = evaluated(root / "penalty", PREDICTIONS["wide"], empty="penalty")
    found["nan"] = evaluated(root / "nan", PREDICTIONS["exact"], empty="nan")
    found["broken"] = evaluated(root / "broken", PREDICTIONS["exact"], broken=("missed",))
    found["fewer"] = evaluated(root / "fewer", {"hit": PREDICTIONS["exact"]["hit"]})
    return found


def rows_of(metrics):
    return dict(zip(metrics.cases, metrics.values.round(6).tolist(), strict=True))


def test_the_table_has_the_numbers_of_the_masks(folders):
    table = read_candidates({"exact": folders["exact"], "penalty": folders["penalty"]}, RULES)

    assert (table.names, table.cases, table.left_out) == (("exact", "penalty"), ("hit", "missed", "nothing"), ())
    assert rows_of(table.candidates["exact"]) == {case: [1, 1, 0, 0, 0] for case in table.cases}
    wide = rows_of(table.candidates["penalty"])
    assert wide["hit"][0] == pytest.approx(20 / 21, abs=1e-6)
    assert wide["hit"][1:3] == [1, 1]
    assert 0 < wide["hit"][3] < 1 and wide["hit"][4] == pytest.approx(0.12)


def test_an_empty_prediction_is_the_worst_there_is(folders):
    by_table = read_candidates({"wide": folders["penalty"]}, RULES).candidates["wide"]
    by_rule = read_candidates(
        {"wide": folders["wide"]}, ReadingRules(structure="Prostate", tolerance_mm=2.0, worst_distance_mm=DIAGONAL_MM)
    ).candidates["wide"]

    assert rows_of(by_table)["missed"] == pytest.approx([0, 0, DIAGONAL_MM, DIAGONAL_MM, 1.2], abs=1e-5)
    np.testing.assert_allclose(by_rule.values, by_table.values, rtol=1e-9)


def test_a_distance_that_is_not_there_is_never_made_up(folders):
    with pytest.raises(
        ProstateXferError, match="'wide' has no HD95 of the case 'missed' .prediction empty.: .*penalty"
    ):
        read_candidates({"wide": folders["wide"]}, RULES)


def test_two_empty_masks_agree_whatever_rule_the_table_was_made_with(folders):
    table = read_candidates({"nan": folders["nan"], "exact": folders["exact"]}, RULES)

    assert rows_of(table.candidates["nan"]) == rows_of(table.candidates["exact"])


@pytest.mark.parametrize(("other", "without"), [("broken", ["missed"]), ("fewer", ["missed", "nothing"])])
def test_a_case_without_a_result_is_refused_dropped_or_a_miss_as_one_says(folders, other, without):
    files = {"exact": folders["exact"], "other": folders[other]}
    with pytest.raises(ProstateXferError, match=f"'other' has no result of the case 'missed' .{len(without)} such"):
        read_candidates(files, RULES)

    dropped = read_candidates(files, ReadingRules(structure="Prostate", tolerance_mm=2.0, missing="drop"))
    assert list(dropped.left_out) == without
    assert not set(without) & set(dropped.cases) and len(dropped.cases) + len(without) == 3

    worst = ReadingRules(structure="Prostate", tolerance_mm=2.0, missing="worst", worst_distance_mm=40.0)
    missed = rows_of(read_candidates(files, worst).candidates["other"])["missed"]
    # The volume it is wrong by is the reference's, which the other candidate's table has: 4 x 10 x 10 x 3 mm³.
    assert missed == pytest.approx([0, 0, 40, 40, 1.2])


def test_a_miss_that_is_better_than_a_hit_is_refused(folders):
    with pytest.raises(ProstateXferError, match="must be worse"):
        read_candidates(
            {"wide": folders["wide"]}, ReadingRules(structure="Prostate", tolerance_mm=2.0, worst_distance_mm=0.5)
        )


def test_what_the_table_does_not_have_is_told_with_what_it_has(folders):
    files = {"exact": folders["exact"]}
    with pytest.raises(ProstateXferError, match="no structure 'Bladder': use one of Prostate"):
        read_candidates(files, ReadingRules(structure="Bladder", tolerance_mm=2.0))
    with pytest.raises(ProstateXferError, match="has nsd_1mm, nsd_2mm: choose the tolerance"):
        read_candidates(files, ReadingRules(structure="Prostate"))
    with pytest.raises(ProstateXferError, match="has the methods prediction: say which"):
        read_candidates(files, ReadingRules(structure="Prostate", tolerance_mm=2.0, methods={"exact": "ours"}))


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "case,method,structure,component,metric,value,unit,reason\nx,y\n"])
def test_a_file_that_is_no_such_table_is_one_sentence(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProstateXferError, match="no whole metrics.csv"):
        read_candidates({"a": path}, RULES)
    with pytest.raises(ProstateXferError, match="cannot be read"):
        read_candidates({"a": tmp_path / "absent.csv"}, RULES)


def rows_of_file(folder):
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def write_rows(folder, rows):
    with (folder / "metrics.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_one_method_of_the_whole_structure_is_read(folders, tmp_path):
    header, *rows = rows_of_file(folders["exact"])
    others = [[row[0], "theirs", *row[2:5], "0.5", *row[6:]] for row in rows]
    lesions = [[*row[:3], "1", row[4], "0.25", *row[6:]] for row in rows]
    write_rows(tmp_path, [header, *rows, *others, *lesions])

    rules = ReadingRules(structure="Prostate", tolerance_mm=2.0, methods={"exact": "prediction"})
    found = read_candidates({"exact": tmp_path}, rules).candidates["exact"]
    assert rows_of(found) == rows_of(read_candidates({"exact": folders["exact"]}, RULES).candidates["exact"])
    with pytest.raises(ProstateXferError, match="has the methods prediction, theirs: say which"):
        read_candidates({"exact": tmp_path}, RULES)


def test_a_cell_that_is_no_number_is_one_sentence(folders, tmp_path):
    rows = rows_of_file(folders["exact"])
    rows[1][rows[0].index("value")] = "much"
    write_rows(tmp_path, rows)
    with pytest.raises(ProstateXferError, match="'much' where a number belongs"):
        read_candidates({"a": tmp_path}, RULES)


@pytest.mark.parametrize(
    "values", [[[1.1, 1, 0, 0, 0]], [[1, 1, math.nan, 0, 0]], [[1, 1, 0, math.inf, 0]], [[1, 1, 0, 0, -1]], [[1, 1]]]
)
def test_metrics_that_cannot_be_are_refused(values):
    with pytest.raises(ProstateXferError):
        CaseMetrics(("a",), np.array(values))


def test_cohort_numbers_are_means_and_the_root_mean_square_of_volume():
    metrics = CaseMetrics(("a", "b"), np.array([[0.5, 0.2, 1, 2, 3], [0.7, 0.4, 3, 4, 4]]))
    assert metrics.aggregate() == pytest.approx([0.6, 0.3, 2, 3, math.sqrt(12.5)])
    assert METRIC_KEYS == ("dice", "nsd", "hd95", "masd", "volume_error")
    with pytest.raises(ValueError, match="read-only"):
        metrics.values[0, 0] = 1


def test_candidates_of_different_cases_are_no_table():
    row = np.array([[1, 1, 0, 0, 0]])
    with pytest.raises(ProstateXferError, match="'b' has other cases"):
        CandidateTable({"a": CaseMetrics(("x",), row), "b": CaseMetrics(("y",), row)})


def test_equal_ensembles_are_equal_objects():
    assert Members.of_counts({"b": 2, "a": 2, "c": 0}) == Members.equal(["a", "b"])
    assert Members.of_counts({"a": 1, "b": 2}) == Members.of_counts({"b": 4, "a": 2})
    assert str(Members.of_counts({"b": 1, "a": 3})) == "a 0.75, b 0.25"
    for names, weights in [((), ()), (("a",), (0.5,)), (("b", "a"), (0.5, 0.5)), (("a", "b"), (1.0, 0.0))]:
        with pytest.raises(ProstateXferError):
            Members(names, weights)
