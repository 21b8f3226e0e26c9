# SPDX-License-Identifier: Apache-2.0
"""Centroids of structures and lesion parts as labelled points."""

from collections import Counter
from collections.abc import Sequence

from ProstateXferLib.images.structures import DIL
from ProstateXferLib.metrics.measurement import Measurement

# Per cent of the view: half of Slicer's default, so that a point does not hide the lesion it marks.
_GLYPH_SCALE = 1.5


def writeCentroids(measurements: Sequence[Measurement], node) -> None:
    """Replace the points of the fiducial node: one a measurement that has a centroid, in the world, labelled by its id.

    Of a lesion, either the parts are visible or the whole: the centroid of several parts may lie in none of them, and
    that of a single part lies on that of the whole. The points are locked, as a person who moves them would change
    nothing but the picture.
    """
    parts = Counter(m.label for m in measurements if m.component)
    wasEmpty = node.GetNumberOfControlPoints() == 0
    wasModifying = node.StartModify()
    node.RemoveAllControlPoints()
    for measurement in measurements:
        if measurement.centroid_ras is None:
            continue
        index = node.AddControlPointWorld(list(measurement.centroid_ras), measurement.id)
        node.SetNthControlPointDescription(index, f"{measurement.volume_cm3:.2f} cm³")
        several = parts[measurement.label] > 1
        node.SetNthControlPointVisibility(index, several if measurement.component else not several)
    node.SetLocked(True)
    node.EndModify(wasModifying)
    # The display node itself tells nothing: Slicer makes it before anybody can ask.
    if wasEmpty:
        node.CreateDefaultDisplayNodes()
        _setDisplay(node.GetDisplayNode())


def _setDisplay(display) -> None:
    """Small points in the lesions' colour; not set again later, as the user may have chosen otherwise."""
    color = [channel / 255 for channel in DIL.color_rgb]
    # Points count as selected until a user deselects them.
    display.SetSelectedColor(color)
    display.SetColor(color)
    display.SetGlyphScale(_GLYPH_SCALE)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
