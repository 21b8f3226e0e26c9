# SPDX-License-Identifier: Apache-2.0
"""A DINOv3's forward pass with the randomness of training: stochastic depth and moved positions.

The network itself stays as it is: what is random belongs to the training step, not to the weights. Random numbers come
from torch's default generator of the tokens' device, which the training engine seeds before every step.
Source: DINOv3 (arXiv 2508.10104), reference notes 1.3 and 1.5.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH, Block, DINOv3, LayerScale
from ProstateXferLib.networks.rope import rope_tables


@dataclass(frozen=True)
class TrainingNoise:
    """How much is left to chance.

    Attributes:
        drop_path: share of a batch's samples that skip a residual branch; the same in every block.
        rope_shift: positions are moved by up to this, each axis for itself (the image spans -1 to 1).
        rope_jitter: each axis is stretched by a factor up to this, or down to its inverse; 1 leaves it.
        rope_rescale: both axes are stretched by one such factor (2 in the published trainings).
    """

    drop_path: float = 0.0
    rope_shift: float = 0.0
    rope_jitter: float = 1.0
    rope_rescale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1 or self.rope_shift < 0 or min(self.rope_jitter, self.rope_rescale) < 1:
            raise ProstateXferError(
                "Training noise: drop_path is from 0 up to, not, 1; rope_shift is not negative; rope_jitter and "
                "rope_rescale are factors of at least 1."
            )

    @property
    def moves_positions(self) -> bool:
        """Whether positions differ from those of evaluation."""
        return self.rope_shift > 0 or self.rope_jitter > 1 or self.rope_rescale > 1

    def moved(self, coordinates: Tensor) -> Tensor:
        """Coordinates (N, 2) in -1..1, shifted and stretched at random."""
        axes = coordinates.new_empty(2)
        if self.rope_shift:
            coordinates = coordinates + axes.uniform_(-self.rope_shift, self.rope_shift)
        if self.rope_jitter > 1:
            log = math.log(self.rope_jitter)
            coordinates = coordinates * axes.uniform_(-log, log).exp()
        if self.rope_rescale > 1:
            log = math.log(self.rope_rescale)
            coordinates = coordinates * axes[:1].uniform_(-log, log).exp()
        return coordinates


def noisy_features(
    network: DINOv3, image: Tensor, mask: Tensor | None = None, *, noise: TrainingNoise
) -> dict[str, Tensor]:
    """`DINOv3.features` with noise: the same arguments, the same result where there is no noise."""
    *_, last = _block_outputs(network, image, mask, noise)
    normed = network.norm(last)
    return {
        "class": normed[:, 0],
        "storage": normed[:, 1 : network.prefix],
        "patches": normed[:, network.prefix :],
        "prenorm": last,
    }


def noisy_intermediate(
    network: DINOv3, image: Tensor, blocks: Sequence[int] = (2, 5, 8, 11), *, noise: TrainingNoise
) -> list[Tensor]:
    """`DINOv3.intermediate` with noise: normed patch tokens (B, N, C) after each of the blocks."""
    outputs = enumerate(_block_outputs(network, image, None, noise))
    return [network.norm(x[:, network.prefix :]) for index, x in outputs if index in set(blocks)]


def _block_outputs(network: DINOv3, image: Tensor, mask: Tensor | None, noise: TrainingNoise) -> Iterator[Tensor]:
    """The sequence (B, 1+R+HW, C) after every block."""
    x, sin, cos = network._embed(image, mask)
    grid = (image.shape[-2] // PATCH, image.shape[-1] // PATCH)
    for block in network.blocks:
        if noise.moves_positions:  # drawn anew in every block, as the reference does
            sin, cos = _moved_tables(network, grid, x, noise)
        x = _noisy_block(block, x, sin, cos, noise.drop_path)
        yield x


def _moved_tables(network: DINOv3, grid: tuple[int, int], x: Tensor, noise: TrainingNoise) -> tuple[Tensor, Tensor]:
    target = network.rope_dtype if x.dtype == torch.float32 else x.dtype
    with torch.no_grad():
        periods = network.rope_embed.periods.float()
        tables = rope_tables(*grid, periods, dtype=network.rope_dtype, prefix=network.prefix, moved=noise.moved)
    return tables[0].to(target), tables[1].to(target)


def _noisy_block(block: Block, x: Tensor, sin: Tensor, cos: Tensor, drop_path: float) -> Tensor:
    """A block whose branches each run on a random part of the batch and count as much more; the rest skips them."""
    kept = max(int(len(x) * (1 - drop_path)), 1)
    if kept == len(x):
        return block(x, sin, cos)
    branches = (
        (block.ls1, lambda part: block.attn(block.norm1(part), sin, cos)),
        (block.ls2, lambda part: block.mlp(block.norm2(part))),
    )
    for scale, branch in branches:
        chosen = torch.randperm(len(x), device=x.device)[:kept]
        residual = branch(x[chosen])
        if isinstance(scale, LayerScale):
            residual = residual * scale.gamma
        x = torch.index_add(x, 0, chosen, residual.to(x.dtype), alpha=len(x) / kept)
    return x
