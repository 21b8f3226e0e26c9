# SPDX-License-Identifier: Apache-2.0
"""Training recipes: YAML files that say what is trained on what, read strictly before anything runs."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.augmentation.slice_crops import CropOptions
from ProstateXferLib.training.one_stage_fit import Schedule

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class EncoderShape:
    """A small DINOv3 trained from its random start: width, depth, heads, first value of LayerScale."""

    width: int
    depth: int
    heads: int
    layer_scale: float = 0.1


@dataclass(frozen=True)
class Texts:
    """The card's plain sentences."""

    title: str
    training_data: str
    licence: str
    citation: str


@dataclass(frozen=True)
class Phantoms:
    """Seeded phantoms: seeds first_seed .. first_seed + count - 1."""

    weight: float
    first_seed: int
    count: int


@dataclass(frozen=True)
class GlandFolder:
    """A folder of cases, each with t2w.nii.gz and gland.nii.gz.

    `held_out` cases are never trained on; they score the result.
    """

    weight: float
    folder: str
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmentationRecipe:
    """Gland and DIL heads on one encoder, one supervised stage.

    Attributes:
        start: checkpoint to start from (path or name) instead of random weights.
        spacing_mm: in-plane spacing of the network's pixels; its tiles are the crops' size.
        glands, phantoms: where crops come from, by weight.
        test_folders: folders whose cases score the result and are never trained on.
        paint_share: share of gland-only crops that get a painted lesion.
    """

    kind: str
    name: str
    texts: Texts
    encoder: EncoderShape
    spacing_mm: float
    crops: CropOptions
    schedule: Schedule
    glands: GlandFolder | None = None
    phantoms: Phantoms | None = None
    test_folders: tuple[str, ...] = ()
    paint_share: float = 0.6
    start: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class SynthesisRecipe:
    """A DGCF with its own small encoder, one stage, L1.

    Attributes:
        sequence: "T2w" or "CBCT".
        phantoms: paired phantoms.
        ct_folders: folders with ct.nii.gz from which CBCT is simulated (CBCT only).
        test_ct_folders: such folders that are never trained on and score the result.
        test_seeds: phantom seeds that score the result.
        size: rows and columns of the network's slices.
    """

    kind: str
    name: str
    texts: Texts
    encoder: EncoderShape
    base_channels: int
    sequence: str
    schedule: Schedule
    phantoms: Phantoms
    ct_folders: tuple[str, ...] = ()
    ct_weight: float = 0.0
    test_ct_folders: tuple[str, ...] = ()
    test_seeds: tuple[int, ...] = field(default=(900001, 900002))
    size: int = 256
    fusion: str = "cnn"
    seed: int = 0


_KINDS = {"segmentation": SegmentationRecipe, "synthesis": SynthesisRecipe}


def load_recipe(path_or_name: str | Path) -> SegmentationRecipe | SynthesisRecipe:
    """Read a recipe file, or a shipped one by its name.

    Raises:
        ProstateXferError: no such recipe, not YAML, an unknown or missing key, a value of the wrong type.
    """
    import yaml

    path = Path(path_or_name)
    if not path.is_file():
        path = RECIPES / f"{path_or_name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(item.stem for item in RECIPES.glob("*.yaml")))
        raise ProstateXferError(f"There is no recipe '{path_or_name}': give a YAML file or one of {known}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProstateXferError(f"The recipe '{path}' cannot be read ({error.strerror}): check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise ProstateXferError(f"The recipe '{path.name}' is not valid YAML ({detail}): correct it.") from error
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ProstateXferError(f"The recipe '{path.name}' must say kind: {' or '.join(_KINDS)}; it says {kind!r}.")
    return _build(_KINDS[kind], values, where=path.name)


def _build(cls: type, values: Any, *, where: str) -> Any:
    """A dataclass from a mapping; keys and types are checked at every level."""
    if not isinstance(values, dict):
        raise ProstateXferError(f"{where} must be a mapping of keys to values, not {values!r}.")
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise ProstateXferError(f"{where} has the unknown key '{key}': the keys are {', '.join(fields)}.")
    for key, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and key not in values:
            raise ProstateXferError(f"{where} lacks the key '{key}'.")
    return cls(**{key: _value(hints[key], value, where=f"{where}: {key}") for key, value in values.items()})


def _value(hint: Any, value: Any, *, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _value(options[0], value, where=where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where=where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ProstateXferError(f"{where} must be a list, not {value!r}.")
        inner = typing.get_args(hint)
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise ProstateXferError(f"{where} must have {len(inner)} entries, not {len(value)}.")
        return tuple(_value(inner[0], item, where=where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (hint is int and isinstance(value, bool)) or not isinstance(value, hint):
        raise ProstateXferError(f"{where} must be {hint.__name__}, not {value!r}.")
    return value
