# SPDX-License-Identifier: Apache-2.0
"""SwinUNETR: SAP's numbers, and clear words where something is missing."""

import sys

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dense import dense_network, load_dense_network

SMALL = {"in_channels": 2, "out_channels": 3, "feature_size": 12}


@pytest.fixture
def monai():
    pytest.importorskip("monai")
    pytest.importorskip("einops", reason="MONAI's SwinUNETR needs einops")


def test_its_defaults_are_saps(monai, monkeypatch):
    import monai.networks.nets as nets

    asked = {}
    monkeypatch.setattr(nets, "SwinUNETR", lambda **options: asked.update(options))
    dense_network("swin_unetr", {"in_channels": 2, "out_channels": 10})
    wanted = {"in_channels": 2, "out_channels": 10, "feature_size": 48, "spatial_dims": 3}
    assert asked.items() >= wanted.items()
    assert {asked[rate] for rate in ("drop_rate", "attn_drop_rate", "dropout_path_rate")} == {0.1}


@pytest.mark.parametrize(("dimensions", "sides"), [(3, (32, 32, 64)), (2, (64, 96))])
def test_weights_come_back_and_logits_have_the_images_size(monai, dimensions, sides):
    arguments = SMALL | {"spatial_dims": dimensions}
    network = dense_network("swin_unetr", arguments).eval()
    again = load_dense_network("swin_unetr", arguments, network.state_dict())
    image = torch.randn(1, 2, *sides)
    with torch.inference_mode():
        logits = again(image)
        assert torch.equal(logits, network(image))
    assert logits.shape == (1, 3, *sides)


def test_numbers_that_monai_refuses_are_an_error_of_ours(monai):
    with pytest.raises(ProstateXferError, match="MONAI does not build this SwinUNETR .*divisible by 12"):
        dense_network("swin_unetr", SMALL | {"feature_size": 13})


@pytest.mark.parametrize("package", ["monai.networks.nets", "einops"])
def test_where_a_package_is_missing_it_is_said_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ProstateXferError, match="pip install monai einops"):
        dense_network("swin_unetr", SMALL)
