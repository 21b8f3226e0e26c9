# SPDX-License-Identifier: Apache-2.0
"""The phantom in the Sample Data module: the same voxels every time, made here, complete or not at all."""

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid

ICONS = Path(__file__).resolve().parents[3] / "ProstateXfer" / "Resources" / "Icons"
COARSE = Grid((40, 40, 6), (3.0, 3.0, 8.0), (-58.5, -58.5, -20.0))


@pytest.fixture
def sample_data(slicer_host, scene):
    """The module, in an empty scene."""
    return importlib.import_module("ProstateXferSlicer.sample_data")


@pytest.fixture
def registered(sample_data, monkeypatch):
    """What registerSampleData hands to the Sample Data module, whose checks of lengths are as in 5.8 to 5.12."""
    sources = []

    def register(*, category, sampleName, uris, fileNames, nodeNames, customDownloader, thumbnailFileName):
        assert isinstance(uris, list) and len(uris) == len(fileNames) == len(nodeNames)
        sources.append((category, sampleName, thumbnailFileName, customDownloader))

    module = ModuleType("SampleData")
    module.SampleDataLogic = SimpleNamespace(registerCustomSampleDataSource=register)
    monkeypatch.setitem(sys.modules, "SampleData", module)
    sample_data.registerSampleData(ICONS)
    return sources


def names(scene):
    """The nodes but for the application's own, the subject hierarchy for one, which come when they are first needed."""
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    ours = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLDisplayNode", "vtkMRMLStorageNode")
    return sorted(node.GetID() for node in nodes if any(node.IsA(name) for name in ours))


def test_two_sources_appear_under_our_name_with_a_picture(registered):
    assert [(category, name) for category, name, *_ in registered] == [
        ("ProstateXfer", "Prostate phantom (T2w, CBCT, CT)"),
        ("ProstateXfer", "Prostate phantom (T2w)"),
    ]
    assert all(Path(picture).is_file() for _, _, picture, _ in registered)


def test_nothing_is_made_before_the_button_is_clicked(registered, scene):
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_a_click_loads_the_voxels_on_record(registered, scene, caplog):
    _, _, _, loader = registered[0]
    with caplog.at_level(logging.WARNING):
        nodes = loader(object())
    assert [node.GetName() for node in nodes] == ["Phantom T2w", "Phantom CBCT", "Phantom CT", "Phantom truth"]
    t2w, cbct, ct, truth = nodes
    assert t2w.GetImageData().GetDimensions() == (256, 256, 24)
    assert cbct.GetImageData().GetDimensions() == ct.GetImageData().GetDimensions() == (352, 256, 40)
    assert list(truth.GetSegmentation().GetSegmentIDs()) == ["Prostate", "DIL"]
    told = [record.message for record in caplog.records if record.name.endswith("sample_data")]
    assert all("rounding" in message for message in told)  # on another processor


def test_the_truth_has_the_volumes_that_the_phantom_is_made_of(sample_data):
    from ProstateXferLib.images.phantom import make_phantom
    from ProstateXferLib.metrics.measure import measure
    from ProstateXferSlicer.scene.segmentations import segmentationOfNode
    from ProstateXferSlicer.scene.volumes import imageOfVolume

    nodes = sample_data.loadPhantom(modalities=("t2w",), show=False)
    rows = {row.id: row for row in measure(segmentationOfNode(nodes["segmentation"], imageOfVolume(nodes["t2w"])))}
    truth = make_phantom(sample_data.SEED).truth
    for name in ("Prostate", "DIL"):
        assert rows[name].volume_cm3 == pytest.approx(truth[name].volume_cm3, rel=0.03)
        assert rows[name].centroid_lps == pytest.approx(truth[name].centroid_lps, abs=0.5)


def test_ct_numbers_are_shown_in_a_ct_window_and_everything_lies_together(sample_data, scene):
    import slicer

    nodes = sample_data.loadPhantom(grid=COARSE)
    assert nodes["ct"].GetDisplayNode().GetWindow() == 400
    assert nodes["cbct"].GetDisplayNode().GetLevel() == 40
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes.values()}
    assert len(parents) == 1


def test_the_t2w_is_shown(sample_data, scene):
    nodes = sample_data.loadPhantom(grid=COARSE)
    views = [scene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode") for i in range(3)]
    assert {view.GetBackgroundVolumeID() for view in views if view} == {nodes["t2w"].GetID()}


def test_modalities_and_grid_can_be_chosen(sample_data):
    nodes = sample_data.loadPhantom(modalities=["cbct"], grid=COARSE, show=False)
    assert list(nodes) == ["cbct", "segmentation"]
    assert nodes["cbct"].GetImageData().GetDimensions() == COARSE.size_xyz


def test_a_second_phantom_has_names_of_its_own(sample_data):
    first = sample_data.loadPhantom(modalities=["t2w"], grid=COARSE, show=False)
    second = sample_data.loadPhantom(modalities=["t2w"], grid=COARSE, show=False)
    assert {node.GetName() for node in first.values()}.isdisjoint(node.GetName() for node in second.values())


@pytest.mark.parametrize("modalities", [[], ["pet"]])
def test_what_there_is_not_is_one_sentence(sample_data, scene, modalities):
    before = names(scene)
    with pytest.raises(ProstateXferError, match="use t2w, cbct, ct"):
        sample_data.loadPhantom(modalities=modalities)
    assert names(scene) == before


def test_an_image_that_differs_by_rounding_is_a_warning(sample_data, monkeypatch, caplog):
    monkeypatch.setitem(sample_data.CHECKSUMS, "t2w", "0" * 64)
    with caplog.at_level(logging.WARNING):
        nodes = sample_data.loadPhantom(modalities=["t2w"], show=False)
    assert "t2w differ from those on record by rounding" in caplog.text
    assert set(nodes) == {"t2w", "segmentation"}


def test_another_anatomy_is_an_error_and_leaves_nothing(sample_data, scene, monkeypatch):
    monkeypatch.setitem(sample_data.CHECKSUMS, "labels", "0" * 64)
    before = names(scene)
    with pytest.raises(ProstateXferError, match="not the one on record .seed 7."):
        sample_data.loadPhantom(modalities=["t2w"])
    assert names(scene) == before


def test_a_failure_halfway_leaves_nothing(sample_data, scene, monkeypatch):
    def broken(*_):
        raise ProstateXferError("Slicer cannot read it.")

    monkeypatch.setattr("ProstateXferSlicer.scene.segmentations.loadSegmentation", broken)
    before = names(scene)
    with pytest.raises(ProstateXferError, match="cannot read"):
        sample_data.loadPhantom(grid=COARSE)
    assert names(scene) == before


def test_the_checksum_is_of_the_voxels_whatever_the_byte_order(sample_data):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = sitk.GetImageFromArray(voxels)
    moved = sitk.GetImageFromArray(voxels)
    moved.SetOrigin((5.0, 6.0, 7.0))
    assert sample_data.voxelChecksum(image) == sample_data.voxelChecksum(moved)
    import hashlib

    assert sample_data.voxelChecksum(image) == hashlib.sha256(voxels.astype("<i2").tobytes()).hexdigest()
