# SPDX-License-Identifier: Apache-2.0
"""Which events mean that a person has changed segments."""

import slicer

# Not SegmentModified: another colour changes no volume.
_EVENTS = ("SegmentAdded", "SegmentRemoved", "SourceRepresentationModified")


def segmentationEvents() -> list[int]:
    """The events of `vtkSegmentation` after which measurements are out of date."""
    return [getattr(slicer.vtkSegmentation, name) for name in _EVENTS]
