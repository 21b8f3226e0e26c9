# SPDX-License-Identifier: Apache-2.0
"""What validation of a self-supervised stage measures, on tokens whose truth is known."""

import math

import pytest
import torch
from torch.nn import functional as F

from ProstateXferLib.training.tasks.self_supervision_probe import (
    ProbedCase,
    effective_rank,
    neighbour_scores,
    patches_inside,
    slice_tokens,
    spread,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_tokens_that_point_everywhere_are_spread_and_equal_ones_are_not():
    assert spread(noise(2000, 32)) == pytest.approx(1, abs=0.02)
    assert spread(torch.ones(50, 32)) == 0


def test_the_effective_rank_counts_directions():
    flat = noise(500, 3) @ torch.linalg.qr(noise(16, 16, seed=1)).Q[:3]
    assert effective_rank(flat + 5) == pytest.approx(3, abs=0.05)  # a common offset is no direction
    assert effective_rank(torch.ones(9, 4)) == 0
    two = torch.cat([torch.diag(torch.tensor([3.0, 1.0])), torch.diag(torch.tensor([-3.0, -1.0]))])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(two) == pytest.approx(math.exp(entropy), rel=1e-6)


def cases(separation, patients=("a", "b", "c")):
    """60 patches a case, every third inside; tokens inside are moved along one axis."""
    found = []
    for number, patient in enumerate(patients):
        inside = torch.arange(60) % 3 == 0
        tokens = F.normalize(noise(60, 16, seed=number), dim=1)
        tokens[:, 0] += separation * inside.float()
        found.append(ProbedCase(patient, tokens, inside))
    return found


def test_neighbours_find_what_the_tokens_tell_apart():
    told = neighbour_scores(cases(separation=100.0), 5)
    assert told == {"probe_dice": 1.0, "probe_auc": 1.0}
    blind = neighbour_scores(cases(separation=0.0, patients="abcdefgh"), 5)
    assert blind["probe_dice"] < 0.4 and blind["probe_auc"] == pytest.approx(0.5, abs=0.08)


def test_neighbours_of_the_same_patient_do_not_count():
    """Two scans of one patient are equal to the bit; only that patient's own patches would tell."""
    one, other = cases(0.0)[0], cases(0.0, patients=("z", "y"))[1]
    assert neighbour_scores([one, one], 1) == {}
    alone = neighbour_scores([one, one, other], 1)
    assert alone["probe_dice"] < 0.9


def test_the_auc_counts_ties_as_half():
    """All votes are equal where the neighbours are outside without exception."""
    empty = ProbedCase("b", noise(20, 4, seed=5), torch.zeros(20, dtype=torch.bool))
    mixed = ProbedCase("a", noise(20, 4, seed=6), torch.arange(20) < 10)
    assert neighbour_scores([mixed, empty], 3) == {"probe_dice": 0.0, "probe_auc": 0.5}


def test_a_patch_is_inside_when_more_than_half_of_it_is():
    mask = torch.zeros(32, 40, dtype=torch.bool)
    mask[:16, :16] = True
    mask[16:25, 16:32] = True  # 9 of 16 rows
    mask[16:24, :16] = True  # 8 of 16 rows: not more than half
    assert patches_inside(mask).view(2, 3).tolist() == [[True, False, False], [False, True, False]]


def test_tokens_of_a_slice_are_those_of_its_padded_image(random_network):
    network = random_network("dinov3")
    pixels = noise(30, 40)
    with torch.no_grad():
        padded = F.pad(pixels, (0, 8, 0, 2))[None, None].expand(1, 3, -1, -1)
        expected = network.features(padded)
    token, patches = slice_tokens(network, pixels)
    assert torch.equal(token, expected["class"][0]) and torch.equal(patches, expected["patches"][0])
    assert len(patches) == len(patches_inside(pixels > 0)) == 6
