# SPDX-License-Identifier: Apache-2.0
"""One supervised stage that trains gland and DIL heads, and the encoder unless it is frozen."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import read_image
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.networks.patch_decode import PatchDecode
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.cases import Case, labelled_cases
from ProstateXferLib.training.losses.patch_losses import segmentation_loss
from ProstateXferLib.training.one_stage_fit import fit
from ProstateXferLib.training.one_stage_recipe import EncoderShape, SegmentationRecipe
from ProstateXferLib.training.segmentation_data import LabelledStudy, prepare_study, segmentation_batches
from ProstateXferLib.training.segmentation_scores import add_scores

HEADS = ("gland", "dil")
TAPS = 4
GLAND_SMOOTHING_MM = 3.0
"""About a slice: chosen on training cases, where 0, 1, 2 and 3 mm gave rising Dice."""
LESION_MARGIN_MM = 5.0
"""How far outside the gland that was found a DIL may lie: expert lesions cross AI gland borders by millimetres."""
LESION_MINIMUM_CM3 = 0.05


def train_segmentation(
    recipe: SegmentationRecipe, destination: Path, *, data: Path, device: torch.device, progress: Progress
) -> Path:
    """Run the recipe, write the checkpoint, score it on cases it never saw, and put the scores into its card."""
    torch.manual_seed(recipe.seed)
    preprocessing = preprocessing_of(recipe)
    cases, held_out = _split(recipe, data)
    studies = _load_studies(recipe, cases, preprocessing)
    network, history = _network(recipe)
    batches = segmentation_batches(
        studies,
        batch_size=recipe.schedule.batch_size,
        options=recipe.crops,
        paint_share=recipe.paint_share,
        seed=recipe.seed,
    )
    card = _card(recipe, preprocessing, history)

    def save(trained: torch.nn.Module, step: int) -> None:
        state = {
            key: value.half() if value.is_floating_point() else value for key, value in trained.state_dict().items()
        }
        done = {"stage": recipe.name, "steps": step, "of": recipe.schedule.steps, "seed": recipe.seed}
        write_checkpoint(destination, dataclasses.replace(card, history=(*history, done)), state)

    fit(
        network,
        batches,
        segmentation_loss(recipe.seed),
        schedule=recipe.schedule,
        encoder=network.dino_encoder,
        device=device,
        progress=progress,
        snapshot=save,
    )
    return add_scores(destination, _unseen(recipe, held_out, data), device=str(device))


def score_segmentation(recipe: SegmentationRecipe, destination: Path, *, data: Path, device: torch.device) -> Path:
    """Score a checkpoint that the recipe made before, anew; texts and head rules are renewed from the recipe, too."""
    card, state = read_checkpoint(destination)
    if card.task != "segmentation" or {head.name for head in card.heads} != set(HEADS):
        raise ProstateXferError(f"'{card.name}' has not the heads {', '.join(HEADS)} that this recipe scores.")
    write_checkpoint(destination, _card(recipe, preprocessing_of(recipe), card.history), state)
    return add_scores(destination, _unseen(recipe, _split(recipe, data)[1], data), device=str(device))


def _unseen(recipe: SegmentationRecipe, held_out: list[Case], data: Path) -> dict[str, list[Case]]:
    """Set name -> cases that are never trained on."""
    sets = {f"{recipe.glands.folder}, held out": held_out} if held_out else {}
    return {**sets, **{folder: labelled_cases(data / folder) for folder in recipe.test_folders}}


def preprocessing_of(recipe: SegmentationRecipe) -> Preprocessing:
    """z-score of the volume between its 0.5 and 99.5 percentiles, square pixels, tiles of the crops' size."""
    return Preprocessing(
        intensity=IntensityRule("zscore", lower_percentile=0.5, upper_percentile=99.5),
        spacing_yx_mm=(recipe.spacing_mm, recipe.spacing_mm),
        tile_yx=(recipe.crops.size, recipe.crops.size),
    )


def new_encoder(shape: EncoderShape) -> DINOv3:
    """A randomly initialised small DINOv3; LayerScale starts higher than Meta's 1e-5, for short trainings."""
    encoder = DINOv3(shape.width, shape.depth, shape.heads)
    encoder.init_weights()
    for name, parameter in encoder.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(parameter, shape.layer_scale)
    return encoder


def _network(recipe: SegmentationRecipe) -> tuple[MRDINOv3, tuple[dict, ...]]:
    if recipe.start is None:
        encoder = new_encoder(recipe.encoder)
        return MRDINOv3(encoder, {head: PatchDecode(TAPS * encoder.width, 2) for head in HEADS}), ()
    start = load_checkpoint(recipe.start)
    network = start.build()
    if not isinstance(network, MRDINOv3) or set(network.heads) != set(HEADS):
        raise ProstateXferError(f"'{start.card.name}' has not the heads {', '.join(HEADS)} that this recipe trains.")
    return network, (*start.card.history, {"start": start.card.name, "sha256": start.sha256})


def _split(recipe: SegmentationRecipe, data: Path) -> tuple[list[Case], list[Case]]:
    if recipe.glands is None:
        return [], []
    cases = labelled_cases(data / recipe.glands.folder)
    unknown = set(recipe.glands.held_out) - {case.name for case in cases}
    if unknown:
        raise ProstateXferError(f"Held-out case(s) {', '.join(sorted(unknown))} are not in '{recipe.glands.folder}'.")
    held_out = [case for case in cases if case.name in recipe.glands.held_out]
    return [case for case in cases if case.name not in recipe.glands.held_out], held_out


def _load_studies(
    recipe: SegmentationRecipe, cases: Sequence[Case], preprocessing: Preprocessing
) -> list[tuple[float, list[LabelledStudy]]]:
    sources = []
    if cases:
        studies = [
            prepare_study(
                case.name,
                read_image(case.image),
                sitk.Cast(read_image(case.gland) > 0, sitk.sitkUInt8),
                preprocessing=preprocessing,
                paint=True,
            )
            for case in cases
        ]
        sources.append((recipe.glands.weight, studies))
    if recipe.phantoms is not None:
        sources.append((recipe.phantoms.weight, list(_phantom_studies(recipe, preprocessing))))
    if not sources:
        raise ProstateXferError(f"Recipe '{recipe.name}' has neither gland cases nor phantoms to train on.")
    return sources


def _phantom_studies(recipe: SegmentationRecipe, preprocessing: Preprocessing):
    generator = torch.Generator().manual_seed(recipe.seed)
    for seed in range(recipe.phantoms.first_seed, recipe.phantoms.first_seed + recipe.phantoms.count):
        volumes = (0.3 + 3.0 * torch.rand(2, generator=generator)).tolist()
        study = make_phantom(seed, lesion_volumes_cm3=tuple(volumes)).render(modalities=("t2w",))
        yield prepare_study(f"phantom {seed}", study.t2w, study.labels, preprocessing=preprocessing, paint=False)


def _card(recipe: SegmentationRecipe, preprocessing: Preprocessing, history: tuple[dict, ...]) -> ModelCard:
    return ModelCard(
        name=recipe.name,
        task="segmentation",
        architecture="mr_dinov3",
        arguments={"eps": 1e-5, "rope_dtype": "fp32"},
        inputs=("T2w",),
        preprocessing=preprocessing,
        structures=(PROSTATE, DIL),
        heads=(
            Head("gland", (PROSTATE.value,), smoothing_mm=GLAND_SMOOTHING_MM, largest_only=True),
            Head(
                "dil",
                (DIL.value,),
                within=PROSTATE.name,
                margin_mm=LESION_MARGIN_MM,
                min_volume_cm3=LESION_MINIMUM_CM3,
            ),
        ),
        history=history,
        **dataclasses.asdict(recipe.texts),
    )
