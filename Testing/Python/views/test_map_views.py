# SPDX-License-Identifier: Apache-2.0
"""What a doctor sees of CTs, differences and uncertainty: greys and colours of known values at known places."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ProstateXferLib.cohort.ct_comparison import compare_cts
from ProstateXferLib.cohort.inputs import StudyInputs
from ProstateXferLib.cohort.options import StudyOptions
from ProstateXferLib.cohort.result import StudyResult
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.pipelines.uncertainty import uncertainty_map
from ProstateXferSlicer.scene.display import showCtWindow
from ProstateXferSlicer.scene.results import addStudy
from ProstateXferSlicer.scene.views import showInSlices
from ProstateXferSlicer.scene.volumes import volumeOfImage
from slicer_host import render

_GRID = Grid((80, 60, 9), (2.0, 2.0, 4.0), (-79.0, -59.0, -16.0))  # its middle is the origin
_GREY_TOLERANCE = 4


@pytest.fixture
def added(scene, tmp_path):
    """added(outputs by key): an image as input, and the nodes that a run with these outputs adds."""

    def add(outputs: dict):
        names = {key: write_image(image, tmp_path / f"{key}.nii.gz").name for key, image in outputs.items()}
        result = StudyResult(folder=tmp_path, case="maps", inputs=StudyInputs(), options=StudyOptions(), outputs=names)
        t2w = volumeOfImage(_GRID.image(_ramp()), "T2w")
        return t2w, addStudy(result, {"t2w": t2w})

    return add


def _ramp() -> np.ndarray:
    """An image that differs everywhere: brighter to the patient's left."""
    return np.broadcast_to(np.arange(80, dtype=np.int16) * 10, _GRID.shape_zyx).copy()


def _pointsRas() -> np.ndarray:
    """(z, y, x, 3): the patient's coordinates of every voxel."""
    z, y, x = np.mgrid[tuple(slice(n) for n in _GRID.shape_zyx)]
    lps = np.stack([x, y, z], axis=-1) * _GRID.spacing_xyz + _GRID.origin_lps
    return lps * (-1, -1, 1)


def _cube(center) -> np.ndarray:
    """Voxels of a cube with edges of 20 mm."""
    return (np.abs(_pointsRas() - np.array(center)) <= 10).all(axis=-1)


def _patches(*points) -> list[np.ndarray]:
    """The mean colour (r, g, b) around each point of the axial slice through the origin."""
    with render.sliceView("Red") as view:
        slicer.modules.markups.logic().JumpSlicesToLocation(0, 0, 0, False)
        picture = view.picture().astype(float)
        places = [tuple(round(value) for value in view.pixelOf(point)) for point in points]
    return [picture[row - 3 : row + 4, column - 3 : column + 4].mean(axis=(0, 1)) for row, column in places]


_HU = {(60, 0, 0): -1000, (30, 0, 0): -160, (0, 0, 0): 40, (-30, 0, 0): 140, (-60, 0, 0): 400}


def _steps() -> sitk.Image:
    """A CT with cubes of known HU along the patient's left-right axis, in air."""
    voxels = np.full(_GRID.shape_zyx, -1000, np.int16)
    for center, value in _HU.items():
        voxels[_cube(center)] = value
    return _GRID.image(voxels)


@pytest.mark.parametrize(
    ("window", "greys"),
    [("soft tissue", (0, 0, 127.5, 191, 255)), ("bone", (0, 48, 76.5, 91, 127.5))],
)
def test_a_synthetic_ct_shows_known_hu_in_known_greys(added, window, greys):
    _, nodes = added({"ct-from-mr": _steps()})
    if window != "soft tissue":  # what it begins with
        showCtWindow(nodes.syntheticCtFromMr, window)
    showInSlices(nodes.syntheticCtFromMr)

    for patch, grey in zip(_patches(*_HU), greys, strict=True):
        assert patch == pytest.approx([grey] * 3, abs=_GREY_TOLERANCE)


_DENSE, _THIN, _EQUAL = (40, 0, 0), (-40, 0, 0), (0, 0, 0)


@pytest.fixture
def compared(added):
    """A CT that is 100 HU too dense in one cube and 100 HU too low in another, laid over by its difference."""
    reference = np.where((np.abs(_pointsRas()) <= (70, 50, 100)).all(axis=-1), 30, -1000).astype(np.int16)
    synthetic = reference.copy()
    synthetic[_cube(_DENSE)] += 100
    synthetic[_cube(_THIN)] -= 100
    comparison = compare_cts(_GRID.image(synthetic), _GRID.image(reference))
    _, nodes = added({"ct-from-mr": _GRID.image(synthetic), "ct-from-mr-difference": comparison.difference})
    showInSlices(nodes.syntheticCtFromMr, nodes.differenceFromMr, 0.6)  # as the panel does
    return nodes


def test_too_dense_is_red_too_low_is_blue_and_equal_has_no_colour(compared):
    dense, thin, equal = _patches(_DENSE, _THIN, _EQUAL)

    assert dense[0] > dense[2] + 40 and dense[0] > dense[1] + 20
    assert thin[2] > thin[0] + 40 and thin[2] > thin[1] + 20
    assert np.ptp(equal) <= _GREY_TOLERANCE


def test_the_colours_of_the_difference_end_where_the_cubes_do(compared):
    edges = [(center[0] + side * 14, 0, 0) for center in (_DENSE, _THIN) for side in (-1, 1)]

    for patch in _patches(*edges):
        assert np.ptp(patch) <= _GREY_TOLERANCE


_RADIUS_MM = 25


@pytest.fixture
def uncertain(added):
    """The image, and over it the uncertainty of a model that is undecided on a sphere around the origin only."""
    distance = np.linalg.norm(_pointsRas(), axis=-1) - _RADIUS_MM
    probability = _GRID.image((1 / (1 + np.exp(distance))).astype(np.float32))
    t2w, nodes = added({"uncertainty": uncertainty_map([probability])})
    return t2w, nodes.uncertaintyMap


def _colourful(pictures) -> np.ndarray:
    return np.ptp(pictures, axis=-1) > 40


def test_uncertainty_is_coloured_along_the_border_only(uncertain):
    t2w, overlay = uncertain
    showInSlices(t2w, overlay, 0.6)
    with render.sliceView("Red") as view:
        slicer.modules.markups.logic().JumpSlicesToLocation(0, 0, 0, False)
        picture = view.picture().astype(int)
        middle, right = np.array(view.pixelOf((0, 0, 0))), view.pixelOf((_RADIUS_MM, 0, 0))
        circle = [(_RADIUS_MM * np.cos(a), _RADIUS_MM * np.sin(a), 0) for a in np.linspace(0, 2 * np.pi, 24)]
        border = [tuple(round(value) for value in view.pixelOf(point)) for point in circle]

    coloured = np.argwhere(_colourful(picture))
    pixelsPerMm = abs(right[1] - middle[1]) / _RADIUS_MM
    fromMiddle = np.sqrt(((coloured - middle) ** 2).sum(axis=1)) / pixelsPerMm
    assert all(_colourful(picture[place]) for place in border)
    assert np.abs(fromMiddle - _RADIUS_MM).max() < 9  # 0.05 bit is 5 mm away; a voxel is 2 mm


def test_where_the_model_is_sure_the_image_is_as_without_the_overlay(uncertain):
    t2w, overlay = uncertain
    places = [(0, 0, 0), (10, 5, 0), (45, 0, 0), (-60, 30, 0)]
    showInSlices(t2w)
    bare = _patches(*places)
    showInSlices(t2w, overlay, 0.6)

    assert np.allclose(_patches(*places), bare, atol=_GREY_TOLERANCE)
    assert np.ptp([patch.mean() for patch in bare]) > 50  # the image itself is seen
