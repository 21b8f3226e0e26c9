# SPDX-License-Identifier: Apache-2.0
"""The real child with the shipped models: from the panel, from a script, and what "Reload and Test" checks."""

import unittest

import numpy as np
import pytest
import slicer

from ProstateXferSlicer.scene.parameters import measurementsOf
from study_child.fixtures import until


@pytest.fixture
def real(panel):
    """The panel, with nothing in the place of the child."""
    panel.child.replaces = set()
    return panel


@pytest.mark.slow
def test_a_click_segments_the_phantom_and_makes_its_cts(
    real, t2w_volume, cbct_volume, ct_volume, phantom_study, temporary_folder
):
    import SimpleITK as sitk

    real.choose(t2w=t2w_volume, cbct=cbct_volume, referenceCt=ct_volume, ctFromMr=True, ctFromCbct=True, device="cpu")
    seen = set()
    real.ui.applyButton.click()

    def isOver():
        seen.add(real.ui.statusLabel.text.split(" · ")[0])
        return not real.isRunning()

    until(isOver, 300)
    assert real.ui.statusLabel.text.startswith("Done in"), real.ui.logTextEdit.toPlainText()
    assert {"Segmenting the prostate and DIL", "CT from MR", "CT from CBCT"} <= seen
    parameters = real.parameters
    found = slicer.util.arrayFromSegmentBinaryLabelmap(parameters.segmentation, "Prostate", t2w_volume) > 0
    true = sitk.GetArrayFromImage(phantom_study.labels) > 0
    assert 2 * np.sum(found & true) / (np.sum(found) + np.sum(true)) > 0.7
    assert measurementsOf(parameters)[0].voxel_count == np.count_nonzero(found | _lesion(parameters, t2w_volume))
    ct = slicer.util.arrayFromVolume(ct_volume)
    made = slicer.util.arrayFromVolume(parameters.syntheticCtFromCbct)
    body = ct > -300
    assert np.abs(made[body].astype(float) - ct[body]).mean() < 150
    assert not list(temporary_folder.iterdir())


def _lesion(parameters, volume):
    return slicer.util.arrayFromSegmentBinaryLabelmap(parameters.segmentation, "DIL", volume) > 0


@pytest.mark.slow
def test_the_real_child_is_cancelled_within_a_second_or_so(real, t2w_volume):
    import time

    real.choose(t2w=t2w_volume, device="cpu")
    real.ui.applyButton.click()
    until(lambda: "Segmenting" in real.ui.statusLabel.text, 120)
    clicked = time.monotonic()
    real.ui.applyButton.click()
    until(lambda: not real.isRunning())
    assert time.monotonic() - clicked < 2.0
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


@pytest.mark.slow
def test_reload_and_test_passes_on_a_coarse_phantom(real, phantom_study, monkeypatch):
    from ProstateXferLib.images.grid import Grid
    from ProstateXferSlicer import self_test
    from ProstateXferSlicer.sample_data import loadPhantom

    grid = Grid.of(phantom_study.t2w)
    monkeypatch.setattr(self_test, "loadPhantom", lambda **options: loadPhantom(grid=grid, **options))
    for check in self_test.CHECKS:
        slicer.mrmlScene.Clear()
        check(unittest.TestCase())


def test_reload_and_test_runs_every_check_once_on_an_empty_scene(panel, monkeypatch):
    import ProstateXfer
    from ProstateXferSlicer import self_test

    calls = []

    def check(case):
        """A check"""
        calls.append(len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")))
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")

    monkeypatch.setattr(self_test, "CHECKS", (check, check))
    ProstateXfer.ProstateXferTest().runTest()
    assert calls == [0, 0]
