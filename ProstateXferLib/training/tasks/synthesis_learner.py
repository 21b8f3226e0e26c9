# SPDX-License-Identifier: Apache-2.0
"""What a synthesis stage minimises."""

import torch
from torch import Tensor, nn

from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.training.losses.perceptual.loss import PerceptualLoss


class SynthesisLearner(nn.Module):
    """Mean absolute error of all pixels plus a perceptual loss (DGCF, reference notes dgcf.md, section 4).

    Args:
        network: generator and encoder. A frozen encoder runs without gradients and in evaluation mode.
        perceptual: the second loss; None leaves it out.
        weight: its factor.
    """

    def __init__(self, network: GuidedDGCF, perceptual: PerceptualLoss | None = None, weight: float = 1.0) -> None:
        super().__init__()
        self.network, self.perceptual, self.weight = network, perceptual, weight

    def forward(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its parts.

        Args:
            batch: "image" and "target" (B, 1, H, W) in [-1, 1]; "features" (B, 4, N, C) where they are stored.
            step: not used; what is random comes from torch's generator, which the engine seeds.
        """
        image, target = batch["image"], batch["target"]
        features = batch["features"] if "features" in batch else self._features(image)
        fake = self.network.generator(image, features).float()
        loss = (fake - target).abs().mean()
        parts = {"l1": loss.detach()}
        if self.perceptual is not None:
            distance = self.perceptual(fake, target)
            parts["perceptual"] = distance.detach()
            loss = loss + self.weight * distance
        return loss, parts

    def _features(self, image: Tensor) -> Tensor:
        encoder = self.network.dino_encoder
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            return self.network.features(image)
        encoder.eval()
        with torch.no_grad():  # which also lets packed weights be used
            return self.network.features(image)
