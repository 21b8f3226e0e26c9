# SPDX-License-Identifier: Apache-2.0
"""The numbers of a whole cohort, case by case in one order, with a place for every case that failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ProstateXferLib.evaluation.case_files import CaseFiles
from ProstateXferLib.evaluation.case_result import WHOLE, CaseResult, LesionExam, MethodResult, Value
from ProstateXferLib.evaluation.options import EvaluationOptions
from ProstateXferLib.evaluation.segmentation_scores import score_of_nothing


@dataclass(frozen=True)
class Evaluation:
    """Options, files, and what came of every case; `structures` are those that are reported, in their order."""

    options: EvaluationOptions
    files: tuple[CaseFiles, ...]
    results: tuple[CaseResult, ...]
    structures: tuple[str, ...]
    warnings: tuple[str, ...]
    started_utc: str
    seconds: float

    @property
    def n_cases(self) -> int:
        """All cases, those that failed included: the n that an aggregate is "of"."""
        return len(self.results)

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """(case, method, sentence)."""
        return [(r.case, name, why) for r in self.results for name, why in r.failures.items()]

    @property
    def n_failed(self) -> int:
        """Cases of which at least one method failed."""
        return sum(bool(result.failures) for result in self.results)

    def method(self, case_number: int, method: str) -> MethodResult:
        """One method on one case, with the values of two empty masks for each structure that neither file has."""
        return self._completed[method][case_number]

    def values(self, case_number: int, method: str) -> list[Value]:
        """The values of the reported structures, in the order of the structures."""
        wanted = {name: place for place, name in enumerate(self.structures)}
        found = [value for value in self.method(case_number, method).values if value.structure in wanted]
        return sorted(found, key=lambda value: (wanted[value.structure], value.component))

    def metrics_of(self, structure: str, *, per_lesion: bool = False) -> list[str]:
        """The keys of a structure's metrics in their order."""
        keys: dict[str, None] = {}
        for results in self._completed.values():
            for result in results:
                for value in result.values:
                    if value.structure == structure and (value.component > WHOLE) == per_lesion:
                        keys.setdefault(value.metric)
        return list(keys)

    def column(self, method: str, structure: str, metric: str) -> list[float]:
        """One value a case, NaN where the case failed or has none."""
        return self._columns.get((method, structure, metric), [math.nan] * self.n_cases)

    def lesions(self, method: str, structure: str, metric: str) -> list[float]:
        """One value a reference lesion of the cases that did not fail, case by case from the largest."""
        return [
            value.value
            for result in self._completed[method]
            for value in result.values
            if value.structure == structure and value.metric == metric and value.component > WHOLE
        ]

    def exams(self, method: str, structure: str) -> list[LesionExam]:
        """The lesions of every case that did not fail."""
        return [r.exams[structure] for r in self._completed[method] if structure in r.exams]

    @property
    def lesion_structures(self) -> list[str]:
        """The reported structures whose lesions were counted."""
        found = {name for results in self._completed.values() for r in results for name in r.exams}
        return [name for name in self.structures if name in found]

    @cached_property
    def _completed(self) -> dict[str, list[MethodResult]]:
        return {
            method: [self._complete(result.methods[method]) for result in self.results]
            for method in self.options.methods
        }

    @cached_property
    def _columns(self) -> dict[tuple[str, str, str], list[float]]:
        columns: dict[tuple[str, str, str], list[float]] = {}
        for method, results in self._completed.items():
            for number, result in enumerate(results):
                for value in result.values:
                    if value.component == WHOLE:
                        key = (method, value.structure, value.metric)
                        columns.setdefault(key, [math.nan] * self.n_cases)[number] = value.value
        return columns

    @cached_property
    def _nothing(self) -> Mapping[str, MethodResult]:
        return {name: score_of_nothing(name, self.options) for name in self.structures}

    def _complete(self, result: MethodResult) -> MethodResult:
        """The result with the structures that the cohort has and this case has nothing of."""
        if result.failure or self.options.kind != "segmentation":
            return result
        there = {value.structure for value in result.values}
        missing = [self._nothing[name] for name in self.structures if name not in there]
        values: Sequence[Value] = [*result.values, *(v for nothing in missing for v in nothing.values)]
        exams = {**result.exams, **{name: exam for nothing in missing for name, exam in nothing.exams.items()}}
        return MethodResult(
            values=tuple(value for value in values if value.structure in self.structures),
            declared=result.declared,
            exams=exams,
            warnings=result.warnings,
        )


def reported_structures(results: Sequence[CaseResult], options: EvaluationOptions) -> tuple[tuple[str, ...], list[str]]:
    """The structures to report, and sentences about those that only one side speaks of.

    A gland alone does not mean "no lesion": what no reference, or no prediction, of the cohort ever speaks of is left
    out unless it was asked for by name.
    """
    methods = [m for result in results for m in result.methods.values() if not m.failure]
    if options.kind == "sct":
        return tuple(dict.fromkeys(value.structure for m in methods for value in m.values)), []
    if options.structures:
        return options.structures, []
    order = dict.fromkeys(value.structure for m in methods for value in m.values)
    predicted = frozenset().union(*(m.declared for m in methods))
    referenced = frozenset().union(*(result.declared for result in results))
    told = []
    for name in order:
        if name not in predicted or name not in referenced:
            side = "prediction" if name not in predicted else "reference"
            told.append(
                f"No {side} speaks of {name}, so it was not evaluated; --structures with its name does it all the same."
            )
    return tuple(name for name in order if name in predicted & referenced), told
