# SPDX-License-Identifier: Apache-2.0
"""The front of the command line, tried with commands made up for the test."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ProstateXferLib.cli import main as front
from ProstateXferLib.cli.exit_codes import UsageError
from ProstateXferLib.cli.progress import ConsoleProgress, JsonProgress, make_progress
from ProstateXferLib.errors import CancelledError, ProstateXferError
from ProstateXferLib.progress import raise_if_cancelled
from ProstateXferLib.version import __version__

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "scipy", "monai", "matplotlib", "SimpleITK", "numpy")


@pytest.fixture
def a_command(monkeypatch):
    """Registers the command `try`, whose work is the given function of its progress."""

    def register(work):
        def run(args):
            code = work(make_progress(args.json))
            return 0 if code is None else code

        class Module:
            @staticmethod
            def add_arguments(parser):
                parser.add_argument("--count", type=int)

        Module.run = staticmethod(run)
        monkeypatch.setitem(front.COMMANDS, "try", front.Command("a_made_up_module", "try something"))
        real = front.import_module
        monkeypatch.setattr(front, "import_module", lambda name: Module if name == "a_made_up_module" else real(name))

    return register


def raises(error):
    def work(progress):
        raise error

    return work


def a_process(code: str, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda progress: None, 0),
        (lambda progress: 3, 3),
        (raises(ProstateXferError("The image is empty.")), 1),
        (raises(ValueError("what is this?")), 1),
        (raises(UsageError("--spacing needs --size.")), 2),
        (raises(CancelledError("Cancelled.")), 130),
        (raises(KeyboardInterrupt()), 130),
    ],
)
def test_each_way_to_end_has_its_exit_code(a_command, work, code):
    a_command(work)
    assert front.main(["try"]) == code


def test_an_error_of_the_users_is_one_sentence_on_stderr(a_command, capsys):
    a_command(raises(ProstateXferError("The image is empty: choose another.")))
    front.main(["try"])
    assert capsys.readouterr() == ("", "prostatexfer: The image is empty: choose another.\n")


def test_an_unexpected_error_names_its_type_and_the_way_to_learn_more(a_command, capsys):
    a_command(raises(ValueError("what\nis this?")))
    front.main(["try"])
    told = capsys.readouterr().err
    assert told == "prostatexfer: unexpected ValueError: what is this? (run again with --debug to see where).\n"


@pytest.mark.parametrize("words", [["try", "--debug"], ["--debug", "try"]])
def test_debug_adds_the_traceback_wherever_it_stands(a_command, capsys, words):
    a_command(raises(ProstateXferError("The image is empty.")))
    assert front.main(words) == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.endswith("prostatexfer: The image is empty.\n")


def test_a_missing_extra_is_told_with_the_command_that_installs_it(a_command, capsys):
    a_command(raises(ModuleNotFoundError("No module named 'monai.losses'", name="monai.losses")))
    assert front.main(["try"]) == 1
    told = capsys.readouterr().err
    assert "monai, which training needs, is not installed" in told
    assert "-m pip install monai" in told


@pytest.mark.parametrize("words", [["unheard-of"], ["try", "--count", "many"], ["try", "--coun", "1"], ["--verbose"]])
def test_wrong_use_is_exit_code_2_with_the_usage_and_a_sentence(a_command, capsys, words):
    a_command(lambda progress: None)
    assert front.main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("usage: prostatexfer")
    assert told.err.splitlines()[-1].startswith("prostatexfer: ")


def test_json_lines_parse_and_tell_progress_warnings_and_results(a_command, capsys):
    def work(progress):
        progress.update("segment", 0.25, "slice 5")
        progress.warn("No GPU: the CPU is used.")
        progress.result({"volume_cm3": float("nan"), "file": Path("a") / "b.nii.gz", "labels": (1, 2)})

    a_command(work)
    assert front.main(["try", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "progress", "step": "segment", "fraction": 0.25, "message": "slice 5"},
        {"event": "warning", "message": "No GPU: the CPU is used."},
        {"event": "result", "volume_cm3": None, "file": str(Path("a/b.nii.gz")), "labels": [1, 2]},
    ]


@pytest.mark.parametrize(("words", "code"), [(["try", "--json"], 1), (["try", "--json", "--count", "many"], 2)])
def test_json_ends_with_the_error_and_its_exit_code(a_command, capsys, words, code):
    a_command(raises(ProstateXferError("The image is empty.")))
    assert front.main(words) == code
    told = capsys.readouterr()
    last = json.loads(told.out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("error", code)
    assert last["message"] in told.err


WORKING = """
import sys, time
from types import SimpleNamespace
from ProstateXferLib.cli import main as front
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.progress import raise_if_cancelled

def run(args):
    {body}

front.COMMANDS["try"] = front.Command("made_up", "try something")
front.import_module = lambda name: SimpleNamespace(add_arguments=lambda parser: None, run=run)
sys.exit(front.main(["try", *sys.argv[1:]]))
"""
POLLING = """progress = make_progress(args.json)
    for step in range(1000):
        progress.update("work", step / 1000)
        raise_if_cancelled(progress)
        time.sleep(0.02)"""
DEAF = """make_progress(args.json).update("work", 0)
    time.sleep(20)"""
NOT_WATCHING = """print("started", file=sys.stderr, flush=True)
    time.sleep(20)"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", [POLLING, NOT_WATCHING])
def test_a_signal_stops_the_work_with_exit_code_130(number, body):
    with a_process(WORKING.format(body=body)) as process:
        process.stderr.readline()  # the work has begun
        process.send_signal(number)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert told.splitlines()[-1].startswith("prostatexfer: Cancelled")
    assert "Traceback" not in told


def test_work_that_does_not_look_is_stopped_by_the_second_signal():
    with a_process(WORKING.format(body=DEAF)) as process:
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        while "once more" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 130


def test_the_handlers_of_the_caller_are_put_back(a_command):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    a_command(lambda progress: None)
    front.main(["try"])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE semantics")
def test_a_reader_that_leaves_early_gets_no_traceback():
    body = """print("line\\\\n" * 100000)
    return 0""".replace("\\\\n", "\\n")
    with a_process(WORKING.format(body=body)) as process:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert told == ""
    assert process.returncode == 1


def test_version_is_the_package_version(capsys):
    assert front.main(["--version"]) == 0
    assert capsys.readouterr().out == f"prostatexfer {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_lists_every_command_and_loads_no_third_party_package(words):
    code = f"""
import sys
from ProstateXferLib.cli.main import main
code = main(sys.argv[1:])
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
    with a_process(code, *words) as process:
        out, loaded = process.communicate(timeout=30)
    assert process.returncode == 0
    assert loaded.strip() == "[]"
    for name, command in front.COMMANDS.items():
        assert f"\n    {name}" in out
        assert command.help.split()[0] in out


@pytest.mark.parametrize("name", list(front.COMMANDS))
def test_the_help_of_each_command_works_without_loading_pytorch(name):
    code = """
import sys
from ProstateXferLib.cli.main import main
code = main([sys.argv[1], "--help"])
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""
    with a_process(code, name) as process:
        out, loaded = process.communicate(timeout=30)
    assert process.returncode == 0, loaded
    assert loaded.strip() == "False"
    assert out.startswith(f"usage: prostatexfer {name}")


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "ProstateXferLib", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"prostatexfer {__version__}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_drawn_in_place_on_a_terminal_and_closed_at_the_end():
    stream = Terminal()
    progress = ConsoleProgress(stream)
    progress.update("segment", 0.0)
    progress.update("segment", 1.0)
    first, last = stream.getvalue().split("\r")[1:]
    assert "[........................] segment   0%" in first
    assert "[########################] segment 100%" in last
    assert last.endswith("\n")


def test_the_time_left_follows_from_the_time_taken(monkeypatch):
    clock = iter([0.0, 30.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    progress = ConsoleProgress(stream)
    progress.update("segment", 0.0)
    progress.update("segment", 0.25)
    assert stream.getvalue().splitlines() == ["segment   0%", "segment  25%  1:30 left"]


def test_a_log_file_gets_a_line_each_tenth_and_no_control_characters():
    stream = io.StringIO()
    progress = ConsoleProgress(stream)
    for step in range(1001):
        progress.update("train", step / 1000)
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[0] == "train   0%"
    assert lines[-1] == "train 100%"
    assert "\r" not in stream.getvalue()


def test_a_warning_does_not_run_into_the_bar():
    stream = Terminal()
    progress = ConsoleProgress(stream)
    progress.update("segment", 0.5)
    progress.warn("No GPU.")
    assert stream.getvalue().endswith("\nWarning: No GPU.\n")


def test_both_kinds_of_progress_do_what_pipelines_need():
    for progress in (ConsoleProgress(io.StringIO()), JsonProgress(io.StringIO())):
        progress.update("segment", 0.5, "slice 3")
        progress.warn("a fallback")
        raise_if_cancelled(progress)
