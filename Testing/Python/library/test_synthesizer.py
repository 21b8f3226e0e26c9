# SPDX-License-Identifier: Apache-2.0
"""Synthesizer: HU on the image's own grid, from a network whose output is tanh of its input, pixel by pixel."""

import dataclasses
import hashlib
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from made_images.grids import ALONG_AXES
from made_images.storage_order import reordered, stored_otherwise
from made_images.voxels import array_of
from watchers.watcher import Watcher

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.provenance import image_sha256
from ProstateXferLib.pipelines.synthesizer import Synthesizer

LOW, HIGH = HU_RANGE


@pytest.fixture(scope="module")
def make_synthesizer(tmp_path_factory, pointwise_state, synthesis_card):
    def make(sequence="CBCT", *, precision="auto", **card):
        path = tmp_path_factory.mktemp("model") / "pointwise.safetensors"
        write_checkpoint(path, synthesis_card(sequence, **card), pointwise_state())
        return Synthesizer(path, device="cpu", precision=precision)

    return make


@pytest.fixture(scope="module")
def synthesizer(make_synthesizer):
    return make_synthesizer()


def noise(grid, *, low=-1400, high=2600, seed=0):
    return np.random.default_rng(seed).integers(low, high, grid.shape_zyx).astype(np.int16)


def scaled(array, low, high):
    """What the network sees: low..high as -1..1, clipped."""
    return 2 * (np.clip(array.astype(np.float64), low, high) - low) / (high - low) - 1


def hounsfield(seen):
    """What comes out of it: tanh of what it sees as HU."""
    return np.rint((np.tanh(seen) + 1) / 2 * (HIGH - LOW) + LOW)


@pytest.mark.parametrize("direction", [*ALONG_AXES.values(), "oblique"], ids=[*ALONG_AXES, "oblique"])
def test_every_voxel_becomes_its_hu_on_the_images_own_grid(synthesizer, oblique_direction, direction):
    direction = oblique_direction if direction == "oblique" else direction
    grid = Grid((37, 26, 21), (0.7, 0.9, 3.0), (-40.5, 12.0, 7.25), direction)
    synthetic = synthesizer.predict(grid.image(noise(grid)))
    assert Grid.of(synthetic) == grid
    assert synthetic.GetPixelID() == sitk.sitkInt16
    assert np.abs(array_of(synthetic) - hounsfield(scaled(noise(grid), LOW, HIGH))).max() <= 1


@pytest.mark.parametrize("size", [(48, 32, 1), (33, 47, 5), (16, 16, 2), (9, 8, 3), (1, 40, 24)])
def test_slices_of_any_size_keep_their_shape_and_place(synthesizer, size):
    grid = Grid(size, (1.0, 1.0, 3.0))
    synthetic = array_of(synthesizer.predict(grid.image(noise(grid))))
    assert np.abs(synthetic - hounsfield(scaled(noise(grid), LOW, HIGH))).max() <= 1


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_every_pixel_type_gives_the_same_hu(synthesizer, dtype):
    grid = Grid((20, 24, 3), (1.0, 1.0, 3.0))
    expected = array_of(synthesizer.predict(grid.image(noise(grid))))
    assert np.array_equal(array_of(synthesizer.predict(grid.image(noise(grid).astype(dtype)))), expected)


def test_a_cbct_is_clipped_to_the_window_before_the_network(synthesizer):
    grid = Grid((16, 16, 1), (1.0, 1.0, 3.0))
    array = np.zeros(grid.shape_zyx, np.int16)
    array[0, 0, :4] = (-3000, -1024, 2000, 3000)
    synthetic = array_of(synthesizer.predict(grid.image(array)))
    assert synthetic[0, 0, 0] == synthetic[0, 0, 1] == hounsfield(-1.0)
    assert synthetic[0, 0, 2] == synthetic[0, 0, 3] == hounsfield(1.0)
    assert synthetic[0, 5, 5] == pytest.approx(hounsfield(scaled(np.zeros(1), LOW, HIGH))[0], abs=1)


def test_an_mr_is_scaled_between_the_1st_and_99th_percentile_of_the_whole_volume(make_synthesizer):
    grid = Grid((30, 21, 4), (1.0, 1.0, 3.0))
    array = np.random.default_rng(1).gamma(2.0, 150.0, grid.shape_zyx).astype(np.float32)
    array[1] *= 3  # the slices differ: a percentile slice by slice would show
    synthetic = array_of(make_synthesizer("T2w").predict(grid.image(array)))
    assert np.abs(synthetic - hounsfield(scaled(array, *np.percentile(array, (1, 99))))).max() <= 1


def test_the_hu_stay_within_the_cards_range(make_synthesizer):
    grid = Grid((16, 16, 2), (1.0, 1.0, 3.0))
    synthetic = array_of(make_synthesizer(hu_range=(-50.0, 50.0)).predict(grid.image(noise(grid))))
    assert -50 <= synthetic.min() < -35
    assert 35 < synthetic.max() <= 50


def test_resizing_to_the_networks_size_and_back_keeps_structures_in_place(make_synthesizer):
    """A ramp along each axis in turn: linear interpolation must give it back, edges excepted."""
    grid = Grid((40, 50, 3), (0.8, 1.1, 3.0))
    synthesizer = make_synthesizer(resize_yx=(96, 64))
    for axis in (1, 2):
        ramp = np.linspace(-200, 200, grid.shape_zyx[axis])
        array = np.broadcast_to(np.expand_dims(ramp, tuple({0, 1, 2} - {axis})), grid.shape_zyx)
        synthetic = array_of(synthesizer.predict(grid.image(array.astype(np.float32))))
        expected = hounsfield(scaled(array, LOW, HIGH))
        inner = (slice(None), slice(1, -1), slice(1, -1))
        assert np.abs(synthetic[inner] - expected[inner]).max() <= 2


@pytest.fixture(scope="module")
def random_synthesizer(tmp_path_factory, synthesis_card):
    """A network that mixes all pixels of a slice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        encoder = DINOv3(32, 4, 2)
        encoder.init_weights()
        generator = DGCF(4, 32)
        generator.decoder.out[1].weight.data *= 30  # else all voxels are nearly the same
        state = GuidedDGCF(generator, encoder).state_dict()
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    return Synthesizer(write_checkpoint(path, synthesis_card("T2w", resize_yx=(48, 32)), state), device="cpu")


def test_an_image_stored_in_another_order_gets_the_same_hu(random_synthesizer):
    grid = Grid((34, 26, 2), (0.8, 1.2, 3.0), (10.0, -20.0, 5.0))
    image = grid.image(noise(grid, low=0, high=900))
    expected = array_of(random_synthesizer.predict(image))
    assert expected.std() > 20
    for axes_xyz, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        if sum(flips) in (0, 1):  # 24 of 48, for time
            copy = stored_otherwise(image, axes_xyz, flips)
            synthetic = random_synthesizer.predict(copy)
            assert Grid.of(synthetic) == Grid.of(copy)
            assert np.array_equal(array_of(synthetic), reordered(expected, axes_xyz, flips)), (axes_xyz, flips)


def test_a_slice_does_not_depend_on_the_slices_it_is_run_with(make_synthesizer, random_synthesizer):
    """The percentile rule apart: with a window every slice stands for itself."""
    card = dataclasses.replace(
        random_synthesizer.checkpoint.card, preprocessing=make_synthesizer().checkpoint.card.preprocessing
    )
    path = random_synthesizer.checkpoint.path.with_name("window.safetensors")
    state = random_synthesizer.checkpoint.build().state_dict()
    synthesizer = Synthesizer(write_checkpoint(path, card, state), device="cpu")
    grid = Grid((32, 32, 7), (1.0, 1.0, 3.0))
    image = grid.image(noise(grid))
    whole = array_of(synthesizer.predict(image))
    assert np.abs(whole[4:5] - array_of(synthesizer.predict(image[:, :, 4:5]))).max() <= 1


def test_a_generator_without_its_encoder_says_how_to_get_it(tmp_path, pointwise_state, synthesis_card):
    path = write_checkpoint(tmp_path / "g.safetensors", synthesis_card(), pointwise_state(encoder=False))
    grid = Grid((16, 16, 2), (1.0, 1.0, 3.0))
    with pytest.raises(ProstateXferError, match="imported without the DINOv3 encoder .* --encoder FILE"):
        Synthesizer(path, device="cpu").predict(grid.image(noise(grid)))


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (sitk.GetImageFromArray(np.full((2, 16, 16), np.nan, np.float32)), "not finite"),
        (sitk.Image([16, 16, 2], sitk.sitkInt16), "every voxel is 0"),
        (sitk.Image([16, 16, 2, 2], sitk.sitkInt16), "4 dimensions"),
        (sitk.Image([16, 16, 0], sitk.sitkInt16), "no voxels"),
    ],
)
def test_an_image_that_cannot_be_translated_is_refused_by_its_name(synthesizer, image, complaint):
    with pytest.raises(ProstateXferError, match=complaint) as refusal:
        synthesizer.predict(image)
    assert str(refusal.value).startswith("The CBCT image ")


def test_an_mr_that_is_flat_but_for_a_few_voxels_is_refused(make_synthesizer):
    array = np.zeros((4, 32, 32), np.float32)
    array[0, 0, 0] = 100
    with pytest.raises(ProstateXferError, match="percentile are both 0"):
        make_synthesizer("T2w").predict(sitk.GetImageFromArray(array))


def test_a_missing_sequence_is_named(make_synthesizer):
    with pytest.raises(ProstateXferError, match=r"needs CBCT; CBCT is missing \(given: T2w\)"):
        make_synthesizer().predict({"T2w": sitk.Image([16, 16, 2], sitk.sitkInt16)})


GRID = Grid((24, 17, 19), (1.0, 1.0, 3.0))


def test_progress_rises_to_one(synthesizer):
    watcher = Watcher()
    synthesizer.predict(GRID.image(noise(GRID)), watcher)
    assert watcher.fractions == sorted(watcher.fractions)
    assert len(watcher.fractions) >= 3
    assert watcher.fractions[-1] == 1
    assert watcher.steps == {"synthesize"}


@pytest.mark.parametrize("reports", [0, 1])
def test_stopping_takes_effect_at_the_next_slice_and_the_synthesizer_can_be_used_again(
    synthesizer, monkeypatch, reports
):
    image = GRID.image(noise(GRID))
    expected = array_of(synthesizer.predict(image))
    runs, real = [], GuidedDGCF.forward
    monkeypatch.setattr(GuidedDGCF, "forward", lambda self, batch: runs.append(len(batch)) or real(self, batch))
    watcher = Watcher(stop_after=reports)
    with pytest.raises(CancelledError):
        synthesizer.predict(image, watcher)
    assert watcher.steps <= {"synthesize"}
    assert sum(runs) <= 4 * reports
    assert np.array_equal(array_of(synthesizer.predict(image)), expected)


def test_provenance_names_model_options_and_input(synthesizer):
    image = GRID.image(noise(GRID))
    synthetic, record = synthesizer.predict_with_provenance(image)
    assert np.array_equal(array_of(synthetic), array_of(synthesizer.predict(image)))
    sha256 = hashlib.sha256(synthesizer.checkpoint.path.read_bytes()).hexdigest()
    assert record.models == ({"name": "tiny", "sha256": sha256},)
    assert record.options == {"device": "cpu", "precision": "fp32"}
    assert record.input_sha256 == {"CBCT": image_sha256(image)}
    assert record.seconds > 0
    assert record.warnings == ()


def test_little_memory_costs_a_warning_and_not_the_result(synthesizer, monkeypatch):
    image = GRID.image(noise(GRID))
    expected = array_of(synthesizer.predict(image))
    real = GuidedDGCF.forward

    def small(self, batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("pretended")
        return real(self, batch)

    monkeypatch.setattr(GuidedDGCF, "forward", small)
    monkeypatch.setattr("ProstateXferLib.pipelines.synthesizer.default_batch_size", lambda *_: 8)
    watcher = Watcher()
    synthetic, record = synthesizer.predict_with_provenance(image, watcher)
    assert np.array_equal(array_of(synthetic), expected)
    assert record.warnings == tuple(watcher.warnings) != ()
    assert watcher.steps == {"synthesize"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_stays_within_a_few_hu(make_synthesizer, synthesizer, precision):
    image = GRID.image(noise(GRID, low=-200, high=300))
    exact = array_of(synthesizer.predict(image)).astype(float)
    rough = array_of(make_synthesizer(precision=precision).predict(image))
    # bf16 keeps 8 bits of a range of 3024 HU: a step is up to 12 HU, and input and output are both rounded.
    assert np.abs(exact - rough).mean() < (8 if precision == "bf16" else 2)
