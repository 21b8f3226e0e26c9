# SPDX-License-Identifier: Apache-2.0
"""How well volumes agree over the cohort."""

from dataclasses import dataclass

from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.metrics.agreement import BlandAltman, Icc, RootMeanSquareError, bland_altman, icc_a1, volume_rmse


@dataclass(frozen=True)
class VolumeAgreement:
    """Predicted against reference volumes of one structure by one method, cm³."""

    method: str
    structure: str
    bland_altman: BlandAltman
    rmse_cm3: RootMeanSquareError
    icc: Icc


def volume_agreements(evaluation: Evaluation) -> list[VolumeAgreement]:
    """For each structure and method of segmentations; cases that failed are left out and counted."""
    if evaluation.options.kind != "segmentation":
        return []
    found = []
    for structure in evaluation.structures:
        for method in evaluation.options.methods:
            pair = [evaluation.column(method, structure, f"volume_{side}") for side in ("reference", "prediction")]
            found.append(VolumeAgreement(method, structure, bland_altman(*pair), volume_rmse(*pair), icc_a1(*pair)))
    return found
