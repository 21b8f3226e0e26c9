# SPDX-License-Identifier: Apache-2.0
"""`PerceptualLoss`: how far the DINOv3 tokens of synthetic slices are from those of the true ones."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH, DINOv3
from ProstateXferLib.networks.dinov3_training import TrainingNoise, noisy_intermediate
from ProstateXferLib.training.losses.perceptual.criteria import CRITERIA, REFERENCE_CRITERIA
from ProstateXferLib.training.losses.perceptual.options import STOCHASTIC_ROPE, TOKEN_ORDER, PerceptualOptions

SCALES = (1.0, 0.5, 0.25)
"""Image scales of the multi-resolution variant."""
RANDOM_POSITIONS = TrainingNoise(rope_rescale=2.0)
"""What DINOv3's training mode does to the reference's loss: a factor from [1/2, 2], drawn in every block."""


class PerceptualLoss:
    """Mean over encoder levels of a criterion on normed patch tokens, added up over image scales.

    The encoder sees [-1, 1] in three equal channels, without ImageNet's mean and deviation, as the reference's does. It
    is no `nn.Module`, so that the encoder is neither trained, saved nor switched to training mode with the learner.

    Args:
        encoder: DINOv3 in evaluation mode; none of its parameters may be trained.
        blocks: its four tapped blocks, 0-based, shallow first.
        options: criterion, levels, scales, quirks.
    """

    def __init__(self, encoder: DINOv3, blocks: Sequence[int], options: PerceptualOptions) -> None:
        self.encoder = encoder
        self.options = options
        self.blocks = [block for block, used in zip(blocks, options.levels, strict=True) if used]
        criteria = REFERENCE_CRITERIA if TOKEN_ORDER in options.reference_quirks else CRITERIA
        self._criterion = criteria[options.criterion]

    def __call__(self, fake: Tensor, real: Tensor) -> Tensor:
        """Scalar loss of (B, 1, H, W) synthetic and true slices in [-1, 1]; its gradient flows through `fake` alone."""
        self.encoder.to(fake.device)
        scales = SCALES if self.options.multi_resolution else SCALES[:1]
        return torch.stack([self._at(scale, fake, real) for scale in scales]).sum()

    def _at(self, scale: float, fake: Tensor, real: Tensor) -> Tensor:
        fakes = self._tokens(scaled(fake, scale))
        with torch.no_grad():
            reals = self._tokens(scaled(real, scale))
        # In fp32 under mixed precision, too: bf16 has two digits, and Gram matrices are products.
        with torch.autocast(fake.device.type, enabled=False):
            pairs = zip(fakes, reals, strict=True)
            return torch.stack([self._criterion(one.float(), other.float()) for one, other in pairs]).mean()

    def _tokens(self, image: Tensor) -> list[Tensor]:
        """(B, 1, H, W) -> one (B, N, C) a level."""
        channels = image.expand(-1, 3, -1, -1)
        if STOCHASTIC_ROPE in self.options.reference_quirks:
            return noisy_intermediate(self.encoder, channels, self.blocks, noise=RANDOM_POSITIONS)
        return self.encoder.intermediate(channels, self.blocks)


def scaled(image: Tensor, scale: float) -> Tensor:
    """(B, 1, H, W) bilinearly resized, half-pixel centres, no antialiasing.

    Raises:
        ProstateXferError: the scaled sides are no multiples of the encoder's patches.
    """
    if scale != 1:
        image = F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
    if image.shape[-2] % PATCH or image.shape[-1] % PATCH:
        raise ProstateXferError(
            f"The perceptual loss sees slices of {image.shape[-2]} x {image.shape[-1]} pixels at scale {scale:g}, no "
            f"multiples of {PATCH}: change size_yx (multiples of 64 for multi_resolution)."
        )
    return image
