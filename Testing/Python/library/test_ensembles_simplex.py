# SPDX-License-Identifier: Apache-2.0
"""Weights between overlap and boundary: analytic fronts, brute force, real masks, and the picture."""

import io
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProstateXferLib.ensembles.case_metrics import CaseMetrics
from ProstateXferLib.ensembles.front import FrontPoint, front_of
from ProstateXferLib.ensembles.front_figure import front_figure
from ProstateXferLib.ensembles.members import Members
from ProstateXferLib.ensembles.simplex import grid_size, scan_weights, simplex_grid
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.surface import surface_metrics

CASES = ("a", "b")


def analytic(members, cases):
    """Dice is best with all weight on "overlap", NSD and HD95 with all on "boundary"; "worse" hurts both."""
    weight = dict(zip(members.names, members.weights, strict=True))
    far_from_overlap, far_from_boundary = 1 - weight.get("overlap", 0), 1 - weight.get("boundary", 0)
    row = [0.9 - 0.2 * far_from_overlap**2, 0.9 - 0.4 * far_from_boundary**2, 2 + 6 * far_from_boundary**2, 1, 1]
    return CaseMetrics(cases, np.tile(row, (len(cases), 1)))


def weights_of(point):
    return dict(zip(point.members.names, point.members.weights, strict=True))


@pytest.mark.parametrize("boundary", ["nsd", "hd95"])
def test_the_front_between_two_specialists_is_the_line_between_them(boundary):
    front = scan_weights(analytic, CASES, names=["worse", "overlap", "boundary"], boundary=boundary)

    assert front.exhaustive and len(front.evaluated) == grid_size(3, 10) == 66
    assert [weights_of(point).get("overlap", 0) for point in front.efficient] == [k / 10 for k in range(10, -1, -1)]
    assert not any("worse" in point.members.names for point in front.efficient)
    # Both aims lose with the square of the distance, so the middle loses least in the worse of them.
    assert weights_of(front.chosen) == {"overlap": 0.5, "boundary": 0.5}


@pytest.mark.parametrize(("trade", "share"), [(1.0, 1.0), (0.8, 0.7), (0.2, 0.3), (0.0, 0.0)])
def test_the_trade_moves_the_choice_along_the_front(trade, share):
    # Least max(t (1 - x)^2, (1 - t) x^2) over tenths: equal at x = sqrt(t) / (sqrt(t) + sqrt(1 - t)) = 0.667 for 0.8.
    front = scan_weights(analytic, CASES, names=["overlap", "boundary"], trade=trade)
    assert weights_of(front.chosen).get("overlap", 0) == share


@pytest.mark.parametrize(("members", "steps"), [(1, 4), (2, 5), (3, 4), (4, 3)])
def test_the_grid_is_every_way_to_share_the_steps(members, steps):
    every = [counts for counts in product(range(steps + 1), repeat=members) if sum(counts) == steps]
    found = list(simplex_grid(members, steps))
    assert sorted(found) == every and len(found) == grid_size(members, steps)


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25)


@given(points, st.sampled_from(["nsd", "hd95"]), st.floats(0, 1))
def test_a_point_is_efficient_exactly_where_no_other_beats_it(places, metric, trade):
    sign = 1 if metric == "nsd" else -1
    given_points = [FrontPoint(Members.equal([f"m{k}"]), o / 6, b / 6) for k, (o, b) in enumerate(places)]
    front = front_of(given_points, metric, trade=trade, exhaustive=True)

    def beats(one, two):
        gains = (one.overlap - two.overlap, sign * (one.boundary - two.boundary))
        return min(gains) >= 0 and max(gains) > 0

    best = {(p.overlap, p.boundary) for p in given_points if not any(beats(other, p) for other in given_points)}
    assert [(p.overlap, p.boundary) for p in front.efficient] == sorted(best, reverse=True)
    assert front.chosen in front.efficient


def test_of_equal_ensembles_the_smallest_is_taken():
    large, small = Members.equal(["a", "b", "c"]), Members.equal(["b", "c"])
    front = front_of([FrontPoint(large, 0.8, 0.7), FrontPoint(small, 0.8, 0.7)], "nsd", exhaustive=True)
    assert front.chosen.members == small and len(front.efficient) == 1


def test_a_front_that_bends_inwards_has_a_middle_that_can_be_chosen():
    # No weighted sum takes the middle: it lies below the line between the ends.
    line = [(0.9, 0.5), (0.68, 0.68), (0.5, 0.9)]
    front = front_of([FrontPoint(Members.equal([str(o)]), o, b) for o, b in line], "nsd", exhaustive=True)
    assert front.chosen.overlap == 0.68


class Hilly:
    """Six candidates; Dice and NSD are each best at a mixture of their own, both away from the corners."""

    names = tuple("uvwxyz")
    best = ((4, 4, 4, 0, 0, 0), (0, 4, 4, 4, 0, 0))

    def __init__(self):
        self.asked = 0

    def __call__(self, members, cases):
        self.asked += 1
        weight = dict(zip(members.names, members.weights, strict=True))
        here = np.array([weight.get(name, 0.0) for name in self.names])
        dice, nsd = (0.9 - 0.5 * np.sum((here - np.array(best) / 12) ** 2) for best in self.best)
        return CaseMetrics(cases, np.tile([dice, nsd, 1, 1, 1], (len(cases), 1)))


def test_the_search_finds_what_the_whole_grid_holds_with_a_part_of_the_work():
    whole, part = Hilly(), Hilly()
    every = scan_weights(whole, CASES, names=Hilly.names, steps=12, most=10**5)
    found = scan_weights(part, CASES, names=Hilly.names, steps=12, most=1500)

    assert every.exhaustive and not found.exhaustive
    assert whole.asked == 6188 and part.asked <= 1500
    assert found.efficient[0] == every.efficient[0] and found.efficient[-1] == every.efficient[-1]
    assert found.chosen == every.chosen
    assert weights_of(every.efficient[0]) == pytest.approx({"u": 1 / 3, "v": 1 / 3, "w": 1 / 3})


@pytest.mark.parametrize("most", [6, 7, 50])
def test_the_search_keeps_to_its_budget_and_still_gives_a_front(most):
    hilly = Hilly()
    front = scan_weights(hilly, CASES, names=Hilly.names, steps=12, most=most)
    assert hilly.asked == len(front.evaluated) == most
    assert front.chosen in front.efficient and not front.exhaustive


def test_the_same_seed_gives_the_same_front():
    one, two = (scan_weights(Hilly(), CASES, names=Hilly.names, steps=12, most=800, seed=3) for _ in range(2))
    assert one == two


def masks_of_specialists():
    """A box; one candidate has all of it and a far speck, the other only its inside, one voxel less all round."""
    reference = np.zeros((14, 14, 14), bool)
    reference[3:10, 3:10, 3:10] = True
    full = reference * 1.0
    full[12:14, 12:14, 12:14] = 0.9
    inner = np.zeros(reference.shape)
    inner[4:9, 4:9, 4:9] = 1.0
    return reference, {"full": full, "inner": inner}


def test_on_masks_a_mixture_beats_both_specialists_in_both_aims():
    reference, candidates = masks_of_specialists()

    def evaluator(members, cases):
        mask = sum(w * candidates[name] for name, w in zip(members.names, members.weights, strict=True)) > 0.5
        found = surface_metrics(reference, mask, (1.0, 1.0, 1.0), tolerances_mm=(0.5,))
        dice = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
        volume = abs(int(mask.sum()) - int(reference.sum())) / 1000
        return CaseMetrics(cases, np.array([[dice, found.nsd[0.5], found.hd95, found.masd, volume]]))

    # The speck needs 0.9 w > 0.5 and the rim w > 0.5: between 0.5 and 0.556 the rim is in and the speck is out.
    front = scan_weights(evaluator, ("box",), names=["full", "inner"], steps=20)
    assert [(point.overlap, point.boundary) for point in front.efficient] == [(1, 1)]
    assert weights_of(front.chosen) == {"full": 0.55, "inner": 0.45}
    singles = {p.members.names[0]: p for p in front.evaluated if len(p.members.names) == 1}
    assert singles["full"].overlap == pytest.approx(2 * 343 / (2 * 343 + 8)) and singles["full"].boundary < 1
    assert singles["inner"].overlap == pytest.approx(2 * 125 / (125 + 343)) and singles["inner"].boundary == 0


@pytest.mark.parametrize("boundary", ["nsd", "hd95"])
def test_the_figure_marks_the_chosen_point_and_is_the_same_every_time(boundary):
    image = pytest.importorskip("matplotlib.image", reason="figures need matplotlib")
    front = scan_weights(analytic, CASES, names=["worse", "overlap", "boundary"], boundary=boundary)
    baseline = FrontPoint(Members.equal(["worse", "overlap"]), 0.82, 0.6 if boundary == "nsd" else 7.0)
    png = front_figure(front, baseline=baseline)
    assert png == front_figure(front, baseline=baseline) != front_figure(front)

    pixels = (image.imread(io.BytesIO(png))[..., :3] * 255).round()
    orange = np.abs(pixels - (0xC2, 0x57, 0x1A)).max(axis=-1) < 3
    star, legend = orange[: pixels.shape[0] * 4 // 5], orange[pixels.shape[0] * 4 // 5 :]
    assert star.sum() > 50 and legend.sum() > 50
    # Equal weights lie on the upper right half of the front in either metric: up is better.
    row, column = (np.argwhere(star).mean(axis=0) / pixels.shape[:2]).tolist()
    assert row < 0.5 and column > 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"names": []},
        {"names": ["overlap", "overlap"]},
        {"names": ["overlap"], "trade": 1.5},
        {"names": ["overlap"], "trade": math.nan},
        {"names": ["overlap"], "boundary": "dice"},
        {"names": ["overlap"], "steps": 0},
        {"names": ["overlap", "boundary"], "most": 1},
    ],
)
def test_what_cannot_be_searched_is_refused(options):
    with pytest.raises(ProstateXferError):
        scan_weights(analytic, CASES, **options)
