# SPDX-License-Identifier: Apache-2.0
"""Averages of what several models say: linear and logarithmic opinion pools.

The linear pool is the weighted mean of the probabilities; the logarithmic one that of the log-probabilities, normalised
over the classes (Genest and Zidek, Statist Sci 1986;1:114-135).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ProstateXferLib.checkpoints.ensemble_card import checked_average
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.postprocessing import background_of

SMALLEST_PROBABILITY = 1e-6
"""Logarithms are taken of no less: a model that is sure must not overrule all the others alone."""
_EQUAL_WEIGHTS = 1e-9


class OpinionPool:
    """Weighted averages, structure by structure, over those models that know a structure.

    Args:
        average: "probability" or "logit".
    """

    def __init__(self, average: str = "probability") -> None:
        self._by_logit = checked_average(average) == "logit"
        self._sums: dict[str, np.ndarray] = {}
        self._weights: dict[str, float] = {}
        self._overlapping: dict[tuple[str, ...], bool] = {}

    def add(
        self, names: Sequence[str], volumes: Mapping[str, np.ndarray], *, overlapping: bool = False, weight: float = 1.0
    ) -> None:
        """One model's opinion on the structures of one head.

        Args:
            names: the structures; in one pool a structure is always in the same company.
            volumes: name -> probability, float32, all of one shape; the background's, where the model tells it, under
                `background_of`. The arrays may be kept and written to.
            overlapping: each structure competes with its own absence and not with the others.
            weight: above 0.
        """
        self._overlapping.setdefault(tuple(sorted(names)), overlapping)
        opinions = volumes
        if self._by_logit:
            opinions = _log_odds(names, volumes) if overlapping else _logarithms(names, volumes)
        for name, volume in opinions.items():
            weighted = volume if weight == 1 else volume * np.float32(weight)
            if name in self._sums:
                self._sums[name] += weighted
            else:
                self._sums[name] = weighted
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def result(self) -> dict[str, np.ndarray]:
        """Structure name -> averaged probability, float32; to be asked for once.

        The background of a head is there where every model told it, and always in a logarithmic pool.

        Raises:
            ProstateXferError: nobody said anything.
        """
        if not self._sums:
            raise ProstateXferError("No model said anything: an average needs at least one.")
        pooled: dict[str, np.ndarray] = {}
        for names, overlapping in self._overlapping.items():
            means = self._means(names)
            if self._by_logit:
                means = _sigmoid(means) if overlapping else _softmax(means)
            pooled.update(means)
        return pooled

    def _means(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Of one head; its background only where all told it."""
        weight, background = self._weights[names[0]], background_of(names)
        told = abs(self._weights.get(background, 0.0) - weight) < _EQUAL_WEIGHTS
        wanted = (*names, background) if told else names
        sums = {name: self._sums.pop(name) for name in wanted}
        return sums if weight == 1 else {name: total / np.float32(weight) for name, total in sums.items()}


def _logarithms(names: Sequence[str], volumes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Log-probabilities of the structures and of the background."""
    background = background_of(names)
    told = volumes.get(background)
    rest = 1 - np.sum([volumes[name] for name in names], axis=0, dtype=np.float32) if told is None else told
    classes = {**{name: volumes[name] for name in names}, background: rest}
    return {name: np.log(np.maximum(volume, np.float32(SMALLEST_PROBABILITY))) for name, volume in classes.items()}


def _log_odds(names: Sequence[str], volumes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    least = np.float32(SMALLEST_PROBABILITY)
    return {name: np.log(np.maximum(volumes[name], least) / np.maximum(1 - volumes[name], least)) for name in names}


def _sigmoid(log_odds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: 1 / (1 + np.exp(-values)) for name, values in log_odds.items()}  # within 1e-6 to 1e6: no overflow


def _softmax(logarithms: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    exponentials = {name: np.exp(values) for name, values in logarithms.items()}  # at most 1, one of them not small
    total = np.sum(list(exponentials.values()), axis=0)
    return {name: values / total for name, values in exponentials.items()}
