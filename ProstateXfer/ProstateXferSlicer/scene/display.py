# SPDX-License-Identifier: Apache-2.0
"""How result volumes look, and what their numbers mean: window, colours, threshold, quantity and unit."""

import numpy as np
import slicer

from ProstateXferLib.errors import ProstateXferError

# (window, level) HU: -160..240 and -500..1300, as in the library's reports (reports/figures.py).
CT_WINDOWS = {"soft tissue": (400.0, 40.0), "bone": (1800.0, 400.0)}
_DIFFERENCE_RANGE_HU = 200.0
# Bits below which a voxel counts as decided, and the map lets the image through.
_LEAST_UNCERTAINTY_BITS = 0.05
_COLORS_ATTRIBUTE = "ProstateXferColors"
_NUMBER_OF_COLORS = 256

# Colour stops (r, g, b), evenly spaced; between them the colours are interpolated.
_DIVERGING = ((0.02, 0.19, 0.58), (0.38, 0.60, 0.85), (0.95, 0.95, 0.95), (0.93, 0.55, 0.40), (0.60, 0.05, 0.08))
_SEQUENTIAL = ((0.16, 0.05, 0.33), (0.55, 0.14, 0.42), (0.87, 0.32, 0.23), (0.98, 0.64, 0.10), (0.99, 1.00, 0.75))


def showCtWindow(node, window: str = "soft tissue") -> None:
    """Show a CT in grey in a named window ("soft tissue" or "bone"), and say that its numbers are HU."""
    if window not in CT_WINDOWS:
        raise ProstateXferError(f"The window '{window}' is unknown; use one of {', '.join(CT_WINDOWS)}.")
    width, level = CT_WINDOWS[window]
    display = _displayNode(node)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(width, level)
    _setHounsfieldUnits(node)


def showDifference(node) -> None:
    """Show a difference in HU in blue (too low), white and red (too high), from -200 to 200."""
    display = _displayNode(node)
    display.SetAndObserveColorNodeID(_colorNode("ProstateXfer difference (blue low, red high)", _DIVERGING).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(-_DIFFERENCE_RANGE_HU, _DIFFERENCE_RANGE_HU)
    _setHounsfieldUnits(node)


def showUncertainty(node) -> None:
    """Show an uncertainty of 0 to 1 bits from dark to light; voxels below 0.05 bits are transparent."""
    display = _displayNode(node)
    display.SetAndObserveColorNodeID(_colorNode("ProstateXfer uncertainty (dark low, light high)", _SEQUENTIAL).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetAutoThreshold(False)
    # The upper end is far away: one bit may have been rounded up.
    display.SetThreshold(_LEAST_UNCERTAINTY_BITS, 1000.0)
    display.SetApplyThreshold(True)
    node.SetVoxelValueUnits(_codedEntry("bit", "UCUM", "bit"))


def showAsThinOutlines(node) -> None:
    """Show the segments of a node as thin lines without fill, and hide the node: somebody must ask for so many."""
    display = _displayNode(node)
    display.SetVisibility2DFill(False)
    display.SetSliceIntersectionThickness(1)
    display.SetVisibility(False)


def _displayNode(node):
    node.CreateDefaultDisplayNodes()
    return node.GetDisplayNode()


def _setHounsfieldUnits(node) -> None:
    """As Slicer's own DICOM reader marks CT."""
    node.SetVoxelValueQuantity(_codedEntry("112031", "DCM", "Attenuation Coefficient"))
    node.SetVoxelValueUnits(_codedEntry("[hnsf'U]", "UCUM", "Hounsfield unit"))


def _codedEntry(value: str, scheme: str, meaning: str):
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(value, scheme, meaning)
    return entry


def _colorNode(name: str, stops):
    """The scene's colour table of that name, made where it is missing.

    A table of our own and not one of Slicer's: its file-based ones are not everywhere, and this one is saved with
    the scene. Not a singleton, as those are emptied, not removed, when a scene is closed.
    """
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(_COLORS_ATTRIBUTE) == name and node.GetNumberOfColors() == _NUMBER_OF_COLORS:
            return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(name)
    node.SetAttribute(_COLORS_ATTRIBUTE, name)
    node.SetTypeToUser()
    node.SetNumberOfColors(_NUMBER_OF_COLORS)
    positions = np.linspace(0.0, 1.0, _NUMBER_OF_COLORS)
    channels = [
        np.interp(positions, np.linspace(0.0, 1.0, len(stops)), channel) for channel in zip(*stops, strict=True)
    ]
    for index, color in enumerate(zip(*channels, strict=True)):
        node.SetColor(index, str(index), *map(float, color), 1.0)
    return slicer.mrmlScene.AddNode(node)
