# SPDX-License-Identifier: Apache-2.0
"""Closed surfaces are filled exactly, wherever the lines of voxel centres meet their edges and corners."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_trees.volumes import box_triangles, write_stl
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.training.datasets.stl_file import read_stl
from ProstateXferLib.training.datasets.surface_mask import mask_of_triangles, surface_mask

GRID = Grid((40, 36, 20), (0.7, 0.8, 1.5), (-14.0, -14.4, -15.0))


def sphere_triangles(centre, radius_mm, rings=24):
    """(n, 3, 3): a sphere by latitude and longitude, its corners on it."""
    polar = np.linspace(0, np.pi, rings + 1)
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    flat = np.sin(polar)[:, None]
    heights = np.repeat(np.cos(polar)[:, None], len(around), axis=1)
    points = np.stack([flat * np.cos(around), flat * np.sin(around), heights], axis=-1)
    points[0], points[-1] = (0, 0, 1), (0, 0, -1)  # the poles, to the last bit
    points = np.asarray(centre) + radius_mm * points
    after = np.roll(points, -1, axis=1)
    upper = np.stack([points[:-1], points[1:], after[1:]], axis=2)
    lower = np.stack([points[:-1], after[1:], after[:-1]], axis=2)
    return np.concatenate([upper.reshape(-1, 3, 3), lower.reshape(-1, 3, 3)])


def mesh_volume_cm3(triangles):
    return abs(np.einsum("ti,ti->t", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum()) / 6000


def filled(triangles, shape_zyx):
    """The mask of triangles given in voxel indices."""
    vertices, corners = np.unique(triangles.reshape(-1, 3), axis=0, return_inverse=True)
    return mask_of_triangles(vertices, corners.reshape(-1, 3), shape_zyx)


def test_a_sphere_has_its_volume(tmp_path):
    triangles = sphere_triangles((0.3, -0.4, -0.2), 10.0)
    mask = surface_mask(write_stl(triangles, tmp_path / "sphere.stl"), GRID)
    assert mask.sum() * GRID.voxel_volume_mm3 / 1000 == pytest.approx(mesh_volume_cm3(triangles), rel=0.01)
    assert mesh_volume_cm3(triangles) == pytest.approx(4 / 3 * np.pi, rel=0.02)
    centres = GRID.index_to_lps(np.argwhere(mask)[:, ::-1])
    assert np.linalg.norm(centres - (0.3, -0.4, -0.2), axis=1).max() <= 10.0
    outside = GRID.index_to_lps(np.argwhere(~mask)[:, ::-1])
    assert np.linalg.norm(outside - (0.3, -0.4, -0.2), axis=1).min() > 9.7  # the flat triangles' sagitta


def test_oblique_grids_are_filled_in_space_not_in_index(oblique_direction, tmp_path):
    turned = Grid((44, 44, 30), (0.8, 0.7, 1.2), (0, 0, 0), oblique_direction)
    middle = turned.index_to_lps((np.array(turned.size_xyz) - 1) / 2)
    triangles = sphere_triangles(middle, 10.0)
    mask = surface_mask(write_stl(triangles, tmp_path / "sphere.stl"), turned)
    assert mask.sum() * turned.voxel_volume_mm3 / 1000 == pytest.approx(mesh_volume_cm3(triangles), rel=0.01)
    centres = turned.index_to_lps(np.argwhere(mask)[:, ::-1])
    assert np.linalg.norm(centres - middle, axis=1).max() <= 10.0 + 1e-5


@given(
    st.tuples(*[st.integers(0, 6)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.sampled_from([0.0, 0.25, 0.5, 1 - 1e-9]),
)
def test_a_box_holds_the_centres_between_its_faces_half_open(low, size, shift):
    """Faces through voxel centres, too: of two boxes that share a face, one has the centres on it."""
    low, high = np.array(low) + shift, np.array(low) + np.array(size) + shift
    mask = filled(box_triangles(low, high), (14, 15, 16))
    z, y, x = np.indices(mask.shape)
    expected = (x >= low[0]) & (x < high[0]) & (z >= low[2]) & (z < high[2])
    # Rows are half-open the other way (low < row <= high), see _crossings.
    expected &= (y > low[1]) & (y <= high[1])
    assert np.array_equal(mask, expected)


@given(st.integers(0, 2**32 - 1))
def test_no_line_leaks_out_of_a_closed_surface_whose_corners_lie_on_the_lines(seed):
    """Corners on voxel centres and halves: every line through an edge or a corner must end outside again."""
    random = np.random.default_rng(seed)
    points = random.integers(2, 18, (4, 3)) / 2
    tetrahedron = points[np.array([(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)])]
    mask = filled(tetrahedron, (12, 12, 12))
    assert not mask[10:].any()
    assert not mask[:, 10:].any()
    assert not mask[:, :, 10:].any()
    edges = (points[1:] - points[0]).T
    if abs(np.linalg.det(edges)) > 1e-9:
        shares = np.linalg.solve(edges, (np.argwhere(mask)[:, ::-1] - points[0]).T)
        assert (shares > -1e-9).all()
        assert (shares.sum(axis=0) < 1 + 1e-9).all()
        every = np.linalg.solve(edges, (np.argwhere(~mask)[:, ::-1] - points[0]).T)
        strictly_inside = (every > 1e-9).all(axis=0) & (every.sum(axis=0) < 1 - 1e-9)
        assert not strictly_inside.any()


def test_a_shell_within_a_shell_is_a_hole(tmp_path):
    outer, inner = sphere_triangles((0, 0, 0), 10.0), sphere_triangles((0, 0, 0), 5.0)
    both = surface_mask(write_stl(np.concatenate([outer, inner]), tmp_path / "both.stl"), GRID)
    alone = [surface_mask(write_stl(t, tmp_path / f"{i}.stl"), GRID) for i, t in enumerate((outer, inner))]
    assert np.array_equal(both, alone[0] & ~alone[1])


def test_ascii_and_binary_files_give_the_same_voxels(tmp_path):
    triangles = sphere_triangles((0.1, 0.2, 0.3), 9.0)
    binary = write_stl(triangles, tmp_path / "binary.STL")
    text = write_stl(triangles, tmp_path / "text.stl", ascii_form=True)
    assert np.array_equal(read_stl(binary), read_stl(text))
    assert np.array_equal(surface_mask(binary, GRID), surface_mask(text, GRID))


def test_the_order_and_the_turn_of_triangles_do_not_matter(tmp_path):
    triangles = sphere_triangles((0.1, 0.2, 0.3), 9.0)
    shuffled = np.random.default_rng(0).permutation(triangles)[:, [1, 2, 0]]
    shuffled[::2] = shuffled[::2, ::-1]
    one = surface_mask(write_stl(triangles, tmp_path / "one.stl"), GRID)
    assert np.array_equal(surface_mask(write_stl(shuffled, tmp_path / "two.stl"), GRID), one)


def test_a_surface_cut_by_the_field_of_view_is_filled_to_its_edge(tmp_path):
    high = Grid(GRID.size_xyz, GRID.spacing_xyz, (-14.0, -14.4, -2.0))  # the sphere's lower part lies below
    mask = surface_mask(write_stl(sphere_triangles((0, 0, 0), 10.0), tmp_path / "sphere.stl"), high)
    assert mask[0].any()
    whole = surface_mask(tmp_path / "sphere.stl", Grid((40, 36, 30), GRID.spacing_xyz, (-14.0, -14.4, -17.0)))
    assert np.array_equal(mask, whole[10:30])


def test_a_surface_in_the_other_frame_is_told(tmp_path):
    off_centre = Grid(GRID.size_xyz, GRID.spacing_xyz, (20.0, -14.4, -15.0))
    path = write_stl(sphere_triangles((-33, 0, 0), 8.0), tmp_path / "ras.stl")
    with pytest.raises(ProstateXferError, match=r"outside the image \(0% of it inside.*set the frame 'ras'"):
        surface_mask(path, off_centre)
    in_space = write_stl(sphere_triangles((33, 0, 0), 8.0), tmp_path / "lps.stl")
    assert np.array_equal(surface_mask(path, off_centre, frame="ras"), surface_mask(in_space, off_centre))
    with pytest.raises(ProstateXferError, match="check that it belongs to this image"):
        surface_mask(write_stl(sphere_triangles((500, 0, 0), 8.0), tmp_path / "far.stl"), off_centre)


def test_a_surface_with_a_hole_is_refused(tmp_path):
    triangles = sphere_triangles((0, 0, 0), 9.0)
    with pytest.raises(ProstateXferError, match="not closed"):
        surface_mask(write_stl(np.delete(triangles, 300, axis=0), tmp_path / "hole.stl"), GRID)


@pytest.mark.parametrize(
    "content",
    [b"", b"solid x\nfacet\nouter loop\nvertex 1 2 3\n", b"x" * 200, b"solid x\nvertex 1 2 three\nendsolid x"],
)
def test_a_file_that_is_no_surface_is_told(tmp_path, content):
    (tmp_path / "bad.stl").write_bytes(content)
    with pytest.raises(ProstateXferError, match=r"bad\.stl"):
        read_stl(tmp_path / "bad.stl")


def test_a_file_that_was_cut_off_is_told(tmp_path):
    path = write_stl(box_triangles(np.zeros(3), np.ones(3)), tmp_path / "cut.stl")
    path.write_bytes(b"binary".ljust(80) + path.read_bytes()[80:-50])
    with pytest.raises(ProstateXferError, match="cut off"):
        read_stl(path)
