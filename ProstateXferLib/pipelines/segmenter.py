# SPDX-License-Identifier: Apache-2.0
"""`Segmenter`: checkpoints + device + options; `predict(image)` gives labels on the image's own grid."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.architectures import ARCHITECTURES
from ProstateXferLib.checkpoints.card import Head, ModelCard
from ProstateXferLib.checkpoints.loading import Checkpoint, load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.pipelines.dense_group import DenseGroup, group_by_preprocessing
from ProstateXferLib.pipelines.device import precision_name, resolve_device, resolve_precision
from ProstateXferLib.pipelines.encoder_group import EncoderGroup, group_by_encoder
from ProstateXferLib.pipelines.inputs import matched_inputs
from ProstateXferLib.pipelines.nnunet.group import NnunetGroup, group_by_plan
from ProstateXferLib.pipelines.nnunet.sliding_window import ACCUMULATORS
from ProstateXferLib.pipelines.postprocessing import background_of, compose_labels
from ProstateXferLib.pipelines.provenance import Provenance, WarningLog, image_sha256, library_versions, now_utc
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress


class Segmenter:
    """Segments prostate, DIL or whatever its checkpoints' cards say.

    Several checkpoints are averaged by probability, whatever their architectures; MR-DINOv3s that share an encoder and
    a preprocessing (several heads, five folds on one frozen encoder) encode each slice once. Folds of one nnU-Net are
    averaged by logits first, as nnU-Net does, and count as one.

    Args:
        checkpoint: a `Checkpoint`, a path, a registered name, or a list of them. All must name the same structures
            or disjoint ones.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        tta: average over the four in-plane mirrorings (four times the work); a dense network over all mirrorings along
            the axes that its card allows (3-D: up to eight).
        precision: "auto", "fp32", "bf16" or "fp16".
        skip_outside: MR-DINOv3 decodes only tokens in the body, and lesion tokens only near the gland; the labels
            inside those regions are those of the full decode. False decodes everything. Dense networks always do.
        accumulate: how an nnU-Net's windows are added up: "fp16" as nnU-Net does, to the bit; "fp32" without its
            rounding (pipelines/nnunet/sliding_window.py says by how much they differ). nnU-Net's own precision on CUDA
            is "fp16", on a CPU "fp32". Other networks always add up in fp32.

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
        accumulate: str = "fp32",
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
        if accumulate not in ACCUMULATORS:
            raise ProstateXferError(f"accumulate must be one of {', '.join(ACCUMULATORS)}, not '{accumulate}'.")
        self.tta, self.skip_outside, self.accumulate = tta, skip_outside, accumulate
        self._groups: list[EncoderGroup | DenseGroup | NnunetGroup] | None = None

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences that `predict` needs; the first one's grid is the result's."""
        return self.checkpoints[0].card.inputs

    @property
    def groups(self) -> list[EncoderGroup | DenseGroup | NnunetGroup]:
        """The networks, built on first use."""
        if self._groups is None:
            nnunet = [item for item in self.checkpoints if item.card.preprocessing.nnunet is not None]
            others = [item for item in self.checkpoints if item not in nnunet]
            dense = [item for item in others if ARCHITECTURES[item.card.architecture].dense]
            tokens = [item for item in others if item not in dense]
            self._groups = [
                *group_by_encoder(tokens, self.device, self.dtype),
                *group_by_preprocessing(dense, self.device, self.dtype),
                *group_by_plan(nnunet, self.device, self.dtype, accumulate=self.accumulate),
            ]
        return self._groups

    def predict(self, image: sitk.Image | Mapping[str, sitk.Image], progress: Progress | None = None) -> Segmentation:
        """Segment one study.

        Args:
            image: the image, or a mapping from sequence name ("T2w") to image; any orientation, spacing and pixel type.
                A model of several sequences takes the mapping, and brings them onto the grid of its first one.
            progress: where to report and whom to ask whether to stop.

        Returns:
            Labels (uint8) and probabilities on the (first) image's own grid.

        Raises:
            ProstateXferError: an image that cannot be segmented, in one sentence.
            CancelledError: the user stopped.
        """
        cards = [item.card for item in self.checkpoints]
        for card in cards:  # all name the same sequences, but not every architecture takes several
            images = matched_inputs(image, card)
        for sequence, one in images.items():
            check_image(one, f"{sequence} image")
        first = next(iter(images.values()))
        log = WarningLog(progress or SilentProgress())
        started, clock = now_utc(), time.perf_counter()
        probabilities = self._probabilities(images, log)
        labels = compose_labels(probabilities, first, cards, self.structures)
        grid, known = Grid.of(first), {structure.name for structure in self.structures}
        maps = {
            name: grid.image(np.asarray(volume, dtype=np.float32))
            for name, volume in probabilities.items()
            if name in known
        }
        provenance = Provenance(
            models=tuple({"name": item.card.name, "sha256": item.sha256} for item in self.checkpoints),
            options={
                # Where it ended up: a group that ran out of memory has moved to the CPU and stays there.
                "device": ", ".join(dict.fromkeys(str(group.device) for group in self.groups)),
                "precision": precision_name(self.dtype),
                "tta": self.tta,
                "skip_outside": self.skip_outside,
                **({"accumulate": self.accumulate} if any(isinstance(g, NnunetGroup) for g in self.groups) else {}),
            },
            input_sha256={sequence: image_sha256(one) for sequence, one in images.items()},
            versions=library_versions(),
            started_utc=started,
            seconds=round(time.perf_counter() - clock, 3),
            warnings=tuple(log.warnings),
        )
        log.update("segment", 1.0, "done")
        return Segmentation(grid.image(labels), self.structures, maps, provenance)

    def _probabilities(self, images: Mapping[str, sitk.Image], log: WarningLog) -> dict[str, np.ndarray]:
        """Structure name -> probability (z, y, x) on the first image's grid, averaged over those that know it."""
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        for index, group in enumerate(self.groups):
            part = SubProgress(log, index / len(self.groups), (index + 1) / len(self.groups))
            for name, volume in group.predict(images, tta=self.tta, skip_outside=self.skip_outside, progress=part):
                if name in sums:
                    sums[name] += volume
                else:
                    sums[name] = volume
                counts[name] = counts.get(name, 0) + 1
        for structures in (_found(item.card, head) for item in self.checkpoints for head in item.card.heads):
            background = background_of(structures)
            if counts.get(background, 0) != counts[structures[0]]:  # not every model tells it
                sums.pop(background, None)
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
    kinds: dict[str, tuple[frozenset[str], bool, ModelCard]] = {}
    for card in cards:
        if card.inputs != first.inputs:
            raise ProstateXferError(
                f"'{first.name}' takes {', '.join(first.inputs)} and '{card.name}' takes {', '.join(card.inputs)}: "
                "models of different sequences cannot be averaged, run them one after the other."
            )
        for head in card.heads:
            found = frozenset(_found(card, head))
            for name in found:
                known, overlapping, owner = kinds.setdefault(name, (found, head.overlapping, card))
                if overlapping != head.overlapping:
                    raise ProstateXferError(
                        f"'{owner.name}' and '{card.name}' both find {name}, but only one of them as a region that may "
                        "overlap others: run them one after the other."
                    )
                if known != found:
                    raise ProstateXferError(
                        f"'{owner.name}' and '{card.name}' both find {name}, but among different structures "
                        f"({', '.join(sorted(known))}; {', '.join(sorted(found))}): run them one after the other."
                    )


def _found(card: ModelCard, head: Head) -> list[str]:
    """Names of the structures of a head, in the order of its channels."""
    names = {structure.value: structure.name for structure in card.structures}
    return [names[value] for value in head.values]


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
