# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about a synthesis stage."""

from dataclasses import dataclass, field

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, SLICE_SIZE, dgcf_preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache.pairs import PairRules
from ProstateXferLib.training.cache.slice_features import DTYPES
from ProstateXferLib.training.losses.perceptual.options import PerceptualOptions
from ProstateXferLib.training.sampling.paired_slices import PairedSliceOptions

PERCEPTUAL_ENCODER = "perceptual.encoder"


@dataclass(frozen=True)
class SynthesisSettings:
    """A DGCF stage: what it translates, its loss, its slices (arXiv 2511.12098; reference notes dgcf.md).

    Attributes:
        sequence: what the model will take, "T2w" (any MR) or "CBCT"; it decides the rule of intensities.
        image: name of the source among the cases' images where it is not `sequence` ("MR", "T1w").
        size_yx: rows and columns of the network's slices, multiples of 16.
        encoder_range: range that [-1, 1] is mapped to before the encoder; None is the reference's, [0, 2] for MR (its
            quirk) and [-1, 1] for CBCT.
        perceptual: the loss beside L1; None leaves it out.
        simulated_cbct: draws of a simulated CBCT per CT of a case that has none; 0 refuses such cases.
        augmentation: changes of the pairs; the reference makes none.
        store_features: encode every slice once and keep the tokens on disk; for a frozen encoder and unchanged slices.
        features_dtype: "fp32", the reference's, or "fp16" in half the room.
        validation_batch: slices that are translated at once in validation.
        reference_quirks: "batch_mean": validation averages over batches, a short last one counts as much as the others,
            and slices without body count as 1.
    """

    sequence: str = "T2w"
    image: str = ""
    size_yx: tuple[int, int] = SLICE_SIZE
    encoder_range: tuple[float, float] | None = None
    perceptual: PerceptualOptions | None = None
    simulated_cbct: int = 0
    augmentation: PairedSliceOptions = field(default_factory=PairedSliceOptions)
    store_features: bool = False
    features_dtype: str = "fp32"
    validation_batch: int = 4
    reference_quirks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.preprocessing()  # refuses a sequence or range that DGCF does not have
        step = 64 if self.perceptual is not None and self.perceptual.multi_resolution else 16
        if any(side < step or side % step for side in self.size_yx):
            raise ProstateXferError(
                f"The slices' size_yx is {list(self.size_yx)}: give multiples of {step}, as network and loss need."
            )
        square = self.size_yx[0] == self.size_yx[1]
        if self.perceptual is not None and self.perceptual.criterion == "high_freq" and not square:
            raise ProstateXferError("The perceptual criterion 'high_freq' needs square slices: change size_yx.")
        if self.simulated_cbct < 0 or (self.simulated_cbct and self.sequence != "CBCT"):
            raise ProstateXferError("CBCT is simulated for the sequence 'CBCT' alone, and not fewer than 0 times.")
        if self.features_dtype not in DTYPES:
            raise ProstateXferError(f"The features_dtype '{self.features_dtype}' is none of {', '.join(DTYPES)}.")
        if self.validation_batch < 1:
            raise ProstateXferError("The validation_batch starts at 1.")
        if self.store_features and self.augmentation.changes:
            raise ProstateXferError(
                "Stored features belong to unchanged slices: leave out flip and shift_px, or set store_features: false."
            )
        if set(self.reference_quirks) - {"batch_mean"}:
            raise ProstateXferError("The only quirk of a synthesis stage is 'batch_mean'; the loss has its own.")

    @property
    def checkpoints(self) -> dict[str, str]:
        """Names of checkpoints by their keys (`recipe.checks.names_of_checkpoints`)."""
        options = self.perceptual
        return {} if options is None or options.encoder is None else {PERCEPTUAL_ENCODER: options.encoder}

    def preprocessing(self) -> Preprocessing:
        """What the card says of the source."""
        return dgcf_preprocessing(self.sequence, encoder_range=self.encoder_range, resize_yx=self.size_yx)

    def pair_rules(self) -> PairRules:
        """How pairs are prepared."""
        return PairRules(self.image or self.sequence, self.preprocessing(), HU_RANGE, self.simulated_cbct)
