# SPDX-License-Identifier: Apache-2.0
"""The batch script as a user starts it: by plain Python, and by something that runs scripts as Slicer does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "Resources" / "Scripts" / "prostatexfer_batch.py"
QUICK = ("--tasks", "prostate", "--no-uncertainty", "--threads", "1", "--device", "cpu")

# Slicer executes the text of a script in its own __main__ (ctkAbstractPythonManager::executeFile) and stays open
# afterwards, whatever the script did, unless slicer.util.exit was called.
HOST = """
import os, sys, types
slicer = sys.modules["slicer"] = types.ModuleType("slicer")
codes = []
slicer.app, slicer.util = object(), types.SimpleNamespace(exit=codes.append)
script = sys.argv[1]
sys.argv = sys.argv[1:]
sys.executable = ""  # as seen in 5.8
globals()["__file__"] = script
try:
    exec(open(script, encoding="ascii").read(), globals())
except BaseException as error:
    print("raised into Slicer:", repr(error), file=sys.stderr)
os._exit(codes[-1] if len(codes) == 1 else 99)  # 99: it would have stayed open
"""

# Of Base/QTCore/qSlicerCoreCommandOptions.cxx and Base/QTGUI/qSlicerCommandOptions.cxx in 5.8 and 5.12: Slicer takes
# these for itself wherever they stand, after one dash or two.
SLICERS_OWN = {
    *("ignore-rest", "help", "h", "testing", "disable-python", "python-script", "python-code", "c", "ignore-slicerrc"),
    *("additional-module-path", "additional-module-paths", "modules-to-ignore", "disable-modules"),
    *("disable-builtin-modules", "disable-cli-modules", "disable-builtin-cli-modules", "disable-loadable-modules"),
    *("disable-builtin-loadable-modules", "disable-scripted-loadable-modules"),
    *("disable-builtin-scripted-loadable-modules", "version", "program-path", "home", "settings-path"),
    *("temporary-path", "application-information", "verbose-module-discovery", "disable-settings"),
    *("keep-temporary-settings", "disable-message-handlers", "disable-terminal-outputs", "disable-tooltips"),
    *("no-splash", "no-main-window", "show-python-console", "show-python-interactor", "qt-testing"),
    "exit-after-startup",
}


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Two small phantoms, one image without contrast, and one that takes a while."""
    from ProstateXferLib.images.grid import Grid
    from ProstateXferLib.images.io import write_image
    from ProstateXferLib.images.phantom import make_phantom

    folder = tmp_path_factory.mktemp("images")
    small = Grid((48, 48, 4), (2.0, 2.0, 6.0), (-47.0, -47.0, -9.0))
    for seed, name in ((1, "a"), (2, "b")):
        write_image(make_phantom(seed).render(small, modalities="t2w").t2w, folder / f"{name}.nii.gz")
    write_image(make_phantom(1).render(small, modalities="t2w").t2w * 0, folder / "flat.nii.gz")
    long = Grid((256, 256, 60), (0.75, 0.75, 1.5), (-96.0, -96.0, -45.0))
    write_image(make_phantom(1).render(long, modalities="t2w").t2w, folder / "long.nii.gz")
    return folder


@pytest.fixture
def manifest(images, tmp_path):
    """manifest("a", "b"): a CSV with these images as cases."""

    def write(*names):
        rows = [f"{name},{images / name}.nii.gz" for name in names]
        path = tmp_path / "cases.csv"
        path.write_text("\n".join(["case,t2w", *rows]) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture(params=["python", "slicer"])
def start(request, tmp_path):
    """start(words): the script in a process of its own, by plain Python or as Slicer runs it."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    host, launcher = bin_folder / "host.py", bin_folder / "PythonSlicer"
    host.write_text(HOST, encoding="utf-8")
    # As Slicer's own, a process that waits for the real Python.
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    before = [str(host)] if request.param == "slicer" else []
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # the script has to find what it needs by itself

    def begin(*words, script=SCRIPT):
        return subprocess.Popen(
            [sys.executable, *before, str(script), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    return begin


@pytest.fixture
def run(start):
    """run(words): exit code, JSON events of stdout, text of stderr."""

    def finish(*words, **options):
        process = start(*words, **options)
        out, err = process.communicate(timeout=240)
        return process.returncode, [json.loads(line) for line in out.splitlines()], err

    return finish


def cases(events):
    """Case and state of each case event."""
    return [(event["case"], event["state"]) for event in events if event["event"] == "case"]


def running(marker):
    """The processes that have `marker` among their arguments, this one's test runner aside."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker.encode() in words:
            found.append(int(entry.name))
    return found


def test_two_cases_end_to_end_and_then_nothing_is_left_to_do(run, manifest, tmp_path):
    words = (manifest("a", "b"), "-o", tmp_path / "results", *QUICK)
    code, events, log = run(*words)
    assert code == 0, log
    assert cases(events) == [("a", "done"), ("b", "done")]
    assert events[-1]["event"] == "result"
    for name in ("a", "b"):
        assert (tmp_path / "results" / name / "study.json").is_file()
        assert (tmp_path / "results" / name / "segmentation.seg.nrrd").is_file()
    code, events, log = run(*words)
    assert code == 0, log
    assert cases(events) == [("a", "skipped"), ("b", "skipped")]


def test_one_failing_case_is_told_and_does_not_stop_the_other(run, manifest, tmp_path):
    code, events, log = run(manifest("flat", "a"), "-o", tmp_path / "results", *QUICK)
    assert code == 3, log
    assert cases(events) == [("flat", "failed"), ("a", "done")]
    assert next(event for event in events if event.get("case") == "flat")["message"]


@pytest.mark.parametrize(
    "words", [(), ("--no-such-option",), ("cases.csv", "-o", "results", "--tasks", "prostrate"), ("cases.csv",)]
)
def test_wrong_use_is_2_with_a_sentence(run, words):
    code, events, log = run(*words)
    assert code == 2
    assert events[-1]["event"] == "error" and events[-1]["message"] in log


def test_a_manifest_that_is_not_there_is_1(run, tmp_path):
    code, events, log = run("--", tmp_path / "no.csv", "-o", tmp_path / "results")
    assert code == 1
    assert "no.csv" in events[-1]["message"] and "Traceback" not in log


@pytest.mark.parametrize("broken", ["library missing", "syntax error", "exit at import"])
def test_a_script_that_cannot_even_start_still_ends(run, tmp_path, broken):
    script = tmp_path / "tree" / "Resources" / "Scripts" / SCRIPT.name
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    if broken != "library missing":
        package = tmp_path / "tree" / "ProstateXferSlicer" / "work"
        package.mkdir(parents=True)
        text = "def (" if broken == "syntax error" else "raise SystemExit(0)"
        (package / "process.py").write_text(text, encoding="utf-8")
    code, events, log = run("cases.csv", "-o", "results", script=script)
    assert code == 1 and events == []
    assert {"library missing": "ModuleNotFoundError", "syntax error": "SyntaxError"}.get(broken, "SystemExit") in log


def test_it_works_from_the_installed_layout(run, manifest, tmp_path):
    """All of it lies side by side in qt-scripted-modules."""
    tree = tmp_path / "Slicer 5.12" / "qt-scripted-modules"
    (tree / "Resources" / "Scripts").mkdir(parents=True)
    script = Path(shutil.copy(SCRIPT, tree / "Resources" / "Scripts"))
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "ProstateXferLib", tree / "ProstateXferLib", ignore=skip)
    shutil.copytree(ROOT / "ProstateXfer" / "ProstateXferSlicer", tree / "ProstateXferSlicer", ignore=skip)
    (tree / "ProstateXferLib" / "version.py").write_text('__version__ = "9.9.9"\n', encoding="utf-8")
    (tree / "Resources" / "Models").symlink_to(ROOT / "Resources" / "Models")
    code, events, log = run(manifest("a"), "-o", tmp_path / "results", *QUICK, script=script)
    assert code == 0, log
    assert cases(events) == [("a", "done")]
    assert "9.9.9" in (tmp_path / "results" / "a" / "study.json").read_text(encoding="utf-8")  # not the checkout's


@pytest.mark.skipif(os.name != "posix", reason="signals as Linux and macOS have them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_130_and_no_child_is_left(start, manifest, tmp_path, number):
    folder = tmp_path / "results"
    process = start(manifest("long", "a"), "-o", folder, *QUICK, "--tta", "--decode-everything")
    for line in process.stdout:
        if '"progress"' in line:
            break
    assert len(running(str(folder))) >= 2
    began = time.monotonic()
    process.send_signal(number)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 130, log
    assert time.monotonic() - began < 5
    assert running(str(folder)) == []
    assert "Traceback" not in log


@pytest.mark.skipif(os.name != "posix", reason="signals as Linux and macOS have them")
def test_a_child_that_is_killed_is_1_and_said(start, manifest, tmp_path):
    folder = tmp_path / "results"
    process = start(manifest("long"), "-o", folder, *QUICK, "--tta", "--decode-everything")
    for line in process.stdout:
        if '"progress"' in line:
            break
    for pid in running(str(folder)):
        if pid != process.pid:
            os.kill(pid, signal.SIGKILL)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "broke off (exit code -9)" in log


@pytest.mark.skipif(os.name != "posix", reason="a pipe that breaks")
def test_a_reader_that_goes_away_does_not_end_the_work(start, manifest, tmp_path):
    process = start(manifest("a"), "-o", tmp_path / "results", *QUICK)
    process.stdout.close()
    process.stderr.read()
    assert process.wait(timeout=240) == 0
    assert (tmp_path / "results" / "a" / "study.json").is_file()


def test_no_option_of_ours_is_one_that_slicer_takes_for_itself():
    import argparse

    from ProstateXferLib.cli.batch import add_arguments

    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    ours = {word.lstrip("-") for action in parser._actions for word in action.option_strings} | {"json", "debug"}
    assert "tasks" in ours
    assert not ours & SLICERS_OWN


def test_the_list_of_slicers_options_is_that_of_its_sources():
    """With PROSTATEXFER_SLICER_SOURCE=<a checkout of Slicer>/Base/Python/slicer."""
    base = Path(os.environ.get("PROSTATEXFER_SLICER_SOURCE", "/none/none/none")).parents[1]
    files = [base / "QTCore" / "qSlicerCoreCommandOptions.cxx", base / "QTGUI" / "qSlicerCommandOptions.cxx"]
    if not all(file.is_file() for file in files):
        pytest.skip("PROSTATEXFER_SLICER_SOURCE names no checkout of Slicer")
    found = set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        for words in re.findall(r'addArgument\(\s*(?:/\*no tr\*/)?\s*"([^"]*)",\s*"([^"]*)"', text):
            found.update(words)
    assert found - {"", "-"} == SLICERS_OWN


def test_the_script_is_plain_ascii_and_light():
    text = SCRIPT.read_text(encoding="ascii")
    code = f"import sys; exec(open({str(SCRIPT)!r}).read(), dict(__name__='x', __file__={str(SCRIPT)!r}))"
    code += "; print(*[m for m in ('numpy', 'torch', 'SimpleITK', 'ProstateXferLib') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "" and "print(" not in text
