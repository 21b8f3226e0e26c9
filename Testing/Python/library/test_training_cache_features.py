# SPDX-License-Identifier: Apache-2.0
"""Stored tokens are the encoder's own, of the very slices and labels that a sample shows."""

import dataclasses
import os
import pickle

import numpy as np
import pytest
import torch
from watchers.stops_after import StopsAfter

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.augmentation.presets import preset
from ProstateXferLib.training.cache import features, room
from ProstateXferLib.training.cache.features import FeatureOptions, cached_features
from ProstateXferLib.training.cache.prepared import prepared_cases
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.sampling.draws import draw_seed
from ProstateXferLib.training.sampling.feature_slices import FeatureSliceOptions, FeatureSliceSamples
from ProstateXferLib.training.sampling.slices import SliceOptions, SliceSamples
from ProstateXferLib.training.sampling.tensors import cut_box

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two phantoms of 24 slices of 56 x 56 pixels."""
    phantoms = [Case(f"phantom-{seed}", f"phantom-{seed}", {}, attributes={"phantom_seed": seed}) for seed in (1, 2)]
    rules = Preprocessing(IntensityRule("zscore"), spacing_yx_mm=(3.43, 3.43))
    return prepared_cases(
        phantoms,
        rules,
        (PROSTATE, DIL),
        sequences=("T2w",),
        folder=tmp_path_factory.mktemp("prepared"),
        progress=SilentProgress(),
    )


@pytest.fixture(scope="module")
def network(random_network):
    return random_network("mr_dinov3", seed=3)


def store_of(network, cases, folder, **options):
    return cached_features(
        network, cases, folder=folder, device=CPU, options=FeatureOptions(**options), progress=SilentProgress()
    )


def encoded(network, image):
    with torch.inference_mode():
        return network.encode(image[None])[0]


def test_tokens_are_those_of_the_encoder_on_the_same_sample(network, cases, tmp_path):
    """Sample by number: the slice that `SliceSamples` shows whole, encoded, is what is stored for that number."""
    store = store_of(network, cases, tmp_path, dtype="fp32")
    images = SliceSamples(cases, SliceOptions(foreground_share=0.5), 9)
    tokens = FeatureSliceSamples(store, FeatureSliceOptions(foreground_share=0.5), 9)
    assert (store.size_yx, store.width, len(images)) == ((64, 64), 256, len(tokens))
    for number in (0, 3, 50):
        one, two = images[number], tokens[number]
        assert two["tokens"].shape == (16, 256)
        torch.testing.assert_close(two["tokens"], encoded(network, one["image"]), rtol=1e-4, atol=1e-4)
        assert torch.equal(two["labels"], one["labels"])
        assert torch.equal(two["known"], one["known"])


def test_fp16_rounds_tokens_and_nothing_more(network, cases, tmp_path):
    fine, short = (store_of(network, cases[:1], tmp_path, dtype=dtype) for dtype in ("fp32", "fp16"))
    assert fine.folders != short.folders
    torch.testing.assert_close(short.tokens(0, 12), fine.tokens(0, 12).half().float(), rtol=0, atol=0)


def test_the_mirrored_variant_shows_slice_and_labels_mirrored(network, cases, tmp_path):
    store = store_of(network, cases[:1], tmp_path, dtype="fp32", mirrored=True)
    z = 12
    assert torch.equal(store.labels(0, z, 1), store.labels(0, z).flip(-1))
    assert bool((store.labels(0, z) != store.labels(0, z, 1)).any())
    image = SliceSamples(cases[:1], SliceOptions(size_yx=(64, 64), anywhere=0.0), 0)
    assert image[0]["image"].shape == (1, 64, 64)
    cut = cut_box(cases[0], (z, -4, -4), (1, 64, 64))["image"][:, 0]
    torch.testing.assert_close(store.tokens(0, z), encoded(network, cut), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(store.tokens(0, z, 1), encoded(network, cut.flip(-1)), rtol=1e-4, atol=1e-4)


def test_a_view_is_a_function_of_seed_slice_and_number(network, cases, tmp_path):
    options = FeatureOptions(dtype="fp32", views=2, augmentation="sap", size_yx=(48, 48), seed=4)
    store = store_of(network, cases[:1], tmp_path, **dataclasses.asdict(options))
    assert options.variants == ("plain", "view 0", "view 1")
    changes = preset("sap", spatial_dims=2, patch_size=(48, 48))
    for view in range(2):
        z = 11
        cut = cut_box(cases[0], (z, 4, 4), (1, 48, 48))
        seed = draw_seed(4, z, f"view {view} {cases[0].sha256}")
        expected = changes({"image": cut["image"][:1, 0], "labels": cut["labels"][0]}, seed)
        tokens = encoded(network, expected["image"])
        torch.testing.assert_close(store.tokens(0, z, 1 + view), tokens, rtol=1e-4, atol=1e-4)
        assert torch.equal(store.labels(0, z, 1 + view), expected["labels"])
    drawn = FeatureSliceSamples(store, FeatureSliceOptions(), 0)
    again = FeatureSliceSamples(pickle.loads(pickle.dumps(store)), FeatureSliceOptions(), 0)
    assert all(torch.equal(drawn[i]["tokens"], again[i]["tokens"]) for i in (0, 30, 100))
    shown = {next(v for v in range(3) for z in range(24) if torch.equal(drawn[i]["tokens"], store.tokens(0, z, v)))
             for i in range(24)}  # fmt: skip
    assert shown == {0, 1, 2}


def test_a_second_call_encodes_nothing_and_another_encoder_everything(network, cases, random_network, tmp_path):
    first = store_of(network, cases, tmp_path)
    calls = []
    hook = network.dino_encoder.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    try:
        assert store_of(network, cases, tmp_path) == first
        assert calls == []
        more = store_of(network, cases, tmp_path, mirrored=True)
        assert [row[0] for row in more.folders] == [row[0] for row in first.folders]
        assert len(calls) == 2 * 24 / 4
    finally:
        hook.remove()
    other = random_network("mr_dinov3", seed=4)
    assert not {p for row in store_of(other, cases, tmp_path).folders for p in row} & {
        p for row in first.folders for p in row
    }


def test_a_damaged_entry_is_encoded_again(network, cases, tmp_path):
    first = store_of(network, cases[:1], tmp_path)
    expected, path = first.tokens(0, 5), first.folders[0][0] / "tokens.npy"
    os.truncate(path, 1000)
    assert torch.equal(store_of(network, cases[:1], tmp_path).tokens(0, 5), expected)


def test_the_bytes_are_counted_before_and_are_those_on_disk(network, cases, tmp_path, monkeypatch):
    store = store_of(network, cases, tmp_path / "a", mirrored=True)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*.npy"))
    assert store.stored_bytes == 2 * 2 * 24 * (64 * 64 + 16 * 256 * 2)
    assert on_disk == pytest.approx(store.stored_bytes, abs=8 * 128)  # headers
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 500_000}))
    with pytest.raises(ProstateXferError, match=r"need 0.00118 GB .* 0.0005 GB are free"):
        store_of(network, cases, tmp_path / "b", mirrored=True)
    assert list((tmp_path / "b").rglob("*.npy")) == []


def test_tokens_that_fp16_cannot_hold_are_refused(network, cases, tmp_path):
    class Loud(torch.nn.Module):
        """An encoder's tokens a hundred thousand times as large."""

        def __init__(self):
            super().__init__()
            self.dino_encoder, self.blocks = network.dino_encoder, network.blocks

        def encode(self, image):
            return network.encode(image) * 1e5

    with pytest.raises(ProstateXferError, match="do not fit fp16: store fp32"):
        store_of(Loud(), cases[:1], tmp_path)


def test_the_network_s_mode_is_left_as_it_was_and_cancelling_keeps_what_is_there(network, cases, tmp_path):
    network.train()
    with pytest.raises(CancelledError):
        cached_features(network, cases, folder=tmp_path, device=CPU, options=FeatureOptions(), progress=StopsAfter(1))
    assert network.training
    network.eval()
    assert len(list(tmp_path.rglob("tokens.npy"))) == 1


def test_the_key_of_an_encoder_changes_with_weights_settings_and_taps(network, random_network):
    from ProstateXferLib.networks.encoder_key import encoder_sha256

    encoder = random_network("dinov3", seed=3)
    keys = [encoder_sha256(encoder, (0, 1)), encoder_sha256(encoder, (0, 2))]
    keys.append(encoder_sha256(random_network("dinov3", seed=3, eps=1e-6), (0, 1)))
    with torch.no_grad():
        encoder.norm.bias[0] += 1e-3
    keys.append(encoder_sha256(encoder, (0, 1)))
    assert len(set(keys)) == 4
    assert encoder_sha256(random_network("dinov3", seed=3), (0, 1)) == keys[0]


@pytest.mark.parametrize("arguments", [{"dtype": "int8"}, {"size_yx": (20, 32)}, {"views": -1}, {"size_yx": (0, 16)}])
def test_options_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ProstateXferError):
        FeatureOptions(**arguments)


def test_slices_of_several_sizes_share_the_size_of_the_largest(cases):
    small = dataclasses.replace(cases[0], shape_zyx=(24, 20, 70))
    assert features._common_size([small, cases[1]]) == (64, 80)
    assert np.prod(features._common_size([cases[1]])) == 64 * 64


def test_a_head_learns_the_same_from_few_tokens_at_once_as_from_many(random_network):
    """Few tokens take another way through the head (fewer rows than channels); outputs and gradients are the same."""
    head = random_network("mr_dinov3").heads["segmentation"]
    tokens = torch.randn(300, head.width, generator=torch.Generator().manual_seed(0))
    many = head.decode_tokens(tokens)
    many.square().sum().backward()
    expected = [parameter.grad.clone() for parameter in head.parameters()]
    head.zero_grad()
    few = [head.decode_tokens(part) for part in tokens.split(20)]
    torch.cat(few).square().sum().backward()
    torch.testing.assert_close(torch.cat(few), many, rtol=1e-4, atol=1e-4)
    for parameter, gradient in zip(head.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))
