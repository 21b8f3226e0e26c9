# SPDX-License-Identifier: Apache-2.0
"""The whole of one site: a SuperNode, until the server has sent the result."""

from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.file_format import SUFFIX
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, require_folder_of
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.federated.flower.events import forget_events
from ProstateXferLib.training.federated.flower.programs import (
    LOG,
    environment,
    free_port,
    require_flower,
    require_protection,
    running,
)
from ProstateXferLib.training.federated.flower.settings import SiteSettings, write_settings
from ProstateXferLib.training.federated.flower.waiting import wait_until_done

_DELIVERY_S = 8.0
"""For the last answer: a SuperNode looks for one every half second, and sends it in parts."""


@dataclass(frozen=True)
class Connection:
    """How the site reaches the server.

    Attributes:
        address: HOST:PORT of the server.
        authority: certificate of who signed the server's, PEM.
        insecure: no TLS; only on this machine.
        wait_s: seconds without the server after which the site gives up.
    """

    address: str
    authority: Path | None = None
    insecure: bool = False
    wait_s: float = 3600.0

    def words(self) -> list[str]:
        """Arguments of flower-supernode."""
        tls = ["--insecure"] if self.insecure else ["--root-certificates", str(self.authority)]
        return ["--superlink", self.address, "--max-wait-time", f"{self.wait_s:g}", *tls]


def run_site(settings: SiteSettings, connection: Connection, progress: Progress) -> Path:
    """Take part until the server has sent the result, and give where it is; started again, finished rounds are kept.

    Raises:
        ProstateXferError: flwr is missing, the server is not reached, training failed.
        CancelledError: the user stopped.
    """
    require_flower()
    if Path(settings.output).suffix != SUFFIX:
        raise ProstateXferError(f"A checkpoint's file name must end in {SUFFIX}; '{settings.output}' does not.")
    require_folder_of(Path(settings.output))
    key = None if settings.key is None else Path(settings.key)
    authority = connection.authority
    require_protection(connection.address, insecure=connection.insecure, certificate=authority, key=key)
    folder, log = make_folder(Path(settings.folder)), Path(settings.folder) / LOG
    forget_events(folder)
    variables = environment(folder, write_settings(settings))
    # The port is of this machine only: by it Flower's own processes at the site talk to each other.
    words = ["flower-supernode", *connection.words(), "--host", "127.0.0.1", "--port", str(free_port())]
    with running(words, variables, log) as supernode:
        wait_until_done(folder, supernode, log, progress=progress, grace_s=_DELIVERY_S)
    return Path(settings.output)
