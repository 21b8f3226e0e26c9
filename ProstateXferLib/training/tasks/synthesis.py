# SPDX-License-Identifier: Apache-2.0
"""The task "synthesis": CT from MR or CBCT with a DGCF (arXiv 2511.12098)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ProstateXferLib.checkpoints.card import ModelCard, Score
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.guided_dgcf import LEVELS, GuidedDGCF
from ProstateXferLib.networks.mr_dinov3 import tapped_blocks
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.cache.pairs import PreparedPair, prepared_pairs
from ProstateXferLib.training.cache.slice_features import SliceFeatures, slice_features
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.losses.perceptual.loss import PerceptualLoss
from ProstateXferLib.training.losses.perceptual.options import PerceptualOptions
from ProstateXferLib.training.sampling.paired_slices import PairedSlices
from ProstateXferLib.training.tasks.synthesis_learner import SynthesisLearner
from ProstateXferLib.training.tasks.synthesis_network import encoder_is_frozen, synthesis_network
from ProstateXferLib.training.tasks.synthesis_scores import synthesis_scores
from ProstateXferLib.training.tasks.synthesis_settings import PERCEPTUAL_ENCODER, SynthesisSettings
from ProstateXferLib.training.tasks.synthesis_validation import validate_pairs
from ProstateXferLib.training.tasks.task import StageContext


class Synthesis:
    """See `tasks.task.Task` for what each member is.

    Args:
        context: chain, stage, cases and start.
        network: what is trained.
        samples: training pairs.
        validation: pairs that select.
        features: stored tokens of both, where the recipe stores them.
    """

    def __init__(
        self,
        context: StageContext,
        network: GuidedDGCF,
        samples: PairedSlices,
        *,
        validation: Sequence[PreparedPair],
        features: SliceFeatures | None,
    ) -> None:
        self._context, self._validation, self._features = context, tuple(validation), features
        self._settings: SynthesisSettings = context.stage.settings
        options = self._settings.perceptual
        perceptual = None if options is None else _perceptual_loss(options, network, context)
        self.network, self.samples = network, samples
        self.learner = SynthesisLearner(network, perceptual, 1.0 if options is None else options.weight)

    def after_backward(self, step: int) -> None:
        """Nothing is held still."""

    def after_step(self, step: int) -> None:
        """Nothing follows."""

    def validate(self, network: nn.Module, progress: Progress) -> dict[str, float]:
        """ "ssim" and "mae_hu" on the validation cases."""
        return validate_pairs(
            network,
            self._validation,
            hu_range=HU_RANGE,
            batch_size=self._settings.validation_batch,
            batch_mean="batch_mean" in self._settings.reference_quirks,
            features=self._features,
            progress=progress,
        )

    def card(self) -> ModelCard:
        """The card without history and scores."""
        encoder, chain = self.network.dino_encoder, self._context.chain
        rope = "bf16" if encoder.rope_dtype == torch.bfloat16 else "fp32"
        return ModelCard(
            name=chain.name,
            task="synthesis",
            architecture="dgcf",
            arguments={"eps": encoder.eps, "rope_dtype": rope, "blocks": list(self.network.blocks)},
            inputs=(self._settings.sequence,),
            preprocessing=self._settings.preprocessing(),
            hu_range=HU_RANGE,
            **dataclasses.asdict(chain.texts),
        )

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """Generator and encoder under the names of the architecture "dgcf"."""
        return dict(network.state_dict())

    def finish(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> None:
        """Nothing is tuned."""

    def score(self, checkpoint: Path, cases: Sequence[Case], progress: Progress) -> list[Score]:
        """MAE, PSNR and MS-SSIM through `Synthesizer`."""
        rules, device = self._settings.pair_rules(), str(self._context.device)
        return synthesis_scores(checkpoint, cases, rules.sequence, device=device, progress=progress)


def build(context: StageContext) -> Synthesis:
    """Prepare the pairs and build the network of a synthesis stage.

    Raises:
        ProstateXferError: cases that are no pairs, a network or start that does not fit, settings that contradict the
            groups (features stored of an encoder that is trained).
    """
    settings: SynthesisSettings = context.stage.settings
    network = synthesis_network(context.stage, context.start, settings.preprocessing())
    frozen = encoder_is_frozen(network.dino_encoder, context.stage.groups)
    if settings.store_features and not frozen:
        raise ProstateXferError(
            f"The stage '{context.stage.name}' stores features of an encoder that it trains: freeze dino_encoder in "
            "groups, or set store_features: false."
        )
    if settings.perceptual is not None and settings.perceptual.encoder is None and not frozen:
        raise ProstateXferError(
            f"The stage '{context.stage.name}' trains the encoder that its perceptual loss looks through: freeze "
            "dino_encoder in groups, or name another in settings.perceptual.encoder."
        )
    options = {"folder": context.cache / "pairs", "progress": context.progress}
    rules = settings.pair_rules()
    train = [(weight, prepared_pairs(cases, rules, **options)) for weight, cases in context.data.train]
    validation = prepared_pairs(context.data.validation, rules, **options)
    features = None
    if settings.store_features:
        features = slice_features(
            network,
            [*(pair for _, pairs in train for pair in pairs), *validation],
            folder=context.cache / "slice_features",
            dtype=settings.features_dtype,
            device=context.device,
            progress=context.progress,
        )
    samples = PairedSlices(train, settings.augmentation, context.seed, features=features)
    return Synthesis(context, network, samples, validation=validation, features=features)


def _perceptual_loss(options: PerceptualOptions, network: GuidedDGCF, context: StageContext) -> PerceptualLoss:
    """Through the network's own frozen encoder and its taps, or through another one and its usual taps."""
    if options.encoder is None:
        return PerceptualLoss(network.dino_encoder, network.blocks, options)
    checkpoint = load_checkpoint(context.checkpoints[f"settings.{PERCEPTUAL_ENCODER}"])
    encoder = checkpoint.build()
    if not isinstance(encoder, DINOv3):
        raise ProstateXferError(
            f"The perceptual loss of '{context.stage.name}' needs a DINOv3 encoder; '{checkpoint.card.name}' is a "
            f"{checkpoint.card.task} model."
        )
    encoder = encoder.to(context.device).requires_grad_(False)
    return PerceptualLoss(encoder, tapped_blocks(encoder.depth, LEVELS, None), options)
