# SPDX-License-Identifier: Apache-2.0
"""A pickle that calls a function when it is read."""


class Calls:
    """Pickles as a call: whoever unpickles it freely runs `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments
