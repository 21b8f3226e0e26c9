# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer submit`: what SLURM is asked (a stand-in that keeps the script), and jobs that run on this machine."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from ProstateXferLib.cli.main import main
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cluster.submission import Resources, words_of_folds

pytest.importorskip("submitit")
RECIPE = "prostate-dil-small"


def submit(*words):
    return main(["submit", *map(str, words)])


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with commands that answer as SLURM's do; `sbatch` keeps the script it was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    kept = tmp_path / "script.sh"
    for name, body in {
        "sbatch": f'cp "$1" {kept}\necho "Submitted batch job 4711"',
        "srun": "exit 0",
        "sacct": "echo 'JobID|State|NodeList'",
    }.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return kept


def test_slurm_is_asked_for_what_was_said(tmp_path, slurm, capsys):
    words = ("--nodes", 2, "--processes", 4, "--gpus", 4, "--cpus", 8, "--memory-gb", 200, "--hours", 12.5)
    names = ("--partition", "gpu", "--option", "account=uro", "--logs", tmp_path / "logs", "--json")
    assert submit(*words, *names, "--", RECIPE, "-o", tmp_path / "m.safetensors") == 0
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert event["jobs"] == ["4711_0"] or event["jobs"] == ["4711"]
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", slurm.read_text(encoding="utf-8"), re.MULTILINE))
    expected = {
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "cpus-per-task": "8",
        "mem": "200GB",
        "time": "750",
        "partition": "gpu",
        "account": "uro",
        "job-name": f"prostatexfer-{RECIPE}",
    }
    assert {key: asked.get(key) for key in expected} == expected
    assert "srun" in slurm.read_text(encoding="utf-8")


def test_five_folds_are_one_array_of_five_jobs(tmp_path, slurm, capsys):
    where = tmp_path / "fold-{fold}.safetensors"
    assert submit("--folds", "0,1,2,3,4", "--logs", tmp_path / "logs", "--", RECIPE, "-o", where) == 0
    assert "5 job(s) on slurm" in capsys.readouterr().out
    assert re.search(r"^#SBATCH --array=0-4", slurm.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_fold_has_its_own_words():
    assert words_of_folds(["r", "-o", "f{fold}.safetensors"], [0, 3]) == [
        ["r", "-o", "f0.safetensors", "--fold", "0"],
        ["r", "-o", "f3.safetensors", "--fold", "3"],
    ]
    assert words_of_folds(["r", "-o", "m.safetensors"], []) == [["r", "-o", "m.safetensors"]]
    with pytest.raises(ProstateXferError, match="put {fold} into its name"):
        words_of_folds(["r", "-o", "m.safetensors"], [0, 1])


@pytest.mark.slow
def test_a_local_job_runs_the_command_and_its_failure_is_told(tmp_path, capfd):
    local = ("--cluster", "local", "--gpus", 0, "--wait", "--logs", tmp_path / "logs")
    assert submit(*local, "--", RECIPE, "-o", tmp_path / "m.safetensors", "--dry-run") == 0
    (log,) = (tmp_path / "logs").glob("*_log.out")
    assert "texts" in log.read_text(encoding="utf-8")
    assert submit(*local, "--", "no-such-recipe", "-o", tmp_path / "m.safetensors", "--dry-run") == 1
    assert "failed: " in capfd.readouterr().out


def test_a_preempted_job_stops_its_training_and_asks_to_be_queued_again():
    from submitit.helpers import DelayedSubmission

    from ProstateXferLib.training.cluster.job import TrainJob

    job = TrainJob()
    job._child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    again = job.checkpoint(["r", "-o", "m.safetensors"])
    assert job._child.wait(10) == -signal.SIGTERM
    assert isinstance(again, DelayedSubmission)
    assert again.args == (["r", "-o", "m.safetensors"],)
    assert again.function._child is None


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--folds", "0,x", "--", RECIPE, "-o", "m.safetensors"), 2, "--folds takes numbers"),
        (("--option", "account", "--", RECIPE), 2, "--option takes KEY=VALUE"),
        (("--cluster", "cloud", "--", RECIPE), 1, "The cluster 'cloud' is none of slurm, local"),
        (("--cluster", "local", "--nodes", "2", "--", RECIPE), 1, "this machine alone"),
        (("--nodes", "0", "--", RECIPE), 1, "at least one node"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(tmp_path, monkeypatch, capsys, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    assert submit(*words) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_without_slurm_the_user_is_told_where_to_go(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit("--logs", tmp_path / "logs", "--", RECIPE, "-o", "m.safetensors") == 1
    assert "run this where sbatch is installed" in capsys.readouterr().err


def test_resources_refuse_what_no_cluster_has():
    with pytest.raises(ProstateXferError, match="some memory and some time"):
        Resources(hours=0)
