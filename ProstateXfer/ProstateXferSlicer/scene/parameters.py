# SPDX-License-Identifier: Apache-2.0
"""What the user has chosen and what the last run made, kept in the scene so that it survives saving and reloading."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLPlotChartNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.cohort.result import measurement_from_json
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.metrics.measurement import Measurement, without_samples

_DEFAULTS = StudyOptions()


@parameterNodeWrapper
class ProstateXferParameters:
    """Choices, then the nodes of the last run. Models are registered names or paths; "" is no folder, no record."""

    t2w: vtkMRMLScalarVolumeNode
    adc: vtkMRMLScalarVolumeNode
    highB: vtkMRMLScalarVolumeNode
    cbct: vtkMRMLScalarVolumeNode
    referenceCt: vtkMRMLScalarVolumeNode
    referenceSegmentation: vtkMRMLSegmentationNode

    prostate: bool = True
    dil: bool = True
    ctFromMr: bool = False
    ctFromCbct: bool = False
    prostateModel: str = _DEFAULTS.prostate_model
    dilModel: str = _DEFAULTS.dil_model
    ctFromMrModel: str = _DEFAULTS.ct_from_mr_model
    ctFromCbctModel: str = _DEFAULTS.ct_from_cbct_model

    device: str = _DEFAULTS.device
    precision: str = _DEFAULTS.precision
    testTimeAugmentation: bool = _DEFAULTS.tta
    uncertainty: bool = _DEFAULTS.uncertainty
    modelsFolder: str = ""

    segmentation: vtkMRMLSegmentationNode
    measurements: vtkMRMLTableNode
    centroids: vtkMRMLMarkupsFiducialNode
    volumesChart: vtkMRMLPlotChartNode
    uncertaintyMap: vtkMRMLScalarVolumeNode
    samples: vtkMRMLSegmentationNode
    """What the members of an ensemble, the folds or the mirrored images found alone, where a run had any."""
    syntheticCtFromMr: vtkMRMLScalarVolumeNode
    syntheticCtFromCbct: vtkMRMLScalarVolumeNode
    differenceFromMr: vtkMRMLScalarVolumeNode
    differenceFromCbct: vtkMRMLScalarVolumeNode
    measuredImage: vtkMRMLScalarVolumeNode
    """The T2w of the last run: `t2w` may have been changed since. So with the other inputs below."""
    usedAdc: vtkMRMLScalarVolumeNode
    usedHighB: vtkMRMLScalarVolumeNode
    usedCbct: vtkMRMLScalarVolumeNode
    usedReferenceCt: vtkMRMLScalarVolumeNode
    usedReferenceSegmentation: vtkMRMLSegmentationNode
    edited: bool = False
    """Whether the segmentation was changed by a person after the run."""
    studyRecord: str = ""
    """The last run's study.json."""
    measurementRecord: str = ""
    """The rows of the table as JSON, measured again after edits: the table node rounds nothing but omits some."""


TASK_OF_PARAMETER = {
    "prostate": Task.PROSTATE,
    "dil": Task.DIL,
    "ctFromMr": Task.CT_FROM_MR,
    "ctFromCbct": Task.CT_FROM_CBCT,
}
INPUT_OF_PARAMETER = {
    "t2w": "t2w",
    "adc": "adc",
    "highB": "high_b",
    "cbct": "cbct",
    "referenceCt": "reference_ct",
    "referenceSegmentation": "reference_segmentation",
}
# The inputs of the last run, which may be others than those chosen now.
USED_INPUTS = {
    "t2w": "measuredImage",
    "adc": "usedAdc",
    "high_b": "usedHighB",
    "cbct": "usedCbct",
    "reference_ct": "usedReferenceCt",
    "reference_segmentation": "usedReferenceSegmentation",
}
RESULTS = (
    "segmentation",
    "measurements",
    "centroids",
    "volumesChart",
    "uncertaintyMap",
    "samples",
    "syntheticCtFromMr",
    "syntheticCtFromCbct",
    "differenceFromMr",
    "differenceFromCbct",
)


def studyOptions(parameters: ProstateXferParameters) -> StudyOptions:
    """The choices as the one options class that the command line and the batch use, too."""
    return StudyOptions(
        tasks=tuple(task for name, task in TASK_OF_PARAMETER.items() if getattr(parameters, name)),
        prostate_model=parameters.prostateModel,
        dil_model=parameters.dilModel,
        ct_from_mr_model=parameters.ctFromMrModel,
        ct_from_cbct_model=parameters.ctFromCbctModel,
        models_folder=Path(parameters.modelsFolder) if parameters.modelsFolder else None,
        device=parameters.device,
        precision=parameters.precision,
        tta=parameters.testTimeAugmentation,
        uncertainty=parameters.uncertainty,
    )


def inputNodes(parameters: ProstateXferParameters) -> dict:
    """The chosen nodes by the field of `StudyInputs` they stand for; those not chosen are left out."""
    nodes = {field: getattr(parameters, name) for name, field in INPUT_OF_PARAMETER.items()}
    return {field: node for field, node in nodes.items() if node is not None}


def keepResults(parameters: ProstateXferParameters, nodes, result, inputs: Mapping[str, Any]) -> None:
    """Make the nodes of a run those of the panel; what the run did not make is forgotten, not removed.

    `inputs` are the run's, by the fields of `StudyInputs`.
    """
    record = json.dumps(result.to_json())
    modified = parameters.StartModify()
    for name in RESULTS:
        setattr(parameters, name, getattr(nodes, name))
    for field, name in USED_INPUTS.items():
        setattr(parameters, name, inputs.get(field))
    parameters.edited = False
    parameters.studyRecord = record
    keepMeasurements(parameters, result.measurements)
    parameters.EndModify(modified)


def keepMeasurements(parameters: ProstateXferParameters, rows: Sequence[Measurement]) -> None:
    """Make these rows the measurements that the panel shows and exports."""
    parameters.measurementRecord = json.dumps([asdict(row) for row in rows])


def measurementsOf(parameters: ProstateXferParameters) -> list[Measurement]:
    """The rows of the last measurement; none where its table has been removed from the scene.

    What the samples of the run said is left out once a person has edited the segmentation: they said it of another one.
    """
    if parameters.measurements is None or not parameters.measurementRecord:
        return []
    rows = [measurement_from_json(values) for values in json.loads(parameters.measurementRecord)]
    return without_samples(rows) if parameters.edited else rows


def runHadSamples(parameters: ProstateXferParameters) -> bool:
    """Whether the last run told how far its samples agree; a scene of an earlier version tells nothing."""
    return bool(parameters.studyRecord) and bool(json.loads(parameters.studyRecord).get("sampled_by"))
