# SPDX-License-Identifier: Apache-2.0
"""Which file belongs to which case, told by names or by a table."""

import pytest

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import match_cases
from ProstateXferLib.evaluation.case_table import read_case_table


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def matched(tmp_path, inner=None, **folders):
    return match_cases({role: tmp_path / folder for role, folder in folders.items()}, inner)


def test_files_are_matched_by_name_whatever_their_format(tmp_path):
    touch(tmp_path, "p/a.nii.gz", "p/b.seg.nrrd", "r/a.mha", "r/b.nrrd")
    cohort = matched(tmp_path, prediction="p", reference="r")
    assert [case.case for case in cohort.cases] == ["a", "b"]
    assert cohort.cases[1].files == {"prediction": tmp_path / "p/b.seg.nrrd", "reference": tmp_path / "r/b.nrrd"}
    assert cohort.unused == {}


def test_a_reference_without_a_prediction_is_a_case_and_a_prediction_without_a_reference_is_told(tmp_path):
    touch(tmp_path, "p/a.nii.gz", "p/x.nii.gz", "r/a.nii.gz", "r/b.nii.gz")
    cohort = matched(tmp_path, prediction="p", reference="r")
    assert [sorted(case.files) for case in cohort.cases] == [["prediction", "reference"], ["reference"]]
    assert cohort.unused == {"prediction": ("x",)}


def test_a_subfolder_is_a_case_and_its_file_may_be_named(tmp_path):
    touch(tmp_path, "d/a/gland.nii.gz", "d/a/lesion.nii.gz", "d/b/gland.nii.gz")
    inner = {"prediction": "gland.nii.gz", "reference": "lesion.nii.gz"}
    cohort = matched(tmp_path, inner, prediction="d", reference="d")
    assert [case.case for case in cohort.cases] == ["a"]
    assert cohort.cases[0].files["reference"] == tmp_path / "d/a/lesion.nii.gz"


def test_several_images_in_a_subfolder_need_a_name(tmp_path):
    touch(tmp_path, "d/a/gland.nii.gz", "d/a/lesion.nii.gz")
    with pytest.raises(ProstateXferError, match="gland.nii.gz, lesion.nii.gz.*--prediction-file"):
        matched(tmp_path, prediction="d", reference="d")


def test_a_study_folder_gives_its_segmentation_and_a_dicom_folder_itself(tmp_path):
    touch(tmp_path, "s/a/segmentation.seg.nrrd", "s/a/uncertainty.nii.gz", "s/a/study.json", "r/a/IM0001", "r/a/IM0002")
    files = matched(tmp_path, prediction="s", reference="r").cases[0].files
    assert files == {"prediction": tmp_path / "s/a/segmentation.seg.nrrd", "reference": tmp_path / "r/a"}


def test_the_first_channel_of_an_nnunet_folder_is_the_image_and_a_case_may_end_so_itself(tmp_path):
    touch(tmp_path, "p/a.nii.gz", "p/x_0000.nii.gz", "r/a.nii.gz", "r/x_0000.nii.gz")
    touch(tmp_path, "i/a_0000.nii.gz", "i/x_0000.nii.gz")
    cohort = matched(tmp_path, prediction="p", reference="r", image="i")
    assert [case.files["image"].name for case in cohort.cases] == ["a_0000.nii.gz", "x_0000.nii.gz"]


def test_two_files_are_one_case(tmp_path):
    touch(tmp_path, "one.nii.gz", "truth.seg.nrrd")
    cohort = matched(tmp_path, prediction="one.nii.gz", reference="truth.seg.nrrd")
    assert [case.case for case in cohort.cases] == ["truth"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("p/a.nii.gz", "r/b.nii.gz"), "No case of .*'a'.*'b'"),
        (("p/a.nii.gz", "p/a.mha", "r/a.nii.gz"), "two files for the case 'a'"),
        (("p/a.txt", "r/a.nii.gz"), "holds no image files"),
        (("r/a.nii.gz",), "is no folder of cases"),
    ],
)
def test_what_cannot_be_matched_is_said(tmp_path, names, sentence):
    touch(tmp_path, *names)
    with pytest.raises(ProstateXferError, match=sentence):
        matched(tmp_path, prediction="p", reference="r")


def test_a_table_names_files_from_its_own_folder(tmp_path):
    table = tmp_path / "cases.csv"
    table.write_text(
        "Case;prediction;reference;mask\n1;p.nii.gz;r.nii.gz;\n\n2;/x/p.nii.gz;r2.nii.gz;b.nii.gz\n", "utf-8-sig"
    )
    one, two = read_case_table(table).cases
    assert one.files == {"prediction": tmp_path / "p.nii.gz", "reference": tmp_path / "r.nii.gz"}
    assert two.files["body"] == tmp_path / "b.nii.gz"
    assert str(two.files["prediction"]) == "/x/p.nii.gz"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("case,prediction\n1,a\n", "lacks the column 'reference'"),
        ("case,prediction,reference,ct\n", "unknown column 'ct'"),
        ("case,prediction,reference,body,mask\n", "column 'body' twice"),
        ("case,prediction,reference\n1,a\n", "Line 2 .* has 2 cells and the header 3"),
        ("case,prediction,reference\n,a,b\n", "names no case"),
        ("case,prediction,reference\n1,a,b\n1,a,b\n", "stands twice"),
        ("case,prediction,reference\n", "lists no case"),
    ],
)
def test_a_faulty_table_is_refused_with_its_line(tmp_path, text, sentence):
    table = tmp_path / "cases.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(ProstateXferError, match=sentence):
        read_case_table(table)
