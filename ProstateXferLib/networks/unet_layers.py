# SPDX-License-Identifier: Apache-2.0
"""Building blocks of nnU-Net's U-Nets: convolution, instance norm and leaky ReLU, and the residual block.

Layers and names as in dynamic_network_architectures (the package nnU-Net builds its networks from): `convs.J.conv`,
`convs.J.norm`, `blocks.J.conv1`, `blocks.J.conv2`, `blocks.J.skip`.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

NEGATIVE_SLOPE = 0.01
"""Of the leaky ReLU, and `a` of He's initialisation for it."""
_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def convolution(dimensions: int) -> type[nn.Module]:
    """Conv2d or Conv3d."""
    return _CONV[dimensions]


def transposed_convolution(dimensions: int) -> type[nn.Module]:
    """ConvTranspose2d or ConvTranspose3d."""
    return _UP[dimensions]


class ConvNorm(nn.Module):
    """Convolution (padding keeps the size at stride 1), instance norm (eps 1e-5, affine), leaky ReLU where active."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: Sequence[int],
        stride: Sequence[int],
        bias: bool,
        active: bool = True,
    ) -> None:
        super().__init__()
        dimensions = len(kernel)
        padding = tuple((side - 1) // 2 for side in kernel)
        self.conv = _CONV[dimensions](channels_in, channels_out, tuple(kernel), tuple(stride), padding, bias=bias)
        self.norm = _NORM[dimensions](channels_out, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True) if active else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, ...) -> (B, C_out, ...), each side divided by the stride."""
        return self.nonlin(self.norm(self.conv(features)))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: "BasicBlockD", after ResNet-D (He et al., CVPR 2019, "Bag of tricks").

    Where the block has a stride the shortcut averages over it; where it changes the channels, a 1 x 1 convolution
    without bias and a norm follow.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, kernel: Sequence[int], stride: Sequence[int], bias: bool
    ) -> None:
        super().__init__()
        one = (1,) * len(kernel)
        self.conv1 = ConvNorm(channels_in, channels_out, kernel=kernel, stride=stride, bias=bias)
        self.conv2 = ConvNorm(channels_out, channels_out, kernel=kernel, stride=one, bias=bias, active=False)
        self.nonlin2 = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)
        shortcut: list[nn.Module] = []
        if any(step != 1 for step in stride):
            shortcut.append(_POOL[len(kernel)](tuple(stride), tuple(stride)))
        if channels_in != channels_out:
            shortcut.append(ConvNorm(channels_in, channels_out, kernel=one, stride=one, bias=False, active=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C_in, ...) -> (B, C_out, ...), each side divided by the stride."""
        return self.nonlin2(self.conv2(self.conv1(features)) + self.skip(features))


def stacked_blocks(
    block: type[ConvNorm] | type[ResidualBlock],
    count: int,
    channels_in: int,
    channels_out: int,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    bias: bool,
) -> nn.Sequential:
    """`count` ConvNorms or ResidualBlocks, of which the first changes channels and size, named `convs.J` or `blocks.J`.

    It maps (B, C_in, ...) to (B, C_out, ...), each side divided by the stride.
    """
    one = (1,) * len(kernel)
    first = block(channels_in, channels_out, kernel=kernel, stride=stride, bias=bias)
    rest = [block(channels_out, channels_out, kernel=kernel, stride=one, bias=bias) for _ in range(count - 1)]
    name = "convs" if block is ConvNorm else "blocks"
    return nn.Sequential(OrderedDict({name: nn.Sequential(first, *rest)}))


def initialise(network: nn.Module) -> None:
    """He's normal initialisation of every convolution, biases 0; a residual block starts as its shortcut.

    nnU-Net's: `kaiming_normal_(a=0.01)`, fan_in as torch counts it, and norms of the blocks' last convolutions at 0.
    """
    for module in network.modules():
        if isinstance(module, (*_CONV.values(), *_UP.values())):
            nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.norm.weight)
            nn.init.zeros_(module.conv2.norm.bias)
