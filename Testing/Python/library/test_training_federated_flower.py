# SPDX-License-Identifier: Apache-2.0
"""Federated rounds over Flower itself: a SuperLink and three SuperNodes on this machine, and the weights by hand.

Runs where flwr is installed (docs/exchange.md says how).
"""

import functools
import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from federated_discs.recipes import segmentation_round, synthesis_round
from federated_discs.sites import write_sites
from training_runs.command import write_recipe

from ProstateXferLib.checkpoints.file_format import read_checkpoint, write_checkpoint
from ProstateXferLib.cli.main import main
from ProstateXferLib.files import file_sha256
from ProstateXferLib.training.exchange.resume import read_package
from ProstateXferLib.training.exchange.signature import site_id
from ProstateXferLib.training.federated.averaging import local_names

ROOT = Path(__file__).resolve().parents[3]
KEY = b"sixteen bytes or more of key"
LONGEST_S = 240
SITES = {"a": (5, 4), "b": (5, 4), "c": (8, 6)}
"""Cases, and how many of them train: one of five folds validates."""


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Bright discs in noise, as T2w and mask and as CBCT and CT; sites differ in brightness and number of patients."""
    patients = {site: count for site, (count, _) in SITES.items()}
    root = write_sites(tmp_path_factory.mktemp("sites"), patients, with_ct=True)
    (root / "key").write_bytes(KEY)
    return root


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificates(folder):
    """An authority, and a server's certificate for 127.0.0.1 that it signed."""
    script = """
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=tests
    openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
    echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' > names
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
    """
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, capture_output=True)
    authority = ["--ca-certificate", str(folder / "ca.pem")]
    own = ["--certificate", str(folder / "server.pem"), "--private-key", str(folder / "server.key")]
    return [*own, *authority], authority


def federate(start, recipe, sites, folder, *, server=("--insecure",), site=("--insecure",), options=(), meanwhile=None):
    """Server and three sites, each the command that a hospital runs, in a process of its own; all must end well."""
    address, common = f"127.0.0.1:{free_port()}", ["--key", str(sites / "key")]
    commands = {
        "server": ["server", str(start), "--rounds", "2", "--sites", "3", "--address", address, *server, *options]
    }
    for name in SITES:
        cases = ["--site", f"{name}=cases:{name}", "--data", str(sites), "--server", address, "--device", "cpu"]
        commands[name] = ["site", str(recipe), *cases, "--wait-minutes", "1", *site]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = {}
    for name, words in commands.items():
        output = folder / f"{name}.safetensors"
        with (folder / f"{name}.txt").open("wb") as told:
            running[name] = subprocess.Popen(
                [sys.executable, "-m", "ProstateXferLib", "federate", *words, *common, "-o", str(output)],
                env=variables,
                cwd=folder,
                stdout=told,
                stderr=subprocess.STDOUT,
            )
    until_s = time.monotonic() + LONGEST_S
    try:
        if meanwhile:
            meanwhile(address)
        codes = {name: process.wait(max(until_s - time.monotonic(), 1)) for name, process in running.items()}
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
                process.wait(30)
    assert codes == dict.fromkeys(commands, 0), {name: (folder / f"{name}.txt").read_text() for name in commands}
    return folder


def packages_of(folder, number):
    """Site -> (card, state, record) of the package that the server received."""
    found = [read_package(path, key=KEY) for path in (folder / f"server.run/round-{number:02d}").glob("*.pxweights")]
    by_id = {record.site: (card, state, record) for card, state, record in found}
    return {name: by_id[site_id(name, KEY)] for name in SITES}


def mean_of(packages, name):
    sums = [record.patients * state[name].double() for _, state, record in packages.values()]
    return sum(sums) / sum(record.patients for _, _, record in packages.values())


def assert_is_mean(average, packages, patients):
    assert tuple(record.patients for _, _, record in packages.values()) == patients
    _, state = read_checkpoint(average)
    assert state
    for name, value in state.items():
        expected = mean_of(packages, name)
        if value.is_floating_point():
            np.testing.assert_allclose(value.double(), expected, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, expected.round().to(value.dtype))


def processes_in(folder):
    """Command lines of running processes that name the folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if str(folder) in line]


EVIL = """
[project]
name = "stranger"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "stranger"
[tool.flwr.app.components]
serverapp = "stranger:app"
clientapp = "stranger:app"
"""


def submit_strangers_app(address, folder):
    """What anybody who reaches the SuperLink can do: submit code."""
    app, home = folder / "stranger", folder / "strangers-home"
    app.mkdir()
    home.mkdir()
    (app / "pyproject.toml").write_text(EVIL)
    (app / "stranger.py").write_text(f"from pathlib import Path\nPath({str(folder / 'executed')!r}).touch()\napp = 1\n")
    (home / "config.toml").write_text(
        f"[superlink]\ndefault = 'it'\n[superlink.it]\naddress = '{address}'\ninsecure = true\n"
    )
    flwr = Path(sys.executable).parent / "flwr"
    variables = os.environ | {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    ask = functools.partial(subprocess.run, env=variables, capture_output=True, text=True, timeout=60)
    for _ in range(60):
        done = ask([flwr, "run", app, "it", "--format", "json"])
        if '"success": true' in done.stdout:
            break
        time.sleep(1)
    number = json.loads(done.stdout)["run-id"]
    for _ in range(60):
        text = ask([flwr, "list", "it", "--run-id", number, "--format", "json"]).stdout
        (home / "listed.json").write_text(text)
        if "finished:" in text:
            (home / "log.txt").write_text(ask([flwr, "log", number, "it", "--show"]).stdout)
            return
        time.sleep(1)
    raise AssertionError(text)


@pytest.mark.slow
def test_two_rounds_at_three_sites_give_the_mean_weighted_by_patients(
    flower, sites, tmp_path, segmentation_card, random_state
):
    start = write_checkpoint(tmp_path / "start.safetensors", segmentation_card("gland"), random_state(gland=2))
    recipe = write_recipe(tmp_path / "round.yaml", segmentation_round())
    folder = federate(start, recipe, sites, tmp_path, meanwhile=lambda address: submit_strangers_app(address, tmp_path))
    assert processes_in(tmp_path) == []
    assert "finished:failed" in (folder / "strangers-home" / "listed.json").read_text()
    assert "No module named 'stranger'" in (folder / "strangers-home" / "log.txt").read_text()
    assert not (tmp_path / "executed").exists()
    first, second = (packages_of(folder, number) for number in (1, 2))
    rounds = folder / "server.run"
    assert_is_mean(rounds / "round-01" / "average.safetensors", first, (4, 4, 6))
    assert_is_mean(rounds / "round-02" / "average.safetensors", second, (4, 4, 6))
    assert_is_mean(folder / "server.safetensors", second, (4, 4, 6))
    # Every site trained, in the second round from the first one's average, and has the result, bit by bit.
    before, average = read_checkpoint(start)[1], read_checkpoint(rounds / "round-01" / "average.safetensors")[1]
    for name in SITES:
        assert sum(not torch.equal(first[name][1][key], before[key]) for key in before) > 10
        assert sum(not torch.equal(second[name][1][key], average[key]) for key in before) > 10
        assert (folder / f"{name}.run/round-02/received.safetensors").read_bytes() == (
            rounds / "round-01" / "average.safetensors"
        ).read_bytes()
        assert (folder / f"{name}.safetensors").read_bytes() == (folder / "server.safetensors").read_bytes()
    card, _ = read_checkpoint(folder / "server.safetensors")
    assert [entry["stage"] for entry in card.history][-3:] == ["federated average", "federated average", "federation"]
    record = card.history[-1]
    assert (record["rounds"], record["batch_norm"], record["start"]) == (2, "average", {"sha256": file_sha256(start)})
    known = sorted((site_id(name, KEY), count) for name, (_, count) in SITES.items())
    assert [sorted((site["site"], site["patients"]) for site in one) for one in record["sites"]] == [known, known]
    means = [card.preprocessing.intensity.mean for card, _, _ in second.values()]
    assert card.preprocessing.intensity.mean == pytest.approx(np.average(means, weights=(4, 4, 6)))
    assert math.isfinite(card.preprocessing.intensity.deviation)


@pytest.mark.slow
def test_over_tls_a_site_keeps_its_batch_norms_statistics_from_round_to_round(flower, sites, tmp_path):
    # The start brings the encoder, whose size a recipe must then not say again.
    encoder = {"width": 32, "depth": 4, "heads": 2}
    first = write_recipe(tmp_path / "first.yaml", synthesis_round(encoder=encoder))
    recipe, start = write_recipe(tmp_path / "round.yaml", synthesis_round()), tmp_path / "start.safetensors"
    assert main(["train", str(first), "-o", str(start), "--data", str(sites), "--device", "cpu", "--steps", "1"]) == 0
    server, site = certificates(tmp_path)
    options = ["--batch-norm", "local_statistics"]
    folder = federate(start, recipe, sites, tmp_path, server=server, site=site, options=options)
    assert processes_in(tmp_path) == []
    first, second = (packages_of(folder, number) for number in (1, 2))
    assert_is_mean(folder / "server.safetensors", second, (5, 5, 8))
    assert read_checkpoint(folder / "server.safetensors")[0].history[-1]["batch_norm"] == "local_statistics"
    shared = read_checkpoint(folder / "server.run" / "round-01" / "average.safetensors")[1]
    result = read_checkpoint(folder / "server.safetensors")[1]
    kept = local_names(shared.keys(), "local_statistics")
    assert len(kept) > 30
    for name in SITES:
        began = read_checkpoint(folder / f"{name}.run" / "round-02" / "start.safetensors")[1]
        ended = read_checkpoint(folder / f"{name}.safetensors")[1]
        for key in shared:
            assert torch.equal(began[key], first[name][1][key] if key in kept else shared[key])
            assert torch.equal(ended[key], second[name][1][key] if key in kept else result[key])
        assert sum(not torch.equal(began[key], shared[key]) for key in kept) > 10
