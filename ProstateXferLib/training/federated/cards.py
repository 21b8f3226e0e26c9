# SPDX-License-Identifier: Apache-2.0
"""The model card of an average: what the sites' cards have in common, and where the weights come from."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.exchange.record import ExchangeRecord, versions

_EQUAL = ("task", "architecture", "arguments", "inputs", "structures", "heads", "hu_range")


def averaged_card(
    cards: Sequence[ModelCard], records: Sequence[ExchangeRecord], *, batch_norm: str, own: ModelCard | None
) -> ModelCard:
    """The card of the average of these models.

    The training set's mean and standard deviation, which each site measures on its own patients, are pooled by the
    number of patients as if all had been measured together; with `own`, the card of the site that keeps its batch
    norms, that site's stay. Scores and temperatures are dropped: nobody has tested the average.

    Raises:
        ProstateXferError: cards of models that do different things.
    """
    first = cards[0]
    for card in cards[1:]:
        differing = [name for name in _EQUAL if getattr(card, name) != getattr(first, name)]
        if differing:
            raise ProstateXferError(f"The sites' models cannot be averaged: their cards differ in '{differing[0]}'.")
    patients = [record.patients for record in records]
    preprocessing = own.preprocessing if own is not None else _pooled_preprocessing(cards, patients)
    shared = _shared_history(cards)
    entry = {
        "stage": "federated average",
        "batch_norm": batch_norm,
        "sites": [
            {
                "site": record.site,
                "patients": record.patients,
                "sha256": record.model_sha256,
                "history": list(card.history[len(shared) :]),
            }
            for card, record in zip(cards, records, strict=True)
        ],
        "versions": versions(),
    }
    texts = list(dict.fromkeys(card.training_data for card in cards))
    return dataclasses.replace(
        first,
        preprocessing=preprocessing,
        training_data="; ".join(texts),
        scores=(),
        history=(*shared, entry),
        calibration=(),
    )


def pooled_statistics(
    means: Sequence[float], deviations: Sequence[float], weights: Sequence[float]
) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) of everybody's values together, from each one's own."""
    total = math.fsum(weights)
    mean = math.fsum(weight * value for weight, value in zip(weights, means, strict=True)) / total
    square = math.fsum(w * (d**2 + m**2) for w, d, m in zip(weights, deviations, means, strict=True)) / total
    return mean, math.sqrt(max(square - mean**2, 0.0))


def _pooled_preprocessing(cards: Sequence[ModelCard], patients: Sequence[int]) -> Any:
    rules = [card.preprocessing for card in cards]
    if all(rule == rules[0] for rule in rules):
        return rules[0]
    intensities = [rule.intensity for rule in rules]
    if any(intensity.kind != "standardise" for intensity in intensities):
        raise ProstateXferError("The sites' models cannot be averaged: their preprocessing differs.")
    means, deviations = [item.mean for item in intensities], [item.deviation for item in intensities]
    mean, deviation = pooled_statistics(means, deviations, patients)
    pooled = [
        dataclasses.replace(rule, intensity=dataclasses.replace(rule.intensity, mean=mean, deviation=deviation))
        for rule in rules
    ]
    if any(rule != pooled[0] for rule in pooled):
        raise ProstateXferError("The sites' models cannot be averaged: their preprocessing differs.")
    return pooled[0]


def _shared_history(cards: Sequence[ModelCard]) -> tuple[dict[str, Any], ...]:
    shared = []
    for entries in zip(*(card.history for card in cards), strict=False):
        if any(entry != entries[0] for entry in entries):
            break
        shared.append(entries[0])
    return tuple(shared)
