# SPDX-License-Identifier: Apache-2.0
"""`Segmenter`: checkpoints + device + options; `predict(image)` gives labels on the image's own grid."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.checkpoints.architectures import ARCHITECTURES
from ProstateXferLib.checkpoints.loading import Checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.checks import check_image
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.pipelines.calibrated import calibrated_maps, calibration_warnings, calibrations_of
from ProstateXferLib.pipelines.dense_group import group_by_preprocessing
from ProstateXferLib.pipelines.device import precision_name, resolve_device, resolve_precision
from ProstateXferLib.pipelines.encoder_group import group_by_encoder
from ProstateXferLib.pipelines.group import Group, StudyRun
from ProstateXferLib.pipelines.inputs import matched_inputs
from ProstateXferLib.pipelines.nnunet.group import NnunetGroup, group_by_plan
from ProstateXferLib.pipelines.nnunet.sliding_window import ACCUMULATORS
from ProstateXferLib.pipelines.opinion_pool import OpinionPool
from ProstateXferLib.pipelines.postprocessing import compose_labels
from ProstateXferLib.pipelines.provenance import Provenance, WarningLog, image_sha256, library_versions, now_utc
from ProstateXferLib.pipelines.roster import Roster, roster_of
from ProstateXferLib.pipelines.sample import Samples, distinct_names
from ProstateXferLib.pipelines.segmentation import Segmentation
from ProstateXferLib.pipelines.unit import HeadFound
from ProstateXferLib.pipelines.window_options import WindowOptions
from ProstateXferLib.progress import Progress, SilentProgress, SubProgress


class Segmenter:
    """Segments prostate, DIL or whatever its checkpoints' cards say.

    Several checkpoints are averaged by probability, whatever their architectures; MR-DINOv3s that share an encoder and
    a preprocessing (several heads, five folds on one frozen encoder) encode each slice once. Folds of one nnU-Net are
    averaged by logits first, as nnU-Net does, and count as one. An ensemble file says its own members, weights and
    average (docs/ensembles.md); there every file is a member.

    Args:
        checkpoint: a `Checkpoint`, a path, a registered name, or a list of them. All must name the same structures
            or disjoint ones, and take the same first sequence.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        tta: average over all mirrorings along the axes that the card allows: up to four in-plane, eight in 3-D, and as
            many times the work.
        precision: "auto", "fp32", "bf16" or "fp16".
        skip_outside: MR-DINOv3 decodes only tokens in the body, and lesion tokens only near the gland; the labels
            inside those regions are those of the full decode. Where several heads on one encoder look for a structure
            of which one piece is kept, all but the first decode only what one of them shows (growing.py); probabilities
            far from it are 0 then. False decodes everything. Dense networks always do.
        accumulate: how an nnU-Net's windows are added up: "fp16" as nnU-Net does, to the bit; "fp32" without its
            rounding (pipelines/nnunet/sliding_window.py says by how much they differ). nnU-Net's own precision on CUDA
            is "fp16", on a CPU "fp32". Other networks always add up in fp32.
        samples: keep what each member, else each fold, else each mirroring says alone (`Segmentation.samples`). The
            result does not change; labels of every voice take time and, for folds and mirrorings, memory.
        models_folder: searched first, for names and for the members of an ensemble.
        window_step: share of its side that a window (of MR-DINOv3: a tile) advances at most. None is what the model
            says, 0.5 for an nnU-Net; 0.75 is faster and changes a little (docs/performance.md).
        skip_windows: dense networks and nnU-Nets leave out windows that hold no tissue; voxels in no other window are
            background.

    Raises:
        ProstateXferError: no such checkpoint or device, a checkpoint of another task, or an option out of range.
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
        samples: bool = False,
        models_folder: Path | None = None,
        window_step: float | None = None,
        skip_windows: bool = False,
    ) -> None:
        self.roster: Roster = roster_of(checkpoint, models_folder)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        if accumulate not in ACCUMULATORS:
            raise ProstateXferError(f"accumulate must be one of {', '.join(ACCUMULATORS)}, not '{accumulate}'.")
        self.tta, self.skip_outside, self.accumulate, self.samples = tta, skip_outside, accumulate, samples
        self.windows = WindowOptions(window_step, skip_windows)
        self._groups: list[Group] | None = None

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those with networks: what was given, or an ensemble's members."""
        return self.roster.checkpoints

    @property
    def structures(self) -> tuple[Structure, ...]:
        """What the label values mean."""
        return self.roster.structures

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences that `predict` needs; the first one's grid is the result's."""
        return self.roster.inputs

    @property
    def groups(self) -> list[Group]:
        """The networks, built on first use."""
        if self._groups is None:
            numbered = list(enumerate(self.checkpoints))
            nnunet = [pair for pair in numbered if pair[1].card.preprocessing.nnunet is not None]
            others = [pair for pair in numbered if pair not in nnunet]
            dense = [pair for pair in others if ARCHITECTURES[pair[1].card.architecture].dense]
            tokens = [pair for pair in others if pair not in dense]
            apart, where = self.roster.ensemble is not None, (self.device, self.dtype)
            self._groups = [
                *group_by_encoder(tokens, *where, rules=self.roster.rules),
                *group_by_preprocessing(dense, *where),
                *group_by_plan(nnunet, *where, accumulate=self.accumulate, apart=apart),
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
        images = self._matched(image)
        first = images[self.sequences[0]]
        log = WarningLog(progress or SilentProgress())
        started, clock = now_utc(), time.perf_counter()
        sampled_by, samples = self._sampled_by(), Samples(first)
        probabilities = self._probabilities(images, sampled_by, samples, log)
        for sentence in calibration_warnings(self.roster.rules, tta=self.tta):
            log.warn(sentence)
        grid, known = Grid.of(first), {structure.name for structure in self.structures}
        labels = grid.image(compose_labels(probabilities, first, self.roster.rules, self.structures))
        maps = {
            name: grid.image(np.asarray(volume, dtype=np.float32))
            for name, volume in calibrated_maps(probabilities, self.roster.rules).items()
            if name in known
        }
        provenance = Provenance(
            models=self._models(),
            options=self._options(sampled_by),
            input_sha256={sequence: image_sha256(one) for sequence, one in images.items()},
            versions=library_versions(),
            started_utc=started,
            seconds=round(time.perf_counter() - clock, 3),
            warnings=tuple(log.warnings),
        )
        log.update("segment", 1.0, "done")
        return Segmentation(labels, self.structures, maps, provenance, samples.result(), sampled_by)

    def _matched(self, image: sitk.Image | Mapping[str, sitk.Image]) -> dict[str, sitk.Image]:
        """The images of all members by sequence, checked."""
        images: dict[str, sitk.Image] = {}
        for checkpoint in self.checkpoints:
            images |= matched_inputs(image, checkpoint.card)
        for sequence, one in images.items():
            check_image(one, f"{sequence} image")
        return images

    def _sampled_by(self) -> str:
        """What the samples of a run are; empty where there are none to be had or none were asked for."""
        if not self.samples:
            return ""
        if sum(len(group.units) for group in self.groups) > 1:
            return "members"
        (group,) = self.groups
        return "folds" if group.folds > 1 else "mirrorings" if self.tta else ""

    def _probabilities(
        self, images: Mapping[str, sitk.Image], sampled_by: str, samples: Samples, log: WarningLog
    ) -> dict[str, np.ndarray]:
        """Structure name -> probability (z, y, x) on the first image's grid, averaged over those that know it."""
        pool, names = OpinionPool(self.roster.average), self._unit_names()
        for index, group in enumerate(self.groups):
            run = StudyRun(
                images,
                tta=self.tta,
                skip_outside=self.skip_outside,
                windows=self.windows,
                progress=SubProgress(log, index / len(self.groups), (index + 1) / len(self.groups)),
                part=samples.add if sampled_by in ("folds", "mirrorings") else None,
            )
            for found in group.predict(run):
                if sampled_by == "members":
                    samples.add(names[found.unit.numbers], found.copied())
                pool.add(found.names, found.volumes, overlapping=found.head.overlapping, weight=self._weight(found))
        return pool.result()

    def _weight(self, found: HeadFound) -> float:
        """Of a unit; folds that nnU-Net averages before export count as one."""
        return self.roster.weights[found.unit.numbers[0]]

    def _unit_names(self) -> dict[tuple[int, ...], str]:
        """Each unit's name by its checkpoints' numbers, no two alike."""
        units = [unit for group in self.groups for unit in group.units]
        names = distinct_names([unit.card.name for unit in units])
        return {unit.numbers: name for unit, name in zip(units, names, strict=True)}

    def _models(self) -> tuple[dict[str, str], ...]:
        ensemble = () if self.roster.ensemble is None else (self.roster.ensemble,)
        return tuple({"name": item.card.name, "sha256": item.sha256} for item in (*ensemble, *self.checkpoints))

    def _options(self, sampled_by: str) -> dict[str, object]:
        """For the provenance."""
        options = {
            # Where it ended up: a group that ran out of memory has moved to the CPU and stays there.
            "device": ", ".join(dict.fromkeys(str(group.device) for group in self.groups)),
            "precision": precision_name(self.dtype),
            "tta": self.tta,
            "skip_outside": self.skip_outside,
            "calibrated": bool(calibrations_of(self.roster.rules)),
        }
        if any(isinstance(group, NnunetGroup) for group in self.groups):
            options["accumulate"] = self.accumulate
        if self.roster.ensemble is not None:
            options |= {"average": self.roster.average, "weights": list(self.roster.weights)}
        if self.windows.step is not None:
            options["window_step"] = self.windows.step
        if self.windows.skip_empty:
            options["skip_windows"] = True
        return options | ({"sampled_by": sampled_by} if sampled_by else {})
