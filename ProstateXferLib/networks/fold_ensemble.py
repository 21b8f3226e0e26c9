# SPDX-License-Identifier: Apache-2.0
"""Networks of one architecture that were trained on different folds, as one network."""

from collections.abc import Mapping

from torch import Tensor, nn


class FoldEnsemble(nn.Module):
    """Its logits are the mean of its folds'.

    Args:
        folds: fold name -> network.
    """

    def __init__(self, folds: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleDict(folds)

    def forward(self, image: Tensor) -> Tensor:
        """What every fold takes -> logits (B, K, ...)."""
        return sum(network(image) for network in self.folds.values()) / len(self.folds)
