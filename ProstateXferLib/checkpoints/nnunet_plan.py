# SPDX-License-Identifier: Apache-2.0
"""What a model card keeps of nnU-Net's plans: everything that its way from an image to labels depends on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ProstateXferLib.errors import ProstateXferError

SCHEMES = ("zscore", "ct", "nonorm", "rescale_to_0_1", "rgb_to_0_1")
_CT_NUMBERS = ("lower", "upper", "mean", "deviation")


@dataclass(frozen=True)
class ChannelNormalization:
    """How nnU-Net scales one input channel.

    Attributes:
        scheme: "zscore" (mean and deviation of the cropped image), "ct", "nonorm", "rescale_to_0_1" or "rgb_to_0_1".
        use_mask: zscore alone: only voxels inside the image's nonzero region count and are scaled.
        lower, upper, mean, deviation: ct alone, of the training set's foreground: clipped to the first two (its 0.5th
            and 99.5th percentile), then minus mean, divided by deviation.
    """

    scheme: str
    use_mask: bool = False
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ProstateXferError(f"nnU-Net's normalisation '{self.scheme}' is none of {', '.join(SCHEMES)}.")
        given = [getattr(self, name) for name in _CT_NUMBERS]
        if self.scheme == "ct":
            sound = all(_is_number(value) for value in given) and self.lower < self.upper and self.deviation > 0
        else:
            sound = given == [None] * len(given)
        if not sound:
            raise ProstateXferError(
                f"nnU-Net's normalisation '{self.scheme}' has {', '.join(_CT_NUMBERS)} {given}: 'ct' alone takes them, "
                "increasing limits and a deviation above zero; get the file again."
            )


@dataclass(frozen=True)
class NnunetPlan:
    """Axes are those of nnU-Net: the file's array axes (z, y, x) after `transpose_forward`, whatever the orientation.

    Attributes:
        configuration: "2d", "3d_fullres", ...
        spacing_mm: what images are resampled to; two numbers (2-D) leave the first axis as it is.
        patch: sides of a window, as many as the network has axes.
        normalization: one per input channel.
        transpose_forward: the array axis that becomes axis k.
        mirror_axes: axes of the patch along which test-time augmentation may mirror.
        data_order, logits_order: spline order of resampling in and out.
        force_separate_z: whether slices are resampled one by one; None decides by the spacing (above 3 to 1).
        to_ras: whether the image is first brought into RAS order (nnU-Net's "WithReorient" readers).
        folds: whose networks the file holds; several are averaged by logits, as nnU-Net does.
    """

    configuration: str
    spacing_mm: tuple[float, ...]
    patch: tuple[int, ...]
    normalization: tuple[ChannelNormalization, ...]
    transpose_forward: tuple[int, int, int] = (0, 1, 2)
    mirror_axes: tuple[int, ...] = ()
    data_order: int = 3
    logits_order: int = 1
    force_separate_z: bool | None = None
    to_ras: bool = False
    folds: tuple[str, ...] = ("0",)

    def __post_init__(self) -> None:
        axes = len(self.patch)
        problem = None
        if axes not in (2, 3) or not all(isinstance(side, int) and side > 0 for side in self.patch):
            problem = f"patch {self.patch}"
        elif len(self.spacing_mm) != axes or not all(_is_number(mm) and mm > 0 for mm in self.spacing_mm):
            problem = f"spacing_mm {self.spacing_mm}"
        elif sorted(self.transpose_forward) != [0, 1, 2]:
            problem = f"transpose_forward {self.transpose_forward}"
        elif len(set(self.mirror_axes)) != len(self.mirror_axes) or not set(self.mirror_axes) <= set(range(axes)):
            problem = f"mirror_axes {self.mirror_axes}"
        elif not {self.data_order, self.logits_order} <= set(range(6)):
            problem = f"resampling orders {self.data_order} and {self.logits_order}"
        elif not self.normalization or not self.folds or len(set(self.folds)) != len(self.folds):
            problem = f"normalisation of {len(self.normalization)} channels and folds {self.folds}"
        if problem is not None:
            raise ProstateXferError(f"nnU-Net's plan makes no sense (its {problem}): get the file again.")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model card; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "NnunetPlan":
        """The plan of a model card."""
        read = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        read["normalization"] = tuple(ChannelNormalization(**rule) for rule in values["normalization"])
        return cls(**read)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
