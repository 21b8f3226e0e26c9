# SPDX-License-Identifier: Apache-2.0
"""Dice + cross-entropy and the weights of deep supervision are nnU-Net's."""

import json

import pytest
import torch

from ProstateXferLib.training.losses.deep_supervision import deep_supervision_weights
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions, dice_ce

FILE = "mr-dinov3/nnunet_losses.npz"


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize(
    ("case", "suffix", "weights"),
    [("dc_ce_2d", "", (1, 1)), ("dc_only_2d", "", (1, 0)), ("ce_only_2d", "", (0, 1)), ("dc_ce_3d", "3", (1, 1))],
)
def test_the_loss_is_nnunets(golden, case, suffix, weights, batch_dice):
    file = golden(FILE)
    values = json.loads(str(file["values"]))
    expected = values[case] if case == "ce_only_2d" else values[f"{case}_batchdice{batch_dice}"]
    options = DiceCEOptions(dice=weights[0], cross_entropy=weights[1], batch_dice=batch_dice)
    target = file.tensor(f"target{suffix}")[:, 0].long()
    assert float(dice_ce(file.tensor(f"logits{suffix}"), target, options)) == pytest.approx(expected, abs=2e-6)


def test_the_loss_of_an_empty_target_is_nnunets(golden):
    file = golden(FILE)
    expected = json.loads(str(file["values"]))["dc_ce_3d_empty_target_batchdiceFalse"]
    target = torch.zeros_like(file.tensor("target3")[:, 0]).long()
    found = dice_ce(file.tensor("logits3"), target, DiceCEOptions(batch_dice=False))
    assert float(found) == pytest.approx(expected, abs=2e-6)


def test_deep_supervision_is_weighted_as_in_nnunet(golden):
    weights = json.loads(str(golden(FILE)["deep_supervision_weights"]))
    assert len(weights) > 3
    for count, expected in weights.items():
        assert deep_supervision_weights(int(count)) == pytest.approx(expected, abs=1e-12)
