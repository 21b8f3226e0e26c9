# SPDX-License-Identifier: Apache-2.0
"""One supervised stage that trains a DGCF and its small encoder together, L1 on paired slices."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing, Score
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, dgcf_preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.phantom import default_ct_grid, make_phantom, simulate_cbct
from ProstateXferLib.metrics.synthesis import mae_hu
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.synthesizer import Synthesizer
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.losses.patch_losses import l1_loss
from ProstateXferLib.training.one_stage_fit import fit
from ProstateXferLib.training.one_stage_recipe import SynthesisRecipe
from ProstateXferLib.training.segmentation_stage import new_encoder
from ProstateXferLib.training.synthesis_data import phantom_pairs, simulated_cbct_pairs, synthesis_batches

_LOGGER = logging.getLogger(__name__)
_TEST_NOISE = 900001  # training draws from 0 upwards


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
    card = _card(recipe, preprocessing, {"eps": 1e-5, "rope_dtype": "fp32", "blocks": list(network.blocks)})

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
    return _with_scores(destination, recipe, data=data, device=device)


def score_synthesis(recipe: SynthesisRecipe, destination: Path, *, data: Path, device: torch.device) -> Path:
    """Score a checkpoint that the recipe made before, anew; texts are renewed from the recipe, too."""
    card, state = read_checkpoint(destination)
    if card.task != "synthesis" or card.inputs != (recipe.sequence,):
        raise ProstateXferError(f"'{card.name}' makes no CT from {recipe.sequence}, which this recipe scores.")
    renewed = dataclasses.replace(_card(recipe, card.preprocessing, card.arguments), history=card.history)
    write_checkpoint(destination, renewed, state)
    return _with_scores(destination, recipe, data=data, device=device)


def _card(recipe: SynthesisRecipe, preprocessing: Preprocessing, arguments: dict[str, Any]) -> ModelCard:
    return ModelCard(
        name=recipe.name,
        task="synthesis",
        architecture="dgcf",
        arguments=arguments,
        inputs=(recipe.sequence,),
        preprocessing=preprocessing,
        hu_range=HU_RANGE,
        **dataclasses.asdict(recipe.texts),
    )


def _sources(recipe: SynthesisRecipe, data: Path, preprocessing: Preprocessing):
    options = {"preprocessing": preprocessing, "hu_range": HU_RANGE}
    seeds = range(recipe.phantoms.first_seed, recipe.phantoms.first_seed + recipe.phantoms.count)
    sources = [(recipe.phantoms.weight, list(phantom_pairs(seeds, recipe.sequence, **options)))]
    if recipe.ct_folders:
        folders = [data / folder for folder in recipe.ct_folders]
        sources.append((recipe.ct_weight, list(simulated_cbct_pairs(folders, **options))))
    return sources


def _with_scores(destination: Path, recipe: SynthesisRecipe, *, data: Path, device: torch.device) -> Path:
    """Mean absolute error inside the body on what was never trained on, through the `Synthesizer` that users run."""
    synthesizer, scores = Synthesizer(destination, device=str(device)), []
    for name, pairs in _unseen(recipe, data).items():
        errors = [body_mae_hu(ct, synthesizer.predict(source)) for source, ct in pairs]
        _LOGGER.info("%s, MAE in the body: %s HU", name, [round(error, 1) for error in errors])
        metric = "mean absolute error in the body, HU"
        scores.append(Score(metric, round(float(np.mean(errors)), 1), name, len(errors)))
    card, state = read_checkpoint(destination)
    return write_checkpoint(destination, dataclasses.replace(card, scores=tuple(scores)), state)


def _unseen(recipe: SynthesisRecipe, data: Path) -> dict[str, list[tuple[sitk.Image, sitk.Image]]]:
    """Set name -> (source, CT) pairs: phantoms of other seeds, and simulated CBCT of other patients' CT."""
    modality = "t2w" if recipe.sequence == "T2w" else "cbct"
    studies = [make_phantom(seed).render(default_ct_grid(), modalities=(modality, "ct")) for seed in recipe.test_seeds]
    sets = {"unseen phantoms": [(getattr(study, modality), study.ct) for study in studies]}
    if recipe.test_ct_folders:
        cts = [read_image(data / folder / "ct.nii.gz") for folder in recipe.test_ct_folders]
        sets["CBCT simulated from unseen real CT"] = [(simulate_cbct(ct, seed=_TEST_NOISE), ct) for ct in cts]
    return sets


def body_mae_hu(ct: sitk.Image, synthetic: sitk.Image) -> float:
    """Mean absolute error in HU inside the CT's body outline."""
    return mae_hu(ct, synthetic, mask=body_mask(ct))


def _half(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
