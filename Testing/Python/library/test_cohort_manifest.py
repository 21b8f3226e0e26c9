# SPDX-License-Identifier: Apache-2.0
"""The cases of a batch: from a CSV, from a folder of studies, from a folder of images; every fault with its place."""

import pytest
from outcomes.refusal import refusal

from ProstateXferLib.cohort.manifest import read_manifest
from ProstateXferLib.cohort.options import StudyInputs


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [folder / name for name in names]


def csv(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "cases.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_gives_cases_with_paths_from_its_own_folder(tmp_path, delimiter, encoding):
    a, b, c = touch(tmp_path, "img/Müller, A/t2w.nii.gz", "b.mha", "ct.nrrd")
    text = 'Case,T2w,cbct,reference_ct\nMüller 1,"img/Müller, A/t2w.nii.gz",,\n\n 2 ,b.mha,b.mha,{ct}\n'
    if delimiter != ",":
        text = text.replace(", A", "§").replace(",", delimiter).replace("§", ", A")
    cases = read_manifest(csv(tmp_path, text.format(ct=c), encoding)).cases
    assert [case.name for case in cases] == ["Müller 1", "2"]
    assert [case.inputs for case in cases] == [StudyInputs(t2w=a), StudyInputs(t2w=b, cbct=b, reference_ct=c)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "Line 1 of 'cases.csv' must name the column 'case'"),
        ("t2w\na.nii.gz\n", "Line 1 of 'cases.csv' must name the column 'case'"),
        ("case\n1\n", "and at least one of t2w, adc"),
        (
            "case,t2w,hbv\n1,a.nii.gz,\n",
            "Line 1 of 'cases.csv' has the unknown column 'hbv': the columns are case, t2w",
        ),
        ("case,t2w,t2w\n1,a.nii.gz,\n", "has the column 't2w' twice"),
        ("case,t2w\n", "lists no case"),
        ("case,t2w\n1,a.nii.gz\n2,gone.nii.gz\n", "Line 3 of 'cases.csv': there is no file or folder"),
        ("case,t2w\n1,a.nii.gz\n1,a.nii.gz\n", "'1' stands twice (line 2 of 'cases.csv', line 3 of 'cases.csv')"),
        ("case,t2w\nA,a.nii.gz\na,a.nii.gz\n", "'a' stands twice"),
        ("case,t2w\n1,a.nii.gz,3\n", "Line 2 of 'cases.csv' has 3 cells and the header 2"),
        ("case,t2w\n1,\n", "Line 2 of 'cases.csv' names no image for the case '1'"),
        ('case,t2w\n1,"a.nii.gz\n', "is no sound CSV near line"),
    ],
)
def test_what_is_wrong_with_a_csv_is_told_with_its_line(tmp_path, text, part):
    touch(tmp_path, "a.nii.gz")
    assert part in refusal(read_manifest, csv(tmp_path, text))


@pytest.mark.parametrize(
    "name",
    ["", "../up", "a/b", "a\\b", "..", ".hidden", "dot.", "a:b", "what?", "tab\there", "CON", "nul.x", "x" * 200],
)
def test_a_case_name_that_is_no_safe_folder_name_is_refused_with_its_line(tmp_path, name):
    touch(tmp_path, "a.nii.gz")
    assert "line 2 of 'cases.csv'" in refusal(read_manifest, csv(tmp_path, f'case,t2w\n"{name}",a.nii.gz\n'))


def test_a_case_may_not_have_the_name_of_a_file_of_the_batch(tmp_path):
    touch(tmp_path, "a.nii.gz")
    assert "is taken" in refusal(read_manifest, csv(tmp_path, "case,t2w\nmeasurements.csv,a.nii.gz\n"))


@pytest.mark.parametrize("name", ["Ärger", "患者 7", "O'Neill-3_b.2"])
def test_names_of_all_languages_are_allowed(tmp_path, name):
    touch(tmp_path, "a.nii.gz")
    assert read_manifest(csv(tmp_path, f'case,t2w\n"{name}",a.nii.gz\n')).cases[0].name == name


def test_two_spellings_of_one_name_are_one_name(tmp_path):
    touch(tmp_path, "a.nii.gz")
    assert "stands twice" in refusal(read_manifest, csv(tmp_path, "case,t2w\nÄ,a.nii.gz\nA\u0308,a.nii.gz\n"))


def test_a_text_that_is_not_utf8_is_refused(tmp_path):
    assert "save it as CSV in UTF-8" in refusal(read_manifest, csv(tmp_path, "case,t2w\nÄ,a.nii.gz\n", "latin-1"))


def test_a_folder_of_studies_is_read_by_file_names(tmp_path):
    a, b, c, d, e = touch(
        tmp_path,
        "p1/T2W.nii.gz",
        "p1/reference-segmentation.seg.nrrd",
        "p2/cbct.mha",
        "p2/high_b.nrrd",
        "p2/t2w/slice1.dcm",
    )
    touch(tmp_path, "p1/t2w.json", "p1/notes.txt", "empty/readme.txt", "stray.nii.gz", "list.txt", ".hidden/t2w.nii")
    manifest = read_manifest(tmp_path)
    assert [(case.name, case.inputs) for case in manifest.cases] == [
        ("p1", StudyInputs(t2w=a, reference_segmentation=b)),
        ("p2", StudyInputs(cbct=c, high_b=d, t2w=e.parent)),
    ]
    assert manifest.unused == ("empty", "stray.nii.gz")


def test_two_images_for_one_input_are_refused(tmp_path):
    touch(tmp_path, "p1/t2w.nii.gz", "p1/t2w.nrrd")
    assert "holds both t2w.nii.gz and t2w.nrrd" in refusal(read_manifest, tmp_path)


def test_a_folder_of_images_has_a_case_for_each(tmp_path):
    a, b = touch(tmp_path, "Ann.B.nii.gz", "bob.mha")
    touch(tmp_path, "bob.seg.nrrd", "list.txt", "sub/x.txt")
    manifest = read_manifest(tmp_path)
    assert [(case.name, case.inputs) for case in manifest.cases] == [
        ("Ann.B", StudyInputs(t2w=a)),
        ("bob", StudyInputs(t2w=b)),
    ]
    assert manifest.unused == ("bob.seg.nrrd", "sub")


def test_what_holds_no_case_is_refused(tmp_path):
    assert "holds neither subfolders" in refusal(read_manifest, tmp_path)
    assert "There is no file or folder" in refusal(read_manifest, tmp_path / "gone")
    (image,) = touch(tmp_path, "one.nii.gz")
    assert "is one image: use prostatexfer study" in refusal(read_manifest, image)
