# SPDX-License-Identifier: Apache-2.0
"""Training heads on a frozen ViT-B/16 (MR-DINOv3): stored tokens against encoding the same batch in every step.

What can be won is bounded by the head: decoding a slice and going back costs twice as much as encoding it, so that
a head that learns from every token gains a half. A token's logits depend on it alone: a head that learns only near the
gland, or from few of the tokens away from it, gains much more. The bound from counting is printed first.
"""

import tempfile
from pathlib import Path

import torch
from mr_dinov3 import full_size
from rounds import best_seconds, report

from ProstateXferLib.checkpoints.card import Preprocessing
from ProstateXferLib.images.intensity import IntensityRule
from ProstateXferLib.images.structures import DIL, PROSTATE
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.progress import SilentProgress
from ProstateXferLib.training.cache.features import FeatureOptions, cached_features
from ProstateXferLib.training.cache.prepared import prepared_cases
from ProstateXferLib.training.datasets.case import Case
from ProstateXferLib.training.losses.dice_ce import DiceCEOptions
from ProstateXferLib.training.losses.token_subset import TokenShares
from ProstateXferLib.training.sampling.feature_slices import FeatureSliceOptions, FeatureSliceSamples
from ProstateXferLib.training.sampling.slices import SliceOptions, SliceSamples
from ProstateXferLib.training.tasks.segmentation_heads import head_target
from ProstateXferLib.training.tasks.segmentation_learner import TokenLearner

SIDE = 256
SPACING_MM = 0.75
BATCH = 4
LIMIT = 0.2
"""Of the time of a step that encodes: what is asked of a head that works near the gland, as inference runs it."""
NEAR = "lesion head, near the gland"


def main(rounds: int) -> None:
    """Print counts, then seconds a step with and without stored tokens."""
    network = full_size({"head": 2})
    network.dino_encoder.requires_grad_(False)
    rules = Preprocessing(IntensityRule("zscore"), spacing_yx_mm=(SPACING_MM, SPACING_MM))
    with tempfile.TemporaryDirectory() as folder:
        cases = [Case("phantom", "phantom", {}, attributes={"phantom_seed": 7})]
        prepared = prepared_cases(
            cases, rules, (PROSTATE, DIL), sequences=("T2w",), folder=Path(folder), progress=SilentProgress()
        )
        store = cached_features(
            network,
            prepared,
            folder=Path(folder),
            device=torch.device("cpu"),
            options=FeatureOptions(),
            progress=SilentProgress(),
        )
        images = SliceSamples(prepared, SliceOptions(foreground_share=0.5), 0)
        tokens = FeatureSliceSamples(store, FeatureSliceOptions(foreground_share=0.5), 0)
        _compare(network, images, tokens, store.stored_bytes / prepared[0].shape_zyx[0], rounds)


def _learners(network: MRDINOv3) -> dict[str, TokenLearner]:
    """The head as a gland head that learns from more or fewer tokens, and as a lesion head near the gland."""
    structures, loss = (PROSTATE, DIL), DiceCEOptions()
    gland, dil = (head_target("head", [structure.name], structures) for structure in structures)
    shares = {
        "gland head, every token": TokenShares(),
        "gland head, 0.3 / 0.6 of the others": TokenShares(0.3, 0.6),
        "gland head, 0.05 of the others": TokenShares(0.05, 0.05),
    }
    learners = {name: TokenLearner(network, [gland], {}, loss=loss, shares=share) for name, share in shares.items()}
    learners[NEAR] = TokenLearner(network, [dil], {"head": gland}, loss=loss, shares=TokenShares())
    return learners


def _compare(network: MRDINOv3, images: SliceSamples, tokens: FeatureSliceSamples, bytes_a_slice: float, rounds: int):
    # lr 0: every round does the same work. Fused: one pass over 25 million parameters instead of a dozen.
    optimiser = torch.optim.AdamW(network.heads["head"].parameters(), lr=0.0, fused=True)
    learners = _learners(network)
    _print_counts(network, learners, _batch(images), bytes_a_slice)
    for name, learner in learners.items():
        if "0.3" in name:
            continue  # the shipped model's shares: counted above

        def step(samples, learner=learner) -> float:
            loss, _ = learner(_batch(samples), 0)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            return loss.item()

        contenders = {"encoded anew": lambda step=step: step(images), "stored": lambda step=step: step(tokens)}
        best = best_seconds(contenders, 1 if "every" in name else max(2, rounds // 2))
        report(
            f"A step of {BATCH} slices of {SIDE} x {SIDE}: {name}",
            best,
            "encoded anew",
            {"stored": LIMIT} if name == NEAR else None,
        )
        anew, stored = best["encoded anew"], best["stored"]
        print(f"  steps a second {1 / anew:.3f} and {1 / stored:.3f}: {anew / stored:.2f} times as many")
        if name == NEAR:
            print(f"  loss {step(images):.6f}; from tokens in fp16 {step(tokens):.6f}")


def _batch(samples) -> dict[str, torch.Tensor]:
    found = [samples[index] for index in range(BATCH)]
    batch = {key: torch.stack([sample[key] for sample in found]) for key in found[0]}
    generator = torch.Generator().manual_seed(0)
    return batch | {"draw": torch.rand(BATCH, (SIDE // 16) ** 2, generator=generator)}


def _print_counts(network: MRDINOv3, learners: dict, batch: dict, bytes_a_slice: float) -> None:
    """FLOPs from the sizes of the matrices: forward twice the multiplications; what learns costs as much again for its
    weights, and for its inputs but for the first stage's, whose inputs are fixed."""
    encoder, head = network.dino_encoder, network.heads["head"]
    count = (SIDE // 16) ** 2
    linear = sum(p.numel() for name, p in encoder.named_parameters() if p.ndim == 2 and "token" not in name)
    attention = 2 * count * encoder.width * encoder.depth
    encode = 2 * count * (linear + attention + 3 * 256 * encoder.width)
    widths = [head.width // 2**stage for stage in range(5)]
    stages = [2 * 4**stage * 4 * widths[stage] * widths[stage + 1] for stage in range(4)]
    learn = 3 * sum(stages) - stages[0] + 3 * 2 * 256 * widths[4] * head.classes
    print(
        f"\nEncoding a slice: {encode / 1e9:.0f} GFLOP; decoding a token and learning from it: {learn / 1e9:.3f} GFLOP"
    )
    print(f"Stored: {bytes_a_slice / 1e6:.2f} MB a slice in fp16 (its image: {4 * SIDE**2 / 1e6:.2f} MB)")
    for name, learner in learners.items():
        (target,) = learner.targets
        chosen = learner._chosen(target, target.of(batch["labels"], batch["known"]), batch).sum().item()
        bound = 1 + BATCH * encode / (chosen * learn)
        print(f"  {name:<38} {chosen:4.0f} of {BATCH * count} tokens: at most {bound:5.2f} times as fast by counting")
