# SPDX-License-Identifier: Apache-2.0
"""What a segmentation stage minimises: for an MR-DINOv3 on tokens, for every other network on pixels or voxels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.training.losses.deep_supervision import deeply_supervised
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions, dice_ce
from ProstateXferLib.training.losses.token_subset import TokenShares, label_patches, learned_tokens, tokens_around
from ProstateXferLib.training.tasks.segmentation_heads import HeadTarget


class TokenLearner(nn.Module):
    """The sum over the heads of an MR-DINOv3 of Dice + cross-entropy on the tokens that each of them decodes.

    A frozen encoder runs without gradients and in evaluation mode, as MR-DINOv3's supervised stage has it
    (mr-dinov3-and-nnunet.md, 2.6). Batches that bring tokens instead of images (cached features) skip it.

    Args:
        network: encoder and heads.
        targets: one a head.
        within: head name -> target of the structure near which alone that head is decoded, in training as in inference.
        loss: `batch_dice` must be true: tokens of one slice are no sample of their own.
        shares: see `TokenShares`; of heads that are decoded everywhere.
    """

    def __init__(
        self,
        network: MRDINOv3,
        targets: Sequence[HeadTarget],
        within: Mapping[str, HeadTarget],
        *,
        loss: DiceCEOptions,
        shares: TokenShares,
    ) -> None:
        super().__init__()
        if not loss.batch_dice:
            raise ProstateXferError("A patch-decode head learns from single tokens: its loss needs batch_dice: true.")
        self.network, self.loss, self.shares = network, loss, shares
        self.targets, self.within = tuple(targets), dict(within)

    def forward(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its part per head.

        Args:
            batch: "image" (B, 1, H, W) or "tokens" (B, N, E); "labels" (B, H, W) int64; "known" (B, S) bool; "draw"
                (B, N) uniform random numbers, not needed where every token is decoded.
            step: not used; every sample brings its own randomness.
        """
        labels, known = batch["labels"], batch["known"]
        tokens = batch["tokens"] if "tokens" in batch else self._encode(batch["image"])
        total, parts = tokens.new_zeros((), dtype=torch.float32), {}
        for target in self.targets:
            classes = target.of(labels, known)
            chosen = self._chosen(target, classes, batch)
            logits = self.network.heads[target.name].decode_tokens(tokens[chosen])
            part = dice_ce(logits, label_patches(classes)[chosen], self.loss)
            total, parts[f"loss_{target.name}"] = total + part, part.detach()
        return total, parts

    def _encode(self, image: Tensor) -> Tensor:
        encoder = self.network.dino_encoder
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            return self.network.encode(image)
        encoder.eval()
        with torch.no_grad():
            return self.network.encode(image)

    def _chosen(self, target: HeadTarget, classes: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Tokens (B, N) bool that this head decodes."""
        taught = (classes >= 0).flatten(1).any(1, keepdim=True)
        if target.name in self.within:
            around = self.within[target.name].of(batch["labels"], batch["known"])
            # Where the surrounding structure was not drawn there is no saying what is near it.
            return taught & (tokens_around(around > 0) | (around < 0).flatten(1).all(1, keepdim=True))
        if self.shares.all:
            rows, columns = classes.shape[1] // 16, classes.shape[2] // 16
            return taught.expand(-1, rows * columns)
        return taught & learned_tokens(classes > 0, self.shares, batch["draw"])


class DenseLearner(nn.Module):
    """The sum over heads of Dice + cross-entropy on their channels of one network's logits, deeply supervised.

    Args:
        network: image (B, C, ...) -> logits (B, K, ...), or in training a sequence of them from full to coarsest
            resolution; the heads' channels follow each other, each head with its own background first.
        targets: one a head, in channel order.
        loss: see `DiceCEOptions`.
    """

    def __init__(self, network: nn.Module, targets: Sequence[HeadTarget], *, loss: DiceCEOptions) -> None:
        super().__init__()
        self.network, self.targets, self.loss = network, tuple(targets), loss

    def forward(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its part per head.

        Args:
            batch: "image" (B, C, H, W) or (B, C, D, H, W); "labels" (B, ...) int64; "known" (B, S) bool.
            step: not used.
        """
        outputs = self.network(batch["image"])
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        total, parts, first = outputs[0].new_zeros((), dtype=torch.float32), {}, 0
        for target in self.targets:
            channels = slice(first, first + target.classes)
            first += target.classes
            part = deeply_supervised(
                lambda logits, truth: dice_ce(logits, truth, self.loss),
                [output[:, channels] for output in outputs],
                target.of(batch["labels"], batch["known"]),
            )
            total, parts[f"loss_{target.name}"] = total + part, part.detach()
        return total, parts
