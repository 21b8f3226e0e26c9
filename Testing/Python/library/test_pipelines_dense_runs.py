# SPDX-License-Identifier: Apache-2.0
"""A run of a dense model: progress, stopping, memory, precision."""

import numpy as np
import pytest
import torch
from dense_models.models import GRID, KINDS, card_of, made, written
from made_images.voxels import array_of, noise
from watchers.watcher import Watcher

from ProstateXferLib.checkpoints.card import Head
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.pipelines import dense_logits
from ProstateXferLib.pipelines.segmenter import Segmenter

TILED = {"tile_zyx": (8, 16, 16)}


def test_progress_grows_to_one_and_names_the_windows(tmp_path):
    card = card_of(*KINDS["plain 3-D"], preprocessing=TILED)
    watcher = Watcher()
    Segmenter([written(tmp_path / f"{n}.safetensors", card, n) for n in (0, 1)], device="cpu").predict(
        noise(GRID), watcher
    )
    assert watcher.fractions == sorted(watcher.fractions)
    assert watcher.fractions[-1] == 1
    assert [message for _, _, message in watcher.reports][:2] == ["window 1 of 9", "window 2 of 9"]
    assert len(watcher.fractions) == 2 * 9 + 1


def test_the_user_can_stop_between_windows(tmp_path):
    watcher = Watcher(stop_after=3)
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"], preprocessing=TILED))
    with pytest.raises(CancelledError):
        Segmenter(path, device="cpu").predict(noise(GRID), watcher)
    assert len(watcher.reports) == 3


def test_when_memory_runs_out_fewer_windows_run_at_once_and_the_result_is_the_same(tmp_path, monkeypatch):
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"], preprocessing=TILED))
    expected = array_of(Segmenter(path, device="cpu").predict(noise(GRID)).probabilities["Prostate"])
    segmenter, watcher = Segmenter(path, device="cpu"), Watcher()
    (network,) = [member.network for member in segmenter.groups[0].members]
    sizes, forward = [], network.forward

    def limited(image):
        sizes.append(len(image))
        if len(image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(image)

    network.forward = limited
    monkeypatch.setattr(dense_logits, "default_batch_size", lambda device, item_bytes: 4)
    found = segmenter.predict(noise(GRID), watcher)
    assert sizes == [4, 2, 2, 2, 2, 1]
    assert watcher.warnings == ["Memory of cpu ran out: going on with 2 window(s) at a time."]
    assert found.provenance.warnings == tuple(watcher.warnings)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)


def test_half_precision_runs_in_autocast_and_stays_near(tmp_path):
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"]))
    exact, rough = (
        array_of(Segmenter(path, device="cpu", precision=precision).predict(noise(GRID)).probabilities["Prostate"])
        for precision in ("fp32", "bf16")
    )
    assert 0 < np.abs(exact - rough).mean() < 0.01


def test_values_that_are_not_finite_are_refused():
    segmenter = made(lambda v: (0 * v, v / 0), classes=2, heads=(Head("gland", (1,)),))
    with pytest.raises(ProstateXferError, match="'dense' gave values that are not finite"):
        segmenter.predict(noise(GRID))
