# SPDX-License-Identifier: Apache-2.0
"""What a study's record says about the calibration of the models that made it."""

from collections.abc import Iterable, Mapping
from typing import Any

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.cohort.task import Task
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.naming import is_lesion, resolve_structures
from ProstateXferLib.reports.calibration_section import ModelCalibration


def calibrations_of(models: Iterable[Mapping[str, Any]]) -> list[ModelCalibration]:
    """One entry for each segmentation model, with the structures of which it gave a probability.

    Studies of earlier versions do not say whether their models were calibrated; neither is said of them.

    Args:
        models: `StudyResult.models`, the entries of study.json.

    Raises:
        ProstateXferError: the record was altered.
    """
    found = []
    for model in models:
        entries, names = model.get("calibration"), _structures_made(model)
        if entries is None or not names:
            continue
        try:
            calibrations = tuple(Calibration.from_json(entry) for entry in entries)
        except (TypeError, LookupError, AttributeError) as error:
            raise ProstateXferError(
                f"The calibration of '{model['name']}' in the study's record is malformed ({error}): run it again."
            ) from error
        own = tuple(one for one in calibrations if one.structure in names)
        found.append(ModelCalibration(model["name"], names, own))
    return found


def _structures_made(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the model's structures that its tasks in the study are about."""
    tasks, names = set(model["tasks"]), model["structures"]
    described = resolve_structures((), dict(enumerate(names, start=1)))
    kinds = [Task.DIL if is_lesion(structure) else Task.PROSTATE for structure in described]
    return tuple(name for name, kind in zip(names, kinds, strict=True) if kind.value in tasks)
