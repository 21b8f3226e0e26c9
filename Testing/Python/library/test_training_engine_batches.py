# SPDX-License-Identifier: Apache-2.0
"""A batch in parts, over processes, from workers: the same training as at once."""

from itertools import chain

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
from ProstateXferLib.training.engine.batches import Share
from toy_training.engine import same, stage_of, toy, training_in


@pytest.fixture
def train(tmp_path):
    """train(task=None, folder="run", watcher=None, seed=1, **changes) -> what came of it."""
    return training_in(tmp_path)


def test_a_batch_worked_off_in_parts_gives_what_it_gives_at_once(train):
    whole, parts = train(folder="a"), train(folder="b", accumulate=4)
    for name, value in whole.final.items():
        assert torch.allclose(parts.final[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("parts", "processes"), [(1, 1), (2, 1), (1, 4), (3, 2)])
def test_parts_and_processes_share_a_batch_in_order(parts, processes):
    shares = [Share(12, parts, process, processes) for process in range(processes)]
    numbers = [list(piece) for share in shares for piece in share.numbers(5)]
    assert list(chain.from_iterable(numbers)) == list(range(60, 72))
    assert {len(piece) for piece in numbers} == {12 // (parts * processes)}


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(ProstateXferError, match="A batch of 12 cannot be worked off in 1 equal parts by each of 5"):
        Share(12, 1, 0, 5)


def test_worker_processes_change_nothing_but_the_speed(train):
    assert same(train(folder="a", epochs=1).final, train(folder="b", epochs=1, workers=2).final)


class Broken:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        raise ProstateXferError(f"Case {index // 8} is broken.")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_made_ends_the_training_with_its_own_sentence(train, workers):
    task = toy(stage_of())
    task.samples = Broken()
    with pytest.raises(ProstateXferError, match=r"\ACase 0 is broken\.\Z"):
        train(task, workers=workers)
