# SPDX-License-Identifier: Apache-2.0
"""The app bundle that `flwr run` wants: names of what is installed at every site, and no code."""

from pathlib import Path

from ProstateXferLib.files import make_folder, write_text

_ENTRY = "ProstateXferLib.training.federated.flower.entry"
_PROJECT = f"""\
[project]
name = "prostatexfer-federated"
version = "1.0.0"
description = "Federated averaging with ProstateXfer, which must be installed at the server and at every site."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "prostatexfer"

[tool.flwr.app.components]
serverapp = "{_ENTRY}:server"
clientapp = "{_ENTRY}:site"

[tool.flwr.app.config]
"""


def write_bundle(folder: Path) -> Path:
    """Write the folder of the app; an app of one file, which says which installed modules to load."""
    write_text(make_folder(folder) / "pyproject.toml", _PROJECT)
    return Path(folder)
