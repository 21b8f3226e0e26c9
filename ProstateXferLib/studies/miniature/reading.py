# SPDX-License-Identifier: Apache-2.0
"""What the tables say in words, made from the numbers by fixed rules, so that no sentence says more than they do."""

from collections.abc import Sequence

from ProstateXferLib.metrics.paired_tests import Comparison
from ProstateXferLib.metrics.statistics import summarize
from ProstateXferLib.studies.miniature.case_scores import CaseScore, values_of

SIGNIFICANT = 0.05


def reading(scores: Sequence[CaseScore], tests: Sequence[Comparison], arms: dict[str, str], data: str) -> str:
    """Which arms differ on a data set, and which do not; a bullet list."""
    cases = len({score.case_id for score in scores if score.data == data})
    order = sorted(
        (arm for arm in arms if values_of(scores, arm, data, "dice")),
        key=lambda arm: -summarize(values_of(scores, arm, data, "dice").values(), resamples=0).mean,
    )
    lines = [f"On {data} ({cases} cases) the mean Dice falls in the order {', '.join(arms[arm] for arm in order)}."]
    lines += [_sentence(test, arms) for test in tests]
    if cases < 6:  # with five pairs the smallest two-sided p of a signed-rank test is 0.0625
        lines.append(
            f"{cases} cases are too few for any test to reach p < {SIGNIFICANT}; these numbers only illustrate."
        )
    return "\n".join(f"- {line}" for line in lines)


def _sentence(test: Comparison, arms: dict[str, str]) -> str:
    better, worse = (test.second, test.first) if test.median_difference > 0 else (test.first, test.second)
    size = f"median difference {abs(test.median_difference):.3f}, p = {test.p_adjusted:.2g} after Holm"
    if test.p_adjusted < SIGNIFICANT:
        return f"{arms[better]} is better than {arms[worse]} ({size})."
    return f"No difference is shown between {arms[test.first]} and {arms[test.second]} ({size})."
