# SPDX-License-Identifier: Apache-2.0
"""`run_study`: the images of one patient go in, a study folder comes out, whole or not at all."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.cohort.ct_comparison import compare_cts
from ProstateXferLib.cohort.inputs import StudyInputs
from ProstateXferLib.cohort.loaded_models import LoadedModels
from ProstateXferLib.cohort.options import StudyOptions, Task
from ProstateXferLib.cohort.reference import Reference, matched_reference, read_reference
from ProstateXferLib.cohort.result import StudyResult, plain
from ProstateXferLib.cohort.sample_file import write_samples
from ProstateXferLib.cohort.study_folder import OUTPUT_FILES, check_study_folder, new_study_folder
from ProstateXferLib.cohort.study_images import StudyImages, read_study_images, used_inputs, warn_of_unused
from ProstateXferLib.cohort.study_progress import StudyProgress
from ProstateXferLib.cohort.ticked_structures import gland_with_lesions, ticked_structures
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.io import write_image
from ProstateXferLib.metrics.measure import measure
from ProstateXferLib.metrics.measurement import Measurement
from ProstateXferLib.metrics.missed_lesions import missed_lesions
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.progress import Progress, SilentProgress
from ProstateXferLib.reports.missed_lesion_text import missed_lesion_warnings

READING, MEASURING, WRITING = "Reading the images", "Measuring", "Writing"
# About the seconds of the shipped models for 19 slices on one CPU core; nothing but the bar depends on them.
_READING_WORK, _SEGMENTING_WORK, _SYNTHESIS_WORK, _MEASURING_WORK, _WRITING_WORK = 0.2, 4.5, 2.0, 0.3, 0.7
_TTA_FACTOR = 4
_LOW_COVERAGE = 0.9


@dataclass(frozen=True)
class _Findings:
    """What the tasks gave, in memory."""

    segmentation: Segmentation | None = None
    measurements: tuple[Measurement, ...] = ()
    sampled_by: str = ""
    images: dict[str, sitk.Image] = field(default_factory=dict)
    synthesis: dict[str, dict[str, float | None]] = field(default_factory=dict)
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_study(
    inputs: StudyInputs,
    options: StudyOptions,
    folder: Path,
    progress: Progress | None = None,
    case: str = "study",
    *,
    models: LoadedModels | None = None,
) -> StudyResult:
    """Do the tasks on one study and write the study folder.

    Args:
        inputs, options: the files, and what to do with them.
        folder: new, empty, or an earlier study, which is replaced when the new one is complete.
        progress: where to report (one fraction for the whole) and whom to ask whether to stop.
        case: name in study.json and on the page.
        models: kept between calls, so that a batch loads each model once.

    Raises:
        ProstateXferError: what is wrong and what to do; nothing was written. CancelledError: the user stopped.
    """
    clock = time.perf_counter()
    if problem := options.problem(inputs):
        raise ProstateXferError(problem)
    folder, inputs = Path(folder), inputs.absolute()
    check_study_folder(folder)
    run = _Run.of(options, models or LoadedModels(), progress or SilentProgress())
    images = _read_images(inputs, run)
    findings = _synthesize(_segment(images, _read_reference(inputs, options), run), images, run)
    with new_study_folder(folder) as temporary:
        result = StudyResult(
            folder=folder,
            case=case,
            inputs=inputs,
            options=options,
            image_sha256=images.image_sha256,
            file_sha256=images.file_sha256,
            outputs=_write(findings, temporary, run.watch),
            measurements=findings.measurements,
            sampled_by=findings.sampled_by,
            synthesis=findings.synthesis,
            warnings=tuple(run.watch.warnings),
            provenance=plain(findings.provenance),
            models=_model_summaries(run.checkpoints),
            seconds=round(time.perf_counter() - clock, 3),
        )
        result.moved_to(temporary).write()
    run.watch.finish()
    return result


@dataclass(frozen=True)
class _Run:
    """What every step needs."""

    options: StudyOptions
    models: LoadedModels
    checkpoints: Mapping[Task, Checkpoint]
    watch: StudyProgress

    @classmethod
    def of(cls, options: StudyOptions, models: LoadedModels, progress: Progress) -> "_Run":
        """The checkpoints found, the threads set, the steps laid out."""
        _set_threads(options)
        checkpoints = {task: models.checkpoint(task, options) for task in options.tasks}
        return cls(options, models, checkpoints, StudyProgress(progress, _steps(options, checkpoints)))

    @property
    def cards_of_mr(self) -> list[ModelCard]:
        """The cards of the models that see the MR."""
        return [checkpoint.card for task, checkpoint in self.checkpoints.items() if task is not Task.CT_FROM_CBCT]


def _read_images(inputs: StudyInputs, run: _Run) -> StudyImages:
    """The images of the study; tells which no model uses."""
    run.watch.begin(READING)
    images = read_study_images(inputs, run.options, run.watch)
    warn_of_unused(images, run.cards_of_mr, run.watch)
    return images


def segmenting(tasks: tuple[Task, ...]) -> str:
    """The name of a segmentation step."""
    names = {Task.PROSTATE: "prostate", Task.DIL: "DIL"}
    return f"Segmenting the {' and '.join(names[task] for task in tasks)}"


def _segmentation_runs(checkpoints: Mapping[Task, Checkpoint]) -> list[tuple[Task, ...]]:
    """The tasks that one model does together: one entry for each run of a network."""
    by_file: dict[str, tuple[Task, ...]] = {}
    for task, checkpoint in checkpoints.items():
        if not task.is_synthesis:
            by_file[checkpoint.sha256] = (*by_file.get(checkpoint.sha256, ()), task)
    return list(by_file.values())


def _steps(options: StudyOptions, checkpoints: Mapping[Task, Checkpoint]) -> list[tuple[str, float]]:
    steps = [(READING, _READING_WORK)]
    runs = _segmentation_runs(checkpoints)
    steps += [(segmenting(tasks), _SEGMENTING_WORK * (_TTA_FACTOR if options.tta else 1)) for tasks in runs]
    steps += [(MEASURING, _MEASURING_WORK)] if runs else []
    steps += [(task.title, _SYNTHESIS_WORK) for task in options.tasks if task.is_synthesis]
    return [*steps, (WRITING, _WRITING_WORK)]


def _read_reference(inputs: StudyInputs, options: StudyOptions) -> Reference | None:
    path = used_inputs(inputs, options).get("reference_segmentation")
    return None if path is None else read_reference(path)


def _segment(images: StudyImages, reference: Reference | None, run: _Run) -> _Findings:
    """Segmentation, uncertainty and measurements."""
    from ProstateXferLib.pipelines.uncertainty import uncertainty_map

    parts = []
    for tasks in _segmentation_runs(run.checkpoints):
        run.watch.begin(segmenting(tasks))
        segmenter = run.models.segmenter(tasks[0], run.options)
        whole = segmenter.predict(images.for_model(run.checkpoints[tasks[0]].card), run.watch)
        parts.append(ticked_structures(whole, tasks))
    if not parts:
        return _Findings()
    run.watch.begin(MEASURING)
    segmentation = parts[0] if len(parts) == 1 else gland_with_lesions(*parts, run.watch)
    matched = None if reference is None else matched_reference(reference, segmentation, run.watch)
    rows = measure(segmentation, reference=None if matched is None else matched.labels)
    for warning in missed_lesion_warnings(missed_lesions(segmentation), segmentation.sampled_by):
        run.watch.warn(warning)
    run.watch.update(MEASURING, 0.5)
    maps = {"uncertainty": uncertainty_map(segmentation.probabilities.values())} if run.options.uncertainty else {}
    return _Findings(
        segmentation=segmentation,
        measurements=tuple(rows if matched is None else matched.without_unknown(rows)),
        # Two models with a structure each are samples of nothing.
        sampled_by=segmentation.sampled_by if any(row.samples for row in rows) else "",
        images=maps,
        provenance={"segmentation": segmentation.provenance.to_dict()},
    )


def _synthesize(findings: _Findings, images: StudyImages, run: _Run) -> _Findings:
    """Synthetic CTs and, with a reference CT, their differences."""
    made, scores, provenance = dict(findings.images), dict(findings.synthesis), dict(findings.provenance)
    for task in (task for task in run.options.tasks if task.is_synthesis):
        run.watch.begin(task.title)
        synthesizer = run.models.synthesizer(task, run.options)
        source = images.for_model(run.checkpoints[task].card)
        synthetic, record = synthesizer.predict_with_provenance(source, run.watch)
        made[task.value], provenance[task.value] = synthetic, record.to_dict()
        if "reference_ct" not in images.images:
            continue
        comparison = compare_cts(synthetic, images.images["reference_ct"])
        share = comparison.scores["compared_fraction"]
        if share < _LOW_COVERAGE:
            run.watch.warn(
                f"The reference CT covers {share:.0%} of the body in the {task.title}; no more was compared."
            )
        scores[task.value] = comparison.scores
        made[f"{task.value}-difference"] = comparison.difference
    return replace(findings, images=made, synthesis=scores, provenance=provenance)


def _write(findings: _Findings, folder: Path, watch: StudyProgress) -> dict[str, str]:
    """Every file but study.json; returns the names by key."""
    from ProstateXferLib.reports.table import write_measurements_csv

    watch.begin(WRITING)
    outputs = {}
    if findings.segmentation is not None:
        outputs["segmentation"] = findings.segmentation.write(folder / OUTPUT_FILES["segmentation"]).name
        table = write_measurements_csv(findings.measurements, folder / OUTPUT_FILES["measurements"])
        outputs["measurements"] = table.name
        if findings.sampled_by:
            path = folder / OUTPUT_FILES["samples"]
            outputs["samples"] = write_samples(findings.segmentation.samples, path).name
    for number, (key, image) in enumerate(findings.images.items(), start=1):
        watch.begin(WRITING)  # the last chance to stop between two files
        outputs[key] = write_image(image, folder / OUTPUT_FILES[key]).name
        watch.update(WRITING, number / (len(findings.images) + 1))
    return {key: outputs[key] for key in OUTPUT_FILES if key in outputs}


def _model_summaries(checkpoints: Mapping[Task, Checkpoint]) -> tuple[dict[str, Any], ...]:
    """What a reader of the results must know about the models, though their files may be gone by then."""
    summaries = {}
    for task, checkpoint in checkpoints.items():
        card = checkpoint.card
        summary = summaries.setdefault(
            checkpoint.sha256,
            {
                "name": card.name,
                "sha256": checkpoint.sha256,
                "tasks": [],
                "title": card.title,
                "architecture": card.architecture,
                "inputs": list(card.inputs),
                "structures": [structure.name for structure in card.structures],
                "hu_range": card.hu_range and list(card.hu_range),
                "training_data": card.training_data,
                "licence": card.licence,
                "citation": card.citation,
                "intended_use": card.intended_use,
                "calibration": [calibration.to_json() for calibration in card.calibration],
            },
        )
        summary["tasks"].append(task.value)
    return tuple(summaries.values())


def _set_threads(options: StudyOptions) -> None:
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
