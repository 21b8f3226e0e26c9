# SPDX-License-Identifier: Apache-2.0
"""A job tells what its child tells, and has one outcome, whatever happens."""

import json
import os
import signal
import sys
import time
from types import ModuleType

import pytest
from work_children import DEAF_GRANDCHILD, isGone

from ProstateXferSlicer.work import job as job_module
from ProstateXferSlicer.work.job import LOG_TAIL_LINES, Job, JobWatcher
from ProstateXferSlicer.work.process import SubprocessProcess

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no signals")
STOPPED_S = 1.5
EMIT = """
import json, os, sys, time
def emit(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)
"""


class Watcher(JobWatcher):
    """Writes everything down."""

    def __init__(self):
        self.told, self.outcomes = [], []

    def onProgress(self, step, fraction, message):
        self.told.append(("progress", step, fraction, message))

    def onWarning(self, message):
        self.told.append(("warning", message))

    def onLog(self, line):
        self.told.append(("log", line))

    def onFinished(self, outcome):
        self.outcomes.append(outcome)


@pytest.fixture(autouse=True)
def outside_slicer(monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer", ModuleType("slicer"))
    monkeypatch.delenv("PROSTATEXFER_PYTHON", raising=False)


@pytest.fixture(params=["subprocess", "qt event loop"])
def kind(request, make_kind):
    """The two that jobs run on: a batch waits, the panel has an event loop."""
    return make_kind(request.param)


@pytest.fixture
def library(odd_folder):
    """A tiny package in the place of the library, in a folder with an odd name: it runs the script it is given."""
    package = odd_folder / "ProstateXferLib"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import runpy, sys\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0])\n")
    return odd_folder


@pytest.fixture
def make_job(kind, library):
    """make_job(code, watcher=None, *words): a job whose child runs `code`, and its watcher."""

    def make(code, watcher=None, *words):
        script = library / "script.py"
        script.write_text(EMIT + code, encoding="utf-8")
        watcher = watcher or Watcher()
        job = Job([str(script), *map(str, words)], watcher, kind.make(), {"PYTHONPATH": str(library)})
        return job, watcher

    return make


@pytest.fixture
def ran(make_job, kind):
    """ran(code, watcher=None): the outcome of such a job and its watcher, once it has ended."""

    def run(code, watcher=None):
        job, watcher = make_job(code, watcher)
        job.start()
        if not isinstance(job.outcome, job_module.JobOutcome):
            kind.run(job._process)
        return job.wait(), watcher

    return run


def test_events_and_log_reach_the_watcher_in_their_order(ran):
    outcome, watcher = ran("""
print("loading")
emit("progress", step="segment", fraction=0.5, message="Schicht 3")
emit("warning", message="No GPU: the CPU is used.")
emit("result", folder="/tmp/study", volumes=[1.5])
""")
    assert watcher.told == [
        ("log", "loading"),
        ("progress", "segment", 0.5, "Schicht 3"),
        ("warning", "No GPU: the CPU is used."),
    ]
    assert (outcome.state, outcome.error, outcome.exitCode) == ("done", "", 0)
    assert outcome.result == {"folder": "/tmp/study", "volumes": [1.5]}
    assert watcher.outcomes == [outcome]


def test_the_child_is_asked_for_json_once(ran, make_job, kind):
    code = "emit('result', words=sys.argv[1:])"
    assert ran(code)[0].result == {"words": ["--json"]}
    job, _ = make_job(code, None, "--json", "--tta")
    job.start()
    kind.run(job._process)
    assert job.outcome.result == {"words": ["--json", "--tta"]}


def test_what_stands_on_stderr_is_log(ran):
    outcome, watcher = ran("print('{\"event\": \"result\"}', file=sys.stderr); emit('result')")
    assert watcher.told == [("log", '{"event": "result"}')]
    assert outcome.state == "done"


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("emit('progress', step='segment', fraction='half')", "log"),
        ("emit('progress', step='segment')", "log"),
        ('print(\'{"event": "progress", "step": "s", "fraction": NaN}\')', "log"),
        ("emit('of a later version', x=1)", "log"),
        ("emit('progress', step=3, fraction=7, message=None)", "progress"),
    ],
)
def test_odd_events_do_no_harm(ran, code, kept):
    outcome, watcher = ran(f"{code}\nemit('result')")
    assert outcome.state == "done"
    assert [what for what, *_ in watcher.told] == [kept]


def test_a_fraction_stays_between_0_and_1(ran):
    _, watcher = ran("emit('progress', fraction=-1)\nemit('progress', fraction=2)")
    assert [told[2] for told in watcher.told] == [0.0, 1.0]


def test_the_last_words_count_even_without_a_newline(ran):
    outcome, watcher = ran('sys.stderr.write(\'no newline\'); sys.stdout.write(\'{"event": "result", "x": 1}\')')
    assert outcome.result == {"x": 1}
    assert watcher.told == [("log", "no newline")]


def test_a_failure_is_told_in_the_childs_words_with_the_end_of_the_log(ran):
    outcome, watcher = ran("""
for k in range(100):
    print("line", k)
emit("error", message="The image is empty: choose another.", exit_code=1)
sys.exit(1)
""")
    assert (outcome.state, outcome.error, outcome.exitCode) == ("failed", "The image is empty: choose another.", 1)
    assert outcome.logTail == tuple(f"line {k}" for k in range(100 - LOG_TAIL_LINES, 100))
    assert watcher.outcomes == [outcome]


def test_an_end_without_a_result_is_a_failure(ran):
    outcome, _ = ran("print('hello')")
    assert (outcome.state, outcome.exitCode) == ("failed", 0)
    assert "without a result" in outcome.error


def test_a_failure_keeps_the_result_that_came_with_it(ran):
    outcome, _ = ran("emit('result', failed=['b'])\nsys.exit(3)")
    assert (outcome.state, outcome.result, outcome.exitCode) == ("failed", {"failed": ["b"]}, 3)


@posix_only
def test_a_child_killed_by_the_system_points_to_the_memory(ran):
    outcome, _ = ran(f"os.kill(os.getpid(), {int(signal.SIGKILL)})")
    assert (outcome.state, outcome.exitCode) == ("failed", -9)
    assert "memory" in outcome.error


def test_a_python_that_cannot_be_started_is_a_failure_with_a_sentence(kind, monkeypatch, tmp_path):
    program = str(tmp_path / "PythonSlicer")
    monkeypatch.setattr(job_module, "libraryCommand", lambda *words: [program, *words])
    watcher = Watcher()
    job = Job(["doctor"], watcher, kind.make())
    job.start()
    outcome = job.wait()
    assert (outcome.state, outcome.exitCode) == ("failed", None)
    assert outcome.error.startswith(f"'{program}' could not be started")
    assert watcher.outcomes == [outcome]


@posix_only
def test_when_no_python_is_found_the_outcome_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PROSTATEXFER_PYTHON", "/nowhere/python")
    watcher = Watcher()
    job = Job(["doctor"], watcher)
    job.start()
    assert job.wait().error.startswith("PROSTATEXFER_PYTHON names '/nowhere/python'")
    assert [outcome.state for outcome in watcher.outcomes] == ["failed"]


def test_a_process_that_raises_is_a_failure_too(caplog):
    class Broken(SubprocessProcess):
        def start(self, *arguments):
            raise MemoryError("no")

    job = Job(["doctor"], Watcher(), Broken())
    job.start()
    assert job.wait().state == "failed"
    assert "MemoryError" in job.outcome.error


@posix_only
def test_cancelling_ends_the_whole_tree_within_a_second(make_job, kind, advance, tmp_path, capsys):
    code = "sys.argv[1:] = [sys.argv[1]]\n" + DEAF_GRANDCHILD
    job, watcher = make_job(code, None, tmp_path)
    job.start()
    assert job.outcome is None
    advance(job._process, (tmp_path / "grandchild").exists)
    pids = [job._process.processId(), int((tmp_path / "grandchild").read_text(encoding="utf-8"))]
    began = time.monotonic()
    job.cancel()
    job.cancel()
    assert time.monotonic() - began < 0.5, "cancel() must return at once"
    kind.run(job._process)
    took = time.monotonic() - began
    with capsys.disabled():
        sys.stdout.write(f" [{kind.name}: cancelled in {took:.2f} s] ")
    assert took < STOPPED_S
    assert all(map(isGone, pids))
    assert [outcome.state for outcome in watcher.outcomes] == ["cancelled"]


def test_cancelling_right_after_the_start_is_cancelling(make_job, kind):
    job, watcher = make_job("time.sleep(60)")
    job.start()
    job.cancel()
    kind.run(job._process)
    assert [outcome.state for outcome in watcher.outcomes] == ["cancelled"]


def test_what_was_cancelled_before_the_start_does_not_start(make_job, library):
    job, watcher = make_job("open('started', 'w')")
    job.cancel()
    assert watcher.outcomes == []
    job.start()
    assert job.wait().state == "cancelled"
    assert watcher.outcomes == [job.outcome]


def test_a_child_that_crashes_or_succeeds_while_it_is_stopped_counts_as_cancelled(ran):
    class Impatient(Watcher):
        def onProgress(self, step, fraction, message):
            self.job.cancel()

    for end in ("os._exit(1)", "emit('result')", "os.abort()"):
        watcher = Impatient()
        code = f"import signal\nsignal.signal(signal.SIGTERM, lambda *_: ({end}, os._exit(0)))\n"
        code += "emit('progress', fraction=0.1)\ntime.sleep(60)"
        outcome = _ran_with_job(ran, code, watcher)
        assert (outcome.state, outcome.error) == ("cancelled", "Cancelled.")


def _ran_with_job(ran, code, watcher):
    """As `ran`, for a watcher that needs to know its job."""
    original = Job.start

    def start(job):
        watcher.job = job
        original(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "start", start)
        return ran(code, watcher)[0]


def test_cancelling_what_is_over_changes_nothing(make_job, kind):
    job, watcher = make_job("emit('result')")
    job.start()
    kind.run(job._process)
    job.cancel()
    assert job.wait().state == "done"
    assert len(watcher.outcomes) == 1


def test_a_watcher_that_raises_loses_neither_the_run_nor_its_end(ran, caplog):
    class Faulty(Watcher):
        def onProgress(self, step, fraction, message):
            raise ZeroDivisionError

        def onLog(self, line):
            raise RuntimeError("a widget that is gone")

        def onFinished(self, outcome):
            super().onFinished(outcome)
            raise ValueError

    outcome, watcher = ran("print('x')\nemit('progress', fraction=0.5)\nemit('result', x=1)", Faulty())
    assert (outcome.state, outcome.result) == ("done", {"x": 1})
    assert watcher.outcomes == [outcome]
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError, ZeroDivisionError, ValueError]


def test_an_interrupted_wait_cancels_the_job(make_job, kind):
    job, watcher = make_job("time.sleep(60)")
    job.start()

    def pump():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.wait(pump)
    assert [outcome.state for outcome in watcher.outcomes] == ["cancelled"]


def test_the_application_may_repaint_meanwhile(make_job):
    job, _ = make_job("time.sleep(0.3)\nemit('result')")
    job.start()
    pumped = []
    assert job.wait(lambda: pumped.append(1)).state == "done"
    assert len(pumped) >= 2


def test_ten_thousand_lines_right_before_the_end_all_arrive(ran):
    outcome, watcher = ran("print('\\n'.join(map(str, range(10_000))))\nemit('result')")
    assert outcome.state == "done"
    assert [line for _, line in watcher.told] == [str(k) for k in range(10_000)]


def test_a_job_runs_once(make_job, kind):
    job, _ = make_job("emit('result')")
    with pytest.raises(RuntimeError):
        job.wait()
    job.start()
    with pytest.raises(RuntimeError):
        job.start()
    kind.run(job._process)


def test_without_a_process_it_is_a_subprocess_of_the_library():
    job = Job(["models"], JobWatcher(), environment={"PROSTATEXFER_MODELS": os.devnull})
    job.start()
    assert job.wait().state == "done", job.outcome
    assert json.dumps(job.outcome.result)
