# SPDX-License-Identifier: Apache-2.0
"""`Group`: networks for which a study is prepared once, and `StudyRun`: one study on its way through all groups."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import SimpleITK as sitk
import torch

from ProstateXferLib.pipelines.unit import HeadFound, Part, Unit
from ProstateXferLib.pipelines.window_options import WindowOptions
from ProstateXferLib.progress import Progress


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A study and how it is run.

    Attributes:
        images: by sequence; those that the group's members take are among them.
        tta: average the logits over all mirrorings along the axes that the card allows, up to four in 2-D and eight in
            3-D.
        skip_outside: decode only tokens that can hold something, see `Segmenter`; networks that work on whole windows
            have nothing to leave out of them.
        windows: how windows or tiles are laid.
        progress: told which slice or window is done; asked whether to stop.
        part: told what each fold says alone, or each mirroring where there is one fold and `tta`; only for a group of
            one unit.
    """

    images: Mapping[str, sitk.Image]
    tta: bool
    skip_outside: bool
    windows: WindowOptions
    progress: Progress
    part: Part | None = None


class Group(Protocol):
    """Networks with a common preprocessing.

    Attributes:
        units: what counts as one in an average.
        device: where it runs; the CPU for good, once memory of another ran out for the least that can be run.
        folds: networks of a unit that could speak alone.
    """

    units: tuple[Unit, ...]
    device: torch.device
    folds: int

    def predict(self, run: StudyRun) -> Iterator[HeadFound]:
        """Yield what every head of every unit finds, on the grid of its first image, unit by unit.

        Raises:
            ProstateXferError: a network gave values that are not finite, and whatever preparing the study raises.
        """
