# SPDX-License-Identifier: Apache-2.0
"""Probabilities at the temperature that a model card has for them (docs/ensembles.md, Calibration)."""

from collections.abc import Mapping, Sequence

import numpy as np

from ProstateXferLib.checkpoints.calibration import Calibration
from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError

CERTAIN = 1e-6
"""Log-odds are taken of probabilities no nearer to 0 and 1 than this, as when the temperature was fitted."""


def calibrated(probability_zyx: np.ndarray, temperature: float) -> np.ndarray:
    """The probability whose log-odds are those given divided by the temperature, float32 of any shape.

    The order of voxels by probability stays. Exactly 0 stays 0: there the model did not look. At temperature 1 nothing
    changes.

    Raises:
        ProstateXferError: a temperature that is not above 0.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ProstateXferError(f"A temperature must be above 0; it is {temperature}: calibrate the model anew.")
    given = np.asarray(probability_zyx, dtype=np.float32)
    if temperature == 1:
        return given
    # In place and in doubles, a plane of the volume at a time: single precision has no 1 - 1e-6 to a digit's worth.
    found = np.zeros(given.shape, dtype=np.float32)
    for source, target in zip(np.atleast_2d(given), np.atleast_2d(found), strict=True):
        p = np.clip(source.astype(np.float64), CERTAIN, 1 - CERTAIN)
        target[...] = np.where(source > 0, 1 / (1 + np.exp((np.log1p(-p) - np.log(p)) / temperature)), 0)
    return found


def calibrations_of(rules: Sequence[ModelCard]) -> tuple[Calibration, ...]:
    """The temperatures that count: those of the one checkpoint or ensemble that was given.

    Models that are given as a list and averaged have none together: each one's was fitted to it alone.
    """
    return rules[0].calibration if len(rules) == 1 else ()


def calibration_warnings(rules: Sequence[ModelCard], *, tta: bool) -> list[str]:
    """A sentence for each structure whose temperature was fitted with mirrorings and runs without, or vice versa."""
    words = {True: "with mirrorings averaged", False: "without mirrorings"}
    return [
        f"The temperature of '{one.structure}' was fitted {words[one.tta]} and is used {words[tta]}: its probabilities "
        "may be less well calibrated than the model card says."
        for one in calibrations_of(rules)
        if one.tta != tta
    ]


def calibrated_maps(maps_zyx: Mapping[str, np.ndarray], rules: Sequence[ModelCard]) -> dict[str, np.ndarray]:
    """Structure name -> probability, calibrated where the card has a temperature for the structure.

    Args:
        maps_zyx: structure name -> probability (z, y, x), from which the labels have been composed already.
        rules: the cards whose rules count for the run (`roster.Roster.rules`).
    """
    temperatures = {item.structure: item.temperature for item in calibrations_of(rules)}
    return {
        name: calibrated(volume, temperatures[name]) if name in temperatures else volume
        for name, volume in maps_zyx.items()
    }
