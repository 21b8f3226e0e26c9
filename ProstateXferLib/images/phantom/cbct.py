# SPDX-License-Identifier: Apache-2.0
"""A cone-beam CT made from a CT: lost contrast, cupping, shading, streaks, rings and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom.blocks import Block, slabs
from ProstateXferLib.images.phantom.ct import correlated_noise
from ProstateXferLib.images.phantom.seeds import Stream, generator
from ProstateXferLib.images.phantom.shapes import AXIS_X, AXIS_Y, AXIS_Z
from ProstateXferLib.images.phantom.texture import WaveField

_BODY_HU, _BONE_HU = -300, 350


@dataclass(frozen=True)
class _Anatomy:
    """What the artefacts depend on, in the axial plane, LPS mm: the body's middle and half-axes, and the hips."""

    center_xy: np.ndarray
    radii_xy: np.ndarray
    hips_xy: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Streak:
    """A line through one hip in the axial plane that fades in and out along the patient."""

    hip: int
    angle: float  # radians
    amplitude_hu: float
    width_mm: float
    fade_length_mm: float
    fade_phase: float


@dataclass(frozen=True)
class _Artefacts:
    """Strengths drawn for one scan; HU unless the name says otherwise."""

    contrast: float  # fraction of soft-tissue contrast that scatter leaves
    bone_contrast: float
    shift_hu: float
    cupping_hu: float
    shading_hu: float
    band_hu: float
    noise_hu: float
    ring_hu: float
    blur_mm: float
    streaks: tuple[_Streak, ...]


def simulate_cbct(ct: sitk.Image, seed: int = 0, *, fov_diameter_mm: float | None = None) -> sitk.Image:
    """int16 HU on the grid of `ct` (HU, any orientation): the scan a linac's cone beam might make of the same patient.

    Cupping, streaks and the field of view (a cylinder of `fov_diameter_mm` along the patient, air outside; None for
    no limit) follow the patient's axes in LPS; blur and noise follow the slices of the array. The same seed and image
    give the same result. Values of the CT outside -1024..3071 HU are clipped first.
    """
    grid = Grid.of(ct)
    hu = np.clip(sitk.GetArrayFromImage(ct), -1024, 3071).astype(np.int16)
    anatomy = _find_anatomy(hu, grid)
    rng = generator(seed, Stream.CBCT)
    artefacts = _draw_artefacts(rng, len(anatomy.hips_xy))
    shading = WaveField.random(rng, (110.0, 260.0), count=16)
    radial = rng.normal(size=512).cumsum() * 0.3 + rng.normal(size=512)
    # Rings come from single detector elements: only differences between neighbouring radii matter.
    rings = (radial - np.convolve(radial, np.ones(15) / 15, mode="same")).astype(np.float32)
    scan = np.empty_like(hu)
    for block in slabs(grid, 1_000_000):
        rows = slice(block.start_zyx[0], block.stop_zyx[0])
        values = _degrade(hu[rows], block, artefacts, anatomy)
        shade = shading.values(block)
        shade *= artefacts.shading_hu
        shade += _streaks(block, artefacts, anatomy)
        away = _radius_mm(block, anatomy.center_xy)
        shade += artefacts.ring_hu * np.interp(away, np.arange(512) * 0.8, rings).astype(np.float32)
        noise = _noise(block, rng, artefacts, anatomy)
        # Air carries almost no artefact: what the reconstruction clips at -1000 stays there.
        visible = np.clip((values + 1000) / 700, 0.08, 1)
        values += visible * (shade + noise)
        if fov_diameter_mm is not None:
            values[np.broadcast_to(away > fov_diameter_mm / 2, values.shape)] = -1000
        scan[rows] = np.rint(np.clip(values, -1000, 3071)).astype(np.int16)
    return grid.image(scan)


def _draw_artefacts(rng: np.random.Generator, hips: int) -> _Artefacts:
    streaks = tuple(
        _Streak(
            hip=hip,
            angle=float(rng.uniform(0, math.pi)),
            amplitude_hu=float(rng.choice([-1, 1]) * rng.uniform(25, 70)),
            width_mm=float(rng.uniform(1.2, 3.5)),
            fade_length_mm=float(rng.uniform(30, 120)),
            fade_phase=float(rng.uniform(0, 2 * math.pi)),
        )
        for hip in range(hips)
        for _ in range(6)
    )
    return _Artefacts(
        contrast=float(rng.uniform(0.78, 0.92)),
        bone_contrast=float(rng.uniform(0.70, 0.85)),
        shift_hu=float(rng.uniform(-45, 35)),
        cupping_hu=float(rng.uniform(40, 95)),
        shading_hu=float(rng.uniform(8, 20)),
        band_hu=float(rng.uniform(25, 70)),
        noise_hu=float(rng.uniform(24, 42)),
        ring_hu=float(rng.uniform(1.5, 5)),
        blur_mm=float(rng.uniform(0.7, 1.2)),
        streaks=streaks,
    )


def _find_anatomy(hu: np.ndarray, grid: Grid) -> _Anatomy:
    """Middle and size of the body, and the middle of the dense bone left and right of it."""
    # About 96 samples along an axis are enough to find the middle of things, and quick on a real scan.
    steps = tuple(max(1, n // 96) for n in hu.shape)
    sample = hu[:: steps[0], :: steps[1], :: steps[2]]
    index_xyz = np.stack(np.nonzero(sample > _BODY_HU), axis=-1)[:, ::-1] * steps[::-1]
    body_xy = grid.index_to_lps(index_xyz)[:, :2]
    if len(body_xy) < 2:
        corner = np.asarray(grid.size_xyz) - 1
        return _Anatomy(grid.index_to_lps(corner / 2)[:2], np.array([180.0, 120.0]), ())
    low, high = np.percentile(body_xy, [2, 98], axis=0)
    center, radii = (low + high) / 2, np.maximum((high - low) / 2 * 1.04, 20.0)
    bone_index = np.stack(np.nonzero(sample > _BONE_HU), axis=-1)[:, ::-1] * steps[::-1]
    bone_xy = grid.index_to_lps(bone_index)[:, :2] if len(bone_index) else np.empty((0, 2))
    hips = []
    for side in (1, -1):
        lateral = bone_xy[side * (bone_xy[:, 0] - center[0]) > 0.3 * radii[0]]
        if len(lateral) > 20:
            hips.append(np.median(lateral, axis=0))
    return _Anatomy(center, radii, tuple(hips))


def _degrade(hu: np.ndarray, block: Block, artefacts: _Artefacts, anatomy: _Anatomy) -> np.ndarray:
    """float32 HU (z, y, x): blurred, with the contrast that scatter leaves, shifted, darker towards the middle."""
    from scipy.ndimage import gaussian_filter1d

    values = hu.astype(np.float32)
    for axis in (1, 2):
        sigma = artefacts.blur_mm / block.grid.spacing_zyx[axis]
        if sigma > 0.2:
            values = gaussian_filter1d(values, sigma, axis=axis, mode="nearest", truncate=3.0)
    bone = np.maximum(values - 150, 0)
    # The air around the patient keeps its -1000 HU, so only what is denser than gas loses contrast in full.
    thin = np.minimum(values + 200, 0)
    values *= artefacts.contrast
    values -= artefacts.contrast * (1 - artefacts.bone_contrast) * bone
    values += (1 - artefacts.contrast) * 1.25 * thin
    # Scatter and beam hardening remove most in the middle of the patient; the zero of the scale is off as well.
    x = block.linear(AXIS_X, -float(anatomy.center_xy[0])) / float(anatomy.radii_xy[0])
    y = block.linear(AXIS_Y, -float(anatomy.center_xy[1])) / float(anatomy.radii_xy[1])
    depth = np.maximum(1 - x**2 - y**2, -0.2).astype(np.float32)
    offset = np.float32(artefacts.shift_hu) - np.float32(artefacts.cupping_hu) * (depth - np.float32(0.35))
    inside = np.clip((values + 900) / 500, 0, 1)
    values += inside * offset
    return values


def _streaks(block: Block, artefacts: _Artefacts, anatomy: _Anatomy) -> np.ndarray:
    """float32 HU, broadcastable to (z, y, x): lines through the hips, and the dark band from hip to hip."""
    total = np.zeros((1, 1, 1), np.float32)
    for streak in artefacts.streaks:
        normal = np.array([-math.sin(streak.angle), math.cos(streak.angle), 0.0])
        across = block.linear(normal, -float(normal[:2] @ anatomy.hips_xy[streak.hip])).astype(np.float32)
        rate = 2 * math.pi / streak.fade_length_mm
        fade = np.maximum(np.cos(block.linear(AXIS_Z * rate, streak.fade_phase)) + 0.2, 0).astype(np.float32)
        line = np.exp(-0.5 * (across / np.float32(streak.width_mm)) ** 2)
        total = total + line * (np.float32(streak.amplitude_hu) * fade)
    if len(anatomy.hips_xy) == 2:
        along, width = _band_position(block, anatomy)
        total = total - np.float32(artefacts.band_hu) * along * width
    return total


def _band_position(block: Block, anatomy: _Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Two factors 0..1: how far between the hips (1 in the middle), how near the line that joins them."""
    left, right = anatomy.hips_xy
    span = float(np.linalg.norm(left - right))
    along = np.array([*(left - right) / span, 0.0])
    normal = np.array([-along[1], along[0], 0.0])
    middle = (left + right) / 2
    position = block.linear(along, -float(along[:2] @ middle)) / (span / 2)
    across = block.linear(normal, -float(normal[:2] @ middle)) / 20.0
    between = np.clip(1.15 - np.abs(position), 0, 1).astype(np.float32)
    return between, np.exp(-0.5 * across**2).astype(np.float32)


def _radius_mm(block: Block, center_xy: np.ndarray) -> np.ndarray:
    """Distance from the patient's axis, mm, broadcastable to (z, y, x)."""
    x, y = block.linear(AXIS_X, -float(center_xy[0])), block.linear(AXIS_Y, -float(center_xy[1]))
    return np.sqrt(x**2 + y**2)


def _noise(block: Block, rng: np.random.Generator, artefacts: _Artefacts, anatomy: _Anatomy) -> np.ndarray:
    """float32 HU (z, y, x): in-plane correlated quantum noise, stronger where most tissue was in the way."""
    spacing = block.grid.spacing_zyx
    noise = correlated_noise(block.shape_zyx, rng, sigma_yx=(0.75 / spacing[1], 0.75 / spacing[2]))
    x = block.linear(AXIS_X, -float(anatomy.center_xy[0])) / float(anatomy.radii_xy[0])
    y = block.linear(AXIS_Y, -float(anatomy.center_xy[1])) / float(anatomy.radii_xy[1])
    noise *= (artefacts.noise_hu * (0.6 + 0.6 * np.clip(1 - x**2 - y**2, 0, 1))).astype(np.float32)
    return noise
