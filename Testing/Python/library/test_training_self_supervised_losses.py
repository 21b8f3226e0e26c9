# SPDX-License-Identifier: Apache-2.0
"""Self-supervised losses beyond the reference values (parity/test_ssl_parity.py): edges, and several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ProstateXferLib.training.losses.self_supervised.dino import dino_loss
from ProstateXferLib.training.losses.self_supervised.gram import gram_loss, resize_tokens
from ProstateXferLib.training.losses.self_supervised.ibot import ibot_loss, patch_weights
from ProstateXferLib.training.losses.self_supervised.koleo import koleo_loss
from ProstateXferLib.training.losses.self_supervised.sinkhorn import sinkhorn

ROOT = Path(__file__).resolve().parents[3]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_balanced_targets_are_distributions_that_use_all_prototypes_alike():
    targets = sinkhorn(noise(64, 8), 0.5, iterations=50)
    torch.testing.assert_close(targets.sum(1), torch.ones(64))
    torch.testing.assert_close(targets.sum(0), torch.full((8,), 8.0), rtol=1e-3, atol=0)


def test_large_logits_neither_overflow_nor_divide_by_zero():
    """exp(20 / 0.04) is far beyond float32."""
    targets = sinkhorn(noise(16, 8) * 20, 0.04)
    assert torch.isfinite(targets).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(16))


def test_a_constant_added_to_all_logits_changes_nothing():
    logits = noise(10, 6)
    torch.testing.assert_close(sinkhorn(logits + 3, 0.1), sinkhorn(logits, 0.1), rtol=1e-4, atol=1e-6)


def test_no_hidden_patch_gives_no_target_and_a_loss_of_zero():
    targets = sinkhorn(noise(0, 6), 0.07)
    assert targets.shape == (0, 6)
    student = noise(0, 6).requires_grad_()
    masks = torch.zeros(4, 9, dtype=torch.bool)
    weights = patch_weights(masks, masks.flatten().nonzero()[:, 0])
    loss = ibot_loss(student, targets, weights, images=4)
    loss.backward()
    assert loss == 0 and student.grad is not None


def test_dino_loss_is_the_mean_cross_entropy_over_pairs_of_different_views():
    student, targets = noise(2, 3, 5), torch.softmax(noise(2, 3, 5, seed=1), dim=-1)
    by_hand = [F.cross_entropy(student[s, b] / 0.1, targets[t, b]) for b in range(3) for s, t in ((0, 1), (1, 0))]
    torch.testing.assert_close(dino_loss(student, targets, other_views_only=True), torch.stack(by_hand).mean())


def test_every_masked_image_counts_the_same():
    """One image hides one patch, the other four; each patch has cross entropy log 2."""
    masks = torch.tensor([[True, False, False, False], [True] * 4, [False] * 4])
    weights = patch_weights(masks, masks.flatten().nonzero()[:, 0])
    assert weights.tolist() == [1.0, 0.25, 0.25, 0.25, 0.25]
    loss = ibot_loss(torch.zeros(5, 2), torch.full((5, 2), 0.5), weights, images=3)
    assert float(loss) == pytest.approx(2 * 0.693147 / 3, abs=1e-5)


def test_koleo_pushes_near_tokens_apart():
    tokens = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]]), dim=1).requires_grad_()
    koleo_loss(tokens).backward()
    moved = F.normalize(tokens - 0.01 * tokens.grad, dim=1)
    assert (moved[0] - moved[1]).norm() > (tokens[0] - tokens[1]).norm()


def test_koleo_of_a_single_image_is_zero_and_of_equal_tokens_finite():
    assert koleo_loss(noise(1, 4)) == 0
    assert torch.isfinite(koleo_loss(torch.ones(3, 4)))


def test_gram_loss_is_blind_to_a_rotation_of_all_tokens_and_sees_their_order():
    tokens = noise(2, 9, 8)
    turned = tokens @ torch.linalg.qr(noise(8, 8, seed=1)).Q
    assert gram_loss(turned, tokens) < 1e-10
    assert gram_loss(tokens.flip(1), tokens) > 1e-2


def test_tokens_on_their_own_grid_are_left_alone():
    tokens = noise(2, 12, 8)
    assert resize_tokens(tokens, (3, 4), (3, 4)) is tokens


def test_resized_tokens_keep_rows_and_columns_apart():
    row = torch.arange(4.0).view(4, 1).expand(4, 6).reshape(1, 24, 1)
    resized = resize_tokens(row, (4, 6), (2, 3)).view(2, 3)
    assert torch.equal(resized[:, 0], resized[:, 2]) and resized[1, 0] > resized[0, 0] + 1


TWO = """
import os, sys, torch, torch.distributed as dist
from ProstateXferLib.training.losses.self_supervised.koleo import koleo_loss
from ProstateXferLib.training.losses.self_supervised.processes import alone
from ProstateXferLib.training.losses.self_supervised.sinkhorn import sinkhorn
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
g = torch.Generator().manual_seed(0)
logits, tokens = torch.randn(7, 5, generator=g), torch.randn(6, 4, generator=g)
mine = logits[:5] if rank == 0 else logits[5:]       # another number of rows in each process
none = logits if rank == 0 else logits[:0]
half = tokens[3 * rank : 3 * rank + 3].clone().requires_grad_()
loss = koleo_loss(half)
loss.backward()
with alone():
    lonely = sinkhorn(mine, 0.1)
torch.save({"targets": sinkhorn(mine, 0.1), "none": sinkhorn(none, 0.1), "loss": loss.detach(), "grad": half.grad,
            "lonely": lonely}, f"{folder}/{rank}.pt")
dist.barrier()
os._exit(0)  # gloo's threads, joined at a usual exit, now and then abort it after all is done
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found together."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", TWO, str(rank), str(folder)], env=environment) for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def together():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=generator), torch.randn(6, 4, generator=generator)


def test_two_processes_balance_their_targets_together(two):
    expected = sinkhorn(together()[0], 0.1)
    torch.testing.assert_close(torch.cat([part["targets"] for part in two]), expected)
    torch.testing.assert_close(two[0]["none"], expected)  # the other one had no hidden patch at all
    assert len(two[1]["none"]) == 0


def test_the_mean_of_two_processes_koleo_losses_and_gradients_is_that_of_one(two):
    tokens = together()[1].requires_grad_()
    loss = koleo_loss(tokens)
    loss.backward()
    torch.testing.assert_close((two[0]["loss"] + two[1]["loss"]) / 2, loss.detach())
    # DDP averages gradients over the processes.
    torch.testing.assert_close(torch.cat([part["grad"] for part in two]) / 2, tokens.grad)


def test_a_process_can_work_alone_among_others(two):
    torch.testing.assert_close(two[0]["lonely"], sinkhorn(together()[0][:5], 0.1))
