# SPDX-License-Identifier: Apache-2.0
"""An encoder's fingerprint: equal ones give equal tokens, which are shared or kept under it."""

import hashlib
from collections.abc import Sequence

from ProstateXferLib.networks.dinov3 import DINOv3


def encoder_sha256(encoder: DINOv3, blocks: Sequence[int]) -> str:
    """The sha256 over everything that its tokens depend on: weights, buffers, sizes, eps, RoPE dtype, tapped blocks."""
    settings = (tuple(blocks), encoder.heads, encoder.eps, str(encoder.rope_dtype))
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
