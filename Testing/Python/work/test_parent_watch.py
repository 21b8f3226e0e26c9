# SPDX-License-Identifier: Apache-2.0
"""A child does not compute on for nobody when Slicer has died."""

import os
import signal
import subprocess
import sys

import pytest
from work_children import isGone, waitUntil

from ProstateXferLib.cli import parent_watch

# "Slicer": starts a launcher that starts the library's command, and is killed by the test.
APPLICATION = """
import os, subprocess, sys, time
launcher = "import subprocess, sys; raise SystemExit(subprocess.call([sys.executable, *sys.argv[1:]]))"
os.environ["PROSTATEXFER_PARENT_PID"] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", launcher, "-c", *sys.argv[1:]])
time.sleep(60)
"""
COMMAND = """
import os, pathlib, signal, sys, time
from types import SimpleNamespace
from ProstateXferLib.cli import main as front
from ProstateXferLib.cli import parent_watch
from ProstateXferLib.cli.progress import make_progress
from ProstateXferLib.progress import raise_if_cancelled

folder, parent_watch.POLL_S, parent_watch.GRACE_S = pathlib.Path(sys.argv[1]), 0.05, 0.3

def run(args):
    progress = make_progress(True)
    (folder / "part").write_text(str(os.getpid()))
    (folder / "part").rename(folder / "pid")
    {body}

front.COMMANDS["try"] = front.Command("made_up", "try something")
front.import_module = lambda name: SimpleNamespace(add_arguments=lambda parser: None, run=run)
sys.exit(front.main(["try"]))
"""
LISTENING = """
    try:
        while True:
            raise_if_cancelled(progress)
            time.sleep(0.01)
    finally:
        (folder / "tidied").touch()
"""
DEAF = """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)
"""


@pytest.fixture
def command_of_a_dead_application(tmp_path):
    """start(body): the pid of a command that runs when its application is killed."""
    applications, pids = [], []

    def start(body):
        command = [sys.executable, "-c", APPLICATION, COMMAND.format(body=body), str(tmp_path)]
        applications.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        waitUntil((tmp_path / "pid").exists)
        pids.append(int((tmp_path / "pid").read_text(encoding="utf-8")))
        assert not isGone(pids[0])
        applications[0].kill()
        return pids[0]

    yield start
    for application in applications:
        application.wait()
    for pid in pids:
        if not isGone(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="the test looks for pids as POSIX has them")
def test_work_that_listens_is_stopped_as_by_ctrl_c(command_of_a_dead_application, tmp_path):
    pid = command_of_a_dead_application(LISTENING)
    waitUntil(lambda: isGone(pid))
    assert (tmp_path / "tidied").exists()


@pytest.mark.skipif(os.name != "posix", reason="the test looks for pids as POSIX has them")
def test_work_that_does_not_listen_ends_all_the_same(command_of_a_dead_application):
    pid = command_of_a_dead_application(DEAF)
    waitUntil(lambda: isGone(pid))


@pytest.fixture
def threads_started(monkeypatch):
    started = []
    monkeypatch.setattr(parent_watch._State, "is_watching", False)
    monkeypatch.setattr(parent_watch.threading.Thread, "start", lambda thread: started.append(thread.name))
    return started


@pytest.mark.parametrize("value", [None, "", "Slicer", "-1", "0", pytest.param(str(os.getpid()), id="own")])
def test_without_the_pid_of_another_process_nothing_is_watched(monkeypatch, threads_started, value):
    monkeypatch.delenv(parent_watch.PARENT_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(parent_watch.PARENT_VARIABLE, value)
    parent_watch.watch_parent()
    assert threads_started == []


def test_several_commands_in_one_process_share_a_watch(monkeypatch, threads_started):
    monkeypatch.setenv(parent_watch.PARENT_VARIABLE, str(os.getppid()))
    parent_watch.watch_parent()
    parent_watch.watch_parent()
    assert threads_started == ["parent watch"]


@pytest.mark.skipif(os.name != "posix", reason="Windows watches a handle")
def test_a_zombie_and_a_later_process_with_the_same_pid_are_not_the_parent(monkeypatch):
    parent = parent_watch._PosixProcess(os.getppid())
    assert parent.is_alive()
    monkeypatch.setattr(parent, "_state_and_start", lambda: ("S", "another time"))
    assert not parent.is_alive()
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    parent = parent_watch._PosixProcess(child.pid)
    assert parent.is_alive()
    child.stdin.close()
    waitUntil(lambda: not parent.is_alive())
    child.wait()
    assert not parent.is_alive()


@pytest.mark.skipif(os.name != "posix", reason="Windows watches a handle")
def test_where_the_system_tells_no_more_a_process_that_exists_is_alive(monkeypatch):
    monkeypatch.setattr(parent_watch._PosixProcess, "_state_and_start", lambda self: None)
    assert parent_watch._PosixProcess(os.getpid()).is_alive()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert not parent_watch._PosixProcess(child.pid).is_alive()
