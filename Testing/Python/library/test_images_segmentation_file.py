# SPDX-License-Identifier: Apache-2.0
"""Segmentations keep their names, codes, values and place, here and in Slicer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import read_image, write_image
from ProstateXferLib.images.segmentation_file import (
    read_segmentation,
    read_segmentations,
    write_segmentation,
    write_segmentations,
)
from ProstateXferLib.images.structures import (
    BLADDER,
    DIL,
    FEMORAL_HEAD_LEFT,
    PERIPHERAL_ZONE,
    PROSTATE,
    STRUCTURES,
    TRANSITION_ZONE,
    Structure,
    generic_structure,
)
from ProstateXferLib.images.whole_structure import whole_structure_mask

FOUND = (PROSTATE, DIL, BLADDER, FEMORAL_HEAD_LEFT)  # values 1, 2, 5, 7; no voxel of the last


@pytest.fixture(params=["straight", "oblique", "left-handed"])
def grid(request, oblique_direction) -> Grid:
    axes = np.eye(3) if request.param == "straight" else np.reshape(oblique_direction, (3, 3))
    axes = axes * ((1, 1, -1) if request.param == "left-handed" else (1, 1, 1))
    return Grid((24, 20, 12), (0.7, 0.9, 3.1), (-31.5, 12.25, 77.1), tuple(axes.ravel()))


@pytest.fixture
def labels_zyx() -> np.ndarray:
    """A prostate with a lesion inside, one that reaches out of it and one elsewhere, and a bladder."""
    labels = np.zeros((12, 20, 24), np.uint8)
    labels[2:9, 4:14, 5:16] = PROSTATE.value
    labels[4:6, 6:9, 7:10] = DIL.value
    labels[8:10, 13:15, 15:17] = DIL.value
    labels[10:12, 17:19, 20:22] = DIL.value
    labels[1:3, 15:19, 2:5] = BLADDER.value
    return labels


def masks_in_file(path: Path) -> dict[str, np.ndarray]:
    """Segment id -> bool (z, y, x), read as Slicer reads it: by layer and label value."""
    image = sitk.ReadImage(str(path))
    layers = sitk.GetArrayFromImage(image)
    layers = layers if layers.ndim == 4 else layers[..., None]
    masks, index = {}, 0
    while image.HasMetaDataKey(f"Segment{index}_ID"):
        layer, value = (int(image.GetMetaData(f"Segment{index}_{key}")) for key in ("Layer", "LabelValue"))
        masks[image.GetMetaData(f"Segment{index}_ID")] = layers[..., layer] == value
        index += 1
    return masks


def test_labels_and_structures_come_back(grid, labels_zyx, tmp_path):
    path = write_segmentation(grid.image(labels_zyx), FOUND, tmp_path / "Fall 1 größer.seg.nrrd")
    labels, structures = read_segmentation(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(labels), labels_zyx) and labels.GetPixelID() == sitk.sitkUInt8
    assert structures == FOUND and Grid.of(labels).same_as(grid, 1e-9)


def test_the_prostate_segment_includes_the_lesions_that_touch_it(grid, labels_zyx, tmp_path):
    masks = masks_in_file(write_segmentation(grid.image(labels_zyx), FOUND, tmp_path / "x.seg.nrrd"))
    assert np.array_equal(masks["Prostate"], whole_structure_mask(labels_zyx, PROSTATE, FOUND))
    assert masks["Prostate"].sum() == 7 * 10 * 11 + 7  # the second lesion has one of its 8 voxels inside
    assert np.array_equal(masks["DIL"], labels_zyx == DIL.value)
    assert np.array_equal(masks["Bladder"], labels_zyx == BLADDER.value)
    assert not masks["FemoralHeadLeft"].any()


def test_without_overlap_the_file_is_a_plain_label_map(grid, labels_zyx, tmp_path):
    labels_zyx[labels_zyx == DIL.value] = 0
    path = write_segmentation(grid.image(labels_zyx), (PROSTATE, BLADDER), tmp_path / "x.seg.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), labels_zyx)


def test_zones_and_a_lesion_in_one_of_them_come_back(labels_zyx, tmp_path):
    structures = (PROSTATE, PERIPHERAL_ZONE, TRANSITION_ZONE, replace(DIL, part_of=PERIPHERAL_ZONE.name))
    labels_zyx[labels_zyx == BLADDER.value] = 0
    labels_zyx[2:9, 9:14, 5:16][labels_zyx[2:9, 9:14, 5:16] == 1] = PERIPHERAL_ZONE.value
    labels_zyx[2:9, 4:9, 5:16][labels_zyx[2:9, 4:9, 5:16] == 1] = TRANSITION_ZONE.value
    image = Grid((24, 20, 12), (1, 1, 3)).image(labels_zyx)
    path = write_segmentation(image, structures, tmp_path / "x.seg.nrrd")
    labels, back = read_segmentation(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(labels), labels_zyx) and back == structures
    masks = masks_in_file(path)
    # Two wholes that overlap lie in two layers above the label map; no voxel is only "prostate" here.
    for structure in structures[:2]:
        assert np.array_equal(masks[structure.segment_id], whole_structure_mask(labels_zyx, structure, structures))
    assert (masks["Prostate"] & masks["PeripheralZone"]).sum() == masks["PeripheralZone"].sum() > 0


def test_every_known_structure_keeps_its_codes_and_colour(tmp_path):
    image = Grid((20, 10, 1), (1, 1, 1)).image((np.arange(200).reshape(1, 10, 20) % 13).astype(np.uint8))
    assert read_segmentation(write_segmentation(image, STRUCTURES, tmp_path / "x.seg.nrrd"))[1] == STRUCTURES


def test_values_above_255_are_kept(tmp_path):
    values = np.zeros((2, 8, 8), np.int32)
    values[0, 0, 0] = 60000
    structure = generic_structure(60000, "Größe")
    labels, back = read_segmentation(
        write_segmentation(Grid((8, 8, 2), (1, 1, 1)).image(values), [structure], tmp_path / "x.seg.nrrd")
    )
    assert back == (structure,) and sitk.GetArrayFromImage(labels).max() == 60000


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".seg.nrrd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_plain_label_map_gets_generic_structures(labels_zyx, suffix, dtype, tmp_path):
    path = write_image(Grid((24, 20, 12), (1, 1, 3)).image(labels_zyx.astype(dtype)), tmp_path / f"labels{suffix}")
    labels, structures = read_segmentation(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(labels), labels_zyx)
    assert [(s.value, s.name) for s in structures] == [(1, "Label 1"), (2, "Label 2"), (5, "Label 5")]


def slicer_file(path: Path, segments: list[dict[str, str]], layers: list[np.ndarray]) -> Path:
    """A file with the entries Slicer writes, none of ours."""
    images = [sitk.GetImageFromArray(layer.astype(np.uint8)) for layer in layers]
    image = sitk.Compose(images) if len(images) > 1 else images[0]
    for index, entries in enumerate(segments):
        for key, text in entries.items():
            image.SetMetaData(f"Segment{index}_{key}", text)
    sitk.WriteImage(image, str(path))
    return path


def entries(structure: Structure, layer: int, value: int) -> dict[str, str]:
    return {
        "ID": structure.segment_id,
        "Name": structure.name,
        "Color": " ".join(f"{c / 255:.6g}" for c in structure.color_rgb),
        "Layer": str(layer),
        "LabelValue": str(value),
        "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{structure.terminology}|",
    }


def test_segments_of_slicer_with_the_same_value_in_two_layers_get_values_of_their_own(tmp_path):
    prostate = np.zeros((4, 9, 9), bool)
    prostate[:, 2:7, 2:7] = True
    lesion = np.zeros_like(prostate)
    lesion[1:3, 3:5, 3:8] = True
    path = slicer_file(tmp_path / "x.seg.nrrd", [entries(DIL, 0, 1), entries(PROSTATE, 1, 1)], [lesion, prostate])
    labels, (first, second) = read_segmentation(path)
    # The region "prostate" of the lesion's terminology tells what it is part of.
    assert first == DIL.with_value(1) and second == PROSTATE.with_value(2)
    array = sitk.GetArrayFromImage(labels)
    assert np.array_equal(array == 1, lesion) and np.array_equal(array == 2, prostate & ~lesion)


def test_of_overlapping_segments_without_relation_the_smaller_is_kept_whole(tmp_path):
    small, large = np.zeros((2, 9, 9), bool), np.zeros((2, 9, 9), bool)
    small[:, 2:4, 2:4] = large[:, 1:8, 1:8] = True
    segments = [entries(generic_structure(1, "Small"), 0, 1), entries(generic_structure(2, "Large"), 1, 1)]
    array = sitk.GetArrayFromImage(read_segmentation(slicer_file(tmp_path / "x.seg.nrrd", segments, [small, large]))[0])
    assert np.array_equal(array == 1, small) and np.array_equal(array == 2, large & ~small)


def test_a_segment_without_codes_is_kept(tmp_path):
    mask = np.ones((2, 9, 9), bool)
    path = slicer_file(tmp_path / "x.seg.nrrd", [{"ID": "Segment_1", "Name": "By hand"}], [mask])
    assert [(s.name, s.value) for s in read_segmentation(path)[1]] == [("By hand", 1)]


@pytest.mark.parametrize("wrong", [{"Layer": "3"}, {"LabelValue": "x"}, {"LabelValue": "0"}, {"Color": "1 0"}])
def test_a_wrongly_described_segment_is_refused(wrong, tmp_path):
    path = slicer_file(tmp_path / "x.seg.nrrd", [entries(PROSTATE, 0, 1) | wrong], [np.ones((2, 9, 9))])
    with pytest.raises(ProstateXferError):
        read_segmentation(path)


def test_an_image_is_no_segmentation(tmp_path):
    image = Grid((8, 8, 2), (1, 1, 1)).image(np.linspace(0, 1, 128).reshape(2, 8, 8))
    with pytest.raises(ProstateXferError, match="fractions"):
        read_segmentation(write_image(image, tmp_path / "image.nrrd"))
    negative = Grid((8, 8, 2), (1, 1, 1)).image(np.full((2, 8, 8), -1000, np.int16))
    with pytest.raises(ProstateXferError, match="-1000"):
        read_segmentation(write_image(negative, tmp_path / "ct.nrrd"))


@pytest.mark.parametrize(
    ("structures", "words"),
    [
        ((PROSTATE, DIL), "values 5 "),
        ((PROSTATE, DIL, BLADDER, FEMORAL_HEAD_LEFT.with_value(5)), "label value 5"),
        ((PROSTATE, DIL, replace(BLADDER, segment_id="DIL")), "segment id DIL"),
        ((PROSTATE, DIL, replace(BLADDER, name="a|b")), "cannot be written"),
    ],
)
def test_structures_that_do_not_fit_the_labels_are_refused(structures, words, labels_zyx, tmp_path):
    with pytest.raises(ProstateXferError, match=words):
        write_segmentation(Grid((24, 20, 12), (1, 1, 3)).image(labels_zyx), structures, tmp_path / "x.seg.nrrd")


def test_another_ending_is_refused(labels_zyx, tmp_path):
    with pytest.raises(ProstateXferError, match=r"\.seg\.nrrd"):
        write_segmentation(Grid((24, 20, 12), (1, 1, 3)).image(labels_zyx), FOUND, tmp_path / "x.nrrd")


def test_a_real_gland_and_lesion_come_back(real_data, tmp_path):
    case = real_data / "real/prostate_t2w/prostatex_0000"
    gland, lesion = (read_image(case / f"{name}.nii.gz") for name in ("gland", "lesion"))
    array = (sitk.GetArrayFromImage(gland) > 0).astype(np.uint8)
    array[sitk.GetArrayFromImage(lesion) > 0] = DIL.value
    path = write_segmentation(Grid.of(gland).image(array), (PROSTATE, DIL), tmp_path / "x.seg.nrrd")
    labels, _ = read_segmentation(path)
    assert np.array_equal(sitk.GetArrayViewFromImage(labels), array) and Grid.of(labels).same_as(Grid.of(gland))


def test_slicer_restores_every_segment_and_saves_what_we_read_back(grid, labels_zyx, tmp_path):
    slicer = pytest.importorskip("slicer", reason="runs where slicer-core is installed")
    path = write_segmentation(grid.image(labels_zyx), FOUND, tmp_path / "ours.seg.nrrd")
    scene = slicer.vtkMRMLScene()
    node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    segmentation = node.GetSegmentation()
    assert segmentation.GetSegmentIDs() == tuple(s.segment_id for s in FOUND)
    for structure in FOUND:
        segment = segmentation.GetSegment(structure.segment_id)
        assert segment.GetName() == structure.name and segment.GetLabelValue() == structure.value
        assert np.allclose(segment.GetColor(), np.array(structure.color_rgb) / 255, atol=1e-6)
        mask = whole_structure_mask(labels_zyx, structure, FOUND)
        assert in_slicer(slicer, node, structure) == (mask.sum(), *np.round(centroid_ras(grid, mask), 4))
    storage.SetFileName(str(tmp_path / "slicers.seg.nrrd"))
    assert storage.WriteData(node)
    labels, structures = read_segmentation(tmp_path / "slicers.seg.nrrd")
    assert np.array_equal(sitk.GetArrayViewFromImage(labels), labels_zyx) and structures == FOUND
    assert Grid.of(labels).same_as(grid)


def in_slicer(slicer, node, structure: Structure) -> tuple[float, ...]:
    """Number of voxels of a segment and their mean position in RAS mm, rounded."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    node.GetBinaryLabelmapRepresentation(structure.segment_id, image)
    image.GetImageToWorldMatrix(matrix)
    first_x, _, first_y, _, first_z, _ = image.GetExtent()
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    found = np.argwhere(voxels > 0)
    if not len(found):
        return (0, 0.0, 0.0, 0.0)
    z, y, x = found.mean(axis=0) + np.array([first_z, first_y, first_x])
    return (len(found), *np.round(matrix.MultiplyPoint((x, y, z, 1))[:3], 4))


def centroid_ras(grid: Grid, mask_zyx: np.ndarray) -> np.ndarray:
    if not mask_zyx.any():
        return np.zeros(3)
    return grid.index_to_lps(np.argwhere(mask_zyx).mean(axis=0)[::-1]) * (-1, -1, 1)


def test_several_label_maps_of_one_grid_come_back_from_one_file(grid, labels_zyx, tmp_path):
    lesions = np.where(labels_zyx == DIL.value, 1, 0).astype(np.uint8)
    maps = {
        "fold 0": (grid.image(labels_zyx), FOUND),
        "größer: fold 1": (grid.image(lesions), (DIL.with_value(1),)),
    }
    back = read_segmentations(write_segmentations(maps, tmp_path / "maps.seg.nrrd"))
    assert list(back) == list(maps)
    for name, (labels, structures) in maps.items():
        assert Grid.of(back[name][0]).same_as(grid)
        assert np.array_equal(sitk.GetArrayFromImage(back[name][0]), sitk.GetArrayFromImage(labels))
        assert [(s.value, s.name, s.part_of, s.type) for s in back[name][1]] == [
            (s.value, s.name, s.part_of, s.type) for s in structures
        ]


def test_slicer_sees_each_of_several_maps_whole_with_its_name(grid, labels_zyx, tmp_path):
    half = labels_zyx.copy()
    half[:, :, 11:] = 0
    path = write_segmentations(
        {"a": (grid.image(labels_zyx), FOUND), "b": (grid.image(half), FOUND)}, tmp_path / "maps.seg.nrrd"
    )
    masks, image = masks_in_file(path), sitk.ReadImage(str(path))
    assert len(masks) == 2 * len(FOUND)
    names = [image.GetMetaData(f"Segment{n}_Name") for n in range(len(masks))]
    assert names[0] == "Prostate (a)" and names[len(FOUND) + 1] == "DIL (b)"
    for number, labels in enumerate((labels_zyx, half), start=1):
        for structure in FOUND:
            whole = whole_structure_mask(labels, structure, FOUND)
            assert np.array_equal(masks[f"{structure.segment_id}_{number}"], whole)


def test_maps_on_two_grids_and_no_map_are_refused(grid, labels_zyx, tmp_path):
    other = replace(grid, spacing_xyz=(1.0, 1.0, 1.0))
    maps = {"a": (grid.image(labels_zyx), FOUND), "b": (other.image(labels_zyx), FOUND)}
    for wrong in (maps, {}):
        with pytest.raises(ProstateXferError, match="share a grid"):
            write_segmentations(wrong, tmp_path / "maps.seg.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_one_segmentation_is_not_taken_for_several_maps(grid, labels_zyx, tmp_path):
    path = write_segmentation(grid.image(labels_zyx), FOUND, tmp_path / "one.seg.nrrd")
    with pytest.raises(ProstateXferError, match="does not hold several label maps"):
        read_segmentations(path)
