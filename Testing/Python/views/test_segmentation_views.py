# SPDX-License-Identifier: Apache-2.0
"""What a doctor sees of a segmentation: outlines, lesions, centroids, surfaces, where the phantom's truth has them."""

from types import SimpleNamespace

import numpy as np
import pytest
import slicer

from ProstateXferLib.cohort.inputs import StudyInputs
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.images.segmentation_file import write_segmentation
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.metrics.measure import measure
from ProstateXferSlicer.scene.results import addStudy
from ProstateXferSlicer.scene.segmentations import createClosedSurface
from ProstateXferSlicer.scene.views import centreSlices, showInSlices
from ProstateXferSlicer.scene.volumes import volumeOfImage
from slicer_host import render

_SIZE_XYZ, _SPACING_XYZ = (72, 72, 28), (1.5, 1.5, 3.0)
_AXIAL = np.eye(3)
_LEFT_HANDED = np.diag([1.0, 1.0, -1.0])
_NEAR_PX = 3  # a voxel is about 4 px wide


@pytest.fixture(scope="module")
def phantom_on():
    """phantom_on(direction, lesions): a phantom and its images on a grid around its prostate; made once for each."""
    made = {}

    def make(direction, lesions=(2.5,)):
        key = (tuple(np.ravel(direction)), lesions)
        if key not in made:
            first = -np.array(direction) @ (np.array(_SPACING_XYZ) * (np.array(_SIZE_XYZ) - 1) / 2)
            phantom = make_phantom(6, lesion_volumes_cm3=lesions)
            made[key] = phantom, phantom.render(Grid(_SIZE_XYZ, _SPACING_XYZ, first, direction), modalities=["t2w"])
        return made[key]

    return make


@pytest.fixture
def shown(scene, phantom_on, tmp_path):
    """shown(direction, lesions): the phantom's true labels as the study of a run, over its T2w in the slice views."""

    def show(direction=_AXIAL, lesions=(2.5,)):
        phantom, images = phantom_on(direction, lesions)
        structures = (PROSTATE, DIL) if lesions else (PROSTATE,)
        write_segmentation(images.labels, structures, tmp_path / "segmentation.seg.nrrd")
        rows = measure(images.labels, {structure.value: structure.name for structure in structures})
        result = StudyResult(
            folder=tmp_path,
            case="phantom",
            inputs=StudyInputs(),
            options=StudyOptions(),
            outputs={"segmentation": "segmentation.seg.nrrd"},
            measurements=tuple(rows),
        )
        t2w = volumeOfImage(images.t2w, "T2w")
        nodes = addStudy(result, {"t2w": t2w})
        showInSlices(t2w)
        truth = {name: np.array(each.centroid_lps) * (-1, -1, 1) for name, each in phantom.truth.items()}
        return SimpleNamespace(nodes=nodes, t2w=t2w, truthRas=truth, labels=images.labels)

    return show


def _hideCentroids(study) -> None:
    study.nodes.centroids.GetDisplayNode().SetVisibility(False)


def _pictureAt(ras, name="Red"):
    """(picture, where a point lies in it) of a slice through a point."""
    with render.sliceView(name) as view:
        slicer.modules.markups.logic().JumpSlicesToLocation(*ras, False)
        return view.picture().astype(int), view.pixelOf(ras)


def _like(picture, color, tolerance: int = 25):
    """Where the picture has this colour."""
    return (np.abs(picture - np.array(color)) <= tolerance).all(axis=2)


def _yellow(picture):
    """Where the DIL's colour is, also thin over an image, and not the gland's."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    return (red - blue > 30) & (red - green < 0.4 * (red - blue))


def _distances(points, targets):
    """Of each point from the nearest target; (n, 2) and (m, 2)."""
    return np.sqrt(((points[:, None] - targets[None]) ** 2).sum(axis=2)).min(axis=1)


def _glandBorderRas(study, height: float):
    """Centres of the gland's outermost voxels in the slice at that height, (n, 3); the grid is axial."""
    grid = Grid.of(study.labels)
    array = slicer.util.arrayFromVolume(volumeOfImage(study.labels, "labels"))
    k = round((height - grid.origin_lps[2]) / grid.spacing_xyz[2])
    gland = np.pad(array[k] > 0, 1)
    inner = gland[:-2, 1:-1] & gland[2:, 1:-1] & gland[1:-1, :-2] & gland[1:-1, 2:]
    rows, columns = np.nonzero(gland[1:-1, 1:-1] & ~inner)
    points = np.stack([columns, rows, np.full(len(rows), k)], axis=1) * grid.spacing_xyz + grid.origin_lps
    return points * (-1, -1, 1)


def test_the_outline_of_the_gland_runs_along_its_border(shown):
    study = shown(lesions=())
    _hideCentroids(study)
    center = study.truthRas["Prostate"]

    with render.sliceView("Red") as view:
        slicer.modules.markups.logic().JumpSlicesToLocation(*center, False)
        picture = view.picture().astype(int)
        border = np.array([view.pixelOf(point) for point in _glandBorderRas(study, center[2])])
    outline = np.argwhere(_like(picture, PROSTATE.color_rgb))

    assert len(border) > 40
    assert _distances(border, outline).max() < 6  # from the middle of a voxel to its corner, and the line's width
    assert _distances(outline, border).max() < 6


def test_between_the_outlines_the_image_can_be_read(shown):
    """The fill lets it through: what is bright on the T2w stays brighter than what is dark."""
    study = shown(lesions=())
    _hideCentroids(study)
    pictures = {}
    for visible in (True, False):
        study.nodes.segmentation.GetDisplayNode().SetVisibility(visible)
        with render.sliceView("Red") as view:
            slicer.modules.markups.logic().JumpSlicesToLocation(*study.truthRas["Prostate"], False)
            _putImageBelow(view)
            row, column = (round(value) for value in view.pixelOf(study.truthRas["Prostate"]))
            pictures[visible] = view.picture().astype(int)[row - 25 : row + 25, column - 25 : column + 25]

    filled, bare = pictures[True], pictures[False]
    assert (filled[..., 0] - filled[..., 2]).min() > 5 and np.ptp(bare, axis=2).max() == 0  # tinted; grey
    assert np.corrcoef(filled[..., 1].ravel(), bare[..., 1].ravel())[0, 1] > 0.99
    assert np.ptp(filled[..., 1]) > 0.5 * np.ptp(bare[..., 1])


def _putImageBelow(view) -> None:
    """Draw the image before the segments, as Slicer does; the host's view adds it after them."""
    props = view.renderer.GetViewProps()
    props = [props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())]
    image = next(prop for prop in props if prop.IsA("vtkActor2D") and prop.GetProperty().GetDisplayLocation() == 0)
    others = [prop for prop in props if prop is not image]
    for prop in others:
        view.renderer.RemoveViewProp(prop)
    for prop in others:
        view.renderer.AddViewProp(prop)


@pytest.mark.parametrize("name", ["Red", "Green", "Yellow"])
def test_the_lesion_is_where_the_truth_has_it(shown, name):
    study = shown()
    _hideCentroids(study)

    picture, expected = _pictureAt(study.truthRas["DIL"], name)

    lesion = np.argwhere(_yellow(picture))
    assert len(lesion) > 200
    assert lesion.mean(axis=0) == pytest.approx(expected, abs=_NEAR_PX)


@pytest.mark.parametrize("geometry", ["left-handed", "oblique", "oblique and left-handed"])
def test_a_tilted_or_mirrored_image_has_its_lesion_there_too(shown, oblique_direction, geometry):
    direction = np.reshape(oblique_direction, (3, 3)) if "oblique" in geometry else np.eye(3)
    study = shown(direction @ _LEFT_HANDED if "left-handed" in geometry else direction)
    _hideCentroids(study)

    picture, expected = _pictureAt(study.truthRas["DIL"])

    lesion = np.argwhere(_yellow(picture))
    assert len(lesion) > 100
    assert lesion.mean(axis=0) == pytest.approx(expected, abs=_NEAR_PX)


def test_the_axial_view_has_the_patients_right_at_the_left_and_the_front_above(shown):
    study = shown()
    _hideCentroids(study)
    lesion, gland = study.truthRas["DIL"], study.truthRas["Prostate"]
    assert abs(lesion[0] - gland[0]) > 4 and abs(lesion[1] - gland[1]) > 4  # else the phantom proves nothing

    picture, _ = _pictureAt(lesion)
    row, column = np.argwhere(_yellow(picture)).mean(axis=0)
    glandRow, glandColumn = np.argwhere(_like(picture, PROSTATE.color_rgb)).mean(axis=0)

    assert (column < glandColumn) == (lesion[0] > gland[0])
    assert (row < glandRow) == (lesion[1] > gland[1])


def test_the_centroid_is_a_labelled_point_on_the_lesion(shown):
    study = shown()
    truth = study.truthRas["DIL"]
    picture, expected = _pictureAt(truth)
    _hideCentroids(study)
    without, _ = _pictureAt(truth)

    drawn = np.argwhere(np.abs(picture - without).max(axis=2) > 40)
    distance = np.sqrt(((drawn - expected) ** 2).sum(axis=1))

    point, label = drawn[distance < 6], drawn[distance >= 6]
    assert len(point) >= 5
    assert point.mean(axis=0) == pytest.approx(expected, abs=_NEAR_PX)
    assert len(label) > 30  # "DIL" in letters
    assert distance.max() < 80
    assert (label[:, 1] > expected[1]).mean() > 0.9  # to the right of the point


def test_away_from_the_lesion_there_is_neither_lesion_nor_point(shown):
    study = shown()

    picture, _ = _pictureAt(study.truthRas["DIL"] + (0, 0, 30))

    assert not _yellow(picture).any()


def test_a_click_on_the_row_brings_the_lesion_into_the_middle(shown):
    study = shown()
    _hideCentroids(study)
    row = next(row for row in measure(study.labels, {1: "Prostate", 2: "DIL"}) if row.id == "DIL")

    with render.sliceView("Red") as view:
        centreSlices(row.centroid_ras)
        lesion = np.argwhere(_yellow(view.picture().astype(int)))

    assert lesion.mean(axis=0) == pytest.approx((149.5, 199.5), abs=_NEAR_PX)


def test_in_3d_the_lesion_is_seen_through_the_gland(shown):
    study = shown()
    _hideCentroids(study)
    createClosedSurface(study.nodes.segmentation)
    gland, lesion = study.truthRas["Prostate"], study.truthRas["DIL"]

    with render.threeDView() as view:
        picture = view.picture().astype(int)
        onLesion, opposite = view.pixelOf(lesion), view.pixelOf(2 * gland - lesion)
        outside = view.pixelOf(np.add(gland, (50, 0, 0)))

    seen = np.argwhere(_yellow(picture))
    assert _yellow(_at(picture, onLesion)).all()
    assert seen.mean(axis=0) == pytest.approx(onLesion, abs=6)  # the surface is smoothed, and its view not flat
    assert not _yellow(_at(picture, opposite)).any() and _isReddish(_at(picture, opposite))
    assert _at(picture, outside).max() == 0


def test_without_a_surface_3d_is_empty(shown):
    _hideCentroids(shown())

    with render.threeDView() as view:
        assert view.picture().max() == 0


def _at(picture, place):
    row, column = (round(value) for value in place)
    return picture[row - 2 : row + 3, column - 2 : column + 3]


def _isReddish(pixels) -> bool:
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    return red > 60 and red > 1.2 * green and red > 1.2 * blue
