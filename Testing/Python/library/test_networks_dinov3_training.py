# SPDX-License-Identifier: Apache-2.0
"""The randomness of training around an unchanged DINOv3."""

import math

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3_training import TrainingNoise, noisy_features, noisy_intermediate
from ProstateXferLib.networks.rope import rope_tables

IMAGES = torch.randn(6, 3, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network(random_network):
    return random_network("dinov3")


def drawn(seed, network, noise, images=IMAGES):
    torch.manual_seed(seed)
    return noisy_features(network, images, noise=noise)["patches"].detach()


def test_without_noise_it_is_the_plain_forward_pass(network):
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(2)) < 0.5
    with torch.enable_grad():
        ours, plain = noisy_features(network, IMAGES, mask, noise=TrainingNoise()), network.features(IMAGES, mask)
        taps = noisy_intermediate(network, IMAGES, (1, 3), noise=TrainingNoise())
        plain_taps = network.intermediate(IMAGES, (1, 3))
    for name, tokens in plain.items():
        assert torch.equal(ours[name], tokens)
    assert all(map(torch.equal, taps, plain_taps))


def test_the_random_state_decides_alone(network):
    noise = TrainingNoise(drop_path=0.5, rope_shift=0.2, rope_jitter=1.5, rope_rescale=2.0)
    assert torch.equal(drawn(3, network, noise), drawn(3, network, noise))
    assert not torch.equal(drawn(3, network, noise), drawn(4, network, noise))


@pytest.mark.parametrize("moved", [{"rope_shift": 0.3}, {"rope_jitter": 1.5}, {"rope_rescale": 2.0}])
def test_positions_move_the_patches(network, moved):
    plain = drawn(0, network, TrainingNoise())
    assert (drawn(0, network, TrainingNoise(**moved)) - plain).abs().max() > 1e-4


def test_moved_coordinates_stay_within_their_ranges():
    coordinates = torch.tensor([[0.5, -0.25], [1.0, 1.0]])
    for seed in range(50):
        torch.manual_seed(seed)
        shifted = TrainingNoise(rope_shift=0.3).moved(coordinates) - coordinates
        assert torch.allclose(shifted[0], shifted[1], atol=1e-6) and shifted.abs().max() <= 0.3
        jittered = TrainingNoise(rope_jitter=1.5).moved(coordinates) / coordinates
        assert (jittered.log().abs() <= math.log(1.5) + 1e-6).all() and jittered[0, 0] != jittered[0, 1]
        rescaled = TrainingNoise(rope_rescale=2.0).moved(coordinates) / coordinates
        assert torch.allclose(rescaled, rescaled[:1, :1].expand(2, 2)) and 0.5 <= rescaled[0, 0] <= 2
        assert rescaled[0, 0] != 1


def test_every_block_draws_positions_of_its_own(network, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ProstateXferLib.networks.dinov3_training.rope_tables",
        lambda *args, **options: seen.append(rope_tables(*args, **options)) or seen[-1],
    )
    drawn(0, network, TrainingNoise(rope_rescale=2.0))
    assert len(seen) == network.depth
    assert not any(torch.equal(seen[0][0], other[0]) for other in seen[1:])


def test_a_dropped_branch_is_skipped_and_a_kept_one_counts_as_much_more(random_network):
    """One block, whose second branch adds nothing: a sample has either its plain class token or the branch doubled."""
    network = random_network("dinov3", depth=1)
    with torch.no_grad():
        network.blocks[0].ls2.gamma.zero_()
        start = network._embed(IMAGES, None)[0]
        branch = network.features(IMAGES)["prenorm"] - start
        torch.manual_seed(0)
        noisy = noisy_features(network, IMAGES, noise=TrainingNoise(drop_path=0.5))["prenorm"] - start
    skipped = [bool(change.abs().max() == 0) for change in noisy]
    assert sum(skipped) == 3  # max(int(6 x 0.5), 1) of the samples are kept
    for change, plain, gone in zip(noisy, branch, skipped, strict=True):
        torch.testing.assert_close(change, plain * (0 if gone else 2), rtol=1e-4, atol=1e-5)


def test_the_mean_over_many_draws_is_the_whole_branch(random_network):
    network = random_network("dinov3", depth=1)
    with torch.no_grad():
        network.blocks[0].ls2.gamma.zero_()
        start = network._embed(IMAGES, None)[0]
        branch = network.features(IMAGES)["prenorm"] - start
        total = torch.zeros_like(branch)
        torch.manual_seed(0)
        for _ in range(400):
            total += noisy_features(network, IMAGES, noise=TrainingNoise(drop_path=0.5))["prenorm"] - start
    # Kept with probability one half, doubled: the mean's standard error is 1 / sqrt(400) of the branch.
    assert (total / 400 - branch).norm() < 0.1 * branch.norm()


def test_a_single_sample_is_never_dropped(network):
    with torch.enable_grad():
        one = noisy_features(network, IMAGES[:1], noise=TrainingNoise(drop_path=0.9))["patches"]
        assert torch.equal(one, network.features(IMAGES[:1])["patches"])


def test_every_weight_gets_a_gradient(network):
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[:, 0] = True
    features = noisy_features(network, IMAGES, mask, noise=TrainingNoise(drop_path=0.3, rope_rescale=2.0))
    (features["patches"] ** 3).sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize(
    "wrong", [{"drop_path": 1.0}, {"drop_path": -0.1}, {"rope_shift": -1.0}, {"rope_jitter": 0.5}, {"rope_rescale": 0}]
)
def test_senseless_noise_is_refused(wrong):
    with pytest.raises(ProstateXferError, match="drop_path"):
        TrainingNoise(**wrong)
