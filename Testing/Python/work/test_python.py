# SPDX-License-Identifier: Apache-2.0
"""Which Python a child runs in, and with which environment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import ProstateXferLib
from ProstateXferLib.errors import ProstateXferError
from ProstateXferSlicer.work import python, python_probe
from ProstateXferSlicer.work.python import findPython, libraryCommand

# Where the library under test lies: the checkout, or an installed tree.
ROOT = Path(ProstateXferLib.__file__).resolve().parents[1]
posix_only = pytest.mark.skipif(os.name != "posix", reason="the programs made up here are shell scripts")


@pytest.fixture(autouse=True)
def a_clean_slate(monkeypatch):
    """No Slicer, no settings, nothing asked yet."""
    monkeypatch.setitem(sys.modules, "slicer", ModuleType("slicer"))
    monkeypatch.setattr(python_probe, "_answers", {})
    for name in [name for name in os.environ if name.startswith("PROSTATEXFER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def in_slicer(monkeypatch, tmp_path):
    """A Slicer whose executable is no Python, with no Python on the PATH; its home is `home`."""
    slicer = ModuleType("slicer")
    (tmp_path / "home" / "bin").mkdir(parents=True)
    slicer.app = SimpleNamespace(slicerHome=str(tmp_path / "home"))
    slicer.util = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(sys, "_base_executable", "", raising=False)
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return SimpleNamespace(slicer=slicer, home=tmp_path / "home")


REAL_PYTHON = sys.executable


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def python_at(path: Path) -> str:
    """A real Python under another name."""
    return script(path, f'exec "{REAL_PYTHON}" "$@"')


def answer_of(child, code: str):
    """What `code` prints, as JSON, when it runs in the child."""
    done = subprocess.run(
        [child.program, "-c", f"import json, os, sys\n{code}"], env=child.environment, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_outside_slicer_it_is_this_python_in_this_environment(monkeypatch):
    monkeypatch.setenv("SOMETHING_OF_THE_USERS", "kept")
    child = findPython()
    assert child.program == sys.executable
    assert child.environment["SOMETHING_OF_THE_USERS"] == "kept"


def test_the_command_runs_the_library():
    command = libraryCommand("study", "--json")
    assert command == [sys.executable, "-m", "ProstateXferLib", "study", "--json"]
    words, environment = libraryCommand("--version"), findPython().environment
    done = subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.startswith("prostatexfer ")


@pytest.mark.parametrize("where", ["outside Slicer", "PythonSlicer", "another Python"])
@posix_only
def test_every_child_gets_the_library_and_output_as_it_comes_in_utf8(request, monkeypatch, where):
    monkeypatch.setenv("PROSTATEXFER_MODELS", "/models of the clinic")
    if where != "outside Slicer":
        home = request.getfixturevalue("in_slicer").home
        python_at(home / "bin" / "PythonSlicer" if where == "PythonSlicer" else home.parent / "empty" / "python3")
    environment = findPython().environment
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert environment["PYTHONUNBUFFERED"] == environment["PYTHONUTF8"] == "1"
    assert environment["PYTHONIOENCODING"].startswith("utf-8")
    assert environment["PROSTATEXFER_MODELS"] == "/models of the clinic"
    assert environment["PROSTATEXFER_PARENT_PID"] == str(os.getpid())


def test_a_file_in_the_current_folder_is_not_taken_for_a_module(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        libraryCommand("--version"), env=findPython().environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("prostatexfer "), done.stderr


@posix_only
@pytest.mark.parametrize("place", ["beside Slicer", "on the PATH"])
def test_pythonslicer_is_taken_and_not_asked(in_slicer, place):
    folder = in_slicer.home / "bin" if place == "beside Slicer" else in_slicer.home.parent / "empty"
    launcher = script(folder / "PythonSlicer", "exit 7")
    assert findPython().program == launcher


@posix_only
def test_this_slicers_own_launcher_comes_before_another_slicers(in_slicer):
    script(in_slicer.home.parent / "empty" / "PythonSlicer", "exit 0")
    own = script(in_slicer.home / "bin" / "PythonSlicer", "exit 0")
    assert findPython().program == own


@posix_only
def test_pythonslicer_gets_the_environment_from_before_slicer_started(in_slicer, monkeypatch):
    script(in_slicer.home / "bin" / "PythonSlicer", "exit 0")
    in_slicer.slicer.util.startupEnvironment = lambda: {"HOME": "/home/user", "PYTHONPATH": "/the/users own"}
    monkeypatch.setenv("PYTHONHOME", "/opt/slicer/lib/Python")
    monkeypatch.setenv("SET_BY_THE_LAUNCHER", "1")
    environment = findPython().environment
    assert environment["HOME"] == "/home/user"
    assert environment["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/the/users own"])
    assert "PYTHONHOME" not in environment
    assert "SET_BY_THE_LAUNCHER" not in environment


@posix_only
def test_without_a_startup_environment_pythonslicer_gets_the_present_one(in_slicer, monkeypatch):
    script(in_slicer.home / "bin" / "PythonSlicer", "exit 0")
    monkeypatch.setenv("SOMETHING", "kept")
    monkeypatch.setenv("PYTHONHOME", "/opt/slicer/lib/Python")
    environment = findPython().environment
    assert environment["SOMETHING"] == "kept"
    assert "PYTHONHOME" not in environment


@posix_only
@pytest.mark.parametrize("place", ["sys.executable", "sys._base_executable", "sys.exec_prefix", "PATH"])
def test_a_slicer_without_pythonslicer_lends_its_python(in_slicer, monkeypatch, tmp_path, place):
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if place == "sys.exec_prefix":
        program = python_at(tmp_path / "bin" / name)
    elif place == "PATH":
        program = python_at(tmp_path / "empty" / name)
    else:
        program = python_at(tmp_path / "elsewhere" / "python3")
        monkeypatch.setattr(sys, place.removeprefix("sys."), program)
    assert findPython().program == program


@posix_only
def test_slicers_own_executable_is_not_even_started(in_slicer, monkeypatch, tmp_path):
    """Started to be asked, it would open a second Slicer."""
    own = script(tmp_path / "SlicerApp-real", f"touch '{tmp_path}/opened'")
    monkeypatch.setattr(sys, "executable", own)
    with pytest.raises(ProstateXferError):
        findPython()
    assert not (tmp_path / "opened").exists()


@posix_only
def test_a_python_of_another_version_or_without_numpy_is_passed_over(in_slicer, tmp_path):
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    script(tmp_path / "bin" / name, "echo ProstateXfer 3 8")
    script(tmp_path / "empty" / name, "echo 'ModuleNotFoundError: numpy' >&2; exit 1")
    good = python_at(tmp_path / "empty" / "python3")
    assert findPython().program == good


@posix_only
def test_a_python_is_asked_once(in_slicer, tmp_path):
    script(tmp_path / "empty" / "python3", f'echo x >> "{tmp_path}/asked"\nexec "{REAL_PYTHON}" "$@"')
    findPython()
    findPython()
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "x\n"


def test_when_there_is_none_a_sentence_says_what_to_do(in_slicer):
    with pytest.raises(ProstateXferError, match="set the environment variable PROSTATEXFER_PYTHON"):
        findPython()


@pytest.fixture
def packages_of_slicer(in_slicer, monkeypatch, odd_folder):
    """A package that only the application's sys.path leads to, in a folder with an odd name; `torch` for this test."""
    python_at(in_slicer.home.parent / "empty" / "python3")
    (odd_folder / "torch_of_slicer.py").write_text("where = 'Slicer'", encoding="utf-8")
    monkeypatch.setattr(sys, "path", ["", str(odd_folder), str(odd_folder / "missing"), *sys.path])
    return odd_folder


@posix_only
def test_a_plain_python_finds_packages_where_the_application_finds_them(packages_of_slicer):
    child = findPython()
    assert answer_of(child, "import torch_of_slicer; print(json.dumps(torch_of_slicer.where))") == "Slicer"
    folders = child.environment["PYTHONPATH"].split(os.pathsep)
    assert folders[:2] == [str(ROOT), str(packages_of_slicer)]
    assert "" not in folders
    assert str(packages_of_slicer / "missing") not in folders


@posix_only
def test_a_plain_python_keeps_its_own_standard_library(packages_of_slicer):
    folders = findPython().environment["PYTHONPATH"].split(os.pathsep)
    assert str(Path(os.__file__).parent) not in folders


@posix_only
def test_pythonhome_is_handed_on_only_if_the_child_cannot_do_without(in_slicer, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONHOME", "/opt/slicer/lib/Python")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    plain = python_at(tmp_path / "empty" / name)
    child = findPython()
    assert (child.program, "PYTHONHOME" in child.environment) == (plain, False)
    needy = script(
        tmp_path / "empty" / name, f'[ -n "$PYTHONHOME" ] || exit 1\nunset PYTHONHOME\nexec "{REAL_PYTHON}" "$@"'
    )
    python_probe._answers.clear()
    child = findPython()
    assert (child.program, child.environment.get("PYTHONHOME")) == (needy, "/opt/slicer/lib/Python")


@posix_only
@pytest.mark.parametrize("place", ["in Slicer", "outside"])
def test_the_user_may_name_a_python(request, monkeypatch, odd_folder, place):
    if place == "in Slicer":
        script(request.getfixturevalue("in_slicer").home / "bin" / "PythonSlicer", "exit 0")
    named = python_at(odd_folder / "my python")
    monkeypatch.setenv("PROSTATEXFER_PYTHON", named)
    child = findPython()
    assert child.program == named
    assert answer_of(child, "import ProstateXferLib; print(json.dumps(ProstateXferLib.__name__))") == "ProstateXferLib"


@posix_only
def test_a_named_python_of_another_version_brings_its_own_packages(in_slicer, monkeypatch, tmp_path):
    named = script(tmp_path / "python3.99", "echo ProstateXfer 3 99")
    monkeypatch.setenv("PROSTATEXFER_PYTHON", named)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    child = findPython()
    assert child.program == named
    assert child.environment["PYTHONPATH"] == str(ROOT)


@posix_only
@pytest.mark.parametrize("answer", ["exit 1", "echo hello", "echo ProstateXfer 3 8", None])
def test_a_named_python_that_will_not_do_is_an_error_that_names_it(monkeypatch, tmp_path, answer):
    named = str(tmp_path / "python") if answer is None else script(tmp_path / "python", answer)
    monkeypatch.setenv("PROSTATEXFER_PYTHON", named)
    with pytest.raises(ProstateXferError, match="PROSTATEXFER_PYTHON names") as raised:
        findPython()
    assert named in str(raised.value)


@posix_only
def test_the_library_may_lie_in_a_folder_with_any_name(in_slicer, monkeypatch, odd_folder):
    python_at(in_slicer.home.parent / "empty" / "python3")
    copy = odd_folder / "ProstateXferLib"
    copy.mkdir()
    (copy / "__init__.py").write_text("")
    (copy / "__main__.py").write_text("print('the copy')")
    monkeypatch.setattr(python, "ProstateXferLib", SimpleNamespace(__file__=str(copy / "__init__.py")))
    child = findPython()
    done = subprocess.run(
        [child.program, "-m", "ProstateXferLib"], env=child.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "the copy\n"
    assert shutil.which(child.program)
