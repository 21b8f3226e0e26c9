# SPDX-License-Identifier: Apache-2.0
"""The patch-decode head of MedDINOv3 and MR-DINOv3: tokens to per-pixel logits.

The published head is four stages of ConvTranspose2d (kernel 2, stride 2), LayerNorm over channels and GELU, then a
1 x 1 convolution. Stride equals kernel, so no output pixel sees two tokens: each stage is one matrix product per
token, and **the 16 x 16 logits of a token depend on that token alone**. We therefore run the whole head as linear
layers on a list of tokens, shuffle pixels once at the end, and can decode any subset of the tokens.
"""

import itertools
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.packed_linear import forget_packed, linear

NORM_EPS = 1e-6
"""eps of the channel LayerNorm between the stages (MedDINOv3, PatchDecode)."""
TOKENS_AT_ONCE = 48
"""Tokens decoded together on a CPU. The last stage holds 256 vectors per token; more tokens than this and the
activations leave the last-level cache, fewer and the matrix products get too thin (Testing/Benchmarks/mr_dinov3)."""


class PatchDecode(nn.Module):
    """Tokens of width E to `classes` logits at patch resolution; parameter names are the published ones.

    Args:
        width: E, channels of a token (all tapped blocks concatenated).
        classes: K, number of logits per pixel.
        patch: side of a token's patch in pixels, a power of two.
    """

    def __init__(self, width: int, classes: int, patch: int = 16) -> None:
        super().__init__()
        stages = int(math.log2(patch))
        if 2**stages != patch:
            raise ProstateXferError(f"A patch-decode head needs a patch size that is a power of two, not {patch}.")
        widths = [width // 2**i for i in range(stages + 1)]
        if widths[-1] < 1:
            raise ProstateXferError(f"Tokens of width {width} are too narrow for a patch-decode head of patch {patch}.")
        self.patch, self.width, self.classes = patch, width, classes
        layers = [
            nn.Sequential(nn.ConvTranspose2d(a, b, 2, stride=2), nn.LayerNorm(b, eps=NORM_EPS))
            for a, b in itertools.pairwise(widths)
        ]
        self.decode = nn.ModuleList([*layers, nn.Conv2d(widths[-1], classes, 1)])
        self.init_weights()

    @classmethod
    def sizes_of(cls, state: Mapping[str, Tensor], prefix: str = "") -> dict:
        """Constructor arguments read off a state dict whose keys start with `prefix`."""
        pattern = re.compile(re.escape(prefix) + r"decode\.(\d)\.\d\.")
        stages = 1 + max((int(found[1]) for found in map(pattern.match, state) if found), default=0)
        sizes = {"patch": 2**stages}
        for size, key in (("width", f"{prefix}decode.0.0.weight"), ("classes", f"{prefix}decode.{stages}.weight")):
            if key not in state:
                raise ProstateXferError(f"Key '{key}' is missing: this is not a complete patch-decode head.")
            if state[key].ndim != 4:
                raise ProstateXferError(
                    f"Key '{key}' has shape {tuple(state[key].shape)} where a patch-decode head needs four axes: "
                    "choose another file."
                )
            sizes[size] = state[key].shape[0]
        return sizes

    def init_weights(self) -> None:
        """He initialisation with slope 0.01 for the convolutions, as in MedDINOv3."""
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Feature map (B, E, h, w) -> logits (B, K, h * patch, w * patch)."""
        batch, _, rows, columns = features.shape
        logits = self.decode_tokens(features.flatten(2).transpose(1, 2).flatten(0, 1))
        return assemble_patches(logits.view(batch, rows, columns, *logits.shape[1:]))

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens (T, E) -> logits (T, K, patch, patch); any subset of an image's tokens in any order."""
        if torch.is_grad_enabled() or tokens.device.type != "cpu":
            return self._decode(tokens)
        parts = [self._decode(part) for part in tokens.split(TOKENS_AT_ONCE)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def decode_centres(self, tokens: Tensor) -> Tensor:
        """Tokens (T, E) -> logits (T, K) of the pixel at row and column patch / 2 of each patch.

        A pixel has one ancestor in every stage, and only those are computed: at patch 16, 1/12 of the whole decode.
        """
        x, child = tokens, _last_child  # patch / 2 is 1000 in binary digits
        for convolution, norm in self.decode[:-1]:
            x = linear(convolution, x, convolution.weight, convolution.bias, matrix_of=child)
            x = F.gelu(F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
            child = _first_child
        return F.linear(x, self.decode[-1].weight.flatten(1), self.decode[-1].bias)

    def _decode(self, tokens: Tensor) -> Tensor:
        count, stages = len(tokens), len(self.decode) - 1
        x = tokens
        for convolution, norm in self.decode[:-1]:
            x = _upsampled(convolution, x)
            x = F.gelu(F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        last = self.decode[-1]
        x = F.linear(x, last.weight.flatten(1), last.bias)
        # Stage i appended (dy_i, dx_i) to the row index; the pixel's row is dy_1 dy_2 ... read as binary digits.
        x = x.view(count, *(2,) * (2 * stages), self.classes)
        y_digits, x_digits = range(1, 2 * stages, 2), range(2, 2 * stages + 1, 2)
        return x.permute(0, 2 * stages + 1, *y_digits, *x_digits).reshape(count, self.classes, self.patch, self.patch)


def _upsampled(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """(T, in) -> (4 T, out): four pixels in the place of each, in the order dy, dx."""
    outputs = convolution.out_channels
    if torch.is_grad_enabled() and len(x) < convolution.in_channels:
        # In training the weights change every step: with few rows it is cheaper to turn the result around than the
        # weights there and their gradient back. A step on 80 tokens of width 3072 takes half the time.
        forget_packed(convolution)
        y = F.linear(x, convolution.weight.flatten(1).t(), convolution.bias.repeat_interleave(4))
        return y.view(len(x), outputs, 4).transpose(1, 2).reshape(-1, outputs)
    y = linear(convolution, x, convolution.weight, convolution.bias.repeat(4), matrix_of=_as_matrix)
    return y.view(-1, outputs)


def _as_matrix(weight: Tensor) -> Tensor:
    """ConvTranspose2d weight (in, out, 2, 2) as a matrix (2 * 2 * out, in): row order dy, dx, out."""
    return weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])


def _first_child(weight: Tensor) -> Tensor:
    """The part (out, in) that makes the upper left of the four pixels."""
    return weight[:, :, 0, 0].t()


def _last_child(weight: Tensor) -> Tensor:
    """The part (out, in) that makes the lower right one."""
    return weight[:, :, 1, 1].t()


def assemble_patches(patches: Tensor) -> Tensor:
    """Patches (B, h, w, K, p, p) of a row-major token grid -> image (B, K, h * p, w * p)."""
    batch, rows, columns, classes, patch, _ = patches.shape
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, classes, rows * patch, columns * patch)
