# SPDX-License-Identifier: Apache-2.0
"""Networks of segmentation_models_pytorch: the paper's grid, pretrained weights from a file, and what is missing."""

import sys

import pytest
import torch

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dense import dense_network, load_dense_network
from ProstateXferLib.networks.unetplusplus import ARCHITECTURES, ENCODERS, smp_network

pytest.importorskip("segmentation_models_pytorch")
TINY = ("unet", "efficientnet-b0")


def image(channels=1, seed=0):
    return torch.randn(1, channels, 64, 96, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def encoder_state():
    """ "ImageNet" weights of an EfficientNet-B0, as a published file has them: three colours, and a classifier."""
    torch.manual_seed(1)
    state = {key: torch.rand(value.shape) if value.ndim else value for key, value in _encoder(3).state_dict().items()}
    return state | {"_fc.weight": torch.ones(10, 1280), "_fc.bias": torch.ones(10)}


def _encoder(channels):
    return smp_network(*TINY, channels, 2).encoder


def test_the_grid_is_the_papers():
    assert set(ARCHITECTURES) == {"unetplusplus", "unet", "manet", "deeplabv3"}
    assert set(ENCODERS) == {*(f"efficientnet-b{n}" for n in range(4)), "resnet18", "resnet34", "resnet50"}


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unetplusplus", "efficientnet-b3"),
        ("unet", "efficientnet-b1"),
        ("manet", "resnet18"),
        ("deeplabv3", "resnet34"),
    ],
)
def test_a_network_gives_logits_of_the_images_size(architecture, encoder):
    network = smp_network(architecture, encoder, 2, 3).eval()
    with torch.inference_mode():
        logits = network(image(2))
    assert logits.shape == (1, 3, 64, 96)
    assert logits.min() < 0 < logits.max()  # logits, no activation


@pytest.mark.parametrize(("architecture", "encoder"), [("unet", "vgg16"), ("fpn", "resnet18")])
def test_a_pair_outside_the_grid_is_refused(architecture, encoder):
    with pytest.raises(ProstateXferError, match=f"no network '{architecture}' with the encoder '{encoder}'"):
        smp_network(architecture, encoder, 1, 2)


def test_where_the_package_is_missing_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ProstateXferError, match="pip install segmentation-models-pytorch"):
        smp_network(*TINY, 1, 2)


def test_without_internet_imagenet_weights_are_an_error_that_says_what_to_do(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError
    from segmentation_models_pytorch import encoders

    def unreachable(*args, **kwargs):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(encoders, "hf_hub_download", unreachable)
    with pytest.raises(ProstateXferError, match="efficientnet-b0 could not be fetched .*weights_file"):
        smp_network(*TINY, 1, 2, weights="imagenet")


def test_imagenet_weights_are_asked_of_smp_itself(monkeypatch):
    import segmentation_models_pytorch

    asked = {}
    monkeypatch.setattr(segmentation_models_pytorch, "Unet", lambda **options: asked.update(options))
    smp_network(*TINY, 1, 2, weights="imagenet")
    assert asked == {"encoder_name": TINY[1], "encoder_weights": "imagenet", "in_channels": 1, "classes": 2}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_of_imagenet_weights_is_taken_over_and_its_colours_are_added_up(
    tmp_path, encoder_state, suffix, channels
):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(encoder_state, path)
    else:
        from safetensors.torch import save_file

        save_file(encoder_state, path)
    network = dense_network(
        "smp",
        {"architecture": TINY[0], "encoder": TINY[1], "channels": channels, "classes": 2}
        | {"encoder_weights": "imagenet", "weights_file": str(path)},
    )
    found, stem = network.encoder.state_dict(), "_conv_stem.weight"
    colours = encoder_state[stem]
    assert torch.allclose(found[stem], colours if channels == 3 else colours.sum(1, keepdim=True))
    assert all(torch.equal(found[key], encoder_state[key]) for key in found if key != stem)
    # One channel then sees what three equal colours would.
    grey, encoder = image(1), network.encoder.eval()
    coloured = dense_network("smp", {"architecture": TINY[0], "encoder": TINY[1], "channels": 3, "classes": 2}).encoder
    coloured.load_state_dict(dict(encoder_state))
    with torch.inference_mode():
        first = coloured.eval()(grey.expand(-1, 3, -1, -1))[1]
        assert torch.allclose(encoder(grey.expand(-1, channels, -1, -1))[1], first, rtol=1e-4, atol=1e-4)


def test_a_file_that_does_not_fit_is_refused_by_its_key(tmp_path, encoder_state):
    torch.save({key: value for key, value in encoder_state.items() if key != "_bn0.weight"}, tmp_path / "w.pth")
    with pytest.raises(ProstateXferError, match="Key '_bn0.weight' is missing from this efficientnet-b0 encoder"):
        smp_network(*TINY, 1, 2, weights="imagenet", weights_file=tmp_path / "w.pth")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


@pytest.mark.parametrize("content", [b"nothing", None, "a pickle with code in it"])
def test_a_file_that_is_no_weights_is_refused_and_not_executed(tmp_path, content):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save({"x": Bomb()}, path)
    with pytest.raises(ProstateXferError, match="cannot be read as weights alone"):
        smp_network(*TINY, 1, 2, weights="imagenet", weights_file=path)


@pytest.mark.parametrize("options", [{"weights": "swsl"}, {"weights_file": "w.pth"}])
def test_weights_of_another_kind_are_refused(options):
    with pytest.raises(ProstateXferError, match="must be 'imagenet'"):
        smp_network(*TINY, 1, 2, **options)


def test_an_argument_too_many_is_an_error_and_no_traceback():
    with pytest.raises(ProstateXferError, match="arguments of the smp do not fit .*colour"):
        dense_network("smp", {"architecture": TINY[0], "encoder": TINY[1], "channels": 1, "classes": 2, "colour": 1})


def test_weights_come_back_through_a_state_dict():
    arguments = {"architecture": TINY[0], "encoder": TINY[1], "channels": 1, "classes": 2}
    network = dense_network("smp", arguments).eval()
    again = load_dense_network("smp", arguments, network.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(image()), network(image()))
