# SPDX-License-Identifier: Apache-2.0
"""What is measured of an ensemble is what running its file and `prostatexfer evaluate --empty penalty` would give."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from ensemble_cases.cones import GRID, distances_mm

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.evaluate_case import evaluate_case
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.structures import PERIPHERAL_ZONE, TRANSITION_ZONE
from ProstateXferLib.pipelines.ensemble import make_ensemble
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.studies.ensemble_selection.box import EMPTY, Box
from ProstateXferLib.studies.ensemble_selection.deciding_heads import deciding_heads
from ProstateXferLib.studies.ensemble_selection.measure_of import measure_of
from ProstateXferLib.studies.ensemble_selection.opened_plan import open_plan
from ProstateXferLib.studies.ensemble_selection.options import SelectionOptions
from ProstateXferLib.studies.ensemble_selection.plan import Candidate, Plan, PlannedCase
from ProstateXferLib.studies.ensemble_selection.prediction_file import find_prediction, write_prediction
from ProstateXferLib.studies.ensemble_selection.predictions import predict_all

KEYS = ("dice", "nsd_5mm", "hd95", "masd", "volume_error")
NAMES = LabelNames({1: "Prostate", 2: "DIL", 3: "Peripheral zone", 4: "Transition zone"})


@pytest.fixture
def image(tmp_path):
    """A cone with noise on it and two dark spots, so that components, lesions and edges matter."""
    values = 1000 * (0.9 - 0.05 * distances_mm(3)) + np.random.default_rng(1).normal(0, 120, GRID.shape_zyx)
    values[2:5, 12:16, 12:16] = values[1:3, 20:22, 14:18] = -600
    return write_image(GRID.image(np.clip(values, -900, 900).astype(np.float32)), tmp_path / "t2w.nii.gz")


@pytest.fixture
def reference(tmp_path):
    labels = (distances_mm(3) <= 12).astype(np.uint8)
    labels[2:5, 12:17, 12:16] = 2
    return write_image(GRID.image(labels), tmp_path / "labels.nii.gz")


def measured(tmp_path, models, image, reference, *, structure, average):
    """The measure of candidates that are one model each, on one case."""
    case = PlannedCase("case", image, reference, "case")
    plan = Plan((case,), tuple(Candidate(name, {"case": path}) for name, path in models.items()))
    options = SelectionOptions(structure=structure, average=average, device="cpu", reference_names=NAMES)
    opened = open_plan(plan, structure)
    predictions = predict_all(opened, options, tmp_path / "work", SilentProgress())
    return measure_of(opened, predictions, options, SilentProgress())


def by_running(tmp_path, models, image, reference, *, members, structure, average):
    """The same from the ensemble's file and the evaluation of its label map."""
    ensemble = make_ensemble(
        tmp_path / "run.safetensors", [models[name] for name in members.names], members.weights, average
    )
    found = Segmenter(ensemble, device="cpu").predict(read_image(image))
    prediction = write_image(found.labels, tmp_path / "run.nii.gz")
    options = EvaluationOptions(
        prediction_names=NAMES, reference_names=NAMES, structures=(structure,), tolerances_mm=(5.0,), empty="penalty"
    )
    result = evaluate_case(CaseFiles("case", {"prediction": prediction, "reference": reference}), options)
    values = {one.metric: one.value for one in result.methods["prediction"].values if one.component == 0}
    return [values[key] for key in KEYS], sitk.GetArrayFromImage(found.labels)


@pytest.fixture
def lesion_models(tmp_path, threshold_state, segmentation_card):
    """Gland and DIL, with rules of their own: the heaviest one's count."""
    card = segmentation_card("gland", "dil")
    models = {}
    for name, gland, dil, largest, threshold in (("a", 0.1, 0.3, True, 0.4), ("b", 0.45, 0.5, False, None)):
        heads = (
            dataclasses.replace(card.heads[0], largest_only=largest, threshold=threshold),
            dataclasses.replace(card.heads[1], min_volume_cm3=0.2 if largest else 0.0),
        )
        state = threshold_state(gland=(gland,), dil=(dil,), inverted=("dil",))
        own = dataclasses.replace(card, name=name, heads=heads)
        models[name] = write_checkpoint(tmp_path / f"{name}.safetensors", own, state)
    return models


@pytest.mark.parametrize("average", ["probability", "logit"])
@pytest.mark.parametrize("structure", ["Prostate", "DIL"])
@pytest.mark.parametrize("weights", [(0.7, 0.3), (0.2, 0.8)])
def test_gland_and_lesion_are_measured_as_the_file_runs(
    tmp_path, lesion_models, image, reference, average, structure, weights
):
    members, what = Members(("a", "b"), weights), {"structure": structure, "average": average}
    measure = measured(tmp_path, lesion_models, image, reference, **what)
    expected, labels = by_running(tmp_path, lesion_models, image, reference, members=members, **what)
    assert measure.metrics(members, "case") == pytest.approx(expected, abs=1e-9)
    assert 0 < expected[0] < 1
    found, box, _ = measure.labels(members, "case")
    whole = np.zeros_like(labels)
    whole[box.slices] = found
    assert np.array_equal(
        whole == (1 if structure == "Prostate" else 2), labels == (1 if structure == "Prostate" else 2)
    )


@pytest.mark.parametrize("average", ["probability", "logit"])
def test_classes_that_exclude_each_other_are_measured_as_the_file_runs(
    tmp_path, threshold_state, segmentation_card, image, reference, average
):
    card = segmentation_card("gland")
    head = Head("gland", (PERIPHERAL_ZONE.value, TRANSITION_ZONE.value))
    card = dataclasses.replace(card, heads=(head,), structures=(PERIPHERAL_ZONE, TRANSITION_ZONE))
    models = {
        name: write_checkpoint(
            tmp_path / f"{name}.safetensors", dataclasses.replace(card, name=name), threshold_state(gland=limits)
        )
        for name, limits in (("a", (0.1, 0.35)), ("b", (0.4, 0.5)), ("c", (0.0, 0.6)))
    }
    members, what = Members(("a", "b", "c"), (0.5, 0.25, 0.25)), {"structure": "Peripheral zone", "average": average}
    drawn = read_image(reference)
    zones = sitk.GetArrayFromImage(drawn)
    zones[zones > 0] = 3
    zones[distances_mm(3) <= 7] = 4
    reference = write_image(GRID.image(zones), tmp_path / "zones.nii.gz")
    measure = measured(tmp_path, models, image, reference, **what)
    expected, _ = by_running(tmp_path, models, image, reference, members=members, **what)
    assert measure.metrics(members, "case") == pytest.approx(expected, abs=1e-9)
    assert 0.2 < expected[0] < 1


def test_a_miss_costs_the_images_diagonal(tmp_path, threshold_state, segmentation_card, image, reference):
    models = {}
    for name in ("blind", "blinder"):
        card = dataclasses.replace(segmentation_card("gland"), name=name)
        limit = 2.0 if name == "blind" else 3.0
        models[name] = write_checkpoint(tmp_path / f"{name}.safetensors", card, threshold_state(gland=(limit,)))
    measure = measured(tmp_path, models, image, reference, structure="Prostate", average="probability")
    dice, nsd, hd95, masd, volume = measure.metrics(Members.equal(("blind", "blinder")), "case")
    diagonal_mm = np.linalg.norm(np.array(GRID.size_xyz) * GRID.spacing_xyz)
    assert (dice, nsd) == (0, 0)
    assert (hd95, masd) == pytest.approx((diagonal_mm, diagonal_mm))
    voxels = np.count_nonzero(sitk.GetArrayFromImage(read_image(reference)))
    assert volume == pytest.approx(voxels * np.prod(GRID.spacing_xyz) / 1000)


def test_the_gland_needs_its_lesions_and_the_lesions_their_gland(segmentation_card):
    card = segmentation_card("gland", "dil")
    assert deciding_heads(card, "Prostate") == deciding_heads(card, "DIL") == card.heads
    alone = dataclasses.replace(card, heads=(card.heads[0], dataclasses.replace(card.heads[1], within=None)))
    assert [head.name for head in deciding_heads(alone, "DIL")] == ["dil"]
    with pytest.raises(ProstateXferError, match="does not find 'Bladder' .it finds Prostate, DIL"):
        deciding_heads(card, "Bladder")


def test_a_kept_prediction_is_cut_and_read_back_in_any_box(tmp_path):
    volume = np.zeros((6, 8, 10), dtype=np.float32)
    volume[2:4, 3:7, 4:5] = np.random.default_rng(0).uniform(0.1, 1, (2, 4, 1))
    volume[0, 0, 0] = 5e-7  # counts as nothing
    kept = write_prediction(tmp_path / "one.safetensors", {"Prostate": volume})
    assert kept.box == Box((2, 3, 4), (2, 4, 1))
    assert find_prediction(kept.path) == kept
    for box in (Box((0, 0, 0), volume.shape), Box((3, 0, 4), (2, 5, 3)), Box((0, 0, 0), (1, 1, 1))):
        expected = np.where(volume < 1e-6, 0, volume)[box.slices]
        assert np.array_equal(kept.read(["Prostate"], box)["Prostate"], expected)
    nothing = write_prediction(tmp_path / "two.safetensors", {"Prostate": np.zeros((3, 3, 3), dtype=np.float32)})
    assert nothing.box.empty and find_prediction(nothing.path) == nothing
    assert not nothing.read(["Prostate"], Box((0, 0, 0), (2, 2, 2)))["Prostate"].any()


def test_boxes_share_and_surround():
    one, two = Box((0, 1, 2), (4, 4, 4)), Box((2, 3, 0), (4, 1, 3))
    assert one.shared(two) == Box((2, 3, 2), (2, 1, 1)) and two.shared(one) == one.shared(two)
    assert Box.around([one, EMPTY, two]) == Box((0, 1, 0), (6, 4, 6))
    assert one.shared(Box((9, 9, 9), (1, 1, 1))).empty and Box.around([EMPTY]) == EMPTY
    assert one.inside(Box((0, 0, 0), (9, 9, 9))) == (slice(0, 4), slice(1, 5), slice(2, 6))
