# SPDX-License-Identifier: Apache-2.0
"""What a model says of one case, on disk: probability maps of some structures, cut to where they say anything."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file
from ProstateXferLib.pipelines.opinion_pool import SMALLEST_PROBABILITY
from ProstateXferLib.studies.ensemble_selection.box import Box

_SUFFIX = ".safetensors"
_KEY_DIGITS = 32


@dataclass(frozen=True)
class PredictionFile:
    """Where the maps of a case are, and which box of the image they fill.

    Attributes:
        path: of the file; one array (z, y, x) float32 a structure.
        box: around all that reaches `SMALLEST_PROBABILITY`. Every voxel outside counts as 0, which a logarithmic pool
            takes for that least probability anyway.
    """

    path: Path
    box: Box

    def read(self, names: Iterable[str], box: Box) -> dict[str, np.ndarray]:
        """Structure name -> probability (z, y, x) float32 in a box of the image; arrays of the caller's own.

        Raises:
            ProstateXferError: the file is damaged or gone.
        """
        from safetensors import SafetensorError, safe_open

        common = self.box.shared(box)
        found = {name: np.zeros(box.shape_zyx, dtype=np.float32) for name in names}
        if common.empty:
            return found
        try:
            with safe_open(self.path, framework="numpy") as opened:
                for name, whole in found.items():
                    whole[common.inside(box)] = opened.get_slice(name)[common.inside(self.box)]
        except (SafetensorError, OSError) as error:
            raise ProstateXferError(
                f"The kept prediction '{self.path}' cannot be read ({error}): remove it and run again."
            ) from error
        return found


def prediction_path(folder: Path, key: Mapping[str, Any]) -> Path:
    """The file of a prediction; `key` is all that it depends on, JSON values."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:_KEY_DIGITS]}{_SUFFIX}"


def write_prediction(path: Path, maps: Mapping[str, np.ndarray]) -> PredictionFile:
    """Cut the maps (z, y, x), all of one shape, to the box around what reaches `SMALLEST_PROBABILITY`; write them."""
    from safetensors.numpy import save_file

    box = Box.of(np.any([volume >= SMALLEST_PROBABILITY for volume in maps.values()], axis=0))
    cut = {name: np.ascontiguousarray(volume[box.slices], dtype=np.float32) for name, volume in maps.items()}
    with atomic_file(path) as temporary:
        save_file(cut, temporary, metadata={"start_zyx": json.dumps(box.start_zyx)})
    return PredictionFile(path, box)


def find_prediction(path: Path) -> PredictionFile | None:
    """The prediction of an earlier run; None where there is none or only a damaged one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as opened:
            start = tuple(json.loads(opened.metadata()["start_zyx"]))
            names = opened.keys()
            shapes = {tuple(opened.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None
    return PredictionFile(path, Box(start, shapes.pop())) if len(shapes) == 1 else None
