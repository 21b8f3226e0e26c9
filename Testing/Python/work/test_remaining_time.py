# SPDX-License-Identifier: Apache-2.0
"""The estimate of the time left, on a clock that the test turns."""

import pytest

from ProstateXferSlicer.work.remaining_time import RemainingTime


class Run:
    """A run that reports to an estimate; `go` lets a step advance at an even speed."""

    def __init__(self):
        self.now = self.fraction = 0.0
        self.remaining = RemainingTime(lambda: self.now)

    def go(self, step, upTo, seconds, reports=10):
        start, began = self.fraction, self.now
        for k in range(reports + 1):
            self.now, self.fraction = began + seconds * k / reports, start + (upTo - start) * k / reports
            self.remaining.update(step, self.fraction)
        return self


def test_at_first_it_knows_nothing():
    run = Run()
    assert (run.remaining.secondsLeft(), run.remaining.text()) == (None, "")
    run.go("segment", 0.01, 1)
    assert (run.remaining.secondsLeft(), run.remaining.text()) == (None, "")


def test_an_even_run_is_estimated_exactly():
    assert Run().go("segment", 0.25, 20).remaining.secondsLeft() == pytest.approx(60)


def test_the_estimate_counts_down_between_reports():
    run = Run().go("segment", 0.5, 20)
    run.now += 5
    assert run.remaining.secondsLeft() == pytest.approx(15)


def test_a_slow_first_step_does_not_spoil_the_estimate():
    run = Run().go("load", 0.05, 30)
    assert run.remaining.secondsLeft() is None, "of the first step too little has been seen"
    run.go("segment", 0.35, 6)
    assert run.remaining.secondsLeft() == pytest.approx(13)


def test_a_new_step_keeps_the_former_estimate_until_it_has_its_own():
    run = Run().go("segment", 0.4, 20)
    before = run.remaining.secondsLeft()
    run.go("synthesize", 0.41, 1)
    assert run.remaining.secondsLeft() == pytest.approx(before - 1)
    run.go("synthesize", 0.5, 9)
    assert run.remaining.secondsLeft() == pytest.approx(50)


def test_many_short_steps_are_taken_together_but_for_the_first():
    run = Run().go("load", 0.05, 30)
    for k in range(1, 9):
        run.go(f"case {k}", 0.05 + 0.05 * k, 2)
    assert run.remaining.secondsLeft() == pytest.approx(0.55 / 0.05 * 2)


def test_a_step_that_warms_up_is_judged_by_how_it_goes_now():
    run = Run().go("segment", 0.1, 15)
    run.go("segment", 0.5, 10)
    run.go("segment", 0.8, 7.5)
    assert run.remaining.secondsLeft() == pytest.approx(5, rel=0.5)


def test_a_fraction_that_begins_anew_begins_a_new_estimate():
    run = Run().go("segment", 0.9, 20)
    run.fraction = 0.0
    run.remaining.update("synthesize", 0.0)
    assert run.remaining.secondsLeft() is None
    assert run.go("synthesize", 0.5, 50).remaining.secondsLeft() == pytest.approx(50)


def test_an_estimate_that_has_proved_wrong_is_withdrawn():
    run = Run().go("segment", 0.9, 90)
    run.now += 15
    assert run.remaining.secondsLeft() == 0
    run.now += 10
    assert (run.remaining.secondsLeft(), run.remaining.text()) == (None, "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4, "a few seconds left"),
        (11, "about 10 s left"),
        (44, "about 40 s left"),
        (125, "about 2 min left"),
        (3300, "about 55 min left"),
        (3600, "about 1 h left"),
        (5000, "about 1 h 20 min left"),
    ],
)
def test_the_estimate_is_told_in_round_words(seconds, text):
    assert Run().go("segment", 0.5, seconds).remaining.text() == text


def test_thousands_of_reports_cost_neither_memory_nor_time():
    run = Run().go("train", 0.5, 36_000, reports=20_000)
    assert run.remaining.secondsLeft() == pytest.approx(36_000, rel=0.01)
    assert len(run.remaining._points) <= 500
