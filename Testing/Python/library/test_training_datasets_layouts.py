# SPDX-License-Identifier: Apache-2.0
"""Every layout: its cases, sequences and structures, and one sentence where something is missing."""

import json

import pytest
import SimpleITK as sitk

from dataset_trees import GRID, TREES
from dataset_trees.lookup import found, mask, trees_in
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.training.datasets.masks import read_sequence
from ProstateXferLib.training.datasets.registry import LAYOUTS, find_cases
from ProstateXferLib.training.recipe.schema import Source


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """trees(layout): the folder of that layout's tree, written once."""
    return trees_in(tmp_path_factory.mktemp("datasets"))


# layout, options, ids of the cases, patients, what the first case has.
EXPECTED = [
    ("cases", {}, ["a", "b", "c"], 3, {"T2w"}, {"Prostate"}),
    ("csv", {}, ["first", "second"], 2, {"T2w", "ADC"}, {"Prostate", "DIL"}),
    ("images-only", {}, ["alone", "p1/later/t2w", "p1/t2w"], 3, {"T2w"}, set()),
    ("nnunet", {}, [*(f"pat{i}_visit0" for i in range(4)), "pat3_visit1"], 5, {"T2w", "ADC"}, {"Prostate", "DIL"}),
    (
        "msd",
        {},
        ["prostate_00", "prostate_02"],
        2,
        {"T2w", "ADC"},
        {"Prostate", "Peripheral zone", "Transition zone"},
    ),
    (
        "tcia-prostate-mri-us-biopsy",
        {},
        [f"Prostate-MRI-US-Biopsy-000{i}-1.3.6.1.4.1.14519.5.2.1.{i}1" for i in (1, 2)],
        2,
        {"T2w"},
        {"Prostate", "DIL"},
    ),
    (
        "picai",
        {},
        ["10000_1000000", "10000_1000001", "10001_1000002", "10002_1000003"],
        3,
        {"T2w", "ADC", "HBV"},
        {"Prostate", "DIL"},
    ),
    (
        "nci-isbi-2013",
        {},
        ["Prostate3T-01-0001", "ProstateDx-01-0002", "ProstateDx-01-0055"],
        3,
        {"T2w"},
        {"Prostate", "Peripheral zone", "Transition zone"},
    ),
    (
        "i2cvb",
        {},
        ["Patient_383", "Patient_387"],
        2,
        {"T2w"},
        {"Prostate", "Peripheral zone", "Transition zone", "DIL"},
    ),
    ("promise12", {}, ["train-Case00", "train-Case01"], 2, {"T2w"}, {"Prostate"}),
    (
        "prostate158",
        {},
        ["test-001", "train-020", "train-021"],
        3,
        {"T2w", "ADC", "DWI"},
        {"Prostate", "Transition zone", "Peripheral zone", "DIL"},
    ),
    ("synthrad2023", {}, ["1PA001", "1PC002"], 2, {"MR", "CT"}, {"Body"}),
    ("synthrad2023", {"task": 2}, ["2PA001"], 1, {"CBCT", "CT"}, {"Body"}),
    ("synthrad2025", {}, ["1ABA005"], 1, {"MR", "CT"}, {"Body"}),
    ("synthrad2025", {"task": 2, "region": "TH"}, ["2THC001"], 1, {"CBCT", "CT"}, {"Body"}),
    ("panther", {}, ["10000_0001", "10001_0001"], 2, {"T1w"}, {"Pancreatic tumour", "Pancreas"}),
    ("panther", {"task": 2}, ["10303"], 1, {"T2w"}, {"Pancreatic tumour", "Pancreas"}),
    ("panther", {"unlabelled": True}, ["10000_0002"], 1, {"T1w"}, set()),
    ("wb-mri", {}, ["m07-baseline", "v01-siteA", "v01-siteB"], 2, {"T1w", "DWI"}, {"Bone lesion"}),
]


@pytest.mark.parametrize(("layout", "options", "ids", "patients", "sequences", "structures"), EXPECTED)
def test_a_layout_gives_its_cases_sorted_with_sequences_and_structures(
    trees, layout, options, ids, patients, sequences, structures
):
    cases = found(trees(layout), layout, **options)
    assert list(cases) == sorted(ids)
    assert len({case.patient_id for case in cases.values()}) == patients
    first = next(iter(cases.values()))
    assert set(first.images) == sequences
    assert set(first.masks) == structures
    for case in cases.values():
        for sequence in case.images:
            assert Grid.of(read_sequence(case, sequence)).same_as(GRID, 1e-4)
        for structure in case.masks:
            assert mask(case, structure).any() == bool(case.masks[structure]) or case.case_id == "10000_1000001"


def test_there_is_a_tree_for_every_layout_that_lies_on_disk():
    assert set(TREES) == set(LAYOUTS) - {"phantoms"}
    assert {layout for layout, *_ in EXPECTED} == set(TREES)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "phantoms"])
def test_an_empty_folder_is_answered_with_what_was_expected_there(tmp_path, layout):
    with pytest.raises(ProstateXferError, match=rf"{layout}|dataset\.json|cases\.csv"):
        found(tmp_path, layout)


def test_folders_that_are_links_are_followed_once(trees, tmp_path):
    (tmp_path / "data").symlink_to(trees("promise12"))
    (tmp_path / "back").symlink_to(tmp_path)
    assert list(found(tmp_path, "promise12")) == ["train-Case00", "train-Case01"]


def test_a_phantom_is_a_seed():
    cases = found("nowhere", "phantoms", first_seed=40, count=3)
    assert [case.attributes["phantom_seed"] for case in cases.values()] == [40, 41, 42]
    assert all(case.images == {} for case in cases.values())
    assert len({case.patient_id for case in cases.values()}) == 3


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        ("nowhere", {}, "data layout 'nowhere' is none of cases, csv"),
        ("cases", {"sight": "A"}, "has no option 'sight'; it takes require, zone_values, lesion_values, id_prefix"),
        ("cases", {"require": "lesion"}, "'require' of the layout 'cases' is a list, not 'lesion'"),
        ("cases", {"zone_values": [1]}, "two label values"),
        ("promise12", {"part": "valid"}, "one of train, test, , not 'valid'"),
        ("panther", {"task": "one"}, "a whole number, not 'one'"),
        ("panther", {"task": 2, "unlabelled": True}, "no unlabelled images"),
        ("tcia-prostate-mri-us-biopsy", {"frame": "LPI"}, "one of lps, ras, not 'LPI'"),
        ("csv", {"table": "other.csv"}, r"no table '.*other\.csv'"),
        ("nnunet", {"patient": "(x)"}, "does not match the case id"),
    ],
)
def test_an_option_that_cannot_be_is_told(trees, tmp_path, layout, options, words):
    folder = trees(layout) if layout in TREES else tmp_path
    with pytest.raises(ProstateXferError, match=words):
        found(folder, layout, **options)


def test_a_prefix_makes_equal_ids_two_people(trees):
    cases = found(trees("cases"), "cases", id_prefix="site2-")
    assert [(case.case_id, case.patient_id) for case in cases.values()] == [(f"site2-{c}", f"site2-{c}") for c in "abc"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ProstateXferError, match=r"no data folder '.*elsewhere'"):
        find_cases(Source("cases", "elsewhere"), tmp_path)


def test_no_voxel_is_read_to_find_cases(trees, monkeypatch):
    folders = {layout: trees(layout) for layout in TREES}

    def refuse(*_args, **_kwargs):
        raise AssertionError("voxels were read")

    for name in ("ReadImage", "GetArrayFromImage", "GetArrayViewFromImage"):
        monkeypatch.setattr(sitk, name, refuse)
    assert all(found(folder, layout) for layout, folder in folders.items())


def test_a_damaged_description_is_one_sentence(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {}}), encoding="utf-8")
    with pytest.raises(ProstateXferError, match="has no 'channel_names'"):
        found(tmp_path, "nnunet")
