# SPDX-License-Identifier: Apache-2.0
"""What a model card says about how far its probabilities can be believed, and what was done about it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability diagram.

    Attributes:
        low, high: edges of the bin in probability, `low` included.
        probability: mean probability of the voxels in it, every case with equal weight.
        frequency: share of them that belong to the structure in the reference.
        share: of all weight, 0..1.
        voxels: how many they are.
        frequency_low, frequency_high: 95 % bootstrap interval of the frequency over patients; None where fewer than
            two patients fill the bin.
    """

    low: float
    high: float
    probability: float
    frequency: float
    share: float
    voxels: int
    frequency_low: float | None = None
    frequency_high: float | None = None

    def __post_init__(self) -> None:
        if not all(_in_unit(value) for value in (self.low, self.high, self.probability, self.frequency, self.share)):
            raise ProstateXferError("A bin of a reliability diagram holds a number outside 0 to 1: get the file again.")
        ends = (self.frequency_low, self.frequency_high)
        if not self.low < self.high or any(end is not None and not _in_unit(end) for end in ends):
            raise ProstateXferError("A bin of a reliability diagram has impossible edges: get the file again.")
        if not _is_count(self.voxels):
            raise ProstateXferError("A bin of a reliability diagram counts no whole voxels: get the file again.")


@dataclass(frozen=True)
class Reliability:
    """How well probabilities agree with frequencies.

    Attributes:
        calibration_error: expected calibration error (Guo et al., ICML 2017), 0..1.
        brier: Brier score, 0..1.
        negative_log_likelihood: nats a voxel.
        bins: those that hold a voxel, in order.
    """

    calibration_error: float
    brier: float
    negative_log_likelihood: float
    bins: tuple[ReliabilityBin, ...]

    def __post_init__(self) -> None:
        if not (_in_unit(self.calibration_error) and _in_unit(self.brier)):
            raise ProstateXferError("A calibration error or Brier score is not from 0 to 1: get the file again.")
        if not (_is_number(self.negative_log_likelihood) and self.negative_log_likelihood >= 0 and self.bins):
            raise ProstateXferError("A calibration has no likelihood or no bins: get the file again.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reliability":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**values, "bins": tuple(ReliabilityBin(**item) for item in values["bins"])})


@dataclass(frozen=True)
class Calibration:
    """The temperature of one structure's probabilities, and what it is worth.

    Attributes:
        structure: name of the structure.
        temperature: its log-odds are divided by this; above 1 where the model was too sure.
        data: on what, in a phrase.
        cases, patients: how many of it.
        region_mm: voxels counted within this distance of the reference or of where the model sees the structure.
        folds: into how many folds the patients were split: the diagram `after` shows each patient by a temperature
            that was fitted on the others.
        temperature_low, temperature_high: least and largest temperature of the folds.
        tta: whether mirrorings were averaged.
        before, after: without the temperature, and with that of the folds.
    """

    structure: str
    temperature: float
    data: str
    cases: int
    patients: int
    region_mm: float
    folds: int
    temperature_low: float
    temperature_high: float
    tta: bool
    before: Reliability
    after: Reliability

    def __post_init__(self) -> None:
        temperatures = (self.temperature, self.temperature_low, self.temperature_high)
        if not all(_is_number(value) and value > 0 for value in temperatures):
            raise ProstateXferError(
                f"The calibration of '{self.structure}' has a temperature that is not above 0: get the file again."
            )
        if not all(_is_count(value) for value in (self.cases, self.patients, self.folds)):
            raise ProstateXferError(f"The calibration of '{self.structure}' counts no whole cases: get the file again.")
        if not (_is_number(self.region_mm) and self.region_mm >= 0):
            raise ProstateXferError(f"The calibration of '{self.structure}' has an impossible region: get it again.")
        if not (isinstance(self.structure, str) and isinstance(self.data, str) and isinstance(self.tta, bool)):
            raise ProstateXferError("A calibration's structure, data or tta is malformed: get the file again.")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model card."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_json`.

        Raises:
            ProstateXferError: a value that cannot be. TypeError, KeyError: an unknown or missing field.
        """
        parts = {name: Reliability.from_json(values[name]) for name in ("before", "after")}
        return cls(**{**values, **parts})


def check_calibrations(calibrations: tuple[Calibration, ...], names: set[str], model: str) -> None:
    """Refuse a temperature of a structure that the model does not find, and a second one of the same.

    Raises:
        ProstateXferError: naming the model and the structure.
    """
    found = [calibration.structure for calibration in calibrations]
    if unknown := [name for name in found if name not in names]:
        raise ProstateXferError(f"Model card '{model}': it calibrates '{unknown[0]}', which is none of its structures.")
    if double := [name for name in found if found.count(name) > 1]:
        raise ProstateXferError(f"Model card '{model}': it calibrates '{double[0]}' twice.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _in_unit(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
