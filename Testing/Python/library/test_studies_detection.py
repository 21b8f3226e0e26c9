# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer study detection`: SAP's figures from evaluations, against lesions counted by hand."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.cli.main import main
from ProstateXferLib.metrics.agreement import icc_a1

SIDE_MM = 5.0  # a voxel is 0.125 cm³, eight of them are a target lesion
SMALL, LARGE, APART = (slice(1, 2),) * 3, (slice(5, 7),) * 3, (slice(9, 10),) * 3


def volume(path, *boxes, value=1.0):
    array = np.zeros((12, 12, 12), np.float32)
    for box in boxes:
        array[box] = value
    image = sitk.GetImageFromArray(array if value != 1.0 else array.astype(np.uint8))
    image.SetSpacing((SIDE_MM,) * 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Patient a: two lesions, the large one found whole, one false alarm. Patient b: one small lesion, missed."""
    root = tmp_path_factory.mktemp("detection")
    volume(root / "truth" / "a.nii.gz", SMALL, LARGE)
    volume(root / "found" / "a.nii.gz", LARGE, APART)
    volume(root / "sure" / "a.nii.gz", LARGE, APART, value=0.8)
    volume(root / "truth" / "b.nii.gz", SMALL)
    volume(root / "found" / "b.nii.gz")
    volume(root / "sure" / "b.nii.gz", SMALL, value=0.3)
    words = [str(root / "found"), str(root / "truth"), "--names", "1=Bone lesion", "--no-report", "--jobs", "1"]
    assert main(["evaluate", *words, "-o", str(root / "plain")]) == 0
    assert main(["evaluate", *words, "-o", str(root / "sure-too"), "--confidences", str(root / "sure")]) == 0
    return root


def figures(capsys, *words):
    capsys.readouterr()
    assert main(["study", "detection", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["arms"]


def test_the_figures_are_those_counted_by_hand(evaluated, capsys):
    found = figures(capsys, f"ours={evaluated / 'plain'}")["ours"]
    truth = {
        "sensitivity": (0.25, 2),  # 1 of 2, 0 of 1
        "precision": (0.5, 1),  # 1 of 2; nothing was predicted in b
        "false_positives": (0.5, 2),
        "f2": (0.25, 2),  # 5 / (5 + 4 + 1), 0
        "target_sensitivity": (1.0, 1),
        "dice_detected": (1.0, 1),
        "dice_lesions": (0.25, 2),  # (1 + 0) / 2, 0
        "dice_case": (8 / 18, 2),  # 16 / 18, 0
        "dice_pooled": (16 / 19, 2),
        "froc_area": (None, 0),
    }
    for key, (value, count) in truth.items():
        assert found[key] == {"value": pytest.approx(value) if value is not None else None, "count": count}, key
    assert found["icc"]["value"] == pytest.approx(icc_a1([9 / 8, 1 / 8], [9 / 8, 0]).value)


def test_the_area_under_the_froc_needs_confidences(evaluated, capsys):
    area = figures(capsys, f"ours={evaluated / 'sure-too'}")["ours"]["froc_area"]
    # (0.5, 1/3) at 0.8, (0.5, 2/3) at 0.3: a triangle to the first point, then level.
    assert area["value"] == pytest.approx(0.5 * 0.5 * (1 / 3) + 14.5 * 2 / 3)
    assert area["count"] == 2


def test_models_stand_beside_each_other_and_the_paper(evaluated, tmp_path, capsys):
    output = tmp_path / "table.md"
    arms = [f"ours={evaluated / 'plain'}", f"other={evaluated / 'sure-too'}"]
    assert main(["study", "detection", *arms, "-o", str(output)]) == 0
    table = output.read_text(encoding="utf-8")
    assert "|  | ours | other | SAP paper: Baseline | SAP paper: SSL | SAP paper: SAP |" in table
    assert "| F2 of an exam, median | 0.250 (2) | 0.250 (2) | 0.259 | 0.312 | 0.448 |" in table
    assert table.strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("ours=nowhere",), 1, "cannot be read"),
        (("ours",), 2, "not of the form NAME=FOLDER"),
        (("ours={plain}", "ours={plain}"), 2, "same name"),
        (("ours={plain}", "--structure", "DIL"), 1, "no lesions 'DIL' (its lesions: Bone lesion)"),
    ],
)
def test_what_cannot_be_compared_is_told(evaluated, capsys, words, code, sentence):
    words = [word.format(plain=evaluated / "plain") for word in words]
    assert main(["study", "detection", *words]) == code
    assert sentence in capsys.readouterr().err
