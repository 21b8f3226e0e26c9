# SPDX-License-Identifier: Apache-2.0
"""A batch within 3D Slicer, without a window: the words of `prostatexfer batch`, JSON lines on stdout, log on stderr.

    Slicer --no-splash --no-main-window --python-script prostatexfer_batch.py -- MANIFEST -o FOLDER [options]

The work is done by a child process, and this one always ends, with the child's exit code: 0 done, 1 failed, 2 wrong
use, 3 some cases failed, 130 cancelled. Plain Python runs this file, too. See docs/batch.md.

Slicer reads this file in the encoding of the system: keep it ASCII.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

FAILED, CANCELLED = 1, 130
EXIT_CODES = (0, FAILED, 2, 3, CANCELLED)
# Slicer runs this text as part of its own __main__, where __file__ is set for it and argv[0] is this file.
ROOT = Path(__file__).resolve().parents[2]
_stop = {"requested": False}


def run_batch(words):
    """Run `prostatexfer batch` with `words` in a child process; its exit code, which is one of `EXIT_CODES`."""
    add_library_to_path()
    from ProstateXferLib.errors import ProstateXferError
    from ProstateXferSlicer.work.process import SubprocessProcess
    from ProstateXferSlicer.work.python import findPython, libraryCommand

    if words[:1] == ["--"]:  # Slicer has taken it, plain Python has not
        words = words[1:]
    as_json = [] if "--json" in words else ["--json"]
    ended = {"code": None, "problem": ""}

    def on_finished(code, problem=""):
        ended.update(code=code, problem=problem)

    process = SubprocessProcess()

    def stop_if_requested():
        if _stop["requested"]:
            process.stop()

    if not _stop["requested"]:
        try:
            command, environment = libraryCommand("batch", *words, *as_json), findPython().environment
        except ProstateXferError as error:
            say(str(error))
            return FAILED
        process.start(command, environment, pass_on(1), pass_on(2), on_finished)
        process.wait(stop_if_requested)
    if _stop["requested"]:
        return CANCELLED
    if ended["code"] not in EXIT_CODES:
        # Killed by a signal (-9: the system ran out of memory), or never started.
        say(ended["problem"] or f"the batch broke off (exit code {ended['code']}); run it again to go on where it was.")
        return FAILED
    return ended["code"]


def add_library_to_path():
    """Make the library beside this script importable, in an installed extension as well as in a checkout."""
    for folder in (ROOT, ROOT / "ProstateXfer"):
        if (folder / "ProstateXferLib").is_dir() or (folder / "ProstateXferSlicer").is_dir():
            # In front: another copy may have been installed by pip, and the two halves must fit.
            sys.path.insert(0, str(folder))


def pass_on(descriptor):
    """Where bytes of the child go: unchanged to this process's stdout (1) or stderr (2)."""

    def write(data):
        try:
            # Not sys.stdout: in Slicer that is the Python console, which decodes and may cut lines.
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            # The reader has gone (| head), or Slicer on Windows has no console: the results are in the folder.
            pass

    return write


def say(sentence):
    """One line on stderr."""
    pass_on(2)(f"prostatexfer_batch: {sentence}\n".encode(errors="replace"))


def on_signal(number, frame):
    """Ctrl-C, SIGTERM, a lost terminal: the loop in `run_batch` sees it within a few hundredths of a second."""
    _stop["requested"] = True


def guarded(words):
    """`run_batch`, whatever happens: an exception in a script leaves Slicer open, which is forever for a batch job."""
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), on_signal)
        return run_batch(words)
    except BaseException as error:
        if _stop["requested"]:
            return CANCELLED
        say("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
        return FAILED


def leave(code):
    """End the application, or this Python."""
    slicer = sys.modules.get("slicer")
    if getattr(slicer, "app", None) is None:
        sys.exit(code)
    try:
        slicer.util.exit(code)
    except BaseException:
        os._exit(code)


if __name__ == "__main__":
    leave(guarded(sys.argv[1:]))
