# SPDX-License-Identifier: Apache-2.0
"""How far the probabilities behind the last run can be believed, in a line for the panel."""

import json
from typing import Any

from slicer.i18n import tr as _

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.cohort.calibrations import calibrations_of
from ProstateXferLib.reports.calibration_section import ModelCalibration


def calibrationOfModels(parameters: Any) -> list[str]:
    """A line for each calibrated structure of the last run; with an uncertainty map also one for what is not.

    The labels do not depend on it, the uncertainty does. Scenes of earlier versions do not know and say nothing.
    """
    if not parameters.studyRecord or parameters.segmentation is None:
        return []
    known = calibrations_of(json.loads(parameters.studyRecord)["models"])
    lines = [_calibrated(one.model, calibration) for one in known for calibration in one.calibrations]
    if parameters.uncertaintyMap is not None:
        lines += [line for one in known for line in _notCalibrated(one)]
    return lines


def _calibrated(model: str, calibration: Calibration) -> str:
    text = _(
        "Probabilities of {structure} ({model}) are calibrated: temperature {temperature}, fitted on {cases} cases; "
        "calibration error {before} before, {after} after"
    )
    return text.format(
        structure=calibration.structure,
        model=model,
        temperature=f"{calibration.temperature:.2f}",
        cases=calibration.cases,
        before=f"{calibration.before.calibration_error:.3f}",
        after=f"{calibration.after.calibration_error:.3f}",
    )


def _notCalibrated(known: ModelCalibration) -> list[str]:
    done = {calibration.structure for calibration in known.calibrations}
    missing = [name for name in known.structures if name not in done]
    text = _(
        "Probabilities of {structures} ({model}) are not calibrated: the uncertainty ranks voxels, its numbers are no "
        "frequencies"
    )
    return [text.format(structures=", ".join(missing), model=known.model)] if missing else []
