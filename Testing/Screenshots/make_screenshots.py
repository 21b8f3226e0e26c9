# SPDX-License-Identifier: Apache-2.0
"""Draw the pictures of the module for the README: the panel after a run on the phantom, and what the views then show.

Run by `make screenshots`. The panel is the real one on Qt, the views are drawn by Slicer's own displayable managers;
the application around them is the tests' stand-in (Testing/Python/slicer_host), so these are no screenshots of Slicer.
"""

import sys
from pathlib import Path

import slicer_host as host
from slicer_host import paths

_FOLDER = Path(__file__).resolve().parents[2] / "Resources" / "Screenshots"
_VIEW_WIDTH, _WIDTH_MM = 580, 94.0
_CT_VIEW, _CT_WIDTH_MM = (520, 386), 430.0
_CT_MIDDLE_RA = (0.0, -10.3)  # of the image, which the view then just covers


def main() -> int:
    """Make all pictures; 1 with a sentence where they cannot be drawn."""
    if (reason := host.missing()) is not None:
        return _refuse(reason)
    paths.useModule()
    app = host.start()
    from panel import openPanel, runPanel

    from slicer_host import render

    if (reason := render.missingGl()) is not None:
        return _refuse(reason)
    panel = openPanel()
    widget = panel.self()
    phantom = _choosePhantom(widget)
    print("Running the shipped models on the phantom (some minutes on a CPU) ...", file=sys.stderr)
    runPanel(widget.ui)
    drawAll(panel, phantom, _FOLDER)
    app.processEvents()
    return 0


def drawAll(panel, phantom, folder: Path) -> None:
    """Draw all pictures of what the panel's run has made."""
    from panel import panelPicture
    from pictures import GAP, column, framed, row, save
    from PIL import Image

    ui = panel.self().ui
    phantom["segmentation"].GetDisplayNode().SetVisibility(False)  # what the models made, and not the truth
    ui.showInputButton.click()
    if not ui.show3DButton.checked:
        ui.show3DButton.click()
    save(Image.fromarray(panelPicture(panel)), folder / "panel.png")
    short = Image.fromarray(_shortPanel(panel))
    views = _fourViews(panel, phantom, (_VIEW_WIDTH, (short.height - GAP) // 2))
    four = column([row(views[:2]), row(views[2:])])
    save(framed(four), folder / "views.png")
    save(framed(row([short, four])), folder / "slicer.png")
    save(framed(row(_ctViews(panel, phantom))), folder / "ct.png")


def _choosePhantom(widget) -> dict:
    from ProstateXferSlicer.sample_data import loadPhantom

    phantom, parameters = loadPhantom(), widget.logic.getParameterNode()
    parameters.t2w, parameters.cbct = phantom["t2w"], phantom["cbct"]
    parameters.referenceCt, parameters.referenceSegmentation = phantom["ct"], phantom["segmentation"]
    parameters.ctFromCbct = True
    return phantom


def _shortPanel(panel):
    """The panel with two sections collapsed, so that it is not much taller than wide views beside it."""
    from panel import panelPicture

    sections = (panel.self().ui.inputsSection, panel.self().ui.exportSection)
    for section in sections:
        section.collapsed = True
    picture = panelPicture(panel, scale=1)
    for section in sections:
        section.collapsed = False
    return picture


def _fourViews(panel, phantom, size: tuple[int, int]) -> list:
    """Axial, 3-D, coronal, sagittal: the gland in the middle, cut through the largest lesion."""
    from view_pictures import slicePicture, threeDPicture

    gland, lesion = _centroidRas(panel, "Prostate"), _centroidRas(panel, "DIL L1")
    bounds, slices = [0.0] * 6, {}
    phantom["t2w"].GetRASBounds(bounds)
    for name, axis in (("Red", 2), ("Green", 1), ("Yellow", 0)):
        middle = [gland[0], gland[1], (bounds[4] + bounds[5]) / 2]
        middle[axis] = lesion[axis]
        slices[name] = slicePicture(name, middle, size=size, widthMm=_WIDTH_MM)
    surfaces = threeDPicture(size=size, caption="3-D, from the front", zoom=1.15)
    return [slices["Red"], surfaces, slices["Green"], slices["Yellow"]]


def _ctViews(panel, phantom) -> list:
    """The reference CT, the CT from CBCT, and their difference, in one axial slice."""
    import slicer
    from pictures import withColorBar
    from view_pictures import slicePicture

    ui, parameters = panel.self().ui, panel.self().logic.getParameterNode()
    middle = (*_CT_MIDDLE_RA, _centroidRas(panel, "Prostate")[2])
    options = {"size": _CT_VIEW, "widthMm": _CT_WIDTH_MM}
    ui.showCtFromCbctButton.click()
    synthetic = slicePicture("Red", middle, caption="CT from CBCT", detail="-160 to 240 HU", **options)
    slicer.util.setSliceViewerLayers(background=phantom["ct"], foreground=None)
    reference = slicePicture("Red", middle, caption="Reference CT", detail="-160 to 240 HU", **options)
    ui.showDifferenceFromCbctButton.click()
    difference = slicePicture(
        "Red", middle, caption="Difference", detail="CT from CBCT minus reference", letterBelow=False, **options
    )
    colors = parameters.differenceFromCbct.GetDisplayNode().GetColorNode()
    shown = [_color(colors, index) for index in range(colors.GetNumberOfColors())]
    return [reference, synthetic, withColorBar(difference, shown, ("-200", "0", "200 HU"))]


def _color(colors, index: int) -> tuple[int, int, int]:
    rgba = [0.0] * 4
    colors.GetColor(index, rgba)
    return tuple(round(255 * channel) for channel in rgba[:3])


def _centroidRas(panel, name: str):
    from ProstateXferSlicer.scene.parameters import measurementsOf

    rows = {row.id: row for row in measurementsOf(panel.self().logic.getParameterNode())}
    return rows[name].centroid_ras


def _refuse(reason: str) -> int:
    print(f"make screenshots: {reason}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
