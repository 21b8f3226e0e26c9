# SPDX-License-Identifier: Apache-2.0
"""The stand-in itself: `child.py FOLDER study …` does what FOLDER/plan.json says, in the order of the lines below."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def main(folder: Path, words: list[str]) -> int:
    """Leave pid and words behind, then act."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    pids = [os.getpid()]
    if plan.get("grandchild"):
        grandchild = subprocess.Popen([sys.executable, "-S", "-c", _DEAF])
        pids.append(grandchild.pid)
    with (folder / "calls").open("a", encoding="utf-8") as calls:
        calls.write(json.dumps({"pids": pids, "words": words}) + "\n")
    for line in plan.get("lines", []):
        _say(line if isinstance(line, str) else json.dumps(line))
    for line in plan.get("errors", []):
        print(line, file=sys.stderr, flush=True)  # noqa: T201
    while plan.get("hold") and not (folder / "go").exists():
        time.sleep(0.005)
    if plan.get("grandchild"):
        grandchild.kill()
        grandchild.wait()
    if plan.get("study"):
        target = Path(words[words.index("-o") + 1])
        shutil.copytree(plan["study"], target)
        study = json.loads((target / "study.json").read_text(encoding="utf-8"))
        _say(json.dumps({"event": "result", "folder": str(target), **study}))
    if plan.get("signal"):
        os.kill(os.getpid(), plan["signal"])
    return plan.get("exit", 0)


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
