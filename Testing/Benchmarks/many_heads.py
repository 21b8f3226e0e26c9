# SPDX-License-Identifier: Apache-2.0
"""One encoder, many heads, and only the tokens that matter: gland + DIL, and five folds, on one phantom slice.

Networks are full size with random weights, so the regions are not taken from their output: the gland of the phantom
stands for what the gland head would find, its body for what is not air.
"""

import torch
from mr_dinov3 import full_size
from plain_mr_dinov3 import PlainMRDINOv3
from rounds import best_seconds, report

from ProstateXferLib.images.grid import Grid
from ProstateXferLib.images.phantom import make_phantom
from ProstateXferLib.pipelines.regions import body_threshold, body_tokens, tokens_near

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
        _five_folds(image, size, body, rounds)
        wide, _ = phantom_slice(WIDE_SPACING_MM)
        wide_body = body_tokens(wide, body_threshold(wide[0]))
        print(f"\nwith air in the picture: {int(wide_body.sum())} of {wide_body.shape[1]} tokens in the body")
        _five_folds(wide, size, wide_body, rounds)


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


def _five_folds(image, size, body, rounds: int) -> None:
    network = full_size(dict.fromkeys(FOLDS, 2))
    single = PlainMRDINOv3(full_size()).eval()

    def shared() -> None:
        tokens = network.encode(image)
        for fold in FOLDS:
            network.decode_where(fold, tokens, size, body)

    def five_library() -> None:
        for fold in FOLDS:
            network.decode(network.encode(image), size, [fold])

    def five_plain() -> None:
        for _ in FOLDS:
            single(image)

    contenders = {
        "five networks, library, everything decoded": five_library,
        "five plain networks": five_plain,
        "five heads, one encoder": shared,
    }
    best = best_seconds(contenders, max(1, rounds // 2))
    # 75 GFLOP a slice encode and 60 decode: without skipped tokens five heads cannot take less than 375/675 of five
    # networks of this library, which is x0.56.
    for baseline in ("five plain networks", "five networks, library, everything decoded"):
        report(f"Five gland folds, against {baseline}", best, baseline, {"five heads, one encoder": 0.4})
