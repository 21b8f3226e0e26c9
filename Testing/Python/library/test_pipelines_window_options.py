# SPDX-License-Identifier: Apache-2.0
"""What changes little for speed: a larger step, windows without tissue left out; both said in the record."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunet_results.folders import configuration, random_weights, write_folder

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.pipelines import blended_logits
from ProstateXferLib.pipelines.blend import Blend, background_logits
from ProstateXferLib.pipelines.segmenter import Segmenter
from ProstateXferLib.pipelines.tissue import tissue, windows_with_tissue
from ProstateXferLib.pipelines.windows import Windows

SIDE = 8
BODY = (slice(None), slice(0, 16), slice(8, 24))


def body_in_air(shape=(4, 48, 48), seed=0):
    """Noise of 100 +- 20 in a box, air of 5 +- 5 around it."""
    rng = np.random.default_rng(seed)
    values = np.abs(rng.normal(5, 5, shape))
    values[BODY] = rng.normal(100, 20, values[BODY].shape)
    return values.astype(np.float32)


def nnunet(folder, *, dimensions=2, **changes):
    """An nnU-Net of windows of 8, each as wide as a network of two stages sees."""
    settings = configuration(dimensions)
    return write_folder(folder, settings, weights=random_weights(dimensions), name="2d", mirror_axes=(0, 1), **changes)


def run(model, values, **options):
    image = sitk.GetImageFromArray(values)
    found = Segmenter(model, device="cpu", **options).predict(image)
    maps = {name: sitk.GetArrayFromImage(volume) for name, volume in found.probabilities.items()}
    return sitk.GetArrayFromImage(found.labels), maps, found.provenance


@pytest.fixture
def cut(monkeypatch):
    """Corners of the windows that networks are run on."""
    corners, original = [], Windows.cut
    monkeypatch.setattr(
        Windows, "cut", lambda self, padded, starts: corners.extend(starts) or original(self, padded, starts)
    )
    return corners


# The step


def test_a_larger_step_runs_fewer_windows_and_none_says_half(tmp_path, cut):
    folder, values = nnunet(tmp_path / "f"), body_in_air((1, 32, 32))
    counts = []
    for step in (None, 0.5, 0.75, 1.0):
        cut.clear()
        run(folder, values, window_step=step)
        counts.append(len(cut))
    assert counts == [49, 49, 25, 16]


def test_a_step_of_half_is_what_an_nnunet_does_anyway(tmp_path):
    folder, values = nnunet(tmp_path / "f"), body_in_air()
    (labels, maps, _), (half, half_maps, _) = run(folder, values), run(folder, values, window_step=0.5)
    assert np.array_equal(labels, half) and np.array_equal(maps["Prostate"], half_maps["Prostate"])
    assert not np.array_equal(maps["Prostate"], run(folder, values, window_step=0.75)[1]["Prostate"])


def test_tiles_of_an_mr_dinov3_follow_the_step_too(tmp_path, random_state, segmentation_card):
    card = segmentation_card("gland", preprocessing={"tile_yx": (32, 32)})
    path = write_checkpoint(tmp_path / "m.safetensors", card, random_state())
    image = np.random.default_rng(0).integers(-900, 900, (1, 32, 80)).astype(np.int16)
    maps = [run(path, image, window_step=step)[1]["Prostate"] for step in (None, 0.5, 1.0)]
    assert np.array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 1e-4


@pytest.mark.parametrize("step", [0, -0.5, 1.01, float("nan")])
def test_a_step_that_leaves_gaps_is_refused(tmp_path, step):
    with pytest.raises(ProstateXferError, match="window step of"):
        Segmenter(nnunet(tmp_path / "f"), device="cpu", window_step=step)


# Windows without tissue


def test_tissue_is_found_in_noisy_air_and_little_more_than_it():
    found = tissue(torch.from_numpy(body_in_air())[None])
    assert found[BODY].all()
    assert found.float().mean() == pytest.approx(16 * 16 / 48**2)


def test_one_channel_that_is_bright_is_enough():
    first = torch.from_numpy(body_in_air())
    both = torch.stack([first, first.flip(1)])
    assert torch.equal(tissue(both), tissue(both[:1]) | tissue(both[1:]))


def test_windows_that_hold_no_tissue_are_not_run(tmp_path, cut):
    folder = nnunet(tmp_path / "f")
    run(folder, body_in_air(), skip_windows=True)
    expected = {(plane, y, x) for plane in range(4) for y in range(0, 13, 4) for x in range(4, 21, 4)}
    assert set(cut) == expected


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_where_no_window_was_run_there_is_background_and_far_inside_nothing_changes(tmp_path, dimensions, regions):
    dataset = {"labels": {"background": 0, "prostate": [1, 2], "lesion": 2}, "regions_class_order": [1, 2]}
    folder = write_folder(
        tmp_path / "f",
        configuration(dimensions),
        weights=random_weights(dimensions, classes=3 - regions, seed=1),
        dataset=dataset if regions else None,
    )
    values = body_in_air((8, 48, 48))
    (_, whole, _), (labels, maps, _) = run(folder, values), run(folder, values, skip_windows=True)
    reached = np.zeros(values.shape, bool)  # by a window that touches the body
    reached[:, :20, 4:28] = True
    assert not labels[~reached].any() and maps["Prostate"][~reached].max() < 1e-12
    assert whole["Prostate"][~reached].max() > 0.1  # else nothing was there to leave out
    inside = (slice(None), slice(0, 8), slice(12, 20))  # where all windows of the whole run hold tissue
    assert np.array_equal(maps["Prostate"][inside], whole["Prostate"][inside])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_without_any_window_everything_is_background(dtype):
    windows = windows_with_tissue(Windows.over((2, 16, 16), (SIDE, SIDE)), torch.zeros(1, 2, 16, 16))
    assert windows.starts == () and not windows.complete
    blend = Blend(windows, torch.ones(windows.window_zyx, dtype=dtype), classes=5, device=torch.device("cpu"))
    logits = blend.result(background_logits([3, 2]))
    assert logits.isfinite().all() and logits.dtype == dtype
    assert (torch.softmax(logits[:3].double(), 0)[0] > 1 - 1e-9).all()
    assert (torch.softmax(logits[3:].double(), 0)[0] > 1 - 1e-9).all()
    assert (torch.sigmoid(background_logits([2], overlapping=True)) < 1e-9).all()


def test_nothing_is_skipped_unless_asked_for(tmp_path, cut):
    run(nnunet(tmp_path / "f"), body_in_air())
    assert len(cut) == 4 * 11 * 11


# The record


def test_the_record_says_what_was_asked_for(tmp_path):
    folder, values = nnunet(tmp_path / "f"), body_in_air()
    options = run(folder, values)[2].options
    assert "window_step" not in options and "skip_windows" not in options
    options = run(folder, values, window_step=0.75, skip_windows=True, precision="bf16")[2].options
    assert (options["window_step"], options["skip_windows"], options["precision"]) == (0.75, True, "bf16")


# Where sums lie


def test_sums_lie_on_a_cuda_device_with_room_and_elsewhere_on_the_cpu(monkeypatch):
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 8000))
    assert blended_logits._place(cuda, 1000) == cuda
    assert blended_logits._place(cuda, 1001) == cpu
    assert blended_logits._place(torch.device("mps"), 1) == cpu


def test_a_grid_is_kept_whatever_is_skipped(tmp_path):
    grid = Grid((48, 48, 4), (0.8, 0.9, 3.0), (5.0, -7.0, 11.0))
    found = Segmenter(nnunet(tmp_path / "f"), device="cpu", skip_windows=True).predict(grid.image(body_in_air()))
    assert Grid.of(found.labels).same_as(grid)
