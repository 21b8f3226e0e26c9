# SPDX-License-Identifier: Apache-2.0
"""The server's side: in every round send the average to the sites, average the packages that come back.

Weights are averaged as from files (`federated/packages.py`), each site by its number of patients (McMahan et al. 2017),
and not by a strategy of Flower's: so they have been checked, and everybody who has the packages gets the same average.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import file_sha256, make_folder
from ProstateXferLib.training.exchange.export import SUFFIX as PACKAGE
from ProstateXferLib.training.exchange.record import versions
from ProstateXferLib.training.exchange.resume import read_package
from ProstateXferLib.training.federated.flower.events import DONE, FAILURE, ROUND, WARNING, Event, tell
from ProstateXferLib.training.federated.flower.orders import Order, order_record, read_file, write_bytes
from ProstateXferLib.training.federated.flower.settings import ServerSettings, key_of
from ProstateXferLib.training.federated.packages import average_packages

if TYPE_CHECKING:
    from flwr.serverapp import Grid, ServerApp

_POLL_S = 1.0
_FINAL_S = 120.0
AVERAGE, STARTED = "average.safetensors", "started"


def server_app(settings: ServerSettings) -> "ServerApp":
    """The app that a SuperLink runs."""
    from flwr.serverapp import ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: "Grid", context: Any) -> None:
        _begin_once(Path(settings.folder))
        try:
            run_federation(grid, settings)
        except ProstateXferError as error:
            tell(Path(settings.folder), Event(FAILURE, str(error)))
            raise

    return app


def _begin_once(folder: Path) -> None:
    """Whoever reaches the SuperLink can submit this app again: the second run must not disturb the first."""
    try:
        (folder / STARTED).touch(exist_ok=False)
    except FileExistsError as error:
        raise ProstateXferError("The federation runs already: the second request is refused.") from error


def run_federation(grid: "Grid", settings: ServerSettings) -> Path:
    """Run all rounds, write the result, send it to the sites; rounds that were finished before are not run again.

    Returns the result; its card's history ends with an entry of the federation (rounds, sites as hashes, patients).

    Raises:
        ProstateXferError: fewer sites than there must be connected or answered, a file that cannot be read or written.
    """
    folder, federation = Path(settings.folder), file_sha256(Path(settings.start))
    current = Path(settings.start)
    for number in range(1, settings.rounds + 1):
        place = make_folder(folder / f"round-{number:02d}")
        if not (place / AVERAGE).is_file():
            order = Order(federation, number, settings.rounds, settings.batch_norm)
            _run_round(grid, order, current, place, settings)
        current = place / AVERAGE
        tell(folder, Event(ROUND, f"round {number} of {settings.rounds}", number, settings.rounds))
    result = _write_result(current, federation, settings)
    final = Order(federation, settings.rounds, settings.rounds, settings.batch_norm, final=True)
    nodes = sorted(grid.get_node_ids())
    told = _ask(grid, nodes, final, result, settings, timeout_s=_FINAL_S)
    if missing := len(nodes) - len(told):
        tell(folder, Event(WARNING, f"{missing} sites have not confirmed that they have the result: send it to them."))
    tell(folder, Event(DONE, str(result)))
    return result


def _run_round(grid: "Grid", order: Order, start: Path, place: Path, settings: ServerSettings) -> None:
    nodes = _connected(grid, settings)
    replies = _ask(grid, nodes, order, start, settings, timeout_s=settings.round_s)
    packages = []
    for node, content in sorted(replies.items()):
        try:
            package = write_bytes(place / f"node-{node}{PACKAGE}", read_file(content))
            read_package(package, key=key_of(settings))
        except ProstateXferError as error:
            _leave_out(settings, order.number, f"its package is not accepted ({error})")
        else:
            packages.append(package)
    if len(packages) < settings.minimum_sites:
        raise ProstateXferError(
            f"Round {order.number} has the packages of {len(packages)} sites, not of {settings.minimum_sites}: see the "
            "warnings and the sites' own logs, then start server and sites again; finished rounds are kept."
        )
    # Everything is averaged here: sites that keep their batch norms put their own back (`site_round`).
    average_packages(packages, place / AVERAGE, key=key_of(settings))


def _connected(grid: "Grid", settings: ServerSettings) -> list[int]:
    """The nodes of all sites, once there are enough."""
    until_s = time.monotonic() + settings.connect_s
    while len(nodes := sorted(grid.get_node_ids())) < settings.minimum_sites:
        if time.monotonic() > until_s:
            raise ProstateXferError(
                f"{len(nodes)} of {settings.minimum_sites} sites connected within {settings.connect_s:g} s: start the "
                "others, or wait longer."
            )
        time.sleep(_POLL_S)
    return nodes


def _ask(
    grid: "Grid", nodes: list[int], order: Order, checkpoint: Path, settings: ServerSettings, *, timeout_s: float
) -> Mapping[int, Any]:
    """Send the order to every node; node -> content of its reply. Who fails or says nothing is told and left out."""
    from flwr.app import Message, MessageType, RecordDict

    data, key = checkpoint.read_bytes(), key_of(settings)
    messages = [
        Message(
            content=RecordDict(order_record(order, data, key)),
            dst_node_id=node,
            message_type=MessageType.TRAIN,
            ttl=timeout_s,
            group_id=str(order.number),
        )
        for node in nodes
    ]
    replies = {}
    for reply in grid.send_and_receive(messages, timeout=timeout_s):
        if reply.has_error():
            _leave_out(settings, order.number, f"it failed (Flower's error {reply.error.code}: {reply.error.reason})")
        else:
            replies[reply.metadata.src_node_id] = reply.content
    return replies


def _leave_out(settings: ServerSettings, number: int, why: str) -> None:
    tell(Path(settings.folder), Event(WARNING, f"Round {number} goes on without a site: {why}."))


def _write_result(average: Path, federation: str, settings: ServerSettings) -> Path:
    card, state = read_checkpoint(average)
    rounds = [entry for entry in card.history if entry.get("stage") == "federated average"][-settings.rounds :]
    entry = {
        "stage": "federation",
        "rounds": settings.rounds,
        "start": {"sha256": federation},
        "batch_norm": settings.batch_norm,
        "sites": [
            [{"site": site["site"], "patients": site["patients"]} for site in one_round["sites"]]
            for one_round in rounds
        ],
        "last_average": {"sha256": file_sha256(average)},
        "versions": versions() | {"flwr": _flower_version()},
    }
    return write_checkpoint(Path(settings.output), dataclasses.replace(card, history=(*card.history, entry)), state)


def _flower_version() -> str:
    from importlib.metadata import version

    return version("flwr")
