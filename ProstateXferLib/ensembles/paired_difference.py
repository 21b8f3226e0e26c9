# SPDX-License-Identifier: Apache-2.0
"""By how much one method is better than another on the same cases: interval and test, patient by patient.

Interval: percentile bootstrap of the difference between the two cohort numbers, both of the same drawn patients, who
come with all of their cases (for one case a patient and a mean it is `metrics.statistics.bootstrap_interval` of the
differences, draw for draw). Test: Wilcoxon's signed-rank test of the patients' mean differences, with Holm's correction
over the metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ProstateXferLib.ensembles.case_metrics import METRICS, CaseMetrics, RankedMetric
from ProstateXferLib.ensembles.patient_folds import patients_of
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.paired_tests import adjust_p_values, paired_wilcoxon

Outcome = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class MetricDifference:
    """One metric of two methods.

    Attributes:
        metric: with its unit and direction.
        baseline, chosen: cohort numbers (the volume's is an RMSE).
        difference, low, high: chosen minus baseline with its bootstrap interval; NaN ends for one patient.
        p, p_adjusted: Wilcoxon's test, alone and with Holm's correction over the five metrics.
        patients: how many.
        outcome: "better" or "worse" where interval and corrected test both exclude equality, which is more than one of
            them asks for; else no difference was shown.
    """

    metric: RankedMetric
    baseline: float
    chosen: float
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    patients: int
    outcome: Outcome

    def __str__(self) -> str:
        """The difference in one line."""
        unit = f" {self.metric.unit}" if self.metric.unit else ""
        return (
            f"{self.metric.title} {self.difference:+.4g}{unit} ({self.low:+.4g} to {self.high:+.4g}, "
            f"p = {self.p_adjusted:.3g}): {self.outcome}"
        )


def paired_differences(
    chosen: CaseMetrics,
    baseline: CaseMetrics,
    patients: Mapping[str, str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[MetricDifference, ...]:
    """The five metrics of two methods on the same cases, in the order of METRICS.

    Raises:
        ProstateXferError: other cases, a case without a patient, an impossible interval.
    """
    if chosen.cases != baseline.cases:
        raise ProstateXferError("Two methods can be compared on the same cases only: measure both on the same.")
    if not 0 < confidence < 1 or resamples < 1:
        raise ProstateXferError("A bootstrap needs a confidence such as 0.95 and 1 resample or more.")
    owner = patients_of(chosen.cases, patients)
    names = sorted(set(owner.values()))
    # (patient, case): 1 where the case is the patient's.
    owns = np.array([[owner[case] == name for case in chosen.cases] for name in names], dtype=np.float64)
    ends = _intervals(chosen, baseline, owns, confidence, resamples, seed)
    tests = []
    for one, two in zip(baseline.values.T, chosen.values.T, strict=True):
        per_patient = [owns @ column / owns.sum(axis=1) for column in (one, two)]
        tests.append(paired_wilcoxon(*per_patient).p)
    adjusted = adjust_p_values(tests, "holm")
    found = []
    for k, metric in enumerate(METRICS):
        before, after = float(baseline.aggregate()[k]), float(chosen.aggregate()[k])
        low, high = ends[k]
        shown = adjusted[k] < 1 - confidence and (low > 0 or high < 0)
        outcome: Outcome = "no difference shown"
        if shown:
            outcome = "better" if (low > 0) == metric.higher_is_better else "worse"
        found.append(
            MetricDifference(
                metric, before, after, after - before, low, high, tests[k], adjusted[k], len(names), outcome
            )
        )
    return tuple(found)


def _intervals(
    chosen: CaseMetrics, baseline: CaseMetrics, owns: np.ndarray, confidence: float, resamples: int, seed: int
) -> list[tuple[float, float]]:
    """(low, high) of chosen minus baseline for every metric; the same drawn patients for all."""
    count = len(owns)
    if count < 2:
        return [(np.nan, np.nan)] * len(METRICS)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    cases = owns.sum(axis=1)[drawn].sum(axis=1)
    ends = []
    for k, metric in enumerate(METRICS):
        power = 2 if metric.root_mean_square else 1
        means = [(owns @ table.values[:, k] ** power)[drawn].sum(axis=1) / cases for table in (chosen, baseline)]
        one, two = (np.sqrt(mean) if metric.root_mean_square else mean for mean in means)
        low, high = np.quantile(one - two, ((1 - confidence) / 2, (1 + confidence) / 2))
        ends.append((float(low), float(high)))
    return ends
