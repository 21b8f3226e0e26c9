# SPDX-License-Identifier: Apache-2.0
"""Slice and 3-D views of the scene as pictures, drawn off-screen by Slicer's own displayable managers.

with sliceView("Red", size=(400, 300)) as view:
    picture = view.picture()          # uint8 (height, width, 3), row 0 at the top
    row, column = view.pixelOf(centroidRas)
"""

import contextlib
import dataclasses
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_IN_SLICES = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
_IN_3D = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)
_PROBE = (
    "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(1); w.AddRenderer(vtk.vtkRenderer()); w.Render(); "
    "raise SystemExit(0 if 'OpenGL version' in w.ReportCapabilities() else 1)"
)


@functools.cache
def missingGl() -> str | None:
    """Why nothing can be drawn here, or None; tried in a process of its own, because drivers crash."""
    code = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=60, check=False).returncode
    return None if code == 0 else "there is no OpenGL for off-screen drawing (Debian: libegl1 libgl1-mesa-dri)"


@dataclasses.dataclass
class View:
    """A window with one renderer; `node` is the MRML node of the view."""

    node: "slicer.vtkMRMLAbstractViewNode"
    window: vtk.vtkRenderWindow
    renderer: vtk.vtkRenderer

    def picture(self) -> np.ndarray:
        """What is seen now: uint8 (height, width, 3), row 0 at the top."""
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return pixels[::-1, :, :3].copy()

    def save(self, path: Path) -> None:
        """Write the picture as PNG."""
        picture = np.ascontiguousarray(self.picture()[::-1])
        image = vtk.vtkImageData()
        image.SetDimensions(picture.shape[1], picture.shape[0], 1)
        image.GetPointData().SetScalars(vtk.util.numpy_support.numpy_to_vtk(picture.reshape(-1, 3), deep=True))
        writer = vtk.vtkPNGWriter()
        writer.SetFileName(str(path))
        writer.SetInputData(image)
        writer.Write()

    def pixelOf(self, ras) -> tuple[float, float]:
        """(row, column) of a point of the patient; in a slice view, of its projection onto the slice."""
        if self.node.IsA("vtkMRMLSliceNode"):
            toPixels = vtk.vtkMatrix4x4()
            vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), toPixels)
            x, y = toPixels.MultiplyPoint((*ras, 1.0))[:2]
        else:
            self.renderer.SetWorldPoint(*ras, 1.0)
            self.renderer.WorldToDisplay()
            x, y, _ = self.renderer.GetDisplayPoint()
        return self.window.GetSize()[1] - 1 - y, x


def _makeWindow(size: tuple[int, int]) -> tuple[vtk.vtkRenderWindow, vtk.vtkRenderer]:
    window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # with more, translucent surfaces vanish
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
    interactor.Initialize()
    return window, renderer


def _group(factory, names: tuple[str, ...], renderer: vtk.vtkRenderer):
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    return group


@contextlib.contextmanager
def sliceView(name: str = "Red", *, size: tuple[int, int] = (400, 300), fit: bool = True) -> Iterator[View]:
    """The slice view that the module shows things in ("Red", "Yellow", "Green"); `fit` to its background first."""
    logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
    node = logic.GetSliceNode()
    before = node.GetDimensions()
    window, renderer = _makeWindow(size)
    renderer.GetActiveCamera().ParallelProjectionOn()
    node.SetDimensions(*size, 1)
    # The image first, or the fill of segments would blend with black instead of it.
    mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)
    group = _group(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), _IN_SLICES, renderer)
    group.SetMRMLDisplayableNode(node)
    if fit:
        logic.FitSliceToBackground()
    try:
        yield View(node, window, renderer)
    finally:
        group.SetMRMLDisplayableNode(None)
        window.Finalize()
        node.SetDimensions(*before)


@contextlib.contextmanager
def threeDView(*, size: tuple[int, int] = (400, 300)) -> Iterator[View]:
    """A 3-D view from the front on black, without box and labels, that sees the whole scene."""
    application = slicer.app.applicationLogic()
    node = slicer.vtkMRMLViewNode()
    node.SetName("View1")
    node.SetLayoutName("1")
    node = slicer.mrmlScene.AddNode(node)
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    node.SetBackgroundColor(0, 0, 0)
    node.SetBackgroundColor2(0, 0, 0)
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(slicer.mrmlScene)
    application.GetViewLogics().AddItem(logic)
    window, renderer = _makeWindow(size)
    group = _group(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), _IN_3D, renderer)
    group.SetMRMLDisplayableNode(node)
    window.Render()
    renderer.ResetCamera()
    try:
        yield View(node, window, renderer)
    finally:
        group.SetMRMLDisplayableNode(None)
        window.Finalize()
        application.GetViewLogics().RemoveItem(logic)
        slicer.mrmlScene.RemoveNode(node)
