# SPDX-License-Identifier: Apache-2.0
"""Peak signal-to-noise ratio of a synthetic CT."""

import math

from ProstateXferLib.metrics.masks import Mask
from ProstateXferLib.metrics.sct.hu_volumes import SYNTHRAD2023_RANGE, HuRange, Where, hu_volumes


def psnr(
    reference: Mask,
    prediction: Mask,
    mask: Where = None,
    hu_range: HuRange = SYNTHRAD2023_RANGE,
    *,
    clip: bool = True,
) -> float:
    """10 log10(width² / mean squared error within the mask), dB, of both volumes clipped to the range.

    `width` is that of the range. Infinite where nothing differs, NaN when the mask is empty. `clip=False` takes the
    width alone from the range, as SynthRAD2023 and DGCF do when told to use the reference's own range.
    """
    volumes = hu_volumes(reference, prediction, mask)
    low, high = volumes.range_hu(hu_range)
    one, two = volumes.clipped(low, high) if clip else (volumes.reference, volumes.prediction)
    errors = two[volumes.inside] - one[volumes.inside]
    if not errors.size:
        return math.nan
    squared = float((errors**2).mean())
    return 10 * math.log10((high - low) ** 2 / squared) if squared > 0 and high > low else _exact(squared)


def _exact(squared: float) -> float:
    """Without an error infinite; an error in a range without width has no ratio."""
    return math.inf if squared == 0 else math.nan
