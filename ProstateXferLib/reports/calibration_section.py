# SPDX-License-Identifier: Apache-2.0
"""What a report says about the calibration of a model: a diagram and a sentence for each structure, or that there is
none."""

from collections.abc import Sequence
from dataclasses import dataclass

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.reports.calibration_figure import calibration_figure
from ProstateXferLib.reports.page import Figure

_READING = (
    "Dots on the dashed line mean that of the voxels that were given a probability that share is the structure. "
    "The right side shows each patient at a temperature that was fitted on the others. A curve on one side of the "
    "line all along gives the structure too much (below) or too little (above), which no temperature can mend."
)


@dataclass(frozen=True)
class ModelCalibration:
    """A segmentation model, the structures it found, and what its card says about the probabilities of them."""

    model: str
    structures: tuple[str, ...]
    calibrations: tuple[Calibration, ...] = ()


def calibration_figures(known: ModelCalibration) -> list[Figure]:
    """The reliability diagram of each structure, with the sentence that says how far to believe it."""
    return [
        Figure(
            f"Calibration of the probabilities: {one.structure}",
            f"{calibration_sentence(one, known.model)} {_READING}",
            calibration_figure(one),
        )
        for one in known.calibrations
    ]


def calibration_sentence(calibration: Calibration, model: str) -> str:
    """On what the temperature was fitted, what it gained on patients it was not fitted on, and what it does not say."""
    one, before, after = calibration, calibration.before, calibration.after
    kind = (
        "too sure of itself" if one.temperature > 1 else "too timid" if one.temperature < 1 else "as sure as it should"
    )
    tta = ", mirrorings averaged" if one.tta else ""
    return (
        f"'{model}' was {kind} (T = {one.temperature:.2f}, {one.temperature_low:.2f} to {one.temperature_high:.2f} "
        f"over {one.folds} folds{tta}): on {one.cases} cases of {one.patients} patients ({one.data}), within "
        f"{one.region_mm:g} mm of the structure, the calibration error went from {before.calibration_error:.3f} to "
        f"{after.calibration_error:.3f}, the Brier score from {before.brier:.4f} to {after.brier:.4f} and the negative "
        f"log-likelihood from {before.negative_log_likelihood:.3f} to {after.negative_log_likelihood:.3f}. It holds "
        "for images like those and is no promise for this one; labels and volumes do not depend on it."
    )


def calibration_notes(known: Sequence[ModelCalibration]) -> list[str]:
    """A sentence for each model that has structures whose probabilities nobody calibrated."""
    notes = []
    for one in known:
        done = {calibration.structure for calibration in one.calibrations}
        if missing := [name for name in one.structures if name not in done]:
            notes.append(
                f"The probabilities of '{one.model}' for {' and '.join(missing)} are not calibrated: how often a voxel "
                "that is given 0.8 is right is not known, and neither is how far to believe the uncertainty."
            )
    return notes
