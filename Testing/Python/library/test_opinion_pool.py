# SPDX-License-Identifier: Apache-2.0
"""Opinion pools: weighted means of probabilities and of log-probabilities, against formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.pipelines.opinion_pool import SMALLEST_PROBABILITY, OpinionPool
from ProstateXferLib.pipelines.postprocessing import background_of

GLAND_AND_BLADDER = ("Bladder", "Prostate")


def volume(*values):
    return np.array(values, dtype=np.float32)


def pooled(average, opinions, *, names=("Prostate",), overlapping=False):
    pool = OpinionPool(average)
    for volumes, weight in opinions:
        pool.add(
            names, {name: values.copy() for name, values in volumes.items()}, overlapping=overlapping, weight=weight
        )
    return pool.result()


def softmax(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=0)


def test_a_linear_pool_is_the_weighted_mean():
    found = pooled("probability", [({"Prostate": volume(0.2, 0.9)}, 0.25), ({"Prostate": volume(0.6, 0.1)}, 0.75)])
    assert found["Prostate"] == pytest.approx([0.5, 0.3])


def test_one_model_of_weight_one_is_passed_on_to_the_bit():
    values = np.random.default_rng(0).random(100, dtype=np.float32)
    assert np.array_equal(pooled("probability", [({"Prostate": values}, 1.0)])["Prostate"], values)


@pytest.mark.parametrize("average", ["probability", "logit"])
def test_weights_of_any_sum_give_the_same_mean(average):
    a, b = {"Prostate": volume(0.2, 0.7)}, {"Prostate": volume(0.4, 0.99)}
    once, thrice = pooled(average, [(a, 0.3), (b, 0.7)]), pooled(average, [(a, 0.9), (b, 2.1)])
    assert once["Prostate"] == pytest.approx(thrice["Prostate"], abs=1e-6)


def test_a_logarithmic_pool_of_one_structure_has_the_mean_log_odds():
    p, q = np.array([0.2, 0.97, 0.5]), np.array([0.6, 0.4, 0.5])
    found = pooled("logit", [({"Prostate": volume(*p)}, 0.25), ({"Prostate": volume(*q)}, 0.75)])["Prostate"]
    odds = (p / (1 - p)) ** 0.25 * (q / (1 - q)) ** 0.75
    assert found == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_a_logarithmic_pool_of_classes_is_the_softmax_of_the_mean_logits():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 3, 50))
    opinions = []
    for one in logits:
        background, prostate, bladder = softmax(one).astype(np.float32)
        told = {"Prostate": prostate, "Bladder": bladder, background_of(GLAND_AND_BLADDER): background}
        opinions.append((told, 0.5))
    found = pooled("logit", opinions, names=GLAND_AND_BLADDER)
    expected = softmax(logits.mean(axis=0))
    assert found["Prostate"] == pytest.approx(expected[1], abs=1e-5)
    assert found["Bladder"] == pytest.approx(expected[2], abs=1e-5)
    assert found[background_of(GLAND_AND_BLADDER)] == pytest.approx(expected[0], abs=1e-5)


def test_a_background_that_is_not_told_is_the_rest_to_one():
    told = {"Prostate": volume(0.5), "Bladder": volume(0.3)}
    whole = {**told, background_of(GLAND_AND_BLADDER): volume(0.2)}
    bare, full = (pooled("logit", [(one, 1.0)], names=GLAND_AND_BLADDER) for one in (told, whole))
    assert bare["Prostate"] == pytest.approx(full["Prostate"], abs=1e-6)
    assert bare["Prostate"] == pytest.approx([0.5], abs=1e-6)


def test_regions_that_overlap_are_pooled_each_with_its_own_absence():
    a, b = {"Prostate": volume(0.9), "Bladder": volume(0.9)}, {"Prostate": volume(0.5), "Bladder": volume(0.9)}
    found = pooled("logit", [(a, 0.5), (b, 0.5)], names=GLAND_AND_BLADDER, overlapping=True)
    assert found["Prostate"] == pytest.approx([0.75], abs=1e-6)  # sqrt(9 * 1) = 3 to 1
    assert found["Bladder"] == pytest.approx([0.9], abs=1e-6)
    assert background_of(GLAND_AND_BLADDER) not in found


def test_who_is_sure_has_no_veto():
    """Without a floor the logarithm of 0 would decide alone, whatever the others say and weigh."""
    found = pooled("logit", [({"Prostate": volume(0.0)}, 0.01), ({"Prostate": volume(0.99)}, 0.99)])["Prostate"]
    odds = SMALLEST_PROBABILITY**0.01 * 99**0.99
    assert found == pytest.approx([odds / (1 + odds)], abs=1e-4)
    assert found > 0.98


def test_a_linear_pool_keeps_a_background_only_where_all_told_it():
    background = background_of(("Prostate",))
    told, silent = {"Prostate": volume(0.4), background: volume(0.6)}, {"Prostate": volume(0.2)}
    assert background in pooled("probability", [(told, 0.5), (told, 0.5)])
    assert background not in pooled("probability", [(told, 0.5), (silent, 0.5)])


def test_a_structure_that_only_some_know_is_averaged_over_those():
    pool = OpinionPool("probability")
    pool.add(("Prostate",), {"Prostate": volume(0.2)}, weight=0.5)
    pool.add(("Prostate",), {"Prostate": volume(0.4)}, weight=0.5)
    pool.add(("DIL",), {"DIL": volume(0.8)}, weight=0.5)
    found = pool.result()
    assert (found["Prostate"], found["DIL"]) == (pytest.approx([0.3]), pytest.approx([0.8]))


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0.01, 10)), min_size=1, max_size=5))
def test_a_pool_lies_between_its_opinions(opinions):
    values = [value for value, _ in opinions]
    for average in ("probability", "logit"):
        found = float(
            pooled(average, [({"Prostate": volume(value)}, weight) for value, weight in opinions])["Prostate"][0]
        )
        assert min(values) - 2e-6 <= found <= max(values) + 2e-6


def test_nobody_and_an_unknown_average_are_refused():
    with pytest.raises(ProstateXferError, match="at least one"):
        OpinionPool().result()
    with pytest.raises(ProstateXferError, match="probability or logit, not by 'median'"):
        OpinionPool("median")
