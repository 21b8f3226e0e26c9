# SPDX-License-Identifier: Apache-2.0
"""The temperature of one structure, fitted on all cases and judged on cases that had no part in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ProstateXferLib.checkpoints.calibration import Calibration, Reliability, ReliabilityBin
from ProstateXferLib.ensembles.patient_folds import patient_folds
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.calibration import (
    at_a_bound,
    bin_of,
    brier_score,
    calibration_error,
    fit_temperature,
    frequency_band,
    negative_log_likelihood,
    reliability_table,
)
from ProstateXferLib.metrics.statistics import Summary, summarize
from ProstateXferLib.pipelines.calibrated import calibrated
from ProstateXferLib.studies.calibration.options import LEAST_PATIENTS, CalibrationOptions
from ProstateXferLib.studies.calibration.voxels import CaseVoxels


@dataclass(frozen=True)
class FittedStructure:
    """A calibration and what speaks for and against it.

    Attributes:
        calibration: for the card.
        gains: patient -> by how many nats a voxel the negative log-likelihood fell; of the folds' temperatures.
        gain: their mean with its interval over patients.
        warnings: what whoever uses the temperature must know.
    """

    calibration: Calibration
    gains: Mapping[str, float]
    gain: Summary
    warnings: tuple[str, ...]


def fit_structure(structure: str, cases: Sequence[CaseVoxels], options: CalibrationOptions) -> FittedStructure:
    """Fit on all cases; report each patient by the temperature of the fold that left the patient out.

    Raises:
        ProstateXferError: too few patients, or too few that have the structure.
    """
    patients = {case.case: case.patient for case in cases}
    count = len(set(patients.values()))
    if count < LEAST_PATIENTS:
        raise ProstateXferError(
            f"'{structure}' can be compared in {count} patient(s): a calibration needs {LEAST_PATIENTS} or more, else "
            "its numbers would be those of the cases it was fitted on."
        )
    folds = patient_folds(list(patients), patients, folds=min(options.folds, count), seed=options.seed)
    held: dict[str, float] = {}
    for fold in folds:
        temperature = _temperature([case for case in cases if case.case in fold.choosing], structure)
        held |= dict.fromkeys(fold.reporting, temperature)
    temperature = _temperature(cases, structure)
    moved = [_at(case, held[case.case]) for case in cases]
    calibration = Calibration(
        structure=structure,
        temperature=temperature,
        data=options.data,
        cases=len(cases),
        patients=count,
        region_mm=options.region_mm,
        folds=len(folds),
        temperature_low=min(held.values()),
        temperature_high=max(held.values()),
        tta=options.tta,
        before=_reliability(cases, options.seed),
        after=_reliability(moved, options.seed),
    )
    gains = _gains(cases, moved)
    gain = summarize(gains.values(), seed=options.seed, unit="patients")
    return FittedStructure(calibration, gains, gain, tuple(_warnings(calibration, gain)))


def _temperature(cases: Sequence[CaseVoxels], structure: str) -> float:
    probability, happened, weights = _pooled(cases)
    try:
        return fit_temperature(probability, happened, weights)
    except ProstateXferError as error:
        raise ProstateXferError(f"'{structure}' in {len(cases)} case(s): {error}") from error


def _pooled(cases: Sequence[CaseVoxels]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability, outcome and weight: every case weighs 1, however large its structure."""
    return (
        np.concatenate([case.probability for case in cases]),
        np.concatenate([case.happened for case in cases]),
        np.concatenate([case.voxels / case.voxels.sum() for case in cases]),
    )


def _at(case: CaseVoxels, temperature: float) -> CaseVoxels:
    moved = calibrated(case.probability, temperature).astype(np.float64)
    return CaseVoxels(case.case, case.patient, moved, case.happened, case.voxels)


def _reliability(cases: Sequence[CaseVoxels], seed: int) -> Reliability:
    probability, happened, weights = _pooled(cases)
    table = reliability_table(probability, happened, weights)
    groups = np.concatenate([np.full(len(case.voxels), case.patient) for case in cases])
    low, high = frequency_band(probability, happened, weights, groups=groups, seed=seed)
    counts = np.concatenate([case.voxels for case in cases])
    voxels = np.bincount(bin_of(probability), weights=counts, minlength=len(table.share))
    bins = tuple(
        ReliabilityBin(
            low=float(table.edges[k]),
            high=float(table.edges[k + 1]),
            probability=float(table.probability[k]),
            frequency=float(table.frequency[k]),
            share=float(table.share[k]),
            voxels=int(voxels[k]),
            frequency_low=None if np.isnan(low[k]) else float(low[k]),
            frequency_high=None if np.isnan(high[k]) else float(high[k]),
        )
        for k in np.flatnonzero(table.share > 0)
    )
    return Reliability(
        calibration_error=calibration_error(table),
        brier=brier_score(probability, happened, weights),
        negative_log_likelihood=negative_log_likelihood(probability, happened, weights),
        bins=bins,
    )


def _gains(before: Sequence[CaseVoxels], after: Sequence[CaseVoxels]) -> dict[str, float]:
    """Of each patient, the mean over its cases."""
    falls: dict[str, list[float]] = {}
    for old, new in zip(before, after, strict=True):
        old_loss, new_loss = (
            negative_log_likelihood(case.probability, case.happened, case.voxels) for case in (old, new)
        )
        falls.setdefault(old.patient, []).append(old_loss - new_loss)
    return {patient: float(np.mean(values)) for patient, values in falls.items()}


def _warnings(calibration: Calibration, gain: Summary) -> list[str]:
    found = []
    if at_a_bound(calibration.temperature):
        found.append(
            f"The temperature of '{calibration.structure}' ended at the edge of what is tried "
            f"({calibration.temperature:.2f}): look at the references before you use it."
        )
    if not gain.low > 0:
        found.append(
            f"It is not shown that the temperature of '{calibration.structure}' helps on other patients: the negative "
            f"log-likelihood changed by {-gain.mean:+.4f} (95 % interval {-gain.high:+.4f} to {-gain.low:+.4f}) on "
            "those that it was not fitted on."
        )
    return found
