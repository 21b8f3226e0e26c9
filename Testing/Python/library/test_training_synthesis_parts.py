# SPDX-License-Identifier: Apache-2.0
"""The parts of a synthesis stage by themselves: settings, network, loss, validation, recipes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.import_dgcf import dgcf_preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.sct import slice_ssim
from ProstateXferLib.networks.dgcf_layers import ConvNormGELU
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.cache.pairs import PreparedPair
from ProstateXferLib.training.losses.perceptual.loss import PerceptualLoss
from ProstateXferLib.training.losses.perceptual.options import PerceptualOptions
from ProstateXferLib.training.recipe.files import recipe_names
from ProstateXferLib.training.recipe.reading import read_recipe
from ProstateXferLib.training.recipe.schema import Group, Network, Schedule, Source, Stage, Start
from ProstateXferLib.training.tasks.synthesis_learner import SynthesisLearner
from ProstateXferLib.training.tasks.synthesis_network import encoder_is_frozen, synthesis_network
from ProstateXferLib.training.tasks.synthesis_settings import SynthesisSettings
from ProstateXferLib.training.tasks.synthesis_validation import validate_pairs

MR = dgcf_preprocessing("T2w")
SHAPE = {"width": 32, "depth": 4, "heads": 2}
ENCODER_CARD = ModelCard("tiny-encoder", "encoder", "dinov3", arguments={"eps": 1e-5, "rope_dtype": "fp32"})


def stage_of(start=None, **arguments):
    return Stage(
        "train",
        "synthesis",
        SynthesisSettings(),
        Network("dgcf", {"base_channels": 4, **arguments}),
        (Source("phantoms"),),
        Schedule(1),
        start=start or Start(),
    )


def random_encoder(seed=5):
    torch.manual_seed(seed)
    encoder = DINOv3(**SHAPE)
    encoder.init_weights()
    for name, parameter in encoder.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    return encoder


@pytest.fixture
def network():
    torch.manual_seed(0)
    return synthesis_network(stage_of(encoder=SHAPE), None, MR)


def synthesis_card(network):
    arguments = {"eps": 1e-5, "rope_dtype": "fp32", "blocks": list(network.blocks)}
    return ModelCard("made", "synthesis", "dgcf", arguments=arguments, preprocessing=MR, hu_range=(-1024.0, 2000.0))


def test_an_encoder_without_start_has_the_sizes_asked_for_and_a_layer_scale_for_short_trainings(network):
    encoder = network.dino_encoder
    assert (encoder.width, encoder.depth, encoder.heads) == (32, 4, 2)
    assert float(encoder.blocks[0].ls1.gamma[0].detach()) == pytest.approx(0.1)
    assert network.encoder_range == (0.0, 2.0)
    assert network.generator.base_channels == 4


def test_an_encoder_that_the_stage_starts_from_keeps_its_weights_and_tells_its_sizes():
    state = random_encoder().state_dict()
    made = synthesis_network(stage_of(blocks=[0, 1, 2, 3]), (ENCODER_CARD, state), MR)
    assert all(torch.equal(made.dino_encoder.state_dict()[key], value) for key, value in state.items())
    half = synthesis_network(stage_of(), (ENCODER_CARD, {k: v.half() for k, v in state.items()}), MR)
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def test_a_dgcf_that_the_stage_starts_from_gives_all_its_weights(network):
    state = network.state_dict()
    made = synthesis_network(stage_of(), (synthesis_card(network), state), MR)
    assert all(torch.equal(made.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (lambda state: state.pop("generator.decoder.out.1.bias"), {}, "has no 'generator.decoder.out.1.bias'"),
        (lambda state: state.update({"generator.extra": torch.zeros(1)}), {}, "'generator.extra' .* does not fit"),
        (lambda state: None, {"base_channels": 8}, "does not fit its network"),
        (lambda state: None, {"fusion": "se"}, "does not fit its network"),
        (lambda state: None, {"encoder": SHAPE}, "leave network.arguments.encoder out"),
        (lambda state: None, {"blocks": [0, 1, 9, 11]}, "cannot be tapped"),
    ],
)
def test_a_start_that_does_not_fit_is_told_and_never_loaded_in_part(network, change, arguments, sentence):
    state = dict(network.state_dict())
    change(state)
    with pytest.raises(ProstateXferError, match=sentence):
        synthesis_network(stage_of(**arguments), (synthesis_card(network), state), MR)


def test_what_a_recipe_drops_begins_anew(network):
    state = {key: value for key, value in network.state_dict().items() if "decoder.out.1" not in key}
    torch.manual_seed(9)
    start = Start("made", drop=("decoder.out.1",))
    made = synthesis_network(stage_of(start), (synthesis_card(network), state), MR).state_dict()
    fresh = "generator.decoder.out.1.weight"
    assert not torch.equal(made[fresh], network.state_dict()[fresh])
    assert all(torch.equal(made[key], value) for key, value in state.items())


def test_a_segmentation_model_is_no_start(network):
    card = replace(synthesis_card(network), name="wrong")
    object.__setattr__(card, "architecture", "mr_dinov3")
    with pytest.raises(ProstateXferError, match="not from the mr_dinov3 model 'wrong'"):
        synthesis_network(stage_of(), (card, {}), MR)


@pytest.mark.parametrize(
    ("groups", "frozen"),
    [
        ((), False),
        ((Group(("dino_encoder",), frozen=True),), True),
        ((Group(("dino_encoder.norm",)), Group(("dino_encoder",), frozen=True)), False),
        ((Group(("dino_encoder.blocks",), frozen=True),), False),
        ((Group(("generator",), frozen=True),), False),
    ],
)
def test_an_encoder_is_frozen_where_the_first_matching_group_of_every_name_freezes_it(network, groups, frozen):
    assert encoder_is_frozen(network.dino_encoder, groups) is frozen


def batch_of(size=64):
    generator = torch.Generator().manual_seed(1)
    image, target = (torch.rand(2, 1, size, size, generator=generator) * 2 - 1 for _ in range(2))
    return {"image": image, "target": target}


def test_the_loss_is_the_mean_absolute_error_of_all_pixels(network):
    network.eval()
    batch = batch_of()
    loss, parts = SynthesisLearner(network)(batch, 0)
    with torch.no_grad():
        expected = np.abs((network(batch["image"]) - batch["target"]).numpy()).mean()
    assert float(loss.detach()) == float(parts["l1"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_perceptual_loss_comes_on_top_by_its_weight(network):
    network.dino_encoder.requires_grad_(False)
    network.eval()
    perceptual = PerceptualLoss(network.dino_encoder, network.blocks, PerceptualOptions())
    loss, parts = SynthesisLearner(network, perceptual, 0.25)(batch_of(), 0)
    assert float(parts["perceptual"]) > 0
    assert float(loss.detach()) == pytest.approx(float(parts["l1"]) + 0.25 * float(parts["perceptual"]), rel=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_reach_the_generator_and_the_encoder_unless_it_is_frozen(network, frozen):
    network.dino_encoder.requires_grad_(not frozen)
    learner = SynthesisLearner(network).train()
    learner(batch_of(), 0)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.generator.proj_f12.parameters())
    gradient = network.dino_encoder.patch_embed.proj.weight.grad
    assert (gradient is None) is frozen
    assert network.dino_encoder.training is not frozen
    assert network.generator.training


def test_a_loss_network_of_its_own_is_neither_trained_nor_saved_nor_switched(network):
    looker = random_encoder().requires_grad_(False).eval()
    perceptual = PerceptualLoss(looker, network.blocks, PerceptualOptions(levels=(False, False, True, False)))
    learner = SynthesisLearner(network, perceptual).train()
    assert {id(p) for p in learner.parameters()} == {id(p) for p in network.parameters()}
    assert set(learner.state_dict()) == {f"network.{key}" for key in network.state_dict()}
    assert not looker.training
    learner(batch_of(), 0)[0].backward()
    assert network.generator.decoder.out[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("grid", [(4, 4), (2, 8)])
def test_a_training_step_has_the_gradients_of_upsampling_first_and_convolving_then(grid):
    """In fp64, for the map, the weights and the norm: the library convolves the small map instead."""
    torch.manual_seed(3)
    layer = ConvNormGELU(5, 3).double().train()
    low = torch.randn(2, 5, *grid, dtype=torch.float64, requires_grad=True)
    size = (8 * grid[0], 8 * grid[1])
    weights = torch.randn(2, 3, *size, dtype=torch.float64)
    leaves = [low, *layer.parameters()]
    ours = torch.autograd.grad((layer.of_upsampled(low, size) * weights).sum(), leaves)
    large = nn.functional.interpolate(low, size=size, mode="bilinear", align_corners=False)
    plain = torch.autograd.grad((layer.block(large) * weights).sum(), leaves)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_stored_features_stand_for_computed_ones(network):
    network.eval()
    batch = batch_of()
    with torch.no_grad():
        features = network.features(batch["image"])
        plain, given = (SynthesisLearner(network)(b, 0)[0] for b in (batch, batch | {"features": features}))
    assert float(plain) == float(given)


def test_multi_resolution_needs_slices_whose_quarter_has_whole_patches(network):
    network.dino_encoder.requires_grad_(False)
    loss = PerceptualLoss(network.dino_encoder, network.blocks, PerceptualOptions(multi_resolution=True))
    with pytest.raises(ProstateXferError, match=r"24 x 24 pixels at scale 0\.5"):
        loss(torch.zeros(1, 1, 48, 48), torch.zeros(1, 1, 48, 48))
    with pytest.raises(ProstateXferError, match="multiples of 64"):
        SynthesisSettings(size_yx=(96, 96), perceptual=PerceptualOptions(multi_resolution=True))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PerceptualOptions(criterion="vgg"), "criterion 'vgg' is none of l1"),
        (lambda: PerceptualOptions(weight=0.0), "weight 0.0"),
        (lambda: PerceptualOptions(levels=(False,) * 4), "at least one of them"),
        (lambda: PerceptualOptions(reference_quirks=("other",)), "quirk 'other'"),
        (lambda: PerceptualOptions(reference_quirks=("token_order",)), "belongs to cosine and high_freq"),
        (lambda: SynthesisSettings(size_yx=(40, 64)), "multiples of 16"),
        (lambda: SynthesisSettings(simulated_cbct=1), "CBCT is simulated for the sequence 'CBCT' alone"),
        (lambda: SynthesisSettings(features_dtype="int8"), "'int8' is none of fp32, fp16"),
        (lambda: SynthesisSettings(reference_quirks=("x",)), "only quirk"),
        (
            lambda: SynthesisSettings(size_yx=(64, 32), perceptual=PerceptualOptions(criterion="high_freq")),
            "square slices",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, sentence):
    with pytest.raises(ProstateXferError, match=sentence):
        make()


class Off(nn.Module):
    """Stands for a network: gives back its image, which is the target plus something known."""

    def __init__(self):
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return image


def pair_of(folder, *, depth, error, body_slices):
    """A pair whose source is its target plus `error`, with a body in the first slices."""
    folder.mkdir()
    target = np.random.default_rng(depth).uniform(-0.8, 0.8, (depth, 40, 40)).astype(np.float32)
    body = np.zeros(target.shape, bool)
    body[:body_slices, 8:30, 10:32] = True
    for name, array in (("source", target + np.float32(error)), ("target", target), ("body", body)):
        np.save(folder / f"{name}.npy", array)
    return PreparedPair(folder.name, folder, target.shape, folder.name)


def validate(pairs, **options):
    given = {"hu_range": (-1024.0, 2000.0), "batch_size": 4, "batch_mean": False, "features": None} | options
    return validate_pairs(Off(), pairs, progress=SilentProgress(), **given)


def test_validation_measures_what_is_in_the_body(tmp_path):
    pairs = [
        pair_of(tmp_path / "a", depth=5, error=0.1, body_slices=3),
        pair_of(tmp_path / "b", depth=3, error=0.0, body_slices=3),
    ]
    found = validate(pairs)
    assert found["mae_hu"] == pytest.approx(0.1 * 1512 * 3 / 6, rel=1e-4)
    off = [slice_ssim(pairs[0].target[z], pairs[0].source[z], pairs[0].body[z]) for z in range(3)]
    assert 0.5 < max(off) < 0.999
    assert found["ssim"] == pytest.approx((sum(off) + 3) / 6, rel=1e-6)
    assert validate([pairs[1]])["ssim"] == pytest.approx(1)


def test_the_references_validation_is_a_mean_of_batches_and_counts_slices_without_body(tmp_path):
    pair = pair_of(tmp_path / "a", depth=5, error=0.1, body_slices=3)
    off = [slice_ssim(pair.target[z], pair.source[z], pair.body[z]) for z in range(3)]
    quirk = validate([pair], batch_mean=True)["ssim"]
    assert quirk == pytest.approx(((sum(off) + 1) / 4 + 1) / 2, rel=1e-6)
    assert quirk != pytest.approx(validate([pair])["ssim"], rel=1e-3)


def test_validation_does_not_depend_on_the_batch_and_is_empty_without_cases(tmp_path):
    pair = pair_of(tmp_path / "a", depth=5, error=0.1, body_slices=4)
    assert validate([pair], batch_size=1) == pytest.approx(validate([pair], batch_size=5))
    assert validate([]) == {}


PAPER = [name for name in recipe_names() if name.startswith("dgcf/")]


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes_say_what_the_paper_and_its_code_say(name):
    chain = read_recipe(name)
    (stage,) = chain.stages
    assert (chain.seed, chain.paper) == (42, "arXiv:2511.12098")
    assert stage.settings.size_yx == (256, 256)
    assert stage.settings.preprocessing().encoder_range == ((-1, 1) if "cbct" in name else (0, 2))
    assert stage.network.arguments == {"base_channels": 64, "fusion": "cnn", "blocks": [2, 5, 8, 11]}
    assert stage.start.checkpoint == "dinov3-vitb16"
    assert encoder_is_frozen(random_encoder(), stage.groups)
    optimiser, schedule = stage.optimiser, stage.schedule
    assert (optimiser.name, optimiser.learning_rate, optimiser.betas) == ("adam", 2e-4, (0.99, 0.999))
    assert (optimiser.weight_decay, optimiser.clip_norm, stage.loop.ema) == (0, 0, 0)
    assert (stage.loop.batch_size, stage.loop.precision, schedule.epochs) == (4, "fp32", 20)
    assert (schedule.decay, schedule.step_epochs, schedule.step_factor, schedule.by_epoch) == ("step", 5, 0.1, True)
    assert (stage.selection.keep, stage.selection.metric, stage.selection.higher_is_better) == ("best", "ssim", True)


def test_variants_differ_in_their_loss_alone():
    base = read_recipe("dgcf/mr-to-ct").stages[0]
    losses = {name: read_recipe(name).stages[0] for name in PAPER if name.startswith("dgcf/mr-to-ct-")}
    assert len(losses) == 8
    assert len({stage.settings for stage in losses.values()}) == 8
    for stage in losses.values():
        same = replace(
            stage.settings, perceptual=base.settings.perceptual, reference_quirks=base.settings.reference_quirks
        )
        assert replace(stage, settings=same) == base


@pytest.mark.parametrize("name", ["shipped/dgcf-mr-small", "shipped/dgcf-cbct-small"])
def test_the_shipped_recipes_train_the_encoder_too_and_never_on_what_they_are_scored_on(name):
    chain = read_recipe(name)
    (stage,) = chain.stages
    assert chain.store == "fp16"
    assert not stage.groups and stage.start.checkpoint is None
    seeds = [
        set(range(source.options["first_seed"], source.options["first_seed"] + source.options["count"]))
        for source in sorted(stage.data, key=lambda source: source.test_only)
        if source.layout == "phantoms"
    ]
    assert seeds[-1] == {900001, 900002}
    assert not set.union(*seeds[:-1]) & seeds[-1]
