# SPDX-License-Identifier: Apache-2.0
"""What single layouts know: scores, zones, parts, regions, tables."""

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_trees import GRID, gland_labels, image_array, lesion_labels, write_tree
from dataset_trees.lookup import found, mask, trees_in
from dataset_trees.trees import UCLA, UID
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.datasets.masks import read_sequence


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """trees(layout): the folder of that layout's tree, written once."""
    return trees_in(tmp_path_factory.mktemp("datasets"))


GLAND, LESION = gland_labels() > 0, lesion_labels() > 0
BACK = GLAND & (np.arange(GRID.shape_zyx[1])[:, None] >= 10)


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
