# SPDX-License-Identifier: Apache-2.0
"""Positions over five metrics, against hand counts and against counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.ensembles.case_metrics import METRICS, CaseMetrics
from ProstateXferLib.ensembles.ranking import positions_of, rank
from ProstateXferLib.errors import ProstateXferError

tables = st.lists(
    st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=3, max_size=3), min_size=1, max_size=5
)


def methods_of(numbers):
    """Small whole numbers make many ties; Dice and NSD are shares."""
    scale = np.array([0.25, 0.25, 1, 1, 1])
    return {f"m{k}": CaseMetrics(("a", "b", "c"), np.array(rows) * scale) for k, rows in enumerate(numbers)}


def counted_positions(values):
    """1 + how many are better + half of how many others are equal, one by one."""
    found = np.empty(values.shape)
    for row, column in np.ndindex(values.shape):
        sign = 1 if METRICS[column].higher_is_better else -1
        better = sum(sign * other > sign * values[row, column] for other in values[:, column])
        equal = sum(other == values[row, column] for other in values[:, column]) - 1
        found[row, column] = 1 + better + equal / 2
    return found


def test_each_metric_has_its_direction_and_equals_share_the_mean():
    values = np.array([[0.9, 0.8, 5, 2, 1], [0.9, 0.7, 4, 3, 1], [0.5, 0.9, 6, 2, 1]])
    assert positions_of(values).tolist() == [[1.5, 2, 2, 1.5, 2], [1.5, 3, 1, 3, 2], [3, 1, 3, 1.5, 2]]


@given(tables)
def test_positions_are_those_counted_one_by_one(numbers):
    methods = methods_of(numbers)
    found = rank(methods)
    np.testing.assert_allclose(found.positions, counted_positions(np.round(found.aggregates, 7)))
    by_case = rank(methods, "case")
    values = np.array([table.values for table in methods.values()])
    np.testing.assert_allclose(by_case.positions, np.mean([counted_positions(values[:, k]) for k in range(3)], axis=0))
    # Whatever the ties, m methods share the positions 1 to m.
    for ranking in (found, by_case):
        np.testing.assert_allclose(ranking.positions.mean(axis=0), (len(methods) + 1) / 2)


@given(tables, st.randoms(use_true_random=False))
def test_the_order_in_which_methods_are_given_changes_no_position(numbers, random):
    methods = methods_of(numbers)
    names = list(methods)
    random.shuffle(names)
    one, two = rank(methods), rank({name: methods[name] for name in names})
    assert dict(zip(one.names, one.mean_positions, strict=True)) == dict(
        zip(two.names, two.mean_positions, strict=True)
    )


def test_one_terrible_case_decides_the_cohort_number_and_not_the_cases():
    good = np.tile([0.9, 0.9, 2.0, 1.0, 0.5], (5, 1))
    plain = np.tile([0.8, 0.8, 3.0, 2.0, 0.6], (5, 1))
    good[0] = [0.0, 0.0, 90.0, 90.0, 40.0]
    methods = {"plain": CaseMetrics(tuple("abcde"), plain), "good": CaseMetrics(tuple("abcde"), good)}
    assert rank(methods).order == ("plain", "good")
    assert rank(methods).mean_positions.tolist() == [1, 2]
    assert rank(methods, "case").order == ("good", "plain")
    np.testing.assert_allclose(rank(methods, "case").mean_positions, [1.8, 1.2])


def test_rounding_of_sums_makes_no_winner():
    values = np.tile([0.1 + 0.2, 0.5, 2, 1, 0.5], (2, 1))
    other = np.tile([0.3, 0.5, 2, 1, 0.5], (2, 1))
    assert values[0, 0] != other[0, 0]
    found = rank({"a": CaseMetrics(("x", "y"), values), "b": CaseMetrics(("x", "y"), other)})
    assert found.mean_positions.tolist() == [1.5, 1.5] and found.order == ("a", "b")


def test_what_cannot_be_ranked_is_refused():
    table = CaseMetrics(("a",), np.array([[1, 1, 0, 0, 0]]))
    with pytest.raises(ProstateXferError, match="same cases"):
        rank({"a": table, "b": CaseMetrics(("b",), table.values)})
    with pytest.raises(ProstateXferError, match="unknown"):
        rank({"a": table}, "median")
    with pytest.raises(ProstateXferError, match="nothing"):
        rank({})
