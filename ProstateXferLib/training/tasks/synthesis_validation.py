# SPDX-License-Identifier: Apache-2.0
"""Validation of a synthesis stage: the SSIM that selects checkpoints, and the error in HU."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ProstateXferLib.metrics.sct import slice_ssim
from ProstateXferLib.networks.guided_dgcf import GuidedDGCF
from ProstateXferLib.progress import Progress, raise_if_cancelled
from ProstateXferLib.training.cache.pairs import PreparedPair
from ProstateXferLib.training.cache.slice_features import SliceFeatures


def validate_pairs(
    network: GuidedDGCF,
    pairs: Sequence[PreparedPair],
    *,
    hu_range: tuple[float, float],
    batch_size: int,
    batch_mean: bool,
    features: SliceFeatures | None,
    progress: Progress,
) -> dict[str, float]:
    """Means over all slices that show something of the body; {} without pairs.

    Args:
        network: in evaluation mode.
        pairs: whole cases, every slice of them.
        hu_range: HU of -1 and 1.
        batch_size: slices translated at once.
        batch_mean: the reference's mean of batch means over all slices, those without body with an SSIM of 1.
        features: stored tokens of the frozen encoder.
        progress: told every case; asked whether to stop.

    Returns:
        "ssim": the masked 2-D SSIM of network output (dgcf.md, section 6.1); "mae_hu": mean absolute error in the body.
    """
    if not pairs:
        return {}
    similar, batches, error, pixels = [], [], 0.0, 0
    for index, pair in enumerate(pairs):
        raise_if_cancelled(progress)
        progress.update("validate", index / len(pairs), f"case {pair.case_id}")
        target, body = pair.target, pair.body
        for first, made in _translated(network, pair, batch_size, features):
            found = []
            for z, fake in enumerate(made, start=first):
                inside = np.array(body[z])
                error += float(np.abs(fake.astype(np.float64) - target[z])[inside].sum())
                pixels += int(inside.sum())
                if batch_mean or inside.any():
                    found.append(slice_ssim(np.array(target[z]), fake, inside))
            similar += found
            batches += [float(np.mean(found))] if found else []
    per_unit = (hu_range[1] - hu_range[0]) / 2
    values = batches if batch_mean else similar
    return {
        "ssim": float(np.mean(values)) if values else float("nan"),
        "mae_hu": per_unit * error / pixels if pixels else float("nan"),
    }


def _translated(
    network: GuidedDGCF, pair: PreparedPair, batch_size: int, features: SliceFeatures | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Number of the first slice and network output (n, H, W), batch by batch."""
    source = pair.source
    device = next(network.parameters()).device
    for first in range(0, len(source), batch_size):
        image = torch.from_numpy(np.array(source[first : first + batch_size]))[:, None].to(device)
        with torch.inference_mode():
            if features is None:
                made = network(image)
            else:
                tokens = [features.of(pair, z) for z in range(first, first + len(image))]
                made = network.generator(image, torch.stack(tokens).to(device))
        yield first, made[:, 0].float().cpu().numpy()
