# SPDX-License-Identifier: Apache-2.0
"""Pairs for synthesis: prepared as in inference, moved together, drawn by number, encoded once."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, dgcf_preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.body import body_mask
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.io import write_image
from ProstateXferLib.images.phantom import simulate_cbct
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.cache import room
from ProstateXferLib.training.cache import slice_features as features_module
from ProstateXferLib.training.cache.pair_images import pair_images
from ProstateXferLib.training.cache.pairs import PairRules, PreparedPair, prepared_pairs
from ProstateXferLib.training.cache.slice_features import slice_features
from ProstateXferLib.training.datasets.case import Case, Mask
from ProstateXferLib.training.sampling.paired_slices import PairedSliceOptions, PairedSlices

GRID = Grid((40, 32, 3), (6.0, 6.0, 6.0))
COARSE = Grid((64, 64, 4), (5.0, 5.0, 6.0), (-157.5, -157.5, -9.0))


def ct_array(shape_zyx=GRID.shape_zyx):
    """Air around soft tissue with a bone in it."""
    array = np.full(shape_zyx, -1000, np.int16)
    array[:, 6:26, 8:34] = 40
    array[:, 12:16, 12:18] = 900
    return array


def write_case(folder, *, source=None, ct=None, body=None, grid=GRID, name="case"):
    """A case of files; images given as arrays (z, y, x)."""
    folder.mkdir(parents=True, exist_ok=True)
    images, masks = {}, {}
    for sequence, array in (("T2w", source), ("CT", ct)):
        if array is not None:
            images[sequence] = write_image(grid.image(array), folder / f"{sequence}.nii.gz")
    if body is not None:
        masks["Body"] = (Mask(write_image(grid.image(body), folder / "body.nii.gz")),)
    return Case(name, name, images, masks)


def rules_of(sequence, size_yx=(32, 48), **more):
    return PairRules(sequence, dgcf_preprocessing(sequence, resize_yx=size_yx), HU_RANGE, **more)


def prepare(cases, rules, folder):
    return prepared_pairs(cases, rules, folder=folder, progress=SilentProgress())


@pytest.fixture
def mr_pair(tmp_path):
    """A case whose MR is a linear map of its CT, and the pair made of it in its own size."""
    rng = np.random.default_rng(0)
    ct = rng.integers(-1500, 2500, GRID.shape_zyx).astype(np.int16)
    case = write_case(tmp_path / "case", source=ct.astype(np.float32) * 2 + 7, ct=ct, body=(ct > 0).astype(np.uint8))
    (pair,) = prepare([case], rules_of("T2w", (32, 40)), tmp_path / "cache")
    return case, ct, pair


def test_a_pair_is_the_image_as_in_inference_and_the_ct_in_its_hu_range(mr_pair):
    case, ct, pair = mr_pair
    seen = prepare_slices(sitk.ReadImage(str(case.images["T2w"])), dgcf_preprocessing("T2w", resize_yx=(32, 40)))
    assert np.array_equal(pair.source, seen.slices.numpy())
    assert (pair.target + 1) / 2 * 3024 - 1024 == pytest.approx(np.clip(ct, *HU_RANGE), abs=0.01)
    assert np.array_equal(pair.body, ct > 0)
    assert pair.source.dtype == pair.target.dtype == np.float32


def test_a_pair_has_the_networks_size_and_its_body_whatever_is_left_of_a_pixel(tmp_path):
    body = np.zeros(GRID.shape_zyx, np.uint8)
    body[:, 10:20, 10:30] = 1
    case = write_case(tmp_path / "case", source=ct_array().astype(np.float32), ct=ct_array(), body=body)
    (pair,) = prepare([case], rules_of("T2w", (48, 64)), tmp_path / "cache")
    assert pair.source.shape == pair.target.shape == pair.body.shape == pair.shape_zyx == (3, 48, 64)
    resized = torch.nn.functional.interpolate(torch.tensor(body)[:, None].float(), size=(48, 64), mode="bilinear")
    assert np.array_equal(pair.body, resized[:, 0].numpy() > 0)
    assert pair.body[0].sum() > body[0].sum() * 48 * 64 / (32 * 40)  # a little wider, as the reference's


def test_without_a_drawn_body_it_is_found_in_the_ct(tmp_path):
    case = write_case(tmp_path / "case", source=ct_array().astype(np.float32), ct=ct_array())
    (pair,) = prepare([case], rules_of("T2w", (32, 40)), tmp_path / "cache")
    assert np.array_equal(pair.body, sitk.GetArrayFromImage(body_mask(GRID.image(ct_array()))) > 0)


@pytest.mark.parametrize("sequence", ["T2w", "CBCT"])
def test_phantoms_give_one_source_and_one_target_slice_each_and_every_second_is_kept(sequence, tmp_path, monkeypatch):
    monkeypatch.setattr("ProstateXferLib.training.cache.pair_images.default_ct_grid", lambda: COARSE)
    cases = [Case(f"phantom-{seed}", f"phantom-{seed}", {}, attributes={"phantom_seed": seed}) for seed in (3, 4)]
    first, second = prepare(cases, rules_of(sequence, (32, 32)), tmp_path)
    for case, pair in zip(cases, (first, second), strict=True):
        assert pair.case_id == case.case_id
        assert pair.shape_zyx == (2, 32, 32)
        assert pair.target[:, 16, 16].min() > -0.5  # the pelvis is in the middle
        assert pair.target.min() < -0.9  # with air around it
        assert pair.body[:, 16, 16].all() and not pair.body[:, 0, 0].any()
    assert not np.array_equal(first.target, second.target)


def test_cbct_is_simulated_from_a_ct_with_other_noise_in_every_draw(tmp_path):
    case = write_case(tmp_path / "case", ct=ct_array())
    pairs = prepare([case], rules_of("CBCT", (32, 40), simulated_cbct=2), tmp_path / "cache")
    for noise_seed, pair in enumerate(pairs):
        cbct = simulate_cbct(GRID.image(ct_array()), seed=noise_seed)
        expected = prepare_slices(cbct, dgcf_preprocessing("CBCT", resize_yx=(32, 40))).slices.numpy()
        assert np.array_equal(pair.source, expected)
    assert np.array_equal(pairs[0].target, pairs[1].target)
    assert not np.array_equal(pairs[0].source, pairs[1].source)


def test_a_case_that_has_a_cbct_is_taken_as_it_is(tmp_path):
    case = write_case(tmp_path / "case", source=ct_array() + 25, ct=ct_array())
    case = Case("c", "c", {"CBCT": case.images["T2w"], "CT": case.images["CT"]})
    (pair,) = prepare([case], rules_of("CBCT", (32, 40), simulated_cbct=2), tmp_path / "cache")
    assert (pair.source + 1) * 1512 - 1024 == pytest.approx(ct_array() + 25.0, abs=0.01)


def test_a_second_preparation_reads_no_image_and_a_changed_file_is_prepared_anew(tmp_path, monkeypatch):
    case = write_case(tmp_path / "case", source=ct_array().astype(np.float32), ct=ct_array())
    (first,) = prepare([case], rules_of("T2w"), tmp_path / "cache")
    calls = []
    monkeypatch.setattr(
        "ProstateXferLib.training.cache.pairs.pair_images", lambda *a, **k: calls.append(a) or pair_images(*a, **k)
    )
    assert prepare([case], rules_of("T2w"), tmp_path / "cache") == [first]
    assert not calls
    write_case(tmp_path / "case", ct=ct_array() + 100)
    (changed,) = prepare([case], rules_of("T2w"), tmp_path / "cache")
    assert len(calls) == 1
    assert changed.sha256 != first.sha256
    assert not np.array_equal(changed.target, first.target)
    assert prepare([case], rules_of("T2w", (48, 48)), tmp_path / "cache")[0].shape_zyx == (3, 48, 48)


@pytest.mark.parametrize(
    ("files", "sequence", "sentence"),
    [
        ({"ct": ct_array()}, "T2w", r"Case 'case' has no T2w \(it has CT\)"),
        ({"ct": ct_array()}, "CBCT", "set simulated_cbct where CBCT is to be made from CT"),
        ({"source": ct_array() * 1.0}, "T2w", "'case' has no CT"),
        ({"source": ct_array() * 0.0 + 3, "ct": ct_array()}, "T2w", "T2w of case 'case'"),
    ],
)
def test_what_is_no_pair_is_told_by_the_cases_name(tmp_path, files, sequence, sentence):
    case = write_case(tmp_path / "case", **files)
    with pytest.raises(ProstateXferError, match=sentence):
        prepare([case], rules_of(sequence), tmp_path / "cache")


def test_images_on_two_grids_are_refused(tmp_path):
    case = write_case(tmp_path / "case", source=ct_array().astype(np.float32), ct=ct_array())
    moved = Grid(GRID.size_xyz, GRID.spacing_xyz, (1.0, 0.0, 0.0))
    write_image(moved.image(ct_array()), case.images["CT"])
    with pytest.raises(ProstateXferError, match="T2w and the CT of case 'case' lie on different grids"):
        prepare([case], rules_of("T2w"), tmp_path / "cache")


def test_the_body_lies_on_a_real_ct_and_on_the_cbct_made_of_it(real_data, tmp_path):
    case = Case("real", "real", {"CT": real_data / "real" / "ct_mr" / "ts_ct_abdomen_small" / "ct.nii.gz"})
    (pair,) = prepare([case], rules_of("CBCT", (96, 96), simulated_cbct=1), tmp_path)
    for slices in (pair.source, pair.target):
        hu = (slices + 1) * 1512 - 1024
        assert np.median(hu[pair.body]) > -150  # fat at least
        assert np.median(hu[~pair.body]) < -800  # air


def stored_pair(folder, source, target=None):
    """A prepared pair of given slices."""
    folder.mkdir(parents=True)
    np.save(folder / "source.npy", source.astype(np.float32))
    np.save(folder / "target.npy", (-source if target is None else target).astype(np.float32))
    np.save(folder / "body.npy", np.ones(source.shape, bool))
    return PreparedPair(folder.name, folder, source.shape, folder.name)


@pytest.fixture
def pattern(tmp_path):
    return stored_pair(tmp_path / "pattern", np.random.default_rng(0).normal(size=(5, 64, 64)))


def test_source_and_target_move_together_and_only_as_far_as_asked(pattern):
    samples = PairedSlices([(1.0, [pattern])], PairedSliceOptions(flip=True, shift_px=6), seed=1)
    found = set()
    for index in range(60):
        sample = samples[index]
        assert sample["image"].shape == (1, 64, 64)
        assert torch.equal(sample["image"], -sample["target"])
        matches = [
            (z, flipped, dy, dx)
            for z in range(5)
            for flipped in (False, True)
            for dy, dx in [_shift_of(sample["image"][0].numpy(), pattern.source[z], flipped)]
            if dy is not None
        ]
        ((_, flipped, dy, dx),) = matches
        assert max(abs(dy), abs(dx)) <= 6
        found.add((flipped, dy, dx))
    assert {flipped for flipped, _, _ in found} == {False, True}
    assert len(found) > 40


def _shift_of(moved, plain, flipped):
    """The roll (dy, dx) that turns a slice into the moved one, by where its largest value went; None if none does."""
    plain = plain[:, ::-1] if flipped else plain
    at = [np.unravel_index(np.argmax(item), item.shape) for item in (moved, plain)]
    shift = [(int(a - b) + 32) % 64 - 32 for a, b in zip(*at, strict=True)]
    return shift if np.array_equal(np.roll(plain, shift, (0, 1)), moved) else (None, None)


def test_without_augmentation_every_slice_comes_unchanged_once_an_epoch_in_an_order_of_its_own(tmp_path):
    pairs = [stored_pair(tmp_path / str(n), np.full((3, 4, 4), 10 * n) + np.arange(3)[:, None, None]) for n in range(3)]
    samples = PairedSlices([(1.0, pairs)], PairedSliceOptions(), seed=0)
    assert len(samples) == 9
    epochs = [[float(samples[index]["image"][0, 0, 0]) for index in range(9 * e, 9 * e + 9)] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_sample_is_a_function_of_its_number_in_any_process(pattern):
    samples = PairedSlices([(1.0, [pattern]), (2.0, [pattern])], PairedSliceOptions(flip=True, shift_px=9), seed=4)
    elsewhere = pickle.loads(pickle.dumps(samples))
    assert len(pickle.dumps(samples)) < 5000
    for index in (7, 0, 123456):
        one, two = samples[index], elsewhere[index]
        assert all(torch.equal(one[key], two[key]) for key in one)
    other = PairedSlices([(1.0, [pattern]), (2.0, [pattern])], PairedSliceOptions(flip=True, shift_px=9), seed=5)
    assert any(not torch.equal(samples[i]["image"], other[i]["image"]) for i in range(5))


def test_sources_are_drawn_by_their_weight_whatever_their_size(tmp_path):
    big = [stored_pair(tmp_path / f"big{n}", np.full((20, 4, 4), 1.0)) for n in range(3)]
    small = [stored_pair(tmp_path / "small", np.full((1, 4, 4), 2.0))]
    samples = PairedSlices([(1.0, big), (3.0, small)], PairedSliceOptions(), seed=0)
    share = np.mean([float(samples[index]["image"][0, 0, 0]) == 2 for index in range(400)])
    assert share == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 400) ** 0.5)


def test_a_source_without_pairs_is_refused(pattern):
    with pytest.raises(ProstateXferError, match="no pair to train on"):
        PairedSlices([(1.0, [pattern]), (1.0, [])], PairedSliceOptions(), seed=0)


@pytest.fixture
def guided(random_network):
    encoder = random_network("dinov3", width=32, heads=2)
    return GuidedDGCF(DGCF(4, 32), encoder, encoder_range=(0.0, 2.0)).eval()


def store(network, pairs, folder, dtype="fp32"):
    device = torch.device("cpu")
    return slice_features(network, pairs, folder=folder, dtype=dtype, device=device, progress=SilentProgress())


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-3)])
def test_stored_features_are_those_that_the_network_would_compute(pattern, guided, tmp_path, dtype, tolerance):
    stored = store(guided, [pattern], tmp_path / "features", dtype)
    for z in (0, 4):
        image = torch.tensor(pattern.source[z])[None, None]
        with torch.no_grad():
            expected = guided.features(image)[0]
        torch.testing.assert_close(stored.of(pattern, z), expected, rtol=0, atol=tolerance)


def test_features_are_encoded_once_for_an_encoder_and_anew_for_another(pattern, guided, tmp_path, monkeypatch):
    first = store(guided, [pattern], tmp_path / "features")
    calls = []
    monkeypatch.setattr(features_module, "_write", lambda *a: calls.append(a))
    assert store(guided, [pattern], tmp_path / "features") == first
    assert not calls
    monkeypatch.undo()
    with torch.no_grad():
        guided.dino_encoder.norm.bias.add_(1)
    other = store(guided, [pattern], tmp_path / "features")
    assert not torch.equal(other.of(pattern, 0), first.of(pattern, 0))


def test_features_that_do_not_fit_the_disk_are_refused_before_anything_is_encoded(
    pattern, guided, tmp_path, monkeypatch
):
    needed = 5 * 16 * 4 * 32 * 4  # slices, tokens, levels, channels, bytes
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))  # a file system needs more
    with pytest.raises(ProstateXferError, match="stored features need .* GB"):
        store(guided, [pattern], tmp_path / "features")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=1.03 * needed))
    store(guided, [pattern], tmp_path / "features")


def test_samples_bring_stored_features_and_refuse_them_for_slices_that_are_changed(pattern, guided, tmp_path):
    stored = store(guided, [pattern], tmp_path / "features")
    samples = PairedSlices([(1.0, [pattern])], PairedSliceOptions(), seed=0, features=stored)
    sample = samples[3]
    with torch.no_grad():
        expected = guided.features(sample["image"][None])[0]
    torch.testing.assert_close(sample["features"], expected, rtol=0, atol=1e-6)
    with pytest.raises(ProstateXferError, match="Stored features belong to unchanged slices"):
        PairedSlices([(1.0, [pattern])], PairedSliceOptions(flip=True), seed=0, features=stored)
