# SPDX-License-Identifier: Apache-2.0
"""Ending a process ends all it has started, and nobody else."""

import os
import signal
import subprocess
import sys
import time

import pytest
from work_children import DEAF_GRANDCHILD, isGone, waitUntil

from ProstateXferSlicer.work import process_tree
from ProstateXferSlicer.work.process_table import ProcessRow, processRow, processTable
from ProstateXferSlicer.work.process_tree import TreeKiller, killTree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="on Windows taskkill does this")

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
# Starts another child whenever it is asked to end, and does not end itself.
HYDRA = """
import pathlib, signal, subprocess, sys, time
folder, children = pathlib.Path(sys.argv[1]), []
def grow(*_):
    children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
    (folder / str(children[-1].pid)).touch()
signal.signal(signal.SIGTERM, grow)
print("ready", flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def started():
    """started(code, *arguments, **options): a child that has printed its first line; killed after the test."""
    children = []

    def start(code, *arguments, **options):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, **options))
        children[-1].stdout.readline()
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.stdout.close()
        child.wait()


def test_the_table_knows_this_process_and_its_parent():
    row = processTable()[os.getpid()]
    assert (row.parentPid, row.groupId, row.isZombie) == (os.getppid(), os.getpgrp(), False)
    assert processRow(os.getpid()) == row


def test_a_process_that_has_ended_unasked_is_a_zombie_and_then_no_more(started):
    child = started("print('ready')")
    waitUntil(lambda: processTable()[child.pid].isZombie)
    child.wait()
    assert processRow(child.pid) is None


@pytest.mark.skipif(sys.platform == "win32" or not os.path.exists("/bin/ps"), reason="there is no ps")  # noqa: PTH110
def test_ps_tells_the_same_as_proc(started, monkeypatch):
    child = started(DEAF)
    fromProc = processRow(child.pid)
    monkeypatch.setattr("ProstateXferSlicer.work.process_table._hasProc", lambda: False)
    fromPs = processRow(child.pid)
    assert (fromPs.parentPid, fromPs.groupId, fromPs.isZombie) == (fromProc.parentPid, fromProc.groupId, False)
    assert fromPs.started == processRow(child.pid).started


def test_a_polite_child_ends_politely_and_soon(started):
    child = started("import time; print('ready', flush=True); time.sleep(60)")
    began = time.monotonic()
    assert killTree(child.pid)
    assert time.monotonic() - began < process_tree.GRACE_S
    assert child.wait() == -signal.SIGTERM


def test_a_deaf_child_is_killed_after_the_grace(started):
    child = started(DEAF)
    began = time.monotonic()
    assert killTree(child.pid)
    assert time.monotonic() - began >= process_tree.GRACE_S
    assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize("options", [{}, {"start_new_session": True}], ids=["in our group", "in its own group"])
def test_grandchildren_go_too(started, tmp_path, options):
    child = started(DEAF_GRANDCHILD, tmp_path, **options)
    waitUntil((tmp_path / "grandchild").exists)
    grandchild = int((tmp_path / "grandchild").read_text(encoding="utf-8"))
    assert killTree(child.pid)
    assert isGone(child.pid)
    assert isGone(grandchild)


def test_children_that_appear_meanwhile_go_too(started, tmp_path):
    child = started(HYDRA, tmp_path)
    assert killTree(child.pid)
    grown = [int(path.name) for path in tmp_path.iterdir()]
    assert len(grown) == 1
    assert all(map(isGone, [child.pid, *grown]))


def test_an_orphan_of_the_childs_own_group_goes_too(started, tmp_path):
    code = DEAF_GRANDCHILD.replace("grandchild.wait()", "while not (folder / 'grandchild').exists(): time.sleep(0.01)")
    child = started(code, tmp_path, start_new_session=True)
    killer = TreeKiller(child.pid)
    waitUntil(lambda: processRow(child.pid).isZombie)
    grandchild = int((tmp_path / "grandchild").read_text(encoding="utf-8"))
    assert not isGone(grandchild)
    killer.begin()
    waitUntil(killer.poll)
    assert isGone(grandchild)


def test_a_pid_that_has_passed_to_a_stranger_is_left_alone(monkeypatch):
    """The system gives a pid away again once its process is gone; the start time tells."""
    former = ProcessRow(4711, os.getpid(), 4711, "100", False)
    table = {
        4711: ProcessRow(4711, 1, 4711, "200", False),
        4712: ProcessRow(4712, 4711, 4711, "201", False),
    }
    sent = []
    monkeypatch.setattr(process_tree, "processRow", lambda pid: former)
    monkeypatch.setattr(process_tree, "processTable", lambda: table)
    monkeypatch.setattr(process_tree, "_send", lambda pid, number: sent.append(pid))
    killer = TreeKiller(4711)
    killer.begin()
    assert killer.poll()
    assert sent == []


def test_what_is_asked_politely_is_asked_once(monkeypatch):
    row = ProcessRow(4711, os.getpid(), 4711, "100", False)
    sent = []
    monkeypatch.setattr(process_tree, "processRow", lambda pid: row)
    monkeypatch.setattr(process_tree, "processTable", lambda: {4711: row})
    monkeypatch.setattr(process_tree, "_send", lambda pid, number: sent.append(number))
    killer = TreeKiller(4711)
    killer.begin()
    assert not killer.poll()
    monkeypatch.setattr(process_tree, "GRACE_S", -1)
    assert not killer.poll()
    assert sent == [signal.SIGTERM, signal.SIGKILL]


def test_who_cannot_be_listed_is_not_taken_for_gone(monkeypatch, started):
    child = started(DEAF)
    killer = TreeKiller(child.pid)
    monkeypatch.setattr(process_tree, "processTable", dict)
    killer.begin()
    assert not killer.poll()


def test_a_pid_that_does_not_exist_is_gone():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert killTree(child.pid)


@pytest.mark.parametrize("pid", [0, -1, pytest.param(os.getpid(), id="own")])
def test_neither_this_process_nor_everybody_can_be_meant(pid):
    with pytest.raises(ValueError, match="no child process"):
        killTree(pid)
