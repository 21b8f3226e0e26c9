# SPDX-License-Identifier: Apache-2.0
"""What the slice and 3-D views show of the scene as it is, as annotated pictures."""

from collections.abc import Sequence

import slicer
from pictures import annotated, withScaleBar
from PIL import Image

from slicer_host import render

# View: its name in words, the patient's directions at its left, right, upper and lower edge, the axis it cuts (RAS).
_SLICES = {"Red": ("Axial", "RLAP", 2), "Green": ("Coronal", "RLSI", 1), "Yellow": ("Sagittal", "APSI", 0)}


def slicePicture(
    name: str,
    ras: Sequence[float],
    *,
    size: tuple[int, int],
    widthMm: float,
    caption: str | None = None,
    detail: str | None = None,
    letterBelow: bool = True,
) -> Image.Image:
    """The slice of view `name` through a point of the patient, that point in the middle, `widthMm` from side to side.

    `detail` is by default where the slice lies; `letterBelow` False leaves the lower edge free.
    """
    title, edges, axis = _SLICES[name]
    with render.sliceView(name, size=size, fit=False) as view:
        node = view.node
        depth = node.GetFieldOfView()[2]
        node.SetFieldOfView(widthMm, widthMm * size[1] / size[0], depth)
        node.JumpSliceByCentering(*ras)
        _checkSides(view, edges)
        _putImageBelow(view)
        picture = view.picture()
    where = f"{('LPI' if ras[axis] < 0 else 'RAS')[axis]} {abs(ras[axis]):.1f} mm"
    image = annotated(
        picture, caption or title, edges=edges[: 4 if letterBelow else 3], detail=where if detail is None else detail
    )
    return withScaleBar(image, pixelsPerMm=size[0] / widthMm, lengthMm=10 if widthMm < 200 else 50)


def threeDPicture(*, size: tuple[int, int], caption: str, zoom: float = 1.0) -> Image.Image:
    """The 3-D view from the front, a little from above and from the patient's left."""
    with render.threeDView(size=size) as view:
        node = view.node
        node.SetBackgroundColor(0.10, 0.11, 0.16)
        node.SetBackgroundColor2(0.28, 0.31, 0.40)
        camera = view.renderer.GetActiveCamera()
        center = camera.GetFocalPoint()
        camera.SetPosition(center[0], center[1] + 1, center[2])  # the scene keeps the camera of the picture before
        camera.SetViewUp(0, 0, 1)
        view.renderer.ResetCamera()
        camera.Azimuth(25)
        camera.Elevation(20)
        camera.OrthogonalizeViewUp()
        camera.Zoom(zoom)
        view.renderer.ResetCameraClippingRange()
        return annotated(view.picture(), caption, edges="RLSI")


def _putImageBelow(view: render.View) -> None:
    """Slicer draws the image first, and the fill of segments over it; the host's view has it the other way round."""
    props = view.renderer.GetViewProps()
    props = [props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())]
    image = next(prop for prop in props if prop.IsA("vtkActor2D") and prop.GetProperty().GetDisplayLocation() == 0)
    others = [prop for prop in props if prop is not image]
    for prop in others:
        view.renderer.RemoveViewProp(prop)
    for prop in others:
        view.renderer.AddViewProp(prop)


def _checkSides(view: render.View, edges: str) -> None:
    """The letters at the edges are those of the view: radiological convention, the patient's right at the left."""
    steps = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    row0, column0 = view.pixelOf((0, 0, 0))
    left, _, top, _ = (view.pixelOf(steps[letter]) for letter in edges)
    if not (left[1] < column0 and top[0] < row0):
        raise RuntimeError(f"the view {slicer.vtkMRMLNode.GetName(view.node)} does not look as its letters {edges} say")
