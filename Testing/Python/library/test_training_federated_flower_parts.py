# SPDX-License-Identifier: Apache-2.0
"""Flower's side of federated training in parts: settings, events, orders and programs."""

import subprocess
import sys
from pathlib import Path

import pytest

from ProstateXferLib.cli.main import main
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.federated.flower import programs
from ProstateXferLib.training.federated.flower.events import DONE, ROUND, Event, read_events, tell
from ProstateXferLib.training.federated.flower.orders import Order, order_record, read_order
from ProstateXferLib.training.federated.flower.settings import (
    SETTINGS_VARIABLE,
    ServerSettings,
    SiteSettings,
    settings_of_environment,
    write_settings,
)
from ProstateXferLib.training.federated.flower.site_app import site_app

ROOT = Path(__file__).resolve().parents[3]
KEY = b"sixteen bytes or more of key"


def site_settings(folder, **changes):
    values = {"recipe": "r.yaml", "name": "A", "source": {"layout": "cases"}, "patients": 3, "data": "."}
    return SiteSettings(**(values | {"output": str(folder / "a.safetensors"), "folder": str(folder)} | changes))


def test_settings_reach_the_processes_through_the_environment(tmp_path, monkeypatch):
    settings = site_settings(tmp_path, changes=["seed=3"])
    monkeypatch.setenv(SETTINGS_VARIABLE, str(write_settings(settings)))
    assert settings_of_environment(SiteSettings) == settings
    with pytest.raises(ProstateXferError, match="names no settings"):
        settings_of_environment(ServerSettings)


def test_events_are_read_once_and_only_when_whole(tmp_path):
    assert read_events(tmp_path, 0) == []
    tell(tmp_path, Event(ROUND, "round 1 of 2", 1, 2))
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"kind": "do')
    assert read_events(tmp_path, 0) == [Event(ROUND, "round 1 of 2", 1, 2)]
    assert read_events(tmp_path, 1) == []
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('ne"}\n')
    assert read_events(tmp_path, 1) == [Event(DONE)]


@pytest.mark.parametrize(
    ("address", "changes", "sentence"),
    [
        ("10.0.0.5:8000", {"insecure": True}, "--insecure is for tries on this machine"),
        ("0.0.0.0:8000", {"insecure": True}, "--insecure is for tries on this machine"),
        ("fl.hospital.org:8000", {"certificate": None}, "certificate authority is missing"),
        ("fl.hospital.org:8000", {"key": None}, "need a shared key"),
        ("fl.hospital.org", {}, "no HOST:PORT"),
        ("fl.hospital.org:http", {}, "no HOST:PORT"),
    ],
)
def test_weights_cross_a_network_only_encrypted_and_with_a_key(address, changes, sentence):
    values = {"insecure": False, "certificate": Path("ca.pem"), "key": Path("key")}
    with pytest.raises(ProstateXferError, match=sentence):
        programs.require_protection(address, **(values | changes))
    programs.require_protection("fl.hospital.org:8000", **values)
    programs.require_protection("127.0.0.1:8000", insecure=True, certificate=None, key=None)


def test_flowers_programs_report_to_nobody_and_start_our_side_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    variables = programs.environment(tmp_path, tmp_path / "settings.json")
    assert (variables["FLWR_TELEMETRY_ENABLED"], variables["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
    refused = subprocess.run(["flwr-agentapp"], env=variables, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "Flower wants to run flwr-agentapp" in refused.stderr


def test_no_module_of_an_app_bundle_can_be_imported(tmp_path):
    app = tmp_path / "apps" / "evil"
    app.mkdir(parents=True)
    (app / "stranger.py").write_text("print('executed')")
    (tmp_path / "friend.py").write_text("print('own')")
    code = (
        "import sys; from pathlib import Path\n"
        "from ProstateXferLib.training.federated.flower.task import refuse_imports_from\n"
        f"refuse_imports_from(Path({str(tmp_path / 'apps')!r}))\n"
        f"sys.path[:0] = [{str(app)!r}, {str(tmp_path)!r}]\n"
        "import friend\nimport stranger"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "own\n"
    assert "No module named 'stranger'" in done.stderr


def test_without_flwr_the_commands_say_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(programs, "find_spec", lambda name: None)
    words = ["start.safetensors", "-o", "end.safetensors", "--rounds", "1", "--sites", "2"]
    assert main(["federate", "server", *words]) == 1
    assert "environment of its own" in capsys.readouterr().err


ORDER = Order("f" * 64, 1, 2, "average")


def test_an_order_is_obeyed_only_with_the_key_of_the_site(flower):
    content = flower.RecordDict(order_record(ORDER, b"weights", KEY))
    assert read_order(content, KEY) == (ORDER, b"weights")
    for wrong in (order_record(ORDER, b"weights", None), order_record(ORDER, b"weights", b"x" * 16)):
        with pytest.raises(ProstateXferError, match="does not have the key"):
            read_order(flower.RecordDict(wrong), KEY)
    swapped = order_record(ORDER, b"weights", KEY) | {"file": order_record(ORDER, b"others", KEY)["file"]}
    with pytest.raises(ProstateXferError, match="does not have the key"):
        read_order(flower.RecordDict(swapped), KEY)


def test_why_a_site_failed_stays_at_the_site(flower, tmp_path, monkeypatch):
    identity = pytest.importorskip("flwr.supercore.task_identity").TaskIdentity
    for name in ("_task_id", "_run_id", "_node_id"):  # a task's process has them, and a reply names them
        monkeypatch.setattr(identity, name, 7)

    def train(received, order, place):
        raise ValueError("/data/PATIENT-4711.nii.gz is damaged")

    message = flower.Message(
        content=flower.RecordDict(order_record(ORDER, b"weights", None)), dst_node_id=7, message_type="train"
    )
    reply = site_app(site_settings(tmp_path), train)(message, None)
    assert reply.has_error()
    assert "4711" not in str(reply.error.reason)
    (event,) = read_events(tmp_path, 0)
    assert event.text == "ValueError: see the log."
