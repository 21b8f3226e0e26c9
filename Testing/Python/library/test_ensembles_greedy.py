# SPDX-License-Identifier: Apache-2.0
"""Greedy selection where the best set is known by construction, and against trying everything."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.evaluator import OnlyCases, Remembered
from ProstateXferLib.ensembles.greedy import select_greedily
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.ranking import rank
from ProstateXferLib.errors import ProstateXferError

CASES = tuple(f"case{k:02d}" for k in range(12))
VOXELS = 400


class Votes:
    """Averages the members' probabilities of each voxel, cuts at one half and counts; `asked` says how often."""

    def __init__(self, probabilities, reference):
        self.probabilities, self.reference = probabilities, reference
        self.asked = []

    def __call__(self, members, cases):
        self.asked.append((members, cases))
        places = [CASES.index(case) for case in cases]
        parts = [w * self.probabilities[name][places] for name, w in zip(members.names, members.weights, strict=True)]
        # Rounded, so that 1/3 + 2/3 of one candidate is that candidate.
        mask, truth = np.sum(parts, axis=0).round(9) > 0.5, self.reference[places]
        both = (mask & truth).sum(axis=1)
        dice = 2 * both / (mask.sum(axis=1) + truth.sum(axis=1))
        wrong = (mask != truth).mean(axis=1)
        volume = np.abs(mask.sum(axis=1) - truth.sum(axis=1)) / 1000
        return CaseMetrics(cases, np.column_stack([dice, 1 - wrong, 20 * wrong, 5 * wrong, volume]))


REFERENCE = np.tile(np.arange(VOXELS) % 2 == 0, (len(CASES), 1))


def soft(right):
    """Probabilities that are `right` sure of the truth, voxel by voxel."""
    return np.where(REFERENCE, right, 1 - right)


def independent(count, *, wrong=0.25, seed=0):
    """Candidates that flip a quarter of the voxels, each others."""
    random = np.random.default_rng(seed)
    flips = random.random((count, *REFERENCE.shape)) < wrong
    return {f"c{k}": np.where(flip, ~REFERENCE, REFERENCE).astype(float) for k, flip in enumerate(flips)}


def dice_of(votes, members):
    return votes(members, CASES).column("dice").mean()


def test_the_majority_of_independent_candidates_beats_each_of_them():
    candidates = independent(5)
    votes = Votes(candidates, REFERENCE)
    path = select_greedily(votes, CASES, names=list(candidates), start=3)

    # Binomial: of three votes with a quarter wrong each the majority is wrong in 15.6 %, of five in 10.4 %.
    best_single = max(dice_of(votes, Members.equal([name])) for name in candidates)
    assert best_single == pytest.approx(0.75, abs=0.02)
    assert dice_of(votes, path.members) == pytest.approx(0.896, abs=0.02)
    assert set(path.members.names) == set(candidates)


def test_a_copy_of_a_candidate_is_never_taken_and_changes_nothing():
    candidates = independent(4)
    plain = select_greedily(Votes(candidates, REFERENCE), CASES, names=list(candidates), start=2)
    copied = {**candidates, "c0 again": candidates["c0"], "c3 again": candidates["c3"]}
    with_copies = select_greedily(Votes(copied, REFERENCE), CASES, names=list(copied), start=2)

    assert [step.counts for step in with_copies.steps] == [step.counts for step in plain.steps]
    assert with_copies.members == plain.members


def thirds(sure=0.97, wrong=0.05):
    """Three candidates, each wrong on its own third; two more that know nothing."""
    own = [np.arange(VOXELS) % 3 == k for k in range(3)]
    known = {f"third{k}": soft(np.where(third, wrong, sure)) for k, third in enumerate(own)}
    random = np.random.default_rng(1)
    return {**known, **{f"noise{k}": random.random(REFERENCE.shape) for k in range(2)}}


def test_candidates_that_mend_each_other_are_found_and_noise_is_not():
    candidates = thirds()
    path = select_greedily(Votes(candidates, REFERENCE), CASES, names=list(candidates))

    assert dice_of(Votes(candidates, REFERENCE), path.members) == 1
    assert not {"noise0", "noise1"} & set(path.members.names)


def test_those_that_help_only_in_company_need_to_start_together():
    # Two of them are wrong on both their thirds (0.05 + 0.9 < 1), all three nowhere (0.05 + 0.9 + 0.9 > 1.5).
    candidates = thirds(sure=0.9)
    votes = Votes(candidates, REFERENCE)
    alone = select_greedily(votes, CASES, names=list(candidates), start=1)
    together = select_greedily(votes, CASES, names=list(candidates), start=3)

    assert dice_of(votes, alone.members) < 0.7
    assert together.members == Members.equal(["third0", "third1", "third2"])
    assert together.chosen == 0 and dice_of(votes, together.members) == 1


def test_replacement_gives_a_better_candidate_more_weight():
    # Slightly wrong on the last tenth; the other is right there and surely wrong on the first half: 2 to 1 mends both.
    place = np.arange(VOXELS) / VOXELS
    candidates = {"good": soft(np.where(place > 0.9, 0.4, 1.0)), "other": soft(np.where(place < 0.5, 0.0, 1.0))}
    votes = Votes(candidates, REFERENCE)
    path = select_greedily(votes, CASES, names=["good", "other"])

    assert dice_of(votes, Members.equal(["good", "other"])) < 0.9
    assert path.members == Members.of_counts({"good": 2, "other": 1})
    assert dice_of(votes, path.members) == 1


@pytest.mark.parametrize("seed", range(4))
def test_every_round_adds_what_trying_all_additions_says(seed):
    candidates = independent(4, wrong=0.35, seed=seed)
    votes = Votes(candidates, REFERENCE)
    path = select_greedily(votes, CASES, names=list(candidates), rounds=4, patience=9)
    assert len(path.steps) == 5 and path.stopped == "rounds"
    for before, after in zip(path.steps, path.steps[1:], strict=False):
        tried = {
            name: votes(Members.of_counts({**before.counts, name: before.counts.get(name, 0) + 1}), CASES)
            for name in candidates
        }
        positions = dict(zip(tried, rank(tried).mean_positions, strict=True))
        assert positions[after.added[0]] == min(positions.values())
    best = min(path.mean_positions)
    assert path.mean_positions[path.chosen] == best and path.mean_positions.tolist().index(best) == path.chosen


def test_in_a_small_case_the_best_of_all_small_ensembles_is_found():
    candidates = independent(3, seed=2)
    votes = Votes(candidates, REFERENCE)
    every = {
        Members.equal(names): votes(Members.equal(names), CASES)
        for size in (1, 2, 3)
        for names in combinations_with_replacement(candidates, size)
    }
    ranking = rank({str(members): table for members, table in every.items()})
    path = select_greedily(votes, CASES, names=list(candidates), start=2, rounds=1)
    assert str(path.members) == ranking.order[0]


def test_it_stops_when_nothing_helps_any_more_and_says_why():
    candidates = {"perfect": soft(1.0), "noise": np.random.default_rng(0).random(REFERENCE.shape)}
    path = select_greedily(Votes(candidates, REFERENCE), CASES, names=["noise", "perfect"], patience=3)
    assert (path.stopped, path.chosen, len(path.steps)) == ("patience", 0, 4)
    assert path.members == Members.equal(["perfect"])
    assert select_greedily(Votes(candidates, REFERENCE), CASES, names=["noise"], rounds=0).stopped == "rounds"


def test_the_same_question_has_the_same_answer():
    candidates = independent(5, wrong=0.4)
    one, two = (select_greedily(Votes(candidates, REFERENCE), CASES, names=list(candidates)) for _ in range(2))
    assert [step.counts for step in one.steps] == [step.counts for step in two.steps]


def test_an_ensemble_is_measured_once_a_case():
    votes = Votes(independent(3), REFERENCE)
    ask = Remembered(votes)
    first = ask(Members.equal(["c0"]), CASES[:4])
    again = ask(Members.equal(["c0"]), (CASES[6], CASES[2], CASES[0]))
    assert [cases for _, cases in votes.asked] == [CASES[:4], (CASES[6],)]
    assert again.cases == (CASES[6], CASES[2], CASES[0])
    np.testing.assert_array_equal(again.values[1:], first.values[[2, 0]])


def test_held_out_cases_cannot_be_asked_for():
    seen = OnlyCases(Votes(independent(1), REFERENCE), CASES[:4])
    assert seen(Members.equal(["c0"]), CASES[:2]).cases == CASES[:2]
    with pytest.raises(ProstateXferError, match="'case04' is held out"):
        seen(Members.equal(["c0"]), CASES[2:6])


def test_an_evaluator_that_mixes_up_cases_is_stopped():
    def mixed(members, cases):
        return Votes(independent(1), REFERENCE)(members, cases[::-1])

    with pytest.raises(ProstateXferError, match="measured on other cases than asked"):
        select_greedily(mixed, CASES, names=["c0"])


@pytest.mark.parametrize(
    "options", [{"names": []}, {"names": ["a", "a"]}, {"names": ["a"], "start": 2}, {"names": ["a"], "patience": 0}]
)
def test_what_cannot_be_selected_is_refused(options):
    with pytest.raises(ProstateXferError):
        select_greedily(Votes({}, REFERENCE), CASES, **options)
