# SPDX-License-Identifier: Apache-2.0
"""One optimiser step (forward, loss, backward, optimiser) against the plain transcription, fp32, 256 x 256 slices.

MR-DINOv3: frozen ViT-B/16, one head of two classes, every token decoded, Dice + cross-entropy, AdamW, one slice.
DGCF: generator with c = 64 and cnn fusion on given tokens, L1, Adam, one slice.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from dgcf import full_size as full_size_dgcf
from mr_dinov3 import full_size as full_size_mr_dinov3
from plain_dgcf import PlainDGCF
from plain_mr_dinov3 import PlainMRDINOv3
from rounds import best_seconds, report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ProstateXferLib.networks.dgcf import DGCF
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions, dice_ce
from ProstateXferLib.training.losses.token_subset import label_patches

SIDE = 256
SLICES = 1
MOST_ROUNDS = 3
"""A step takes seconds."""
LIMITS = {"library": 1.0}


@dataclass(frozen=True)
class Step:
    """A loss and what moves along its gradient."""

    loss: Callable[[], Tensor]
    optimiser: torch.optim.Optimizer

    def run(self) -> Tensor:
        """One step; the loss before it."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimiser.step()
        return loss.detach()


def main(rounds: int) -> None:
    """Print what a step takes, counted and measured."""
    rounds = min(rounds, MOST_ROUNDS)
    compare("MR-DINOv3 training step, frozen ViT-B/16", mr_dinov3_steps(), rounds)
    compare("DGCF training step, c = 64, cnn", dgcf_steps(), rounds)


def compare(title: str, steps: dict[str, Step], rounds: int) -> None:
    """Count first, then check that both do the same, then measure."""
    for name, step in steps.items():
        gigaflop, saved = counted(step)
        print(f"\n{title}, {name}: {gigaflop:.0f} GFLOP counted, {saved / 1e9:.2f} GB kept for the backward pass")
    first = {name: float(step.loss().detach()) for name, step in steps.items()}
    gradients = {name: gradient(step) for name, step in steps.items()}
    apart = (gradients["library"] - gradients["plain"]).norm() / gradients["plain"].norm()
    best = best_seconds({name: step.run for name, step in steps.items()}, rounds)
    report(f"{title}, {SIDE} x {SIDE}, {torch.get_num_threads()} threads", best, "plain", LIMITS)
    print(f"  first losses {first['plain']:.6f} and {first['library']:.6f}; gradients {float(apart):.1e} apart")


def counted(step: Step) -> tuple[float, int]:
    """GFLOP of a step (2 per multiply-add) and bytes of activations that autograd keeps, weights left out."""
    weights = {p.data_ptr() for group in step.optimiser.param_groups for p in group["params"]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    known = {torch.ops.mkldnn._linear_pointwise: packed_product}
    with (
        FlopCounterMode(display=False, custom_mapping=known) as flops,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        step.loss().backward()
    return flops.get_total_flops() / 1e9, sum(kept.values())


def packed_product(x_shape: tuple, *_: object, out_shape: tuple, **__: object) -> int:
    """Operations of a linear layer with packed weights (networks/packed_linear.py), which PyTorch does not count."""
    return 2 * math.prod(x_shape) * out_shape[-1]


def gradient(step: Step) -> Tensor:
    """All gradients of a step as one vector."""
    step.optimiser.zero_grad(set_to_none=True)
    step.loss().backward()
    parameters = (p for group in step.optimiser.param_groups for p in group["params"])
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def mr_dinov3_steps() -> dict[str, Step]:
    """The supervised stage of MR-DINOv3."""
    network, (image, labels) = full_size_mr_dinov3(), labelled_slices()
    network.dino_encoder.requires_grad_(False)
    twin = copy.deepcopy(network)
    plain = PlainMRDINOv3(twin)
    return {
        "plain": Step(lambda: plain_head_loss(plain, image, labels), adamw(twin)),
        "library": Step(lambda: library_head_loss(network, image, labels), adamw(network)),
    }


def plain_head_loss(plain: PlainMRDINOv3, image: Tensor, labels: Tensor) -> Tensor:
    """As one would first write it: tokens without gradients, the head as published, the loss on the image."""
    rows, columns = image.shape[-2] // 16, image.shape[-1] // 16
    with torch.no_grad():
        tokens = plain.plain_encoder(image.repeat(1, 3, 1, 1))
        maps = torch.cat([t.transpose(1, 2).reshape(len(t), -1, rows, columns) for t in tokens], dim=1)
    return dice_ce(plain.heads["segmentation"](maps), labels, DiceCEOptions())


def library_head_loss(network: MRDINOv3, image: Tensor, labels: Tensor) -> Tensor:
    """As `training/tasks/segmentation_learner.py` does, with every token decoded."""
    with torch.no_grad():
        tokens = network.encode(image)
    logits = network.heads["segmentation"].decode_tokens(tokens.flatten(0, 1))
    return dice_ce(logits, label_patches(labels).flatten(0, 1), DiceCEOptions())


def dgcf_steps() -> dict[str, Step]:
    """The generator's step of DGCF, tokens given."""
    torch.manual_seed(1)
    image, target = torch.rand(1, 1, SIDE, SIDE) * 2 - 1, torch.rand(1, 1, SIDE, SIDE) * 2 - 1
    features = torch.randn(1, 4, (SIDE // 16) ** 2, 768)
    network: DGCF = full_size_dgcf().train()
    twin = copy.deepcopy(network)
    plain = PlainDGCF(twin)
    network = network.to(memory_format=torch.channels_last)
    return {
        "plain": Step(lambda: (plain(image, features) - target).abs().mean(), adam(twin)),
        "library": Step(lambda: (network(image, features) - target).abs().mean(), adam(network)),
    }


def labelled_slices() -> tuple[Tensor, Tensor]:
    """Noise (B, 1, H, W) and a disc in its middle (B, H, W)."""
    torch.manual_seed(1)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    disc = ((y - SIDE // 2) ** 2 + (x - SIDE // 2) ** 2 < (SIDE // 6) ** 2).long()
    return torch.randn(SLICES, 1, SIDE, SIDE), disc.expand(SLICES, -1, -1)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    """MR-DINOv3's optimiser of its heads."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=3e-4, betas=(0.9, 0.98), weight_decay=0.05)


def adam(network: nn.Module) -> torch.optim.Optimizer:
    """DGCF's."""
    return torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.99, 0.999))
