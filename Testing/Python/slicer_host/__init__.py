# SPDX-License-Identifier: Apache-2.0
"""Slicer for tests: the real MRML scene of slicer-core and Qt off-screen, made to look like the application.

A test asks for the fixtures of fixtures.py. What the host proves is our own wiring: that texts, rules and nodes are
right and that no name is wrong. Slicer's widgets are stand-ins, with the names, types and signals of the originals.
"""

import functools
import importlib.util


def missing() -> str | None:
    """Why the host cannot run here, or None."""
    for package, module in (("slicer-core", "slicer_core"), ("PySide6_Essentials", "PySide6")):
        if importlib.util.find_spec(module) is None:
            return f"the package {package} is not installed"
    return None


@functools.cache
def start():
    """Make `slicer`, `qt` and `ctk` what they are in the application; gives `slicer.app`."""
    from slicer_host.startup import startHost

    return startHost()
