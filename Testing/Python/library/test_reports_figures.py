# SPDX-License-Identifier: Apache-2.0
"""Figures show the right slice, the right way round, in proportion; read off their pixels."""

import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.reports import Outline, axial_slices, outlines_of, sagittal_coronal, synthetic_ct
from ProstateXferLib.reports.outlines import REFERENCE_RGB, sample_outlines
from ProstateXferLib.reports.panels import Volume

# One box in the patient, seen on grids whose axes run differently.
GRIDS = {
    "axial": Grid((100, 90, 30), (1.0, 1.0, 3.0), (-50.0, -45.0, -45.0)),
    "left-handed": Grid((100, 90, 30), (1.0, 1.0, 3.0), (50.0, -45.0, -45.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "sagittal": Grid((90, 90, 34), (1.0, 1.0, 3.0), (-49.5, -45.0, 45.0), (0, 0, 1, 1, 0, 0, 0, -1, 0)),
}
GLAND_LPS = ((-20.0, -15.0, -18.0), (20.0, 15.0, 18.0))
LEFT_LESION_LPS = ((8.0, 2.0, -4.0), (16.0, 10.0, 6.0))  # left, posterior
GREEN, BLUE = (0, 255, 0), (40, 80, 255)


def box_on(grid, bounds_lps):
    indices_zyx = np.indices(grid.shape_zyx).reshape(3, -1).T
    points = grid.index_to_lps(indices_zyx[:, ::-1])
    inside = np.all((points >= bounds_lps[0]) & (points <= bounds_lps[1]), axis=1)
    return grid.image(inside.reshape(grid.shape_zyx))


def study_on(grid):
    noise = np.random.default_rng(0).normal(300, 30, grid.shape_zyx).astype(np.float32)
    outlines = [
        Outline("Gland", box_on(grid, GLAND_LPS), GREEN),
        Outline("Lesion", box_on(grid, LEFT_LESION_LPS), BLUE),
    ]
    return grid.image(noise), outlines


def pixels_of(png):
    import matplotlib.image

    picture = matplotlib.image.imread(io.BytesIO(png))
    return (picture[..., :3] * 255).round().astype(int)


def drawn_in(pixels, color_rgb, above=1.0):
    """Where a colour was drawn, as (row, column); the legend, below the panels, is cut off by `above`."""
    near = np.abs(pixels - color_rgb).max(axis=2) <= 40
    near[int(len(near) * above) :] = False
    return np.argwhere(near)


def box_of(points):
    return points.min(axis=0), points.max(axis=0)


def panels_of(pixels):
    """Boxes of the dark panels on the white page, as pairs of slices, in reading order."""
    inked = ndimage.binary_closing((pixels < 250).any(axis=2), iterations=2)
    boxes = [box for box in ndimage.find_objects(ndimage.label(inked)[0]) if min(s.stop - s.start for s in box) > 120]
    return sorted(boxes, key=lambda box: (round(box[0].start, -2), box[1].start))


@pytest.mark.parametrize("name", GRIDS)
def test_the_patients_left_is_at_the_right_of_an_axial_slice_and_the_back_is_below(name):
    image, outlines = study_on(GRIDS[name])
    pixels = pixels_of(axial_slices(image, outlines, count=1))
    (gland_top, gland_left), (gland_bottom, gland_right) = box_of(drawn_in(pixels, GREEN, above=0.9))
    lesion_row, lesion_column = drawn_in(pixels, BLUE, above=0.9).mean(axis=0)
    assert lesion_column > gland_left + 0.65 * (gland_right - gland_left)
    assert lesion_row > gland_top + 0.55 * (gland_bottom - gland_top)


@pytest.mark.parametrize("name", GRIDS)
def test_millimetres_have_the_same_length_in_both_directions(name):
    image, outlines = study_on(GRIDS[name])
    low, high = box_of(drawn_in(pixels_of(axial_slices(image, outlines, count=1)), GREEN, above=0.9))
    height, width = high - low
    spacing = Volume.of(image).spacing_mm
    # Staircase: a box of 40 x 30 mm may lose or gain a voxel on each side.
    assert width / height == pytest.approx(40 / 30, abs=0.05 * max(spacing[1:]) + 0.02)


def test_the_sagittal_view_has_the_front_at_the_left_and_the_head_on_top():
    image, outlines = study_on(GRIDS["axial"])
    pixels = pixels_of(sagittal_coronal(image, outlines))
    sagittal, coronal = panels_of(pixels)
    gland_low, gland_high = box_of(drawn_in(pixels[sagittal], GREEN))
    lesion = drawn_in(pixels[sagittal], BLUE).mean(axis=0)
    assert lesion[1] > gland_low[1] + 0.6 * (gland_high[1] - gland_low[1])
    assert (gland_high - gland_low)[0] / (gland_high - gland_low)[1] == pytest.approx(39 / 30, rel=0.06)
    lesion = drawn_in(pixels[coronal], BLUE).mean(axis=0)
    gland_low, gland_high = box_of(drawn_in(pixels[coronal], GREEN))
    assert lesion[1] > gland_low[1] + 0.6 * (gland_high[1] - gland_low[1])
    middle = (gland_low[0] + gland_high[0]) / 2
    assert lesion[0] < middle  # the lesion's centre is above the gland's


def test_the_number_of_panels_is_what_was_asked_for():
    image, outlines = study_on(GRIDS["axial"])
    assert len(panels_of(pixels_of(axial_slices(image, outlines, count=6)))) == 6
    assert len(panels_of(pixels_of(axial_slices(image, outlines, count=4)))) == 4


def test_the_slices_show_a_lesion_between_evenly_spread_ones():
    grid = GRIDS["axial"]
    image, (gland, _) = study_on(grid)
    thin = np.zeros(grid.shape_zyx, dtype=bool)
    thin[13, 50:56, 50:56] = True
    pixels = pixels_of(axial_slices(image, [gland, Outline("Lesion", grid.image(thin), BLUE)], count=2))
    assert len(drawn_in(pixels, BLUE, above=0.85)) > 30


def test_a_dashed_outline_has_gaps():
    image, (gland, _) = study_on(GRIDS["axial"])
    solid, dashed = (
        len(drawn_in(pixels_of(axial_slices(image, [replace(gland, dashed=way)], count=1)), GREEN, above=0.9))
        for way in (False, True)
    )
    assert 0.4 * solid < dashed < 0.85 * solid


def test_a_thin_outline_is_thinner_asks_for_no_slice_and_many_of_a_name_have_one_line_in_the_legend():
    image, (gland, lesion) = study_on(GRIDS["axial"])
    thin = replace(lesion, name="Lesion, each sample", thin=True)
    thick, many = (pixels_of(axial_slices(image, [gland, *more])) for more in ([lesion], [thin, thin, thin]))
    assert 0 < len(drawn_in(many, BLUE, 0.9)) < 0.7 * len(drawn_in(thick, BLUE, 0.9))
    one = pixels_of(axial_slices(image, [gland, thin]))
    assert one.shape == many.shape
    legend = [np.argwhere(picture[int(0.93 * len(picture)) :].min(axis=2) < 200) for picture in (one, many)]
    assert np.array_equal(*legend)
    # Which slices are shown is told by where the gland is drawn.
    alone = pixels_of(axial_slices(image, [gland]))
    assert np.array_equal(drawn_in(alone, GREEN, 0.5), drawn_in(one, GREEN, 0.5))


def test_outlines_of_samples_are_thin_in_the_colours_of_the_result_and_of_its_structures_alone():
    grid = GRIDS["axial"]
    box = sitk.GetArrayFromImage(box_on(grid, GLAND_LPS))
    lesion = sitk.GetArrayFromImage(box_on(grid, LEFT_LESION_LPS))
    labels = np.where(lesion > 0, 9, 7 * box).astype(np.uint8)
    known = (PROSTATE.with_value(7), DIL.with_value(9))
    sample = SimpleNamespace(name="fold 1", labels=grid.image(labels), structures=known)
    outlines = sample_outlines(SimpleNamespace(structures=(replace(PROSTATE, color_rgb=BLUE),), samples=(sample,) * 2))
    assert [(o.name, o.color_rgb, o.thin) for o in outlines] == [("Prostate, each sample", BLUE, True)] * 2
    assert np.array_equal(sitk.GetArrayFromImage(outlines[0].mask) > 0, box > 0)  # the gland is whole


def test_a_structure_at_the_edge_of_the_image_is_outlined_to_the_edge():
    grid = GRIDS["axial"]
    whole = np.ones(grid.shape_zyx, dtype=bool)
    image, _ = study_on(grid)
    low, high = box_of(
        drawn_in(pixels_of(axial_slices(image, [Outline("All", grid.image(whole), GREEN)], count=1)), GREEN, above=0.9)
    )
    assert ((high - low)[1] / (high - low)[0]) == pytest.approx(100 / 90, rel=0.03)


def test_an_image_without_outlines_is_shown_whole():
    image, _ = study_on(GRIDS["sagittal"])
    assert len(panels_of(pixels_of(axial_slices(image, count=3)))) == 3
    assert len(panels_of(pixels_of(sagittal_coronal(image)))) == 2


def test_a_constant_image_is_no_obstacle():
    grid = GRIDS["axial"]
    assert axial_slices(grid.image(np.zeros(grid.shape_zyx, dtype=np.int16)), count=1).startswith(b"\x89PNG")


def test_the_same_figure_is_the_same_file():
    image, outlines = study_on(GRIDS["axial"])
    assert axial_slices(image, outlines, count=2) == axial_slices(image, outlines, count=2)


def test_an_outline_on_another_grid_is_refused():
    image, _ = study_on(GRIDS["axial"])
    _, outlines = study_on(GRIDS["left-handed"])
    with pytest.raises(ProstateXferError, match="outline 'Gland' .* different grids"):
        axial_slices(image, outlines)


def test_outlines_of_a_label_map_run_around_the_whole_prostate():
    grid = GRIDS["axial"]
    gland, lesion = (sitk.GetArrayFromImage(box_on(grid, bounds)) for bounds in (GLAND_LPS, LEFT_LESION_LPS))
    labels = grid.image((gland + lesion).astype(np.uint8))
    prostate, dil = outlines_of(labels)
    assert np.array_equal(sitk.GetArrayFromImage(prostate.mask), gland)
    assert np.array_equal(sitk.GetArrayFromImage(dil.mask), lesion)
    assert (prostate.name, dil.name, prostate.dashed) == ("Prostate", "DIL", False)


def test_outlines_of_a_reference_are_dashed_and_have_one_colour():
    grid = GRIDS["axial"]
    labels, reference = (grid.image(np.full(grid.shape_zyx, value, dtype=np.uint8)) for value in (1, 2))
    outlines = outlines_of(labels, {1: "Gland", 2: "DIL"}, reference)
    assert [(o.name, o.dashed) for o in outlines] == [("DIL (reference)", True), ("Gland", False)]
    assert outlines[0].color_rgb == REFERENCE_RGB


# --- synthetic CT -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ct():
    """A patient of water with an air bubble and a couch below, on a left-handed grid."""
    grid = GRIDS["left-handed"]
    body = sitk.GetArrayFromImage(box_on(grid, ((-40.0, -30.0, -60.0), (40.0, 25.0, 60.0)))) > 0
    hu = np.where(body, 40, -1000).astype(np.int16)
    hu[sitk.GetArrayFromImage(box_on(grid, ((-10.0, -10.0, -60.0), (0.0, 0.0, 60.0)))) > 0] = -1000
    hu[sitk.GetArrayFromImage(box_on(grid, ((-40.0, 33.0, -60.0), (40.0, 36.0, 60.0)))) > 0] = 100
    return grid.image(hu)


def columns_of(pixels, count):
    """The panels of the axial row."""
    return panels_of(pixels)[:count]


def test_input_synthetic_reference_and_difference_stand_side_by_side(ct):
    pixels = pixels_of(synthetic_ct(ct, source=ct, truth=ct))
    assert len(panels_of(pixels)) == 8
    assert len(panels_of(pixels_of(synthetic_ct(ct)))) == 2


def test_too_dense_is_red_too_thin_is_blue_and_equal_is_white(ct):
    grid = Grid.of(ct)
    synthetic = sitk.GetArrayFromImage(ct)
    synthetic[sitk.GetArrayFromImage(box_on(grid, ((10.0, -25.0, -60.0), (38.0, 20.0, 60.0)))) > 0] += 150
    synthetic[sitk.GetArrayFromImage(box_on(grid, ((-38.0, -25.0, -60.0), (-15.0, 20.0, 60.0)))) > 0] -= 150
    pixels = pixels_of(synthetic_ct(grid.image(synthetic), truth=ct))
    difference = pixels[columns_of(pixels, 3)[2]]
    height, width = difference.shape[:2]
    right_of_patient = difference[height // 2, int(0.25 * width)]
    left_of_patient = difference[height // 2, int(0.75 * width)]
    assert left_of_patient[0] > left_of_patient[2] + 80
    assert right_of_patient[2] > right_of_patient[0] + 80
    assert np.all(difference[height // 2, int(0.55 * width)] > 225)


def test_the_difference_is_shown_in_the_body_and_not_on_the_couch(ct):
    synthetic = sitk.GetArrayFromImage(ct)
    synthetic[synthetic == 100] = -900
    pixels = pixels_of(synthetic_ct(Grid.of(ct).image(synthetic), truth=ct))
    difference = pixels[columns_of(pixels, 3)[2]]
    blue = (difference[..., 2] > difference[..., 0] + 60).sum()
    assert blue == 0


def test_the_bone_window_shows_soft_tissue_darker(ct):
    def grey(window):
        pixels = pixels_of(synthetic_ct(ct, window=window))
        panel = pixels[panels_of(pixels)[0]]
        return panel[int(0.3 * len(panel)), int(0.3 * panel.shape[1])].mean()

    assert grey("soft tissue") == pytest.approx(255 * 200 / 400, abs=4)
    assert grey("bone") == pytest.approx(255 * 540 / 1800, abs=4)
    assert grey((0.0, 80.0)) == pytest.approx(255 / 2, abs=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "lung"}, "use one of soft tissue, bone"),
        ({"window": (10.0, 10.0)}, "is empty"),
        ({"truth": sitk.Image(3, 3, 3, sitk.sitkInt16)}, "synthetic CT .* reference CT .* different grids"),
    ],
)
def test_what_cannot_be_shown_is_refused(ct, options, message):
    with pytest.raises(ProstateXferError, match=message):
        synthetic_ct(ct, **options)


def test_no_slice_is_no_figure(ct):
    with pytest.raises(ProstateXferError, match="at least one"):
        axial_slices(ct, count=0)


def test_a_missing_matplotlib_is_a_sentence(ct, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ProstateXferError, match="pip install matplotlib"):
        axial_slices(ct, count=1)
