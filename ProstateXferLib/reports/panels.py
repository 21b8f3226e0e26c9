# SPDX-License-Identifier: Apache-2.0
"""One slice of a volume in a matplotlib axes: millimetres, radiological sides, outlines, letters, scale bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.orientation import axial_view
from ProstateXferLib.metrics.masks import bounding_box, check_same_grid, foreground
from ProstateXferLib.reports.outlines import Outline

Plane = Literal["axial", "sagittal", "coronal"]

# Axis of an array (to Superior, to Posterior, to Left) that a plane's slices lie along.
SLICE_AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
# Letters at the left, right, top and bottom edge: the patient is seen from the feet, from the front, from the left.
_LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
INK = "#1c2733"


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with axes (to Superior, to Posterior, to Left), spacing along them in mm, outlines as bool arrays."""

    voxels: np.ndarray
    spacing_mm: tuple[float, float, float]
    outlines: tuple[tuple[Outline, np.ndarray], ...] = ()

    @classmethod
    def of(cls, image: sitk.Image, outlines: Sequence[Outline] = ()) -> Volume:
        """The image and its outlines, which must lie on the image's grid, as axial slices from the feet."""
        for outline in outlines:
            check_same_grid(image, outline.mask, ("image", f"outline '{outline.name}'"))
        view = axial_view(image)
        return cls(
            view.apply(sitk.GetArrayViewFromImage(image)),
            view.spacing_zyx(image),
            tuple((outline, view.apply(foreground(outline.mask))) for outline in outlines),
        )

    @cached_property
    def outlined(self) -> np.ndarray:
        """bool array: inside any outline."""
        inside = np.zeros(self.voxels.shape, dtype=bool)
        for _, mask in self.outlines:
            inside |= mask
        return inside

    def box(self) -> tuple[slice, slice, slice]:
        """The box around everything outlined; the whole volume when nothing is."""
        return bounding_box(self.outlined) or tuple(slice(0, n) for n in self.voxels.shape)

    def view_mm(
        self,
        plane: Plane,
        box: Sequence[slice],
        *,
        margin_mm: float,
        least_mm: float = 0.0,
        within_image: bool = False,
    ) -> ViewBox:
        """The window onto a plane that shows the box and a margin, at least `least_mm` wide and high.

        `within_image` ends it at the image's outer edges where it would show black beyond them.
        """
        rows, columns = _in_plane(SLICE_AXIS[plane])
        ends = []
        for axis in (rows, columns):
            centre = (box[axis].start + box[axis].stop - 1) / 2 * self.spacing_mm[axis]
            half = (box[axis].stop - box[axis].start) / 2 * self.spacing_mm[axis] + margin_mm
            low, high = centre - max(half, least_mm / 2), centre + max(half, least_mm / 2)
            if within_image:
                edge = self.spacing_mm[axis] / 2
                low, high = max(low, -edge), min(high, (self.voxels.shape[axis] - 1) * self.spacing_mm[axis] + edge)
            ends.append((low, high))
        return ViewBox(rows_mm=ends[0], columns_mm=ends[1])


@dataclass(frozen=True)
class ViewBox:
    """The part of a plane that is shown, mm from the centre of the first voxel along rows and columns."""

    rows_mm: tuple[float, float]
    columns_mm: tuple[float, float]

    @property
    def height_mm(self) -> float:
        """Extent down the picture."""
        return self.rows_mm[1] - self.rows_mm[0]

    @property
    def width_mm(self) -> float:
        """Extent across the picture."""
        return self.columns_mm[1] - self.columns_mm[0]

    def square(self) -> ViewBox:
        """The same centre, both sides as long as the longer one."""
        half = max(self.height_mm, self.width_mm) / 2
        return ViewBox(*((sum(ends) / 2 - half, sum(ends) / 2 + half) for ends in (self.rows_mm, self.columns_mm)))


def draw_panel(
    axes: Any,
    volume: Volume,
    plane: Plane,
    index: int,
    view: ViewBox,
    *,
    scale_bar_mm: float = 0.0,
    **image_options: Any,
) -> Any:
    """Draw slice `index` of a plane with its outlines and return matplotlib's image.

    `image_options` go to `imshow`: vmin, vmax, cmap, interpolation.
    """
    axis = SLICE_AXIS[plane]
    rows, columns = _in_plane(axis)
    spacing_rows, spacing_columns = volume.spacing_mm[rows], volume.spacing_mm[columns]
    pixels = np.take(volume.voxels, index, axis=axis)
    height, width = pixels.shape
    top_is_last = plane != "axial"  # rows run to Posterior in axial slices and to Superior in the two others
    edges_rows = (-spacing_rows / 2, (height - 0.5) * spacing_rows)
    shown = axes.imshow(
        pixels,
        **{"cmap": "gray", "interpolation": "bicubic", "aspect": "equal"} | image_options,
        origin="lower" if top_is_last else "upper",
        extent=(
            -spacing_columns / 2,
            (width - 0.5) * spacing_columns,
            *(edges_rows if top_is_last else edges_rows[::-1]),
        ),
    )
    for outline, mask in volume.outlines:
        _draw_outline(axes, outline, np.take(mask, index, axis=axis), (spacing_rows, spacing_columns))
    axes.set_xlim(view.columns_mm)
    axes.set_ylim(view.rows_mm if top_is_last else view.rows_mm[::-1])
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    _draw_letters(axes, _LETTERS[plane])
    if scale_bar_mm:
        _draw_scale_bar(axes, view, scale_bar_mm)
    return shown


def draw_legend(figure: Any, outlines: Sequence[Outline]) -> None:
    """Names of the outlines in one line below the panels, solid ones first and each name once."""
    if not outlines:
        return
    by_name = {outline.name: outline for outline in outlines}
    outlines = sorted(by_name.values(), key=lambda outline: (outline.thin, outline.dashed))
    from matplotlib.lines import Line2D

    lines = [
        Line2D(
            [],
            [],
            color=_rgb(o.color_rgb),
            linewidth=1.0 if o.thin else 2.4,
            linestyle=_style(o),
            path_effects=_stroke(1.8 if o.thin else 3.4),
        )
        for o in outlines
    ]
    figure.legend(
        lines,
        [o.name for o in outlines],
        loc="outside lower center",
        ncols=len(outlines),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
        handlelength=2.6,
    )


def panel_title(axes: Any, text: str) -> None:
    """A quiet line above a panel."""
    axes.set_title(text, fontsize=10.5, color=INK, pad=4)


def _in_plane(axis: int) -> tuple[int, int]:
    """The axes that run down and across the slices along `axis`."""
    rows, columns = (other for other in range(3) if other != axis)
    return rows, columns


def _draw_outline(axes: Any, outline: Outline, mask: np.ndarray, spacing: tuple[float, float]) -> None:
    """The line half way between voxels inside and outside, mm; nothing where the slice misses the structure."""
    if not mask.any():
        return
    # A frame of background closes the line where a structure reaches the edge of the image.
    framed = np.pad(mask, 1).astype(float)
    rows, columns = ((np.arange(n) - 1) * s for n, s in zip(framed.shape, spacing, strict=True))
    lines = axes.contour(
        columns,
        rows,
        framed,
        levels=[0.5],
        colors=[_rgb(outline.color_rgb)],
        linewidths=0.6 if outline.thin else 1.5,
        linestyles=[_style(outline)],
    )
    # Rims around many thin lines would be all that one sees.
    lines.set_path_effects(_stroke(0.9 if outline.thin else 2.3))


def _draw_letters(axes: Any, letters: str) -> None:
    """The side of the patient at each edge."""
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035))
    for letter, (x, y) in zip(letters, places, strict=True):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            fontfamily="DejaVu Sans Mono",  # its I has serifs; a bare stroke is not read as "inferior"
            color="white",
            path_effects=_stroke(2.0),
        )


def _draw_scale_bar(axes: Any, view: ViewBox, length_mm: float) -> None:
    """A bar of known length in the lower left corner."""
    from matplotlib.transforms import blended_transform_factory

    start = view.columns_mm[0] + 0.06 * view.width_mm
    across = blended_transform_factory(axes.transData, axes.transAxes)
    axes.plot(
        [start, start + length_mm],
        [0.055, 0.055],
        transform=across,
        color="white",
        linewidth=2.2,
        solid_capstyle="butt",
        path_effects=_stroke(3.4),
        scalex=False,
        scaley=False,
    )
    axes.text(
        start + length_mm / 2,
        0.075,
        f"{length_mm:.0f} mm",
        transform=across,
        ha="center",
        va="bottom",
        fontsize=8.5,
        color="white",
        path_effects=_stroke(1.8),
    )


def _rgb(color_rgb: Sequence[int]) -> tuple[float, ...]:
    return tuple(value / 255 for value in color_rgb)


def _style(outline: Outline) -> Any:
    return (0, (3.2, 1.8)) if outline.dashed else "solid"


def _stroke(width: float) -> list[Any]:
    """A dark rim, so that lines and letters show on bright fat as well."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground=(0, 0, 0, 0.75))]
