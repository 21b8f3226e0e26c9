# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about a segmentation stage: heads, preprocessing, samples, loss, validation."""

from dataclasses import dataclass, field

from ProstateXferLib.checkpoints.card import Head, Preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.structures import Structure
from ProstateXferLib.metrics.detection_threshold import THRESHOLDS
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions
from ProstateXferLib.training.losses.token_subset import TokenShares
from ProstateXferLib.training.sampling.lesion_centred import LesionOptions
from ProstateXferLib.training.sampling.slices import SliceOptions
from ProstateXferLib.training.tasks.segmentation_heads import structures_named


@dataclass(frozen=True)
class HeadSettings:
    """One head: what it tells apart, and the card's rules for its result (checkpoints/card.py, `Head`).

    Attributes:
        name: of the head.
        values: names of the structures that are its classes after the background, in class order.
        within, margin_mm, smoothing_mm, min_volume_cm3, largest_only, threshold: see `Head`; a head of an MR-DINOv3
            that works within a structure is decoded near it alone in training, too.
    """

    name: str
    values: tuple[str, ...]
    within: str | None = None
    margin_mm: float = 0.0
    smoothing_mm: float = 0.0
    min_volume_cm3: float = 0.0
    largest_only: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class PatchSettings:
    """nnU-Net's patches of the preprocessing's tile (sampling/patches.py).

    Attributes:
        oversample: share of a batch that is forced to show foreground.
    """

    oversample: float = 0.33


@dataclass(frozen=True)
class PaintSettings:
    """Lesions painted into cases in which nobody looked for them (augmentation/painted_lesions.py).

    Such cases then count as free of lesions but for the painted ones.

    Attributes:
        structure: what is painted.
        within: where.
        share: of the samples of such cases.
    """

    structure: str = "DIL"
    within: str = "Prostate"
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ProstateXferError(f"The share of painted samples is {self.share}: give a number from 0 to 1.")


@dataclass(frozen=True)
class CachedFeatures:
    """Tokens of a frozen encoder, worked out once and kept on disk (cache/features.py, which tells the trade).

    Attributes:
        views: augmented copies of every slice that are kept beside the plain one, made by the slices' warp or the
            stage's augmentation; a stored token cannot be augmented any more.
        mirrored: keep every slice mirrored, too.
        dtype: "fp16" or "fp32".
    """

    views: int = 0
    mirrored: bool = False
    dtype: str = "fp16"


@dataclass(frozen=True)
class ValidationSettings:
    """What is measured besides the Dice of every structure in whole cases.

    Attributes:
        slices_above_pixels: also the Dice and IoU of single slices, of those with more pixels of the structure than
            this (in-domain transfer: 200, at the slices' own pixel size); None leaves them out.
    """

    slices_above_pixels: int | None = None


@dataclass(frozen=True)
class ThresholdTuning:
    """A head's threshold is chosen on the split's tuning cases when the stage is over (tasks/threshold_tuning.py).

    Attributes:
        head: whose; it finds one structure, and has no other rules that decide what is kept.
        thresholds: probabilities that are tried.
        beta: of the F-beta of an exam's lesions that decides (SAP: 2).
    """

    head: str
    thresholds: tuple[float, ...] = THRESHOLDS
    beta: float = 2.0

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0 < threshold < 1 for threshold in self.thresholds) or not self.beta > 0:
            raise ProstateXferError("The thresholds to try must lie between 0 and 1, and beta must be above 0.")


@dataclass(frozen=True)
class SegmentationSettings:
    """One supervised stage.

    Attributes:
        heads: what is found, see `HeadSettings`; a dense network's channels follow this order.
        preprocessing: of the card; its tile is the size of patches, and of slices where `slices` gives none.
        slices, patches, lesion_centred: where samples come from; exactly one of them.
        sequences: input channels.
        augmentation: a preset of augmentation/presets.py.
        training_statistics: the intensity rule's mean and deviation are those of the training cases (in-domain
            transfer), which the card keeps.
        loss: see `DiceCEOptions`; a network that gives several scales in training is deeply supervised.
        tokens: of an MR-DINOv3, see `TokenShares`.
        features: tokens from the cache instead of images; for a frozen encoder.
        paint: see `PaintSettings`; None paints nothing.
        validation: see `ValidationSettings`.
        tune: see `ThresholdTuning`; None tunes nothing.
    """

    heads: tuple[HeadSettings, ...]
    preprocessing: Preprocessing
    slices: SliceOptions | None = None
    patches: PatchSettings | None = None
    lesion_centred: LesionOptions | None = None
    sequences: tuple[str, ...] = ("T2w",)
    augmentation: str = "none"
    training_statistics: bool = False
    loss: DiceCEOptions = field(default_factory=DiceCEOptions)
    tokens: TokenShares = field(default_factory=TokenShares)
    features: CachedFeatures | None = None
    paint: PaintSettings | None = None
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    tune: ThresholdTuning | None = None

    def __post_init__(self) -> None:
        if not self.heads or not self.sequences:
            raise ProstateXferError("A segmentation needs at least one head and one sequence.")
        samplers = [self.slices, self.patches, self.lesion_centred]
        if sum(sampler is not None for sampler in samplers) != 1:
            raise ProstateXferError("Samples come from slices, patches or lesion_centred: give exactly one of them.")
        names = {structure.name for structure in self.structures}
        wanted = [head.within for head in self.heads if head.within is not None]
        if self.paint is not None:
            wanted += [self.paint.structure, self.paint.within]
        for name in wanted:
            if name not in names:
                raise ProstateXferError(f"'{name}' is named, but no head finds it: the heads find {', '.join(names)}.")
        if self.features is not None:
            self._check_features()
        if self.tune is not None:
            self._check_tune(self.tune)

    def _check_tune(self, tune: ThresholdTuning) -> None:
        head = next((one for one in self.heads if one.name == tune.head), None)
        if head is None:
            names = ", ".join(one.name for one in self.heads)
            raise ProstateXferError(f"tune names the head '{tune.head}', but the heads are {names}: name one of them.")
        if len(head.values) != 1 or head.threshold is not None:
            raise ProstateXferError(
                f"The head '{head.name}' cannot be tuned: it needs one structure alone and no threshold of its own."
            )
        # These rules act after the threshold, and the tuning would not see what they take away.
        if head.within is not None or head.largest_only or head.min_volume_cm3:
            raise ProstateXferError(
                f"The head '{head.name}' cannot be tuned together with within, largest_only or min_volume_cm3: leave "
                "these out."
            )

    def _check_features(self) -> None:
        if self.slices is None or self.paint is not None:
            raise ProstateXferError("Cached features are those of slices, and nothing can be painted into them.")
        if self.features.views and self.slices.warp is None and self.augmentation == "none":
            raise ProstateXferError("Views of cached features need the slices' warp or an augmentation: name one.")

    @property
    def structures(self) -> tuple[Structure, ...]:
        """What the heads find, in their order."""
        return structures_named([name for head in self.heads for name in head.values])

    @property
    def structures_by_head(self) -> tuple[tuple[Structure, ...], ...]:
        """What each head tells apart, in class order."""
        structures = iter(self.structures)
        return tuple(tuple(next(structures) for _ in head.values) for head in self.heads)

    @property
    def card_heads(self) -> tuple[Head, ...]:
        """The heads as the card has them: with label values instead of names."""
        return tuple(
            Head(
                head.name,
                tuple(structure.value for structure in named),
                within=head.within,
                margin_mm=head.margin_mm,
                smoothing_mm=head.smoothing_mm,
                min_volume_cm3=head.min_volume_cm3,
                largest_only=head.largest_only,
                threshold=head.threshold,
            )
            for head, named in zip(self.heads, self.structures_by_head, strict=True)
        )
