# SPDX-License-Identifier: Apache-2.0
"""Progress that lets the work look a few times whether it should stop."""

from ProstateXferLib.progress import SilentProgress


class StopsAfter(SilentProgress):
    """Says "go on" to so many questions whether to stop, and "stop" to all that follow."""

    def __init__(self, questions):
        self.left = questions

    def cancelled(self):
        self.left -= 1
        return self.left < 0
