# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's normalisation schemes (specification 4.2).

In float32 throughout, and on the array as it lies in memory: that decides the last bits, so that
`images.intensity.normalize`, which sums in float64, does not stand in for it.
"""

import numpy as np

from ProstateXferLib.checkpoints.nnunet_plan import ChannelNormalization
from ProstateXferLib.errors import ProstateXferError

_FLOOR = 1e-8


def normalize_in_place(volume: np.ndarray, rule: ChannelNormalization, inside: np.ndarray) -> None:
    """Scale one channel.

    Args:
        volume: (z, y, x) float32, cropped; changed.
        rule: how.
        inside: (z, y, x) bool, the nonzero region.

    Raises:
        ProstateXferError: values that are no RGB where the rule says so.
    """
    if rule.scheme == "zscore":
        _standardise(volume, inside if rule.use_mask else None)
    elif rule.scheme == "ct":
        np.clip(volume, rule.lower, rule.upper, out=volume)
        volume -= rule.mean
        volume /= max(rule.deviation, _FLOOR)
    elif rule.scheme == "rescale_to_0_1":
        volume -= volume.min()
        volume /= max(volume.max(), _FLOOR)
    elif rule.scheme == "rgb_to_0_1":
        if volume.min() < 0 or volume.max() > 255:
            raise ProstateXferError(
                f"This nnU-Net takes values from 0 to 255; the image has {volume.min():g} to {volume.max():g}: choose "
                "another image or model."
            )
        volume /= 255.0


def _standardise(volume: np.ndarray, inside: np.ndarray | None) -> None:
    if inside is None:
        mean, deviation = volume.mean(), volume.std()
        volume -= mean
        volume /= max(deviation, _FLOOR)
        return
    values = volume[inside]
    volume[inside] = (values - values.mean()) / max(values.std(), _FLOOR)
