# SPDX-License-Identifier: Apache-2.0
"""Many processes give what one gives, a dead one costs its case alone, and a stop ends them."""

import os
import time

import pytest

from ProstateXferLib.errors import CancelledError
from ProstateXferLib.evaluation.workers import run_parallel


def doubled(item):
    return 2 * item


def dies_at_three(item):
    if item == 3:
        os._exit(1)
    return item


def slow(item):
    time.sleep(0.05)
    return item


def never():
    return False


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_comes_once_with_its_number(jobs):
    found = dict(run_parallel(range(7), doubled, jobs=jobs, lost=str, cancelled=never))
    assert found == {k: 2 * k for k in range(7)}


def test_an_item_whose_process_dies_is_lost_and_no_other():
    found = dict(run_parallel(range(6), dies_at_three, jobs=2, lost=lambda item: f"lost {item}", cancelled=never))
    assert found == {0: 0, 1: 1, 2: 2, 3: "lost 3", 4: 4, 5: 5}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stop_ends_the_work(jobs):
    seen = []
    with pytest.raises(CancelledError):
        for number, _ in run_parallel(range(500), slow, jobs=jobs, lost=str, cancelled=lambda: len(seen) > 2):
            seen.append(number)
    assert len(seen) < 20
