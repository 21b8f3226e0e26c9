# SPDX-License-Identifier: Apache-2.0
"""A dense checkpoint's own probabilities, and the mean over mirrorings, folds and other models."""

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from dense_models.models import GRID, KINDS, ZSCORE, card_of, random_dense, written
from made_images.voxels import array_of, noise

from ProstateXferLib.checkpoints.file_format import write_checkpoint
from ProstateXferLib.checkpoints.loading import load_checkpoint
from ProstateXferLib.images.intensity import normalize
from ProstateXferLib.pipelines import dense_group
from ProstateXferLib.pipelines.segmenter import Segmenter


def probability(network, image, *, mirrorings=((),)):
    """Of class 1 in a volume that one window holds, by hand."""
    data = torch.from_numpy(normalize(array_of(image), ZSCORE))
    planar = not any(isinstance(module, torch.nn.Conv3d) for module in network.modules())
    batch = data[:, None] if planar else data[None, None]
    with torch.inference_mode():
        logits = [network(batch.flip(axes)).flip(axes) for axes in mirrorings]
    mean = torch.stack(logits).mean(0)
    mean = mean.transpose(0, 1) if planar else mean[0]
    return torch.softmax(mean, 0)[1].numpy()


@pytest.mark.parametrize(("architecture", "arguments"), KINDS.values(), ids=KINDS)
def test_a_file_comes_back_as_a_network_and_gives_its_probabilities(tmp_path, architecture, arguments):
    card = card_of(architecture, arguments)
    path = written(tmp_path / "m.safetensors", card)
    assert load_checkpoint(path).card == card
    image = noise(dataclasses.replace(GRID, size_xyz=(64, 32, 8)))
    found = Segmenter(path, device="cpu").predict(image)
    expected = probability(random_dense(architecture, arguments), image)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)
    assert np.array_equal(array_of(found.labels), array_of(found.probabilities["Prostate"]) > 0.5)
    assert 0 < array_of(found.labels).mean() < 1
    assert found.provenance.models[0]["name"] == "dense"


ALL_MIRRORINGS = [
    tuple(axis for axis, on in zip((-3, -2, -1), ons, strict=True) if on) for ons in product((0, 1), repeat=3)
]


@pytest.mark.parametrize(
    ("kind", "allowed", "mirrorings"),
    [
        ("plain 2-D", None, [(), (-2,), (-1,), (-2, -1)]),
        ("plain 2-D", ("x",), [(), (-1,)]),
        ("plain 3-D", None, ALL_MIRRORINGS),
        ("plain 3-D", ("z", "x"), [(), (-3,), (-1,), (-3, -1)]),
        ("plain 3-D", (), [()]),
    ],
)
def test_mirroring_averages_logits_over_the_axes_that_the_card_allows(tmp_path, kind, allowed, mirrorings):
    architecture, arguments = KINDS[kind]
    path = written(tmp_path / "m.safetensors", card_of(architecture, arguments, preprocessing={"mirror_axes": allowed}))
    found = Segmenter(path, device="cpu", tta=True).predict(noise(GRID))
    expected = probability(random_dense(architecture, arguments), noise(GRID), mirrorings=mirrorings)
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)


def test_what_lies_outside_is_never_skipped(tmp_path):
    path = written(tmp_path / "m.safetensors", card_of(*KINDS["plain 3-D"]))
    maps = [
        array_of(Segmenter(path, device="cpu", skip_outside=skip).predict(noise(GRID)).probabilities["Prostate"])
        for skip in (True, False)
    ]
    assert np.array_equal(*maps)


def test_folds_are_averaged_and_the_study_is_prepared_once(tmp_path, monkeypatch):
    card = card_of(*KINDS["plain 3-D"])
    paths = [written(tmp_path / f"{seed}.safetensors", card, seed) for seed in (0, 1, 2)]
    prepared, original = [], dense_group.prepare_channels
    monkeypatch.setattr(dense_group, "prepare_channels", lambda *given: prepared.append(1) or original(*given))
    found = Segmenter(paths, device="cpu").predict(noise(GRID))
    expected = np.mean(
        [probability(random_dense(*KINDS["plain 3-D"], seed), noise(GRID)) for seed in (0, 1, 2)], axis=0
    )
    assert np.allclose(array_of(found.probabilities["Prostate"]), expected, atol=1e-5)
    assert len(prepared) == 1


def test_an_mr_dinov3_and_dense_networks_of_2d_and_3d_are_averaged(tmp_path, random_state, segmentation_card):
    token = write_checkpoint(tmp_path / "t.safetensors", segmentation_card("gland"), random_state())
    dense = [
        written(tmp_path / f"{index}.safetensors", card_of(*KINDS[kind], preprocessing={"tile_" + axes: tile}))
        for index, (kind, axes, tile) in enumerate(
            [("plain 2-D", "yx", (16, 16)), ("plain 3-D", "zyx", (8, 16, 16)), ("residual 3-D", "zyx", (8, 16, 32))]
        )
    ]
    image = noise(GRID)
    single = [
        array_of(Segmenter(path, device="cpu").predict(image).probabilities["Prostate"]) for path in [token, *dense]
    ]
    for order in ([token, *dense], [*dense, token]):
        together = Segmenter(order, device="cpu").predict(image)
        assert np.allclose(array_of(together.probabilities["Prostate"]), np.mean(single, axis=0), atol=1e-5)
        assert [model["name"] for model in together.provenance.models] == [load_checkpoint(p).card.name for p in order]
    assert np.ptp(np.stack(single), axis=0).max() > 0.1  # else an average would say nothing
