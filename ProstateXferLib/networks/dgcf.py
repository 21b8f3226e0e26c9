# SPDX-License-Identifier: Apache-2.0
"""DGCF: a residual U-Net whose encoder levels are fused with DINOv3 token maps; MR or CBCT slice to CT slice.

Source: DGCF, arXiv 2511.12098 (the released generator); parameter names are the reference's, so that its
`best_net_G.pth` loads as it is. The reference's fifth fusion kind, "attn", never returned a value and is refused.
"""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.networks.conv_norm import upsample
from ProstateXferLib.networks.dgcf_fusion import FUSIONS
from ProstateXferLib.networks.dgcf_layers import ConvNormGELU, Residual
from ProstateXferLib.networks.strict import check_tensors, load_strictly

LEVELS = ("3", "6", "9", "12")
"""The reference names the four DINOv3 levels after 1-based blocks."""


class DGCF(nn.Module):
    """Generator with four levels of c, 2c, 4c and 8c channels.

    Args:
        base_channels: c; 64 in the paper.
        feature_width: channels of a DINOv3 token.
        fusion: "cnn" (the paper's), "se", "gated" or "none".
        levels: which of the four DINOv3 levels are fused, shallow first.
        cnn_encoder: False drops the image encoder: the decoder sees the projected DINOv3 maps alone.
    """

    def __init__(
        self,
        base_channels: int = 64,
        feature_width: int = 768,
        *,
        fusion: str = "cnn",
        levels: Sequence[bool] = (True, True, True, True),
        cnn_encoder: bool = True,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ProstateXferError(f"DGCF fusion '{fusion}' is not known: choose one of {', '.join(FUSIONS)}.")
        if not cnn_encoder and not all(levels):
            raise ProstateXferError("A DGCF without CNN encoder needs all four DINOv3 levels.")
        self.base_channels, self.feature_width = base_channels, feature_width
        self.fusion, self.levels, self.cnn_encoder = fusion, tuple(bool(level) for level in levels), cnn_encoder
        widths = [base_channels * 2**i for i in range(4)]
        self.encoder = _Encoder(widths) if cnn_encoder else None
        for name, used, width in zip(LEVELS, self.levels, widths, strict=True):
            self.add_module(f"proj_f{name}", ConvNormGELU(feature_width, width) if used else nn.Identity())
        for index, (used, width) in enumerate(zip(self.levels, widths, strict=True), start=1):
            self.add_module(f"fuse{index}", FUSIONS[fusion](width) if used else nn.Identity())
        self.decoder = _Decoder(widths)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "DGCF":
        """Build from a reference checkpoint; fusion kind, widths and levels are read off the keys, loading is strict.

        Raises:
            ProstateXferError: not a DGCF generator, the unfinished "attn" kind, or naming the first offending key.
        """
        check_tensors(state)
        network = cls(**_options_of(state))
        load_strictly(network, state, what="DGCF generator")
        return network.eval()

    def forward(self, image: Tensor, features: Tensor | None = None) -> Tensor:
        """Translate slices.

        Args:
            image: (B, 1, H, W) in [-1, 1], H and W multiples of 16.
            features: (B, 4, N, C) normed DINOv3 patch tokens of blocks 2, 5, 8, 11, N = H/16 * W/16 row-major; None
                skips the fusion (a plain residual U-Net).

        Returns:
            (B, 1, H, W) in (-1, 1); -1..1 spans the card's HU range.
        """
        height, width = image.shape[-2:]
        if height % 16 or width % 16:
            raise ProstateXferError(f"DGCF takes slices whose sides are multiples of 16; got {height} x {width}.")
        if not torch.is_grad_enabled():
            image = image.contiguous(memory_format=torch.channels_last)
        maps = self._project(features, height, width)
        if self.encoder is None:
            if maps is None:
                raise ProstateXferError("This DGCF has no CNN encoder and cannot run without DINOv3 features.")
            sizes = [(height // 2**level, width // 2**level) for level in range(4)]
            return self.decoder([upsample(guide, size) for guide, size in zip(maps, sizes, strict=True)])
        levels = self.encoder(image)
        if maps is not None:
            fuse = (self.fuse1, self.fuse2, self.fuse3, self.fuse4)
            levels = [
                level if guide is None else module(level, guide)
                for level, guide, module in zip(levels, maps, fuse, strict=True)
            ]
        return self.decoder(levels)

    def _project(self, features: Tensor | None, height: int, width: int) -> list[Tensor | None] | None:
        if features is None:
            return None
        rows, columns = height // 16, width // 16
        if features.ndim != 4 or features.shape[1:] != (4, rows * columns, self.feature_width):
            raise ProstateXferError(
                f"DGCF needs DINOv3 features of shape (B, 4, {rows * columns}, {self.feature_width}) for this "
                f"slice; got {tuple(features.shape)}."
            )
        maps = []
        for index, (name, used) in enumerate(zip(LEVELS, self.levels, strict=True)):
            if not used:
                maps.append(None)
                continue
            # (B, N, C) seen as a map is channels-last already: no copy in evaluation.
            tokens = features[:, index].view(-1, rows, columns, self.feature_width).permute(0, 3, 1, 2)
            maps.append(getattr(self, f"proj_f{name}")(tokens))
        return maps


class _Encoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.enc1 = nn.Sequential(ConvNormGELU(1, widths[0]), Residual(widths[0]))
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=2):
            level = nn.Sequential(nn.MaxPool2d(2), ConvNormGELU(inputs, outputs), Residual(outputs))
            self.add_module(f"enc{index}", level)

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = [self.enc1(image)]
        for module in (self.enc2, self.enc3, self.enc4):
            levels.append(module(levels[-1]))
        return levels


class _Decoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for index, (inputs, outputs) in enumerate(zip(widths[:0:-1], widths[-2::-1], strict=True), start=1):
            up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.add_module(f"up{index}", nn.Sequential(up, ConvNormGELU(inputs, outputs), Residual(outputs)))
        base = widths[0]
        self.out = nn.Sequential(ConvNormGELU(base, base // 2), nn.Conv2d(base // 2, 1, 3, padding=1), nn.Tanh())

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        x = levels[3]
        for module, skip in zip((self.up1, self.up2, self.up3), levels[2::-1], strict=True):
            _, convolution, residual = module
            x = residual(convolution.of_upsampled(x, tuple(skip.shape[-2:]))) + skip
        return self.out(x)


def is_dgcf(state: Mapping) -> bool:
    """Whether the keys look like a DGCF generator."""
    return "decoder.out.0.block.0.weight" in state and any(key.startswith("proj_f") for key in state)


def _options_of(state: Mapping[str, Tensor]) -> dict:
    head = state.get("decoder.out.0.block.0.weight")
    if head is None:
        first = next(iter(state), "(empty)")
        raise ProstateXferError(
            f"Key 'decoder.out.0.block.0.weight' is missing (the first key is '{first}'): this is not a DGCF "
            "generator; choose a best_net_G.pth."
        )
    levels = tuple(any(key.startswith(f"proj_f{name}.") for key in state) for name in LEVELS)
    # The deepest projection tells the width, as in the reference; where it is missing, the strict loading says so.
    projections = [state.get(f"proj_f{name}.block.0.weight") for name in reversed(LEVELS)]
    widths = [weight.shape[1] for weight in projections if weight is not None and weight.ndim == 4]
    if head.ndim != 4:
        raise ProstateXferError(
            f"Key 'decoder.out.0.block.0.weight' has shape {tuple(head.shape)} where a DGCF generator needs four axes: "
            "choose a best_net_G.pth."
        )
    return {
        "base_channels": head.shape[1],
        "feature_width": widths[0] if widths else 768,
        "fusion": _fusion_of(state),
        "levels": levels,
        "cnn_encoder": any(key.startswith("encoder.") for key in state),
    }


def _fusion_of(state: Mapping[str, Tensor]) -> str:
    parts = {key.split(".")[1] for key in state if key.startswith("fuse") and "." in key}
    if "q_proj" in parts:
        raise ProstateXferError(
            "This DGCF was saved with the fusion kind 'attn', which the reference never finished (its forward "
            "pass returns nothing): it cannot be run; use a cnn, se, gated or none checkpoint."
        )
    marks = {"merge": "cnn", "fc": "se", "gate": "gated"}
    return next((kind for part, kind in marks.items() if part in parts), "none" if parts else "cnn")
