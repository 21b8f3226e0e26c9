# SPDX-License-Identifier: Apache-2.0
"""A site's side: train from the checkpoint that the server sent, answer with a weights package."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import make_folder, write_text
from ProstateXferLib.training.federated.flower.events import DONE, FAILURE, ROUND, Event, tell
from ProstateXferLib.training.federated.flower.orders import Order, file_record, read_order, write_bytes
from ProstateXferLib.training.federated.flower.settings import SiteSettings, key_of
from ProstateXferLib.training.federated.packages import with_own_norms
from ProstateXferLib.training.federated.site_round import MODEL, site_round

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp

TrainRound = Callable[[Path, Order, Path], Path]
"""`train(received, order, folder)` -> weights package: what the site does in a round."""

_log = logging.getLogger(__name__)
_CLAIM, RECEIVED, RESULT = "federation.json", "received.safetensors", "result.safetensors"


def site_app(settings: SiteSettings, train: TrainRound | None = None) -> "ClientApp":
    """The app that a SuperNode runs.

    Args:
        settings: of the site.
        train: instead of the recipe's training.
    """
    from flwr.app import Error, Message, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def answer(message: Any, context: Any) -> Any:
        try:
            records = obey(message.content, settings, train or _trainer(settings))
        # What fails here is told here, whatever it is: Flower would send the exception's text to the server, and that
        # may hold paths or case ids.
        except Exception as error:
            _log.exception("The site failed.")
            sentence = str(error) if isinstance(error, ProstateXferError) else f"{type(error).__name__}: see the log."
            tell(Path(settings.folder), Event(FAILURE, sentence))
            return Message(Error(code=0, reason="the site's own log says why"), reply_to=message)
        return Message(content=RecordDict(records), reply_to=message)

    return app


def obey(content: Any, settings: SiteSettings, train: TrainRound) -> dict[str, Any]:
    """Do what the server asks; name -> Flower record of the answer.

    Raises:
        ProstateXferError: no order of the site's own server, a folder of another federation, or what training raises.
    """
    order, checkpoint = read_order(content, key_of(settings))
    folder = Path(settings.folder)
    _claim(folder, order)
    if order.final:
        _keep_result(checkpoint, order, settings)
        tell(folder, Event(DONE, settings.output))
        return {}
    place = make_folder(folder / f"round-{order.number:02d}")
    received = place / RECEIVED
    if received.is_file() and received.read_bytes() != checkpoint:
        # The server lost this round and has averaged the one before anew: what was trained here is of no use.
        shutil.rmtree(place)
        make_folder(place)
    package = train(write_bytes(received, checkpoint), order, place)
    tell(folder, Event(ROUND, f"round {order.number} of {order.rounds}", order.number, order.rounds))
    return file_record(package.read_bytes())


def _claim(folder: Path, order: Order) -> None:
    """Write which federation this folder is of, or refuse another; more rounds may follow."""
    text = json.dumps({"start": order.federation, "batch_norm": order.batch_norm}) + "\n"
    path = folder / _CLAIM
    if not path.is_file():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise ProstateXferError(f"The folder '{folder}' holds the rounds of another federation: choose another output.")


def _keep_result(checkpoint: bytes, order: Order, settings: SiteSettings) -> None:
    result = write_bytes(Path(settings.folder) / RESULT, checkpoint)
    own = Path(settings.folder) / f"round-{order.rounds:02d}" / MODEL
    if order.batch_norm != "average" and own.is_file():
        with_own_norms(result, own, Path(settings.output), batch_norm=order.batch_norm)
    else:
        write_bytes(Path(settings.output), checkpoint)


def _trainer(settings: SiteSettings) -> TrainRound:
    """The recipe's training."""
    from functools import partial

    from ProstateXferLib.pipelines.device import resolve_device
    from ProstateXferLib.progress import SilentProgress
    from ProstateXferLib.training.chain import run_chain
    from ProstateXferLib.training.federated.rounds import Site
    from ProstateXferLib.training.recipe.reading import read_recipe
    from ProstateXferLib.training.recipe.schema import Source

    chain = read_recipe(settings.recipe, changes=settings.changes)
    site = Site(settings.name, Source(**settings.source), settings.patients)
    cache = Path(settings.folder) / "cache"
    shared = partial(run_chain, data=Path(settings.data), device=resolve_device(settings.device), cache=cache)

    def train(received: Path, order: Order, place: Path) -> Path:
        return site_round(
            chain,
            site,
            received,
            place,
            number=order.number,
            batch_norm=order.batch_norm,
            train=lambda recipe, output, progress: shared(recipe, output, progress=progress),
            progress=SilentProgress(),
            key=key_of(settings),
        )

    return train
