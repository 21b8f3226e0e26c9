# SPDX-License-Identifier: Apache-2.0
"""Importing an nnU-Net v2 results folder, its own networks and MedDINOv3's: one file with as many folds as wanted."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ProstateXferLib.checkpoints.architectures import complete_arguments
from ProstateXferLib.checkpoints.card import ModelCard, Preprocessing
from ProstateXferLib.checkpoints.file_format import file_sha256
from ProstateXferLib.checkpoints.hints import card_texts, check_hints, encoder_arguments, numbers
from ProstateXferLib.checkpoints.import_dinov3 import MEDDINOV3_CITATION
from ProstateXferLib.checkpoints.nnunet_architecture import nnunet_architecture
from ProstateXferLib.checkpoints.nnunet_folder import NnunetFolder, nnunet_files, read_nnunet_folder
from ProstateXferLib.checkpoints.nnunet_labels import nnunet_head
from ProstateXferLib.checkpoints.nnunet_plan import ChannelNormalization, NnunetPlan
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule

FOLDS_PREFIX = "folds."
"""Before the weights of each fold where a file holds several: folds.0.encoder..."""
CITATION = "Isensee et al., nnU-Net, Nature Methods 2021"
_HINTS = ("fold", "checkpoint", "structures", "inputs", "blocks")
_SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "nonorm",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
_READERS = {"SimpleITKIO": False, "NibabelIO": False, "SimpleITKIOWithReorient": True, "NibabelIOWithReorient": True}
_RESAMPLING = "resample_data_or_seg_to_shape"
_SEQUENCES = {"t2": "T2w", "t2w": "T2w", "adc": "ADC", "hbv": "high-b", "dwi": "high-b", "highb": "high-b", "ct": "CT"}


def import_nnunet(source: Path, hints: dict[str, Any]) -> tuple[ModelCard, dict[str, Any]]:
    """Card and weights of a results folder.

    Args:
        source: TRAINER__PLANS__CONFIGURATION, or one fold_K in it.
        hints: `fold` (a number, "all" or several; all numbered ones), `checkpoint` (file name), `structures` (names in
            channel order), `inputs` (sequence names in channel order), `blocks` (MedDINOv3), and the common ones.

    Raises:
        ProstateXferError: incomplete, unsafe, or something that this version would not reproduce.
    """
    check_hints(hints, _HINTS, "an nnU-Net results folder")
    folder = read_nnunet_folder(source, folds=hints.get("fold"), checkpoint=hints.get("checkpoint"))
    with _sound_plans(source):
        return _card_and_weights(folder, hints)


def nnunet_card(source: Path) -> ModelCard:
    """The card of a results folder for a list: no weight is read, nothing is hashed, PyTorch is not loaded.

    It lacks what only those would tell: `history`, and of a MedDINOv3 the `arguments`.

    Raises:
        ProstateXferError: as `import_nnunet`, but for what only the weights show.
    """
    folder = read_nnunet_folder(source, outlines=True)
    with _sound_plans(source):
        return _card(folder, {}, {})


def nnunet_sha256(source: Path) -> str:
    """One hash over the hashes of the files that the folder's model is made of."""
    import hashlib

    return hashlib.sha256("".join(file_sha256(file) for file in nnunet_files(source)).encode()).hexdigest()


@contextmanager
def _sound_plans(source: Path) -> Iterator[None]:
    """Say in one sentence what malformed plans lead to."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ProstateXferError(f"The plans of '{source}' are malformed ({error!r}): get the folder again.") from error


def _card_and_weights(folder: NnunetFolder, hints: dict[str, Any]) -> tuple[ModelCard, dict[str, Any]]:
    if _is_meddinov3(folder):
        encoder, states = _meddinov3(folder, hints)
    else:
        encoder, states = {}, [_unique(fold.weights) for fold in folder.folds]
    history = tuple(
        {"imported_from": f"fold_{fold.name}/{fold.path.name}", "sha256": file_sha256(fold.path)}
        for fold in folder.folds
    )
    card = _card(folder, hints, encoder, history)
    if len(states) == 1:
        return card, states[0]
    named = zip(folder.folds, states, strict=True)
    return card, {f"{FOLDS_PREFIX}{fold.name}.{key}": value for fold, state in named for key, value in state.items()}


def _card(
    folder: NnunetFolder, hints: dict[str, Any], encoder: dict[str, Any], history: tuple[dict[str, Any], ...] = ()
) -> ModelCard:
    """The card; `encoder` has the arguments of a MedDINOv3."""
    names = hints.get("structures")
    head, structures = nnunet_head(folder.dataset, [names] if isinstance(names, str) else names)
    inputs = _inputs(folder.dataset, hints)
    plan = _plan(folder, len(inputs))
    tokens = _is_meddinov3(folder)
    if tokens:
        architecture, arguments = "mr_dinov3", encoder
    else:
        architecture, arguments = nnunet_architecture(folder.configuration)
        arguments = complete_arguments(architecture, arguments, channels=len(inputs), classes=head.classes)
    return ModelCard(
        task="segmentation",
        architecture=architecture,
        arguments=arguments,
        inputs=inputs,
        preprocessing=Preprocessing(intensity=_nearest_rule(plan.normalization[0]), nnunet=plan),
        structures=structures,
        heads=(head,),
        history=history,
        **card_texts(hints, _texts(folder, CITATION if not tokens else f"{MEDDINOV3_CITATION}; {CITATION}")),
    )


def _texts(folder: NnunetFolder, citation: str) -> dict[str, str]:
    """What the card says where the user says nothing; a fold by its own folder is told by name from its siblings."""
    dataset = str(folder.plans.get("dataset_name", "not stated"))
    fold = folder.folds[0].name if folder.alone else None
    return {
        "name": _slug(f"{dataset}-{folder.name}{f'-fold-{fold}' if fold else ''}"),
        "title": f"nnU-Net {folder.name} of {dataset}{f', fold {fold}' if fold else ''}",
        "licence": "not stated: ask the authors of the folder",
        "citation": citation,
        "training_data": dataset,
    }


def _is_meddinov3(folder: NnunetFolder) -> bool:
    return any(key.startswith("dino_encoder.") for key in folder.folds[0].weights)


def _unique(weights: Mapping[str, Any]) -> dict[str, Any]:
    from ProstateXferLib.networks.unet_names import without_aliases

    return without_aliases(weights)


def _meddinov3(folder: NnunetFolder, hints: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import torch

    from ProstateXferLib.networks.mr_dinov3 import MRDINOv3

    blocks = numbers(hints, "blocks", int)
    networks = [
        MRDINOv3.from_state_dict(fold.weights, eps=hints.get("eps"), rope_dtype=hints.get("rope_dtype"), blocks=blocks)
        for fold in folder.folds
    ]
    encoder = networks[0].dino_encoder
    rope = "bf16" if encoder.rope_dtype == torch.bfloat16 else "fp32"
    arguments = {**encoder_arguments(hints, eps=encoder.eps, rope_dtype=rope), "blocks": list(networks[0].blocks)}
    return arguments, [network.state_dict() for network in networks]


def _inputs(dataset: Mapping[str, Any], hints: Mapping[str, Any]) -> tuple[str, ...]:
    channels = dataset.get("channel_names") or dataset["modality"]
    own = [str(channels[key]) for key in sorted(channels, key=int)]
    if hints.get("inputs") is None:
        named = tuple(_SEQUENCES.get("".join(sign for sign in name.lower() if sign.isalnum()), name) for name in own)
        return named if len(set(named)) == len(named) else tuple(own)
    given = hints["inputs"]
    given = (given,) if isinstance(given, str) else tuple(str(name) for name in given)
    if len(given) != len(own):
        raise ProstateXferError(f"The network takes {', '.join(own)}, but {len(given)} names of inputs were given.")
    return given


def _plan(folder: NnunetFolder, channels: int) -> NnunetPlan:
    configuration, plans = folder.configuration, folder.plans
    _refuse_unknown_steps(plans, configuration)
    data, logits = (configuration.get(f"resampling_fn_{name}_kwargs") or {} for name in ("data", "probabilities"))
    if any(kwargs.get("order_z", 0) for kwargs in (data, logits)) or (
        data.get("force_separate_z") != logits.get("force_separate_z")
    ):
        raise ProstateXferError("nnU-Net's plans resample with settings (order_z, force_separate_z) that are unknown.")
    return NnunetPlan(
        configuration=folder.name,
        spacing_mm=tuple(float(mm) for mm in configuration["spacing"]),
        patch=tuple(int(side) for side in configuration["patch_size"]),
        normalization=_normalization(configuration, plans, channels),
        transpose_forward=tuple(int(axis) for axis in plans["transpose_forward"]),
        mirror_axes=folder.folds[0].mirror_axes,
        data_order=int(data.get("order", 3)),
        logits_order=int(logits.get("order", 1)),
        force_separate_z=data.get("force_separate_z"),
        to_ras=_READERS[plans["image_reader_writer"]],
        folds=tuple(fold.name for fold in folder.folds),
    )


def _refuse_unknown_steps(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Whatever would give another result than nnU-Net's is not imported."""
    steps = {"image_reader_writer": (plans.get("image_reader_writer"), tuple(_READERS))}
    steps["preprocessor_name"] = (configuration.get("preprocessor_name"), ("DefaultPreprocessor",))
    for key in ("resampling_fn_data", "resampling_fn_probabilities"):
        steps[key] = (configuration.get(key), (_RESAMPLING,))
    for key, (value, known) in steps.items():
        if value not in known:
            raise ProstateXferError(
                f"nnU-Net's plans say {key} '{value}', which this version does not reproduce ({', '.join(known)} "
                "only): the folder is not imported, because its results would be wrong."
            )
    if configuration.get("previous_stage"):
        raise ProstateXferError(
            f"This nnU-Net refines the result of its '{configuration['previous_stage']}' (a cascade), which this "
            "version does not run: choose another configuration of it."
        )


def _normalization(
    configuration: Mapping[str, Any], plans: Mapping[str, Any], channels: int
) -> tuple[ChannelNormalization, ...]:
    schemes, masks = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    if len(schemes) != channels or len(masks) != channels:
        raise ProstateXferError(f"nnU-Net's plans normalise {len(schemes)} channels, dataset.json names {channels}.")
    rules = []
    for channel, (name, mask) in enumerate(zip(schemes, masks, strict=True)):
        if name not in _SCHEMES:
            raise ProstateXferError(
                f"nnU-Net's normalisation '{name}' is not reproduced by this version ({', '.join(_SCHEMES)}): the "
                "folder is not imported, because its results would be wrong."
            )
        scheme, limits = _SCHEMES[name], {}
        if scheme == "ct":
            found = plans["foreground_intensity_properties_per_channel"][str(channel)]
            keys = {"lower": "percentile_00_5", "upper": "percentile_99_5", "mean": "mean", "deviation": "std"}
            limits = {own: float(found[key]) for own, key in keys.items()}
        rules.append(ChannelNormalization(scheme, bool(mask) and scheme == "zscore", **limits))
    return tuple(rules)


def _nearest_rule(rule: ChannelNormalization) -> IntensityRule:
    """The rule of ours that comes nearest, for readers of the card; nnU-Net's own is what runs."""
    if rule.scheme == "ct":
        fixed = {"lower": rule.lower, "upper": rule.upper, "mean": rule.mean, "deviation": rule.deviation}
        return IntensityRule("standardise", **fixed)
    if rule.scheme == "rescale_to_0_1":
        return IntensityRule("percentile01", lower_percentile=0, upper_percentile=100)
    if rule.scheme == "zscore":
        return IntensityRule("zscore")
    return IntensityRule("standardise", mean=0.0, deviation=255.0 if rule.scheme == "rgb_to_0_1" else 1.0)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
