# SPDX-License-Identifier: Apache-2.0
"""Slices in and volumes out against DGCF's data pipeline, run on a made-up SynthRAD case written to NIfTI."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, dgcf_preprocessing
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.pipelines.preparation import prepare_slices, resize

SEQUENCES = {"mr": "T2w", "cbct": "CBCT"}


@pytest.fixture(params=SEQUENCES)
def kind(request):
    return request.param


@pytest.fixture
def reference(golden, kind):
    return golden(f"dgcf/prep_{kind}.npz")


@pytest.fixture
def prepared(reference, kind):
    rule = dgcf_preprocessing(SEQUENCES[kind], resize_yx=tuple(reference["meta_target_size_hw"].tolist()))
    return prepare_slices(image_of(reference, reference[f"raw_{kind}"]), rule)


def image_of(reference, array_zyx):
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(reference["meta_spacing"].tolist())
    image.SetOrigin(reference["meta_origin"].tolist())
    return image


def slices_in(reference):
    return [int(key.removeprefix("A_")) for key in reference if key.startswith("A_")]


class Watcher(nn.Module):
    """Stands for the encoder and keeps the image it was shown."""

    width, depth = 32, 12

    def intermediate(self, image, blocks):
        self.seen = image
        return [torch.zeros(len(image), image.shape[-1] * image.shape[-2] // 256, self.width)] * len(blocks)


def test_network_slices(reference, prepared):
    assert len(slices_in(reference)) == 2
    for index in slices_in(reference):
        torch.testing.assert_close(prepared.slices[index], reference.tensor(f"A_{index}")[0, 0], rtol=0, atol=1e-5)


def test_what_the_encoder_sees(reference, prepared, kind):
    """MR as [0, 2] by the reference's oversight, CBCT as [-1, 1]; three equal channels."""
    watcher = Watcher()
    shown = dgcf_preprocessing(SEQUENCES[kind]).encoder_range
    network = GuidedDGCF(DGCF(2, 32), watcher, encoder_range=shown)
    for index in slices_in(reference):
        network.features(prepared.slices[index][None, None])
        torch.testing.assert_close(watcher.seen, reference.tensor(f"vit_input_{index}"), rtol=0, atol=2e-5)


def test_target_slices_and_masks(golden):
    reference = golden("dgcf/prep_mr.npz")  # its CT and mask are kept for the two slices alone
    rule = Preprocessing(IntensityRule("window", *HU_RANGE), resize_yx=(64, 64))
    targets = prepare_slices(image_of(reference, reference["raw_ct"]), rule).slices
    masks = resize(reference.tensor("raw_mask").float()[:, None], (64, 64))
    for target, mask, index in zip(targets, masks, slices_in(reference), strict=True):
        torch.testing.assert_close(target, reference.tensor(f"B_{index}")[0, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(mask, reference.tensor(f"mask_{index}")[0], rtol=0, atol=1e-5)


def test_percentiles_are_those_of_the_whole_volume(golden):
    reference = golden("dgcf/prep_mr.npz")
    np.testing.assert_allclose(np.percentile(reference["raw_mr"], (1, 99)), reference["ptile_1_99"], rtol=1e-6)


def test_the_volume_rebuilt_from_network_output(reference, prepared):
    low, high = HU_RANGE
    hounsfield = (reference.tensor("net_out_fake")[:, 0] + 1) / 2 * (high - low) + low
    np.testing.assert_allclose(prepared.restore(hounsfield), reference["recon_3d"], rtol=0, atol=1e-2)
    image = image_of(reference, reference["recon_3d"])
    for ours, name in (
        (image.GetSpacing(), "spacing"),
        (image.GetOrigin(), "origin"),
        (image.GetDirection(), "direction"),
    ):
        np.testing.assert_allclose(ours, reference[f"recon_{name}"], atol=1e-6)


# What follows makes one mistake at a time and sees it.


def error_of_slices(reference, kind, rule):
    slices = prepare_slices(image_of(reference, reference[f"raw_{kind}"]), rule).slices
    return max(float((slices[i] - reference.tensor(f"A_{i}")[0, 0]).abs().max()) for i in slices_in(reference))


def test_another_intensity_rule_is_told_from_the_reference(reference, kind):
    rule = dgcf_preprocessing(SEQUENCES[kind], resize_yx=(64, 64))
    wrong = {
        "mr": IntensityRule("percentile", lower_percentile=0.5, upper_percentile=99.5),
        "cbct": IntensityRule("window", -1000, 2000),
    }
    assert error_of_slices(reference, kind, rule) < 1e-5
    assert error_of_slices(reference, kind, replace(rule, intensity=wrong[kind])) > 1e-3


def test_percentiles_of_single_slices_are_told_from_the_reference(golden):
    reference = golden("dgcf/prep_mr.npz")
    rule = dgcf_preprocessing("T2w", resize_yx=(64, 64))
    single = prepare_slices(image_of(reference, reference["raw_mr"][6:7]), rule).slices[0]
    assert float((single - reference.tensor("A_6")[0, 0]).abs().max()) > 1e-3


def test_an_antialiased_resize_is_told_from_the_reference(golden, monkeypatch):
    interpolate = nn.functional.interpolate
    reference = golden("dgcf/prep_cbct.npz")
    monkeypatch.setattr(nn.functional, "interpolate", lambda x, **options: interpolate(x, **options, antialias=True))
    assert error_of_slices(reference, "cbct", dgcf_preprocessing("CBCT", resize_yx=(64, 64))) > 1e-3
