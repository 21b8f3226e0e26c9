# SPDX-License-Identifier: Apache-2.0
"""Full-size DGCF (c = 64, cnn fusion, one 256 x 256 slice) against its plain transcription.

Counted: 191 GFLOP plainly; 160 GFLOP after convolving small maps before they are upsampled.
"""

import copy

import torch
from plain_dgcf import PlainDGCF
from rounds import best_seconds, report

from ProstateXferLib.networks.dgcf import DGCF

SIDE = 256
HU_PER_UNIT = 1512.0
LIMITS = {"library, fp32": 0.85, "library, bf16": 0.27}


def full_size() -> DGCF:
    """c = 64 with random weights, batch-norm statistics away from 0 and 1, and an output that fills (-1, 1)."""
    torch.manual_seed(0)
    network = DGCF(64, 768).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    with torch.no_grad():
        network.decoder.out[1].weight.mul_(30)
    return network


def main(rounds: int) -> None:
    """Print the times of one slice and how far the results are apart."""
    network = full_size()
    plain = PlainDGCF(copy.deepcopy(network)).eval()
    network = network.to(memory_format=torch.channels_last)
    reduced = copy.deepcopy(network).bfloat16()
    image, features = torch.rand(1, 1, SIDE, SIDE) * 2 - 1, torch.randn(1, 4, (SIDE // 16) ** 2, 768)
    with torch.inference_mode():
        ours, theirs = network(image, features), plain(image, features)
        short = reduced(image.bfloat16(), features.bfloat16()).float()
        best = best_seconds(
            {
                "plain, fp32": lambda: plain(image, features),
                "library, fp32": lambda: network(image, features),
                "library, bf16": lambda: reduced(image.bfloat16(), features.bfloat16()),
            },
            rounds,
        )
    report(f"DGCF c=64 cnn, {SIDE} x {SIDE}, {torch.get_num_threads()} threads", best, "plain, fp32", LIMITS)
    print(f"  largest difference in fp32 {(ours - theirs).abs().max():.1e} (asked <= 1e-4)")
    print(
        f"  output spread {ours.std() * HU_PER_UNIT:.0f} HU; bf16 moves it by {_mean_hu(ours, short):.2f} HU on average"
    )


def _mean_hu(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().mean()) * HU_PER_UNIT
