# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about a self-supervised stage. Defaults are those of CT pre-training (reference notes 3.3)."""

from dataclasses import dataclass, field

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3_training import TrainingNoise
from ProstateXferLib.training.augmentation.views import CropSizes, ViewOptions
from ProstateXferLib.training.sampling.slice_views import MaskOptions
from ProstateXferLib.training.tasks.self_supervision_schedules import Course

GRAM_TEACHER = "gram.teacher"


@dataclass(frozen=True)
class HeadSizes:
    """Widths of the DINO and the iBOT head, and the spread of their prototypes at the start (networks/dino_head.py)."""

    prototypes: int = 65536
    hidden: int = 2048
    bottleneck: int = 256
    prototype_std: float = 0.02

    def __post_init__(self) -> None:
        if min(self.prototypes, self.hidden, self.bottleneck) < 1 or not self.prototype_std > 0:
            raise ProstateXferError("The heads' sizes and their prototype_std must be positive.")


@dataclass(frozen=True)
class TeacherTemperature:
    """Rises evenly from `start` to `end` over so many epochs, then stays."""

    start: float = 0.04
    end: float = 0.07
    warmup_epochs: float = 30.0

    def __post_init__(self) -> None:
        if min(self.start, self.end) <= 0 or self.warmup_epochs < 0:
            raise ProstateXferError("The teacher's temperatures must be above zero, their warm-up not negative.")


@dataclass(frozen=True)
class GramSettings:
    """Gram anchoring.

    Attributes:
        weight: factor of the loss over the stage.
        teacher: checkpoint of the encoder that gives the similarities, named like `start.checkpoint` ("{stage:NAME}"
            too); empty for a copy of the teacher that the stage starts with.
        refresh_steps, refreshes: the Gram teacher becomes a copy of the teacher every so many steps, at most so often
            (Meta's second stage: every 10,000 steps, 3 times); 0 keeps it.
        per_image: similarities within images, not across the batch.
    """

    weight: Course = field(default_factory=lambda: Course.constant(1.5))
    teacher: str = ""
    refresh_steps: int = 0
    refreshes: int = 0
    per_image: bool = True

    def __post_init__(self) -> None:
        if min(self.refresh_steps, self.refreshes) < 0 or bool(self.refresh_steps) != bool(self.refreshes):
            raise ProstateXferError("A Gram teacher's refresh_steps and refreshes go together: give both or neither.")

    def refreshes_after(self, step: int) -> bool:
        """Whether the Gram teacher is made anew after the step of this number."""
        return (
            bool(self.refresh_steps)
            and (step + 1) % self.refresh_steps == 0
            and (step + 1) // self.refresh_steps <= self.refreshes
        )


@dataclass(frozen=True)
class ProbeSettings:
    """How the encoder is looked at on the validation and test cases.

    Attributes:
        slices: slices, evenly spread over all cases, for the loss and the measures of collapse.
        structure, sequence: what is looked for by nearest neighbours, in which images, if two patients have it drawn.
        slices_per_case: slices of each such case, evenly spread.
        neighbours: patches that vote.
    """

    slices: int = 32
    structure: str = "Prostate"
    sequence: str = "T2w"
    slices_per_case: int = 4
    neighbours: int = 10

    def __post_init__(self) -> None:
        if min(self.slices, self.slices_per_case, self.neighbours) < 1:
            raise ProstateXferError("The probe's numbers must be positive.")


@dataclass(frozen=True)
class SelfSupervisionSettings:
    """A DINOv3 stage.

    Attributes:
        sequences: images of a case that are learned from, each on its own ("CT" and "CBCT" are clamped to HU, all
            others to percentiles of the slice).
        crops: sets of crop sizes; every batch draws one.
        views, masks, noise: what crops show, what iBOT hides, what the student's forward pass leaves to chance.
        heads: sizes of the two heads.
        teacher_temperature, momentum: of the teacher; its weights are m times themselves plus 1 - m times the
            student's after every step.
        local_weight: further factor of the local crops' part of the DINO loss.
        ibot_weight, koleo_weight: factors of these losses; KoLeo counts once for each of the two global views.
        gram: None without Gram anchoring.
        freeze_last_layer_epochs: epochs in which the heads' prototypes are held still.
        keep_heads: whether the checkpoint keeps the heads, for another self-supervised stage (then its names start with
            "backbone.", "dino_head." and "ibot_head.").
        probe: what validation looks at.
    """

    sequences: tuple[str, ...] = ("T2w",)
    crops: tuple[CropSizes, ...] = (CropSizes(),)
    views: ViewOptions = field(default_factory=ViewOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)
    noise: TrainingNoise = field(default_factory=lambda: TrainingNoise(drop_path=0.2, rope_rescale=2.0))
    heads: HeadSizes = HeadSizes()
    teacher_temperature: TeacherTemperature = TeacherTemperature()
    momentum: Course = field(default_factory=lambda: Course.constant(0.994))
    local_weight: Course = field(default_factory=lambda: Course.constant(1.0))
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    gram: GramSettings | None = None
    freeze_last_layer_epochs: float = 3.0
    keep_heads: bool = False
    probe: ProbeSettings = ProbeSettings()

    def __post_init__(self) -> None:
        if not self.sequences or not self.crops:
            raise ProstateXferError("Self-supervision needs at least one sequence and one set of crop sizes.")
        if min(self.ibot_weight, self.koleo_weight, self.freeze_last_layer_epochs) < 0:
            raise ProstateXferError("The weights of losses and freeze_last_layer_epochs must not be negative.")
        if not all(0 <= value <= 1 for value in (self.momentum.start, self.momentum.peak, self.momentum.end)):
            raise ProstateXferError("The teacher's momentum must stay between 0 and 1.")

    @property
    def checkpoints(self) -> dict[str, str]:
        """Names of checkpoints by their keys (`recipe.checks.names_of_checkpoints`)."""
        return {GRAM_TEACHER: self.gram.teacher} if self.gram is not None and self.gram.teacher else {}
