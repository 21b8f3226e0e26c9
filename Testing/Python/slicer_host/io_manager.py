# SPDX-License-Identifier: Apache-2.0
"""`slicer.app.coreIOManager()`: what stands behind slicer.util's load... and save... functions, by storage nodes."""

from pathlib import Path

import vtk

_NODE_OF_TYPE = {
    "ModelFile": "vtkMRMLModelNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
    "TransformFile": "vtkMRMLTransformNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
    "MarkupsFile": "vtkMRMLMarkupsFiducialNode",
}
_TYPE_OF_ENDING = {
    ".seg.nrrd": "SegmentationFile",
    ".nrrd": "VolumeFile",
    ".nii.gz": "VolumeFile",
    ".nii": "VolumeFile",
    ".mha": "VolumeFile",
    ".mrk.json": "MarkupsFile",
    ".csv": "TableFile",
    ".tsv": "TableFile",
    ".txt": "TextFile",
    ".vtk": "ModelFile",
    ".stl": "ModelFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
    ".mrml": "SceneFile",
    ".mrb": "SceneFile",
}


class IOManager:
    """Reads a file into nodes of the scene, and writes a node or the scene to a file."""

    def __init__(self, mrml):
        self._mrml = mrml

    def fileType(self, path: str) -> str:
        """What a file holds, by its ending."""
        return next((kind for ending, kind in _TYPE_OF_ENDING.items() if path.endswith(ending)), "NoFile")

    def fileWriterFileType(self, node) -> str:
        """Only storage nodes write here; the type does not matter."""
        return node.GetClassName()

    def loadNodes(self, fileType: str, properties: dict, nodes=None, messages=None) -> bool:
        """Read `properties["fileName"]`; False when that fails."""
        path = Path(properties["fileName"])
        if not path.is_file():
            return self._fail(messages, f"the file '{path}' does not exist")
        name = properties.get("name") or path.name.split(".")[0]
        if fileType == "SceneFile":
            return self._loadScene(path, properties.get("clear", False))
        if fileType == "VolumeFile":
            options = int(bool(properties.get("labelmap")))  # bit 0: a label map
            node = self._mrml.logics["Volumes"].AddArchetypeVolume(str(path), name, options)
        elif fileType == "SegmentationFile":
            node = self._loadSegmentation(path, name)
        else:
            node = self._read(path, _NODE_OF_TYPE[fileType], name)
        if node is None:
            return self._fail(messages, f"'{path}' cannot be read as {fileType}")
        if nodes is not None:
            nodes.AddItem(node)
        return True

    def _loadSegmentation(self, path: Path, name: str):
        if path.name.endswith(".seg.nrrd"):
            return self._read(path, "vtkMRMLSegmentationNode", name)
        labels = self._mrml.logics["Volumes"].AddArchetypeVolume(str(path), name, 1)
        node = self._mrml.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        self._mrml.logics["Segmentations"].ImportLabelmapToSegmentationNode(labels, node)
        self._mrml.scene.RemoveNode(labels)
        return node

    def _read(self, path: Path, className: str, name: str):
        node = self._mrml.scene.AddNewNodeByClass(className, name)
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(path))
        if node.GetStorageNode().ReadData(node):
            return node
        self._mrml.scene.RemoveNode(node)
        return None

    def _loadScene(self, path: Path, clear: bool) -> bool:
        scene = self._mrml.scene
        if path.suffix == ".mrb":
            return bool(scene.ReadFromMRB(str(path), clear))
        scene.SetURL(str(path))
        return bool(scene.Connect() if clear else scene.Import())

    def saveNodes(self, fileType: str, properties: dict, messages=None) -> bool:
        """Write the scene, or the node of `properties["nodeID"]`."""
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return self._saveScene(Path(path))
        node = self._mrml.scene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node)) or self._fail(messages, f"'{path}' cannot be written")

    def _saveScene(self, path: Path) -> bool:
        scene = self._mrml.scene
        if path.suffix == ".mrb":
            return bool(scene.WriteToMRB(str(path), None))
        if path.suffix == ".mrml":
            scene.SetRootDirectory(str(path.parent))
            return bool(scene.Commit(str(path)))
        return bool(scene.SaveSceneToSlicerDataBundleDirectory(str(path), None))

    def exportNodes(self, nodeIds, paths, _properties, _hardenTransform, messages=None) -> bool:
        """Write nodes without touching the storage nodes they have."""
        done = True
        for nodeId, path in zip(nodeIds, paths, strict=True):
            node = self._mrml.scene.GetNodeByID(nodeId)
            storage = node.CreateDefaultStorageNode()
            storage.UnRegister(None)
            storage.SetFileName(str(path))
            done = (bool(storage.WriteData(node)) or self._fail(messages, f"'{path}' cannot be written")) and done
        return done

    def extractKnownExtension(self, path: str, _node) -> str:
        """The ending of a file name."""
        return next((ending for ending in _TYPE_OF_ENDING if path.endswith(ending)), Path(path).suffix)

    def fileWriterExtensions(self, _node) -> list[str]:
        """As if every node could be written in every format; the storage node decides."""
        return [f"file (*{ending})" for ending in _TYPE_OF_ENDING]

    @staticmethod
    def _fail(messages, text: str) -> bool:
        if messages is not None:
            messages.AddMessage(vtk.vtkCommand.ErrorEvent, text)
        return False
