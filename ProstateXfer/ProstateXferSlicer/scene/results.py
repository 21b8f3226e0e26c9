# SPDX-License-Identifier: Apache-2.0
"""A finished study becomes nodes: all of them, or none."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.images.io import read_image
from ProstateXferSlicer.scene.centroids import writeCentroids
from ProstateXferSlicer.scene.display import showAsThinOutlines, showCtWindow, showDifference, showUncertainty
from ProstateXferSlicer.scene.provenance import setProvenance
from ProstateXferSlicer.scene.segmentations import loadSegmentation
from ProstateXferSlicer.scene.subject_hierarchy import placeBeside
from ProstateXferSlicer.scene.tables import volumesChart, writeTable
from ProstateXferSlicer.scene.transaction import nodesOrNothing
from ProstateXferSlicer.scene.volumes import volumeOfImage


@dataclass(frozen=True)
class StudyNodes:
    """The nodes that a run made; None for what the tasks did not ask for. Names are those of the parameter node."""

    segmentation: Any = None
    measurements: Any = None
    centroids: Any = None
    volumesChart: Any = None
    uncertaintyMap: Any = None
    samples: Any = None
    syntheticCtFromMr: Any = None
    syntheticCtFromCbct: Any = None
    differenceFromMr: Any = None
    differenceFromCbct: Any = None


# Key of the study's outputs -> (field of StudyNodes, what its name says, the input it belongs to, how it is displayed).
_VOLUMES = {
    "uncertainty": ("uncertaintyMap", "uncertainty", "t2w", showUncertainty),
    "ct-from-mr": ("syntheticCtFromMr", "synthetic CT", "t2w", lambda node: showCtWindow(node, "soft tissue")),
    "ct-from-cbct": ("syntheticCtFromCbct", "synthetic CT", "cbct", lambda node: showCtWindow(node, "soft tissue")),
    "ct-from-mr-difference": ("differenceFromMr", "synthetic CT minus reference", "t2w", showDifference),
    "ct-from-cbct-difference": ("differenceFromCbct", "synthetic CT minus reference", "cbct", showDifference),
}


def addStudy(result: StudyResult, inputs: Mapping[str, Any]) -> StudyNodes:
    """Add a study's results to the scene, beside the inputs they come from.

    `inputs` maps the fields of `StudyInputs` to nodes. A run never overwrites the nodes of an earlier one.

    Raises:
        ProstateXferError: a file of the study cannot be read; the scene is then as it was.
    """
    with nodesOrNothing():
        nodes: dict[str, Any] = {}
        if "segmentation" in result.outputs:
            nodes |= _segmentationNodes(result, inputs["t2w"])
        for key, (field, suffix, source, display) in _VOLUMES.items():
            if key in result.outputs:
                node = volumeOfImage(read_image(_path(result, key)), uniqueName(f"{inputs[source].GetName()} {suffix}"))
                display(node)
                placeBeside(node, inputs[source])
                nodes[field] = node
        record = provenanceRecord(result)
        for node in nodes.values():
            setProvenance(node, record)
        return StudyNodes(**nodes)


def provenanceRecord(result: StudyResult) -> dict[str, Any]:
    """What is kept with every node: enough to say what made it and to make it again."""
    return {
        "ResearchUseOnly": True,
        "Options": result.options.to_arguments(),
        "Provenance": result.provenance,
        "Warnings": list(result.warnings),
    }


def uniqueName(name: str) -> str:
    """`name`, or `name_1`, … when the scene has it already."""
    scene = slicer.mrmlScene
    return scene.GenerateUniqueName(name) if scene.GetFirstNodeByName(name) else name


def _segmentationNodes(result: StudyResult, t2w) -> dict[str, Any]:
    scene, name = slicer.mrmlScene, t2w.GetName()
    segmentation = loadSegmentation(_path(result, "segmentation"), uniqueName(f"{name} segmentation"), t2w)
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", uniqueName(f"{name} measurements"))
    writeTable(result.measurements, table)
    centroids = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", uniqueName(f"{name} centroids"))
    writeCentroids(result.measurements, centroids)
    chart = volumesChart(table)
    nodes = {"segmentation": segmentation, "measurements": table, "centroids": centroids, "volumesChart": chart}
    if "samples" in result.outputs:
        samples = loadSegmentation(_path(result, "samples"), uniqueName(f"{name} {result.sampled_by}"), t2w)
        showAsThinOutlines(samples)
        nodes["samples"] = samples
    for node in nodes.values():
        placeBeside(node, t2w)
    return nodes


def _path(result: StudyResult, key: str) -> Path:
    return result.folder / result.outputs[key]
