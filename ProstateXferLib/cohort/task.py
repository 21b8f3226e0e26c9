# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a study."""

from enum import StrEnum


class Task(StrEnum):
    """One job of a study; the value is the word of the command line."""

    PROSTATE = "prostate"
    DIL = "dil"
    CT_FROM_MR = "ct-from-mr"
    CT_FROM_CBCT = "ct-from-cbct"

    @property
    def title(self) -> str:
        """The task's name in a sentence or on a page."""
        return {"prostate": "Prostate", "dil": "DIL", "ct-from-mr": "CT from MR", "ct-from-cbct": "CT from CBCT"}[self]

    @property
    def sequence(self) -> str:
        """The image without which the task cannot run: "T2w" or "CBCT"."""
        return "CBCT" if self is Task.CT_FROM_CBCT else "T2w"

    @property
    def is_synthesis(self) -> bool:
        """Whether a synthetic CT comes out, and not a segmentation."""
        return self in (Task.CT_FROM_MR, Task.CT_FROM_CBCT)
