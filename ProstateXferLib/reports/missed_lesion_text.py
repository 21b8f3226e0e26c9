# SPDX-License-Identifier: Apache-2.0
"""The warnings about lesions that the samples see and the result does not hold, in words."""

from collections.abc import Sequence

from ProstateXferLib.metrics.missed_lesions import MissedLesion
from ProstateXferLib.reports.table import directed

MOST_WARNINGS = 5


def missed_lesion_warnings(lesions: Sequence[MissedLesion], sampled_by: str) -> list[str]:
    """A sentence for each of the first, and one for all the others together: nobody reads the twentieth."""
    told = [missed_lesion_text(lesion, sampled_by) for lesion in lesions[:MOST_WARNINGS]]
    if len(lesions) <= MOST_WARNINGS:
        return told
    return [*told, f"{len(lesions) - MOST_WARNINGS} more such lesions are in the samples and not in the result."]


def missed_lesion_text(lesion: MissedLesion, sampled_by: str) -> str:
    """One sentence with count, volume and place; `sampled_by` says what the samples are ("members", "folds", ...).

    The place has direction letters, which read the same in LPS and RAS, from the scanner's origin as in the table.
    """
    low, high = f"{lesion.volume_low_cm3:.2f}", f"{lesion.volume_high_cm3:.2f}"
    volume = low if low == high else f"{low}–{high}"
    see = "sees" if lesion.seen_by == 1 else "see"
    return (
        f"{lesion.seen_by} of {lesion.samples} {sampled_by or 'samples'} {see} a {lesion.structure} of {volume} cm³ "
        f"that the result does not hold, centroid {directed(lesion.centroid_lps)} mm: look there."
    )
