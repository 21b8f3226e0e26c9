# SPDX-License-Identifier: Apache-2.0
"""Full-size MR-DINOv3 (ViT-B/16, 2 classes, one 320 x 320 slice) against its plain transcription.

Counted: encoder 75 GFLOP, head 60 GFLOP, of which the plain head moves 1.1 GB through LayerNorm and GELU.
"""

import copy

import torch
from plain_mr_dinov3 import PlainMRDINOv3
from rounds import best_seconds, report

from ProstateXferLib.networks.dinov3 import DINOv3
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.networks.patch_decode import PatchDecode

SIDE = 320
LIMITS = {"library, fp32": 0.60, "library, bf16": 0.27}


def full_size(heads: dict[str, int] | None = None) -> MRDINOv3:
    """A ViT-B/16 network with random weights in which every part matters; one published head, or named ones."""
    torch.manual_seed(0)
    encoder = DINOv3(768, 12, 12)
    encoder.init_weights()
    for name, parameter in encoder.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(parameter, 0.3)
    made = {name: PatchDecode(4 * 768, classes) for name, classes in (heads or {}).items()}
    return MRDINOv3(encoder, made or PatchDecode(4 * 768, 2)).eval()


def main(rounds: int) -> None:
    """Print the times of one slice and how far the results are apart."""
    network = full_size()
    plain, reduced = PlainMRDINOv3(network).eval(), copy.deepcopy(network).bfloat16()
    image = torch.randn(1, 1, SIDE, SIDE)
    with torch.inference_mode():
        ours, theirs = network(image), plain(image)["segmentation"]
        short = reduced(image.bfloat16()).float()
        best = best_seconds(
            {
                "plain, fp32": lambda: plain(image),
                "library, fp32": lambda: network(image),
                "library, bf16": lambda: reduced(image.bfloat16()),
            },
            rounds,
        )
    report(f"MR-DINOv3 ViT-B/16, {SIDE} x {SIDE}, {torch.get_num_threads()} threads", best, "plain, fp32", LIMITS)
    changed = (short.argmax(1) != ours.argmax(1)).sum().item()
    print(f"  largest logit difference in fp32 {(ours - theirs).abs().max():.1e} (asked <= 1e-4)")
    print(f"  bf16 changes {changed} of {SIDE * SIDE} labels ({changed / SIDE**2:.2%}; random weights, no margin)")
