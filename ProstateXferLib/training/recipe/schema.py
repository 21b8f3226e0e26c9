# SPDX-License-Identifier: Apache-2.0
"""What a recipe may say: a chain of stages as frozen dataclasses, every key of the YAML file one field here.

A stage says what it starts from, its data, what is frozen, which head is dropped, learning-rate groups, schedule,
augmentation and selection rule; a chain is stages in a row. `settings` belong to the stage's task and are read into
that task's own dataclass (training/tasks).
"""

import math
from dataclasses import dataclass, field
from typing import Any

from ProstateXferLib.errors import ProstateXferError

WARMUPS = ("skip_zero", "skip_peak", "both_ends")
DECAYS = ("constant", "linear", "cosine", "polynomial", "step")
OPTIMISERS = ("adamw", "adam", "sgd")
PRECISIONS = ("fp32", "bf16", "fp16")
STORES = ("fp32", "fp16")
SPLIT_RULES = ("nnunet", "stratified", "fixed", "none")


@dataclass(frozen=True)
class Texts:
    """The card's plain sentences."""

    title: str
    training_data: str
    licence: str
    citation: str


@dataclass(frozen=True)
class Source:
    """Cases in one folder.

    Attributes:
        layout: a published layout (`prostatexfer data layouts`), or "phantoms".
        path: folder, relative to --data.
        weight: how often its cases are drawn, relative to the stage's other sources.
        options: what the layout's adapter takes besides (a site, a sequence, a count of phantoms).
        test_only: its cases are never trained on; they score the result.
    """

    layout: str
    path: str = ""
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    test_only: bool = False


@dataclass(frozen=True)
class Split:
    """Who trains, who selects, who scores: always whole patients.

    Attributes:
        rule: "nnunet" (sorted ids, 5-fold KFold, shuffled with seed 12345), "stratified" (folds balanced by
            `stratify`), "fixed" (only `validation` and `test` are held out), "none" (every case trains).
        folds, fold, seed: number of folds, the one that validates, the shuffle's seed.
        test_share: share of patients held out as the test set before folds are made.
        stratify: attribute of the cases by whose value folds are balanced, e.g. "lesions".
        validation, test: case ids held out by name.
        tuning_fold: a fold whose cases tune a decision threshold and are not validated on (SAP); -1 for none.
    """

    rule: str = "nnunet"
    folds: int = 5
    fold: int = 0
    seed: int = 12345
    test_share: float = 0.0
    stratify: str = ""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    tuning_fold: int = -1

    def __post_init__(self) -> None:
        if self.rule not in SPLIT_RULES:
            raise ProstateXferError(f"The split's rule '{self.rule}' is none of {', '.join(SPLIT_RULES)}.")
        if self.folds < 2 or not 0 <= self.fold < self.folds or not -1 <= self.tuning_fold < self.folds:
            raise ProstateXferError(f"The split's fold {self.fold} is not one of 0 to {self.folds - 1}.")
        if not 0 <= self.test_share < 1:
            raise ProstateXferError(f"The split's test_share is {self.test_share}: give a share from 0 up to, not, 1.")
        if (self.rule == "stratified") != bool(self.stratify):
            raise ProstateXferError("The split's rule 'stratified' and its key 'stratify' go together: give both.")


@dataclass(frozen=True)
class Network:
    """An architecture by its name in the model card, and its arguments (networks/)."""

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """Weights that a stage begins with; every name must be found unless it is dropped.

    Attributes:
        checkpoint: path of a checkpoint or of a weights package, or a registered name; "{previous}" is what the stage
            before selected, "{stage:NAME}" what that stage selected; None starts from random weights (or the library's
            own pretrained ones, where the architecture's arguments say so).
        parts: prefixes of the names that are taken; empty takes all.
        drop: parts of names that are left at their fresh values: a head, a stem.
    """

    checkpoint: str | None = None
    parts: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Parameters whose name contains one of `match`; the first group that matches counts.

    Attributes:
        factor: multiplies the learning rate (SAP: encoder 1/5 of the rest).
        frozen: never changed; modules that are frozen whole stay in evaluation mode.
        weight_decay: instead of the optimiser's.
    """

    match: tuple[str, ...]
    factor: float = 1.0
    frozen: bool = False
    weight_decay: float | None = None


@dataclass(frozen=True)
class Optimiser:
    """How gradients become steps.

    Attributes:
        name: "adamw", "adam" (weight decay is L2, coupled), "sgd" (Nesterov).
        learning_rate: peak rate of parameters in no group.
        weight_decay: not applied to biases, norms, LayerScale and tokens unless `decay_all`.
        weight_decay_end: value that weight decay reaches along a cosine by the last step (DINO); None holds it.
        betas: of Adam and AdamW; `momentum`: of SGD.
        layer_decay: factor per transformer layer below the last (DINOv3), 1 switches it off.
        patch_embed_factor: further factor of the patch embedding.
        clip_norm: largest gradient norm; 0 does not clip.
    """

    name: str = "adamw"
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    weight_decay_end: float | None = None
    decay_all: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.99
    layer_decay: float = 1.0
    patch_embed_factor: float = 1.0
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMISERS:
            raise ProstateXferError(f"The optimiser '{self.name}' is none of {', '.join(OPTIMISERS)}.")
        rates = (self.learning_rate, self.weight_decay, self.clip_norm)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise ProstateXferError("The optimiser's rates must be finite and not negative.")


@dataclass(frozen=True)
class Schedule:
    """How long, and how the learning rate goes.

    Attributes:
        epochs: number of epochs.
        steps_per_epoch: optimiser steps in one; None passes over the data once.
        warmup_epochs: linear warm-up to the peak.
        decay: "constant", "linear", "cosine", "polynomial" (`power`) or "step" (times `step_factor` every
            `step_epochs` epochs), from the end of the warm-up to the last epoch.
        final_factor: share of the peak that linear and cosine decay end at.
        by_epoch: the rate changes once an epoch (nnU-Net, DGCF) instead of every step.
        warmup: which end of the straight line from 0 to the peak the n warm-up steps leave out: "skip_zero" (step i has
            (i + 1)/n of the peak), "skip_peak" (i/n; DINOv3, MONAI) or "both_ends" for neither (i/(n - 1); DINOv2).
        decay_epochs: epochs that the decay takes, after which the rate stays; None takes all that are left.
        last_is_final: the decay's last step has `final_factor` exactly (DINOv3); else one step more would have it.
        max_steps: optimiser steps after which the stage ends, whatever the epochs say; warm-up and decay shrink with
            it. None for as many as the epochs have.
    """

    epochs: int
    steps_per_epoch: int | None = None
    warmup_epochs: float = 0.0
    decay: str = "cosine"
    power: float = 0.9
    step_epochs: int = 1
    step_factor: float = 0.1
    final_factor: float = 0.0
    by_epoch: bool = False
    warmup: str = "skip_zero"
    decay_epochs: float | None = None
    last_is_final: bool = False
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise ProstateXferError(f"The schedule's decay '{self.decay}' is none of {', '.join(DECAYS)}.")
        if self.epochs < 1 or (self.steps_per_epoch is not None and self.steps_per_epoch < 1) or self.step_epochs < 1:
            raise ProstateXferError("A schedule needs at least one epoch and one step in it.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ProstateXferError(f"The schedule's warm-up of {self.warmup_epochs} epochs leaves nothing to train.")
        if self.warmup not in WARMUPS:
            raise ProstateXferError(f"The schedule's warmup '{self.warmup}' is none of {', '.join(WARMUPS)}.")
        if self.decay_epochs is not None and not 0 < self.decay_epochs <= self.epochs - self.warmup_epochs:
            raise ProstateXferError(
                f"The schedule's decay_epochs must be above 0 and fit after the warm-up, not {self.decay_epochs}."
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ProstateXferError(f"A stage makes at least one step, not {self.max_steps}.")


@dataclass(frozen=True)
class Loop:
    """How steps are made.

    Attributes:
        batch_size: samples per optimiser step, over all processes and accumulated parts together.
        accumulate: parts a batch is worked off in, for memory.
        precision: "fp32", or mixed "bf16" or "fp16".
        ema: decay of averaged weights that are validated and kept; 0 keeps the last ones.
        validate_epochs: epochs between validations.
        save_steps: steps between saves of the state from which a killed run goes on.
        patience: validations without improvement after which the stage stops early; 0 never stops early.
        workers: processes that prepare samples; 0 prepares them between steps.
    """

    batch_size: int = 8
    accumulate: int = 1
    precision: str = "fp32"
    ema: float = 0.0
    validate_epochs: int = 1
    save_steps: int = 500
    patience: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ProstateXferError(f"The loop's precision '{self.precision}' is none of {', '.join(PRECISIONS)}.")
        if min(self.batch_size, self.accumulate, self.validate_epochs, self.save_steps) < 1:
            raise ProstateXferError("The loop's batch_size, accumulate, validate_epochs and save_steps start at 1.")
        if self.batch_size % self.accumulate:
            raise ProstateXferError(
                f"A batch of {self.batch_size} cannot be worked off in {self.accumulate} equal parts: change one."
            )
        if not 0 <= self.ema < 1 or min(self.patience, self.workers) < 0:
            raise ProstateXferError("The loop's ema must be from 0 up to, not, 1; patience and workers not negative.")


@dataclass(frozen=True)
class Selection:
    """Which weights a stage hands on.

    Attributes:
        keep: "best" validated or "final". Both files are kept where there is a validation.
        metric: name of a value that the task's validation gives.
        higher_is_better: its direction.
    """

    keep: str = "final"
    metric: str = "dice"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if self.keep not in ("best", "final"):
            raise ProstateXferError(f"The selection keeps 'best' or 'final', not '{self.keep}'.")


@dataclass(frozen=True)
class Stage:
    """One training run.

    Attributes:
        name: unique in the chain; names its folder.
        task: key of `training.tasks.registry.TASKS`.
        settings: the task's own settings, a dataclass of its own (crops, loss, augmentation, heads, ...).
    """

    name: str
    task: str
    settings: Any
    network: Network
    data: tuple[Source, ...]
    schedule: Schedule
    split: Split = Split()
    start: Start = Start()
    groups: tuple[Group, ...] = ()
    optimiser: Optimiser = Optimiser()
    loop: Loop = Loop()
    selection: Selection = Selection()


@dataclass(frozen=True)
class Chain:
    """A recipe: stages in a row; what the last one selects is the result.

    Attributes:
        paper: what the recipe reproduces, for those who read it.
        store: "fp32", or "fp16" for a result of half the size; what stages hand on stays in fp32.
    """

    name: str
    texts: Texts
    stages: tuple[Stage, ...]
    seed: int = 0
    paper: str = ""
    store: str = "fp32"

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ProstateXferError(f"The recipe '{self.name}' needs stages, each with its own name.")
        if self.store not in STORES:
            raise ProstateXferError(f"The recipe '{self.name}' can store {' or '.join(STORES)}, not '{self.store}'.")
