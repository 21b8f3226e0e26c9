# SPDX-License-Identifier: Apache-2.0
"""One supervised stage that trains a DGCF and its small encoder together, L1 on paired slices."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing, Score
from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, dgcf_preprocessing
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.phantom import default_ct_grid, make_phantom
from ProstateXferLib.metrics.synthesis import mae_hu
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.synthesizer import Synthesizer
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.engine import fit
from ProstateXferLib.training.losses import l1_loss
from ProstateXferLib.training.recipe import SynthesisRecipe
from ProstateXferLib.training.segmentation_stage import new_encoder
from ProstateXferLib.training.synthesis_data import phantom_pairs, simulated_cbct_pairs, synthesis_batches

_LOGGER = logging.getLogger(__name__)


def train_synthesis(
    recipe: SynthesisRecipe, destination: Path, *, data: Path, device: torch.device, progress: Progress
) -> Path:
    """Run the recipe, write the checkpoint, score it on phantoms (and CTs) it never saw, and put that into its card."""
    torch.manual_seed(recipe.seed)
    preprocessing = dgcf_preprocessing(recipe.sequence, resize_yx=(recipe.size, recipe.size))
    encoder = new_encoder(recipe.encoder)
    generator = DGCF(recipe.base_channels, encoder.width, fusion=recipe.fusion)
    network = GuidedDGCF(generator, encoder, encoder_range=preprocessing.encoder_range)
    network = network.to(memory_format=torch.channels_last)  # convolutions run a quarter faster on a CPU
    batches = synthesis_batches(
        _sources(recipe, data, preprocessing), batch_size=recipe.schedule.batch_size, seed=recipe.seed
    )
    card = ModelCard(
        name=recipe.name,
        task="synthesis",
        architecture="dgcf",
        arguments={"eps": 1e-5, "rope_dtype": "fp32", "blocks": list(network.blocks)},
        inputs=(recipe.sequence,),
        preprocessing=preprocessing,
        hu_range=HU_RANGE,
        **dataclasses.asdict(recipe.texts),
    )

    def save(trained: torch.nn.Module, step: int) -> None:
        done = {"stage": recipe.name, "steps": step, "of": recipe.schedule.steps, "seed": recipe.seed}
        write_checkpoint(destination, dataclasses.replace(card, history=(done,)), _half(trained))

    fit(
        network,
        batches,
        l1_loss,
        schedule=recipe.schedule,
        encoder=encoder,
        device=device,
        progress=progress,
        snapshot=save,
    )
    return _with_scores(destination, recipe, device)


def _sources(recipe: SynthesisRecipe, data: Path, preprocessing: Preprocessing):
    options = {"preprocessing": preprocessing, "hu_range": HU_RANGE}
    seeds = range(recipe.phantoms.first_seed, recipe.phantoms.first_seed + recipe.phantoms.count)
    sources = [(recipe.phantoms.weight, list(phantom_pairs(seeds, recipe.sequence, **options)))]
    if recipe.ct_folders:
        folders = [data / folder for folder in recipe.ct_folders]
        sources.append((recipe.ct_weight, list(simulated_cbct_pairs(folders, **options))))
    return sources


def _with_scores(destination: Path, recipe: SynthesisRecipe, device: torch.device) -> Path:
    """Mean absolute error inside the body on phantoms of unseen seeds, through the `Synthesizer` that users run."""
    synthesizer, errors = Synthesizer(destination, device=str(device)), []
    for seed in recipe.test_seeds:
        modality = "t2w" if recipe.sequence == "T2w" else "cbct"
        study = make_phantom(seed).render(default_ct_grid(), modalities=(modality, "ct"))
        errors.append(body_mae_hu(study.ct, synthesizer.predict(getattr(study, modality))))
    _LOGGER.info("phantom MAE in the body: %s HU", [round(error, 1) for error in errors])
    score = Score(
        "mean absolute error in the body, HU", round(float(np.mean(errors)), 1), "unseen phantoms", len(errors)
    )
    checkpoint = load_checkpoint(destination)
    card = dataclasses.replace(checkpoint.card, scores=(score,))
    return write_checkpoint(destination, card, _half(checkpoint.build()))


def body_mae_hu(ct: sitk.Image, synthetic: sitk.Image) -> float:
    """Mean absolute error in HU inside the CT's body outline."""
    return mae_hu(ct, synthetic, mask=body_mask(ct))


def _half(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
