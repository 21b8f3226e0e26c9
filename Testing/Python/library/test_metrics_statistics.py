# SPDX-License-Identifier: Apache-2.0
"""Summaries, bootstrap intervals and tests against scipy and against hand counts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics import (
    adjust_p_values,
    bootstrap_interval,
    compare_paired,
    mann_whitney,
    paired_wilcoxon,
    summarize,
)

GOLDEN = json.loads(
    (Path(__file__).resolve().parents[2] / "Data" / "golden" / "metrics" / "stats.json").read_text(encoding="utf-8")
)
REFERENCE, PREDICTION = GOLDEN["volume_ref_ml"], GOLDEN["volume_pred_ml"]
SKEWED = np.random.default_rng(3).gamma(1.5, size=40)


def test_a_summary_counts_what_it_used():
    found = summarize([0.9, 0.7, math.nan, None, 0.8])
    assert (found.mean, found.median, found.sd) == pytest.approx((0.8, 0.8, 0.1))
    assert (found.n_used, found.n_total) == (3, 5)
    assert str(found).startswith("mean 0.8, median 0.8, SD 0.1, 95 % CI of the mean 0.7")
    assert str(found).endswith("(3 of 5 cases)")
    assert summarize([1.0, 2.0], unit="lesions").unit == "lesions"


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_a_summary_of_nothing_is_nan(values):
    found = summarize(values)
    assert all(math.isnan(value) for value in (found.mean, found.median, found.sd, found.low, found.high))
    assert (found.n_used, found.n_total) == (0, len(values))


def test_one_value_has_no_spread_and_equal_values_none_to_show():
    assert math.isnan(summarize([0.5]).sd) and math.isnan(summarize([0.5]).low)
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_an_infinite_value_is_shown():
    found = summarize([30.0, math.inf])
    assert found.mean == math.inf and math.isnan(found.sd) and math.isnan(found.low)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_is_that_of_scipy(statistic, method):
    function = {"mean": np.mean, "median": np.median}[statistic]
    ours = bootstrap_interval(SKEWED, statistic, method=method, resamples=20000)
    theirs = stats.bootstrap(
        (SKEWED,), function, method=method, n_resamples=20000, vectorized=True, rng=np.random.default_rng(1)
    ).confidence_interval
    # Two independent sets of draws.
    assert ours == pytest.approx(tuple(theirs), abs=0.03)


def test_the_same_seed_gives_the_same_interval_however_it_is_cut(monkeypatch):
    first = bootstrap_interval(SKEWED, seed=5)
    assert bootstrap_interval(list(SKEWED), seed=5) == first != bootstrap_interval(SKEWED, seed=6)
    monkeypatch.setattr("ProstateXferLib.metrics.statistics._CHUNK", 100)
    assert bootstrap_interval(SKEWED, seed=5) == first


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(random.normal(size=40), resamples=300)
        covered += low <= 0 <= high
    assert 0.88 < covered / 200 < 0.99


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=15), st.floats(0.1, 10), st.floats(-50, 50))
def test_summaries_shift_and_scale_with_their_values(values, factor, shift):
    one = summarize(values, resamples=50)
    two = summarize([factor * value + shift for value in values], resamples=50)
    for name in ("mean", "median", "low", "high"):
        assert getattr(two, name) == pytest.approx(factor * getattr(one, name) + shift, abs=1e-6)
    assert two.sd == pytest.approx(factor * one.sd, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "mode"}, "no interval of the 'mode'"),
        ({"method": "t"}, "'percentile' or 'bca'"),
        ({"confidence": 95}, "give a share as 0.95"),
        ({"resamples": 0}, "1000 or more"),
    ],
)
def test_impossible_intervals_are_refused(options, message):
    with pytest.raises(ProstateXferError, match=message):
        bootstrap_interval(SKEWED, **options)


def test_tests_give_the_p_values_of_the_reference_run():
    assert paired_wilcoxon(REFERENCE, PREDICTION).p == pytest.approx(GOLDEN["wilcoxon_p"], rel=1e-9)
    assert mann_whitney(REFERENCE, PREDICTION).p == pytest.approx(GOLDEN["mannwhitney_p"], rel=1e-9)


def test_pairs_with_a_hole_are_left_out_and_counted():
    one, two = [*REFERENCE, math.nan, 1.0], [*PREDICTION, 1.0, math.nan]
    found = paired_wilcoxon(one, two, names=("A", "B"))
    assert (found.n_used, found.n_total) == (14, 16)
    assert found.p == pytest.approx(GOLDEN["wilcoxon_p"])
    assert str(found).startswith("B against A: median difference") and "(14 of 16)" in str(found)
    assert mann_whitney(one, two).n_used == 30


def test_no_difference_is_p_1_and_no_pair_is_nan():
    assert paired_wilcoxon([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert math.isnan(paired_wilcoxon([math.nan], [1.0]).p)
    assert math.isnan(mann_whitney([], [1.0]).p)
    assert paired_wilcoxon([math.inf, 1.0], [math.inf, 1.0]).median_difference == 0


def test_pairs_without_a_difference_are_dropped():
    one, two = np.array(REFERENCE), np.array(PREDICTION)
    assert paired_wilcoxon([*one, 3.0], [*two, 3.0]).p == pytest.approx(GOLDEN["wilcoxon_p"])


def test_unmatched_cases_are_refused():
    with pytest.raises(ProstateXferError, match="match the cases first"):
        paired_wilcoxon([1.0], [1.0, 2.0])


def test_corrections_counted_by_hand():
    p = [0.01, 0.04, 0.03, math.nan, 0.005]
    assert adjust_p_values(p, "bonferroni") == pytest.approx([0.04, 0.16, 0.12, math.nan, 0.02], nan_ok=True)
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 -> 0.06 by monotony.
    assert adjust_p_values(p, "holm") == pytest.approx([0.03, 0.06, 0.06, math.nan, 0.02], nan_ok=True)
    assert adjust_p_values(p, "none") == pytest.approx(p, nan_ok=True)
    assert adjust_p_values([]) == []
    with pytest.raises(ProstateXferError, match="'holm', 'bonferroni' or 'none'"):
        adjust_p_values(p, "fdr")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_never_stricter_than_bonferroni_and_keeps_the_order(p):
    holm, bonferroni = adjust_p_values(p, "holm"), adjust_p_values(p, "bonferroni")
    assert all(raw <= mild <= strict <= 1 for raw, mild, strict in zip(p, holm, bonferroni, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(holm)[order]) >= 0).all()


def test_all_pairs_or_all_against_one():
    values = {"A": REFERENCE, "B": PREDICTION, "C": [v + 1 for v in REFERENCE]}
    every = compare_paired(values)
    assert [(test.first, test.second) for test in every] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert every[1].p_adjusted == pytest.approx(3 * every[1].p)
    against = compare_paired(values, against="C", correction="bonferroni")
    assert [(test.first, test.second) for test in against] == [("C", "A"), ("C", "B")]
    assert against[0].p_adjusted == pytest.approx(2 * against[0].p)
    with pytest.raises(ProstateXferError, match="no values of 'D'"):
        compare_paired(values, against="D")
