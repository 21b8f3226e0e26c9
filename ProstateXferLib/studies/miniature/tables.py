# SPDX-License-Identifier: Apache-2.0
"""The miniature study's tables in the layout of the paper (AAPM 2026, abstract 2441), as Markdown."""

import math
from collections.abc import Sequence

from ProstateXferLib.metrics.paired_tests import Comparison, compare_paired
from ProstateXferLib.metrics.statistics import Summary, summarize
from ProstateXferLib.studies.miniature.case_scores import CaseScore, values_of

PAPER = {"unet": (0.8645, 0.902), "base-frozen": (0.8713, 0.906), "mr-frozen": (0.8707, 0.904)}
"""Mean and median Dice of the gland in the abstract (TCIA, n = 1,017), by the arm that stands for it here."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def dice_table(scores: Sequence[CaseScore], arms: dict[str, str], data: str) -> str:
    """One row an arm: mean with bootstrap interval, median, spread, worst case, and the paper's pair of numbers.

    Args:
        scores: all rows of the study.
        arms: arm -> its title, in the table's order.
        data: the data set.
    """
    header = ("arm", "mean Dice", "95 % CI of the mean", "median", "SD", "lowest", "cases", "paper: mean / median")
    rows = []
    for arm, title in arms.items():
        values = list(values_of(scores, arm, data, "dice").values())
        if not values:
            continue
        summary = summarize(values)
        paper = " / ".join(f"{value:.4g}" for value in PAPER[arm]) if arm in PAPER else "–"
        interval = f"{summary.low:.3f} to {summary.high:.3f}"
        numbers = (f"{summary.mean:.3f}", interval, f"{summary.median:.3f}", f"{summary.sd:.3f}", f"{min(values):.3f}")
        rows.append((title, *numbers, str(summary.n_used), paper))
    return markdown_table(header, rows)


def millimetre_table(scores: Sequence[CaseScore], arms: dict[str, str], data: str) -> str:
    """Centroid distance, HD95 and volume error: median and range, where the millimetres are true."""
    header = ("arm", "centroid distance, mm", "HD95, mm", "volume error, cm³", "cases")
    rows = []
    for arm, title in arms.items():
        columns = [
            summarize(values_of(scores, arm, data, metric).values(), interval_of="median")
            for metric in ("centroid_distance_mm", "hd95_mm", "volume_error_cm3")
        ]
        if columns[0].n_total:
            cells = [_median_and_interval(column) for column in columns]
            rows.append((title, *cells, f"{min(column.n_used for column in columns)} of {columns[0].n_total}"))
    return markdown_table(header, rows)


def comparisons(scores: Sequence[CaseScore], arms: dict[str, str], data: str) -> list[Comparison]:
    """Wilcoxon's signed-rank test of every pair of arms on the same cases, p adjusted by Holm."""
    by_arm = {arm: values_of(scores, arm, data, "dice") for arm in arms}
    by_arm = {arm: values for arm, values in by_arm.items() if values}
    shared = sorted(set.intersection(*(set(values) for values in by_arm.values()))) if by_arm else []
    return compare_paired({arm: [values[case] for case in shared] for arm, values in by_arm.items()})


def comparison_table(tests: Sequence[Comparison], arms: dict[str, str]) -> str:
    """One row a pair of arms."""
    header = ("second against first", "median difference in Dice", "p", "p (Holm)", "pairs")
    rows = [
        (
            f"{arms[test.second]} against {arms[test.first]}",
            f"{test.median_difference:+.3f}",
            f"{test.p:.3g}",
            f"{test.p_adjusted:.3g}",
            str(test.n_used),
        )
        for test in tests
    ]
    return markdown_table(header, rows)


def _median_and_interval(summary: Summary) -> str:
    if math.isnan(summary.median):
        return "–"
    return f"{summary.median:.1f} ({summary.low:.1f} to {summary.high:.1f})"
