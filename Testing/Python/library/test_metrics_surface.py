# SPDX-License-Identifier: Apache-2.0
"""HD, HD95, ASSD, MASD and NSD: by hand, by brute force, for empty masks, and whatever must not change them."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.metrics import surface_distances, surface_metrics
from ProstateXferLib.metrics.surface_elements import boundary_voxels, surfels

DEFINITIONS = ("voxel", "surfel")
SPACING_ZYX = (3.0, 0.5, 0.7)
NAN = math.nan

spacings = st.tuples(*[st.sampled_from([0.3, 0.5, 0.7, 1.0, 2.5, 4.0])] * 3)
definitions = st.sampled_from(DEFINITIONS)


@st.composite
def mask_pairs(draw, largest=7):
    """Two masks that are not empty: boxes, single voxels and noise."""
    shape = tuple(draw(st.integers(1, largest)) for _ in range(3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.02, 0.3, 0.9]))

    def mask():
        inside = random.random(shape) < share
        low = [random.integers(n) for n in shape]
        inside[tuple(slice(a, a + random.integers(1, n + 1)) for a, n in zip(low, shape, strict=True))] = True
        return inside

    return mask(), mask()


def filled(shape, *box):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(*ends) for ends in box)] = 1
    return mask


def ball(shape, spacing_zyx, radius_mm, shift_mm=(0, 0, 0)):
    axes = [(np.arange(n) - (n - 1) / 2) * s - d for n, s, d in zip(shape, spacing_zyx, shift_mm, strict=True)]
    return sum(a**2 for a in np.meshgrid(*axes, indexing="ij", sparse=True)) <= radius_mm**2


def distances_of(metrics):
    return [metrics.hd, metrics.hd95, metrics.assd, metrics.masd]


def same(first, second):
    assert distances_of(first) == pytest.approx(distances_of(second), rel=1e-9, abs=1e-9)
    assert list(first.nsd.values()) == pytest.approx(list(second.nsd.values()), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_two_voxels_are_as_far_apart_as_their_centres(definition):
    reference, prediction = filled((4, 9, 9), (0, 1), (0, 1), (0, 1)), filled((4, 9, 9), (2, 3), (4, 5), (8, 9))
    found = surface_metrics(reference, prediction, SPACING_ZYX, tolerances_mm=(1, 9), definition=definition)
    if definition == "voxel":
        apart_mm = math.hypot(2 * 3, 4 * 0.5, 8 * 0.7)
        assert distances_of(found) == pytest.approx([apart_mm] * 4)
    else:  # the far corners of one voxel are one voxel farther from the other than the near ones
        assert found.hd == pytest.approx(math.hypot(2 * 3, 4 * 0.5, 8 * 0.7))
        assert math.hypot(3, 3 * 0.5, 7 * 0.7) < found.assd < found.hd
    assert found.nsd == {1.0: 0.0, 9.0: 1.0}


def test_a_plate_that_is_one_slice_thicker_counted_by_hand():
    """One voxel thick, so all voxels are surface: of 2 x 25, those of the second slice are 3 mm from the first."""
    reference, prediction = filled((5, 7, 7), (2, 3), (1, 6), (1, 6)), filled((5, 7, 7), (2, 4), (1, 6), (1, 6))
    found = surface_metrics(reference, prediction, SPACING_ZYX, tolerances_mm=(1, 3))
    assert found.hd == found.hd95 == 3.0
    assert found.assd == pytest.approx(25 * 3 / (25 + 50))
    assert found.masd == pytest.approx((0 + 25 * 3 / 50) / 2)
    assert found.nsd == {1.0: pytest.approx(50 / 75), 3.0: 1.0}


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_concentric_balls_are_apart_by_the_difference_of_their_radii(definition):
    spacing_zyx, shape = (1.0, 0.5, 0.5), (44, 90, 90)
    reference, prediction = (ball(shape, spacing_zyx, radius_mm) for radius_mm in (17, 20))
    found = surface_metrics(reference, prediction, spacing_zyx, tolerances_mm=(2, 4), definition=definition)
    # Steps of voxels reach out to one another, so the mean falls short, by less than half the largest spacing.
    assert 2.5 < found.assd < 3
    assert 2.5 < found.masd < 3
    assert 2.5 < found.hd95 <= found.hd <= 4
    assert found.nsd[2.0] < 0.05 and found.nsd[4.0] == 1.0


def test_surfels_add_up_to_the_area_of_a_ball():
    """Cuts at the middle of the edges are steps still: a ball's surface comes out an eighth too large, at any size."""
    elements = surfels(ball((44, 90, 90), (1.0, 0.5, 0.5), 20), (1.0, 0.5, 0.5))
    assert 1 < elements.weights.sum() / (4 * math.pi * 20**2) < 1.15


def test_surfels_add_up_to_the_faces_of_a_box():
    """Its edges are cut off: that takes less than a voxel's width along them from each face."""
    elements = surfels(filled((12, 42, 52), (1, 11), (1, 41), (1, 51)) > 0, (3.0, 0.5, 0.7))
    whole = 2 * (30 * 20 + 30 * 35 + 20 * 35)
    assert 0.9 * whole < elements.weights.sum() < whole


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_equal_masks_have_no_distance(definition):
    mask = ball((9, 20, 20), SPACING_ZYX, 5)
    found = surface_metrics(mask, mask, SPACING_ZYX, tolerances_mm=(0, 1), definition=definition)
    assert distances_of(found) == [0, 0, 0, 0] and found.nsd == {0.0: 1.0, 1.0: 1.0}


def test_a_stray_voxel_moves_the_hausdorff_distance_and_nothing_else_much():
    reference = ball((24, 120, 120), SPACING_ZYX, 15)
    prediction = ball((24, 120, 120), SPACING_ZYX, 15, (0, 1, 0))
    without = surface_metrics(reference, prediction, SPACING_ZYX)
    prediction[0, 0, 0] = True
    found = surface_metrics(reference, prediction, SPACING_ZYX)
    to_reference_mm = np.linalg.norm(np.argwhere(reference) * SPACING_ZYX, axis=1).min()
    assert found.hd == pytest.approx(to_reference_mm) and found.hd > 10 * without.hd
    assert found.hd95 == without.hd95
    assert found.assd == pytest.approx(without.assd, rel=0.1)


@given(mask_pairs(), spacings, st.sampled_from([50, 90, 95, 100]))
def test_voxel_metrics_equal_those_of_all_pairs_of_surface_voxels(pair, spacing_zyx, percentile):
    found = surface_metrics(*pair, spacing_zyx, percentile=percentile, tolerances_mm=(1.2,))
    points = [np.argwhere(surface_by_definition(mask)) * spacing_zyx for mask in pair]
    apart = cdist(*points)
    sides = apart.min(axis=1), apart.min(axis=0)
    both = np.concatenate(sides)
    assert found.hd == pytest.approx(both.max())
    assert found.hd95 == pytest.approx(max(np.percentile(side, percentile) for side in sides))
    assert found.assd == pytest.approx(both.mean())
    assert found.masd == pytest.approx(np.mean([side.mean() for side in sides]))
    assert found.nsd[1.2] == pytest.approx(np.mean(both <= 1.2 + 1e-6))


def surface_by_definition(mask):
    """Voxel by voxel: inside, and one of the six neighbours is not."""
    outside = np.pad(~mask, 1, constant_values=True)
    near = np.zeros(mask.shape, dtype=bool)
    for index in np.ndindex(mask.shape):
        centre = np.add(index, 1)
        steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
        near[index] = any(outside[tuple(centre + step)] for step in steps)
    return mask & near


@pytest.mark.parametrize(
    "limits", [{"_VOXELS_PER_POINT": 0}, {"_VOXELS_PER_POINT": 10**9}, {"_ROWS": 3}, {"_MAX_GAP": 1}]
)
@settings(max_examples=40)
@given(pair=mask_pairs(largest=14), spacing_zyx=spacings)
def test_rows_and_tree_find_the_same_distances(limits, pair, spacing_zyx):
    surfaces = [boundary_voxels(mask) for mask in pair]
    apart = cdist(*(surface.positions_mm(spacing_zyx) for surface in surfaces))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(surface_distances, name, value)
        found = surface_distances.surface_distances_mm(*surfaces, spacing_zyx)
    np.testing.assert_allclose(found[0], apart.min(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found[1], apart.min(axis=0), rtol=1e-12, atol=1e-12)


@given(mask_pairs(), spacings, definitions)
def test_the_order_of_the_masks_does_not_matter(pair, spacing_zyx, definition):
    first, second = pair
    same(
        surface_metrics(first, second, spacing_zyx, definition=definition),
        surface_metrics(second, first, spacing_zyx, definition=definition),
    )


@given(mask_pairs(), spacings, definitions, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_neither_a_shift_nor_room_around_the_masks_matters(pair, spacing_zyx, definition, room):
    moved = [np.pad(mask, np.reshape(room, (3, 2))) for mask in pair]
    same(
        surface_metrics(*pair, spacing_zyx, definition=definition),
        surface_metrics(*moved, spacing_zyx, definition=definition),
    )


@given(mask_pairs(), spacings, definitions, st.sampled_from([0.1, 0.3, 2.0, 7.0]))
def test_distances_grow_with_the_spacing(pair, spacing_zyx, definition, factor):
    small = surface_metrics(*pair, spacing_zyx, tolerances_mm=(1, 2), definition=definition)
    large = surface_metrics(
        *pair, [s * factor for s in spacing_zyx], tolerances_mm=(factor, 2 * factor), definition=definition
    )
    assert distances_of(large) == pytest.approx([d * factor for d in distances_of(small)])
    assert list(large.nsd.values()) == pytest.approx(list(small.nsd.values()))


@given(mask_pairs(), spacings, definitions, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_axes_may_be_exchanged_with_their_spacings_and_turned_around(pair, spacing_zyx, definition, order, turned):
    other = [np.flip(mask.transpose(order), tuple(turned)) for mask in pair]
    same(
        surface_metrics(*pair, spacing_zyx, definition=definition),
        surface_metrics(*other, [spacing_zyx[axis] for axis in order], definition=definition),
    )


@given(mask_pairs(), spacings, definitions)
def test_nsd_never_falls_with_the_tolerance_and_reaches_1_at_the_hausdorff_distance(pair, spacing_zyx, definition):
    hd_mm = surface_metrics(*pair, spacing_zyx, definition=definition).hd
    tolerances_mm = (0, 0.5, 1, 2, 5, max(hd_mm, 5))
    found = surface_metrics(*pair, spacing_zyx, tolerances_mm=tolerances_mm, definition=definition)
    values = list(found.nsd.values())
    assert values == sorted(values) and values[0] >= 0 and values[-1] == pytest.approx(1)
    assert max(found.hd95, found.assd, found.masd) <= hd_mm * (1 + 1e-12)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_a_distance_equal_to_the_tolerance_is_within_it_however_it_is_rounded(definition):
    reference, prediction = filled((1, 1, 9), (0, 1), (0, 1), (0, 1)), filled((1, 1, 9), (0, 1), (0, 1), (3, 4))
    for spacing_x in (0.1, float(np.float32(0.3))):  # 3 x 0.1 is 0.30000000000000004; a NIfTI holds 0.3 as a float32
        found = surface_metrics(
            reference, prediction, (1, 1, spacing_x), tolerances_mm=(0.3, 0.9), definition=definition
        )
        assert found.nsd[0.3 if spacing_x == 0.1 else 0.9] == 1.0


def test_the_percentile_can_be_chosen():
    reference, prediction = filled((1, 1, 30), (0, 1), (0, 1), (0, 1)), filled((1, 1, 30), (0, 1), (0, 1), (0, 21))
    found = [surface_metrics(reference, prediction, (1, 1, 1), percentile=p) for p in (50, 95, 100)]
    assert [(m.percentile, m.hd95) for m in found] == [(50.0, 10.0), (95.0, 19.0), (100.0, 20.0)]


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize(
    ("empty", "one", "two"),
    [("best_worst", (NAN, 0), (0, 1)), ("nan", (NAN, 0), (NAN, NAN)), ("penalty", (13, 0), (0, 1))],
)
def test_empty_masks_follow_the_rule_that_is_asked_for(definition, empty, one, two):
    nothing, something = np.zeros((1, 3, 4), dtype=bool), filled((1, 3, 4), (0, 1), (1, 2), (1, 2))
    options = {"spacing": (12.0, 1.0, 1.0), "definition": definition, "empty": empty}  # the diagonal is 13 mm
    for pair, (distance, nsd) in (
        ((nothing, something), one),
        ((something, nothing), one),
        ((nothing, nothing), two),
    ):
        found = surface_metrics(*pair, **options)
        assert distances_of(found) == pytest.approx([distance] * 4, nan_ok=True)
        assert found.nsd == pytest.approx({1.0: nsd, 2.0: nsd}, nan_ok=True)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_masks_of_any_type_of_number_count_alike(definition):
    pair = ball((6, 14, 14), SPACING_ZYX, 4), ball((6, 14, 14), SPACING_ZYX, 4, (0, 1, 0))
    expected = surface_metrics(*pair, SPACING_ZYX, definition=definition)
    for dtype, value in ((np.uint8, 255), (np.int16, -3), (np.int64, 2**40), (np.float32, 0.5)):
        same(
            surface_metrics(*(m.astype(dtype) * dtype(value) for m in pair), SPACING_ZYX, definition=definition),
            expected,
        )
    turned = [np.asfortranarray(mask)[::-1, :, ::-1] for mask in pair]
    same(surface_metrics(*turned, SPACING_ZYX, definition=definition), expected)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_masks_themselves_are_left_as_they_were(definition):
    pair = [ball((6, 14, 14), SPACING_ZYX, 4), ball((6, 14, 14), SPACING_ZYX, 3)]
    before = [mask.copy() for mask in pair]
    surface_metrics(*pair, SPACING_ZYX, definition=definition)
    assert all((mask == copy).all() for mask, copy in zip(pair, before, strict=True))


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_oblique_images_carry_their_own_spacing(oblique_direction, definition):
    pair = ball((6, 14, 14), SPACING_ZYX, 4), ball((6, 14, 14), SPACING_ZYX, 4, (0, 1, 1))
    grid = Grid((14, 14, 6), SPACING_ZYX[::-1], (10.0, -20.0, 5.0), oblique_direction)
    images = [grid.image(mask) for mask in pair]
    assert surface_metrics(*images, definition=definition) == surface_metrics(*pair, SPACING_ZYX, definition=definition)
    # In the patient's space the points lie elsewhere, but equally far apart.
    lps = [grid.index_to_lps(np.argwhere(surface_by_definition(mask))[:, ::-1]) for mask in pair]
    assert surface_metrics(*images).hd == pytest.approx(max(cdist(*lps).min(axis=a).max() for a in (0, 1)))


def test_images_on_different_grids_are_refused(oblique_direction):
    mask = ball((6, 14, 14), SPACING_ZYX, 4)
    straight = Grid((14, 14, 6), SPACING_ZYX[::-1]).image(mask)
    oblique = Grid((14, 14, 6), SPACING_ZYX[::-1], direction=oblique_direction).image(mask)
    with pytest.raises(ProstateXferError, match="lie on different grids; resample one"):
        surface_metrics(straight, oblique)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_2d_contours_are_compared_in_their_plane(definition):
    """A square in a slice has a contour; as a volume of one slice all of it would be surface."""
    reference, prediction = filled((12, 12), (1, 8), (1, 8)), filled((12, 12), (1, 8), (3, 10))
    found = surface_metrics(reference, prediction, (0.5, 2.0), tolerances_mm=(1,), definition=definition)
    assert found.hd == 4.0
    assert found.assd < surface_metrics(reference, prediction, (0.5, 1.0), definition=definition).assd * 2.01
    if definition == "voxel":
        assert len(boundary_voxels(reference[None] > 0, flat=True).positions_mm((1, 1, 1))) == 4 * 6


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2))), {}, "needs its spacing"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1)), {}, "3 axes with 2 spacings"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), 1.0), {}, "3 axes with 1 spacings"),
        ((np.ones(2), np.ones(2), (1.0,)), {}, "1 axes with 1 spacings"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 0, 1)), {}, "finite and above zero"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 3)), (1, 1, 1)), {}, "they must be equal"),
        ((sitk.Image(2, 2, 2, sitk.sitkUInt8),) * 2 + ((1, 1, 1),), {}, "carries its own spacing"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1)), {"tolerances_mm": (-1,)}, "tolerances are 0 mm or more"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1)), {"percentile": 0}, "above 0 and up to 100"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1)), {"definition": "mesh"}, "use one of voxel, surfel"),
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1)), {"empty": "zero"}, "use one of best_worst, nan, penalty"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, options, message):
    with pytest.raises(ProstateXferError, match=message):
        surface_metrics(*arguments, **options)


def test_results_go_through_a_table_row():
    found = surface_metrics(filled((3, 3, 3), (1, 2)), filled((3, 3, 3), (1, 3)), (1, 1, 1), tolerances_mm=(1, 2.5))
    row = asdict(found)
    assert list(row) == ["hd", "hd95", "assd", "masd", "nsd", "percentile", "definition"]
    assert list(row["nsd"]) == [1.0, 2.5] and all(
        type(v) is float for v in [*distances_of(found), *row["nsd"].values()]
    )
