# SPDX-License-Identifier: Apache-2.0
"""`Synthesizer`: an MR or CBCT goes in, a CT in HU on the same grid comes out."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.device import (
    AdaptiveRunner,
    default_batch_size,
    precision_name,
    refuse_non_finite,
    resolve_device,
    resolve_precision,
)
from ProstateXferLib.pipelines.inputs import single_input
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.pipelines.provenance import Provenance, WarningLog, image_sha256, library_versions, now_utc
from ProstateXferLib.progress import Progress, SilentProgress

_SLICES_PER_REPORT = 4


class Synthesizer:
    """Translates slices with a DGCF and its DINOv3 encoder, features computed on the fly.

    Args:
        checkpoint: a `Checkpoint`, a path or a registered name.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        ProstateXferError: no such checkpoint or device, or a checkpoint of another task.
    """

    def __init__(self, checkpoint: Checkpoint | str | Path, device: str = "auto", precision: str = "auto") -> None:
        self.checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        card = self.checkpoint.card
        if card.task != "synthesis":
            raise ProstateXferError(
                f"'{card.name}' is a {card.task} model and makes no CT: choose a synthesis model (prostatexfer models)."
            )
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self._network: GuidedDGCF | None = None

    @property
    def network(self) -> GuidedDGCF:
        """The network, built on first use."""
        if self._network is None:
            network = self.checkpoint.build()
            if not isinstance(network, GuidedDGCF):
                raise ProstateXferError(
                    f"'{self.checkpoint.card.name}' was imported without the DINOv3 encoder it needs: import it "
                    "again with --encoder FILE."
                )
            network = network.to(device=self.device, dtype=self.dtype)
            self._network = network.to(memory_format=torch.channels_last)
        return self._network

    def predict(self, image: sitk.Image | Mapping[str, sitk.Image], progress: Progress | None = None) -> sitk.Image:
        """The synthetic CT of one study: int16 HU on the image's own grid.

        Args:
            image: the image, or a mapping from sequence name ("T2w", "CBCT") to image.
            progress: where to report and whom to ask whether to stop.

        Raises:
            ProstateXferError: an image that cannot be translated, in one sentence.
            CancelledError: the user stopped.
        """
        return self.predict_with_provenance(image, progress)[0]

    def predict_with_provenance(
        self, image: sitk.Image | Mapping[str, sitk.Image], progress: Progress | None = None
    ) -> tuple[sitk.Image, Provenance]:
        """As `predict`, with the record of the run beside."""
        card = self.checkpoint.card
        image = single_input(image, card)
        check_image(image, f"{card.inputs[0]} image")
        log = WarningLog(progress or SilentProgress())
        started, clock = now_utc(), time.perf_counter()
        prepared = prepare_slices(image, card.preprocessing)
        hounsfield = prepared.restore(self._translate(prepared.slices, log))
        low, high = card.hu_range
        rounded = np.clip(np.rint(hounsfield), low, high).astype(np.int16)
        provenance = Provenance(
            models=({"name": card.name, "sha256": self.checkpoint.sha256},),
            options={"device": str(self.device), "precision": precision_name(self.dtype)},
            input_sha256={card.inputs[0]: image_sha256(image)},
            versions=library_versions(),
            started_utc=started,
            seconds=round(time.perf_counter() - clock, 3),
            warnings=tuple(log.warnings),
        )
        return Grid.of(image).image(rounded), provenance

    def _translate(self, slices: Tensor, log: WarningLog) -> Tensor:
        """Slices (z, H, W) in [-1, 1] -> HU (z, H, W), fp32, in network size."""
        height, width = slices.shape[1:]
        padded = pad_to_multiple(slices[:, None], 16)
        network = self.network
        # The first level's activations dominate: a handful of c-channel maps of full size.
        item_bytes = 4 * height * width * network.generator.base_channels * 12
        runner = AdaptiveRunner(network.to, self.device, default_batch_size(self.device, item_bytes), log)
        low, high = self.checkpoint.card.hu_range
        parts, together = [], max(_SLICES_PER_REPORT, runner.batch_size)  # the runner's own number may fall meanwhile
        with torch.inference_mode():
            for start in range(0, len(padded), together):
                chunk = padded[start : start + together].to(self.dtype)
                parts += [part.float().cpu() for part in runner.run(network, chunk)]
                done = min(len(padded), start + len(chunk))
                log.update("synthesize", done / len(padded), f"slice {done} of {len(padded)}")
        self.device = runner.device
        output = torch.cat(parts)[:, 0, :height, :width]
        refuse_non_finite(output, self.checkpoint.card.name, self.dtype)
        return (output + 1) / 2 * (high - low) + low


def pad_to_multiple(slices: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) padded at the bottom and right by repeating the edge until both sides are multiples."""
    down, right = (-slices.shape[-2]) % multiple, (-slices.shape[-1]) % multiple
    return torch.nn.functional.pad(slices, (0, right, 0, down), mode="replicate") if down or right else slices
