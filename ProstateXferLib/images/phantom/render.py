# SPDX-License-Identifier: Apache-2.0
"""From a phantom and a grid to paired images and label maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom.blocks import Block, slabs
from ProstateXferLib.images.phantom.cbct import simulate_cbct
from ProstateXferLib.images.phantom.ct import CT_HU, acquire_ct
from ProstateXferLib.images.phantom.mr import acquire_t2w, t2w_look
from ProstateXferLib.images.phantom.parts import Part, Tissue
from ProstateXferLib.images.phantom.scene import lesion_parts
from ProstateXferLib.images.phantom.seeds import Stream, generator
from ProstateXferLib.images.phantom.texture import WaveField
from ProstateXferLib.images.structures import DIL, PERIPHERAL_ZONE, PROSTATE, TRANSITION_ZONE

if TYPE_CHECKING:
    from ProstateXferLib.images.phantom.anatomy import Phantom, Truth

MODALITIES = ("t2w", "ct", "cbct")
# Texture bands: wavelengths in mm and stretch along x, y, z. Muscle fibres run mostly up and down the patient.
_BANDS: dict[str, tuple[tuple[float, float], tuple[float, float, float]]] = {
    "fine": ((2.5, 6.0), (1.0, 1.0, 1.0)),
    "medium": ((6.0, 16.0), (1.0, 1.0, 1.0)),
    "coarse": ((22.0, 60.0), (1.0, 1.0, 1.0)),
    "fibres": ((3.0, 9.0), (1.6, 1.0, 4.0)),
    "septa": ((3.0, 10.0), (1.3, 0.8, 1.5)),
    "form": ((35.0, 100.0), (1.0, 1.0, 1.0)),  # for the roughness of surfaces
}


@dataclass(frozen=True)
class PhantomStudy:
    """Paired images of one phantom on one grid; a modality that was not asked for is None.

    `t2w` int16 (arbitrary units, about 0..1500), `ct` and `cbct` int16 HU. Label maps are uint8, decided at voxel
    centres: `labels` has PROSTATE and DIL as the segmentation models do; `anatomy` has every other value of
    `images.structures` (zones without regard to lesions, bladder, rectum, seminal vesicles, femoral heads, bone, body);
    `lesions` has the number of each lesion, 1 for the largest. `truth` is `Phantom.truth`.
    """

    t2w: sitk.Image | None
    ct: sitk.Image | None
    cbct: sitk.Image | None
    labels: sitk.Image
    anatomy: sitk.Image
    lesions: sitk.Image
    truth: Mapping[str, Truth]


def default_grid() -> Grid:
    """An axial T2w acquisition: 256 x 256 x 24 voxels of 0.75 x 0.75 x 3 mm around the prostate."""
    return _centered((256, 256, 24), (0.75, 0.75, 3.0), (0.0, 0.0, 0.0))


def default_ct_grid() -> Grid:
    """An axial planning CT: 352 x 256 x 40 voxels of 1.25 x 1.25 x 3 mm over the whole width of the patient."""
    return _centered((352, 256, 40), (1.25, 1.25, 3.0), (0.0, 10.0, 12.0))


def _centered(size_xyz: tuple, spacing_xyz: tuple, center_lps: tuple) -> Grid:
    origin = tuple(c - s * (n - 1) / 2 for n, s, c in zip(size_xyz, spacing_xyz, center_lps, strict=True))
    return Grid(size_xyz, spacing_xyz, origin)


def render(
    phantom: Phantom,
    grid: Grid | sitk.Image | None = None,
    *,
    seed: int | None = None,
    modalities: Sequence[str] = MODALITIES,
    contrast_seed: int | None = None,
) -> PhantomStudy:
    """The phantom on any grid. `seed` draws the noise (default: the phantom's), `contrast_seed` an odd T2w protocol.

    Anatomy and texture are functions of position, so that two grids see the same patient; only the noise is drawn on
    the voxels. The grid is worked through in slabs: memory stays at the size of the results plus some 100 MB.
    """
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown:
        raise ProstateXferError(f"Modality '{unknown[0]}' is unknown; use some of {', '.join(MODALITIES)}.")
    grid = default_grid() if grid is None else Grid.of(grid) if isinstance(grid, sitk.Image) else grid
    seed = phantom.seed if seed is None else seed
    with_ct = "ct" in modalities or "cbct" in modalities
    painter = _Painter(phantom, with_t2w="t2w" in modalities, with_ct=with_ct, contrast_seed=contrast_seed)
    arrays = painter.paint(grid, seed)
    images = {name: grid.image(array) for name, array in arrays.items()}
    ct = images.get("ct")
    return PhantomStudy(
        t2w=images.get("t2w"),
        ct=ct if "ct" in modalities else None,
        cbct=simulate_cbct(ct, seed) if "cbct" in modalities else None,
        labels=images["labels"],
        anatomy=images["anatomy"],
        lesions=images["lesions"],
        truth=phantom.truth,
    )


class _Painter:
    """Paints the parts of a phantom, slab by slab."""

    def __init__(self, phantom: Phantom, *, with_t2w: bool, with_ct: bool, contrast_seed: int | None) -> None:
        self._parts = phantom.parts
        self._lesions = lesion_parts(phantom.gland)
        self._look = t2w_look(phantom.seed, contrast_seed=contrast_seed) if with_t2w else None
        self._with_ct = with_ct
        rng = generator(phantom.seed, Stream.TEXTURE)
        self._fields = {
            name: WaveField.random(rng, band, stretch_lps=stretch) for name, (band, stretch) in _BANDS.items()
        }

    def paint(self, grid: Grid, seed: int) -> dict[str, np.ndarray]:
        """Arrays (z, y, x) by name: label maps always, images where asked for."""
        arrays = {name: np.zeros(grid.shape_zyx, np.uint8) for name in ("labels", "anatomy", "lesions")}
        t2w_rng, ct_rng = generator(seed, Stream.T2W_NOISE), generator(seed, Stream.CT_NOISE)
        for name in ("t2w",) * (self._look is not None) + ("ct",) * self._with_ct:
            arrays[name] = np.empty(grid.shape_zyx, np.int16)
        for block in slabs(grid):
            rows = slice(block.start_zyx[0], block.stop_zyx[0])
            canvas = self._paint_block(block)
            arrays["anatomy"][rows], arrays["lesions"][rows] = canvas.anatomy, canvas.lesions
            in_gland = np.isin(canvas.anatomy, (PERIPHERAL_ZONE.value, TRANSITION_ZONE.value))
            arrays["labels"][rows] = np.where(canvas.lesions > 0, DIL.value, np.where(in_gland, PROSTATE.value, 0))
            if self._look is not None:
                arrays["t2w"][rows] = acquire_t2w(canvas.images["t2w"], block, self._look, t2w_rng)
            if self._with_ct:
                arrays["ct"][rows] = acquire_ct(canvas.images["ct"], ct_rng)
        return arrays

    def _paint_block(self, block: Block) -> _Canvas:
        textures = {name: field.values(block) for name, field in self._fields.items()}
        canvas = _Canvas(block, textures)
        if self._look is not None:
            signal = self._look.signal
            canvas.add_image("t2w", lambda tissue: (signal[tissue][0], signal[tissue][0] * signal[tissue][1]),
                             {t: v[2] for t, v in signal.items()})  # fmt: skip
        if self._with_ct:
            canvas.add_image("ct", lambda tissue: CT_HU[tissue][:2], {t: v[2] for t, v in CT_HU.items()})
        for part in self._parts:
            canvas.paint(part, canvas.anatomy)
        for part in self._lesions:
            canvas.paint(part, canvas.lesions)
        return canvas


class _Canvas:
    """Images and label maps of one block while it is being painted."""

    def __init__(self, block: Block, textures: dict[str, np.ndarray]) -> None:
        self._block, self._textures = block, textures
        self._looks: dict[str, tuple[Callable[[Tissue], tuple[float, float]], dict[Tissue, str]]] = {}
        self.images: dict[str, np.ndarray] = {}
        self.anatomy = np.zeros(block.shape_zyx, np.uint8)
        self.lesions = np.zeros(block.shape_zyx, np.uint8)
        # A voxel at the edge holds both tissues: the edge is as wide as the pixel, and never sharper than the scanner.
        finest = sorted(block.grid.spacing_xyz)[:2]
        self._edge_mm = max(0.9, 1.1 * float(np.mean(finest)))

    def add_image(self, name: str, look: Callable[[Tissue], tuple[float, float]], bands: dict[Tissue, str]) -> None:
        """Start an image full of air; `look` gives mean and texture amplitude of a tissue, `bands` its texture."""
        self._looks[name] = (look, bands)
        self.images[name] = np.full(self._block.shape_zyx, look(Tissue.AIR)[0], np.float32)

    def paint(self, part: Part, labels: np.ndarray) -> None:
        """Blend the layers of the part into every image and write its label."""
        box = part.bounds_lps
        block = self._block.within(box)
        if block is None:
            return
        where = block.slices_in(self._block)
        distance = part.shape.distance_mm(block)
        if part.wobble_mm:
            distance = distance + part.wobble_mm * np.clip(self._textures["form"][where], -2.5, 2.5)
        if part.clip is not None:
            distance = np.maximum(distance, part.clip.distance_mm(block))
        if part.label is not None:
            np.copyto(labels[where], np.uint8(part.label), where=distance <= 0)
        if not self.images:
            return
        distance = distance.astype(np.float32)
        edge_mm = self._edge_mm + part.blur_mm
        for depth_mm, tissue in part.layers:
            share = np.clip(0.5 - (distance + np.float32(depth_mm)) / np.float32(edge_mm), 0, 1)
            for name, image in self.images.items():
                self._blend(name, image[where], share, tissue, where)

    def _blend(self, name: str, target: np.ndarray, share: np.ndarray, tissue: Tissue, where: tuple) -> None:
        look, bands = self._looks[name]
        mean, amplitude = look(tissue)
        value = np.float32(mean) - target
        if amplitude:
            value += np.float32(amplitude) * self._textures[bands[tissue]][where]
        value *= share
        target += value
