# SPDX-License-Identifier: Apache-2.0
"""`WindowOptions`: how windows are laid where speed counts for more than the last voxel."""

from dataclasses import dataclass

from ProstateXferLib.errors import ProstateXferError


@dataclass(frozen=True)
class WindowOptions:
    """The default is how the model was made to be run.

    Attributes:
        step: windows advance by this share of their side at most; None is what the model says (nnU-Net: 0.5).
        skip_empty: leave out windows without tissue (tissue.py). What lies in no other window is background.

    Raises:
        ProstateXferError: a step that leaves gaps, or none.
    """

    step: float | None = None
    skip_empty: bool = False

    def __post_init__(self) -> None:
        if self.step is not None and not 0 < self.step <= 1:
            raise ProstateXferError(
                f"A window step of {self.step} is not possible: choose a share of the window above 0 and up to 1 "
                "(nnU-Net's is 0.5)."
            )


AS_MADE = WindowOptions()
"""How the model was made to be run."""
