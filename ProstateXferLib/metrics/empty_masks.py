# SPDX-License-Identifier: Apache-2.0
"""What a metric of two masks is worth when one of them, or both, are empty: one rule set for all metrics.

| case       | kind                          | "best_worst" | "nan" | "penalty"        |
|------------|-------------------------------|--------------|-------|------------------|
| both empty | similarity (Dice, IoU, NSD)   | 1            | NaN   | 1                |
| both empty | distance (HD, HD95, ASSD ...) | 0 mm         | NaN   | 0 mm             |
| one empty  | similarity                    | 0            | 0     | 0                |
| one empty  | distance                      | NaN          | NaN   | image's diagonal |

A miss is the worst of all similarities, 0, under every rule. No finite distance is the worst of all, so "best_worst"
has NaN there, which a table must count beside its mean; who wants misses inside the mean asks for "penalty".
"""

import math
from typing import Literal, get_args

from ProstateXferLib.errors import ProstateXferError

EmptyRule = Literal["best_worst", "nan", "penalty"]


def check_empty_rule(empty: str) -> None:
    """Raise `ProstateXferError` unless the rule is one of the three."""
    if empty not in get_args(EmptyRule):
        raise ProstateXferError(f"empty='{empty}' is unknown; use one of {', '.join(get_args(EmptyRule))}.")


def similarity_of_empty(empty: EmptyRule, *, both: bool) -> float:
    """A similarity between 0 and 1 of two masks of which one is empty, or `both` are."""
    check_empty_rule(empty)
    if not both:
        return 0.0
    return math.nan if empty == "nan" else 1.0


def distance_mm_of_empty(empty: EmptyRule, *, both: bool, diagonal_mm: float) -> float:
    """A distance, mm, of two masks of which one is empty, or `both` are.

    `diagonal_mm` is the length of the image's diagonal, outer edge to outer edge: no distance in it is longer.
    """
    check_empty_rule(empty)
    if both:
        return math.nan if empty == "nan" else 0.0
    return diagonal_mm if empty == "penalty" else math.nan
