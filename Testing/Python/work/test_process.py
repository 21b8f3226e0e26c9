# SPDX-License-Identifier: Apache-2.0
"""A child process is started, heard and stopped in the same way on `subprocess` and on Qt."""

import os
import signal
import sys
import threading
import time

import pytest
from work_children import DEAF_GRANDCHILD, Listener, isGone, waitUntil

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no signals")
# A second is the promise; the rest is for machines that have other work to do.
STOPPED_S = 1.5


def ran(kind, *command, environment=None):
    listener, process = Listener(), kind.make()
    listener.start(process, *command, environment=environment)
    kind.run(process)
    return listener


def test_output_comes_while_the_child_runs(kind, advance, tmp_path):
    gate = tmp_path / "gate"
    code = """
import pathlib, sys, time
print("first", flush=True)
print("trouble", file=sys.stderr, flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("last")
"""
    listener, process = Listener(), kind.make()
    listener.start(process, sys.executable, "-c", code, str(gate))
    assert process.isRunning()
    advance(process, lambda: listener.output and listener.error)
    assert (listener.output.split(), listener.error.split()) == ([b"first"], [b"trouble"])
    assert listener.ends == []
    gate.touch()
    kind.run(process)
    assert listener.output.split() == [b"first", b"last"]
    assert listener.ends == [(0, "")]
    assert not process.isRunning()


@pytest.mark.parametrize("code", [0, 1, 3, 130])
def test_the_exit_code_is_told(kind, code):
    assert ran(kind, f"raise SystemExit({code})").ends == [(code, "")]


@posix_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_is_ended_by_a_signal_has_its_negative_as_exit_code(kind, number):
    ended = ran(kind, f"import os; print('so far', flush=True); os.kill(os.getpid(), {int(number)})")
    assert ended.output.strip() == b"so far"
    assert ended.ends == [(-number, "")]


def test_a_missing_program_is_told_at_the_end_with_a_sentence(kind, tmp_path):
    program = str(tmp_path / "PythonSlicer")
    [(code, sentence)] = ran(kind, program, "-c", "pass").ends
    assert code is None
    assert sentence.startswith(f"'{program}' could not be started: ")
    assert sentence.endswith(".")


def test_nothing_of_ten_thousand_lines_is_lost_when_the_child_ends_at_once(kind):
    listener = ran(kind, "print('\\n'.join(f'line {k:06d}' for k in range(10_000)))")
    assert listener.output.split(b"\n")[9_999].strip() == b"line 009999"
    assert len(listener.output.splitlines()) == 10_000
    assert listener.ends == [(0, "")]


def test_bytes_that_are_no_text_arrive_as_they_are(kind):
    listener = ran(kind, "import sys; sys.stdout.buffer.write(bytes(range(256)))")
    assert listener.output == bytes(range(256))


def test_callbacks_come_in_the_thread_that_waits(kind):
    listener = ran(kind, "import sys; print(1); print(2, file=sys.stderr)")
    assert listener.threads == {threading.current_thread()}


def test_the_child_reads_nothing_and_does_not_hang_on_it(kind):
    assert ran(kind, "import sys; print(repr(sys.stdin.read()))").output.strip() == b"''"


def test_the_child_sees_the_environment_it_is_given_and_no_other(kind, monkeypatch):
    monkeypatch.setenv("PROSTATEXFER_NOT_MEANT", "x")
    environment = {name: value for name, value in os.environ.items() if name != "PROSTATEXFER_NOT_MEANT"}
    code = "import os; print(ascii((os.environ.get('PROSTATEXFER_NOT_MEANT'), os.environ['GIVEN'])))"
    listener = ran(kind, code, environment={**environment, "GIVEN": "Öl 前立腺"})
    assert listener.output.decode().strip() == ascii((None, "Öl 前立腺"))


def test_arguments_with_blanks_quotes_and_any_letters_arrive(kind, odd_folder):
    words = [str(odd_folder), 'say "a b"', "", "back\\slash"]
    listener = ran(kind, sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *words)
    assert listener.output.decode().strip() == ascii(words)


@posix_only
def test_the_program_may_lie_in_a_folder_with_any_name(kind, odd_folder):
    program = odd_folder / "start me"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    assert ran(kind, str(program), "-c", "print('here')").output.strip() == b"here"


@posix_only
def test_stopping_ends_also_a_grandchild_that_ignores_it(kind, tmp_path, advance, capsys):
    listener, process = Listener(), kind.make()
    listener.start(process, sys.executable, "-c", DEAF_GRANDCHILD, str(tmp_path))
    advance(process, (tmp_path / "grandchild").exists)
    pids = [process.processId(), int((tmp_path / "grandchild").read_text(encoding="utf-8"))]
    assert not any(map(isGone, pids))
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 0.5, "stop() must not block"
    kind.run(process)
    took = time.monotonic() - began
    with capsys.disabled():
        sys.stdout.write(f" [{kind.name}: stopped in {took:.2f} s] ")
    assert all(map(isGone, pids))
    assert took < STOPPED_S
    assert len(listener.ends) == 1


@posix_only
def test_a_child_that_listens_may_tidy_up_before_it_ends(kind, tmp_path, advance):
    code = """
import pathlib, signal, sys, time
def stop(*_):
    time.sleep(0.1)
    pathlib.Path(sys.argv[1], "tidied").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
    listener, process = Listener(), kind.make()
    listener.start(process, sys.executable, "-c", code, str(tmp_path))
    advance(process, lambda: listener.output)
    process.stop()
    kind.run(process)
    assert (tmp_path / "tidied").exists()
    assert listener.ends == [(130, "")]


def test_stopping_at_once_and_twice_gives_one_end(kind):
    listener, process = Listener(), kind.make()
    listener.start(process, "import time; time.sleep(60)")
    pid = process.processId()
    process.stop()
    process.stop()
    kind.run(process)
    assert len(listener.ends) == 1
    assert listener.ends[0][0] != 0
    assert isGone(pid)


def test_stopping_what_has_ended_or_never_began_does_nothing(kind):
    kind.make().stop()
    listener, process = Listener(), kind.make()
    listener.start(process, "print('done')")
    kind.run(process)
    process.stop()
    assert process.processId() is None
    assert listener.ends == [(0, "")]


@posix_only
def test_the_end_does_not_wait_for_a_grandchild_that_was_left_behind(kind, tmp_path):
    code = DEAF_GRANDCHILD.replace("grandchild.wait()", "while not (folder / 'grandchild').exists(): time.sleep(0.01)")
    listener, process = Listener(), kind.make()
    try:
        listener.start(process, sys.executable, "-c", code, str(tmp_path))
        kind.run(process)
        assert listener.output.strip() == b"started"
        assert listener.ends == [(0, "")]
    finally:
        os.kill(int((tmp_path / "grandchild").read_text(encoding="utf-8")), signal.SIGKILL)


def test_a_process_that_nobody_remembers_still_ends_on_the_event_loop(qt_process_module, qt_application):
    listener = Listener()
    listener.start(qt_process_module.QtProcess(), "print('done')")
    waitUntil(lambda: listener.ends, pump=qt_application.processEvents)
    assert listener.output.strip() == b"done"


def test_a_callback_may_run_the_event_loop(qt_process_module, qt_application):
    """A panel that shows a dialog at a warning, for one."""
    listener, process = Listener(), qt_process_module.QtProcess()

    def onOutput(data):
        waitUntil(lambda: time.monotonic() > began + 0.2, pump=qt_application.processEvents)
        listener.onOutput(data)

    began = time.monotonic()
    command = [sys.executable, "-c", "print('done')"]
    process.start(command, dict(os.environ), onOutput, listener.onError, listener.onFinished)
    waitUntil(lambda: listener.ends, pump=qt_application.processEvents)
    assert listener.output.strip() == b"done"


def test_two_processes_run_side_by_side_on_one_event_loop(qt_process_module, qt_application):
    listeners = [Listener(), Listener()]
    for number, listener in enumerate(listeners):
        listener.start(qt_process_module.QtProcess(), f"print({number})")
    waitUntil(lambda: all(listener.ends for listener in listeners), pump=qt_application.processEvents)
    assert [listener.output.strip() for listener in listeners] == [b"0", b"1"]


def test_without_waiting_a_subprocess_is_heard_by_polling():
    from ProstateXferSlicer.work.process import SubprocessProcess

    listener, process = Listener(), SubprocessProcess()
    listener.start(process, "print('done')")
    waitUntil(lambda: not process.poll())
    assert (listener.output.strip(), listener.ends) == (b"done", [(0, "")])
