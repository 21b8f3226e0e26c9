# SPDX-License-Identifier: Apache-2.0
"""A plain transcription of the DGCF generator (cnn fusion): norms as layers, channels first; the yardstick."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.networks.dgcf import DGCF, LEVELS


class PlainDGCF(nn.Module):
    """Shares the weights of a `DGCF` with cnn fusion, all levels and CNN encoder."""

    def __init__(self, network: DGCF) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        network, (height, width) = self.network, image.shape[-2:]
        levels, x = [], image
        for index in range(1, 5):
            stage = list(getattr(network.encoder, f"enc{index}"))
            if index > 1:
                x = F.max_pool2d(x, 2)
            x = _residual(stage[-1].block, stage[-2].block(x))
            levels.append(x)
        for index, name in enumerate(LEVELS):
            tokens = features[:, index].transpose(1, 2).reshape(len(image), -1, height // 16, width // 16)
            guide = getattr(network, f"proj_f{name}").block(tokens)
            size = (height // 2**index, width // 2**index)
            guide = F.interpolate(guide, size=size, mode="bilinear", align_corners=False)
            levels[index] = _fuse(getattr(network, f"fuse{index + 1}"), levels[index], guide)
        x = levels[3]
        for index in range(1, 4):
            up = getattr(network.decoder, f"up{index}")
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _residual(up[2].block, up[1].block(x)) + levels[3 - index]
        out = network.decoder.out
        return torch.tanh(out[1](out[0].block(x)))


def _residual(block: nn.Sequential, x: Tensor) -> Tensor:
    return x + block(x)


def _fuse(module: nn.Module, image: Tensor, guide: Tensor) -> Tensor:
    both = torch.cat([module.proj_img.block(image), module.proj_dino.block(guide)], dim=1)
    mix, norm, gelu, residual = module.merge
    return _residual(residual.block, gelu(norm(mix(both))))
