# SPDX-License-Identifier: Apache-2.0
"""A stage's network is what the recipe says, filled with all that its start has; nothing is passed over."""

import pytest
import torch

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.training.recipe.schema import Network, Start
from ProstateXferLib.training.start_weights import cut_weights
from ProstateXferLib.training.tasks.segmentation_heads import head_target
from ProstateXferLib.training.tasks.segmentation_network import segmentation_network

RULES = Preprocessing(IntensityRule("zscore"), spacing_yx_mm=(1.0, 1.0), tile_yx=(32, 32))
TARGETS = [
    head_target(name, [structure.name], (PROSTATE, DIL)) for name, structure in (("gland", PROSTATE), ("dil", DIL))
]
ENCODER = ModelCard("some-encoder", "encoder", "dinov3", arguments={"eps": 1e-6, "rope_dtype": "bf16"})
SMALL = {"encoder": {"width": 64, "depth": 4, "heads": 1}}
UNET = {"base_features": 4, "max_features": 8}


def built(architecture, arguments=None, *, start=None, rule=None, targets=TARGETS, **options):
    """Network and card arguments; `start` is (card, weights), cut by `rule` as a chain does."""
    rule = rule or Start()
    if start is not None:
        start = (start[0], cut_weights(start[1], rule, source=start[0].name))
    options = {"channels": 1, "preprocessing": RULES} | options
    return segmentation_network(Network(architecture, arguments or {}), targets, start=start, rule=rule, **options)


def test_an_encoder_from_a_checkpoint_keeps_its_weights_and_its_settings(random_network):
    encoder = random_network("dinov3", seed=1, eps=1e-6, rope_dtype=torch.bfloat16)
    network, arguments = built("mr_dinov3", start=(ENCODER, encoder.state_dict()))
    assert arguments == {"eps": 1e-6, "rope_dtype": "bf16", "blocks": [0, 1, 2, 3]}
    assert {name: head.classes for name, head in network.heads.items()} == {"gland": 2, "dil": 2}
    image = torch.randn(1, 1, 32, 48)
    with torch.no_grad():
        tokens = torch.cat(encoder.intermediate(image.expand(-1, 3, -1, -1), (0, 1, 2, 3)), -1)
        assert torch.equal(network.eval().encode(image), tokens)


def test_of_a_self_supervised_stage_that_keeps_its_heads_the_encoder_is_taken(random_network):
    encoder = random_network("dinov3", seed=1).state_dict()
    kept = {f"backbone.{name}": value for name, value in encoder.items()} | {"dino_head.0.weight": torch.ones(2, 2)}
    network, _ = built("mr_dinov3", start=(ENCODER, kept))
    state = network.dino_encoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in encoder.items())


def test_an_mr_dinov3_hands_on_the_heads_that_are_taken_and_begins_the_others_anew(random_network, segmentation_card):
    weights = random_network("mr_dinov3", heads_of={"gland": 2, "other": 3}).state_dict()
    card = segmentation_card("gland")
    network, _ = built("mr_dinov3", start=(card, weights), rule=Start("before", drop=("up_projection.other",)))
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in weights.items() if "other" not in key)
    with pytest.raises(ProstateXferError, match=r"has the weight 'up_projection.other.*name it in start.drop"):
        built("mr_dinov3", start=(card, weights))
    encoder_alone, _ = built("mr_dinov3", start=(card, weights), rule=Start("before", parts=("dino_encoder.",)))
    key = "up_projection.gland.decode.0.0.weight"
    assert not torch.equal(encoder_alone.state_dict()[key], weights[key])


def test_an_encoder_comes_from_one_place(random_network):
    start = (ENCODER, random_network("dinov3").state_dict())
    for options in ({"arguments": SMALL, "start": start}, {}):
        with pytest.raises(ProstateXferError, match="give one of them"):
            built("mr_dinov3", **options)


def test_a_random_encoder_has_the_sizes_of_the_recipe_and_a_layer_scale_for_short_trainings():
    network, _ = built("mr_dinov3", {"encoder": SMALL["encoder"] | {"layer_scale": 0.5}, "blocks": [1, 3]})
    assert (network.dino_encoder.width, network.dino_encoder.depth, network.blocks) == (64, 4, (1, 3))
    assert float(network.dino_encoder.blocks[2].ls1.gamma.mean().detach()) == 0.5
    assert network.training


def test_an_mr_dinov3_sees_one_sequence():
    with pytest.raises(ProstateXferError, match="sees one sequence, not 2"):
        built("mr_dinov3", SMALL, channels=2)


def test_a_unet_without_stages_is_planned_for_the_tile_and_one_with_stages_is_not():
    network, arguments = built("plain_conv_unet", UNET, channels=2)
    assert (arguments["input_channels"], arguments["num_classes"], arguments["n_stages"]) == (2, 4, 4)
    assert arguments["deep_supervision"] is True
    outputs = network(torch.randn(1, 2, 32, 32))
    assert [tuple(output.shape) for output in outputs] == [(1, 4, 32, 32), (1, 4, 16, 16), (1, 4, 8, 8)]
    _, again = built("plain_conv_unet", arguments, channels=2)
    assert again == arguments
    volumes = Preprocessing(IntensityRule("zscore"), spacing_zyx_mm=(3.0, 1.0, 1.0), tile_zyx=(8, 32, 32))
    assert len(built("residual_encoder_unet", UNET, preprocessing=volumes)[1]["strides"][0]) == 3
    with pytest.raises(ProstateXferError, match="planned for the preprocessing's tile"):
        built("plain_conv_unet", UNET, preprocessing=Preprocessing(IntensityRule("zscore")))


def test_a_dense_network_takes_every_weight_of_its_start_but_what_is_dropped():
    first, arguments = built("plain_conv_unet", UNET)
    card = ModelCard("first", "encoder", "dinov3")
    weights = first.state_dict()
    torch.manual_seed(9)
    same, _ = built("plain_conv_unet", arguments, start=(card, weights))
    assert all(torch.equal(value, weights[key]) for key, value in same.state_dict().items())
    dropped, _ = built("plain_conv_unet", arguments, start=(card, weights), rule=Start("first", drop=("seg_layers",)))
    changed = {key for key, value in dropped.state_dict().items() if not torch.equal(value, weights[key])}
    assert changed
    assert all("seg_layers" in key for key in changed)
    one_head = TARGETS[:1]
    with pytest.raises(ProstateXferError, match="seg_layers.*in the shape .*name it in start.drop"):
        built("plain_conv_unet", UNET, start=(card, weights), targets=one_head)
    few = {key: value for key, value in weights.items() if "transpconvs" not in key}
    with pytest.raises(ProstateXferError, match="lacks this network's weight '.*transpconvs"):
        built("plain_conv_unet", arguments, start=(card, few))


def test_weights_that_a_start_brings_are_not_fetched_and_the_card_does_not_ask_for_them():
    pytest.importorskip("segmentation_models_pytorch")
    wanted = {"architecture": "unet", "encoder": "resnet18"}
    first, arguments = built("smp", wanted)
    start = (ModelCard("first", "encoder", "dinov3"), first.state_dict())
    network, again = built("smp", wanted | {"encoder_weights": "imagenet"}, start=start)
    assert again == arguments == wanted | {"channels": 1, "classes": 4}
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in network.state_dict().items())
