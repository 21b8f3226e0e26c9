# SPDX-License-Identifier: Apache-2.0
"""`Segmenter`: checkpoints + device + options; `predict(image)` gives labels on the image's own grid."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.card import ModelCard
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.pipelines.device import precision_name, resolve_device, resolve_precision
from ProstateXferLib.pipelines.encoder_group import EncoderGroup, group_by_encoder
from ProstateXferLib.pipelines.inputs import single_input
from ProstateXferLib.pipelines.postprocessing import compose_labels
from ProstateXferLib.pipelines.provenance import Provenance, WarningLog, image_sha256, library_versions, now_utc
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress


class Segmenter:
    """Segments prostate, DIL or whatever its checkpoints' cards say.

    Several checkpoints are averaged by probability; those that share an encoder and a preprocessing (several heads,
    five folds on one frozen encoder) encode each slice once.

    Args:
        checkpoint: a `Checkpoint`, a path, a registered name, or a list of them. All must name the same structures
            or disjoint ones.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        tta: average over the four in-plane mirrorings (four times the work).
        precision: "auto", "fp32", "bf16" or "fp16".
        skip_outside: decode only tokens in the body, and lesion tokens only near the gland; the labels inside those
            regions are those of the full decode. False decodes everything.

    Raises:
        ProstateXferError: no such checkpoint or device, or a checkpoint of another task.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | str | Path | Sequence[Checkpoint | str | Path],
        device: str = "auto",
        tta: bool = False,
        precision: str = "auto",
        *,
        skip_outside: bool = True,
    ) -> None:
        several = isinstance(checkpoint, Sequence) and not isinstance(checkpoint, str)
        self.checkpoints = [_opened(item) for item in (checkpoint if several else [checkpoint])]
        if not self.checkpoints:
            raise ProstateXferError("A Segmenter needs at least one checkpoint.")
        cards = [item.card for item in self.checkpoints]
        _check_together(cards)
        self.structures = _merged_structures(cards)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.tta, self.skip_outside = tta, skip_outside
        self._groups: list[EncoderGroup] | None = None

    @property
    def groups(self) -> list[EncoderGroup]:
        """The networks, built on first use."""
        if self._groups is None:
            self._groups = group_by_encoder(self.checkpoints, self.device, self.dtype)
        return self._groups

    def predict(self, image: sitk.Image | Mapping[str, sitk.Image], progress: Progress | None = None) -> Segmentation:
        """Segment one study.

        Args:
            image: the image, or a mapping from sequence name ("T2w") to image; any orientation, spacing and pixel type.
            progress: where to report and whom to ask whether to stop.

        Returns:
            Labels (uint8) and probabilities on the image's own grid.

        Raises:
            ProstateXferError: an image that cannot be segmented, in one sentence.
            CancelledError: the user stopped.
        """
        sequence = self.checkpoints[0].card.inputs[0]
        image = single_input(image, self.checkpoints[0].card)
        check_image(image, f"{sequence} image")
        log = WarningLog(progress or SilentProgress())
        started, clock = now_utc(), time.perf_counter()
        probabilities = self._probabilities(image, log)
        cards = [item.card for item in self.checkpoints]
        labels = compose_labels(probabilities, image, cards, self.structures)
        grid = Grid.of(image)
        images = {name: grid.image(np.asarray(volume, dtype=np.float32)) for name, volume in probabilities.items()}
        provenance = Provenance(
            models=tuple({"name": item.card.name, "sha256": item.sha256} for item in self.checkpoints),
            options={
                # Where it ended up: a group that ran out of memory has moved to the CPU and stays there.
                "device": ", ".join(dict.fromkeys(str(group.device) for group in self.groups)),
                "precision": precision_name(self.dtype),
                "tta": self.tta,
                "skip_outside": self.skip_outside,
            },
            input_sha256={sequence: image_sha256(image)},
            versions=library_versions(),
            started_utc=started,
            seconds=round(time.perf_counter() - clock, 3),
            warnings=tuple(log.warnings),
        )
        log.update("segment", 1.0, "done")
        return Segmentation(grid.image(labels), self.structures, images, provenance)

    def _probabilities(self, image: sitk.Image, log: WarningLog) -> dict[str, np.ndarray]:
        """Structure name -> probability (z, y, x) on the image's grid, averaged over the checkpoints that know it."""
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        for index, group in enumerate(self.groups):
            part = SubProgress(log, index / len(self.groups), (index + 1) / len(self.groups))
            for name, volume in group.predict(image, tta=self.tta, skip_outside=self.skip_outside, progress=part):
                if name in sums:
                    sums[name] += volume
                else:
                    sums[name] = volume
                counts[name] = counts.get(name, 0) + 1
        return {name: total / counts[name] if counts[name] > 1 else total for name, total in sums.items()}


def _opened(item: Checkpoint | str | Path) -> Checkpoint:
    checkpoint = item if isinstance(item, Checkpoint) else load_checkpoint(item)
    if checkpoint.card.task != "segmentation":
        raise ProstateXferError(
            f"'{checkpoint.card.name}' is a {checkpoint.card.task} model and cannot segment: choose a "
            "segmentation model (prostatexfer models)."
        )
    return checkpoint


def _check_together(cards: Sequence[ModelCard]) -> None:
    """Refuse models that see different sequences, and heads that share some of their structures but not all."""
    first = cards[0]
    kinds: dict[str, tuple[frozenset[str], ModelCard]] = {}
    for card in cards:
        if card.inputs != first.inputs:
            raise ProstateXferError(
                f"'{first.name}' takes {', '.join(first.inputs)} and '{card.name}' takes {', '.join(card.inputs)}: "
                "models of different sequences cannot be averaged, run them one after the other."
            )
        names = {structure.value: structure.name for structure in card.structures}
        for head in card.heads:
            found = frozenset(names[value] for value in head.values)
            for name in found:
                known, owner = kinds.setdefault(name, (found, card))
                if known != found:
                    raise ProstateXferError(
                        f"'{owner.name}' and '{card.name}' both find {name}, but among different structures "
                        f"({', '.join(sorted(known))}; {', '.join(sorted(found))}): run them one after the other."
                    )


def _merged_structures(cards: Sequence[ModelCard]) -> tuple[Structure, ...]:
    """Structures of all cards by name, the first card's word counting; no value may be claimed by two names."""
    by_name = {structure.name: structure for card in reversed(cards) for structure in card.structures}
    owners: dict[int, str] = {}
    for structure in by_name.values():
        if structure.value in owners:
            raise ProstateXferError(
                f"Two of the chosen models use label {structure.value} for different structures "
                f"({owners[structure.value]}, {structure.name}): run them one after the other."
            )
        owners[structure.value] = structure.name
    return tuple(sorted(by_name.values(), key=lambda structure: structure.value))
