# SPDX-License-Identifier: Apache-2.0
"""One case from its files to its numbers: the work of a worker process."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.case_result import CaseResult, MethodResult
from ProstateXferLib.evaluation.label_pair import LabelImage, LabelPair, label_pair, on_grid, read_labels
from ProstateXferLib.evaluation.lesion_scores import read_confidence
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.segmentation_scores import score_pair
from ProstateXferLib.evaluation.synthesis_scores import (
    CtReference,
    read_ct_reference,
    read_synthetic_ct,
    score_synthetic_ct,
)
from ProstateXferLib.files import file_sha256
from ProstateXferLib.images.grid import Grid

_LOGGER = logging.getLogger(__name__)

METHOD_ROLES = ("prediction", "other")
"""The role of the first and of the second method's file."""


def evaluate_case(files: CaseFiles, options: EvaluationOptions) -> CaseResult:
    """The case's result; whatever is wrong with it is a sentence in there and never stops the others."""
    names = options.methods
    try:
        reference = _reference(files.files, options)
    except Exception as error:
        return failed_case(files.case, names, sentence_of(error))
    results = {}
    for name, role in zip(names, METHOD_ROLES, strict=False):
        results[name] = _guarded(lambda role=role: _method(files.files, role, reference, options))
    declared = frozenset()
    if isinstance(reference, LabelImage):
        # What the reference speaks of is told by any pair that could be made.
        declared = frozenset().union(*(result[1] for result in results.values()))
    return CaseResult(
        files.case,
        {name: result for name, (result, _) in results.items()},
        declared,
        reference.histogram if isinstance(reference, CtReference) else (),
        _hashes(files.files),
    )


def failed_case(case: str, methods: tuple[str, ...], sentence: str) -> CaseResult:
    """The result of a case of which nothing is known but why."""
    return CaseResult(case, {name: MethodResult(failure=sentence) for name in methods})


def read_pair(files: Mapping[str, Path], role: str, reference: LabelImage, options: EvaluationOptions) -> LabelPair:
    """A method's label map and the reference's, with a common meaning."""
    return _pair_and_warning(files, role, reference, options)[0]


def sentence_of(error: Exception) -> str:
    """What to tell the user of a case's failure."""
    if isinstance(error, ProstateXferError):
        return str(error)
    _LOGGER.debug("unexpected failure of a case", exc_info=error)
    if isinstance(error, MemoryError):
        return "There was not enough memory for this case: use fewer --jobs."
    detail = " ".join(str(error).split())
    return f"Unexpected {type(error).__name__}: {detail} (evaluate this case alone with --jobs 1 --debug to see where)."


def _guarded(
    work: Callable[[], tuple[MethodResult, frozenset[str]]],
) -> tuple[MethodResult, frozenset[str]]:
    """The result, or that of a failure: here a bad case ends, and the cohort goes on."""
    try:
        return work()
    except Exception as error:
        return MethodResult(failure=sentence_of(error)), frozenset()


def _reference(files: Mapping[str, Path], options: EvaluationOptions) -> LabelImage | CtReference:
    if "reference" not in files:
        raise ProstateXferError("The case has no reference: add one, or leave the case out.")
    return read_labels(files["reference"]) if options.kind == "segmentation" else read_ct_reference(files)


def _method(
    files: Mapping[str, Path], role: str, reference: LabelImage | CtReference, options: EvaluationOptions
) -> tuple[MethodResult, frozenset[str]]:
    """A method's result, and what the reference speaks of."""
    if role not in files:
        what = "prediction" if role == "prediction" else "prediction of the second method"
        raise ProstateXferError(f"The case has a reference and no {what}: add one, or leave the case out.")
    if isinstance(reference, CtReference):
        grid = Grid.of(reference.ct)
        prediction, warning = read_synthetic_ct(files[role], grid, resample=options.resample)
        result = score_synthetic_ct(reference, prediction, files if role == "prediction" else {}, options)
        return replace(result, warnings=(warning,) if warning else ()), frozenset()
    pair, warning = _pair_and_warning(files, role, reference, options)
    confidence = None
    if role == "prediction" and "confidence" in files:
        confidence = read_confidence(files["confidence"], pair.grid, resample=options.resample)
    result = score_pair(pair, options, confidence)
    return replace(result, warnings=(warning,) if warning else ()), pair.reference_declared


def _pair_and_warning(
    files: Mapping[str, Path], role: str, reference: LabelImage, options: EvaluationOptions
) -> tuple[LabelPair, str]:
    prediction = read_labels(files[role])
    image, warning = on_grid(prediction.image, Grid.of(reference.image), resample=options.resample, what="prediction")
    prediction = replace(prediction, image=image)
    return label_pair(prediction, reference, options.prediction_names, options.reference_names), warning


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """Of every file; a DICOM folder has none."""
    try:
        return {role: file_sha256(path) for role, path in files.items() if path.is_file()}
    except OSError:
        return {}
