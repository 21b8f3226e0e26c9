# SPDX-License-Identifier: Apache-2.0
"""The real MRML scene of slicer-core with the logics an application gives it."""

import dataclasses
import json
import tempfile
from pathlib import Path

import slicer
import vtk

_LOGICS = {  # name in slicer.modules (and of the module, in lower case): class of the logic
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}
_SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
# What some plug-in of Slicer's subject hierarchy takes as its own; every such node gets an item when it is added.
_IN_SUBJECT_HIERARCHY = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLTransformNode",
)


@dataclasses.dataclass(frozen=True)
class Mrml:
    """The scene, the application's logic, the modules' logics by name, the slice logics by view name, the layout's."""

    scene: "slicer.vtkMRMLScene"
    applicationLogic: "slicer.vtkSlicerApplicationLogic"
    logics: dict
    sliceLogics: dict
    layoutLogic: "slicer.vtkMRMLLayoutLogic"


def makeMrml() -> Mrml:
    """Build everything once."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetTemporaryPath(tempfile.mkdtemp(prefix="slicer-host-"))
    application.SetHomeDirectory(application.GetTemporaryPath())
    application.SetShareDirectory("share")
    (Path(application.GetTemporaryPath()) / "share" / "ColorFiles").mkdir(parents=True)
    _allowBundles(scene, application)
    share = _makeShareFolder(Path(application.GetTemporaryPath()))
    logics = {name: _addLogic(application, scene, name, cls, share) for name, cls in _LOGICS.items()}
    application.SetColorLogic(logics["Colors"])
    logics["Colors"].AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    _followBySubjectHierarchy(scene)
    return Mrml(scene, application, logics, _addSliceViews(application, scene), _addLayout(application, scene))


def _makeShareFolder(folder: Path) -> Path:
    """Empty lists in place of Slicer's terminologies: slicer-core has none, and a logic that misses them complains."""
    schema = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/{}-context-schema.json#"
    types = {"@schema": schema.format("segment"), "SegmentationCodes": {"Category": []}}
    regions = {"@schema": schema.format("anatomic"), "AnatomicCodes": {"AnatomicRegion": []}}
    for name in ("SlicerGeneralAnatomy", "DICOM-Master"):
        content = {"SegmentationCategoryTypeContextName": f"Segmentation category and type - {name}", **types}
        (folder / f"SegmentationCategoryTypeModifier-{name}.term.json").write_text(json.dumps(content))
    content = {"AnatomicContextName": "Anatomic codes - DICOM master list", **regions}
    (folder / "AnatomicRegionAndModifier-DICOM-Master.term.json").write_text(json.dumps(content))
    return folder


def _addLogic(application, scene, name: str, className: str, shareFolder: Path):
    logic = getattr(slicer, className)()
    if hasattr(logic, "SetModuleShareDirectory"):
        logic.SetModuleShareDirectory(str(shareFolder))
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    application.SetModuleLogic(name, logic)
    return logic


def _allowBundles(scene, application) -> None:
    """Without a cache and a data manager the scene cannot read a .mrb."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    cache = Path(application.GetTemporaryPath()) / "cache"
    cache.mkdir()
    remote.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLApplicationLogic(application)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    application.slicerHostKeeps = (remote, manager)  # the scene does not own them


def _addSliceViews(application, scene) -> dict:
    collection = vtk.vtkCollection()
    application.SetSliceLogics(collection)
    application.SetViewLogics(vtk.vtkCollection())
    logics = {}
    for name, orientation in _SLICE_VIEWS.items():
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application)
        collection.AddItem(logic)
        logic.SetMRMLScene(scene)
        logic.AddSliceNode(name).SetOrientation(orientation)
        logics[name] = logic
    return logics


def _addLayout(application, scene):
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
    return logic


def _followBySubjectHierarchy(scene) -> None:
    """In the application a Qt class gives every node its item; slicer-core lacks it."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def add(_scene, _event, node):
        if not scene.IsImporting():
            _addItem(scene, node)

    def addAll(*_):
        for index in range(scene.GetNumberOfNodes()):
            _addItem(scene, scene.GetNthNode(index))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def remove(_scene, _event, node):
        # The hierarchy of a loaded scene, which is removed while it is merged with the one there is.
        if node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        if not scene.IsClosing() and hierarchy is not None and (item := hierarchy.GetItemByDataNode(node)):
            hierarchy.RemoveItem(item, False, False)

    def make(*_):
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    make()
    scene.AddObserver(scene.EndCloseEvent, make)
    scene.AddObserver(scene.NodeAddedEvent, add)
    scene.AddObserver(scene.EndImportEvent, addAll)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, remove)


def _addItem(scene, node) -> None:
    if node.GetHideFromEditors() or not any(node.IsA(name) for name in _IN_SUBJECT_HIERARCHY):
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
