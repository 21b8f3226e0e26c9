# SPDX-License-Identifier: Apache-2.0
"""`slicer.app.layoutManager()`: the real layout node and slice logics, no widgets behind them."""

import slicer


class SliceWidget:
    """A slice view without pixels (render.py has those)."""

    def __init__(self, logic):
        self._logic = logic

    def sliceLogic(self):
        """The real slice logic."""
        return self._logic

    def mrmlSliceNode(self):
        """Where the view cuts."""
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        """What the view shows."""
        return self._logic.GetSliceCompositeNode()


class ThreeDView:
    """A 3-D view that counts how often it was told to look at everything."""

    focalPointResets = 0

    def resetFocalPoint(self) -> None:
        """Centre on the content."""
        self.focalPointResets += 1

    def forceRender(self) -> None:
        """Nothing to draw."""


class ThreeDWidget:
    """Holds its view."""

    def __init__(self):
        self._view = ThreeDView()

    def threeDView(self) -> ThreeDView:
        """The view."""
        return self._view


class LayoutManager:
    """As much of qSlicerLayoutManager as a module uses."""

    threeDViewCount = 1
    tableViewCount = plotViewCount = 0

    def __init__(self, mrml):
        self._mrml, self._threeDWidget = mrml, ThreeDWidget()
        self._slices = {name: SliceWidget(logic) for name, logic in mrml.sliceLogics.items()}

    @property
    def layout(self) -> int:
        """The number of the layout, as kept by the layout node."""
        return self._mrml.layoutLogic.GetLayoutNode().GetViewArrangement()

    @layout.setter
    def layout(self, number: int) -> None:
        self.setLayout(number)

    def setLayout(self, number: int) -> None:
        """Show another layout."""
        self._mrml.layoutLogic.GetLayoutNode().SetViewArrangement(number)

    def sliceViewNames(self) -> tuple[str, ...]:
        """The names of the slice views."""
        return tuple(self._slices)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        """A slice view by name."""
        return self._slices.get(name)

    def mrmlSliceLogics(self):
        """The slice logics as a vtkCollection."""
        return self._mrml.applicationLogic.GetSliceLogics()

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        """A 3-D view by index."""
        return self._threeDWidget if index == 0 else None

    def resetSliceViews(self) -> None:
        """Fit every slice view to its background."""
        for widget in self._slices.values():
            widget.sliceLogic().FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Fit the 3-D view."""
        self._threeDWidget.threeDView().resetFocalPoint()

    def mrmlScene(self):
        """The scene."""
        return slicer.mrmlScene
