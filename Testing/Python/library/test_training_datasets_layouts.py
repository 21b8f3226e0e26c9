# SPDX-License-Identifier: Apache-2.0
"""Every layout's adapter finds the cases of a small tree of that layout, and what it finds can be read."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_trees import GRID, TREES, gland_labels, image_array, lesion_labels, write_tree
from dataset_trees.trees import UCLA, UID
from dataset_trees.volumes import write
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence
from ProstateXferLib.training.datasets.registry import LAYOUTS, find_cases
from ProstateXferLib.training.recipe.schema import Source


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """trees(layout): the folder of that layout's tree, written once."""
    root, made = tmp_path_factory.mktemp("datasets"), set()

    def tree(layout):
        if layout not in made:
            write_tree(layout, root / layout)
            made.add(layout)
        return root / layout

    return tree


def found(folder, layout, **options):
    """{case id: case}."""
    return {case.case_id: case for case in find_cases(Source(layout, options=options), folder)}


def mask(case, structure):
    """bool (z, y, x) on the grid of the case's first image."""
    image = read_sequence(case, next(iter(case.images)))
    return sitk.GetArrayFromImage(read_mask(case.masks[structure], Grid.of(image))) > 0


GLAND, LESION = gland_labels() > 0, lesion_labels() > 0
BACK = GLAND & (np.arange(GRID.shape_zyx[1])[:, None] >= 10)

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


def test_stl_surfaces_are_filled_to_the_very_voxels_they_were_drawn_around(trees):
    first, second = found(trees("tcia-prostate-mri-us-biopsy"), "tcia-prostate-mri-us-biopsy").values()
    assert np.array_equal(mask(first, "Prostate"), GLAND)
    assert np.array_equal(mask(first, "DIL"), LESION)
    assert second.masks["DIL"] == ()
    assert first.attributes == {"lesions": 2, "positive": 1, "highest_score": 5.0}


def test_targets_below_the_score_are_no_lesions(trees):
    folder = trees("tcia-prostate-mri-us-biopsy")
    cases = found(folder, "tcia-prostate-mri-us-biopsy", minimum_score=3)
    first = next(iter(cases.values()))
    assert [drawn.path.name.split("-")[5] for drawn in first.masks["DIL"]] == ["Target2"]
    assert first.attributes["lesions"] == 1


def test_a_target_without_a_score_is_refused_kept_or_dropped_as_asked_for(tmp_path):
    folder = write_tree("tcia-prostate-mri-us-biopsy", tmp_path / "set")
    series = f"{UID}.11"
    lines = f"Patient ID,Target No.,seriesInstanceUID_MR,{UCLA}\nProstate-MRI-US-Biopsy-0001,1,{series},3\n"
    next(folder.glob("*.xlsx")).unlink()
    (folder / "Target-Data.csv").write_text(lines, encoding="utf-8")
    with pytest.raises(ProstateXferError, match="no score of target 2 of 'Prostate-MRI-US-Biopsy-0001'"):
        found(folder, "tcia-prostate-mri-us-biopsy", minimum_score=3)
    for choice, count in (("keep", 2), ("drop", 1)):
        cases = found(folder, "tcia-prostate-mri-us-biopsy", minimum_score=3, unscored=choice)
        assert next(iter(cases.values())).attributes["lesions"] == count


def test_a_score_needs_the_spreadsheet(trees, tmp_path):
    (tmp_path / "set").symlink_to(trees("tcia-prostate-mri-us-biopsy") / "manifest-1")
    (tmp_path / "STLs").symlink_to(trees("tcia-prostate-mri-us-biopsy") / "STLs")
    with pytest.raises(ProstateXferError, match="minimum_score needs the spreadsheet"):
        found(tmp_path, "tcia-prostate-mri-us-biopsy", minimum_score=3)


def test_cspca_is_isup_two_and_more_and_negatives_were_looked_at(trees):
    cases = found(trees("picai"), "picai")
    assert np.array_equal(mask(cases["10000_1000000"], "DIL"), LESION)  # ISUP 3
    assert not mask(cases["10000_1000001"], "DIL").any()  # ISUP 1
    assert cases["10001_1000002"].masks["DIL"] == ()  # no file, no csPCa by the marksheet
    assert np.array_equal(mask(cases["10002_1000003"], "DIL"), LESION)  # Pooch25: yes or no
    assert cases["10000_1000000"].patient_id == cases["10000_1000001"].patient_id == "10000"
    assert cases["10000_1000000"].attributes == {"positive": 1, "isup": 3, "lesions": 1, "site": "RUMC"}
    only = found(trees("picai"), "picai", site="ZGT", sequences=["T2w"], zones="Yuan23")
    assert list(only) == ["10001_1000002"]
    assert np.array_equal(mask(only["10001_1000002"], "Peripheral zone"), BACK)


def test_a_missing_folder_of_labels_is_named(trees):
    with pytest.raises(ProstateXferError, match=r"Bosma22a.*not there"):
        found(trees("picai"), "picai", lesions=["Bosma22a"])


def test_zones_of_the_challenge_make_the_gland_and_patients_know_their_site(trees):
    cases = found(trees("nci-isbi-2013"), "nci-isbi-2013")
    case = cases["Prostate3T-01-0001"]
    assert np.array_equal(mask(case, "Prostate"), GLAND)
    assert np.array_equal(mask(case, "Peripheral zone"), BACK)
    assert case.attributes == {"site": "RUNMC", "field_strength_t": 3.0, "coil": "surface", "part": "training"}
    assert cases["ProstateDx-01-0002"].attributes["part"] == "leaderboard"
    # The challenge's page says that this one's labels have fewer slices but the right place.
    assert [c for c, case in cases.items() if case.masks["Prostate"][0].resample] == ["ProstateDx-01-0055"]
    bmc = found(trees("nci-isbi-2013"), "nci-isbi-2013", site="BMC", part="training", zone_values=[2, 1])
    assert list(bmc) == ["ProstateDx-01-0055"]
    assert np.array_equal(mask(bmc["ProstateDx-01-0055"], "Transition zone"), BACK)


def test_dicom_masks_are_read_and_a_patient_without_a_drawn_cancer_is_not_annotated_for_it(trees):
    first, second = found(trees("i2cvb"), "i2cvb").values()
    assert np.array_equal(mask(first, "Prostate"), GLAND)
    assert np.array_equal(mask(first, "DIL"), LESION)
    assert np.array_equal(mask(first, "Peripheral zone"), BACK)
    assert "DIL" not in second.masks


def test_prostate158_numbers_its_zones_the_other_way_round_and_keeps_its_validation_cases(trees):
    cases = found(trees("prostate158"), "prostate158")
    assert np.array_equal(mask(cases["train-020"], "Peripheral zone"), BACK)
    assert np.array_equal(mask(cases["train-020"], "Prostate"), GLAND)
    assert cases["train-021"].masks["DIL"] == ()
    assert {name: case.attributes["part"] for name, case in cases.items()} == {
        "train-020": "train",
        "train-021": "valid",
        "test-001": "test",
    }


def test_both_parts_of_promise12_number_from_zero_and_stay_apart(trees):
    assert list(found(trees("promise12"), "promise12", part="")) == ["test-Case00", "train-Case00", "train-Case01"]


def test_of_a_4d_file_the_asked_for_volume_is_read(trees):
    case = found(trees("msd"), "msd", sequences=["ADC"])["prostate_02"]
    assert list(case.images) == ["ADC"]
    assert np.array_equal(sitk.GetArrayViewFromImage(read_sequence(case, "ADC")), image_array(11))
    assert np.array_equal(mask(case, "Prostate"), GLAND)


def test_the_tumour_is_part_of_the_pancreas(trees):
    case = found(trees("panther"), "panther")["10000_0001"]
    assert np.array_equal(mask(case, "Pancreas"), GLAND)
    assert np.array_equal(mask(case, "Pancreatic tumour"), LESION)


def test_regions_of_nnunet_keep_their_values_and_its_folds_are_honoured(trees):
    cases = found(trees("nnunet"), "nnunet", fold=1, patient=r"^(pat\d)")
    assert np.array_equal(mask(cases["pat0_visit0"], "Prostate"), GLAND)
    assert np.array_equal(mask(cases["pat0_visit0"], "DIL"), LESION)
    assert [name for name, case in cases.items() if case.attributes["part"] == "val"] == ["pat1_visit0", "pat2_visit0"]
    assert cases["pat3_visit0"].patient_id == cases["pat3_visit1"].patient_id == "pat3"
    assert list(found(trees("nnunet"), "nnunet", part="test")) == ["pat9_visit0"]
    with pytest.raises(ProstateXferError, match=r"no splits_final\.json with a fold 7"):
        found(trees("nnunet"), "nnunet", fold=7)


def test_a_channel_that_is_missing_is_named(tmp_path):
    folder = write_tree("nnunet", tmp_path / "set")
    (folder / "imagesTr" / "pat2_visit0_0001.nii.gz").unlink()
    with pytest.raises(ProstateXferError, match=r"pat2_visit0.*_0001\.nii\.gz"):
        found(folder, "nnunet")


def test_a_table_tells_not_annotated_from_nothing_found(trees):
    first, second = found(trees("csv"), "csv").values()
    assert (first.patient_id, second.patient_id) == ("p1", "second")
    assert np.array_equal(mask(first, "DIL"), LESION)
    assert second.masks["DIL"] == ()
    assert first.attributes == {"site": "North", "lesions": 1, "age": 61.5}


def test_bones_have_names_and_scans_their_table(trees):
    cases = found(trees("wb-mri"), "wb-mri")
    assert np.array_equal(mask(cases["v01-siteA"], "Pelvis"), BACK)
    assert np.array_equal(mask(cases["m07-baseline"], "Bone lesion"), LESION)
    assert cases["m07-baseline"].attributes == {"lesions": 1, "site": "Ghent"}
    assert list(found(trees("wb-mri"), "wb-mri", annotated="lesions")) == ["m07-baseline"]


def test_synthrad_2025_says_that_it_has_no_pelvis(trees):
    with pytest.raises(ProstateXferError, match="no pelvis: use the layout synthrad2023"):
        found(trees("synthrad2025"), "synthrad2025", region="pelvis")


def test_folders_of_cases_may_come_with_a_table_and_need_what_is_required(tmp_path):
    folder = write_tree("cases", tmp_path / "set")
    (folder / "cases.csv").write_text("case_id,patient_id,lesions\na,p,0\nb,p,2\n", encoding="utf-8")
    cases = found(folder, "cases")
    assert [case.patient_id for case in cases.values()] == ["p", "p", "c"]
    assert cases["b"].attributes == {"lesions": 2}
    assert list(found(folder, "cases", require=["lesion"])) == ["b"]


def test_series_of_dicom_are_images_only_too(trees):
    cases = found(trees("i2cvb"), "images-only", dicom=True, pattern="*/T2W")
    assert list(cases) == ["Patient_383/T2W", "Patient_387/T2W"]
    assert np.array_equal(sitk.GetArrayViewFromImage(read_sequence(cases["Patient_387/T2W"], "T2w")), image_array(1))


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


def test_a_grid_that_differs_is_refused_unless_resampling_is_asked_for(tmp_path):
    folder = write_tree("csv", tmp_path / "set")
    coarse = Grid((12, 10, 8), (4.0, 5.0, 3.0), GRID.index_to_lps([0.5, 0.5, 0]))
    image = coarse.image(gland_labels()[:, ::2, ::2])
    write(gland_labels(), folder / "labels" / "a.nrrd").unlink()
    sitk.WriteImage(image, str(folder / "labels" / "a.nrrd"))
    with pytest.raises(ProstateXferError, match=r"another grid.*resample: true"):
        mask(found(folder, "csv")["first"], "Prostate")
    brought = mask(found(folder, "csv", resample=True)["first"], "Prostate")
    assert 2 * (brought & GLAND).sum() / (brought.sum() + GLAND.sum()) > 0.85


def test_the_order_in_which_voxels_are_stored_is_no_other_grid(tmp_path):
    folder = write_tree("csv", tmp_path / "set")
    labels = GRID.image(gland_labels() + lesion_labels(2))
    for turned in (labels[::-1, :, ::-1], sitk.PermuteAxes(labels, [2, 0, 1])):
        sitk.WriteImage(turned, str(folder / "labels" / "a.nrrd"))
        assert not Grid.of(turned).same_as(GRID, 0.01)
        assert np.array_equal(mask(found(folder, "csv")["first"], "DIL"), LESION)
        assert np.array_equal(mask(found(folder, "csv")["first"], "Prostate"), GLAND)
    shifted = sitk.Image(labels)
    shifted.SetOrigin(tuple(GRID.index_to_lps([1, 0, 0])))
    sitk.WriteImage(shifted, str(folder / "labels" / "a.nrrd"))
    with pytest.raises(ProstateXferError, match="another grid"):
        mask(found(folder, "csv")["first"], "DIL")


@pytest.mark.parametrize(
    ("layout", "path", "count", "structures"),
    [
        ("cases", "promise12/train", 42, {"Prostate"}),
        ("cases", "real/prostate_t2w", 5, {"Prostate", "DIL", "Peripheral zone", "Transition zone"}),
        ("images-only", "promise12/unlabelled", 29, set()),
        ("images-only", "real/ct_mr", 4, set()),
    ],
)
def test_real_images_are_found(real_data, layout, path, count, structures):
    cases = find_cases(Source(layout, path), real_data)
    assert len(cases) == count
    assert {name for case in cases for name in case.masks} == structures


def test_real_zones_lie_in_the_real_gland_the_peripheral_one_behind(real_data):
    cases = {case.case_id: case for case in find_cases(Source("cases", "real/prostate_t2w"), real_data)}
    case = cases["prostatex_0001"]
    gland, back, middle = (mask(case, name) for name in ("Prostate", "Peripheral zone", "Transition zone"))
    zones = back | middle
    assert 2 * (zones & gland).sum() / (zones.sum() + gland.sum()) > 0.9
    assert np.argwhere(back)[:, 1].mean() > np.argwhere(middle)[:, 1].mean()
