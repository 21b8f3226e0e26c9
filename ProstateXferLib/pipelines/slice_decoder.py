# SPDX-License-Identifier: Apache-2.0
"""Slices to logits: encode each tile once, decode whole-image heads in the body, then lesion heads near their gland.

Slices are worked off one after another, so that only one slice's tokens are held: 512 x 512 x 60 with ViT-B would
otherwise need gigabytes for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.regions import body_threshold, body_tokens, tokens_near
from ProstateXferLib.pipelines.tiling import Tiling
from ProstateXferLib.progress import Progress

NOT_DECODED = -20.0
"""Logit of every class but the background in tokens that are not decoded: a probability of 2e-9."""
_MIRRORS = ((), (-1,), (-2,), (-2, -1))


@dataclass(frozen=True)
class HeadTask:
    """One head to run: `classes` logits; `within` names the head around whose foreground alone it is decoded."""

    head: str
    classes: int
    within: str | None = None
    margin_px: float = 0.0


class SliceDecoder:
    """Runs the heads of one network over prepared slices.

    Args:
        network: encoder and heads.
        tasks: heads in running order; a head that works within another comes after it.
        tiling: how slices are cut.
        tta: average logits over the four mirrorings.
        skip_outside: False decodes every token.
    """

    def __init__(
        self, network: MRDINOv3, tasks: Sequence[HeadTask], tiling: Tiling, *, tta: bool, skip_outside: bool
    ) -> None:
        self.network, self.tasks, self.tiling, self.skip_outside = network, tasks, tiling, skip_outside
        self.mirrors = _MIRRORS if tta else _MIRRORS[:1]

    def run(self, slices: Tensor, runner: AdaptiveRunner, progress: Progress) -> dict[str, Tensor]:
        """Normalised slices (z, H, W) on the CPU -> head name -> logits (z, K, H, W), fp32, on the CPU."""
        shape = tuple(slices.shape[1:])
        results = {task.head: torch.empty(len(slices), task.classes, *shape) for task in self.tasks}
        threshold = body_threshold(slices)
        together = max(1, runner.batch_size // (len(self.tiling.starts) * len(self.mirrors)))
        for start in range(0, len(slices), together):
            part = slices[start : start + together]
            for head, logits in self._decode(part, threshold, runner).items():
                results[head][start : start + len(part)] = logits
            progress.update("segment", (start + len(part)) / len(slices), f"slice {start + len(part)} of {len(slices)}")
        return results

    def _decode(self, slices: Tensor, threshold: float, runner: AdaptiveRunner) -> dict[str, Tensor]:
        tiles = self.tiling.cut(slices)
        mirrored = torch.cat([tiles.flip(axes) if axes else tiles for axes in self.mirrors])
        dtype = next(self.network.parameters()).dtype
        tokens = torch.cat(runner.run(lambda batch: self.network.encode(batch.to(dtype)), mirrored))
        body = body_tokens(tiles, threshold).to(tokens.device) if self.skip_outside else None
        results: dict[str, Tensor] = {}
        for task in self.tasks:
            where = self._where(task, results, body, len(tiles))
            results[task.head] = self.tiling.blend(self._head_logits(task, tokens, where)).cpu()
        return results

    def _where(self, task: HeadTask, results: dict[str, Tensor], body: Tensor | None, tiles: int) -> Tensor | None:
        """Tokens (tiles, N) to decode, None for all."""
        if body is None:
            return None
        if task.within is None:
            return body
        found = results[task.within].argmax(dim=1) > 0
        near = tokens_near(self.tiling.cut(found.float())[:, 0] > 0, task.margin_px)
        return near.to(body.device)

    def _head_logits(self, task: HeadTask, tokens: Tensor, where: Tensor | None) -> Tensor:
        """Tokens of all mirrorings -> logits (tiles, K, h, w), mirrored back and averaged."""
        parts = tokens.chunk(len(self.mirrors))
        rows, columns = self.tiling.tile_yx[0] // 16, self.tiling.tile_yx[1] // 16
        total = None
        for part, axes in zip(parts, self.mirrors, strict=True):
            chosen = torch.ones(part.shape[:2], dtype=torch.bool, device=part.device) if where is None else where
            if axes:
                chosen = chosen.view(-1, rows, columns).flip(axes).flatten(1)
            logits = self.network.decode_where(task.head, part, self.tiling.tile_yx, chosen, fill=NOT_DECODED).float()
            logits = logits.flip(axes) if axes else logits
            total = logits if total is None else total + logits
        return total / len(self.mirrors)
