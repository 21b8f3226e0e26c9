# SPDX-License-Identifier: Apache-2.0
"""A whole study with the shipped models: a phantom whose truth is known, and a real T2w image."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from watchers.watcher import Watcher

from ProstateXferLib.cohort.options import StudyInputs, StudyOptions, Task
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.cohort.study import run_study
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.segmentation_file import read_segmentation


def test_a_phantom_is_segmented_synthesized_and_compared_with_its_truth(tmp_path):
    """T2w, CBCT and CT on one coarse grid around the gland; the field of view cuts the hips off."""
    grid = Grid((64, 52, 8), (4.0, 4.0, 5.0), (-126.0, -102.0, -17.5))
    study = make_phantom(7).render(grid)
    images = {"t2w": study.t2w, "cbct": study.cbct, "reference_ct": study.ct, "reference_segmentation": study.labels}
    paths = {name: write_image(image, tmp_path / f"{name}.nrrd") for name, image in images.items()}
    watch = Watcher()
    result = run_study(
        StudyInputs(**paths), StudyOptions(tasks=tuple(Task), device="cpu"), tmp_path / "study", watch, "phantom"
    )
    assert StudyResult.read(tmp_path / "study") == result
    assert set(result.outputs) == {
        "segmentation",
        "uncertainty",
        *(f"{task}{what}" for task in ("ct-from-mr", "ct-from-cbct") for what in ("", "-difference")),
        "measurements",
    }
    rows = {row.id: row for row in result.measurements}
    assert rows["Prostate"].dice > 0.5  # 4 mm voxels, far from the 0.5 mm it was trained on
    for key, scores in result.synthesis.items():
        assert scores["compared_fraction"] > 0.95
        difference = sitk.GetArrayFromImage(read_image(result.path(f"{key}-difference")))
        synthetic = sitk.GetArrayFromImage(read_image(result.path(key))).astype(float)
        truth = sitk.GetArrayFromImage(study.ct)
        inside = difference != 0
        assert np.array_equal(difference[inside], (synthetic - truth)[inside])
        assert scores["mae_body_hu"] == pytest.approx(np.abs(difference).sum() / inside.sum(), rel=0.02)
    bits = sitk.GetArrayFromImage(read_image(result.path("uncertainty")))
    assert bits.min() >= 0
    assert 0.9 < bits.max() <= 1
    assert watch.fractions == sorted(watch.fractions)
    assert result.warnings == tuple(watch.warnings)


def test_a_real_t2w_image_with_its_adc_and_an_expert_s_gland(real_data, tmp_path):
    folder = real_data / "real" / "prostate_t2w" / "prostatex_0000"
    inputs = StudyInputs(
        t2w=folder / "t2w.nii.gz", adc=folder / "adc.nii.gz", reference_segmentation=folder / "gland.nii.gz"
    )
    result = run_study(inputs, StudyOptions(device="cpu"), tmp_path / "study", Watcher())
    grid = Grid.of(read_image(inputs.t2w))
    for key in ("segmentation", "uncertainty"):
        assert Grid.of(read_image(result.path(key))).same_as(grid)
    labels, structures = read_segmentation(result.path("segmentation"))
    assert [s.name for s in structures] == ["Prostate", "DIL"]
    gland = sitk.GetArrayFromImage(read_image(inputs.reference_segmentation)) > 0
    found = sitk.GetArrayFromImage(labels)
    rows = {row.id: row for row in result.measurements}
    whole = found == 1
    whole |= found == 2  # its lesions touch the gland
    assert rows["Prostate"].dice == pytest.approx(2 * (whole & gland).sum() / (whole.sum() + gland.sum()), abs=1e-3)
    assert rows["Prostate"].dice > 0.7
    assert rows["DIL"].dice is None
    assert "The ADC map was not used: the model reads T2w only." in result.warnings
    assert "has no DIL" in " ".join(result.warnings)
    record = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert record["inputs"]["adc"]["path"] == str(inputs.adc)
