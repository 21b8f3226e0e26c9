# SPDX-License-Identifier: Apache-2.0
"""Training crops: repeatable, labels that follow the image, lesions painted where lesions lie, losses as defined."""

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, dgcf_preprocessing
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.io import write_image
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.preparation import prepare_slices
from ProstateXferLib.training import segmentation_data
from ProstateXferLib.training.augmentation.slice_crops import (
    CropOptions,
    blur,
    random_crop_grid,
    random_intensity,
    sample,
)
from ProstateXferLib.training.cases import data_root, labelled_cases
from ProstateXferLib.training.losses import patch_losses as losses
from ProstateXferLib.training.painted_lesions import paint_lesion
from ProstateXferLib.training.segmentation_data import LabelledStudy, prepare_study, segmentation_batches
from ProstateXferLib.training.synthesis_data import (
    PairedStudy,
    phantom_pairs,
    prepare_pair,
    simulated_cbct_pairs,
    synthesis_batches,
)

GRID = Grid((40, 36, 5), (1.0, 1.5, 3.0), (-20.0, -30.0, 5.0))
RAW = Preprocessing(IntensityRule("window", -1.0, 1.0))
CROPS = CropOptions(size=48)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def take(batches, count):
    return list(itertools.islice(batches, count))


def patterned_study(*, paint=False):
    """Slices whose grey value is their label: gland 1 with a lesion 2 in it, background 0."""
    labels = torch.zeros(4, 90, 80, dtype=torch.uint8)
    labels[1:3, 25:65, 20:58] = 1
    labels[1:3, 30:44, 25:37] = 2
    return LabelledStudy("pattern", labels.float(), labels, 1.0, paint)


def crops_of(study, count=40, *, seed=0, paint_share=0.0, options=CROPS):
    return take(
        segmentation_batches([(1.0, [study])], batch_size=4, options=options, paint_share=paint_share, seed=seed),
        count // 4,
    )


@pytest.fixture
def plain_intensity(monkeypatch):
    """Crops with their warp, but without changes of intensity."""
    monkeypatch.setattr(segmentation_data, "random_intensity", lambda image, generator: image)


def test_the_same_seed_gives_the_same_crops_and_another_one_does_not():
    study = patterned_study(paint=True)
    first, again, other = (crops_of(study, 12, seed=seed, paint_share=0.5) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one["image"], two["image"]) for one, two in zip(first, other, strict=True))


def test_a_batch_has_the_shapes_and_types_the_loss_expects():
    (batch,) = crops_of(patterned_study(), 4)
    assert batch["image"].shape == (4, 1, 48, 48)
    assert batch["image"].dtype == torch.float32
    for head in ("gland", "dil"):
        assert batch[head].shape == (4, 48, 48)
        assert batch[head].dtype == torch.int64
        assert set(batch[head].unique().tolist()) <= {0, 1}
    assert bool((batch["gland"] >= batch["dil"]).all())  # a lesion belongs to the gland, too


def test_labels_follow_the_image_through_every_warp(plain_intensity):
    """Where the interpolated pattern is flat, its grey value is the label; between, the label is one of the two."""
    lesion = 0
    for batch in crops_of(patterned_study(), 60):
        image, label = batch["image"][:, 0], batch["gland"] + batch["dil"]
        flat = (image - image.round()).abs() < 1e-4
        inner = flat & (image.round() != 1)  # 1 may also be half-way between 0 and 2
        assert torch.equal(image.round().long()[inner], label[inner])
        assert float((image - label).abs().max()) <= 2
        assert float((image - label).abs().mean()) < 0.05
        lesion += int((label == 2).sum())
    assert lesion > 1000


def test_most_crops_show_the_gland_and_some_do_not(plain_intensity):
    shown = torch.cat([batch["gland"].flatten(1).any(1) for batch in crops_of(patterned_study(), 200)])
    assert 0.4 < shown.float().mean() < 0.97


def test_what_lies_outside_the_image_is_zero_and_background(plain_intensity):
    ones = LabelledStudy("ones", torch.ones(2, 20, 20), torch.ones(2, 20, 20, dtype=torch.uint8), 1.0, False)
    for batch in crops_of(ones, 20):
        outside = batch["image"][:, 0] == 0
        assert outside.any()
        assert not batch["gland"][outside].any()


def test_without_randomness_a_crop_is_the_image_around_its_centre():
    options = CropOptions(size=16, rotation_deg=0, scale=(1.0, 1.0), shift=0, elastic_px=0, flip=False)
    image = torch.randn(1, 40, 50, generator=seeded())
    grid = random_crop_grid((40, 50), (19.5, 29.5), options, seeded())
    assert torch.allclose(sample(image, grid), image[:, 12:28, 22:38], atol=1e-4)


@pytest.mark.parametrize("angle_deg", [15.0, 40.0])
def test_rotation_and_scaling_stay_within_their_limits(angle_deg):
    options = CropOptions(size=16, rotation_deg=angle_deg, scale=(0.5, 2.0), shift=3, elastic_px=0, flip=False)
    angles, zooms, shifts = [], [], []
    for seed in range(200):
        grid = random_crop_grid((100, 100), (50, 50), options, seeded(seed))
        pixels = ((grid + 1) * 100 - 1) / 2  # x, y
        step = pixels[0, 1] - pixels[0, 0]
        angles.append(math.degrees(math.atan2(step[1], step[0])))
        zooms.append(1 / float(step.norm()))
        shifts.append((pixels.mean((0, 1)) - 50).abs().max().item())
    assert angle_deg * 0.9 < max(map(abs, angles)) <= angle_deg + 1e-3
    assert 0.5 - 1e-4 <= min(zooms) < 0.6 < 1.7 < max(zooms) <= 2.0 + 1e-4
    assert max(shifts) <= 3 + 1e-3


def test_intensity_changes_leave_the_crop_finite_and_in_its_shape():
    for seed in range(60):
        image = torch.randn(1, 48, 48, generator=seeded(seed))
        changed = random_intensity(image, seeded(seed))
        assert changed.shape == image.shape
        assert torch.isfinite(changed).all()
    constant = torch.zeros(1, 32, 32)
    assert all(torch.isfinite(random_intensity(constant, seeded(seed))).all() for seed in range(40))


def test_blurring_keeps_the_mean_of_a_plane_and_has_the_width_asked_for():
    assert torch.allclose(blur(torch.full((1, 20, 20), 3.0), 1.2), torch.full((1, 20, 20), 3.0), atol=1e-5)
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    spread = blur(point, 2.0)[0].sum(0)
    variance = (spread * (torch.arange(41) - 20.0) ** 2).sum() / spread.sum()
    assert float(variance) == pytest.approx(4.0, rel=0.1)  # cut at three sigma


def gland_disc(radius, size=96):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (y - 50) ** 2 + (x - 44) ** 2 < radius**2


def test_painted_lesions_lie_in_the_gland_and_are_darker_than_it():
    gland = gland_disc(25)
    image = torch.randn(1, 96, 96, generator=seeded(1)) * 0.3
    image[0][gland] += 1.0
    darker = []
    for seed in range(60):
        changed, lesion = paint_lesion(image, gland, 1.0, seeded(seed))
        if not lesion.any():
            assert torch.equal(changed, image)
            continue
        assert not (lesion & ~gland).any()
        assert lesion.sum() >= 20
        darker.append(float((image - changed)[0][lesion].mean()))
        assert changed[0][lesion].mean() < changed[0][gland & ~lesion].mean()
        change = (changed - image)[0].abs()
        assert not change[blur(gland[None].float(), 1.0)[0] == 0].any()  # outside the gland, but for its soft rim
        far = blur(lesion[None].float(), 4.0)[0] == 0
        assert change[far & gland].sum() < 0.02 * change[lesion].sum()
    assert len(darker) > 50
    assert min(darker) > 0  # by how much is drawn: 0.6 to 1 of the way to the gland's darkest tenth or below
    assert np.mean(darker) > 0.3


def test_a_gland_that_the_slice_only_grazes_gets_no_lesion():
    gland, image = gland_disc(7), torch.randn(1, 96, 96, generator=seeded())
    for seed in range(20):
        changed, lesion = paint_lesion(image, gland, 1.0, seeded(seed))
        assert torch.equal(changed, image)
        assert not lesion.any()


def test_a_lesion_has_the_size_in_millimetres_whatever_the_pixels():
    areas = {}
    for spacing, radius, size in ((1.0, 25, 96), (0.5, 50, 192)):
        gland = gland_disc(radius, size)
        image = torch.randn(1, size, size, generator=seeded(1))
        found = [paint_lesion(image, gland, spacing, seeded(seed))[1].sum() * spacing**2 for seed in range(80)]
        areas[spacing] = float(torch.stack(found).float().mean())
    assert areas[0.5] == pytest.approx(areas[1.0], rel=0.25)


def test_only_studies_without_lesion_labels_are_painted_in(plain_intensity):
    own = patterned_study(paint=False)
    bare = LabelledStudy("bare", own.slices.clamp(max=1), own.labels.clamp(max=1), 1.0, False)
    assert not any(batch["dil"].any() for batch in crops_of(bare, 40, paint_share=1.0))
    painted = LabelledStudy("bare", bare.slices, bare.labels, 1.0, True)
    assert any(batch["dil"].any() for batch in crops_of(painted, 40, paint_share=1.0))
    assert not any(batch["dil"].any() for batch in crops_of(painted, 40, paint_share=0.0))


def test_sources_are_drawn_by_their_weight(plain_intensity):
    first, second = (
        LabelledStudy(str(value), torch.full((2, 64, 64), value), torch.zeros(2, 64, 64, dtype=torch.uint8), 1.0, False)
        for value in (5.0, -5.0)
    )
    batches = segmentation_batches(
        [(3.0, [first]), (1.0, [second])], batch_size=200, options=CropOptions(size=16), paint_share=0, seed=0
    )
    share = (next(batches)["image"].flatten(1).sum(1) > 0).float().mean()
    assert 0.65 < share < 0.85


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, 1, -1, 0, 0, 0, 1, 0)])
def test_a_study_is_prepared_as_in_inference_and_its_labels_with_it(direction):
    """The image is its own label map: after any reordering and resampling they must still be the same."""
    grid = Grid((40, 36, 30), (1.0, 1.5, 2.0), (1.0, 2.0, 3.0), direction)
    array = np.zeros(grid.shape_zyx, np.uint8)
    array[8:20, 9:27, 11:29] = 1
    preprocessing = Preprocessing(IntensityRule("window", -1.0, 1.0), spacing_yx_mm=(1.0, 1.0))
    study = prepare_study("s", grid.image(array), grid.image(array), preprocessing=preprocessing, paint=True)
    prepared = prepare_slices(grid.image(array), preprocessing)
    assert torch.equal(study.slices, prepared.slices)
    assert study.spacing_mm == pytest.approx(prepared.spacing_zyx[1])
    assert study.labels.shape == study.slices.shape
    tie = (study.slices - 0.5).abs() < 1e-3  # half-way between a voxel of each kind
    assert torch.equal((study.slices > 0.5)[~tie], study.labels[~tie] == 1)
    assert tie.float().mean() < 0.02
    assert study.gland_slices.tolist() == study.labels.flatten(1).any(1).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    "other",
    [
        Grid((40, 36, 5), (1.0, 1.5, 3.0), (-20.0, -30.0, 8.0)),
        Grid((40, 36, 5), (1.0, 1.6, 3.0), (-20.0, -30.0, 5.0)),
        Grid((40, 36, 4), (1.0, 1.5, 3.0), (-20.0, -30.0, 5.0)),
    ],
    ids=["moved", "other spacing", "one slice less"],
)
def test_labels_on_another_grid_than_the_image_are_refused_by_the_cases_name(other):
    image = GRID.image(np.random.default_rng(0).normal(size=GRID.shape_zyx).astype(np.float32))
    labels = other.image(np.ones(other.shape_zyx, np.uint8))
    with pytest.raises(ProstateXferError, match="labels of 'case 7' lie on another grid"):
        prepare_study("case 7", image, labels, preprocessing=RAW, paint=False)


@pytest.fixture(scope="module")
def network(random_state):
    return MRDINOv3.from_state_dict(random_state(3, gland=2, dil=2), eps=1e-5, rope_dtype="fp32")


def dice_ce(logits, labels):
    """1 - Dice of the foreground over the whole batch + mean cross-entropy, written out."""
    probability = torch.softmax(logits, dim=1)[:, 1]
    target = labels.float()
    overlap = (2 * (probability * target).sum() + 1e-5) / (probability.sum() + target.sum() + 1e-5)
    return 1 - overlap + torch.nn.functional.cross_entropy(logits, labels)


def test_the_segmentation_loss_is_dice_and_cross_entropy_when_every_token_is_decoded(network):
    pytest.importorskip("monai")
    generator = seeded(2)
    image = torch.randn(3, 1, 64, 48, generator=generator)
    dil = (torch.rand(3, 64, 48, generator=generator) < 0.3).long()
    gland = torch.ones(3, 64, 48, dtype=torch.int64)
    gland[:, 0, 0] = 0
    with torch.no_grad():
        full = network(image)
        expected = dice_ce(full["gland"], gland) + dice_ce(full["dil"], dil)
        found = losses.segmentation_loss(0)(network, {"image": image, "gland": gland, "dil": dil})
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_away_from_the_gland_only_a_share_of_the_tokens_teaches_the_gland_head(network, monkeypatch):
    pytest.importorskip("monai")
    counts = {"gland": 0, "dil": 0}
    for name, head in network.heads.items():
        monkeypatch.setattr(
            head,
            "decode_tokens",
            lambda tokens, n=name, h=head: counts.update({n: len(tokens)}) or type(h).decode_tokens(h, tokens),
        )
    gland = torch.zeros(2, 160, 160, dtype=torch.int64)
    gland[0, 70:74, 70:74] = 1  # in token (4, 4); 16 pixels around it reach the 8 neighbours
    batch = {"image": torch.randn(2, 1, 160, 160, generator=seeded()), "gland": gland, "dil": 0 * gland}
    with torch.no_grad():
        losses.segmentation_loss(0)(network, batch)
    assert counts["dil"] == 9
    expected = 9 + losses.FAR_TOKENS * 91 + losses.EMPTY_TOKENS * 100
    assert counts["gland"] == pytest.approx(expected, abs=4 * 7)  # 7: the standard deviation of such a count
    assert counts["gland"] < 200


def test_the_loss_has_a_gradient_for_encoder_and_heads_and_none_is_needed_without_a_gland(random_state):
    pytest.importorskip("monai")
    network = MRDINOv3.from_state_dict(random_state(3, gland=2, dil=2), eps=1e-5, rope_dtype="fp32").train()
    empty = torch.zeros(2, 64, 64, dtype=torch.int64)
    batch = {"image": torch.randn(2, 1, 64, 64, generator=seeded()), "gland": empty, "dil": empty}
    losses.segmentation_loss(0)(network, batch).backward()
    assert network.dino_encoder.patch_embed.proj.weight.grad.abs().sum() > 0
    assert network.heads["gland"].decode[4].weight.grad.abs().sum() > 0
    assert network.heads["dil"].decode[4].weight.grad is None


def test_the_synthesis_loss_is_the_mean_absolute_error_of_all_pixels():
    batch = {"image": torch.tensor([[1.0, -0.5]]), "target": torch.tensor([[0.5, 0.5]])}
    assert float(losses.l1_loss(lambda image: image, batch)) == pytest.approx(0.75)


def test_source_and_target_of_a_pair_move_together():
    pattern = torch.randn(5, 64, 64, generator=seeded())
    pairs = PairedStudy("p", pattern, -pattern)
    batches = synthesis_batches([(1.0, [pairs])], batch_size=3, seed=1)
    first = take(batches, 6)
    for batch in first:
        assert batch["image"].shape == (3, 1, 64, 64)
        assert torch.equal(batch["image"], -batch["target"])
    assert len({float(image[0, 0, 0]) for batch in first for image in batch["image"]}) > 12
    again = take(synthesis_batches([(1.0, [pairs])], batch_size=3, seed=1), 6)
    assert all(torch.equal(one["image"], two["image"]) for one, two in zip(first, again, strict=True))


def test_a_pair_is_the_image_as_in_inference_and_the_ct_in_its_hu_range():
    grid = Grid((40, 30, 3), (1.0, 1.0, 3.0))
    ct = grid.image(np.random.default_rng(0).integers(-1500, 2500, grid.shape_zyx).astype(np.int16))
    rule = dgcf_preprocessing("T2w", resize_yx=(32, 48))
    mr = sitk.Cast(ct, sitk.sitkFloat32) * 2 + 7
    pair = prepare_pair("p", mr, ct, preprocessing=rule, hu_range=HU_RANGE)
    assert pair.source.shape == pair.target.shape == (3, 32, 48)
    assert torch.equal(pair.source, prepare_slices(mr, rule).slices)
    same_size = prepare_pair(
        "p", mr, ct, preprocessing=dgcf_preprocessing("T2w", resize_yx=(30, 40)), hu_range=HU_RANGE
    )
    hu = np.clip(sitk.GetArrayFromImage(ct), *HU_RANGE)
    assert (same_size.target.numpy() + 1) / 2 * 3024 - 1024 == pytest.approx(hu, abs=0.01)


@pytest.mark.parametrize("sequence", ["T2w", "CBCT"])
def test_phantom_pairs_have_one_source_and_one_target_slice_each(sequence, monkeypatch):
    small = Grid((64, 64, 4), (5.0, 5.0, 6.0), (-157.5, -157.5, -9.0))
    monkeypatch.setattr("ProstateXferLib.training.synthesis_data.default_ct_grid", lambda: small)
    options = {"preprocessing": dgcf_preprocessing(sequence, resize_yx=(32, 32)), "hu_range": HU_RANGE}
    pairs = list(phantom_pairs([3, 4], sequence, **options))
    assert [pair.name for pair in pairs] == ["phantom 3", "phantom 4"]
    for pair in pairs:
        assert pair.source.shape == pair.target.shape == (2, 32, 32)
        assert pair.target[:, 16, 16].min() > -0.5  # the pelvis is in the middle
        assert pair.target.min() < -0.9  # with air around it


def test_cbct_is_simulated_from_every_ct_with_other_noise_each_time(tmp_path):
    grid = Grid((48, 48, 2), (6.0, 6.0, 6.0))
    array = np.full(grid.shape_zyx, -1000, np.int16)
    array[:, 10:38, 8:40] = 40
    (tmp_path / "case").mkdir()
    write_image(grid.image(array), tmp_path / "case" / "ct.nii.gz")
    options = {"preprocessing": dgcf_preprocessing("CBCT", resize_yx=(48, 48)), "hu_range": HU_RANGE}
    first, second = simulated_cbct_pairs([tmp_path / "case"], **options)
    assert torch.equal(first.target, second.target)
    assert not torch.equal(first.source, second.source)
    with pytest.raises(ProstateXferError, match=r"no CT '.*absent.ct\.nii\.gz': correct ct_folders"):
        list(simulated_cbct_pairs([tmp_path / "absent"], **options))


def test_cases_are_the_folders_with_image_and_gland_sorted_by_name(tmp_path):
    for name, files in {"b": ("t2w", "gland"), "a": ("t2w", "gland", "lesion"), "c": ("t2w",)}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / f"{file}.nii.gz").touch()
    first, second = labelled_cases(tmp_path)
    assert (first.name, second.name) == ("a", "b")
    assert first.lesion == tmp_path / "a" / "lesion.nii.gz"
    assert second.lesion is None


def test_a_folder_that_is_missing_or_empty_is_told(tmp_path):
    with pytest.raises(ProstateXferError, match=r"no data folder '.*nowhere': give the right one with --data"):
        labelled_cases(tmp_path / "nowhere")
    with pytest.raises(ProstateXferError, match="holds no case"):
        labelled_cases(tmp_path)


def test_the_data_folder_is_the_one_given_or_that_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PROSTATEXFER_DATA", str(tmp_path / "environment"))
    assert data_root(None) == tmp_path / "environment"
    assert data_root(tmp_path) == tmp_path
    monkeypatch.delenv("PROSTATEXFER_DATA")
    assert str(data_root(None)) == "."
