# SPDX-License-Identifier: Apache-2.0
"""The whole server of a federated run: a SuperLink, the run submitted to it, and the end of both."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ProstateXferLib.checkpoints.file_format import SUFFIX, read_card
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, require_folder_of, write_text
from ProstateXferLib.progress import Progress
from ProstateXferLib.training.federated.flower.bundle import write_bundle
from ProstateXferLib.training.federated.flower.events import forget_events
from ProstateXferLib.training.federated.flower.programs import (
    LOG,
    environment,
    program,
    require_flower,
    require_protection,
    running,
    split_address,
    wait_for_port,
)
from ProstateXferLib.training.federated.flower.server_app import STARTED
from ProstateXferLib.training.federated.flower.settings import ServerSettings, write_settings
from ProstateXferLib.training.federated.flower.waiting import wait_until_done
from ProstateXferLib.training.federated.rounds import RoundOptions

_SUBMIT_S = 120.0


@dataclass(frozen=True)
class Listening:
    """Where the SuperLink listens, and its TLS files.

    Attributes:
        address: HOST:PORT; 0.0.0.0 for all networks.
        certificate, private_key: of the server, PEM; its names must include 127.0.0.1 besides the public one.
        authority: certificate of who signed it, PEM.
        insecure: no TLS; only on this machine.
    """

    address: str
    certificate: Path | None = None
    private_key: Path | None = None
    authority: Path | None = None
    insecure: bool = False

    def words(self) -> list[str]:
        """Arguments of flower-superlink."""
        host, port = split_address(self.address)
        words = ["--host", host, "--port", str(port)]
        if self.insecure:
            return [*words, "--insecure"]
        files = {"certfile": self.certificate, "keyfile": self.private_key, "ca-certfile": self.authority}
        return [*words, *(word for name, path in files.items() for word in (f"--ssl-{name}", str(path)))]

    def own_address(self) -> str:
        """As this machine reaches it."""
        host, port = split_address(self.address)
        return f"{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"


def run_server(settings: ServerSettings, listening: Listening, progress: Progress) -> Path:
    """Run a federation to its end and give the checkpoint that it wrote; started again, finished rounds are kept.

    Raises:
        ProstateXferError: flwr is missing, a file that is not there, an address that is taken, too few sites.
        CancelledError: the user stopped.
    """
    require_flower()
    _check(settings, listening)
    folder, log = make_folder(Path(settings.folder)), Path(settings.folder) / LOG
    forget_events(folder)
    (folder / STARTED).unlink(missing_ok=True)
    variables = environment(folder, write_settings(settings))
    words = ["flower-superlink", *listening.words(), "--disable-runtime-dependency-installation"]
    with running(words, variables, log) as superlink:
        wait_for_port(listening.own_address(), superlink, log)
        _submit(folder, listening, variables, log)
        wait_until_done(folder, superlink, log, progress=progress, grace_s=0.0)
    return Path(settings.output)


def _check(settings: ServerSettings, listening: Listening) -> None:
    RoundOptions(settings.rounds, settings.batch_norm)
    if settings.minimum_sites < 2:
        raise ProstateXferError("Federated averaging needs two sites or more.")
    if Path(settings.output).suffix != SUFFIX:
        raise ProstateXferError(f"A checkpoint's file name must end in {SUFFIX}; '{settings.output}' does not.")
    require_folder_of(Path(settings.output))
    read_card(Path(settings.start))
    key = None if settings.key is None else Path(settings.key)
    require_protection(listening.address, insecure=listening.insecure, certificate=listening.authority, key=key)
    if not listening.insecure and (listening.certificate is None or listening.private_key is None):
        raise ProstateXferError("TLS needs the server's certificate and its private key: name both.")


def _submit(folder: Path, listening: Listening, variables: Mapping[str, str], log: Path) -> None:
    """`flwr run` of the bundle, with a connection named in Flower's own configuration file."""
    tls = "insecure = true" if listening.insecure else f"root-certificates = '{listening.authority}'"
    text = f"[superlink]\ndefault = 'own'\n\n[superlink.own]\naddress = '{listening.own_address()}'\n{tls}\n"
    write_text(folder / "flower" / "home" / "config.toml", text)
    bundle = write_bundle(folder / "flower" / "prostatexfer-federated")
    try:
        done = subprocess.run(
            [program("flwr"), "run", str(bundle), "own"],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SUBMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ProstateXferError(f"flwr run has not answered for {_SUBMIT_S:g} s: see '{log}'.") from error
    with log.open("a", encoding="utf-8") as stream:
        stream.write(done.stdout + done.stderr)
    if done.returncode:
        raise ProstateXferError(f"flwr run failed: its message stands at the end of '{log}'.")
