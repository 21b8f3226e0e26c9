# SPDX-License-Identifier: Apache-2.0
"""MR-DINOv3: a frozen DINOv3 encoder and one or more patch-decode heads on its multi-scale tokens.

Source: MR-DINOv3 (AAPM 2026, abstract 2441); architecture and parameter names of MedDINOv3's Primus_Multiscale
(arXiv 2509.02379), so that its published segmentation weights load as they are.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.dinov3 import PATCH, DINOv3
from ProstateXferLib.networks.patch_decode import PatchDecode, assemble_patches
from ProstateXferLib.networks.strict import check_tensors, load_strictly

ENCODER_PREFIX = "dino_encoder."
HEAD_PREFIX = "up_projection."


def default_blocks(depth: int, taps: int) -> tuple[int, ...]:
    """0-based blocks that feed the heads: (2, 5, 8, 11) for ViT-S/B, Meta's choice for ViT-L, else evenly spread."""
    if depth == 24 and taps == 4:
        return (4, 11, 17, 23)
    return tuple((i + 1) * depth // taps - 1 for i in range(taps))


def tapped_blocks(depth: int, taps: int, blocks: Sequence[int] | None) -> tuple[int, ...]:
    """The blocks asked for, or the usual ones.

    Raises:
        ProstateXferError: a block that the encoder does not have, or an order in which it cannot hand them out.
    """
    chosen = tuple(blocks) if blocks is not None else default_blocks(depth, taps)
    if list(chosen) != sorted({*chosen} & {*range(depth)}):
        raise ProstateXferError(
            f"The encoder's blocks {chosen} cannot be tapped: name some of 0 to {depth - 1}, each once, shallow first."
        )
    return chosen


class MRDINOv3(nn.Module):
    """One encoder, many heads: each slice is encoded once, however many structures or folds are decoded from it.

    With a single head the parameters are named as published (`up_projection.decode.*`); with several, the head's name
    stands between (`up_projection.gland.decode.*`).

    Args:
        encoder: the DINOv3.
        heads: one `PatchDecode`, or a mapping from head name to one.
        blocks: 0-based encoder blocks, shallow first, whose normed patch tokens are concatenated in this order.
    """

    def __init__(
        self, encoder: DINOv3, heads: PatchDecode | Mapping[str, PatchDecode], blocks: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.dino_encoder = encoder
        self.up_projection = heads if isinstance(heads, PatchDecode) else nn.ModuleDict(heads)
        taps = next(iter(self.heads.values())).width // encoder.width
        self.blocks = tapped_blocks(encoder.depth, taps, blocks)
        for name, head in self.heads.items():
            if head.width != encoder.width * len(self.blocks) or head.patch != PATCH:
                raise ProstateXferError(
                    f"Head '{name}' takes tokens of width {head.width} and patch {head.patch}, but blocks "
                    f"{self.blocks} of this encoder give width {encoder.width * len(self.blocks)} and patch {PATCH}."
                )

    @property
    def heads(self) -> dict[str, PatchDecode]:
        """The heads by name; a single published head is called "segmentation"."""
        if isinstance(self.up_projection, PatchDecode):
            return {"segmentation": self.up_projection}
        return dict(self.up_projection.items())

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Tensor],
        eps: float | None = None,
        rope_dtype: torch.dtype | str | None = None,
        blocks: Sequence[int] | None = None,
    ) -> "MRDINOv3":
        """Build from `dino_encoder.*` and `up_projection.*` weights; sizes are read off the tensors, loading is strict.

        Raises:
            ProstateXferError: naming the first key that is missing, unknown or of the wrong shape.
        """
        check_tensors(state)
        for key in state:
            if not key.startswith((ENCODER_PREFIX, HEAD_PREFIX)):
                raise ProstateXferError(
                    f"Key '{key}' does not belong to an MR-DINOv3 (dino_encoder.*, up_projection.*): choose "
                    "another file."
                )
        encoder_state = {k.removeprefix(ENCODER_PREFIX): v for k, v in state.items() if k.startswith(ENCODER_PREFIX)}
        if not encoder_state:
            raise ProstateXferError(
                "Key 'dino_encoder.cls_token' is missing: this is not an MR-DINOv3 segmentation file."
            )
        encoder = DINOv3.from_state_dict(encoder_state, eps=eps, rope_dtype=rope_dtype)
        head_state = {k.removeprefix(HEAD_PREFIX): v for k, v in state.items() if k.startswith(HEAD_PREFIX)}
        return cls(encoder, _heads_from(head_state), blocks).eval()

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, 1, H, W) normalised slices -> logits (B, K, H, W), or one such tensor per named head."""
        logits = self.decode(self.encode(image), image.shape[-2:])
        return logits["segmentation"] if isinstance(self.up_projection, PatchDecode) else logits

    def encode(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) -> multi-scale tokens (B, H/16 * W/16, taps * C), the input of every head."""
        if image.ndim != 4 or image.shape[1] != 1:
            raise ProstateXferError(
                f"MR-DINOv3 takes slices of one channel, shape (B, 1, H, W); got {tuple(image.shape)}."
            )
        return torch.cat(self.dino_encoder.intermediate(image.expand(-1, 3, -1, -1), self.blocks), dim=-1)

    def decode(self, tokens: Tensor, size: Sequence[int], heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tokens (B, N, E) of slices of `size` (H, W) -> logits (B, K, H, W) of each head, all tokens decoded."""
        everything = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return {name: self.decode_where(name, tokens, size, everything) for name in heads or self.heads}

    def decode_where(self, head: str, tokens: Tensor, size: Sequence[int], where: Tensor, fill: float = 0.0) -> Tensor:
        """Logits of one head, decoding only the tokens asked for.

        Args:
            head: name of the head.
            tokens: (B, N, E) from `encode`.
            size: (H, W) of the slices in pixels.
            where: (B, N) bool, the tokens to decode.
            fill: logit of all classes but the first in patches that are not decoded; the first gets 0.

        Returns:
            (B, K, H, W). Inside the decoded patches it equals the full decode: a token's patch depends on it alone.
        """
        module = self.heads[head]
        batch, rows, columns = len(tokens), size[0] // PATCH, size[1] // PATCH
        if bool(where.all()):
            patches = module.decode_tokens(tokens.flatten(0, 1))
        else:
            shape = (batch * rows * columns, module.classes, PATCH, PATCH)
            patches = tokens.new_full(shape, fill)
            patches[:, 0] = 0
            chosen = where.flatten()
            if bool(chosen.any()):
                patches[chosen] = module.decode_tokens(tokens.flatten(0, 1)[chosen])
        return assemble_patches(patches.view(batch, rows, columns, module.classes, PATCH, PATCH))

    def decode_centres(self, head: str, tokens: Tensor) -> Tensor:
        """Tokens (B, N, E) -> logits (B, N, K) of one head at the middle of each token's patch, 1/12 of the work."""
        return self.heads[head].decode_centres(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])


def _heads_from(state: Mapping[str, Tensor]) -> PatchDecode | dict[str, PatchDecode]:
    if not state:
        raise ProstateXferError("Key 'up_projection.decode.0.0.weight' is missing: this is an encoder without a head.")
    if any(key.startswith("decode.") for key in state):
        return _head_from(state, "")
    return {name: _head_from(state, f"{name}.") for name in dict.fromkeys(key.split(".", 1)[0] for key in state)}


def _head_from(state: Mapping[str, Tensor], name: str) -> PatchDecode:
    prefix = f"{HEAD_PREFIX}{name}"
    part = {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}
    head = PatchDecode(**PatchDecode.sizes_of({f"{prefix}{key}": value for key, value in part.items()}, prefix))
    load_strictly(head, part, what="patch-decode head", prefix=prefix)
    return head
