# SPDX-License-Identifier: Apache-2.0
"""Segmentations as `.seg.nrrd` files, which 3D Slicer opens with names, colours, codes and label values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.structures import STRUCTURES, Code, Structure, generic_structure
from ProstateXferLib.images.whole_structure import whole_structure_mask

SEGMENTATION_SUFFIX = ".seg.nrrd"
_TERMINOLOGY_TAG = "TerminologyEntry"
# Slicer keeps tags it does not know, but numbers the label values of each layer anew when it saves.
_PART_OF_TAG = "ProstateXfer.PartOf"
_VALUE_TAG = "ProstateXfer.LabelValue"
_MAP_TAG = "ProstateXfer.LabelMap"
_REPRESENTATION = "Binary labelmap"
_LARGEST_LABEL = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True)
class _Segment:
    """One segment of a file: where its voxels are, what it is, and to which of several label maps it belongs."""

    layer: int
    stored_value: int
    structure: Structure
    map_name: str = ""


def write_segmentation(labels: sitk.Image, structures: Sequence[Structure], path: Path | str) -> Path:
    """Write a label map and the meaning of its values; 0 is background, every other value needs a structure.

    A structure with parts is written whole, in a layer of its own where it overlaps them: the prostate segment in
    Slicer includes the lesion. Returns the path.
    """
    path = _checked_path(path)
    layers, segments = _segments_of(labels, structures)
    return _write(layers, segments, Grid.of(labels), path)


def write_segmentations(maps: Mapping[str, tuple[sitk.Image, Sequence[Structure]]], path: Path | str) -> Path:
    """Write several label maps of one grid, such as what several models found, into one file.

    Each lies as by `write_segmentation` in layers of its own, its segments named "Prostate (name of the map)", so that
    3D Slicer shows them all; `read_segmentations` gives the maps back. Returns the path.

    Raises:
        ProstateXferError: no map, maps on different grids, or what `write_segmentation` refuses.
    """
    path = _checked_path(path)
    grids = [Grid.of(labels) for labels, _ in maps.values()]
    if not grids or not all(grid.same_as(grids[0]) for grid in grids):
        raise ProstateXferError("Label maps are written together when there is one at least and all share a grid.")
    layers: list[np.ndarray] = []
    segments: list[_Segment] = []
    for number, (name, (labels, structures)) in enumerate(maps.items(), start=1):
        own, described = _segments_of(labels, [_named_in_map(s, name, number) for s in structures])
        segments += [replace(segment, layer=len(layers) + segment.layer, map_name=name) for segment in described]
        layers += own
    return _write(layers, segments, grids[0], path)


def read_segmentation(path: Path | str) -> tuple[sitk.Image, tuple[Structure, ...]]:
    """The label map of a file written here or by Slicer, or of any plain label map, and what its values mean.

    Where segments overlap, a voxel gets the part rather than the whole, and otherwise the smaller segment. Label
    values that several segments share (Slicer counts anew in each layer) are replaced by free ones.
    """
    path = Path(path)
    image, layers, segments = _read(path)
    if not segments:
        if len(layers) > 1:
            raise ProstateXferError(f"'{path}' holds several images and names no segments; give a label map.")
        values = [int(v) for v in np.unique(layers[0]) if v]
        return Grid.of(image).image(layers[0]), tuple(generic_structure(v) for v in values)
    segments = _completed(segments)
    labels_zyx = _flattened(layers, segments)
    return Grid.of(image).image(labels_zyx), tuple(segment.structure for segment in segments)


def read_segmentations(path: Path | str) -> dict[str, tuple[sitk.Image, tuple[Structure, ...]]]:
    """The label maps of a file of `write_segmentations` by name, also after Slicer has saved it.

    Raises:
        ProstateXferError: a file that holds no such maps.
    """
    path = Path(path)
    image, layers, segments = _read(path)
    if not segments or not all(segment.map_name for segment in segments):
        raise ProstateXferError(f"'{path}' does not hold several label maps; read it as one segmentation.")
    maps = {}
    for name in dict.fromkeys(segment.map_name for segment in segments):
        own = [replace(s, structure=_named_alone(s.structure, name)) for s in segments if s.map_name == name]
        own = _completed(own)
        maps[name] = (Grid.of(image).image(_flattened(layers, own)), tuple(segment.structure for segment in own))
    return maps


def _checked_path(path: Path | str) -> Path:
    path = Path(path)
    if not path.name.lower().endswith(SEGMENTATION_SUFFIX):
        raise ProstateXferError(f"Cannot write the segmentation '{path.name}'; its name must end in .seg.nrrd.")
    return path


def _segments_of(labels: sitk.Image, structures: Sequence[Structure]) -> tuple[list[np.ndarray], list[_Segment]]:
    """The layers of a label map, and where each structure lies in them."""
    labels_zyx = _label_array(labels)
    _check_structures(labels_zyx, structures)
    layers, layer_of = _layers(labels_zyx, structures)
    return layers, [_Segment(layer_of[s.segment_id], s.value, s) for s in structures]


def _write(layers: Sequence[np.ndarray], segments: Sequence[_Segment], grid: Grid, path: Path) -> Path:
    dtype = np.result_type(*layers)
    images = [grid.image(layer.astype(dtype)) for layer in layers]
    image = images[0] if len(images) == 1 else sitk.Compose(images)
    for key, text in _header(segments, grid).items():
        image.SetMetaData(key, text)
    return write_image(image, path)


def _named_in_map(structure: Structure, map_name: str, number: int) -> Structure:
    """The structure as one of several of its kind in a file."""
    return replace(
        structure,
        name=f"{structure.name} ({map_name})",
        segment_id=f"{structure.segment_id}_{number}",
        part_of=structure.part_of and f"{structure.part_of} ({map_name})",
    )


def _named_alone(structure: Structure, map_name: str) -> Structure:
    """What `_named_in_map` was given, but for the number in the segment id."""
    ending = f" ({map_name})"
    whole = structure.part_of and structure.part_of.removesuffix(ending)
    return replace(structure, name=structure.name.removesuffix(ending), part_of=whole)


def _read(path: Path) -> tuple[sitk.Image, list[np.ndarray], list[_Segment]]:
    """A file's image, its layers (z, y, x) and the segments that its header describes."""
    image = read_image(path)
    if image.GetDimension() != 3:
        raise ProstateXferError(f"The segmentation '{path}' has {image.GetDimension()} dimensions; 3 are needed.")
    segments = _segments(image, path)
    layers = [
        _label_array(sitk.VectorIndexSelectionCast(image, layer) if _is_vector(image) else image, path)
        for layer in range(image.GetNumberOfComponentsPerPixel())
    ]
    return image, layers, segments


def _is_vector(image: sitk.Image) -> bool:
    return "vector" in image.GetPixelIDTypeAsString()


def _label_array(labels: sitk.Image, path: Path | None = None) -> np.ndarray:
    """(z, y, x) uint8, or uint16 where a value needs it; raises for values that are no labels."""
    array = sitk.GetArrayViewFromImage(labels)
    name = f"'{path}'" if path else "The label map"
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise ProstateXferError(f"{name} holds fractions, so it is no label map; choose a segmentation.")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > _LARGEST_LABEL:
        raise ProstateXferError(f"{name} holds values from {low} to {high}; labels are 0 to {_LARGEST_LABEL}.")
    return array.astype(np.uint8 if high <= 255 else np.uint16)


def _check_structures(labels_zyx: np.ndarray, structures: Sequence[Structure]) -> None:
    for what, entries in (
        ("label value", [s.value for s in structures]),
        ("segment id", [s.segment_id for s in structures]),
    ):
        if double := sorted({str(entry) for entry in entries if entries.count(entry) > 1}):
            raise ProstateXferError(f"Two structures have the {what} {double[0]}; each needs its own.")
    unknown = sorted(set(np.unique(labels_zyx).tolist()) - {0, *(s.value for s in structures)})
    if unknown:
        raise ProstateXferError(
            f"The label map holds the values {', '.join(map(str, unknown))} that no structure explains; describe them."
        )
    for text in (text for s in structures for text in (s.name, s.segment_id, s.part_of or "")):
        if any(sign in text for sign in "\r\n|"):
            raise ProstateXferError(f"The name {text!r} cannot be written; use one line without the sign |.")


def _layers(labels_zyx: np.ndarray, structures: Sequence[Structure]) -> tuple[list[np.ndarray], dict[str, int]]:
    """Label maps that do not overlap within themselves, and the number of the one that holds each segment id."""
    wholes = [s for s in structures if any(part.part_of == s.name for part in structures)]
    dtype = np.uint8 if max((s.value for s in structures), default=0) <= 255 else np.uint16
    bottom = labels_zyx.astype(dtype)
    layers, layer_of = [bottom], {s.segment_id: 0 for s in structures}
    for structure in wholes:
        mask = whole_structure_mask(labels_zyx, structure, structures)
        own = labels_zyx == structure.value
        if np.array_equal(mask, own):
            continue
        bottom[own] = 0
        for number in range(1, len(layers) + 1):
            if number == len(layers):
                layers.append(np.zeros_like(bottom))
            if not layers[number][mask].any():
                layers[number][mask] = structure.value
                layer_of[structure.segment_id] = number
                break
    return layers, layer_of


def _header(segments: Sequence[_Segment], grid: Grid) -> dict[str, str]:
    """The key/value pairs Slicer's storage node reads.

    Every segment is given the extent of the whole image: Slicer cuts layers to these extents, and would save a
    smaller grid than it was given.
    """
    extent = " ".join(f"0 {n - 1}" for n in grid.size_xyz)
    header = {
        "Segmentation_ContainedRepresentationNames": f"{_REPRESENTATION}|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segmentation_ConversionParameters": f"Reference image geometry|{_slicer_geometry(grid)}|&",
        # Slicer writes the first of these two names in its files, and uses the second everywhere else.
        "Segmentation_MasterRepresentation": _REPRESENTATION,
        "Segmentation_SourceRepresentation": _REPRESENTATION,
    }
    for index, segment in enumerate(segments):
        structure = segment.structure
        tags = f"{_TERMINOLOGY_TAG}:{structure.terminology}|{_VALUE_TAG}:{structure.value}|"
        if structure.part_of:
            tags += f"{_PART_OF_TAG}:{structure.part_of}|"
        if segment.map_name:
            tags += f"{_MAP_TAG}:{segment.map_name}|"
        header |= {
            f"Segment{index}_{key}": text
            for key, text in {
                "ID": structure.segment_id,
                "Name": structure.name,
                "Color": " ".join(f"{c / 255:.9g}" for c in structure.color_rgb),
                "LabelValue": str(structure.value),
                "Layer": str(segment.layer),
                "Extent": extent,
                "Tags": tags,
                "NameAutoGenerated": "0",
                "ColorAutoGenerated": "0",
            }.items()
        }
    return header


def _slicer_geometry(grid: Grid) -> str:
    """The grid as Slicer stores a reference geometry: 4 x 4 index-to-RAS matrix by rows, first and last indices."""
    index_to_ras = np.eye(4)
    index_to_ras[:3, :3] = grid.direction_matrix * grid.spacing_xyz
    index_to_ras[:3, 3] = grid.origin_lps
    index_to_ras[:2] *= -1
    numbers = [f"{v + 0.0:.17g}" for v in index_to_ras.ravel()] + [f"0;{n - 1}" for n in grid.size_xyz]
    return "".join(f"{number};" for number in numbers)


def _segments(image: sitk.Image, path: Path) -> list[_Segment]:
    """The segments the header describes."""
    segments: list[_Segment] = []
    while image.HasMetaDataKey(f"Segment{len(segments)}_ID"):
        index = len(segments)
        try:
            segments.append(_segment(image, index))
        except ValueError as error:
            raise ProstateXferError(f"Segment {index} of '{path}' is described wrongly; save it again.") from error
    return segments


def _completed(segments: Sequence[_Segment]) -> list[_Segment]:
    """The segments of one label map, each with a label value of its own and with what codes tell of its whole."""
    structures = _with_wholes(_with_own_values([segment.structure for segment in segments]))
    return [replace(segment, structure=s) for segment, s in zip(segments, structures, strict=True)]


def _segment(image: sitk.Image, index: int) -> _Segment:
    def entry(key: str, default: str) -> str:
        name = f"Segment{index}_{key}"
        return image.GetMetaData(name) if image.HasMetaDataKey(name) else default

    # Files from before layers had one component per segment, with the value 1.
    layer, value = int(entry("Layer", str(index))), int(entry("LabelValue", "1"))
    if not 0 <= layer < image.GetNumberOfComponentsPerPixel() or value < 1:
        raise ValueError(f"layer {layer}, label value {value}")
    segment_id = entry("ID", "")
    tags = dict(tag.split(":", 1) for tag in entry("Tags", "").split("|") if ":" in tag)
    generic = generic_structure(int(tags.get(_VALUE_TAG, value)), entry("Name", segment_id))
    # Context, category, type, modifier, context, region, modifier of the region.
    parts = [*tags.get(_TERMINOLOGY_TAG, "").split("~"), *[""] * 7]
    color = [round(255 * min(1.0, max(0.0, float(c)))) for c in entry("Color", "0.5 0.5 0.5").split()]
    structure = replace(
        generic,
        segment_id=segment_id,
        color_rgb=tuple(color),
        category=Code.from_triple(parts[1]) or generic.category,
        type=Code.from_triple(parts[2]) or generic.type,
        modifier=Code.from_triple(parts[3]),
        region=Code.from_triple(parts[5]),
        part_of=tags.get(_PART_OF_TAG),
    )
    return _Segment(layer, value, structure, tags.get(_MAP_TAG, ""))


def _with_own_values(structures: Sequence[Structure]) -> list[Structure]:
    """The structures, each with a label value no other one has; the first of several keeps it."""
    taken = {s.value for s in structures}
    seen: set[int] = set()
    result = []
    for structure in structures:
        value = structure.value
        if value in seen:
            value = next(v for v in range(1, _LARGEST_LABEL) if v not in taken)
        taken.add(value)
        seen.add(value)
        result.append(structure.with_value(value))
    return result


def _with_wholes(structures: Sequence[Structure]) -> list[Structure]:
    """The structures with `part_of` filled in where codes tell it, as Slicer's own files do not say it.

    A mass in the region "prostate" is part of the segment coded as prostate, and so is one coded as a zone of it.
    """
    name_of_type = {s.type.value: s.name for s in reversed(structures)}
    type_of_name = {s.name: s.type.value for s in STRUCTURES}
    whole_type = {s.type.value: type_of_name[s.part_of] for s in STRUCTURES if s.part_of and not s.region}
    result = []
    for structure in structures:
        type_value = structure.region.value if structure.region else whole_type.get(structure.type.value)
        part_of = structure.part_of or name_of_type.get(type_value)
        result.append(replace(structure, part_of=None if part_of == structure.name else part_of))
    return result


def _flattened(layers: Sequence[np.ndarray], segments: Sequence[_Segment]) -> np.ndarray:
    """One label map: wholes first, then their parts over them; among equals the larger first."""
    masks = [layers[s.layer] == s.stored_value for s in segments]
    wholes = {s.structure.name: s.structure.part_of for s in segments}

    def depth(name: str | None, seen: frozenset[str] = frozenset()) -> int:
        return 0 if name not in wholes or name in seen else 1 + depth(wholes[name], seen | {name})

    order = sorted(
        range(len(segments)), key=lambda i: (depth(segments[i].structure.name), -np.count_nonzero(masks[i]), i)
    )
    largest = max(s.structure.value for s in segments)
    labels_zyx = np.zeros(layers[0].shape, dtype=np.uint8 if largest <= 255 else np.uint16)
    for index in order:
        labels_zyx[masks[index]] = segments[index].structure.value
    return labels_zyx
