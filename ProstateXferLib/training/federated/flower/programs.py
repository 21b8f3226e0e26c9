# SPDX-License-Identifier: Apache-2.0
"""Flower's own programs as children of a command: started with nothing sent home, ended with all that they started."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, write_text
from ProstateXferLib.training.federated.flower.settings import SETTINGS_VARIABLE
from ProstateXferLib.training.federated.flower.task import ALLOWED

LOG = "flower.log"
_TASKS = (*ALLOWED, "flwr-agentapp", "flwr-connector", "flwr-model", "flwr-simulation")
_LIBRARY = str(Path(__file__).resolve().parents[4])
_END_S = 15.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def require_flower() -> None:
    """Raise ProstateXferError unless flwr is there and can be run on this system."""
    if find_spec("flwr") is None:
        raise ProstateXferError(
            "Flower is not installed: make an environment of its own (python -m venv), since flwr wants older versions "
            "of protobuf and packaging than others, and there run pip install 'prostatexfer[federated,train]'."
        )
    if os.name == "nt":
        raise ProstateXferError(
            "Federated rounds over Flower need Linux or macOS: on Windows exchange weights packages instead "
            "(prostatexfer federate average)."
        )


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        ProstateXferError: not of that form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ProstateXferError(f"'{address}' is no HOST:PORT: write it like fl.hospital.org:8000.")
    return host.strip("[]"), int(port)


def require_protection(address: str, *, insecure: bool, certificate: Path | None, key: Path | None) -> None:
    """Weights cross a network only encrypted, and between those who share a key.

    Raises:
        ProstateXferError: `insecure` or no certificate or no key, and the address is not this machine's own.
    """
    local = split_address(address)[0] in _LOOPBACK
    if insecure and not local:
        raise ProstateXferError(f"--insecure is for tries on this machine (127.0.0.1), not for '{address}': use TLS.")
    if not insecure and certificate is None:
        raise ProstateXferError("The certificate of the certificate authority is missing: name it (docs/exchange.md).")
    if key is None and not local:
        raise ProstateXferError("Over a network the sites need a shared key: give --key (docs/exchange.md).")


def environment(folder: Path, settings: Path) -> dict[str, str]:
    """Variables for Flower's programs: they run our side of each task, and report to nobody.

    Args:
        folder: of the run; Flower's own files and the front programs are kept in it.
        settings: `write_settings`.
    """
    fronts = _write_fronts(make_folder(folder / "flower" / "bin"))
    own = Path(sys.executable).parent  # Flower's programs lie beside the interpreter, wherever PATH points
    return os.environ | {
        "PATH": os.pathsep.join([str(fronts), str(own), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(make_folder(folder / "flower" / "home")),
        "FLWR_TELEMETRY_ENABLED": "0",  # on unless this says otherwise
        "FLWR_DISABLE_UPDATE_CHECK": "1",  # else version and system go to flower.ai once a day
        SETTINGS_VARIABLE: str(settings),
        # A task's process must find this very library, wherever this process found it.
        "PYTHONPATH": os.pathsep.join([_LIBRARY, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def _write_fronts(folder: Path) -> Path:
    """Programs of the names that Flower starts tasks by, which start `task.py`."""
    for name in _TASKS:
        # -P: the current folder is no place for modules.
        words = [sys.executable, "-P", "-m", "ProstateXferLib.training.federated.flower.task", name]
        path = write_text(folder / name, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        path.chmod(0o700)
    return folder


def program(name: str) -> str:
    """The path of one of Flower's programs.

    Raises:
        ProstateXferError: it is not there.
    """
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise ProstateXferError(f"Flower's program {name} is not there: install flwr 1.41 or later anew.")
    return found


@contextlib.contextmanager
def running(words: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """The program as a child; at the end of the block it ends with everything that it started."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [program(words[0]), *words[1:]],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to pass on, once the round's files are safe
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    # What it started is in its group, or watches it and ends by itself when it is gone.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_port(address: str, process: subprocess.Popen, log: Path, *, seconds: float = 60.0) -> None:
    """Return when somebody listens at the address.

    Raises:
        ProstateXferError: the program has ended, or the time is over.
    """
    host, port = split_address(address)
    until_s = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until_s:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
            return
        time.sleep(0.2)
    raise ProstateXferError(f"Flower's SuperLink does not listen at {address}: its log '{log}' says why.")


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
