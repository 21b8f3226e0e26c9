# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report, as PNG bytes: outlines on slices, and a synthetic CT beside the true one.

Every function takes images of any orientation. Slices are the image's own, never interpolated to another plane: on an
oblique image "axial" is the plane nearest to axial. The patient's right is at the left of the picture.
"""

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.metrics.components import components_by_volume
from ProstateXferLib.metrics.masks import bounding_box, check_same_grid
from ProstateXferLib.reports.outlines import Outline
from ProstateXferLib.reports.panels import INK, SLICE_AXIS, Volume, draw_legend, draw_panel, panel_title

HuWindow = Literal["soft tissue", "bone"] | tuple[float, float]
HU_WINDOWS: dict[str, tuple[float, float]] = {"soft tissue": (-160.0, 240.0), "bone": (-500.0, 1300.0)}

_DPI = 150
_MARGIN_MM = 22.0
_LEAST_VIEW_MM = 80.0
_COLUMNS = 3
_PANEL_INCHES = 2.5
_WIDTH_INCHES, _GAP_INCHES, _TITLE_INCHES, _BAR_INCHES = 11.0, 0.06, 0.28, 0.75
_BODY_HU = -300.0
_INPUT, _SYNTHETIC, _REFERENCE = "Input", "Synthetic CT", "Reference CT"
_DIFFERENCE = "Synthetic − reference"


def axial_slices(
    image: sitk.Image, outlines: Sequence[Outline] = (), *, count: int = 6, window: tuple[float, float] | None = None
) -> bytes:
    """`count` axial slices from the lowest to the highest outlined one, with the largest slice of each outline.

    Titles give the slice's number, counted from the feet, and its distance from the middle of the outlined region
    along the slice axis. `window` is (black, white); without it the grey levels around the outlines decide.
    """
    if count < 1:
        raise ProstateXferError(f"A figure of {count} slices cannot be drawn; ask for at least one.")
    volume = Volume.of(image, outlines)
    box = volume.box()
    view = volume.view_mm("axial", box, margin_mm=_MARGIN_MM, least_mm=_LEAST_VIEW_MM).square()
    chosen = _chosen_slices(volume, box[0], count)
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = _new_figure(columns * _PANEL_INCHES, rows * (_PANEL_INCHES + 0.25) + 0.4 * bool(outlines))
    panels = figure.subplots(rows, columns, squeeze=False)
    low, high = window or _grey_window(volume, box)
    middle = (box[0].start + box[0].stop - 1) / 2
    for panel in panels.ravel()[len(chosen) :]:
        panel.set_axis_off()
    for number, (panel, index) in enumerate(zip(panels.ravel(), chosen, strict=False)):
        draw_panel(panel, volume, "axial", index, view, scale_bar_mm=20.0 * (number == 0), vmin=low, vmax=high)
        offset_mm = (index - middle) * volume.spacing_mm[0]
        panel_title(panel, f"Slice {index + 1} of {volume.voxels.shape[0]}   {_height(offset_mm)}")
    draw_legend(figure, outlines)
    return _png(figure)


def sagittal_coronal(
    image: sitk.Image, outlines: Sequence[Outline] = (), *, window: tuple[float, float] | None = None
) -> bytes:
    """One sagittal and one coronal slice through the smallest outlined structure: the main lesion, if there is one."""
    volume = Volume.of(image, outlines)
    box = volume.box()
    centre = _centre_of_interest(volume)
    low, high = window or _grey_window(volume, box)
    views = {
        plane: volume.view_mm(plane, box, margin_mm=_MARGIN_MM, least_mm=_LEAST_VIEW_MM, within_image=True)
        for plane in ("sagittal", "coronal")
    }
    width_mm = sum(view.width_mm for view in views.values())
    height_mm = max(view.height_mm for view in views.values())
    width = _COLUMNS * _PANEL_INCHES
    figure = _new_figure(width, width * height_mm / width_mm + 0.3 + 0.4 * bool(outlines))
    panels = figure.subplots(1, 2, width_ratios=[view.width_mm for view in views.values()])
    for panel, (plane, view) in zip(panels, views.items(), strict=True):
        index = centre[SLICE_AXIS[plane]]
        draw_panel(panel, volume, plane, index, view, scale_bar_mm=20.0 * (plane == "sagittal"), vmin=low, vmax=high)
        panel_title(panel, plane.capitalize())
    draw_legend(figure, outlines)
    return _png(figure)


def synthetic_ct(
    synthetic: sitk.Image,
    *,
    source: sitk.Image | None = None,
    truth: sitk.Image | None = None,
    mask: sitk.Image | None = None,
    window: HuWindow = "soft tissue",
    difference_hu: float = 200.0,
) -> bytes:
    """A synthetic CT (HU) beside the image it was made from, the true CT and their difference, axial and coronal.

    All images lie on one grid. Slices go through the middle of `mask` (the body; by default the largest piece denser
    than -300 HU in the true or else the synthetic CT), and the difference is shown inside it only, clipped at
    +-`difference_hu`. `window` is "soft tissue" (-160..240 HU), "bone" (-500..1300 HU) or (black, white).
    """
    low, high = _hu_window(window)
    for image, name in ((source, "source image"), (truth, "reference CT"), (mask, "mask")):
        if image is not None:
            check_same_grid(synthetic, image, ("synthetic CT", name))
    shown = {_INPUT: source, _SYNTHETIC: synthetic, _REFERENCE: truth}
    volumes = {title: Volume.of(image) for title, image in shown.items() if image is not None}
    options: dict[str, dict[str, Any]] = {title: {"vmin": low, "vmax": high} for title in volumes}
    body = _body(volumes, None if mask is None else Volume.of(mask).voxels != 0)
    box = bounding_box(body) or tuple(slice(0, n) for n in body.shape)
    if source is not None:
        options[_INPUT] = dict(zip(("vmin", "vmax"), _grey_window(volumes[_INPUT], box), strict=True))
    if truth is not None:
        volumes[_DIFFERENCE] = _difference(volumes, body)
        limits = {"vmin": -difference_hu, "vmax": difference_hu}
        options[_DIFFERENCE] = {**limits, "cmap": "RdBu_r", "interpolation": "nearest"}
    return _png(_comparison_figure(volumes, options, box))


def _comparison_figure(volumes: dict[str, Volume], options: dict[str, dict[str, Any]], box: Sequence[slice]) -> Any:
    """One column a volume, an axial and a coronal row, and the colour bars below."""
    views = {plane: volumes[_SYNTHETIC].view_mm(plane, box, margin_mm=8.0) for plane in ("axial", "coronal")}
    panel_width = _WIDTH_INCHES / max(len(volumes), 3) - _GAP_INCHES
    heights = [panel_width * view.height_mm / view.width_mm for view in views.values()]
    figure_height = _TITLE_INCHES + sum(heights) + len(heights) * _GAP_INCHES + _BAR_INCHES
    figure = _new_figure(len(volumes) * (panel_width + _GAP_INCHES) + _GAP_INCHES, figure_height)
    # Placed by hand: automatic layouts shift the columns that have no colour bar against those that have one.
    figure.set_layout_engine("none")
    left = {title: _GAP_INCHES + n * (panel_width + _GAP_INCHES) for n, title in enumerate(volumes)}
    shown, top = {}, figure_height - _TITLE_INCHES
    for (plane, view), height in zip(views.items(), heights, strict=True):
        middle = (box[SLICE_AXIS[plane]].start + box[SLICE_AXIS[plane]].stop - 1) // 2
        for title, volume in volumes.items():
            panel = _add_axes(figure, left[title], top - height, panel_width, height)
            bar_here = plane == "axial" and title == _SYNTHETIC
            shown[title] = draw_panel(
                panel, volume, plane, middle, view, scale_bar_mm=50.0 * bar_here, **options[title]
            )
            if plane == "axial":
                panel_title(panel, title)
        top -= height + _GAP_INCHES
    ct_right = left[_REFERENCE if _REFERENCE in left else _SYNTHETIC] + panel_width
    _colour_bar(figure, shown[_SYNTHETIC], (left[_SYNTHETIC], ct_right), "CT number, HU")
    if _DIFFERENCE in left:
        ends = (left[_DIFFERENCE], left[_DIFFERENCE] + panel_width)
        _colour_bar(figure, shown[_DIFFERENCE], ends, "Difference, HU (red: too dense)")
    return figure


def _colour_bar(figure: Any, shown: Any, ends_inches: tuple[float, float], label: str) -> None:
    """A horizontal bar below some columns; pointed ends say that values beyond are clipped."""
    inset = 0.25
    place = _add_axes(figure, ends_inches[0] + inset, 0.52, ends_inches[1] - ends_inches[0] - 2 * inset, 0.13)
    bar = figure.colorbar(shown, cax=place, orientation="horizontal", extend="both", extendfrac=0.03)
    bar.set_label(label, fontsize=10.5, color=INK)
    bar.ax.tick_params(labelsize=9.5, colors=INK)


def _add_axes(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _difference(volumes: dict[str, Volume], body: np.ndarray) -> Volume:
    """Synthetic minus true CT inside the body, NaN (not drawn) outside."""
    synthetic, truth = volumes[_SYNTHETIC], volumes[_REFERENCE]
    error = synthetic.voxels.astype(np.float32) - truth.voxels
    return Volume(np.where(body, error, np.nan), synthetic.spacing_mm)


def _body(volumes: dict[str, Volume], mask: np.ndarray | None) -> np.ndarray:
    """bool array: the mask, or the largest dense piece with its bowel gas, without the couch."""
    if mask is not None:
        return mask
    from scipy import ndimage

    pieces, _ = ndimage.label(volumes.get(_REFERENCE, volumes[_SYNTHETIC]).voxels > _BODY_HU)
    sizes = np.bincount(pieces.ravel())[1:]
    body = pieces == 1 + np.argmax(sizes) if len(sizes) else np.ones(pieces.shape, dtype=bool)
    return np.stack([ndimage.binary_fill_holes(axial) for axial in body])


def _hu_window(window: HuWindow) -> tuple[float, float]:
    """The (black, white) HU of a window or its name."""
    if isinstance(window, str):
        if window not in HU_WINDOWS:
            raise ProstateXferError(f"The window '{window}' is unknown; use one of {', '.join(HU_WINDOWS)}.")
        return HU_WINDOWS[window]
    low, high = window
    if not low < high:
        raise ProstateXferError(f"The window {window} is empty; its second value must be above its first.")
    return low, high


def _grey_window(volume: Volume, box: Sequence[slice]) -> tuple[float, float]:
    """(black, white) for an image without units: percentiles around the box, which leave coil flare at the skin out."""
    margins = [round(_MARGIN_MM / spacing) for spacing in volume.spacing_mm]
    around = tuple(slice(max(0, b.start - m), b.stop + m) for b, m in zip(box, margins, strict=True))
    low, high = np.percentile(volume.voxels[around], (0.5, 99.7))
    return float(low), float(high) if high > low else float(low) + 1.0


def _chosen_slices(volume: Volume, along: slice, count: int) -> list[int]:
    """Evenly spread slice indices, some of which give way to the largest slice of each outline, small ones first.

    Thin outlines, of which there may be many, ask for none.
    """
    count = min(count, along.stop - along.start)
    chosen = np.unique(np.linspace(along.start, along.stop - 1, count).round().astype(int)).tolist()
    claimed: set[int] = set()
    masks = [mask for outline, mask in volume.outlines if mask.any() and not outline.thin]
    for mask in sorted(masks, key=np.count_nonzero):
        largest = int(np.argmax(mask.sum(axis=(1, 2))))
        free = [index for index in chosen if index not in claimed]
        if largest not in chosen and free:
            chosen[chosen.index(min(free, key=lambda index: abs(index - largest)))] = largest
        claimed.add(largest)
    return sorted(chosen)


def _centre_of_interest(volume: Volume) -> tuple[int, int, int]:
    """The middle voxel of the smallest outlined structure's largest piece, of the volume if nothing is outlined."""
    masks = [mask for _, mask in volume.outlines if mask.any()]
    if not masks:
        return tuple(n // 2 for n in volume.voxels.shape)
    pieces, _ = components_by_volume(min(masks, key=np.count_nonzero))
    return tuple(round(middle) for middle in np.argwhere(pieces == 1).mean(axis=0))


def _height(offset_mm: float) -> str:
    """A position along the slice axis in words the reader knows."""
    if abs(offset_mm) < 0.05:
        return "middle"
    return f"{abs(offset_mm):.0f} mm {'superior' if offset_mm > 0 else 'inferior'}"


def _new_figure(width_inches: float, height_inches: float) -> Any:
    """A figure that never touches pyplot's global state, which would open windows inside 3D Slicer."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ProstateXferError(
            "Figures need matplotlib, which is not installed; install it with: pip install matplotlib"
        ) from error
    figure = Figure(figsize=(width_inches, height_inches), dpi=_DPI, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    """The figure as PNG bytes, the same bytes for the same picture."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
