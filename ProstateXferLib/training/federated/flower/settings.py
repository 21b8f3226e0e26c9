# SPDX-License-Identifier: Apache-2.0
"""What a command tells the processes that Flower starts: a file in the run's folder, named by the environment.

Flower has settings of its own, but those come over the network, and a file's place should not.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import write_text
from ProstateXferLib.training.exchange.signature import read_key

SETTINGS_VARIABLE = "PROSTATEXFER_FEDERATION"
_FILE = "settings.json"


@dataclass(frozen=True)
class ServerSettings:
    """One federated run at its server.

    Attributes:
        start: the checkpoint that all sites start from.
        output: the checkpoint to write.
        folder: for packages, averages and logs of every round; absolute, as all paths here are.
        rounds: how many.
        minimum_sites: fewer than this many packages are no round, and the first round waits for as many sites.
        batch_norm: what sites keep for themselves (`averaging.local_names`).
        key: file with the sites' shared key.
        connect_s: seconds that a round waits for its sites.
        round_s: seconds that a round may take; a site that needs longer is left out of it.
    """

    start: str
    output: str
    folder: str
    rounds: int
    minimum_sites: int
    batch_norm: str = "average"
    key: str | None = None
    connect_s: float = 3600.0
    round_s: float = 12 * 3600.0


@dataclass(frozen=True)
class SiteSettings:
    """One site of a federated run.

    Attributes:
        recipe: file or name of a recipe of one stage; `changes` as in `read_recipe`.
        name: the site's; only its hash travels.
        source: fields of a `recipe.schema.Source`: the site's cases.
        patients: how many of them train.
        data: folder that the source's path is relative to.
        output: where the result is written when the server has sent it.
        folder: for the rounds and their logs.
        key: file with the sites' shared key.
        device: what trains.
    """

    recipe: str
    name: str
    source: Mapping[str, Any]
    patients: int
    data: str
    output: str
    folder: str
    changes: list[str] = field(default_factory=list)
    key: str | None = None
    device: str = "auto"


Settings = TypeVar("Settings", ServerSettings, SiteSettings)


def write_settings(settings: ServerSettings | SiteSettings) -> Path:
    """Write the file into the run's folder and give its path, the value of `SETTINGS_VARIABLE`."""
    path = Path(settings.folder) / _FILE
    return write_text(path, json.dumps(dataclasses.asdict(settings), indent=1) + "\n")


def settings_of_environment(kind: type[Settings]) -> Settings:
    """The settings that `SETTINGS_VARIABLE` names.

    Raises:
        ProstateXferError: it names none, or those of the other kind.
    """
    try:
        values = json.loads(Path(os.environ[SETTINGS_VARIABLE]).read_text(encoding="utf-8"))
        return kind(**values)
    except (KeyError, OSError, ValueError, TypeError) as error:
        raise ProstateXferError(
            f"{SETTINGS_VARIABLE} names no settings: start Flower by prostatexfer federate server or site."
        ) from error


def key_of(settings: ServerSettings | SiteSettings) -> bytes | None:
    """The key itself."""
    return None if settings.key is None else read_key(Path(settings.key))
