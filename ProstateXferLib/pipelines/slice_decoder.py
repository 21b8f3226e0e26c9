# SPDX-License-Identifier: Apache-2.0
"""Slices to logits: encode each tile once, decode whole-image heads in the body, then lesion heads near their gland.

Slices are worked off one after another, so that only a few slices' tokens are held: 512 x 512 x 60 with ViT-B would
otherwise need gigabytes for them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.mirroring import mirrorings
from ProstateXferLib.pipelines.regions import body_threshold, body_tokens, dilate, tokens_near
from ProstateXferLib.pipelines.tiling import Tiling
from ProstateXferLib.progress import Progress

NOT_DECODED = -20.0
"""Logit of every class but the background in tokens that are not decoded: a probability of 2e-9."""


@dataclass(frozen=True)
class HeadTask:
    """One head to run: `classes` logits; `within` names the head around whose foreground alone it is decoded.

    Around is `margin_px` pixels in-plane and `margin_slices` slices up and down. `within_level` is the probability from
    which on that foreground counts as found; None where its highest logit does.
    """

    head: str
    classes: int
    within: str | None = None
    margin_px: float = 0.0
    margin_slices: int = 0
    within_level: float | None = None


@dataclass(frozen=True)
class _Encoded:
    """Slices `start` to `stop` - 1: tokens (mirrorings * tiles, N, E), and tokens in the body (tiles, N) or None."""

    start: int
    stop: int
    tokens: Tensor
    body: Tensor | None


def slice_mirrorings(tta: bool, allowed: Sequence[str] | None = None) -> list[tuple[int, ...]]:
    """The mirrorings to average over, as axes of a tensor counted from its end; `allowed` of "y", "x", None is both."""
    axes = [axis for name, axis in (("x", -1), ("y", -2)) if allowed is None or name in allowed]
    return [tuple(reversed(subset)) for subset in mirrorings(axes)] if tta else [()]


class SliceDecoder:
    """Runs the heads of one network over prepared slices.

    Args:
        network: encoder and heads.
        tasks: heads in running order; a head that works within another comes after it.
        tiling: how slices are cut.
        mirrors: average logits over these (`slice_mirrorings`).
        skip_outside: False decodes every token.
    """

    def __init__(
        self,
        network: MRDINOv3,
        tasks: Sequence[HeadTask],
        tiling: Tiling,
        *,
        mirrors: Sequence[tuple[int, ...]] = ((),),
        skip_outside: bool,
    ) -> None:
        self.network, self.tiling, self.skip_outside = network, tiling, skip_outside
        self.whole = [task for task in tasks if task.within is None]
        self.within = [task for task in tasks if task.within is not None]
        self.mirrors = tuple(mirrors)

    def run(
        self,
        slices: Tensor,
        runner: AdaptiveRunner,
        progress: Progress,
        *,
        mirrored: dict[str, list[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Normalised slices (z, H, W) on the CPU -> head name -> logits (z, K, H, W), fp32, on the CPU.

        Args:
            slices: of one study.
            runner: runs batches of tiles.
            progress: told which slice is done.
            mirrored: filled with head name -> the logits of every mirroring alone, in the order of the mirrorings;
                tokens are chosen by the mean of all. Needs as much memory again for each.
        """
        count, shape = len(slices), tuple(slices.shape[1:])
        results = {t.head: torch.empty(count, t.classes, *shape) for t in (*self.whole, *self.within)}
        if mirrored is not None:
            mirrored |= {name: [torch.empty_like(mean) for _ in self.mirrors] for name, mean in results.items()}
        threshold = body_threshold(slices)
        together = max(1, runner.batch_size // (len(self.tiling.starts) * len(self.mirrors)))
        # A lesion head waits until the gland is known in the slices above, too.
        reach = max((task.margin_slices for task in self.within), default=0)
        waiting: deque[_Encoded] = deque()
        for start in range(0, count, together):
            encoded = self._encode(slices[start : start + together], start, threshold, runner)
            self._decode(self.whole, encoded, results, runner, mirrored)
            waiting.append(encoded)
            while waiting and (encoded.stop == count or waiting[0].stop + reach <= encoded.stop):
                self._decode(self.within, waiting.popleft(), results, runner, mirrored)
            progress.update("segment", encoded.stop / count, f"slice {encoded.stop} of {count}")
        return results

    def _encode(self, part: Tensor, start: int, threshold: float, runner: AdaptiveRunner) -> _Encoded:
        tiles = self.tiling.cut(part)
        mirrored = torch.cat([tiles.flip(axes) if axes else tiles for axes in self.mirrors])
        dtype = next(self.network.parameters()).dtype
        tokens = torch.cat(runner.run(lambda batch: self.network.encode(batch.to(dtype)), mirrored))
        body = body_tokens(tiles, threshold).to(tokens.device) if self.skip_outside else None
        return _Encoded(start, start + len(part), tokens, body)

    def _decode(
        self,
        tasks: Sequence[HeadTask],
        encoded: _Encoded,
        results: dict[str, Tensor],
        runner: AdaptiveRunner,
        mirrored: dict[str, list[Tensor]] | None,
    ) -> None:
        """Put the logits of these heads into `results`, and those of single mirrorings into `mirrored`."""
        here = slice(encoded.start, encoded.stop)
        for task in tasks:
            total = None
            parts = self._head_logits(task, encoded.tokens, self._where(task, encoded, results), runner)
            for index, logits in enumerate(parts):
                total = logits if total is None else total.to(logits.device) + logits
                if mirrored is not None:
                    mirrored[task.head][index][here] = self.tiling.blend(logits).cpu()
            results[task.head][here] = self.tiling.blend(total / len(self.mirrors)).cpu()

    def _where(self, task: HeadTask, encoded: _Encoded, results: dict[str, Tensor]) -> Tensor | None:
        """Tokens (tiles, N) to decode, None for all."""
        if encoded.body is None:
            return None
        if task.within is None:
            return encoded.body
        reach, source = task.margin_slices, results[task.within]
        found = [
            _foreground(source[max(0, z - reach) : z + reach + 1], task.within_level).any(dim=0)
            for z in range(encoded.start, encoded.stop)
        ]
        # Grown before it is cut: a tile must also know of the gland that ends just outside it.
        near = self.tiling.cut(dilate(torch.stack(found), task.margin_px).float())
        return tokens_near(near[:, 0] > 0, 0).to(encoded.body.device)

    def _head_logits(
        self, task: HeadTask, tokens: Tensor, where: Tensor | None, runner: AdaptiveRunner
    ) -> Iterator[Tensor]:
        """Tokens of all mirrorings -> for each mirroring logits (tiles, K, h, w), mirrored back."""
        parts = tokens.chunk(len(self.mirrors))
        rows, columns = self.tiling.tile_yx[0] // 16, self.tiling.tile_yx[1] // 16
        for part, axes in zip(parts, self.mirrors, strict=True):
            chosen = torch.ones(part.shape[:2], dtype=torch.bool, device=part.device) if where is None else where
            if axes:
                chosen = chosen.view(-1, rows, columns).flip(axes).flatten(1)
            logits = self._decoded(task.head, part, chosen, runner)
            yield logits.flip(axes) if axes else logits

    def _decoded(self, head: str, tokens: Tensor, chosen: Tensor, runner: AdaptiveRunner) -> Tensor:
        """Logits (tiles, K, h, w) of the chosen tokens; run in batches, because decoding needs the most memory."""

        def decode(tiles: Tensor) -> Tensor:
            here = tiles.to(tokens.device)
            part, where = (values[here].to(tiles.device) for values in (tokens, chosen))
            return self.network.decode_where(head, part, self.tiling.tile_yx, where, fill=NOT_DECODED).float()

        every = torch.arange(len(tokens))
        if runner.device.type == "cpu":  # the head takes few tokens at a time there by itself
            return decode(every)
        return torch.cat(runner.run(decode, every))


def _foreground(logits: Tensor, level: float | None) -> Tensor:
    """Logits (z, K, H, W) -> (z, H, W) bool, where one of the classes after the background is found."""
    if level is None:
        return logits.argmax(dim=1) > 0
    return (torch.softmax(logits, dim=1)[:, 1:] >= level).any(dim=1)
