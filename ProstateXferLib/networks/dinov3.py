# SPDX-License-Identifier: Apache-2.0
"""DINOv3 vision transformer (patch 16), the frozen encoder of MR-DINOv3 and the feature source of DGCF.

Source: Siméoni et al., DINOv3, arXiv 2508.10104; parameter names are those of Meta's released files, so that a
state dict of ours is one of theirs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.packed_linear import linear
from ProstateXferLib.networks.rope import rope_periods, rope_tables, rotate
from ProstateXferLib.networks.weight_cache import weights_key

OFFICIAL_EPS = 1e-5
"""LayerNorm eps of Meta's releases (their name for it is "layernormbf16")."""
MEDDINOV3_EPS = 1e-6
"""LayerNorm eps of MedDINOv3, which kept the constructor's default."""
PATCH = 16
LARGEST_PLAIN_ATTENTION = 1100
"""Tokens up to which the scores of all heads (12 x N x N, bf16) stay around the last-level cache."""


class KeyMaskedLinear(nn.Linear):
    """The fused q, k, v projection whose bias is switched off for the keys by a stored mask."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=True)
        mask = torch.ones(outputs)
        mask[outputs // 3 : 2 * outputs // 3] = 0
        self.register_buffer("bias_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, inputs) -> (B, N, outputs)."""
        return linear(self, x, self.weight, self.bias * self.bias_mask)


class PlainLinear(nn.Linear):
    """A linear layer without bias whose weights are packed on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, inputs) -> (B, N, outputs)."""
        return linear(self, x, self.weight, self.bias)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (B, heads, N, d).

    PyTorch's fused CPU kernel computes bf16 at fp32 speed; two plain products with a softmax between are twice as fast
    as long as the scores of a slice stay small.
    """
    small = q.shape[-2] <= LARGEST_PLAIN_ATTENTION
    if q.dtype != torch.bfloat16 or q.device.type != "cpu" or torch.is_grad_enabled() or not small:
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return torch.softmax(scores, dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention with RoPE on queries and keys."""

    def __init__(self, width: int, heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = KeyMaskedLinear(width, 3 * width) if qkv_bias else PlainLinear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C); sin and cos (N, C / heads)."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, heads, N, head_width)
        q, k = rotate(qkv[:2], sin, cos)
        out = attend(q, k, qkv[2]).transpose(1, 2).reshape(batch, tokens, width)
        return linear(self.proj, out, self.proj.weight, self.proj.bias)


class FeedForward(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        hidden = linear(self.fc1, x, self.fc1.weight, self.fc1.bias, gelu=True)
        return linear(self.fc2, hidden, self.fc2.weight, self.fc2.bias)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, width: int, start: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """x + gamma * branch, each (B, N, C), in one pass over memory."""
        return torch.addcmul(x, self.gamma, branch)


class Add(nn.Module):
    """The plain residual sum of networks without LayerScale."""

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """x + branch, each (B, N, C)."""
        return x + branch


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, *, qkv_bias: bool, eps: float, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, qkv_bias=qkv_bias)
        self.ls1 = LayerScale(width) if layer_scale else Add()
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden)
        self.ls2 = LayerScale(width) if layer_scale else Add()

    def forward(self, x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = self.ls1(self.attn(self.norm1(x), sin, cos), x)
        return self.ls2(self.mlp(self.norm2(x)), x)


class PatchEmbed(nn.Module):
    """Non-overlapping 16 x 16 patches to tokens, row-major."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, H/16 * W/16, C)."""
        return self.proj(image).flatten(2).transpose(1, 2)


class _RopeBuffer(nn.Module):
    """Holds the stored periods under the name that Meta's files use (`rope_embed.periods`)."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("periods", rope_periods(head_width))


class DINOv3(nn.Module):
    """DINOv3 ViT with storage tokens, RoPE, LayerScale and the masked key bias.

    Args:
        width: channels C of a token.
        depth: number of blocks.
        heads: attention heads; C / heads must be a multiple of 4.
        hidden: width of the feed-forward layer, default 4 C.
        storage_tokens: register tokens after the class token.
        qkv_bias: False for MedDINOv3, whose qkv layer has neither bias nor mask.
        layer_scale: whether residual branches are scaled.
        channels: image channels, 3 in all published files.
        eps: LayerNorm eps, 1e-5 for Meta's files and 1e-6 for MedDINOv3.
        rope_dtype: dtype of the position tables, float32 for Meta's files and bfloat16 for MedDINOv3.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        hidden: int | None = None,
        storage_tokens: int = 4,
        qkv_bias: bool = True,
        layer_scale: bool = True,
        channels: int = 3,
        eps: float = OFFICIAL_EPS,
        rope_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if width % heads or (width // heads) % 4:
            raise ProstateXferError(
                f"A DINOv3 of width {width} cannot have {heads} heads: the head width must be a whole multiple of 4."
            )
        self.width, self.depth, self.heads = width, depth, heads
        self.hidden = hidden or 4 * width
        self.eps, self.rope_dtype = eps, rope_dtype
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if storage_tokens:
            self.storage_tokens = nn.Parameter(torch.zeros(1, storage_tokens, width))
        self.prefix = 1 + storage_tokens
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = PatchEmbed(channels, width)
        self.rope_embed = _RopeBuffer(width // heads)
        self.blocks = nn.ModuleList(
            Block(width, heads, self.hidden, qkv_bias=qkv_bias, eps=eps, layer_scale=layer_scale) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        self._tables: dict[tuple, tuple[Tensor, Tensor]] = {}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], eps: float | None = None, rope_dtype: torch.dtype | str | None = None
    ) -> "DINOv3":
        """Build the network whose weights these are: Meta, Hugging Face, timm or MedDINOv3 names.

        Sizes are read off the tensors; `eps` and `rope_dtype` (a torch dtype or "fp32"/"bf16") override what the naming
        implies. Loading is strict.

        Raises:
            ProstateXferError: naming the first key that is missing, unknown or of the wrong shape.
        """
        from ProstateXferLib.networks.dinov3_names import build_dinov3

        return build_dinov3(cls, state, eps=eps, rope_dtype=rope_dtype)

    def init_weights(self) -> None:
        """Meta's initialisation: truncated normal 0.02, zero biases, LayerScale 1e-5 (dinov3 specification 1.5)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        bound = (1 / (self.patch_embed.proj.in_channels * PATCH**2)) ** 0.5
        nn.init.uniform_(self.patch_embed.proj.weight, -bound, bound)
        nn.init.zeros_(self.patch_embed.proj.bias)
        nn.init.normal_(self.cls_token, std=0.02)
        if self.prefix > 1:
            nn.init.normal_(self.storage_tokens, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) -> normed class token (B, C)."""
        return self.features(image)["class"]

    def features(self, image: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """All tokens after the last block.

        Args:
            image: (B, channels, H, W), H and W multiples of 16.
            mask: (B, H/16 * W/16) bool; masked patches are replaced by the mask token (iBOT).

        Returns:
            "class" (B, C), "storage" (B, R, C), "patches" (B, HW, C), all normed, and "prenorm" (B, 1+R+HW, C).
        """
        x, sin, cos = self._embed(image, mask)
        for block in self.blocks:
            x = block(x, sin, cos)
        normed = self.norm(x)
        return {
            "class": normed[:, 0],
            "storage": normed[:, 1 : self.prefix],
            "patches": normed[:, self.prefix :],
            "prenorm": x,
        }

    def intermediate(
        self, image: Tensor, blocks: Sequence[int] = (2, 5, 8, 11), norm: bool = True, prefix: bool = False
    ) -> list[Tensor]:
        """Patch tokens after the given 0-based blocks, in ascending block order.

        Args:
            image: (B, channels, H, W), H and W multiples of 16.
            blocks: 0-based indices of the blocks whose output is taken.
            norm: whether the final LayerNorm is applied to every one of them (as the references do).
            prefix: also return the class and storage tokens in front of the patch tokens.

        Returns:
            One (B, N, C) tensor per block; N = H/16 * W/16 row-major, plus 1 + R in front with `prefix`.

        Raises:
            ProstateXferError: a block that this network does not have, or an image size that is no multiple of 16.
        """
        wanted = set(blocks)
        if not wanted or min(wanted) < 0 or max(wanted) >= self.depth:
            raise ProstateXferError(
                f"This DINOv3 has {self.depth} blocks (0 to {self.depth - 1}); blocks {tuple(blocks)} were asked for."
            )
        x, sin, cos = self._embed(image, None)
        taken = []
        for index, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x, sin, cos)
            if index in wanted:
                tokens = x if prefix else x[:, self.prefix :]
                taken.append(self.norm(tokens) if norm else tokens)
        return taken

    def _embed(self, image: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = self._token_grid(image)
        patches = self.patch_embed(image)
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        extra = [self.cls_token] if self.prefix == 1 else [self.cls_token, self.storage_tokens]
        x = torch.cat([*(token.expand(len(patches), -1, -1) for token in extra), patches], dim=1)
        return x, *self._position_tables(rows, columns, x)

    def _token_grid(self, image: Tensor) -> tuple[int, int]:
        height, width = image.shape[-2:]
        if height % PATCH or width % PATCH or not height or not width:
            raise ProstateXferError(
                f"DINOv3 takes images whose sides are multiples of {PATCH} pixels; got {height} x {width}: pad "
                "or resize."
            )
        return height // PATCH, width // PATCH

    def _position_tables(self, rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
        # In reduced precision the rotation runs in the activations' dtype: tables are made in rope_dtype, then rounded.
        target = self.rope_dtype if like.dtype == torch.float32 else like.dtype
        periods = self.rope_embed.periods
        key = (rows, columns, target, weights_key([periods]))
        if key not in self._tables:
            self._tables.clear()  # a study has one slice size; keeping one table is enough
            with torch.inference_mode(False), torch.no_grad():
                sin, cos = rope_tables(rows, columns, periods.float(), dtype=self.rope_dtype, prefix=self.prefix)
                self._tables[key] = (sin.to(target), cos.to(target))
        return self._tables[key]
