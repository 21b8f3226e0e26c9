# SPDX-License-Identifier: Apache-2.0
"""`run_calibration`: a checkpoint or ensemble and cases with references go in, temperatures come out."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import SimpleITK as sitk

from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.evaluation.label_names import LabelNames
from ProstateXferLib.evaluation.label_pair import read_labels
from ProstateXferLib.images.io import read_image
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress, raise_if_cancelled
from ProstateXferLib.studies.calibration.case_list import CalibrationCase
from ProstateXferLib.studies.calibration.fitting import FittedStructure, fit_structure
from ProstateXferLib.studies.calibration.options import CalibrationOptions
from ProstateXferLib.studies.calibration.references import paired_with, reference_mask
from ProstateXferLib.studies.calibration.voxels import CaseVoxels, case_voxels, near_structure

_STEP = "calibrate"
_READING_SHARE = 0.97  # of the work; the fits take seconds


@dataclass(frozen=True)
class _Found:
    """What one case says about one structure: `voxels` is None where it says nothing, `shown` where the reference has
    a voxel of it."""

    structure: str
    case: str
    voxels: CaseVoxels | None
    shown: bool
    declared: bool


class _CaseProgress(SubProgress):
    """Tells every step of a case as part of one long step, so that the time left is that of the whole."""

    def __init__(self, whole: Progress, start: float, stop: float, case: str) -> None:
        super().__init__(whole, start, stop)
        self._case = case

    def update(self, step: str, fraction: float, message: str = "") -> None:
        """With the case's name before the message."""
        super().update(_STEP, fraction, f"{self._case}: {message or step}")


def run_calibration(
    checkpoint: Checkpoint,
    cases: Sequence[CalibrationCase],
    options: CalibrationOptions,
    *,
    device: str = "auto",
    precision: str = "auto",
    reference_names: LabelNames | None = None,
    progress: Progress | None = None,
) -> tuple[FittedStructure, ...]:
    """Predict every case, compare, fit; warnings go to `progress`, too.

    Args:
        checkpoint: a segmentation model or an ensemble; temperatures that its card has do not count.
        cases, options: on what and how.
        device, precision: of the Segmenter.
        reference_names: what the references' label values mean; None: what the model's do.
        progress: where to report and whom to ask whether to stop.

    Raises:
        ProstateXferError: an unknown structure, a case that cannot be used, too few patients. CancelledError: stopped.
    """
    watch = progress or SilentProgress()
    wanted = _wanted(checkpoint, options)
    bare = dataclasses.replace(checkpoint, card=dataclasses.replace(checkpoint.card, calibration=()))
    segmenter = Segmenter(bare, device=device, tta=options.tta, precision=precision)
    names = reference_names if reference_names is not None and reference_names.given else LabelNames.of_card(bare.card)
    found: list[_Found] = []
    for number, case in enumerate(cases):
        raise_if_cancelled(watch)
        part = _CaseProgress(watch, *(_READING_SHARE * place / len(cases) for place in (number, number + 1)), case.name)
        found += _compared(segmenter, bare, case, wanted, names, options, part)
    fitted = []
    for structure in _shown(wanted, found, options, watch):
        raise_if_cancelled(watch)
        fitted.append(fit_structure(structure, _told(structure, found, watch), options))
        for warning in fitted[-1].warnings:
            watch.warn(warning)
    watch.update(_STEP, 1.0, "done")
    return tuple(fitted)


def _wanted(checkpoint: Checkpoint, options: CalibrationOptions) -> tuple[str, ...]:
    """The structures to look at, those that a head tells, in the card's order."""
    card = checkpoint.card
    if card.task != "segmentation":
        raise ProstateXferError(
            f"'{card.name}' is a {card.task} model and gives no probabilities: choose a segmentation model."
        )
    values = {value for head in card.heads for value in head.values}
    known = tuple(structure.name for structure in card.structures if structure.value in values)
    if unknown := [name for name in options.structures if name not in known]:
        raise ProstateXferError(f"'{card.name}' does not find '{unknown[0]}': it finds {', '.join(known)}.")
    return tuple(name for name in known if not options.structures or name in options.structures)


def _compared(
    segmenter: Segmenter,
    checkpoint: Checkpoint,
    case: CalibrationCase,
    wanted: Sequence[str],
    names: LabelNames,
    options: CalibrationOptions,
    watch: Progress,
) -> list[_Found]:
    try:
        images = {sequence: read_image(path) for sequence, path in case.images.items()}
        reference = read_labels(case.reference)
        segmentation = segmenter.predict(images, watch)
        pair = paired_with(segmentation.labels, reference, checkpoint.card, names)
    except CancelledError:
        raise
    except ProstateXferError as error:
        raise ProstateXferError(f"The case '{case.name}' cannot be used: {error}") from error
    spacing_zyx = segmentation.labels.GetSpacing()[::-1]
    found = []
    for structure in wanted:
        mask = reference_mask(pair, checkpoint.card, structure)
        if mask is None:
            found.append(_Found(structure, case.name, None, shown=False, declared=False))
            continue
        probability = sitk.GetArrayViewFromImage(segmentation.probabilities[structure])
        region = near_structure(probability, mask, spacing_zyx, options.region_mm)
        voxels = None
        if region.any():
            voxels = case_voxels(probability, mask, region, case=case.name, patient=case.patient)
        found.append(_Found(structure, case.name, voxels, shown=bool(mask.any()), declared=True))
    return found


def _shown(wanted: Sequence[str], found: Sequence[_Found], options: CalibrationOptions, watch: Progress) -> list[str]:
    """The structures to fit: those that were asked for, or all that some reference shows."""
    if options.structures:
        return list(wanted)
    shown = {item.structure for item in found if item.shown}
    for name in wanted:
        if name not in shown:
            watch.warn(f"'{name}' is not calibrated: no reference shows it.")
    if not shown:
        raise ProstateXferError(
            f"No reference shows {' or '.join(wanted)}: say what their label values mean (--names), or give others."
        )
    return [name for name in wanted if name in shown]


def _told(structure: str, found: Sequence[_Found], watch: Progress) -> list[CaseVoxels]:
    """What the cases say about one structure; who is left out is told."""
    own = [item for item in found if item.structure == structure]
    silent = [item.case for item in own if not item.declared]
    empty = [item.case for item in own if item.declared and item.voxels is None]
    for left, why in (
        (silent, "the reference does not name it"),
        (empty, "the reference has none and the model sees none, where any temperature is as good"),
    ):
        if left:
            watch.warn(f"'{structure}': {len(left)} case(s) left out, {why} ({_some(left)}).")
    return [item.voxels for item in own if item.voxels is not None]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
