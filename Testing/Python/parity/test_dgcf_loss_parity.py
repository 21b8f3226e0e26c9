# SPDX-License-Identifier: Apache-2.0
"""DGCF's perceptual loss and selection metric against the released code, on given features and end to end."""

import json
from pathlib import Path

import pytest
import torch

from ProstateXferLib.metrics.sct import slice_ssim
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.training.engine.parameter_groups import assign_parameters, make_optimiser
from ProstateXferLib.training.losses.perceptual.criteria import CRITERIA, REFERENCE_CRITERIA, cosine, reference_cosine
from ProstateXferLib.training.losses.perceptual.loss import PerceptualLoss
from ProstateXferLib.training.losses.perceptual.options import PerceptualOptions
from ProstateXferLib.training.recipe.reading import read_recipe
from ProstateXferLib.training.tasks.synthesis_learner import SynthesisLearner

VALUES = json.loads(
    (Path(__file__).resolve().parents[2] / "Data" / "golden" / "dgcf" / "losses.json").read_text(encoding="utf-8")
)
BLOCKS = (2, 5, 8, 11)
RTOL = 1e-4
ON_FEATURES = sorted(name for name in VALUES["features"] if name.endswith("|single") and "FFFF" not in name)
ON_IMAGES = sorted(name for name in VALUES["images"] if not name.startswith(("TRAINMODE", "EVALMODE")))


@pytest.fixture
def losses(golden):
    return golden("dgcf/losses.npz")


@pytest.fixture
def images(golden, losses):
    return golden("dgcf/dinov3_tiny_and_mldp.npz").tensor("in_a"), losses.tensor("in_b")


@pytest.fixture
def encoder(golden):
    weights = golden("dgcf/dinov3_tiny_and_mldp.npz").weights("w::")
    return DINOv3.from_state_dict(weights).requires_grad_(False).eval()


class Stored:
    """Stands for the encoder and hands out the reference run's features: of the synthetic slices first."""

    def __init__(self, losses):
        self.answers = [losses.tensor("feat_input"), losses.tensor("feat_target")]

    def to(self, device):
        return self

    def intermediate(self, image, blocks):
        levels = self.answers.pop(0)
        return [levels[BLOCKS.index(block)] for block in blocks]


def options_of(name, **more):
    criterion, levels, scales = name.split("|")
    quirks = ("token_order",) if criterion in REFERENCE_CRITERIA else ()
    used = tuple(letter == "T" for letter in levels)
    return PerceptualOptions(
        criterion=criterion,
        levels=used,
        multi_resolution=scales == "multires",
        **{"reference_quirks": quirks, **more},
    )


@pytest.mark.parametrize("name", ON_FEATURES)
def test_every_criterion_on_given_features(losses, name):
    loss = PerceptualLoss(Stored(losses), BLOCKS, options_of(name))
    nothing = torch.zeros(2, 1, 64, 64)
    assert float(loss(nothing, nothing)) == pytest.approx(VALUES["features"][name], rel=RTOL)


def test_all_six_criteria_are_compared():
    assert {name.split("|")[0] for name in ON_FEATURES} == set(CRITERIA)


def test_the_cosine_of_every_token_is_not_the_references(losses):
    pairs = list(zip(losses.tensor("feat_input"), losses.tensor("feat_target"), strict=True))
    expected = VALUES["features"]["NOT_REFERENCE_true_per_token_cosine|TTTT"]
    assert float(sum(cosine(*pair) for pair in pairs)) / 4 == pytest.approx(expected, rel=RTOL)
    assert float(sum(reference_cosine(*pair) for pair in pairs)) / 4 != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("criterion", REFERENCE_CRITERIA)
def test_what_the_reference_means_by_a_name_and_what_it_does_differ(losses, criterion):
    name, nothing = f"{criterion}|TTTT|single", torch.zeros(2, 1, 64, 64)
    meant = PerceptualLoss(Stored(losses), BLOCKS, options_of(name, reference_quirks=()))
    assert float(meant(nothing, nothing)) != pytest.approx(VALUES["features"][name], rel=1e-2)


@pytest.mark.parametrize("name", ON_IMAGES)
def test_on_images_through_the_encoder_at_one_scale_and_at_three(encoder, images, name):
    loss = PerceptualLoss(encoder, BLOCKS, options_of(name))
    assert float(loss(*images)) == pytest.approx(VALUES["images"][name], rel=RTOL)


@pytest.mark.parametrize("scales", ["single", "multires"])
def test_the_gradient_on_the_synthetic_slices(encoder, images, losses, scales):
    name = f"l1|TTTT|{scales}"
    fake, real = images[0].requires_grad_(), images[1].requires_grad_()
    PerceptualLoss(encoder, BLOCKS, options_of(name))(fake, real).backward()
    expected = losses.tensor(f"grad_a::{name}")
    # The sign of a difference of two tokens that nearly agree is rounding: L1's gradient jumps there.
    assert float((fake.grad - expected).norm() / expected.norm()) < 1e-3
    assert real.grad is None
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_a_slice_is_at_no_distance_from_itself(encoder, images):
    loss = PerceptualLoss(encoder, BLOCKS, options_of("l1|TTTT|single"))
    assert float(loss(images[0], images[0])) == VALUES["images"]["EVALMODE_l1_TTTT(a,a)"] == 0


@pytest.mark.parametrize("other", ["a", "b"])
def test_the_references_random_positions_give_values_like_its_five_draws(encoder, images, other):
    """Not reproducible draw by draw: the mean of ours must lie within three standard errors of the mean of its five."""
    torch.manual_seed(0)
    options = options_of("l1|TTTT|single", reference_quirks=("stochastic_rope",))
    loss, (fake, real) = PerceptualLoss(encoder, BLOCKS, options), images
    ours = torch.tensor([float(loss(fake, fake if other == "a" else real)) for _ in range(40)])
    theirs = torch.tensor(VALUES["images"][f"TRAINMODE_l1_TTTT_5_draws(a,{other})"])
    error = 3 * float(ours.std()) / len(theirs) ** 0.5
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=error)
    assert float(ours.std()) > 0.01
    plain = PerceptualLoss(encoder, BLOCKS, options_of("l1|TTTT|single"))(fake, fake if other == "a" else real)
    assert float(ours.mean()) > float(plain) + 0.02


@pytest.mark.parametrize(
    ("name", "with_mask"),
    [("val_ssim2d_fake_first_mask", "m2d"), ("val_ssim2d_nomask", None), ("val_ssim2d_zero_mask", "zero")],
)
def test_the_ssim_that_selects_checkpoints(losses, name, with_mask):
    first, second = losses["a2d"][0], losses["b2d"][0]
    mask = {"m2d": losses["m2d"][0], "zero": 0 * losses["m2d"][0], None: None}[with_mask]
    assert slice_ssim(second, first, mask) == pytest.approx(VALUES["ssim2d"][name], rel=1e-5)


def test_a_mask_that_counts_negative_values_is_told_from_the_reference(losses):
    wrong = slice_ssim(losses["b2d"][0], losses["a2d"][0], losses["m2d"][0] != 0)
    assert wrong != pytest.approx(VALUES["ssim2d"]["val_ssim2d_fake_first_mask"], rel=1e-4)


@pytest.fixture
def paper_optimiser():
    """Optimiser and groups as the paper's recipe has them, on a learner."""

    def make(learner):
        stage = read_recipe("dgcf/mr-to-ct").stages[0]
        return make_optimiser(assign_parameters(learner, stage.optimiser, stage.groups), stage.optimiser)

    return make


@pytest.mark.parametrize("fusion", ["cnn", "se", "gated", "none"])
def test_one_step_of_the_papers_recipe_gives_the_references_weights(golden, fusion, encoder, paper_optimiser):
    """The task's loss on given tokens, through the engine's Adam: L1, learning rate 2e-4, betas 0.99 and 0.999."""
    reference = golden(f"dgcf/gen_{fusion}.npz")
    network = GuidedDGCF(DGCF.from_state_dict(reference.weights("w::")), encoder)
    learner = SynthesisLearner(network).train()
    optimiser = paper_optimiser(learner)
    batch = {name: reference.tensor(f"in_{name}") for name in ("img", "target", "dino_feats")}
    named = {"image": batch["img"], "target": batch["target"], "features": batch["dino_feats"]}
    loss, _ = learner(named, 0)
    assert float(loss.detach()) == pytest.approx(float(reference["train_l1"]), abs=1e-5)
    loss.backward()
    gradients = {name: p.grad for name, p in network.generator.named_parameters()}
    optimiser.step()
    after = network.generator.state_dict()
    compared = [key.removeprefix("after::") for key in reference if key.startswith("after::")]
    assert len(compared) == 11
    for name in compared:
        moved = torch.abs(after[name] - reference.tensor(f"after::{name}"))
        if gradients.get(name) is None:
            assert (moved <= 1e-5).all(), name  # statistics of the norms
        else:
            # The first step of Adam is lr * sign(gradient): no use to compare where the gradient is rounding noise.
            assert (moved <= torch.where(gradients[name].abs() < 1e-6, 4.1e-4, 1e-6)).all(), name
