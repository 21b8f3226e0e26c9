# SPDX-License-Identifier: Apache-2.0
"""The page of a study folder: its inputs are read from where study.json says they are, the rest lies beside it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import SimpleITK as sitk

from ProstateXferLib.cohort.calibrations import calibrations_of
from ProstateXferLib.cohort.ct_comparison import compare_cts
from ProstateXferLib.cohort.inputs import INPUT_TITLES
from ProstateXferLib.cohort.methods import methods_of, models_warnings
from ProstateXferLib.cohort.reference import matched_reference, read_reference
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.cohort.sample_file import read_samples
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid, resample_to_grid
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.segmentation_file import read_segmentation
from ProstateXferLib.metrics.measurement import without_samples
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.sample import Sample
from ProstateXferLib.reports.page import Page
from ProstateXferLib.reports.study_page import Study, SyntheticResult, study_page

EDITED = "The segmentation was edited by a person after the run."
NO_RANGE = "Ranges of volume and numbers of samples that see a lesion were those of the run, and are left out."
_SOURCE_OF = {Task.CT_FROM_MR: "t2w", Task.CT_FROM_CBCT: "cbct"}


def study_report(folder: Path) -> Page:
    """The page of a study folder; `reports.html.write_page` writes it.

    Raises:
        ProstateXferError: no study folder, an input or output that is gone, or matplotlib is not installed.
    """
    result = StudyResult.read(folder)
    inputs = _Inputs(result)
    segmentation = reference = uncertainty = image = None
    samples: tuple[Sample, ...] = ()
    if "segmentation" in result.outputs:
        image = inputs.image("t2w")
        segmentation = _segmentation(result, image)
        reference = _reference(result, segmentation)
        uncertainty = _output(result, "uncertainty") if "uncertainty" in result.outputs else None
        samples = _samples(result, Grid.of(image))
    synthetic = [_synthetic(result, task, inputs) for task in _SOURCE_OF if task.value in result.outputs]
    edited = [f"{EDITED} {NO_RANGE}" if result.sampled_by else EDITED] if result.edited else []
    page = Study(
        title=result.case if result.case != "study" else "ProstateXfer study",
        subtitle=", ".join(path.name for path in result.inputs.given().values()),
        image=image,
        segmentation=segmentation,
        measurements=without_samples(result.measurements) if result.edited else result.measurements,
        reference=reference,
        synthetic=synthetic,
        warnings=[*edited, *result.warnings, *inputs.changed, *models_warnings(result)],
        provenance=_provenance(result),
        uncertainty=uncertainty,
        calibrations=calibrations_of(result.models),
        samples=samples,
        sampled_by=result.sampled_by,
        methods=methods_of(result),
    )
    return study_page(page)


class _Inputs:
    """The input images, each read once; remembers which are not what the study was made from."""

    def __init__(self, result: StudyResult) -> None:
        self._result = result
        self._images: dict[str, sitk.Image] = {}
        self.changed: list[str] = []

    def image(self, name: str) -> sitk.Image:
        """The input of that name."""
        if name not in self._images:
            path, title = getattr(self._result.inputs, name), INPUT_TITLES[name]
            if path is None or not path.exists():
                raise ProstateXferError(
                    f"The {title} '{path}' of this study is not there any more: put it back, or run the study again."
                )
            self._images[name] = read_image(path)
            if image_sha256(self._images[name]) != self._result.image_sha256.get(name):
                self.changed.append(f"The {title} '{path.name}' has changed since the study was made.")
        return self._images[name]


def _output(result: StudyResult, key: str) -> sitk.Image:
    path = result.path(key)
    if path is None or not path.is_file():
        raise ProstateXferError(f"'{path}' is gone from the study folder: run the study again.")
    return read_image(path)


def _samples(result: StudyResult, grid: Grid) -> tuple[Sample, ...]:
    """What the samples of the run found, on the image's grid; none beside a segmentation that is no longer theirs."""
    path = result.path("samples")
    if path is None or result.edited:
        return ()
    if not path.is_file():
        raise ProstateXferError(f"'{path}' is gone from the study folder: run the study again.")
    return tuple(replace(sample, labels=_on_grid(sample.labels, grid)) for sample in read_samples(path))


def _on_grid(labels: sitk.Image, grid: Grid) -> sitk.Image:
    """The label map on the grid, which an editor may have left."""
    return labels if Grid.of(labels).same_as(grid) else resample_to_grid(labels, grid, interpolation="nearest")


def _segmentation(result: StudyResult, image: sitk.Image) -> Any:
    """The segmentation on the image's grid."""
    _output(result, "segmentation")
    labels, structures = read_segmentation(result.path("segmentation"))
    labels = _on_grid(labels, Grid.of(image))
    return SimpleNamespace(labels=labels, structures=structures, names={s.value: s.name for s in structures})


def _reference(result: StudyResult, segmentation: Any) -> Any:
    path = result.inputs.reference_segmentation
    if path is None:
        return None
    if not path.exists():
        raise ProstateXferError(f"The reference segmentation '{path}' is not there any more: put it back.")
    return matched_reference(read_reference(path), segmentation, _Told())


def _synthetic(result: StudyResult, task: Task, inputs: _Inputs) -> SyntheticResult:
    synthetic = _output(result, task.value)
    source = inputs.image(_SOURCE_OF[task])
    if task.value not in result.synthesis:
        return SyntheticResult(task.title, source, synthetic)
    comparison = compare_cts(synthetic, inputs.image("reference_ct"))
    return SyntheticResult(task.title, source, synthetic, comparison.reference, comparison.compared)


def _provenance(result: StudyResult) -> Mapping[str, Any]:
    """Groups for the page; file names without their folders, which name persons and machines."""
    titles = {"segmentation": "Segmentation", **{task.value: task.title for task in _SOURCE_OF}}
    groups = {titles.get(key, key): record for key, record in result.provenance.items()}
    options = {
        name: Path(value).name if name == "models_folder" and value else value
        for name, value in result.options.to_json().items()
    }
    files = {
        INPUT_TITLES[name]: f"{path.name} (sha256 {result.file_sha256.get(name) or 'not read'})"
        for name, path in result.inputs.given().items()
    }
    return {"case": result.case, "seconds": result.seconds, "Inputs": files, "Options": options, **groups}


class _Told:
    """A progress to which all was said when the study ran; its warnings stand in study.json."""

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """Nothing to show."""

    def warn(self, message: str) -> None:
        """Known already."""

    def cancelled(self) -> bool:
        """Never."""
        return False
