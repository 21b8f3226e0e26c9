# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that share one encoder: every slice is encoded once, then decoded by all their heads."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size, refuse_non_finite
from ProstateXferLib.pipelines.postprocessing import smoothed
from ProstateXferLib.pipelines.preparation import PreparedSlices, prepare_slices
from ProstateXferLib.pipelines.slice_decoder import HeadTask, SliceDecoder
from ProstateXferLib.pipelines.tiling import Tiling
from ProstateXferLib.progress import Progress


@dataclass(frozen=True)
class Member:
    """One checkpoint of a group: its card and its heads' names in the group's network."""

    card: ModelCard
    heads: tuple[tuple[str, Head], ...]


class EncoderGroup:
    """A network with one encoder and the heads of all members.

    Args:
        network: encoder and heads; head names are "<member index>_<name in the card>".
        members: which heads belong to which card.
        preprocessing: common to all members.
        device, dtype: where and in which format it runs.
    """

    def __init__(
        self,
        network: MRDINOv3,
        members: Sequence[Member],
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.network = network.to(device=device, dtype=dtype).eval()
        self.members, self.preprocessing, self.device = tuple(members), preprocessing, device

    def predict(
        self, image: sitk.Image, *, tta: bool, skip_outside: bool, progress: Progress
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (structure name, probability (z, y, x) on the image's grid) for every head of every member."""
        prepared = prepare_slices(image, self.preprocessing)
        tiling = Tiling.of(tuple(prepared.slices.shape[1:]), self.preprocessing.tile_yx)
        encoder = self.network.dino_encoder
        tokens = tiling.tile_yx[0] * tiling.tile_yx[1] // 256
        # The widest activations of one tile: feed-forward and attention of a block, fp32, with room to spare.
        runner = AdaptiveRunner(
            self.network.to, self.device, default_batch_size(self.device, 4 * tokens * 12 * encoder.hidden), progress
        )
        decoder = SliceDecoder(self.network, self._tasks(prepared), tiling, tta=tta, skip_outside=skip_outside)
        with torch.inference_mode():
            logits = decoder.run(prepared.slices, runner, progress)
            self.device = runner.device
            for member in self.members:
                for name, head in member.heads:
                    refuse_non_finite(logits[name], member.card.name, next(self.network.parameters()).dtype)
                    yield from self._on_grid(logits.pop(name), head, member.card, prepared, image.GetSpacing()[::-1])

    def _tasks(self, prepared: PreparedSlices) -> list[HeadTask]:
        """Whole-image heads first, then heads that work within a structure another head finds."""
        slice_mm, pixel_mm = prepared.spacing_zyx[0], min(prepared.spacing_zyx[1:])
        tasks = []
        for member in self.members:
            owner = {
                s.name: name for name, head in member.heads for s in member.card.structures if s.value in head.values
            }
            smoothing_mm = {name: head.smoothing_mm for name, head in member.heads}
            for name, head in member.heads:
                if head.within is None:
                    tasks.append(HeadTask(name, len(head.values) + 1))
                    continue
                source = owner.get(head.within)
                if source is None:
                    raise ProstateXferError(
                        f"Model '{member.card.name}': no head finds '{head.within}' for '{head.name}'."
                    )
                # Smoothing may carry the gland as far as its width; and two pixels more, because gland and lesion are
                # judged after interpolation, which looks one pixel further each.
                reach_mm = head.margin_mm + smoothing_mm[source]
                near = {"margin_px": reach_mm / pixel_mm + 2, "margin_slices": int(reach_mm / slice_mm)}
                tasks.append(HeadTask(name, len(head.values) + 1, within=source, **near))
        return sorted(tasks, key=lambda task: task.within is not None)

    @staticmethod
    def _on_grid(
        logits: Tensor, head: Head, card: ModelCard, prepared: PreparedSlices, spacing_zyx: Sequence[float]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Logits (z, K, H, W) -> probabilities on the input's grid: resampled as logits, then softmax (nnU-Net)."""
        names = {structure.value: structure.name for structure in card.structures}
        restored = torch.from_numpy(prepared.restore(logits.transpose(0, 1)))
        probabilities = torch.softmax(restored, dim=0).numpy()
        for index, value in enumerate(head.values, start=1):
            yield names[value], smoothed(probabilities[index], head.smoothing_mm, spacing_zyx)


def group_by_encoder(checkpoints: Sequence[Checkpoint], device: torch.device, dtype: torch.dtype) -> list[EncoderGroup]:
    """Build the networks of `checkpoints`, one per distinct encoder, tapped blocks and preprocessing."""
    collected: dict[tuple, tuple[MRDINOv3, list[Member], dict, Preprocessing]] = {}
    for index, checkpoint in enumerate(checkpoints):
        network, card = checkpoint.build(), checkpoint.card
        key = (_fingerprint(network.dino_encoder), network.blocks, card.preprocessing)
        _, members, heads, _ = collected.setdefault(key, (network, [], {}, card.preprocessing))
        own = tuple((f"{index}_{head.name}", head) for head in card.heads)
        heads.update({name: network.heads[head.name] for name, head in own})
        members.append(Member(card, own))
    return [
        EncoderGroup(
            MRDINOv3(network.dino_encoder, heads, network.blocks), members, preprocessing, device=device, dtype=dtype
        )
        for network, members, heads, preprocessing in collected.values()
    ]


def _fingerprint(encoder: torch.nn.Module) -> str:
    digest = hashlib.sha256(f"{encoder.eps} {encoder.rope_dtype}".encode())
    for key, value in encoder.state_dict().items():
        digest.update(key.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
