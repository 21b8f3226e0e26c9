# SPDX-License-Identifier: Apache-2.0
"""Slices to logits: encode each tile once, decode whole-image heads in the body, then lesion heads near their gland.

Of several heads for one structure (folds of an ensemble) the first is decoded in the whole body, the others together
only where one of them shows it (`growing`).

Slices are worked off one after another, so that only a few slices' tokens are held: 512 x 512 x 60 with ViT-B would
otherwise need gigabytes for them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.growing import SHOWS, grow, shows
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
    which on that foreground counts as found; None where its highest logit does. `like` names a whole-image head before
    it that looks for the same structure, of which one piece is kept; it is decoded from where that one shows it on, up
    to `margin_slices` slices away, and `level` is the probability from which on a structure shows (`growing`).
    """

    head: str
    classes: int
    within: str | None = None
    margin_px: float = 0.0
    margin_slices: int = 0
    within_level: float | None = None
    like: str | None = None
    level: float = SHOWS


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
        self.mirrors, self.tasks = tuple(mirrors), tuple(tasks)
        within = [task for task in tasks if task.within is not None]
        like = [task for task in tasks if task.like is not None]
        self.stages = ([task for task in tasks if task not in (*within, *like)], like, within)

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
        results = {task.head: torch.empty(count, task.classes, *shape) for task in self.tasks}
        if mirrored is not None:
            mirrored |= {name: [torch.empty_like(mean) for _ in self.mirrors] for name, mean in results.items()}
        threshold = body_threshold(slices)
        together = max(1, runner.batch_size // (len(self.tiling.starts) * len(self.mirrors)))
        waiting = [deque() for _ in self.stages]
        for start in range(0, count, together):
            encoded = self._encode(slices[start : start + together], start, threshold, runner)
            waiting[0].append(encoded)
            for tasks, ready in self._ready(waiting, encoded.stop, count):
                self._decode(tasks, ready, results, runner, mirrored)
            progress.update("segment", encoded.stop / count, f"slice {encoded.stop} of {count}")
        return results

    def _ready(
        self, waiting: Sequence[deque[_Encoded]], known: int, count: int
    ) -> Iterator[tuple[Sequence[HeadTask], _Encoded]]:
        """The heads of each stage, and slices that they can be decoded in; then these wait for the next stage.

        Args:
            waiting: slices that wait for each stage.
            known: slices that are encoded, of `count`.
        """
        for stage, tasks in enumerate(self.stages):
            # A lesion head waits until the gland is known in the slices above, too.
            reach = max((task.margin_slices for task in tasks), default=0)
            while waiting[stage] and (known == count or waiting[stage][0].stop + reach <= known):
                ready = waiting[stage].popleft()
                yield tasks, ready
                if stage + 1 < len(waiting):
                    waiting[stage + 1].append(ready)
            known = waiting[stage][0].start if waiting[stage] else known

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
        for company in _companies(tasks):
            total = None
            for index, logits in enumerate(self._logits(company, encoded, results, runner)):
                total = logits if total is None else total.to(logits.device) + logits
                if mirrored is not None:
                    for task, own in zip(company, logits, strict=True):
                        mirrored[task.head][index][here] = self.tiling.blend(own).cpu()
            for task, own in zip(company, total / len(self.mirrors), strict=True):
                results[task.head][here] = self.tiling.blend(own).cpu()

    def _where(self, task: HeadTask, encoded: _Encoded, results: dict[str, Tensor]) -> Tensor | None:
        """Tokens (tiles, N) to decode, None for all."""
        if encoded.body is None:
            return None
        if task.within is None:
            return encoded.body
        found_by = partial(_foreground, level=task.within_level)
        return self._near(results[task.within], found_by, task, encoded)

    def _seeds(self, task: HeadTask, encoded: _Encoded, results: dict[str, Tensor]) -> Tensor | None:
        """Tokens (tiles, N) near which the head `like` this one shows the structure; None where this one needs none."""
        if encoded.body is None or task.like is None:
            return None
        return self._near(results[task.like], partial(shows, level=task.level), task, encoded)

    def _near(self, source: Tensor, found_by: Callable[[Tensor], Tensor], task: HeadTask, encoded: _Encoded) -> Tensor:
        """Tokens (tiles, N) within the task's margins of what is found in the logits of another head (z, K, H, W)."""
        reach = task.margin_slices
        found = [
            found_by(source[max(0, z - reach) : z + reach + 1]).any(dim=0) for z in range(encoded.start, encoded.stop)
        ]
        # Grown before it is cut: a tile must also know of the gland that ends just outside it.
        near = self.tiling.cut(dilate(torch.stack(found), task.margin_px).float())
        return tokens_near(near[:, 0] > 0, 0).to(encoded.body.device)

    def _logits(
        self, company: Sequence[HeadTask], encoded: _Encoded, results: dict[str, Tensor], runner: AdaptiveRunner
    ) -> Iterator[Tensor]:
        """For each mirroring the logits of these heads (heads, tiles, K, h, w), mirrored back."""
        where, seeds = (tokens_of(company[0], encoded, results) for tokens_of in (self._where, self._seeds))
        for part, axes in zip(encoded.tokens.chunk(len(self.mirrors)), self.mirrors, strict=True):
            chosen = torch.ones(part.shape[:2], dtype=torch.bool, device=part.device) if where is None else where
            chosen, start = self._mirrored(chosen, axes), self._mirrored(seeds, axes)
            if start is None:
                logits = self._decoded(company, part, chosen, runner)
            else:
                logits = self._grown(company, part, chosen, start, runner)
            yield logits.flip(axes) if axes else logits

    def _mirrored(self, tokens: Tensor | None, axes: tuple[int, ...]) -> Tensor | None:
        """Tokens (tiles, N) as they lie in mirrored tiles."""
        if tokens is None or not axes:
            return tokens
        return tokens.view(-1, *self._rows_columns).flip(axes).flatten(1)

    def _grown(
        self, company: Sequence[HeadTask], tokens: Tensor, allowed: Tensor, start: Tensor, runner: AdaptiveRunner
    ) -> Tensor:
        """Logits (heads, tiles, K, h, w) of what shows in `start` or, to one of the heads, in the middle of a token."""
        level = min(task.level for task in company)
        for task in company:
            centres = self._in_batches(partial(self._centres, task.head, tokens), tokens, runner)
            start = start | (shows(centres, level).to(start.device) & allowed)
        return grow(lambda new: self._decoded(company, tokens, new, runner), start, allowed, self._rows_columns, level)

    def _centres(self, head: str, tokens: Tensor, here: Tensor, device: torch.device) -> Tensor:
        """Logits (tiles, K, N) in the middle of each token of the tiles `here`."""
        return self.network.decode_centres(head, tokens[here].to(device)).float().transpose(1, 2)

    def _decoded(self, company: Sequence[HeadTask], tokens: Tensor, chosen: Tensor, runner: AdaptiveRunner) -> Tensor:
        """Logits (heads, tiles, K, h, w) of the chosen tokens."""

        def decode(head: str, here: Tensor, device: torch.device) -> Tensor:
            part, where = tokens[here].to(device), chosen[here].to(device)
            return self.network.decode_where(head, part, self.tiling.tile_yx, where, fill=NOT_DECODED).float()

        logits = [self._in_batches(partial(decode, task.head), tokens, runner) for task in company]
        # Where the GPU's memory runs out on the way, the later ones are on the CPU.
        return torch.stack([own.to(logits[-1].device) for own in logits])

    def _in_batches(
        self, run: Callable[[Tensor, torch.device], Tensor], tokens: Tensor, runner: AdaptiveRunner
    ) -> Tensor:
        """`run` for all tiles of `tokens`, by their numbers; in batches, because decoding needs the most memory."""
        every = torch.arange(len(tokens))
        if runner.device.type == "cpu":  # the head takes few tokens at a time there by itself
            return run(every, every.device)  # tokens of before memory ran out may lie on the GPU still
        return torch.cat(runner.run(lambda tiles: run(tiles.to(tokens.device), tiles.device), every))

    @property
    def _rows_columns(self) -> tuple[int, int]:
        """Tokens of a tile."""
        return self.tiling.tile_yx[0] // PATCH, self.tiling.tile_yx[1] // PATCH


def _companies(tasks: Sequence[HeadTask]) -> list[list[HeadTask]]:
    """Tasks `like` the same head together, every other one alone; in running order."""
    companies: dict[tuple, list[HeadTask]] = {}
    for task in tasks:
        companies.setdefault(("like", task.like) if task.like is not None else ("alone", task.head), []).append(task)
    return list(companies.values())


def _foreground(logits: Tensor, level: float | None) -> Tensor:
    """Logits (z, K, H, W) -> (z, H, W) bool, where one of the classes after the background is found."""
    if level is None:
        return logits.argmax(dim=1) > 0
    return (torch.softmax(logits, dim=1)[:, 1:] >= level).any(dim=1)
