# SPDX-License-Identifier: Apache-2.0
"""Their cards, weights and Segmenters, and a grid to run them on."""

import dataclasses

import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import PROSTATE
from ProstateXferLib.networks.dense import dense_network
from ProstateXferLib.networks.unet_planning import planned_unet
from ProstateXferLib.pipelines.segmenter import Segmenter

GRID = Grid((32, 32, 8), (1.0, 1.0, 2.0), (3.0, -7.0, 11.0))
ZSCORE = IntensityRule("zscore")
WINDOW = IntensityRule("window", -1000.0, 1000.0)
KINDS = {
    "plain 2-D": ("plain_conv_unet", planned_unet((16, 16), (1, 1), channels=1, classes=2, base_features=4)),
    "plain 3-D": ("plain_conv_unet", planned_unet((8, 16, 16), (2, 1, 1), channels=1, classes=2, base_features=4)),
    "residual 3-D": (
        "residual_encoder_unet",
        planned_unet((8, 16, 16), (2, 1, 1), channels=1, classes=2, base_features=4, residual=True),
    ),
    "smp": ("smp", {"architecture": "unet", "encoder": "resnet18", "channels": 1, "classes": 2}),
}


def card_of(architecture, arguments, *, preprocessing=None, **changes):
    """The card of a dense network of one head."""
    fields = {"structures": (PROSTATE,), "heads": (Head("gland", (PROSTATE.value,)),)} | changes
    return ModelCard(
        name="dense",
        task="segmentation",
        architecture=architecture,
        arguments=arguments,
        preprocessing=Preprocessing(**({"intensity": ZSCORE} | (preprocessing or {}))),
        **fields,
    )


def random_dense(architecture, arguments, seed=0):
    """A network with weights drawn anew."""
    torch.manual_seed(seed)
    network = dense_network(architecture, arguments).eval()
    for name, parameter in network.named_parameters():
        if name.startswith(("decoder.seg_layers", "segmentation_head")):
            parameter.data *= 3  # so that probabilities are not all about one half
    return network


def written(path, card, seed=0):
    """A checkpoint file of a card with weights drawn anew."""
    return write_checkpoint(path, card, random_dense(card.architecture, card.arguments, seed).state_dict())


class Lookup(torch.nn.Module):
    """Logits as a function of the channels of every voxel alone."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        """(N, C, z, y, x) -> (N, classes, z, y, x)."""
        return torch.stack(self.function(*image.unbind(1)), dim=1)


@dataclasses.dataclass(frozen=True)
class Made(Checkpoint):
    """A checkpoint whose network is given, and lies in no file."""

    network: torch.nn.Module = None

    def build(self):
        """The network."""
        return self.network.eval()


def made(function, *, classes, channels=1, dimensions=3, **changes):
    """A Segmenter whose network is a function of every voxel's channels."""
    patch = (8, 16, 16)[-dimensions:]
    plan = planned_unet(patch, (2.0, 1.0, 1.0)[-dimensions:], channels=channels, classes=classes, base_features=2)
    card = card_of("plain_conv_unet", plan, **{"preprocessing": {"intensity": WINDOW}, "heads": (), **changes})
    return Segmenter(Made(card, None, "0" * 64, Lookup(function)), device="cpu")
