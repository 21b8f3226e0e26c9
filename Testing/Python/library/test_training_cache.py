# SPDX-License-Identifier: Apache-2.0
"""Prepared cases: the voxels of inference, labels on top of them, and a cache that is right or made anew."""

import dataclasses
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from made_images.grids import voxel_centres_lps
from watchers.stops_after import StopsAfter

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.structures import BLADDER, DIL, PERIPHERAL_ZONE, PROSTATE
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.cache import file_hashes, prepared
from ProstateXferLib.training.cache.case_arrays import drawing_order, label_array
from ProstateXferLib.training.cache.entries import DESCRIPTION
from ProstateXferLib.training.cache.prepared import prepared_cases
from ProstateXferLib.training.cache.statistics import training_statistics
from ProstateXferLib.training.datasets.case import Case, Mask

GRID = Grid((30, 26, 6), (1.0, 1.25, 3.0), (-15.0, -20.0, 4.0))
RAW = Preprocessing(IntensityRule("standardise", mean=0.0, deviation=1.0))
ZSCORE = Preprocessing(IntensityRule("zscore"), spacing_yx_mm=(0.7, 0.7))
OLD = 1_700_000_000  # seconds; a file of today might change again within its time stamp


def labels_of_ball(grid, radius_mm, value, labels=None):
    middle = grid.index_to_lps((np.array(grid.size_xyz) - 1) / 2)
    labels = np.zeros(grid.shape_zyx, np.uint8) if labels is None else labels
    labels[np.linalg.norm(voxel_centres_lps(grid) - middle, axis=-1) < radius_mm] = value
    return labels


def write_case(folder, name="one", *, grid=GRID, scale=1.0, lesion=True, masks=None):
    """T2w whose grey value rises along every axis, gland 9 mm, lesion 4 mm."""
    folder = folder / name
    folder.mkdir(parents=True)
    labels = labels_of_ball(grid, 9.0, 1)
    labels_of_ball(grid, 4.0, 2, labels)
    z, y, x = np.indices(grid.shape_zyx)
    write_image(
        grid.image((scale * (z * 50 + y * 3 + x + 40 * (labels > 0))).astype(np.float32)), folder / "t2w.nii.gz"
    )
    write_image(grid.image(labels), folder / "labels.nii.gz")
    for path in folder.iterdir():
        os.utime(path, (OLD, OLD))
    found = {"Prostate": (Mask(folder / "labels.nii.gz", (1, 2)),)}
    if lesion:
        found["DIL"] = (Mask(folder / "labels.nii.gz", (2,)),)
    return Case(name, name, {"T2w": folder / "t2w.nii.gz"}, found if masks is None else masks)


def prepare(cases, folder, *, rules=ZSCORE, structures=(PROSTATE, DIL), sequences=("T2w",), progress=None):
    return prepared_cases(
        cases, rules, structures, sequences=sequences, folder=folder, progress=progress or SilentProgress()
    )


def test_the_image_is_the_one_that_inference_sees(tmp_path):
    case = write_case(tmp_path)
    (made,) = prepare([case], tmp_path / "cache")
    expected = prepare_slices(sitk.ReadImage(str(case.images["T2w"])), ZSCORE)
    np.testing.assert_array_equal(made.image[0], expected.slices.numpy())
    assert made.image.dtype == np.float32
    assert made.spacing_zyx == pytest.approx(expected.spacing_zyx)
    assert made.shape_zyx == made.labels.shape == expected.slices.shape


@pytest.mark.parametrize("rules", [ZSCORE, dataclasses.replace(ZSCORE, spacing_yx_mm=None, spacing_zyx_mm=(1.5,) * 3)])
def test_labels_lie_where_the_structures_are_in_the_patient(tmp_path, rules, oblique_direction):
    """Ball volumes in cm3 and centroids in network mm are those of the analytic ball, also on an oblique grid."""
    grid = Grid((44, 40, 30), (0.8, 0.9, 1.1), (5.0, -7.0, 11.0), oblique_direction)
    (made,) = prepare([write_case(tmp_path, grid=grid)], tmp_path / "cache", rules=rules)
    voxel_cm3 = np.prod(made.spacing_zyx) / 1000
    assert (np.asarray(made.labels) > 0).sum() * voxel_cm3 == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.05)
    assert (np.asarray(made.labels) == 2).sum() * voxel_cm3 == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.12)
    middle_mm = (np.array(made.shape_zyx) - 1) / 2 * made.spacing_zyx
    centroid_mm = np.argwhere(made.labels).mean(0) * made.spacing_zyx
    np.testing.assert_allclose(centroid_mm, middle_mm, atol=0.6)


def test_the_positions_kept_of_a_structure_are_voxels_of_it_and_counts_add_up(tmp_path):
    (made,) = prepare([write_case(tmp_path)], tmp_path / "cache")
    labels = np.asarray(made.labels)
    assert set(made.foreground) == {1, 2} == set(made.slice_voxels)
    for value, positions in made.foreground.items():
        assert (labels[tuple(positions.T)] == value).all()
        assert len(np.unique(positions, axis=0)) == len(positions) == (labels == value).sum()
        assert list(made.slice_voxels[value]) == (labels == value).sum((1, 2)).tolist()


def test_of_many_voxels_ten_thousand_or_a_hundredth_are_kept(monkeypatch):
    where = np.ones((10, 100, 100), bool)
    assert len(prepared._positions(where)) == 10_000
    monkeypatch.setattr(prepared, "FOREGROUND_VOXELS", 300)
    kept = prepared._positions(where)
    assert len(kept) == 1000
    np.testing.assert_array_equal(kept, prepared._positions(where))


def test_a_part_lies_over_the_whole_whatever_the_order_of_the_card():
    grid = Grid((4, 1, 1), (1.0, 1.0, 1.0))
    masks = {"DIL": np.array([[[0, 0, 1, 1]]], bool), "Prostate": np.array([[[0, 1, 1, 1]]], bool)}
    masks["Bladder"] = np.array([[[1, 1, 0, 0]]], bool)
    for card in ([DIL, PROSTATE, BLADDER], [PROSTATE, DIL, BLADDER]):
        assert label_array(masks, card, grid).ravel().tolist() == [5, 5, 2, 2]
    assert label_array(masks, [BLADDER, DIL, PROSTATE], grid).ravel().tolist() == [5, 1, 2, 2]
    assert drawing_order([DIL, PERIPHERAL_ZONE]) == [DIL, PERIPHERAL_ZONE]


def test_what_was_not_annotated_is_not_known_and_what_was_not_found_is(tmp_path):
    gland = write_case(tmp_path, "gland", lesion=False)
    healthy = dataclasses.replace(gland, masks={**gland.masks, "DIL": ()})
    bare = dataclasses.replace(gland, masks={})
    made = prepare([gland, healthy, bare], tmp_path / "cache")
    assert [case.known for case in made] == [("Prostate",), ("Prostate", "DIL"), ()]
    assert made[2].labels is None
    assert made[2].foreground == {}
    assert all(case.structures == ("Prostate", "DIL") and case.values == (1, 2) for case in made)


def test_a_second_call_reads_no_voxel(tmp_path, monkeypatch):
    cases = [write_case(tmp_path)]
    first = prepare(cases, tmp_path / "cache")

    def refuse(*_):
        raise AssertionError("a file was read")

    monkeypatch.setattr(file_hashes, "file_sha256", refuse)
    monkeypatch.setattr(prepared, "case_arrays", refuse)
    assert prepare(cases, tmp_path / "cache") == first


def test_what_changes_the_voxels_changes_the_entry_and_a_tile_does_not(tmp_path, monkeypatch):
    case = write_case(tmp_path)
    folder = tmp_path / "cache"
    keys = [prepare([case], folder)[0].sha256]
    keys.append(prepare([case], folder, rules=RAW)[0].sha256)
    keys.append(prepare([case], folder, structures=(PROSTATE,))[0].sha256)
    other = write_case(tmp_path, "other", scale=2.0)
    keys.append(prepare([other], folder)[0].sha256)
    monkeypatch.setattr(prepared, "__version__", "another")
    keys.append(prepare([case], folder)[0].sha256)
    assert len(set(keys)) == len(keys)
    monkeypatch.undo()
    assert prepare([case], folder, rules=dataclasses.replace(ZSCORE, tile_yx=(32, 32)))[0].sha256 == keys[0]
    copy = dataclasses.replace(case, case_id="copy", patient_id="someone")
    (same,) = prepare([copy], folder)
    assert (same.sha256, same.case_id, same.patient_id) == (keys[0], "copy", "someone")


def test_a_file_written_anew_with_size_and_time_unchanged_but_young_is_seen(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    hashes = file_hashes.FileHashes(tmp_path)
    first, stamp = hashes.of(path), path.stat().st_mtime_ns
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp, stamp))
    assert hashes.of(path) != first


def test_a_dicom_folder_has_a_hash_of_its_names_and_contents(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"a")
    hashes = file_hashes.FileHashes(tmp_path)
    first = hashes.of(series)
    (series / "1.dcm").rename(series / "2.dcm")
    renamed = hashes.of(series)
    (series / "2.dcm").write_bytes(b"b")
    assert len({first, renamed, hashes.of(series)}) == 3


@pytest.mark.parametrize("damage", ["cut image", "no description", "no labels", "foreign description", "empty"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    case = write_case(tmp_path)
    (first,) = prepare([case], tmp_path / "cache")
    expected, place = np.array(first.image), first.folder
    if damage == "cut image":
        with (place / "image.npy").open("r+b") as stream:
            stream.truncate(500)
    elif damage == "no description":
        (place / DESCRIPTION).unlink()
    elif damage == "no labels":
        (place / "labels.npy").unlink()
    elif damage == "foreign description":
        (place / DESCRIPTION).write_text("[1, 2]")
    else:
        for path in place.iterdir():
            path.unlink()
    (again,) = prepare([case], tmp_path / "cache")
    assert again == first
    np.testing.assert_array_equal(again.image, expected)
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_a_write_that_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch):
    case = write_case(tmp_path)

    def break_off(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared, "_positions", break_off)
    with pytest.raises(ProstateXferError, match="No space left on device"):
        prepare([case], tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".npy"] == []
    monkeypatch.undo()
    assert prepare([case], tmp_path / "cache")[0].image.shape[0] == 1


def _prepare_at_once(arguments):
    case, folder = arguments
    return float(prepare([case], folder)[0].image.sum())


def test_processes_may_prepare_the_same_cases_at_once(tmp_path):
    cases = [write_case(tmp_path, f"case{index}", scale=index + 1.0) for index in range(3)]
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        found = pool.map(_prepare_at_once, [(case, tmp_path / "cache") for case in cases * 4], chunksize=1)
    assert found == found[:3] * 4
    entries = [path for path in (tmp_path / "cache").glob("??/*")]
    assert len(entries) == 3
    assert not any(path.name.startswith(".") for path in entries)


def test_a_prepared_case_pickles_small_and_holds_no_file_open(tmp_path):
    (made,) = prepare([write_case(tmp_path)], tmp_path / "cache")
    open_files = Path("/proc/self/fd")  # Linux alone
    before = len(list(open_files.iterdir())) if open_files.is_dir() else 0
    _ = made.image.sum(), made.labels.sum(), made.foreground[1].sum()
    assert len(pickle.dumps(made)) < 2000
    if before:
        assert len(list(open_files.iterdir())) == before
    assert pickle.loads(pickle.dumps(made)) == made


def test_sequences_become_channels_on_the_grid_of_the_first(tmp_path):
    case = write_case(tmp_path)
    coarse = Grid((12, 12, 4), (3.0, 3.0, 5.0), (-16.0, -22.0, 2.0))
    write_image(coarse.image(voxel_centres_lps(coarse)[..., 0].astype(np.float32)), tmp_path / "adc.nii.gz")
    case = dataclasses.replace(case, images={**case.images, "ADC": tmp_path / "adc.nii.gz"})
    (made,) = prepare([case], tmp_path / "cache", rules=RAW, sequences=("T2w", "ADC"))
    left_mm = GRID.index_to_lps(np.stack([np.arange(30), np.full(30, 13), np.full(30, 3)], -1))[:, 0]
    np.testing.assert_allclose(made.image[1, 3, 13], left_mm, atol=1e-3)


def test_a_case_without_the_sequence_or_the_file_is_named(tmp_path):
    case = write_case(tmp_path)
    with pytest.raises(ProstateXferError, match="'one' has no ADC .it has T2w."):
        prepare([case], tmp_path / "cache", sequences=("T2w", "ADC"))
    lost = dataclasses.replace(case, images={"T2w": tmp_path / "gone.nii.gz"})
    with pytest.raises(ProstateXferError, match="gone.nii.gz' cannot be read"):
        prepare([lost], tmp_path / "cache")


def test_a_phantom_is_drawn_from_its_seed_with_every_structure_known(tmp_path):
    phantoms = [Case(f"phantom-{seed}", f"phantom-{seed}", {}, attributes={"phantom_seed": seed}) for seed in (3, 4)]
    rules = dataclasses.replace(ZSCORE, spacing_yx_mm=(3.0, 3.0))
    one, two = prepare(phantoms, tmp_path / "cache", rules=rules, structures=(PROSTATE, DIL, BLADDER))
    assert one.known == ("Prostate", "DIL", "Bladder")
    assert set(one.slice_voxels) == {1, 2, 5}
    assert one.sha256 != two.sha256
    assert one.slice_voxels != two.slice_voxels
    with pytest.raises(ProstateXferError, match="Phantoms have no ADC"):
        prepare(phantoms, tmp_path / "cache", sequences=("ADC",))


def test_the_training_statistics_are_those_of_the_slices_with_more_mask_than_the_limit(tmp_path):
    cases = [write_case(tmp_path, "a"), write_case(tmp_path, "b", scale=3.0)]
    made = prepare(cases, tmp_path / "cache", rules=RAW)
    chosen = [np.asarray(case.image[0][(np.asarray(case.labels) > 0).sum((1, 2)) > 100]) for case in made]
    assert 0 < len(chosen[0]) < GRID.size_xyz[2]
    pixels = np.concatenate([item.ravel() for item in chosen])
    mean, deviation = training_statistics(made, minimum_pixels=100)
    assert mean == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-9)
    assert deviation == pytest.approx(pixels.std(dtype=np.float64), rel=1e-9)
    assert training_statistics(made[::-1], minimum_pixels=100) == (mean, deviation)
    standard = prepare(
        cases,
        tmp_path / "cache",
        rules=Preprocessing(IntensityRule("standardise", mean=mean, deviation=deviation)),
    )
    assert training_statistics(standard, minimum_pixels=100) == pytest.approx((0, 1), abs=1e-5)
    with pytest.raises(ProstateXferError, match="more than 9000 pixels"):
        training_statistics(made, minimum_pixels=9000)


def test_who_cancels_keeps_what_is_prepared(tmp_path):
    cases = [write_case(tmp_path, name) for name in ("a", "b")]

    with pytest.raises(CancelledError):
        prepare(cases, tmp_path / "cache", progress=StopsAfter(1))
    assert len(list((tmp_path / "cache").glob("??/*"))) == 1


def test_a_real_case_is_prepared_as_inference_does(real_data, tmp_path):
    folder = real_data / "promise12" / "train" / "promise12_00"
    if not folder.is_dir():
        pytest.skip(f"there is no '{folder}'")
    case = Case("p", "p", {"T2w": folder / "t2w.nii.gz"}, {"Prostate": (Mask(folder / "gland.nii.gz"),)})
    rules = Preprocessing(IntensityRule("zscore"), spacing_yx_mm=(1.0, 1.0))
    (made,) = prepare([case], tmp_path / "cache", rules=rules)
    image, gland = (sitk.ReadImage(str(folder / name)) for name in ("t2w.nii.gz", "gland.nii.gz"))
    np.testing.assert_array_equal(made.image[0], prepare_slices(image, rules).slices.numpy())
    volume_cm3 = (sitk.GetArrayViewFromImage(gland) > 0).sum() * np.prod(gland.GetSpacing()) / 1000
    assert (np.asarray(made.labels) == 1).sum() * np.prod(made.spacing_zyx) / 1000 == pytest.approx(
        volume_cm3, rel=0.01
    )
