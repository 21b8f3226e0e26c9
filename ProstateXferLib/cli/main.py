# SPDX-License-Identifier: Apache-2.0
"""The front of the command line: finds the command, runs it, turns whatever happens into a sentence and an exit code.

A command is a module with `add_arguments(parser)` and `run(args) -> int`. Only the module of the command in hand is
imported, so that `prostatexfer --help` does not wait for PyTorch. A command has one word or several ("study", "weights
export"); where two fit what was typed, the longer one is meant.
"""

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from ProstateXferLib.cli.exit_codes import ExitCode, UsageError
from ProstateXferLib.cli.packages import advice_for_missing
from ProstateXferLib.cli.parent_watch import watch_parent
from ProstateXferLib.cli.progress import JsonProgress
from ProstateXferLib.cli.stopping import stop_signals
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.version import __version__

PROGRAM = "prostatexfer"


@dataclass(frozen=True)
class Command:
    """Where a command is written, and its line in `--help`."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "demo": Command("ProstateXferLib.cli.demo", "segment, synthesize, measure and report on an example, in one go"),
    "models": Command("ProstateXferLib.cli.models", "list the known models, and show one's card"),
    "import": Command("ProstateXferLib.cli.import_checkpoint", "turn another project's weights into a checkpoint"),
    "export": Command("ProstateXferLib.cli.export_checkpoint", "write an encoder as other DINOv3 programs read it"),
    "segment": Command("ProstateXferLib.cli.segment", "segment the prostate and lesions on an MRI"),
    "synthesize": Command("ProstateXferLib.cli.synthesize", "make a synthetic CT from an MRI or a cone-beam CT"),
    "measure": Command("ProstateXferLib.cli.measure", "measure the structures of a segmentation"),
    "evaluate": Command("ProstateXferLib.cli.evaluate", "score many predictions against references, with a report"),
    "calibrate": Command(
        "ProstateXferLib.cli.calibrate", "compare a model's probabilities with references, and mend them"
    ),
    "ensemble": Command("ProstateXferLib.cli.ensemble", "average several checkpoints, with weights, as one"),
    "ensemble plan": Command("ProstateXferLib.cli.ensemble_plan", "list the trained folds that an ensemble may have"),
    "ensemble select": Command(
        "ProstateXferLib.cli.ensemble_select", "choose members and weights by nested cross-validation, with a report"
    ),
    "study": Command("ProstateXferLib.cli.study", "all of this on one patient's images, into one study folder"),
    "batch": Command("ProstateXferLib.cli.batch", "the same for many patients, going on where it was stopped"),
    "report": Command("ProstateXferLib.cli.report", "write the page of a study folder"),
    "study miniature": Command("ProstateXferLib.cli.study_miniature", "the papers' comparison on the data at hand"),
    "study in-domain-transfer": Command(
        "ProstateXferLib.cli.study_in_domain_transfer", "train every chain of three sites, and print the tables"
    ),
    "study detection": Command(
        "ProstateXferLib.cli.study_detection", "evaluated models side by side, in the SAP paper's figures"
    ),
    "data layouts": Command("ProstateXferLib.cli.data_layouts", "list the known layouts of data sets, and show one"),
    "data check": Command("ProstateXferLib.cli.data_check", "find the cases of a data set and look for problems"),
    "data split": Command("ProstateXferLib.cli.data_split", "write the folds of a data set, as nnU-Net does"),
    "train": Command("ProstateXferLib.cli.train", "train or fine-tune a checkpoint, stage by stage"),
    "submit": Command("ProstateXferLib.cli.submit", "the same on a SLURM cluster, a job for each fold"),
    "weights export": Command("ProstateXferLib.cli.weights_export", "pack a checkpoint for another centre"),
    "weights verify": Command("ProstateXferLib.cli.weights_verify", "check a package from another centre"),
    "weights resume-from": Command(
        "ProstateXferLib.cli.weights_resume_from", "unpack such a package to train on from it"
    ),
    "federate average": Command("ProstateXferLib.cli.federate_average", "average the packages of several centres"),
    "federate rounds": Command(
        "ProstateXferLib.cli.federate_rounds", "train at several sites in rounds, averaging after each"
    ),
    "federate server": Command("ProstateXferLib.cli.federate_server", "average what sites train, over a network"),
    "federate site": Command("ProstateXferLib.cli.federate_site", "train on this site's cases for such a server"),
    "phantom": Command("ProstateXferLib.cli.phantom", "write a synthetic pelvis with known truth"),
    "doctor": Command("ProstateXferLib.cli.doctor", "say what is installed, what is missing and what to do about it"),
}

EPILOG = """\
exit codes: 0 done; 1 the work failed; 2 wrong use; 3 some cases of a batch failed; 130 cancelled.
For research use only: not a medical device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `prostatexfer` with `argv` (default: this process's) and return its exit code."""
    watch_parent()
    words = list(sys.argv[1:] if argv is None else argv)
    # A look ahead, since these two also shape how a failure before or during parsing is told.
    debug, as_json = "--debug" in words, "--json" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show "cm³" is no reason to fail
    try:
        with stop_signals():
            args = _parse(words)
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
            logging.getLogger("ProstateXferLib").setLevel(logging.DEBUG if debug else logging.WARNING)
            code = args.run(args)
            sys.stdout.flush()  # here, where a closed pipe is still ours to handle
            return int(code)
    except SystemExit:  # argparse has printed the help or the version
        return ExitCode.DONE
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this Python complains once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except (KeyboardInterrupt, CancelledError) as stop:
        return _fail(str(stop) or "Cancelled.", ExitCode.CANCELLED, debug, as_json)
    except UsageError as error:
        return _fail(str(error), ExitCode.WRONG_USE, debug, as_json)
    except ProstateXferError as error:
        return _fail(str(error), ExitCode.FAILED, debug, as_json)
    except ModuleNotFoundError as error:
        return _fail(advice_for_missing(error.name) or _unexpected(error), ExitCode.FAILED, debug, as_json)
    except Exception as error:
        return _fail(_unexpected(error), ExitCode.FAILED, debug, as_json)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints end like every other error: one sentence, and an event where JSON was asked for."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(f"{message} (see {self.prog} --help)")


def with_command_joined(words: Sequence[str]) -> list[str]:
    """The words with those of the command as one; what follows it, as "case" in `study case`, stays by itself."""
    words = list(words)
    first = next((index for index, word in enumerate(words) if not word.startswith("-")), None)
    if first is None:
        return words
    for count in range(max(len(name.split()) for name in COMMANDS), 1, -1):
        if (name := " ".join(words[first : first + count])) in COMMANDS:
            return [*words[:first], name, *words[first + count :]]
    return words


def _parse(words: list[str]) -> argparse.Namespace:
    # SUPPRESS: --debug may stand before or after the command, and the later parser must not reset the earlier's answer.
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error arose")
    parser = _Parser(
        prog=PROGRAM,
        description="Prostate and lesion segmentation on MRI, and synthetic CT, by transfer of large encoders.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    words = with_command_joined(words)
    named = next((word for word in words if not word.startswith("-")), None)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            parents=[common],
            allow_abbrev=False,
        )
        if name == named:
            module = import_module(command.module)
            module.add_arguments(sub)
            sub.add_argument("--json", action="store_true", help="report as JSON, one object a line, on stdout")
            sub.set_defaults(run=module.run)
    return parser.parse_args(words or ["--help"])


def _unexpected(error: Exception) -> str:
    detail = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}{f': {detail}' if detail else ''} (run again with --debug to see where)."


def _fail(sentence: str, code: ExitCode, debug: bool, as_json: bool) -> int:
    """Tell the failure on stderr (and as an event, where the reader wants JSON); to be called while it is handled."""
    if debug and code is not ExitCode.CANCELLED:
        traceback.print_exc()
    if as_json:
        JsonProgress().error(sentence, code)
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return code
