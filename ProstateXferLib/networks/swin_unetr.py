# SPDX-License-Identifier: Apache-2.0
"""SwinUNETR as in SAP: MONAI's network with feature size 48 and drop rates of 0.1.

Source: SAP (J. Bone Oncology 57, 2026, 100745): patches of 96 x 96 x 96, T1w and DWI, 10 or 2 output channels.
"""

from collections.abc import Sequence

from torch import nn

from ProstateXferLib.errors import ProstateXferError


def swin_unetr(
    in_channels: int,
    out_channels: int,
    *,
    feature_size: int = 48,
    drop_rate: float = 0.1,
    attn_drop_rate: float = 0.1,
    dropout_path_rate: float = 0.1,
    spatial_dims: int = 3,
    depths: Sequence[int] = (2, 2, 2, 2),
    num_heads: Sequence[int] = (3, 6, 12, 24),
    window_size: int = 7,
    use_checkpoint: bool = False,
) -> nn.Module:
    """A network (B, in_channels, D, H, W) -> logits (B, out_channels, D, H, W); sides multiples of 32, not all 32.

    Args:
        in_channels, out_channels: of the image and of the logits.
        feature_size: channels of the first stage, a multiple of 12.
        drop_rate, attn_drop_rate, dropout_path_rate: dropout of layers, of attention, and stochastic depth.
        spatial_dims: 3, or 2 for slices (B, C, H, W).
        depths, num_heads: transformer blocks and attention heads of the four stages.
        window_size: side of an attention window in tokens.
        use_checkpoint: spend time instead of memory while training.

    Raises:
        ProstateXferError: MONAI is missing, or it does not take these numbers.
    """
    network = _class()
    try:
        return network(
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=feature_size,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            dropout_path_rate=dropout_path_rate,
            spatial_dims=spatial_dims,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
            use_checkpoint=use_checkpoint,
        )
    except ValueError as error:
        raise ProstateXferError(f"MONAI does not build this SwinUNETR ({error}): correct its arguments.") from error


def _class() -> type[nn.Module]:
    try:
        import einops  # noqa: F401  (MONAI only asks for it in the first forward pass)
        from monai.networks.nets import SwinUNETR
    except ImportError as error:
        raise ProstateXferError(
            f"The network swin_unetr needs the packages monai and einops, which cannot be loaded ({error}): install "
            "them, e.g. with `pip install monai einops`."
        ) from error
    return SwinUNETR
