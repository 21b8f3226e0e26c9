# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer weights verify`: check a package from another centre, and show all that it says (docs/exchange.md)."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProstateXferLib.cli.exit_codes import ExitCode
from ProstateXferLib.cli.progress import make_progress

if TYPE_CHECKING:
    from ProstateXferLib.checkpoints.card import ModelCard
    from ProstateXferLib.training.exchange.record import ExchangeRecord
    from ProstateXferLib.training.exchange.verify import Verification

_STATES = {True: "ok", False: "FAILED", None: "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which package, and what to check it with."""
    parser.add_argument("package", type=Path, metavar="FILE", help="a weights package (.pxweights)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="key that the centres share, to check the signature")


def run(args: argparse.Namespace) -> int:
    """Print the table; exit code 1 where something is wrong."""
    from ProstateXferLib.training.exchange.signature import read_key
    from ProstateXferLib.training.exchange.verify import verify_package

    progress = make_progress(args.json)
    verification = verify_package(args.package, key=None if args.key is None else read_key(args.key))
    record = None if verification.record is None else dataclasses.asdict(verification.record)
    checks = [dataclasses.asdict(check) for check in verification.checks]
    progress.result(
        {"passed": verification.passed, "checks": checks, "record": record}, text=verification_text(verification)
    )
    verification.require()
    return ExitCode.DONE


def verification_text(verification: "Verification") -> str:
    """Checks and record for people."""
    checks = [f"{check.name:14}{_STATES[check.passed]:8}{check.text}" for check in verification.checks]
    record, card = verification.record, verification.card
    lines = [*checks, "", *(_record_lines(record) if record else []), *(_card_lines(card) if card else [])]
    return "\n".join(lines).rstrip()


def _card_lines(card: "ModelCard") -> list[str]:
    """The card's sentences, which travel as well."""
    names = ("title", "training_data", "licence", "citation", "intended_use")
    return [f"{name.replace('_', ' '):14}{getattr(card, name)}" for name in names if getattr(card, name)]


def _record_lines(record: "ExchangeRecord") -> list[str]:
    made = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    lines = [
        f"model         {record.model}: {record.task}, {record.architecture} {_short(record.arguments)}",
        f"site          {record.site}, {record.patients} patients",
        f"preprocessing {_short(record.preprocessing)}",
        f"sha256        {record.model_sha256}",
        f"made with     {made}",
        *(f"score         {s['metric']}, {s['data']} (n={s['cases']}): {s['value']}" for s in record.scores),
    ]
    return [*lines, *(f"history {n:<5} {_short(entry)}" for n, entry in enumerate(record.history, start=1))]


def _short(values: Any) -> str:
    """JSON without what is not set."""
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if value is not None}
    return json.dumps(values, ensure_ascii=False)
