# SPDX-License-Identifier: Apache-2.0
"""One encoder, many heads, and only the tokens that matter: gland + DIL, and five folds, on one phantom slice.

Networks are full size with random weights, so what they find is not taken from their output: the gland of the phantom
stands for it, its body for what is not air. Five folds run the way of a `Segmenter`, slice decoder and all.
"""

import torch
from mr_dinov3 import full_size
from plain_mr_dinov3 import PlainMRDINOv3
from rounds import best_seconds, best_times, report, report_times

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.networks.dinov3 import PATCH
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner
from ProstateXferLib.pipelines.regions import body_threshold, body_tokens, tokens_near
from ProstateXferLib.pipelines.slice_decoder import HeadTask, SliceDecoder
from ProstateXferLib.pipelines.tiling import Tiling
from ProstateXferLib.progress import SilentProgress

SIDE = 320
SPACING_MM = 0.6
WIDE_SPACING_MM = 1.0  # 320 mm: a body-coil field of view, with air in the picture
MARGIN_MM = 5.0
FOLDS = tuple(f"fold{index}" for index in range(5))


def phantom_slice(spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A z-scored T2w slice (1, 1, H, W) through the gland and the gland's mask (1, H, W)."""
    import SimpleITK as sitk

    half = SIDE * spacing_mm / 2
    grid = Grid((SIDE, SIDE, 1), (spacing_mm, spacing_mm, 3.0), (-half, -half, 0.0))
    study = make_phantom(7).render(grid, modalities=("t2w",))
    image = torch.from_numpy(sitk.GetArrayFromImage(study.t2w)).float()
    labels = torch.from_numpy(sitk.GetArrayFromImage(study.labels))
    return ((image - image.mean()) / image.std())[None], labels > 0


def main(rounds: int) -> None:
    """Print both comparisons and check that labels inside the regions are those of the full decode."""
    image, gland = phantom_slice(SPACING_MM)
    size = (SIDE, SIDE)
    with torch.inference_mode():
        body = body_tokens(image, body_threshold(image[0]))
        near = tokens_near(gland, MARGIN_MM / SPACING_MM)
        print(f"\ntokens: {body.shape[1]} in all, {int(body.sum())} in the body, {int(near.sum())} near the gland")
        _gland_and_dil(image, size, body, near, rounds)
        _five_folds(image, gland, rounds)
        wide, gland = phantom_slice(WIDE_SPACING_MM)
        wide_body = body_tokens(wide, body_threshold(wide[0]))
        print(f"\nwith air in the picture: {int(wide_body.sum())} of {wide_body.shape[1]} tokens in the body")
        _five_folds(wide, gland, rounds)


def _gland_and_dil(image, size, body, near, rounds: int) -> None:
    network = full_size({"gland": 2, "dil": 2})

    def gland_alone() -> torch.Tensor:
        return network.decode_where("gland", network.encode(image), size, body)

    def both() -> torch.Tensor:
        tokens = network.encode(image)
        network.decode_where("gland", tokens, size, body)
        return network.decode_where("dil", tokens, size, near)

    best = best_seconds({"gland alone": gland_alone, "gland + DIL near the gland": both}, rounds)
    report("Two structures, one encoder", best, "gland alone", {"gland + DIL near the gland": 1.15})
    inside = near.view(1, size[0] // 16, size[1] // 16).repeat_interleave(16, 1).repeat_interleave(16, 2)
    full = network.decode(network.encode(image), size, ["dil"])["dil"].argmax(1)
    print(f"  labels that differ from the full decode in the region: {int((both().argmax(1) != full)[inside].sum())}")


class _SeesTheGland:
    """A network that works as hard as its own and then finds the phantom's gland (1, H, W)."""

    def __init__(self, network: MRDINOv3, gland: torch.Tensor) -> None:
        self._network, self.encode, self.parameters = network, network.encode, network.parameters
        self._odds = torch.where(gland, 40.0, -40.0)

    def decode_where(self, head: str, tokens, size, where, fill: float = 0.0) -> torch.Tensor:
        logits = self._network.decode_where(head, tokens, size, where, fill)
        decoded = where.view(1, size[0] // PATCH, -1).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
        logits[:, 1] += torch.where(decoded, self._odds, 0.0)
        return logits

    def decode_centres(self, head: str, tokens) -> torch.Tensor:
        logits = self._network.decode_centres(head, tokens)
        logits[..., 1] += self._odds[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].flatten(1)
        return logits


def _five_folds(image, gland, rounds: int) -> None:
    network = _SeesTheGland(full_size(dict.fromkeys(FOLDS, 2)), gland)
    single = PlainMRDINOv3(full_size()).eval()
    folds = [HeadTask(FOLDS[0], 2), *(HeadTask(fold, 2, like=FOLDS[0]) for fold in FOLDS[1:])]
    contenders = {
        "five plain networks": lambda: [single(image) for _ in FOLDS],
        "five networks, library": lambda: [_decoded(network, [HeadTask(fold, 2)], image) for fold in FOLDS],
        "five heads, one encoder, all in the body": lambda: _decoded(
            network, [HeadTask(fold, 2) for fold in FOLDS], image
        ),
        "five heads, one encoder": lambda: _decoded(network, folds, image),
    }
    best = best_times(contenders, max(1, rounds // 2))
    # 75 GFLOP a slice encode and 60 decode: five heads that decode every token are 375/675 of five networks, x0.56.
    for baseline in ("five plain networks", "five networks, library"):
        report_times(f"Five gland folds, against {baseline}", best, baseline, {"five heads, one encoder": 0.4})
    whole = _decoded(network, [HeadTask(fold, 2) for fold in FOLDS], image)
    grown = _decoded(network, folds, image)
    changed = sum(int((whole[fold].argmax(1) != grown[fold].argmax(1)).sum()) for fold in FOLDS)
    print(f"  labels of the five that differ from the full decode: {changed}")


def _decoded(network, tasks, image) -> dict[str, torch.Tensor]:
    """Logits (1, K, H, W) of every head, as a Segmenter makes them on a CPU."""
    tiling = Tiling.of(tuple(image.shape[-2:]), None)
    runner = AdaptiveRunner(lambda device: None, torch.device("cpu"), 1, SilentProgress())
    return SliceDecoder(network, tasks, tiling, skip_outside=True).run(image[0], runner, SilentProgress())
