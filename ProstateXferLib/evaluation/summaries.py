# SPDX-License-Identifier: Apache-2.0
"""One line for each method, structure and metric: mean, median, spread, interval, and of how many cases."""

from collections.abc import Iterator
from dataclasses import dataclass

from ProstateXferLib.evaluation.catalog import Metric, metric_of
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.metrics.statistics import Summary, summarize


@dataclass(frozen=True)
class SummaryRow:
    """The summary of one metric of one structure by one method."""

    method: str
    structure: str
    metric: Metric
    summary: Summary


class Summaries:
    """The rows of an evaluation in their order, found by name as well."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.rows = tuple(_rows(evaluation))
        self._by_key = {(row.method, row.structure, row.metric.key): row.summary for row in self.rows}

    def of(self, method: str, structure: str, metric: str) -> Summary | None:
        """The summary, None where the metric was not computed."""
        return self._by_key.get((method, structure, metric))


def _rows(evaluation: Evaluation) -> Iterator[SummaryRow]:
    options = evaluation.options
    for structure in evaluation.structures:
        for key in evaluation.metrics_of(structure):
            for method in options.methods:
                values = evaluation.column(method, structure, key)
                found = summarize(values, resamples=options.resamples, seed=options.seed)
                yield SummaryRow(method, structure, metric_of(key), found)
        for key in evaluation.metrics_of(structure, per_lesion=True):
            for method in options.methods:
                values = evaluation.lesions(method, structure, key)
                found = summarize(values, resamples=options.resamples, seed=options.seed, unit="lesions")
                yield SummaryRow(method, structure, metric_of(key), found)
