# SPDX-License-Identifier: Apache-2.0
"""The head of self-supervised training: tokens to scores of prototypes. Not part of what a trained encoder ships with.

Source: DINOv3 (arXiv 2508.10104), reference notes 3.4; parameter names of Meta's and MedDINOv3's files.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class DINOHead(nn.Module):
    """Three linear layers with GELU between, onto the unit sphere, then one score a prototype.

    Args:
        inputs: width of a token.
        prototypes: number of scores K.
        hidden, bottleneck: widths of the inner layers and of the unit vectors.
        prototype_std: standard deviation of the prototypes at the start. With the reference's 0.02 the first scores are
            nearly equal and a training needs thousands of steps to leave that state; short ones need larger prototypes.
    """

    def __init__(
        self,
        inputs: int,
        prototypes: int,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        prototype_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last_layer = nn.Linear(bottleneck, prototypes, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=prototype_std if layer is self.last_layer else 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) -> (..., K)."""
        inner = self.mlp(tokens).float()  # half precision has no number as small as eps
        return self.last_layer(F.normalize(inner, dim=-1, eps=1e-12).to(self.last_layer.weight.dtype))
