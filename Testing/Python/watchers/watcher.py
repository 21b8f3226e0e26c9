# SPDX-License-Identifier: Apache-2.0
"""Progress that remembers."""


class Watcher:
    """Progress that keeps every report and warning, and asks to stop as soon as there are `stop_after` reports.

    Attributes:
        reports: (step, fraction, message) of each report, in their order.
        warnings: what `warn` was told.
    """

    def __init__(self, stop_after=None):
        self.reports, self.warnings, self.stop_after = [], [], stop_after

    def update(self, step, fraction, message=""):
        self.reports.append((step, fraction, message))

    def warn(self, message):
        self.warnings.append(message)

    def cancelled(self):
        return self.stop_after is not None and len(self.reports) >= self.stop_after

    @property
    def steps(self):
        """The names of the steps that were reported."""
        return {step for step, _, _ in self.reports}

    @property
    def fractions(self):
        """How far the work was at each report, 0..1."""
        return [fraction for _, fraction, _ in self.reports]
