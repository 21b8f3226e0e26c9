# SPDX-License-Identifier: Apache-2.0
"""The prepared cases of a segmentation stage, and the intensity rule that only its training cases can tell."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.progress import Progress, SilentProgress
from ProstateXferLib.training.cache.prepared import PreparedCase, prepared_cases
from ProstateXferLib.training.cache.statistics import training_statistics
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.tasks.segmentation_settings import SegmentationSettings

Prepare = Callable[[Sequence[Case]], list[PreparedCase]]


def preparation(settings: SegmentationSettings, folder: Path, *, progress: Progress | None = None) -> Prepare:
    """A function that prepares cases by the stage's rules, or finds them in the cache `folder`; `progress` is told."""

    def prepare(cases: Sequence[Case]) -> list[PreparedCase]:
        return prepared_cases(
            cases,
            settings.preprocessing,
            settings.structures,
            sequences=settings.sequences,
            folder=folder,
            progress=progress or SilentProgress(),
        )

    return prepare


def with_training_statistics(
    settings: SegmentationSettings, cases: Sequence[Case], folder: Path, *, progress: Progress | None = None
) -> SegmentationSettings:
    """The settings with the training cases' mean and deviation in every rule "standardise", where that is asked for.

    Measured over the slices that train (in-domain transfer: those with more than `minimum_pixels` of the structures).

    Raises:
        ProstateXferError: the intensity rule is another.
    """
    if not settings.training_statistics:
        return settings
    rules = [settings.preprocessing.rule_of(channel) for channel in range(len(settings.sequences))]
    if any(rule.kind != "standardise" for rule in rules):
        raise ProstateXferError(
            "training_statistics fills in the mean and deviation of the intensity rule 'standardise': choose that rule."
        )
    plain = tuple(dataclasses.replace(rule, mean=0.0, deviation=1.0) for rule in rules)
    prepared = preparation(_with_rules(settings, plain), folder, progress=progress)(cases)
    minimum = settings.slices.minimum_pixels if settings.slices is not None else 0
    found = [training_statistics(prepared, minimum_pixels=minimum, channel=c) for c in range(len(rules))]
    measured = [
        dataclasses.replace(rule, mean=mean, deviation=deviation)
        for rule, (mean, deviation) in zip(rules, found, strict=True)
    ]
    return _with_rules(settings, tuple(measured))


def _with_rules(settings: SegmentationSettings, rules: Sequence[IntensityRule]) -> SegmentationSettings:
    further = tuple(rules[1:]) if settings.preprocessing.further_intensities else ()
    preprocessing: Preprocessing = dataclasses.replace(
        settings.preprocessing, intensity=rules[0], further_intensities=further
    )
    return dataclasses.replace(settings, preprocessing=preprocessing)
