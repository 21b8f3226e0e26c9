# SPDX-License-Identifier: Apache-2.0
"""The shipped models are found wherever the package was put."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ASK = "from ProstateXferLib.resources_dir import resources_dir; print(resources_dir())"


@pytest.fixture
def a_copied_package(tmp_path):
    """The package alone, in a folder where nothing else is."""
    for name in ("__init__.py", "errors.py", "resources_dir.py", "version.py"):
        target = tmp_path / "site" / "ProstateXferLib" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "ProstateXferLib" / name, target)
    return tmp_path / "site"


def ask(site: Path, resources: Path | None = None) -> subprocess.CompletedProcess:
    environment = {} if resources is None else {"PROSTATEXFER_RESOURCES": str(resources)}
    return subprocess.run(
        [sys.executable, "-c", ASK], cwd=site, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("place", ["ProstateXferLib/resources", "Resources"])
def test_they_are_found_inside_an_installed_package_and_beside_a_checkout(a_copied_package, place):
    (a_copied_package / place / "Models").mkdir(parents=True)
    assert ask(a_copied_package).stdout.strip() == str(a_copied_package / place)


def test_those_inside_the_package_come_before_those_beside_it(a_copied_package):
    for place in ("ProstateXferLib/resources", "Resources"):
        (a_copied_package / place / "Models").mkdir(parents=True)
    assert ask(a_copied_package).stdout.strip() == str(a_copied_package / "ProstateXferLib" / "resources")


def test_the_variable_comes_first(a_copied_package, tmp_path):
    (a_copied_package / "Resources" / "Models").mkdir(parents=True)
    (tmp_path / "own" / "Models").mkdir(parents=True)
    assert ask(a_copied_package, tmp_path / "own").stdout.strip() == str(tmp_path / "own")


def test_a_wrong_variable_is_an_error_and_not_passed_over(a_copied_package, tmp_path):
    (a_copied_package / "Resources" / "Models").mkdir(parents=True)
    told = ask(a_copied_package, tmp_path / "nowhere").stderr
    assert "ProstateXferError: PROSTATEXFER_RESOURCES names" in told


def test_resources_of_other_slicer_modules_are_not_taken_for_ours(a_copied_package):
    (a_copied_package / "Resources" / "Icons").mkdir(parents=True)
    told = ask(a_copied_package).stderr
    assert "ProstateXferError: The shipped models were not found in" in told
    assert "install ProstateXfer again, or set PROSTATEXFER_RESOURCES" in told
