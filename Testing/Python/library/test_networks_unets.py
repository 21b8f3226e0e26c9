# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's U-Nets: planned by its rule, named as its files name them, computing what their layers say."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dense import dense_network, load_dense_network
from ProstateXferLib.networks.plain_conv_unet import PlainConvUNet
from ProstateXferLib.networks.residual_encoder_unet import ResidualEncoderUNet
from ProstateXferLib.networks.unet_planning import planned_unet

PATCHES = {2: ((32, 24), (0.6, 0.6)), 3: ((8, 32, 24), (3.0, 0.6, 0.6))}
KINDS = ("plain_conv_unet", "residual_encoder_unet")


def arguments_of(kind, dimensions, **changes):
    patch, spacing = PATCHES[dimensions]
    planned = planned_unet(patch, spacing, channels=2, classes=3, residual=kind != KINDS[0], base_features=4)
    return planned | changes


def drawn(kind, dimensions, seed=0, **changes):
    """A network none of whose weights is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    network = dense_network(kind, arguments_of(kind, dimensions, **changes))
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def image_for(dimensions, seed=1):
    return torch.randn(2, 2, *PATCHES[dimensions][0], generator=torch.Generator().manual_seed(seed))


# The rule that plans


def test_the_published_plan_of_the_decathlons_prostate_comes_out():
    """nnU-Net's Task05 (T2w and ADC, 0.62 mm, slices of 3.6 mm): six halvings, of which two go through the slices."""
    plan = planned_unet((20, 320, 256), (3.6, 0.62, 0.62), channels=2, classes=3)
    in_plane, all_axes = [1, 2, 2], [2, 2, 2]
    assert plan["strides"] == [[1, 1, 1], in_plane, in_plane, all_axes, all_axes, in_plane, in_plane]
    assert plan["kernel_sizes"] == [[1, 3, 3]] * 2 + [[3, 3, 3]] * 5
    assert plan["features_per_stage"] == [32, 64, 128, 256, 320, 320, 320]
    assert (plan["n_conv_per_stage"], plan["n_conv_per_stage_decoder"]) == ([2] * 7, [2] * 6)


def test_a_residual_plan_in_2d_has_more_blocks_and_wider_stages():
    plan = planned_unet((320, 320), (0.6, 0.6), channels=1, classes=2, residual=True)
    assert plan["n_stages"] == 7
    assert plan["features_per_stage"] == [32, 64, 128, 256, 512, 512, 512]
    assert (plan["n_blocks_per_stage"], plan["n_conv_per_stage_decoder"]) == ([1, 3, 4, 6, 6, 6, 6], [1] * 6)


def test_one_axis_alone_is_halved_only_from_12_pixels_on():
    strides = [planned_unet((side, 8), (1.0, 1.0), channels=1, classes=2)["strides"] for side in (16, 32)]
    assert strides == [[[1, 1], [2, 2]], [[1, 1], [2, 2], [2, 1]]]


@pytest.mark.parametrize(
    ("patch", "spacing", "told"),
    [
        ((30, 30), (1.0, 1.0), r"does not fit a U-Net: it must be a multiple of \[8, 8\], e.g. \[32, 32\]"),
        ((4, 4), (1.0, 1.0), "take a larger one"),
        ((32,), (1.0,), "2 or 3 axes"),
        ((32, 32), (1.0, 1.0, 1.0), "2 or 3 axes"),
    ],
)
def test_a_patch_that_fits_no_u_net_is_refused(patch, spacing, told):
    with pytest.raises(ProstateXferError, match=told):
        planned_unet(patch, spacing, channels=1, classes=2)


# What the layers compute


def conv_norm(weights, name, features, *, stride=1, active=True):
    kernel = weights[f"{name}.conv.weight"]
    convolve, pad = (F.conv2d, F.conv3d)[kernel.ndim - 4], [(side - 1) // 2 for side in kernel.shape[2:]]
    features = convolve(features, kernel, weights.get(f"{name}.conv.bias"), stride=stride, padding=pad)
    axes = tuple(range(2, features.ndim))
    mean, variance = features.mean(axes, keepdim=True), features.var(axes, keepdim=True, correction=0)
    shape = (1, -1, *[1] * len(axes))
    scale, shift = weights[f"{name}.norm.weight"].view(shape), weights[f"{name}.norm.bias"].view(shape)
    features = (features - mean) / torch.sqrt(variance + 1e-5) * scale + shift
    return torch.where(features > 0, features, 0.01 * features) if active else features


def residual_block(weights, name, features, *, stride):
    found = conv_norm(weights, f"{name}.conv1", features, stride=stride)
    found = conv_norm(weights, f"{name}.conv2", found, active=False)
    pooled = any(step != 1 for step in stride)
    if pooled:
        features = (F.avg_pool2d, F.avg_pool3d)[features.ndim - 4](features, stride)
    projection = f"{name}.skip.{int(pooled)}"
    if f"{projection}.conv.weight" in weights:
        assert f"{projection}.conv.bias" not in weights
        features = conv_norm(weights, projection, features, active=False)
    found = found + features
    return torch.where(found > 0, found, 0.01 * found)


def transcribed(kind, weights, arguments, image):
    """The network once more, from its weights' names alone; logits of every scale, finest first."""
    residual, features, skips = kind != KINDS[0], image, []
    if residual:
        features = conv_norm(weights, "encoder.stem.convs.0", features)
    counts = arguments["n_blocks_per_stage" if residual else "n_conv_per_stage"]
    for stage, (count, stride) in enumerate(zip(counts, arguments["strides"], strict=True)):
        for index in range(count):
            step = stride if index == 0 else [1] * len(stride)
            if residual:
                features = residual_block(weights, f"encoder.stages.{stage}.blocks.{index}", features, stride=step)
            else:
                features = conv_norm(weights, f"encoder.stages.{stage}.0.convs.{index}", features, stride=step)
        skips.append(features)
    outputs = []
    for level, count in enumerate(arguments["n_conv_per_stage_decoder"]):
        up = weights[f"decoder.transpconvs.{level}.weight"]
        transposed = (F.conv_transpose2d, F.conv_transpose3d)[up.ndim - 4]
        stride = arguments["strides"][-1 - level]
        features = transposed(features, up, weights[f"decoder.transpconvs.{level}.bias"], stride=stride)
        features = torch.cat([features, skips[-2 - level]], dim=1)
        for index in range(count):
            features = conv_norm(weights, f"decoder.stages.{level}.convs.{index}", features)
        convolve = (F.conv2d, F.conv3d)[up.ndim - 4]
        name = f"decoder.seg_layers.{level}"
        outputs.insert(0, convolve(features, weights[f"{name}.weight"], weights[f"{name}.bias"]))
    return outputs


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_pass_is_what_the_layers_say_at_every_scale(kind, dimensions):
    network, image = drawn(kind, dimensions), image_for(dimensions)
    weights = network.state_dict()
    expected = transcribed(kind, weights, arguments_of(kind, dimensions), image)
    with torch.no_grad():
        assert torch.allclose(network(image), expected[0], atol=1e-4, rtol=1e-4)
        network.train()
        outputs = network(image)
    assert [tuple(output.shape) for output in outputs] == [tuple(output.shape) for output in expected]
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(outputs, expected, strict=True))
    assert outputs[0].shape == (2, 3, *PATCHES[dimensions][0])


def test_without_deep_supervision_training_gives_one_tensor_and_the_names_are_the_same():
    plain, deep = (drawn(KINDS[0], 2, deep_supervision=deep).train() for deep in (False, True))
    assert isinstance(plain(image_for(2)), torch.Tensor)
    assert isinstance(deep(image_for(2)), list)
    assert list(plain.state_dict()) == list(deep.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_convolutions_are_drawn_as_he_says_and_residual_blocks_begin_as_their_shortcut(kind):
    torch.manual_seed(0)
    network = dense_network(kind, arguments_of(kind, 3, features_per_stage=[16] * 4))
    weight = dict(network.named_parameters())["encoder.stages.1.0.convs.1.conv.weight" if kind == KINDS[0] else
                                              "encoder.stages.1.blocks.1.conv1.conv.weight"]  # fmt: skip
    fan_in = weight[0].numel()
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / (1 + 0.01**2) / fan_in), rel=0.03)
    biases = {key: value for key, value in network.named_parameters() if key.endswith("conv.bias")}
    assert biases
    assert not any(value.any() for value in biases.values())
    if kind == KINDS[1]:
        block = network.encoder.stages[1].blocks[1].eval()
        features = torch.randn(1, 16, 4, 8, 8)
        assert torch.equal(block(features), F.leaky_relu(features, 0.01))


# Names


def state_with_aliases(network):
    """As nnU-Net writes it: every layer again in a list, and the encoder again in the decoder."""
    state = {}
    for key, value in network.state_dict().items():
        again = key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        state |= {key: value, again: value.clone()}
    return state | {f"decoder.{key}": value.clone() for key, value in state.items() if key.startswith("encoder.")}


@pytest.mark.parametrize("kind", KINDS)
def test_nnunets_second_names_are_accepted_where_they_say_the_same(kind):
    network = drawn(kind, 2)
    state = state_with_aliases(network)
    assert len(state) > 3 * len(network.encoder.state_dict())
    loaded = load_dense_network(kind, arguments_of(kind, 2), state)
    assert torch.equal(loaded(image_for(2)), network(image_for(2)))
    assert list(loaded.state_dict()) == list(network.state_dict())


def test_a_second_name_that_says_something_else_is_refused():
    state = state_with_aliases(drawn(KINDS[0], 2))
    key = "decoder.encoder.stages.0.0.convs.0.all_modules.0.weight"
    state[key] = state[key] + 1
    with pytest.raises(
        ProstateXferError, match=f"Key '{key}' holds other values than 'encoder.stages.0.0.convs.0.conv"
    ):
        load_dense_network(KINDS[0], arguments_of(KINDS[0], 2), state)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused_by_name(fault):
    state = drawn(KINDS[1], 2).state_dict()
    key = "encoder.stages.1.blocks.0.skip.1.conv.weight"
    if fault == "missing":
        del state[key]
    else:
        state[f"{key}{'x' if fault == 'unknown' else ''}"] = torch.zeros(3)
    with pytest.raises(ProstateXferError, match=key):
        load_dense_network(KINDS[1], arguments_of(KINDS[1], 2), state)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_names_and_shapes_are_those_of_an_nnunet_file(configuration, golden_data):
    listed = (
        golden_data.parent / "reference" / "state-dicts" / f"nnunet_plainconvunet_tiny_holdout_{configuration}.json"
    )
    if not listed.is_file():
        pytest.skip(f"there is no file '{listed}'")
    theirs = {key: tuple(shape) for key, shape, _ in json.loads(listed.read_text(encoding="utf-8"))}
    own_names = {key for key in theirs if "all_modules" not in key and not key.startswith("decoder.encoder.")}
    stages = 1 + max(int(key.split(".")[2]) for key in own_names if key.startswith("encoder.stages."))
    first = [theirs[f"encoder.stages.{stage}.0.convs.0.conv.weight"] for stage in range(stages)]

    def count(stage):
        return sum(key.startswith(f"{stage}.convs.") and key.endswith("conv.weight") for key in own_names)

    ups = [theirs[f"decoder.transpconvs.{level}.weight"] for level in range(stages - 1)]
    arguments = dict(
        input_channels=first[0][1],
        num_classes=theirs[f"decoder.seg_layers.{stages - 2}.weight"][0],
        n_stages=stages,
        features_per_stage=[shape[0] for shape in first],
        kernel_sizes=[shape[2:] for shape in first],
        strides=[[1] * len(first[0][2:]), *[shape[2:] for shape in reversed(ups)]],
        n_conv_per_stage=[count(f"encoder.stages.{stage}.0") for stage in range(stages)],
        n_conv_per_stage_decoder=[count(f"decoder.stages.{level}") for level in range(stages - 1)],
    )
    state = PlainConvUNet.from_arguments(arguments).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {k: theirs[k] for k in own_names}


# Arguments


def arch_kwargs(**changes):
    planned = arguments_of(KINDS[0], 2)
    del planned["deep_supervision"]
    return planned | {
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **changes,
    }


def test_nnunets_arch_kwargs_are_understood_as_they_are():
    network = PlainConvUNet.from_arguments(arch_kwargs())
    assert list(network.state_dict()) == list(drawn(KINDS[0], 2).state_dict())
    assert not network.deep_supervision


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"conv_op": "torch.nn.modules.conv.Conv3d"}, "conv_op .*Conv3d is not supported: use .*Conv2d"),
        ({"norm_op": "torch.nn.modules.batchnorm.BatchNorm2d"}, "norm_op .*BatchNorm2d is not supported"),
        ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, "norm_op_kwargs"),
        ({"dropout_op": "torch.nn.Dropout2d"}, "dropout_op torch.nn.Dropout2d is not supported"),
        ({"nonlin": "torch.nn.ReLU"}, "nonlin torch.nn.ReLU is not supported"),
        ({"colour": "red"}, "have 'colour', which means nothing here"),
        ({"strides": 2}, "strides need one list"),
        ({"strides": [2, 2, 2]}, "strides need one list"),
        ({"kernel_sizes": [[3, 3], [3, 3], [4, 4]]}, "kernel_sizes must be odd"),
        ({"features_per_stage": [4, 8]}, "n_stages is 3, but features_per_stage has 2"),
        ({"n_conv_per_stage": [2, 2]}, "needs 3 entries in blocks_per_stage, not 2"),
        ({"n_conv_per_stage_decoder": 0}, "whole numbers above zero"),
        ({"strides": [[1, 1], [2, 2], [2, 2, 2]]}, "2 or 3 numbers per stage, all alike"),
    ],
)
def test_arguments_that_ask_for_another_network_are_refused(changes, told):
    with pytest.raises(ProstateXferError, match=told):
        PlainConvUNet.from_arguments(arch_kwargs(**changes))


def test_a_missing_argument_is_named():
    arguments = arch_kwargs()
    del arguments["num_classes"]
    with pytest.raises(ProstateXferError, match="lack 'num_classes'"):
        PlainConvUNet.from_arguments(arguments)


@pytest.mark.parametrize(
    ("kind", "own", "other"),
    [(KINDS[0], "n_conv_per_stage", "n_blocks_per_stage"), (KINDS[1], "n_blocks_per_stage", "n_conv_per_stage")],
)
def test_each_kind_counts_its_blocks_under_nnunets_name_alone(kind, own, other):
    arguments = arguments_of(kind, 2)
    renamed = {other if key == own else key: value for key, value in arguments.items()}
    with pytest.raises(ProstateXferError, match=f"a {kind} lack '{own}': they take .*, strides, {own}, "):
        dense_network(kind, renamed)
    as_numbers = dense_network(kind, arguments | {own: 2, "n_conv_per_stage_decoder": 1}).plan
    assert (as_numbers.blocks_per_stage, as_numbers.n_conv_per_stage_decoder) == ((2, 2, 2), (1, 1))


@pytest.mark.parametrize("shape", [(1, 2, 30, 24), (1, 1, 32, 24), (1, 2, 8, 32, 24)])
def test_an_image_that_the_network_cannot_take_is_refused(shape):
    with pytest.raises(ProstateXferError, match="multiples of \\(4, 4\\)"):
        ResidualEncoderUNet.from_arguments(arguments_of(KINDS[1], 2))(torch.zeros(shape))


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ProstateXferError, match="'resnet' is no dense network: use one of plain_conv_unet"):
        dense_network("resnet", {})
