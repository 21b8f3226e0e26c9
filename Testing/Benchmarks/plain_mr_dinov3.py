# SPDX-License-Identifier: Apache-2.0
"""A plain module-by-module transcription of the segmentation network, as one would first write it: the yardstick.

Token sequence, per-block attention and feed-forward as in the library; the head as published: transposed convolutions,
channel LayerNorm on (B, C, H, W), GELU, 1 x 1 convolution, everything decoded.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.networks.mr_dinov3 import MRDINOv3


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), written out."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class PlainMRDINOv3(nn.Module):
    """Shares the weights of an `MRDINOv3` and runs its encoder; decodes plainly."""

    def __init__(self, network: MRDINOv3) -> None:
        super().__init__()
        self.encoder, self.blocks = network.dino_encoder, network.blocks
        self.heads = nn.ModuleDict()
        for name, head in network.heads.items():
            layers = []
            for convolution, norm in head.decode[:-1]:
                layers += [convolution, ChannelNorm(norm), nn.GELU()]
            self.heads[name] = nn.Sequential(*layers, head.decode[-1])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
        tokens = self.plain_encoder(image.repeat(1, 3, 1, 1))
        maps = [t.transpose(1, 2).reshape(len(t), -1, rows, columns) for t in tokens]
        features = torch.cat(maps, dim=1)
        return {name: head(features) for name, head in self.heads.items()}

    def plain_encoder(self, image: Tensor) -> list[Tensor]:
        """Meta's block, line by line: rotation of the patch tokens alone, position tables made anew for every block."""
        encoder = self.encoder
        x, _, _ = encoder._embed(image, None)
        prefix, taken = encoder.prefix, []
        for index, block in enumerate(encoder.blocks):
            sin, cos = self._tables(image)
            attention = block.attn
            batch, count, width = x.shape
            qkv = self._qkv(attention.qkv, block.norm1(x)).reshape(
                batch, count, 3, attention.heads, width // attention.heads
            )
            q, k, v = (t.transpose(1, 2) for t in torch.unbind(qkv, 2))
            q, k = (torch.cat([t[:, :, :prefix], _turn(t[:, :, prefix:], sin, cos)], dim=2) for t in (q, k))
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, width)
            x = x + block.ls1.gamma * F.linear(out, attention.proj.weight, attention.proj.bias)
            hidden = F.gelu(F.linear(block.norm2(x), block.mlp.fc1.weight, block.mlp.fc1.bias))
            x = x + block.ls2.gamma * F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)
            if index in self.blocks:
                taken.append(encoder.norm(x)[:, prefix:])
        return taken

    @staticmethod
    def _qkv(layer: nn.Linear, x: Tensor) -> Tensor:
        bias = layer.bias if layer.bias is None else layer.bias * layer.bias_mask
        return F.linear(x, layer.weight, bias)

    def _tables(self, image: Tensor) -> tuple[Tensor, Tensor]:
        from ProstateXferLib.networks.rope import rope_tables

        encoder = self.encoder
        rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
        return rope_tables(rows, columns, encoder.rope_embed.periods, dtype=encoder.rope_dtype, prefix=0)


def _turn(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
