# SPDX-License-Identifier: Apache-2.0
"""What a model card says about the way from an image to the network and back."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ProstateXferLib.checkpoints.nnunet_plan import NnunetPlan
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule

BLENDINGS = ("gaussian", "constant")
_SIZES = {"spacing_yx_mm": 2, "resize_yx": 2, "tile_yx": 2, "spacing_zyx_mm": 3, "tile_zyx": 3}
_WORDS = {2: "two", 3: "three"}
# Fields that the first cards did not have; they are written only where they say something, so that such cards stay as
# they are, byte by byte, and are read by the versions that wrote them.
_LATER = ("further_intensities", "spacing_zyx_mm", "tile_zyx", "overlap", "blending", "mirror_axes", "n4", "nnunet")
_LATER_INTENSITY = ("mean", "deviation")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what the network sees. Axes z, y, x run to Superior, Posterior and Left.

    Attributes:
        intensity: rule that maps voxel values to network input.
        spacing_yx_mm: in-plane spacing the slices are resampled to (posterior, left axis); None keeps the image's own.
        resize_yx: rows, columns every slice is resized to regardless of its aspect (DGCF); None does not resize.
        tile_yx: rows, columns of a 2-D network's tile; None runs each slice whole. Multiples of 16 for an MR-DINOv3,
            of the product of the strides for a U-Net, of 32 for smp.
        encoder_range: range to which [-1, 1] is shifted before the DINOv3 encoder of a DGCF. The reference feeds MR as
            [0, 2] by an oversight and CT or CBCT as [-1, 1]; a checkpoint needs what it was trained with.
        further_intensities: rules of the sequences after the first, in channel order; empty uses `intensity` for all.
        spacing_zyx_mm: spacing the whole volume is resampled to; excludes spacing_yx_mm and resize_yx.
        tile_zyx: planes, rows, columns of a 3-D network's window; None runs the volume whole.
        overlap: share of a tile that the next one covers again (dense networks).
        blending: how overlapping tiles are weighted, "gaussian" (nnU-Net) or "constant" (MONAI; dense networks).
        mirror_axes: of "z", "y", "x" those along which test-time augmentation may mirror; None is every axis the
            network runs over, () none (dense networks and mr_dinov3).
        n4: whether the bias field is corrected first (images/bias_field.py).
        nnunet: nnU-Net's own way, exactly (pipelines/nnunet); it excludes all other settings, and `intensity` is then
            the rule that comes nearest, for readers of the card.
    """

    intensity: IntensityRule
    spacing_yx_mm: tuple[float, float] | None = None
    resize_yx: tuple[int, int] | None = None
    tile_yx: tuple[int, int] | None = None
    encoder_range: tuple[float, float] = (-1.0, 1.0)
    further_intensities: tuple[IntensityRule, ...] = ()
    spacing_zyx_mm: tuple[float, float, float] | None = None
    tile_zyx: tuple[int, int, int] | None = None
    overlap: float = 0.5
    blending: str = "gaussian"
    mirror_axes: tuple[str, ...] | None = None
    n4: bool = False
    nnunet: NnunetPlan | None = None

    def __post_init__(self) -> None:
        for name, count in _SIZES.items():
            if getattr(self, name) is not None and not _are_numbers(getattr(self, name), count, above_zero=True):
                raise ProstateXferError(
                    f"The preprocessing's {name} must be {_WORDS[count]} positive numbers, not {getattr(self, name)}."
                )
        span = self.encoder_range
        if not _are_numbers(span, 2) or not span[0] < span[1]:
            raise ProstateXferError(f"The preprocessing's encoder_range must increase; it is {span}.")
        if self.spacing_zyx_mm is not None and (self.spacing_yx_mm is not None or self.resize_yx is not None):
            raise ProstateXferError(
                "The preprocessing's spacing_zyx_mm excludes spacing_yx_mm and resize_yx: give one of them."
            )
        if self.tile_yx is not None and self.tile_zyx is not None:
            raise ProstateXferError("The preprocessing has a tile_yx and a tile_zyx: give the one the network takes.")
        self._check_tiling()
        others = [f.name for f in fields(self) if f.name not in ("intensity", "nnunet")]
        given = [f.name for f in fields(self) if f.name in others and getattr(self, f.name) != f.default]
        if self.nnunet is not None and given:
            raise ProstateXferError(f"The preprocessing's nnunet excludes {given[0]}: leave one of them out.")

    def _check_tiling(self) -> None:
        if not isinstance(self.overlap, int | float) or not 0 <= self.overlap < 1:
            raise ProstateXferError(f"The preprocessing's overlap must be from 0 up to, not, 1; it is {self.overlap}.")
        if self.blending not in BLENDINGS:
            raise ProstateXferError(
                f"The preprocessing's blending '{self.blending}' is none of {', '.join(BLENDINGS)}."
            )
        axes = self.mirror_axes or ()
        if len(set(axes)) != len(axes) or not set(axes) <= {"z", "y", "x"}:
            raise ProstateXferError(f"The preprocessing's mirror_axes may be z, y and x, each once; they are {axes}.")
        if not isinstance(self.n4, bool):
            raise ProstateXferError(f"The preprocessing's n4 must be true or false, not {self.n4}.")

    @property
    def dense_alone(self) -> tuple[str, ...]:
        """Names of the settings given here that only dense networks follow."""
        names = ("spacing_zyx_mm", "tile_zyx", "overlap", "blending", "mirror_axes", "further_intensities")
        defaults = {field.name: field.default for field in fields(self)}
        return tuple(name for name in names if getattr(self, name) != defaults[name])

    def rule_of(self, channel: int) -> IntensityRule:
        """The intensity rule of one input channel."""
        return self.further_intensities[channel - 1] if channel and self.further_intensities else self.intensity

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model card."""
        values = asdict(self)
        defaults = {field.name: field.default for field in fields(self)}
        for name in _LATER:
            if getattr(self, name) == defaults[name]:
                del values[name]
        for rule in (values["intensity"], *values.get("further_intensities", ())):
            for name in _LATER_INTENSITY:
                if rule[name] is None:
                    del rule[name]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`."""
        read = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if "nnunet" in read:
            read["nnunet"] = NnunetPlan.from_json(values["nnunet"])
        read["intensity"] = IntensityRule.from_json(values["intensity"])
        if "further_intensities" in read:
            rules = read["further_intensities"]
            read["further_intensities"] = tuple(IntensityRule.from_json(rule) for rule in rules)
        return cls(**read)


def _are_numbers(values: Any, count: int, *, above_zero: bool = False) -> bool:
    if not isinstance(values, tuple) or len(values) != count:
        return False
    return all(isinstance(v, int | float) and math.isfinite(v) and (v > 0 or not above_zero) for v in values)
