# SPDX-License-Identifier: Apache-2.0
"""What the slice views show, and where they look; does nothing where the application has no views."""

import slicer


def showInSlices(background, foreground=None, foregroundOpacity: float = 0.0) -> None:
    """Show `background` in all slice views, with `foreground` over it."""
    if not _hasViews():
        return
    slicer.util.setSliceViewerLayers(
        background=background, foreground=foreground, foregroundOpacity=foregroundOpacity, label=None
    )


def fitSlices() -> None:
    """Zoom all slice views to their image."""
    if _hasViews():
        slicer.util.resetSliceViews()


def centreSlices(centroidRas) -> None:
    """Move all slice views through a point, RAS mm, and centre them on it."""
    slicer.modules.markups.logic().JumpSlicesToLocation(*centroidRas, True)


def showChart(chart) -> None:
    """Show a plot chart, in a layout that has a plot view."""
    if not _hasViews():
        return
    layoutManager = slicer.app.layoutManager()
    layoutManager.setLayout(slicer.modules.plots.logic().GetLayoutWithPlot(layoutManager.layout))
    applicationLogic = slicer.app.applicationLogic()
    applicationLogic.GetSelectionNode().SetActivePlotChartID(chart.GetID())
    applicationLogic.PropagatePlotChartSelection()


def _hasViews() -> bool:
    # None with --no-main-window (seen in Slicer 5.8.1).
    app = getattr(slicer, "app", None)
    return app is not None and app.layoutManager() is not None


def isShownIn3D(segmentation) -> bool:
    """Whether a segmentation has a surface that 3-D views show."""
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    display = segmentation.GetDisplayNode()
    hasSurface = segmentation.GetSegmentation().ContainsRepresentation(surface)
    return bool(hasSurface and display is not None and display.GetVisibility3D())
