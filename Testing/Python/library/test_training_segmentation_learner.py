# SPDX-License-Identifier: Apache-2.0
"""Heads learn from the samples in which their structures were looked for, frozen encoders learn nothing."""

import pytest
import torch
from torch import nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions, dice_ce
from ProstateXferLib.training.losses.token_subset import TokenShares
from ProstateXferLib.training.tasks.segmentation_heads import head_target, structures_named
from ProstateXferLib.training.tasks.segmentation_learner import DenseLearner, TokenLearner

GLAND_AND_DIL = (PROSTATE, DIL)
GLAND = head_target("gland", ["Prostate"], GLAND_AND_DIL)
LESION = head_target("dil", ["DIL"], GLAND_AND_DIL)
EVERY = TokenShares()
BOTH_KNOWN = torch.ones(2, 2, dtype=torch.bool)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(labels, known=BOTH_KNOWN, seed=0):
    image = torch.randn(len(labels), 1, *labels.shape[1:], generator=seeded(seed))
    draw = torch.rand(len(labels), labels.shape[1] * labels.shape[2] // 256, generator=seeded(seed + 1))
    return {"image": image, "labels": labels, "known": known, "draw": draw}


def lesion_in_gland(size=64):
    """A gland of 20 x 20 pixels with a lesion of 6 x 6 in it, in the first of two slices."""
    labels = torch.zeros(2, size, size, dtype=torch.int64)
    labels[0, 22:42, 22:42] = 1
    labels[0, 26:32, 26:32] = 2
    return labels


@pytest.fixture
def network(random_network):
    return random_network("mr_dinov3", heads_of={"gland": 2, "dil": 2}, seed=3)


def learner_of(network, *, shares=EVERY, within=("dil",)):
    return TokenLearner(network, [GLAND, LESION], dict.fromkeys(within, GLAND), loss=DiceCEOptions(), shares=shares)


def test_a_part_counts_as_its_whole_unless_the_head_tells_them_apart():
    labels, known = torch.tensor([[[0, 1, 2, -1]]]), torch.ones(1, 2, dtype=torch.bool)
    assert GLAND.of(labels, known).tolist() == [[[0, 1, 1, -1]]]
    assert LESION.of(labels, known).tolist() == [[[0, 0, 1, -1]]]
    both = head_target("both", ["Prostate", "DIL"], GLAND_AND_DIL)
    assert (both.classes, both.of(labels, known).tolist()) == (3, [[[0, 1, 2, -1]]])
    zones = (PROSTATE, DIL, PERIPHERAL_ZONE, TRANSITION_ZONE)
    known = torch.ones(1, 4, dtype=torch.bool)
    whole = head_target("gland", ["Prostate"], zones)
    assert whole.of(torch.tensor([[[1, 2, 3, 4, 5]]]), known).tolist() == [[[1, 1, 1, 1, 0]]]
    parts = head_target("zones", ["Transition zone", "Peripheral zone"], zones)
    assert parts.of(torch.tensor([[[1, 2, 3, 4]]]), known).tolist() == [[[0, 0, 2, 1]]]


def test_a_sample_teaches_a_head_only_where_its_structures_were_looked_for():
    labels = torch.ones(3, 2, 2, dtype=torch.int64)
    known = torch.tensor([[True, True], [True, False], [False, True]])
    assert GLAND.of(labels, known)[:, 0, 0].tolist() == [1, 1, -1]
    assert LESION.of(labels, known)[:, 0, 0].tolist() == [0, -1, 0]
    assert head_target("both", ["Prostate", "DIL"], GLAND_AND_DIL).of(labels, known)[:, 0, 0].tolist() == [1, -1, -1]


def test_structures_that_the_library_does_not_know_get_values_of_their_own():
    found = structures_named(["Pancreas", "Prostate", "Pancreatic tumour"])
    assert [structure.name for structure in found] == ["Pancreas", "Prostate", "Pancreatic tumour"]
    assert len({structure.value for structure in found}) == 3
    assert found[1] == PROSTATE
    with pytest.raises(ProstateXferError, match="same one"):
        structures_named(["Prostate", "gland"])


def test_with_every_token_decoded_the_loss_is_that_of_whole_images(network):
    batch = batch_of(lesion_in_gland())
    with torch.no_grad():
        found, parts = learner_of(network, within=())(batch, 0)
        full = network(batch["image"])
    gland = dice_ce(full["gland"], (batch["labels"] > 0).long(), DiceCEOptions())
    lesion = dice_ce(full["dil"], (batch["labels"] == 2).long(), DiceCEOptions())
    assert float(parts["loss_gland"]) == pytest.approx(float(gland), abs=1e-5)
    assert float(parts["loss_dil"]) == pytest.approx(float(lesion), abs=1e-5)
    assert float(found) == pytest.approx(float(gland + lesion), abs=1e-5)


def test_a_head_within_a_structure_decodes_the_tokens_near_it_and_the_others_their_share(network, monkeypatch):
    counts = {"gland": 0, "dil": 0}
    for name, head in network.heads.items():
        monkeypatch.setattr(
            head,
            "decode_tokens",
            lambda tokens, n=name, h=head: counts.update({n: len(tokens)}) or type(h).decode_tokens(h, tokens),
        )
    labels = torch.zeros(2, 160, 160, dtype=torch.int64)
    labels[0, 70:74, 70:74] = 1
    batch = batch_of(labels)
    with torch.no_grad():
        learner_of(network, shares=TokenShares(far=0.3, empty=0.6))(batch, 0)
    near = 9
    far = int((batch["draw"][0] < 0.3).sum())
    assert counts["dil"] == near
    assert far <= counts["gland"] - int((batch["draw"][1] < 0.6).sum()) <= far + near
    with torch.no_grad():
        learner_of(network)(batch_of(labels, torch.tensor([[False, True], [True, True]])), 0)
    assert counts == {"gland": 100, "dil": 100}  # no gland was drawn in the first slice: near it may be everywhere


def test_a_gland_only_sample_does_not_teach_the_lesion_head(network):
    network.train()
    learner_of(network)(batch_of(lesion_in_gland(), torch.tensor([[True, False]] * 2)), 0)[0].backward()
    lesion, gland = (network.heads[name].decode[4].weight.grad for name in ("dil", "gland"))
    assert lesion is not None  # zeros, not None: all processes of a DDP run must have the same gradients
    assert not lesion.any()
    assert gland.abs().sum() > 0


def test_a_frozen_encoder_gets_no_gradient_and_stays_in_evaluation_mode(network):
    network.train()
    network.dino_encoder.requires_grad_(False)
    loss, _ = learner_of(network)(batch_of(lesion_in_gland()), 0)
    loss.backward()
    assert not network.dino_encoder.training
    assert all(parameter.grad is None for parameter in network.dino_encoder.parameters())
    assert network.heads["gland"].decode[0][0].weight.grad.abs().sum() > 0


def test_a_trained_encoder_gets_a_gradient(network):
    network.train()
    learner_of(network)(batch_of(lesion_in_gland()), 0)[0].backward()
    assert network.dino_encoder.patch_embed.proj.weight.grad.abs().sum() > 0


def test_cached_tokens_give_the_same_loss_as_the_images_they_come_from(network):
    batch = batch_of(lesion_in_gland())
    learner = learner_of(network)
    with torch.no_grad():
        tokens = network.encode(batch["image"])
        from_image = learner(batch, 0)[0]
        from_tokens = learner({"tokens": tokens, "labels": batch["labels"], "known": batch["known"]}, 0)[0]
    assert float(from_tokens) == pytest.approx(float(from_image), abs=1e-6)


def test_a_token_head_refuses_dice_per_sample(network):
    with pytest.raises(ProstateXferError, match="batch_dice: true"):
        TokenLearner(network, [GLAND], {}, loss=DiceCEOptions(batch_dice=False), shares=EVERY)


class TwoScales(nn.Module):
    """Logits of four channels at full and at half resolution in training, as decoders give them."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1)

    def forward(self, image):
        fine = self.fine(image)
        return [fine, self.coarse(image[..., ::2, ::2])] if self.training else fine


def test_a_dense_networks_heads_read_their_own_channels():
    torch.manual_seed(0)
    network, batch = TwoScales().eval(), batch_of(lesion_in_gland())
    loss, parts = DenseLearner(network, [GLAND, LESION], loss=DiceCEOptions())(batch, 0)
    logits = network(batch["image"])
    gland = dice_ce(logits[:, :2], (batch["labels"] > 0).long(), DiceCEOptions())
    lesion = dice_ce(logits[:, 2:], (batch["labels"] == 2).long(), DiceCEOptions())
    assert float(parts["loss_gland"]) == pytest.approx(float(gland), abs=1e-6)
    assert float(parts["loss_dil"]) == pytest.approx(float(lesion), abs=1e-6)
    assert float(loss) == pytest.approx(float(gland + lesion), abs=1e-6)


def test_a_dense_network_is_deeply_supervised_in_training():
    network = TwoScales().train()
    DenseLearner(network, [GLAND, LESION], loss=DiceCEOptions())(batch_of(lesion_in_gland()), 0)[0].backward()
    assert network.fine.weight.grad.abs().sum() > 0
    assert not network.coarse.weight.grad.any()  # the coarsest of two has weight 0
