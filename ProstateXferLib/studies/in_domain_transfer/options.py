# SPDX-License-Identifier: Apache-2.0
"""What the user chooses about the study; the defaults are the paper's protocol."""

from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError

ARCHITECTURES = ("unet", "unetplusplus", "manet", "deeplabv3")
ENCODERS = (
    "efficientnet-b0",
    "efficientnet-b1",
    "efficientnet-b2",
    "efficientnet-b3",
    "resnet18",
    "resnet34",
    "resnet50",
)
"""Table II's columns and rows."""


@dataclass(frozen=True)
class TransferOptions:
    """How much of the protocol is run, and with which network.

    Attributes:
        folds: of the cross-validation; all are trained, the best one is tested and handed on.
        epochs: of every stage; None for the recipe's 200.
        longest_transfer: how many sites a chain may visit before its target.
        merged: whether all sites together are trained on, too.
        grid: whether Table II's other networks are trained at the first site.
        architecture, encoder: of every chain.
        encoder_weights: "imagenet", "none" for a random start, or a file of ImageNet weights.
        changes: KEY=VALUE for the recipes in_domain_transfer/imagenet and all-data, whose stage is "target".
    """

    folds: int = 5
    epochs: int | None = None
    longest_transfer: int = 2
    merged: bool = True
    grid: bool = False
    architecture: str = "unetplusplus"
    encoder: str = "efficientnet-b3"
    encoder_weights: str = "imagenet"
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ProstateXferError(f"{self.folds} fold(s) leave nothing to validate on: give 2 or more.")
        if self.epochs is not None and self.epochs < 1:
            raise ProstateXferError(f"{self.epochs} epochs train nothing: give 1 or more.")
        if self.architecture not in ARCHITECTURES or self.encoder not in ENCODERS:
            raise ProstateXferError(
                f"'{self.architecture}' with '{self.encoder}' is no network of the study: architectures are "
                f"{', '.join(ARCHITECTURES)}; encoders are {', '.join(ENCODERS)}."
            )
