# SPDX-License-Identifier: Apache-2.0
"""`python -m ...task flwr-clientapp ARGUMENTS`: Flower's program of that name, in which nothing received is executed.

Flower sends an app bundle with code over the network and runs it at the server and at every site: whoever reaches the
SuperLink could run programs there. Here the bundle's folder can be imported from by nobody, so that only what is
installed at the site runs; `programs.py` puts this before Flower's own program.
"""

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

ALLOWED = ("flwr-serverapp", "flwr-clientapp")
_INSTALLS = "--allow-runtime-dependency-installation"


class _Nothing(importlib.abc.PathEntryFinder):
    """Finds no module, whatever lies in the folder."""

    def find_spec(self, fullname, target=None):
        """None: go on elsewhere."""

    def invalidate_caches(self):
        """There is no cache."""


def refuse_imports_from(folder: Path) -> None:
    """From now on no module is found in or below this folder, even if it comes to stand on `sys.path`."""
    refused = Path(folder).resolve()

    def hook(entry: str) -> importlib.abc.PathEntryFinder:
        if not Path(entry).resolve().is_relative_to(refused):
            raise ImportError  # the protocol's way to leave it to the other hooks
        return _Nothing()

    sys.path_hooks.insert(0, hook)
    for entry in list(sys.path_importer_cache):
        if Path(entry).resolve().is_relative_to(refused):
            del sys.path_importer_cache[entry]


def main(words: Sequence[str]) -> None:
    """Run one of Flower's programs for tasks.

    Raises:
        ProstateXferError: a program that serves no federated round, or one that would install packages.
    """
    program, *arguments = words
    if program not in ALLOWED or _INSTALLS in arguments:
        raise ProstateXferError(f"Flower wants to run {' '.join(words[:1])} {_INSTALLS}: that is not allowed here.")
    from flwr.supercore.utils import get_flwr_home

    refuse_imports_from(Path(get_flwr_home()))
    # Before anything of the bundle is looked at, so that a folder of that name could not take its place.
    find_spec("ProstateXferLib.training.federated.flower.entry")
    (found,) = entry_points(group="console_scripts", name=program)
    sys.argv = [program, *arguments]
    found.load()()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ProstateXferError as error:
        sys.exit(str(error))
