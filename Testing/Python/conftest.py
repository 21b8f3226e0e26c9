# SPDX-License-Identifier: Apache-2.0
"""What several rooms' tests share: real images, reference results, and tiny networks made for a purpose."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

with contextlib.suppress(ImportError):  # Slicer's Python may lack it; the tests that need it say so themselves
    from hypothesis import settings

    # How long an example takes says something about the machine's other work, not about the code.
    settings.register_profile("project", deadline=None, print_blob=True)
    settings.load_profile("project")

_SHARED = Path(__file__).resolve().parents[3] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses real images, so that `-m "not real_data"` leaves it out."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"there is no folder '{folder}'; set {variable} to the one to use")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real images; its README.md says what lies where."""
    return _folder("PROSTATEXFER_TEST_DATA", _SHARED / "data")


@pytest.fixture(scope="session")
def golden_data() -> Path:
    """The folder with results of the reference implementations."""
    return _folder("PROSTATEXFER_GOLDEN_DATA", _SHARED / "golden")


@pytest.fixture(scope="session")
def flower():
    """Flower's module `flwr.app`."""
    pytest.importorskip(
        "flwr", reason="flwr is not installed; it needs an environment of its own: see 'Flower' in docs/exchange.md"
    )
    import flwr.app

    return flwr.app


@pytest.fixture(scope="session")
def oblique_direction() -> tuple[float, ...]:
    """A right-handed direction, row by row, that is far from every patient axis."""
    left, _, right = np.linalg.svd(np.random.default_rng(7).normal(size=(3, 3)))
    return tuple((left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right).ravel())


@pytest.fixture(scope="session")
def random_network():
    """random_network("dinov3" | "mr_dinov3" | "dgcf", **options): a small network in eval mode, all weights drawn anew.

    Options: `seed`; for the DINOv3 and the encoder of an MR-DINOv3 those of its constructor (`width`, `qkv_bias`, ...);
    for an MR-DINOv3 also `heads_of`, a number of classes or a mapping from head name to one; for the DGCF those of its
    constructor.
    """
    import torch

    from ProstateXferLib.networks import DGCF, DINOv3, MRDINOv3
    from ProstateXferLib.networks.patch_decode import PatchDecode

    def filled(network: torch.nn.Module, seed: int) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in network.state_dict().items():
            if name.endswith(("periods", "bias_mask", "num_batches_tracked")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            scale = tensor.ndim == 1 and name.endswith(("weight", "gamma"))
            tensor.copy_(0.5 + noise.abs() if name.endswith("running_var") else 0.1 * noise + float(scale))
        return network.eval()

    def build(kind: str, *, seed: int = 0, heads_of=None, **options) -> torch.nn.Module:
        if kind == "dgcf":
            return filled(DGCF(**{"base_channels": 4, "feature_width": 64, **options}), seed)
        encoder = DINOv3(**{"width": 64, "depth": 4, "heads": 1, "hidden": 96, **options})
        if kind == "dinov3":
            return filled(encoder, seed)
        counts = heads_of or 3
        if isinstance(counts, int):
            heads = PatchDecode(4 * encoder.width, counts)
        else:
            heads = {name: PatchDecode(4 * encoder.width, count) for name, count in counts.items()}
        return filled(MRDINOv3(encoder, heads), seed)

    return build


@pytest.fixture
def shipped_folder(tmp_path, monkeypatch):
    """The shipped models folder of a made-up installation: empty, like the user's own, and there is no other."""
    folder = tmp_path / "Resources" / "Models"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PROSTATEXFER_RESOURCES", str(folder.parent))
    monkeypatch.delenv("PROSTATEXFER_MODELS", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return folder


# Tiny models whose right answer is known, for the tests of pipelines, training and the command line.


@pytest.fixture(scope="session")
def threshold_state():
    """Weights of an MR-DINOv3 that compares every pixel with thresholds, exactly: `state(head=(t1, t2, ...), ...)`.

    A head with thresholds t1 < t2 < ... gives class 0 below t1, class 1 between t1 and t2, and so on, whatever lies
    around the pixel; a head named in `inverted` looks at the negative of the image. The patch embedding copies the 256
    pixels of a patch into token channels, each with its negative beside it, and a constant as scale; the blocks are
    switched off (LayerScale 0). A pair (v, -v) has mean 0, so that LayerNorm only rescales it, and
    gelu(v) - gelu(-v) = v, so that every stage hands its quarter on unchanged.
    """
    import torch

    from ProstateXferLib.networks.dinov3 import DINOv3
    from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
    from ProstateXferLib.networks.patch_decode import PatchDecode

    width = 528

    def carry(weight, bias, source, target, quadrant):
        """out+ = in+ - in- and out- = in- - in+."""
        for sign in (0, 1):
            weight[2 * source + sign, 2 * target, *quadrant] = 1 - 2 * sign
            weight[2 * source + sign, 2 * target + 1, *quadrant] = 2 * sign - 1
        bias.zero_()

    def head_of(thresholds, sign):
        head = PatchDecode(width, len(thresholds) + 1)
        for stage, side in enumerate((16, 8, 4, 2)):
            convolution, half = head.decode[stage][0], side // 2
            weight = convolution.weight.data.zero_()
            for row, column in np.ndindex(side, side):
                quadrant, target = (row // half, column // half), (row % half) * half + column % half
                carry(weight, convolution.bias.data, row * side + column, target, quadrant)
            for quadrant in np.ndindex(2, 2):
                carry(weight, convolution.bias.data, side**2, half**2, quadrant)
        last = head.decode[4]
        last.weight.data.zero_()
        last.bias.data.zero_()
        for k in range(len(thresholds) + 1):  # logit k = 8 (k p - (t1 + ... + tk)): the upper envelope of lines
            slope, offset = 8.0 * k * sign, 8.0 * sum(thresholds[:k])
            last.weight.data[k, :4, 0, 0] = torch.tensor([slope, -slope, -offset, offset])
        return head

    encoder = DINOv3(width, 1, 4, hidden=4)
    for parameter in encoder.parameters():
        parameter.data.zero_()
    encoder.norm.weight.data.fill_(1)
    pixels = encoder.patch_embed.proj.weight.data
    for index, (row, column) in enumerate(np.ndindex(16, 16)):
        pixels[2 * index, 0, row, column], pixels[2 * index + 1, 0, row, column] = 1, -1
    encoder.patch_embed.proj.bias.data[512], encoder.patch_embed.proj.bias.data[513] = 1, -1

    def state(*, inverted=(), **heads):
        built = {name: head_of(limits, -1 if name in inverted else 1) for name, limits in heads.items()}
        return MRDINOv3(encoder, built).state_dict()

    return state


@pytest.fixture(scope="session")
def random_state():
    """Weights of a small random MR-DINOv3 whose logits depend on the whole slice: `state(seed, gland=2, dil=2)`."""
    import torch

    from ProstateXferLib.networks.dinov3 import DINOv3
    from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
    from ProstateXferLib.networks.patch_decode import PatchDecode

    def state(seed=0, *, encoder_seed=0, **classes):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(encoder_seed)
            encoder = DINOv3(64, 4, 2)
            encoder.init_weights()
            for name, parameter in encoder.named_parameters():
                if name.endswith("gamma"):
                    torch.nn.init.constant_(parameter, 1.0)
                elif parameter.ndim == 2:
                    parameter.data *= 4
            torch.manual_seed(1000 + seed)
            heads = {name: PatchDecode(256, count) for name, count in (classes or {"gland": 2}).items()}
            return MRDINOv3(encoder, heads).state_dict()

    return state


@pytest.fixture(scope="session")
def segmentation_card():
    """Cards for the networks above: gland and DIL heads by name; raw intensities from -1000..1000 to -1..1."""
    import dataclasses

    from ProstateXferLib.checkpoints.card import Head, ModelCard, Preprocessing
    from ProstateXferLib.images.intensity import IntensityRule
    from ProstateXferLib.images.structures import DIL, PROSTATE

    heads = {
        "gland": Head("gland", (PROSTATE.value,)),
        "dil": Head("dil", (DIL.value,), within="Prostate", margin_mm=3.0),
    }
    window = Preprocessing(IntensityRule("window", -1000.0, 1000.0))

    def card(*names, preprocessing=None, **changes):
        chosen = ModelCard(
            name="tiny",
            task="segmentation",
            architecture="mr_dinov3",
            preprocessing=window,
            structures=(PROSTATE, DIL) if "dil" in names else (PROSTATE,),
            heads=tuple(heads[name] for name in names),
        )
        merged = dataclasses.replace(window, **(preprocessing or {}))
        return dataclasses.replace(chosen, preprocessing=merged, **changes)

    return card


@pytest.fixture(scope="session")
def pointwise_state():
    """Weights of a guided DGCF whose output is tanh(input), pixel by pixel: `state(encoder=True)`.

    A channel with v and one with -v go through every GELU and give v back as gelu(v) - gelu(-v); all else is 0.
    """
    from ProstateXferLib.networks.dgcf import DGCF
    from ProstateXferLib.networks.dinov3 import DINOv3
    from ProstateXferLib.networks.guided_dgcf import GuidedDGCF

    generator, vit = DGCF(4, 32, fusion="none"), DINOv3(32, 4, 2)
    vit.init_weights()
    for name, value in generator.state_dict().items():
        if name.endswith("running_var"):
            value.fill_(1 - 1e-5)  # plus eps: the norm changes nothing
        elif value.ndim == 4:
            value.zero_()
    first, last = generator.encoder.enc1[0].block[0].weight.data, generator.decoder.out[0].block[0].weight.data
    for sign in (0, 1):
        first[sign, 0, 1, 1] = 1 - 2 * sign
        last[sign, 0, 1, 1], last[sign, 1, 1, 1] = 1 - 2 * sign, 2 * sign - 1
        generator.decoder.out[1].weight.data[0, sign, 1, 1] = 1 - 2 * sign
    generator.decoder.out[1].bias.data.zero_()
    weights = GuidedDGCF(generator, vit).state_dict()

    def state(*, encoder=True):
        return {key: value for key, value in weights.items() if encoder or key.startswith("generator.")}

    return state


@pytest.fixture(scope="session")
def synthesis_card():
    """A card for the network above: slices as they are, HU from -1024 to 2000."""
    import dataclasses

    from ProstateXferLib.checkpoints.card import ModelCard
    from ProstateXferLib.checkpoints.import_dgcf import HU_RANGE, dgcf_preprocessing

    def card(sequence="CBCT", *, resize_yx=None, **changes):
        preprocessing = dataclasses.replace(dgcf_preprocessing(sequence), resize_yx=resize_yx)
        fields = {"name": "tiny", "inputs": (sequence,), "preprocessing": preprocessing, "hu_range": HU_RANGE}
        return ModelCard(task="synthesis", architecture="dgcf", **(fields | changes))

    return card
