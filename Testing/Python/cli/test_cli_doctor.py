# SPDX-License-Identifier: Apache-2.0
"""`prostatexfer doctor` on a machine made up for the test: a models folder with a registry of its own."""

import hashlib
import json
import platform

import pytest
from model_files.registry import register

from ProstateXferLib.cli import doctor, packages
from ProstateXferLib.cli.main import main


@pytest.fixture
def a_models_folder(shipped_folder, tmp_path, monkeypatch):
    """An empty shipped folder, and a folder of the user's that does not exist."""
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(tmp_path / "elsewhere"))
    return shipped_folder


def put_model(folder, *, name="gland", content=b"weights", recorded=b"weights"):
    file = folder / f"{name}.safetensors"
    file.write_bytes(content)
    register(folder, name=name, file=file.name, sha256=hashlib.sha256(recorded).hexdigest())
    return file


def the_doctor_says(capsys, *words):
    code = main(["doctor", *words])
    return code, capsys.readouterr().out


def test_a_complete_installation_is_well(a_models_folder, capsys):
    put_model(a_models_folder)
    code, told = the_doctor_says(capsys)
    assert code == 0
    assert told.rstrip().endswith("All is well.")
    assert platform.python_version() in told
    assert str(a_models_folder.parent) in told


def test_json_has_what_the_text_has(a_models_folder, capsys):
    file = put_model(a_models_folder)
    code, told = the_doctor_says(capsys, "--json")
    findings = json.loads(told)
    assert code == 0
    assert findings["event"] == "result"
    assert findings["problems"] == []
    assert findings["resources"] == str(a_models_folder.parent)
    assert findings["devices"][0]["device"] == "cpu"
    assert findings["devices"][0]["cores"] >= 1
    versions = {package["name"]: package["version"] for package in findings["packages"]}
    assert all(versions[name] for name in ("numpy", "scipy", "SimpleITK", "torch", "safetensors"))
    assert findings["models"] == [
        {
            "name": "gland",
            "file": str(file),
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "state": "whole",
            "advice": "",
        }
    ]


def test_a_damaged_model_is_a_problem_with_what_to_do(a_models_folder, capsys):
    file = put_model(a_models_folder, content=b"weigh")
    code, told = the_doctor_says(capsys)
    assert code == 1
    assert f"The model gland is damaged (its sha256 is not the one on record): remove {file} and get it again." in told


def test_a_machine_without_a_model_is_told_so(a_models_folder, capsys):
    code, told = the_doctor_says(capsys)
    assert code == 1
    assert f"There is no model on this machine, nor in {a_models_folder}" in told


def test_a_model_that_can_be_fetched_or_imported_is_no_problem_but_says_how(a_models_folder, capsys):
    register(a_models_folder, name="dinov3", obtain="import it: prostatexfer import dinov3.pth")
    (a_models_folder / "own.safetensors").write_bytes(b"mine")
    code, told = the_doctor_says(capsys)
    assert code == 0
    assert "to be imported: import it: prostatexfer import dinov3.pth" in told
    assert "not in the registry" in told


def test_wrong_resources_variable_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROSTATEXFER_RESOURCES", str(tmp_path / "nowhere"))
    code, told = the_doctor_says(capsys)
    assert code == 1
    assert "PROSTATEXFER_RESOURCES names" in told


def test_a_missing_package_is_a_problem_with_the_command_that_installs_it(a_models_folder, monkeypatch, capsys):
    put_model(a_models_folder)
    missing = packages.Package("a-package-nobody-has", "a_module_nobody_has")
    monkeypatch.setattr(doctor, "REQUIRED", (*packages.REQUIRED, missing))
    code, told = the_doctor_says(capsys)
    assert code == 1
    assert "a-package-nobody-has is not installed: run" in told
    assert "-m pip install a-package-nobody-has" in told
