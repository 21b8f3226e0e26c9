# SPDX-License-Identifier: Apache-2.0
"""One case: labels by name, numbers equal to those of `measure`, and an honest word where there is no number."""

import math

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.evaluate_case import evaluate_case
from ProstateXferLib.evaluation.label_names import LabelNames, canonical_name, scheme_of
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE, generic_structure
from ProstateXferLib.metrics.measure import measure

GRID = Grid((40, 36, 12), (0.5, 0.75, 3.0), (3.0, -4.0, 5.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
GLAND, LESION = np.s_[2:10, 8:28, 8:30], np.s_[4:7, 10:16, 10:18]


def painted(*boxes, grid=GRID, dtype=np.uint8):
    labels = np.zeros(grid.shape_zyx, dtype)
    for value, box in boxes:
        labels[box] = value
    return grid.image(labels)


REFERENCE = painted((1, GLAND), (2, LESION))
PREDICTION = painted((1, np.s_[2:10, 9:29, 8:29]), (2, np.s_[4:8, 11:17, 10:17]), (2, np.s_[8:9, 20:23, 20:23]))
EMPTY = painted()


@pytest.fixture
def score(tmp_path):
    """score(prediction image, reference image, **options): the case's result; a path is taken as it is."""

    def run(prediction, reference, **options):
        files = {}
        for role, image in (("prediction", prediction), ("reference", reference)):
            files[role] = image if not isinstance(image, sitk.Image) else tmp_path / f"{role}.nii.gz"
            if isinstance(image, sitk.Image):
                write_image(image, files[role])
        return evaluate_case(CaseFiles("one", files), EvaluationOptions(**options))

    return run


def numbers(result, structure, component=0):
    (method,) = result.methods.values()
    assert method.failure == ""
    return {v.metric: v.value for v in method.values if (v.structure, v.component) == (structure, component)}


def reasons(result, structure):
    return {v.metric: v.reason for v in result.methods["prediction"].values if v.structure == structure and v.reason}


@pytest.mark.parametrize("name", ["Prostate", "DIL"])
def test_dice_volumes_and_centroids_are_those_of_measure(score, name):
    found = numbers(score(PREDICTION, REFERENCE), name)
    row = next(row for row in measure(PREDICTION, reference=REFERENCE) if row.id == name)
    assert found["dice"] == row.dice
    assert found["volume_prediction"] == row.volume_cm3
    assert found["volume_difference"] == pytest.approx(row.volume_difference_cm3, abs=1e-12)
    # The file keeps the origin in single precision.
    assert found["centroid_distance"] == pytest.approx(row.centroid_distance_mm, abs=1e-6)


def test_surface_metrics_are_those_of_the_whole_volumes(score):
    from ProstateXferLib.metrics.surface import surface_metrics

    found = numbers(score(PREDICTION, REFERENCE, tolerances_mm=(0.5, 2.0)), "DIL")
    masks = [sitk.GetArrayFromImage(image) == 2 for image in (REFERENCE, PREDICTION)]
    whole = surface_metrics(*masks, GRID.spacing_zyx, tolerances_mm=(0.5, 2.0))
    assert found["hd95"] == pytest.approx(whole.hd95, abs=1e-6)
    assert found["assd"] == pytest.approx(whole.assd, abs=1e-6)
    assert [found["nsd_0.5mm"], found["nsd_2mm"]] == pytest.approx([whole.nsd[0.5], whole.nsd[2.0]])


def test_lesions_have_rows_of_their_own(score):
    result = score(PREDICTION, REFERENCE)
    exam = numbers(result, "DIL")
    assert (exam["lesions_reference"], exam["lesions_detected"], exam["false_positives"]) == (1, 1, 1)
    assert exam["f2"] == pytest.approx(5 / 6)
    lesion = numbers(result, "DIL", component=1)
    assert lesion["lesion_volume"] == pytest.approx(3 * 6 * 8 * 0.5 * 0.75 * 3 / 1000, rel=1e-6)
    assert lesion["lesion_detected"] == 1


def test_a_missed_lesion_has_dice_0_and_no_distance_with_the_reason(score):
    result = score(painted((1, GLAND)), REFERENCE)
    found = numbers(result, "DIL")
    assert (found["dice"], found["recall"], found["nsd_1mm"]) == (0, 0, 0)
    assert math.isnan(found["hd95"])
    assert math.isnan(found["precision"])
    assert reasons(result, "DIL")["hd95"] == "prediction empty"
    assert reasons(result, "DIL")["index_lesion_distance"] == "the lesion was missed and nothing was predicted"


def test_the_penalty_is_the_diagonal_of_the_image_and_not_of_a_crop(score):
    found = numbers(score(painted((1, GLAND)), REFERENCE, empty="penalty"), "DIL")
    assert found["hd95"] == pytest.approx(math.hypot(40 * 0.5, 36 * 0.75, 12 * 3), rel=1e-6)


@pytest.mark.parametrize(("empty", "dice", "hd95"), [("best_worst", 1.0, 0.0), ("nan", math.nan, math.nan)])
def test_two_empty_files_follow_the_rule(score, empty, dice, hd95):
    names = LabelNames.parse(["1=Prostate"])
    result = score(EMPTY, EMPTY, empty=empty, prediction_names=names, reference_names=names)
    found = numbers(result, "Prostate") if result.methods["prediction"].values else {}
    assert found["dice"] == pytest.approx(dice, nan_ok=True)
    assert found["hd95"] == pytest.approx(hd95, nan_ok=True)
    assert math.isnan(found["centroid_distance"])
    assert reasons(result, "Prostate")["centroid_distance"] == "both empty"


def test_segments_are_matched_by_name_whatever_their_values(score, tmp_path):
    prostate, dil = PROSTATE.with_value(7), DIL.with_value(3)
    path = write_segmentation(painted((7, GLAND), (3, LESION)), (prostate, dil), tmp_path / "r.seg.nrrd")
    result = score(PREDICTION, path)
    assert numbers(result, "DIL") == pytest.approx(numbers(score(PREDICTION, REFERENCE), "DIL"), nan_ok=True)
    assert numbers(result, "Prostate")["dice"] == numbers(score(PREDICTION, REFERENCE), "Prostate")["dice"]


def test_lesions_of_a_slicer_file_are_dils_by_their_names(score, tmp_path):
    segments = (PROSTATE, generic_structure(2, "Lesion_1"), generic_structure(3, "Lesion_2"))
    path = write_segmentation(
        painted((1, GLAND), (2, LESION), (3, np.s_[8:9, 20:23, 20:23])), segments, tmp_path / "r.seg.nrrd"
    )
    assert numbers(score(PREDICTION, path), "DIL")["lesions_reference"] == 2


def test_zones_together_are_the_gland(score):
    halves = (3, np.s_[2:6, 8:28, 8:30]), (4, np.s_[6:10, 8:28, 8:30])
    names = LabelNames({3: PERIPHERAL_ZONE.name, 4: TRANSITION_ZONE.name})
    result = score(painted((1, GLAND)), painted(*halves), reference_names=names)
    assert numbers(result, "Prostate")["dice"] == 1
    assert "Prostate" in result.declared


def test_any_names_every_value_of_a_lesion_mask_of_grades(score):
    names = LabelNames.parse(["any=lesion"])
    reference = painted((3, LESION), (5, np.s_[8:9, 20:23, 20:23]), dtype=np.uint16)
    result = score(reference, reference, prediction_names=names, reference_names=names)
    assert numbers(result, "DIL")["lesions_reference"] == 2
    assert numbers(result, "DIL")["dice"] == 1


def test_labels_written_as_floats_are_labels_and_fractions_are_none(score):
    as_float = sitk.Cast(REFERENCE, sitk.sitkFloat32)
    assert numbers(score(as_float, REFERENCE), "DIL")["dice"] == 1
    assert "holds fractions" in score(as_float * 0.5, REFERENCE).failures["prediction"]


def test_another_grid_is_refused_in_a_sentence_and_resampled_when_told(score):
    moved = Grid(GRID.size_xyz, GRID.spacing_xyz, (3.0, -4.0, 6.0), GRID.direction)
    prediction = moved.image(sitk.GetArrayFromImage(REFERENCE))
    assert "their voxels lie up to 1 mm apart" in score(prediction, REFERENCE).failures["prediction"]
    result = score(prediction, REFERENCE, resample=True)
    assert numbers(result, "Prostate")["dice"] == 1  # 1 mm of 3: nearest neighbour moves nothing
    assert result.methods["prediction"].warnings == ("The prediction was resampled (nearest) to the reference's grid.",)
    smaller = Grid((20, 36, 12), GRID.spacing_xyz, GRID.origin_lps, GRID.direction)
    assert "20 x 36 x 12 and 40 x 36 x 12 voxels" in score(painted(grid=smaller), REFERENCE).failures["prediction"]


def test_the_rounding_of_a_header_is_no_other_grid(score):
    turned = np.reshape(GRID.direction, (3, 3)) @ [[1, 2e-5, 0], [-2e-5, 1, 0], [0, 0, 1]]
    rounded = Grid(GRID.size_xyz, GRID.spacing_xyz, GRID.origin_lps, tuple(turned.ravel()))
    assert numbers(score(rounded.image(sitk.GetArrayFromImage(REFERENCE)), REFERENCE), "DIL")["dice"] == 1


def test_a_bad_file_is_a_sentence_and_no_exception(score, tmp_path):
    path = tmp_path / "bad.nii.gz"
    path.write_bytes(b"nothing")
    assert "damaged" in score(path, REFERENCE).failures["prediction"]
    assert "damaged" in score(PREDICTION, path).failures["prediction"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x=DIL"], "not VALUE=NAME"),
        (["0=DIL"], "not VALUE=NAME"),
        (["1="], "not VALUE=NAME"),
        (["1=A", "1=B"], "two names"),
        (["any=DIL", "1=Prostate"], "must be the only name"),
    ],
)
def test_names_that_mean_nothing_are_refused(words, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        LabelNames.parse(words)


def test_known_structures_have_the_library_s_names_and_values():
    assert canonical_name("whole_gland") == "Prostate"
    assert canonical_name(" Urethral sphincter ") == "Urethral sphincter"
    structures = {s.name: s for s in scheme_of(frozenset({"Prostate", "DIL", "Muscle"}))}
    assert (structures["Prostate"].value, structures["DIL"].value) == (1, 2)
    assert structures["DIL"].part_of == "Prostate"
    assert structures["Muscle"].value >= 100
