# SPDX-License-Identifier: Apache-2.0
"""Pictures put together from pictures: captions, letters at the edges, rows and columns, PNG files that stay small."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (24, 26, 30)
_TEXT, _FAINT = (235, 235, 235), (170, 175, 185)
GAP = 8
_LARGEST_BYTES = 600_000


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def annotated(picture: np.ndarray, caption: str, *, edges: str = "", detail: str = "") -> Image.Image:
    """The picture with a caption at the upper left, and the patient's directions at its left, right, top and bottom.

    `edges` has four letters in that order, such as "RLAP"; `detail` is set small below the caption.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    width, height = image.size
    _write(draw, (10, 8), caption, size=18)
    if detail:
        _write(draw, (10, 32), detail, size=14, color=_FAINT)
    places = (("lm", 8, height / 2), ("rm", width - 8, height / 2), ("ma", width / 2, 8), ("md", width / 2, height - 8))
    for letter, (anchor, x, y) in zip(edges, places, strict=False):
        _write(draw, (x, y), letter, size=18, color=_FAINT, anchor=anchor)
    return image


def withScaleBar(image: Image.Image, *, pixelsPerMm: float, lengthMm: int) -> Image.Image:
    """Draw a bar of that length at the lower right."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    right, y = width - 14, height - 14
    left = right - pixelsPerMm * lengthMm
    draw.line([(left, y), (right, y)], fill=_TEXT, width=3)
    _write(draw, ((left + right) / 2, y - 6), f"{lengthMm} mm", size=14, anchor="md")
    return image


def withColorBar(image: Image.Image, colors: Sequence[tuple[int, int, int]], labels: Sequence[str]) -> Image.Image:
    """Draw these colours from left to right at the bottom, with labels spread over them."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    left, right, top, bottom = 0.2 * width, 0.8 * width, height - 40, height - 28
    for index, color in enumerate(colors):
        step = (right - left) / len(colors)
        draw.rectangle([left + index * step, top, left + (index + 1) * step, bottom], fill=color)
    for index, label in enumerate(labels):
        x = left + (right - left) * index / (len(labels) - 1)
        _write(draw, (x, height - 8), label, size=14, anchor="md")
    return image


def row(images: Sequence[Image.Image]) -> Image.Image:
    """Side by side, aligned at the top."""
    size = (sum(image.width for image in images) + GAP * (len(images) - 1), max(image.height for image in images))
    return _placed(size, images, lambda done: (done[0] + GAP, 0), axis=0)


def column(images: Sequence[Image.Image]) -> Image.Image:
    """One below the other, aligned at the left."""
    size = (max(image.width for image in images), sum(image.height for image in images) + GAP * (len(images) - 1))
    return _placed(size, images, lambda done: (0, done[1] + GAP), axis=1)


def framed(image: Image.Image) -> Image.Image:
    """With a margin as wide as the gaps."""
    frame = Image.new("RGB", (image.width + 2 * GAP, image.height + 2 * GAP), BACKGROUND)
    frame.paste(image, (GAP, GAP))
    return frame


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG; with fewer colours where it would be larger than the limit for pictures in the repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
    if path.stat().st_size > _LARGEST_BYTES:
        colors = image.quantize(256, method=Image.Quantize.MEDIANCUT)
        image.quantize(palette=colors, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path} ({image.width} x {image.height}, {path.stat().st_size / 1000:.0f} kB)")
    if path.stat().st_size > _LARGEST_BYTES:
        raise ValueError(f"{path} is larger than {_LARGEST_BYTES / 1000:.0f} kB")


def _placed(size: tuple[int, int], images: Sequence[Image.Image], after, *, axis: int) -> Image.Image:
    sheet = Image.new("RGB", size, BACKGROUND)
    place = (0, 0)
    for image in images:
        sheet.paste(image, place)
        done = [place[0], place[1]]
        done[axis] += image.size[axis]
        place = after(done)
    return sheet


def _write(draw: ImageDraw.ImageDraw, place, text: str, *, size: int, color=_TEXT, anchor: str = "la") -> None:
    """Light letters with a dark rim: readable on light and dark tissue."""
    draw.text(place, text, fill=color, font=_font(size), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
