# SPDX-License-Identifier: Apache-2.0
"""Do two methods differ on the same cases? One paired test for each structure and tested metric, corrected together."""

from dataclasses import dataclass, replace

from ProstateXferLib.evaluation.catalog import Metric, metric_of
from ProstateXferLib.evaluation.evaluation import Evaluation
from ProstateXferLib.metrics.paired_tests import Comparison, adjust_p_values, paired_wilcoxon
from ProstateXferLib.metrics.sct.tissues import TISSUE_CLASSES

_TISSUES = {tissue.name.capitalize() for tissue in TISSUE_CLASSES}


@dataclass(frozen=True)
class MethodTest:
    """The test of one metric of one structure."""

    structure: str
    metric: Metric
    comparison: Comparison


def compare_methods(evaluation: Evaluation) -> list[MethodTest]:
    """Wilcoxon's signed-rank test of the second method against the first, Holm's correction over all tests made here.

    Of synthetic CTs the body is tested and not each tissue class, which it is made of. Nothing where there is one
    method.
    """
    methods = evaluation.options.methods
    if len(methods) < 2:
        return []
    tests = []
    for structure in evaluation.structures:
        for key in evaluation.metrics_of(structure):
            metric = metric_of(key)
            if metric.tested and structure not in _TISSUES:
                values = [evaluation.column(method, structure, key) for method in methods]
                tests.append(MethodTest(structure, metric, paired_wilcoxon(*values, names=methods)))
    adjusted = adjust_p_values([test.comparison.p for test in tests], "holm")
    return [
        replace(test, comparison=replace(test.comparison, p_adjusted=p, correction="holm"))
        for test, p in zip(tests, adjusted, strict=True)
    ]
