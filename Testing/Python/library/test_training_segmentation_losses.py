# SPDX-License-Identifier: Apache-2.0
"""What segmentation stages minimise: Dice + cross-entropy that counts what is known, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.losses.deep_supervision import deep_supervision_weights, deeply_supervised
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions, dice_ce
from ProstateXferLib.training.losses.token_subset import TokenShares, label_patches, learned_tokens, tokens_around


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(*, classes=3, shape=(4, 12, 10), seed=0):
    """Random logits and target."""
    g = seeded(seed)
    logits = torch.randn(shape[0], classes, *shape[1:], generator=g)
    return logits, torch.randint(classes, shape, generator=g)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_the_loss_is_the_cross_entropy_minus_the_dice_written_out(batch_dice):
    logits, target = scene(shape=(2, 5, 6, 7))
    probability = torch.softmax(logits, 1)
    groups = [range(2)] if batch_dice else [[0], [1]]
    dices = []
    for group in groups:
        for k in (1, 2):
            p, g = probability[list(group), k], (target[list(group)] == k).float()
            dices.append((2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5))
    expected = F.cross_entropy(logits, target) - sum(dices) / len(dices)
    assert float(dice_ce(logits, target, DiceCEOptions(batch_dice=batch_dice))) == pytest.approx(
        float(expected), abs=1e-6
    )


@pytest.mark.parametrize("batch_dice", [True, False])
def test_ignored_pixels_and_samples_count_as_if_they_were_not_there(batch_dice):
    options = DiceCEOptions(batch_dice=batch_dice)
    logits, target = scene()
    target[:, :, 6:] = -1
    target[3] = -1
    expected = dice_ce(logits[:3, :, :, :6], target[:3, :, :6], options)
    assert float(dice_ce(logits, target, options)) == pytest.approx(float(expected), abs=1e-6)


def test_ignored_pixels_get_no_gradient():
    logits, target = scene()
    target[1] = -1
    logits.requires_grad_()
    dice_ce(logits, target, DiceCEOptions()).backward()
    assert not logits.grad[1].any()
    assert logits.grad[0].abs().sum() > 0


@pytest.mark.parametrize("batch_dice", [True, False])
def test_a_batch_that_teaches_nothing_has_no_loss_and_no_gradient(batch_dice):
    logits, target = scene()
    logits.requires_grad_()
    loss = dice_ce(logits, torch.full_like(target, -1), DiceCEOptions(batch_dice=batch_dice))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_a_perfect_prediction_has_the_lowest_loss():
    _, target = scene()
    logits = 60 * F.one_hot(target, 3).movedim(-1, 1).float()
    assert float(dice_ce(logits, target, DiceCEOptions())) == pytest.approx(-1, abs=1e-4)


def test_half_precision_logits_are_summed_in_single_precision():
    logits, target = scene(shape=(2, 300, 300))
    exact = dice_ce(logits.half().float(), target, DiceCEOptions())
    found = dice_ce(logits.half(), target, DiceCEOptions())
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(exact), abs=1e-6)


@pytest.mark.parametrize("options", [{"dice": -1.0}, {"dice": 0.0, "cross_entropy": 0.0}, {"smooth": 0.0}])
def test_a_loss_that_makes_no_sense_is_refused(options):
    with pytest.raises(ProstateXferError, match="loss"):
        DiceCEOptions(**options)


def test_every_output_of_a_decoder_is_compared_with_the_labels_at_its_size():
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[:, :4] = 1
    sizes = []

    def loss(logits, truth):
        sizes.append(tuple(truth.shape[1:]))
        assert truth[:, : truth.shape[1] // 2].all()
        assert not truth[:, truth.shape[1] // 2 :].any()
        return logits.mean()

    outputs = [torch.full((1, 2, side, side), value) for side, value in ((8, 1.0), (4, 10.0), (2, 100.0))]
    assert float(deeply_supervised(loss, outputs, target)) == pytest.approx(2 / 3 + 10 / 3)
    assert sizes == [(8, 8), (4, 4)]  # the coarsest has weight 0
    assert float(deeply_supervised(loss, outputs[:1], target)) == 1.0
    assert deep_supervision_weights(1) == (1.0,)


def test_an_output_of_weight_zero_has_a_gradient_of_zeros_for_ddp():
    outputs = [torch.ones(1, 2, 4, 4, requires_grad=True), torch.ones(1, 2, 2, 2, requires_grad=True)]
    deeply_supervised(lambda logits, _: logits.sum(), outputs, torch.zeros(1, 4, 4, dtype=torch.int64)).backward()
    assert outputs[0].grad.all()
    assert outputs[1].grad is not None
    assert not outputs[1].grad.any()


def test_tokens_in_and_next_to_a_structure_are_learned_from_and_a_share_of_the_others():
    mask = torch.zeros(2, 160, 160, dtype=torch.bool)
    mask[0, 70:74, 70:74] = True  # in token (4, 4); 16 pixels around it reach the 8 neighbours
    near = tokens_around(mask).view(2, 10, 10)
    assert near[0, 3:6, 3:6].all()
    assert int(near.sum()) == 9
    draw = torch.rand(2, 100, generator=seeded())
    learned = learned_tokens(mask, TokenShares(far=0.3, empty=0.6), draw)
    far = ~near[0].flatten()
    assert torch.equal(learned[0, far], draw[0, far] < 0.3)
    assert torch.equal(learned[1], draw[1] < 0.6)
    assert learned[0, ~far].all()


def test_patches_of_labels_are_in_token_order():
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(32), indexing="ij")
    patches = label_patches((rows * 100 + columns)[None])
    assert patches.shape == (1, 6, 16, 16)
    assert patches[0, 3, 2, 5] == (16 + 2) * 100 + 16 + 5  # token 3 is row 1, column 1
    assert label_patches(torch.full((1, 16, 16), -1)).unique().tolist() == [-1]


ROOT = Path(__file__).resolve().parents[3]
ONE_OF_TWO = """
import os, sys, torch
from torch import distributed
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions, dice_ce
folder, rank, batch_dice = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
scene = torch.load(f"{folder}/scene.pt", weights_only=True)
share = slice(0, 1) if rank == 0 else slice(1, 4)
logits, target = scene["logits"][share].requires_grad_(), scene["target"][share]
loss = dice_ce(logits, target, DiceCEOptions(batch_dice=batch_dice))
loss.backward()
torch.save({"loss": loss.detach(), "gradient": logits.grad / 2}, f"{folder}/{rank}.pt")  # DDP averages gradients
distributed.barrier()
os._exit(0)  # gloo's threads, joined at a usual exit, now and then abort it after all is done
"""


@pytest.mark.slow
@pytest.mark.parametrize("batch_dice", [True, False])
def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path, batch_dice):
    logits, target = scene()
    target[0, :3] = -1  # the processes' shares count different numbers of pixels
    torch.save({"logits": logits, "target": target}, tmp_path / "scene.pt")
    words = [sys.executable, "-c", ONE_OF_TWO, str(tmp_path)]
    pair = [subprocess.Popen([*words, str(rank), str(batch_dice)], cwd=ROOT) for rank in (0, 1)]
    assert [process.wait(120) for process in pair] == [0, 0]
    logits.requires_grad_()
    loss = dice_ce(logits, target, DiceCEOptions(batch_dice=batch_dice))
    loss.backward()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for part in parts:
        assert float(part["loss"]) == pytest.approx(float(loss.detach()), abs=1e-6)
    gradient = torch.cat([part["gradient"] for part in parts])
    assert torch.allclose(gradient, logits.grad, atol=1e-8)
