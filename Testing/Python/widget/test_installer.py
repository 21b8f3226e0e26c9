# SPDX-License-Identifier: Apache-2.0
"""The first run: what is named, asked and handed to pip, and what is never touched."""

import importlib
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ProstateXferLib.errors import ProstateXferError

MODULE_FOLDER = Path(__file__).resolve().parents[3] / "ProstateXfer"
NEVER_FOR_PIP = ("numpy", "simpleitk", "scipy", "torch")


class FakeSlicer(ModuleType):
    """As much of `slicer` as an installer sees; it writes down every question and every call of pip."""

    def __init__(self):
        super().__init__("slicer")
        self.__path__ = []
        self.questions, self.pipCalls, self.settings = [], [], {}
        self.answer, self.testing, self.pipFails, self.afterPip = True, False, None, lambda: None
        self.app = SimpleNamespace(testingEnabled=lambda: self.testing, temporaryPath="")
        self.util = SimpleNamespace(
            confirmOkCancelDisplay=self._ask,
            pip_install=lambda arguments: self._pip(arguments),
            settingsValue=lambda key, default, converter=None: self.settings.get(key, default),
        )
        self.i18n = ModuleType("slicer.i18n")
        self.i18n.tr = lambda text: text

    def _ask(self, text, **_):
        self.questions.append(text)
        return self.answer

    def _pip(self, arguments, constraints=None, **others):
        path = Path(constraints or arguments[arguments.index("-c") + 1])
        self.pipCalls.append(
            SimpleNamespace(
                arguments=list(arguments), constraints=path.read_text(encoding="utf-8").split(), others=others
            )
        )
        if self.pipFails:
            log = arguments[arguments.index("--log") + 1]
            Path(log).write_text(self.pipFails)
            raise subprocess.CalledProcessError(1, "pip install")
        self.afterPip()


@pytest.fixture
def slicer(monkeypatch):
    """The fake, in the place of the real one."""
    fake = FakeSlicer()
    monkeypatch.setitem(sys.modules, "slicer", fake)
    monkeypatch.setitem(sys.modules, "slicer.i18n", fake.i18n)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)  # cannot be imported: Slicer 5.8 and 5.10
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    monkeypatch.delenv("PROSTATEXFER_WHEELS", raising=False)
    return fake


@pytest.fixture
def installer(slicer, monkeypatch):
    """The installer, imported anew with the fake, in a Python where everything needed is installed."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "ProstateXferSlicer"}
    for name in before:
        del sys.modules[name]
    monkeypatch.syspath_prepend(str(MODULE_FOLDER))
    yield importlib.import_module("ProstateXferSlicer.panel.installer")
    for name in [name for name in sys.modules if name.split(".")[0] == "ProstateXferSlicer"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def lacking(installer, slicer, monkeypatch):
    """lacking("safetensors", ...): these cannot be found until pip, or the extension PyTorch, has been there."""
    absent: set[str] = set()
    found = importlib.util.find_spec

    def find_absent_or_real(name, package=None):
        if name in absent:
            return None
        if name in ("torch", "safetensors", "matplotlib", "scipy", "numpy", "SimpleITK"):
            return ModuleSpec(name, None)
        return found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_absent_or_real)

    def lack(*names):
        absent.update(names)
        for name in names:
            monkeypatch.delitem(sys.modules, name, raising=False)
        slicer.afterPip = lambda: absent.difference_update({"safetensors", "matplotlib"})
        return absent

    return lack


@pytest.fixture
def pytorch_extension(lacking, monkeypatch):
    """The extension PyTorch; `calls` are those of installTorch."""
    extension = ModuleType("PyTorchUtils")
    extension.calls, extension.result = [], SimpleNamespace(__version__="2.9")
    absent = lacking()

    class PyTorchUtilsLogic:
        def installTorch(self, **arguments):
            extension.calls.append(arguments)
            if isinstance(extension.result, Exception):
                raise extension.result
            if extension.result is not None:
                absent.discard("torch")
            return extension.result

    extension.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    return extension


@pytest.fixture
def slicer512(slicer, monkeypatch):
    """Slicer 5.12: `slicer.packaging` with its own pip_install."""
    packaging = ModuleType("slicer.packaging")
    packaging.pip_install = slicer._pip
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr(slicer.util, "pip_install", lambda *_: pytest.fail("5.12 has a better one"))
    return slicer


def requirements_in(call):
    """What a call of pip was asked to install, without its options."""
    with_value = {"--log", "--find-links", "-c"}
    words, result = list(call.arguments), []
    while words:
        word = words.pop(0)
        if word in with_value:
            words.pop(0)
        elif not word.startswith("-"):
            result.append(word)
    return result


def test_nothing_is_asked_when_all_is_there(installer, slicer, lacking):
    lacking()
    assert installer.ensurePackages("run") is True
    assert installer.missingPackages("report") == []
    assert not slicer.questions and not slicer.pipCalls


def test_what_is_missing_is_found_without_importing_it(installer, lacking):
    lacking("safetensors", "torch", "matplotlib")
    assert [package.distribution for package in installer.missingPackages()] == ["torch", "safetensors"]
    assert [package.module for package in installer.missingPackages("report")] == ["torch", "safetensors", "matplotlib"]
    assert "torch" not in sys.modules or sys.modules["torch"] is not None


@pytest.mark.parametrize("version", ["5.8", "5.12"])
def test_the_missing_package_is_named_asked_for_once_and_installed(installer, slicer, lacking, version, request):
    if version == "5.12":
        request.getfixturevalue("slicer512")
    lacking("safetensors")
    assert installer.ensurePackages("run") is True
    (question,), (call,) = slicer.questions, slicer.pipCalls
    assert "safetensors (0.5 MB)" in question and "Nothing is sent" in question and "site-packages" in question
    assert requirements_in(call) == ["safetensors>=0.4.3"]
    assert "--only-binary=:all:" in call.arguments and "--no-index" not in call.arguments
    assert call.others == ({"requester": "ProstateXfer"} if version == "5.12" else {})


@pytest.mark.parametrize("purpose", ["run", "report"])
def test_pip_is_never_given_what_belongs_to_slicer_and_may_change_nothing(
    installer, slicer, lacking, pytorch_extension, purpose
):
    lacking("safetensors", "matplotlib", "torch")
    installer.ensurePackages(purpose)
    (call,) = slicer.pipCalls
    assert not any(requirement.lower().startswith(NEVER_FOR_PIP) for requirement in requirements_in(call))
    import numpy

    assert f"numpy=={numpy.__version__}" in call.constraints
    pinned = {line.partition("==")[0] for line in call.constraints}
    assert {"simpleitk", "scipy", "torch", "pip"} <= pinned
    assert "safetensors" not in pinned  # or a broken old one could never be replaced
    assert all("==" in line for line in call.constraints)


def test_real_pip_accepts_the_constraints_and_keeps_numpy(installer, tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(installer.pinnedVersions(("matplotlib",))), encoding="utf-8")
    words = ["install", "--dry-run", "--no-index", "-c", str(constraints), "matplotlib>=3.8"]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout


def test_a_user_who_declines_finds_everything_as_it_was(installer, slicer, lacking, pytorch_extension):
    lacking("safetensors", "torch")
    slicer.answer = False
    with pytest.raises(ProstateXferError, match="torch, safetensors: not installed, as you chose"):
        installer.ensurePackages()
    assert not slicer.pipCalls and not pytorch_extension.calls


def test_pytorch_comes_by_its_extension(installer, slicer, lacking, pytorch_extension):
    lacking("torch")
    assert installer.ensurePackages() is True
    assert pytorch_extension.calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.6"}]
    assert not slicer.pipCalls
    assert "PyTorch (0.2 GB" in slicer.questions[0]


def test_pytorch_that_is_there_is_never_touched(installer, slicer, lacking, pytorch_extension):
    lacking("safetensors")
    installer.ensurePackages()
    assert not pytorch_extension.calls


def test_without_the_pytorch_extension_the_user_is_told_to_install_it(installer, slicer, lacking):
    lacking("torch", "safetensors")
    with pytest.raises(ProstateXferError, match="install the extension PyTorch in the Extensions Manager"):
        installer.ensurePackages()
    assert not slicer.questions and not slicer.pipCalls


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, "PyTorch was not installed, as you chose"),
        (subprocess.CalledProcessError(1, "ltt"), "PyTorch could not be installed .*open the module PyTorch"),
        (ImportError("libtorch.so"), "PyTorch could not be installed .*libtorch.so"),
    ],
)
def test_pytorch_that_does_not_come_is_one_sentence(installer, lacking, pytorch_extension, result, sentence):
    lacking("torch")
    pytorch_extension.result = result
    with pytest.raises(ProstateXferError, match=sentence):
        installer.ensurePackages()


def test_a_missing_part_of_slicer_is_not_repaired(installer, slicer, lacking):
    lacking("SimpleITK", "safetensors")
    with pytest.raises(ProstateXferError, match="SimpleITK: part of Slicer itself, but missing"):
        installer.ensurePackages()
    assert not slicer.questions and not slicer.pipCalls


@pytest.mark.parametrize("how", ["variable", "setting"])
def test_offline_pip_looks_into_the_wheel_folder_only(installer, slicer, lacking, tmp_path, monkeypatch, how):
    folder = tmp_path / "wheels with a space"
    folder.mkdir()
    if how == "variable":
        slicer.settings["ProstateXfer/WheelFolder"] = "/somewhere/else"
        monkeypatch.setenv("PROSTATEXFER_WHEELS", str(folder))
    else:
        slicer.settings["ProstateXfer/WheelFolder"] = str(folder)
    lacking("safetensors")
    installer.ensurePackages()
    arguments = slicer.pipCalls[0].arguments
    assert arguments[arguments.index("--no-index") + 1 :][:2] == ["--find-links", str(folder)]
    assert str(folder) in slicer.questions[0]


def test_offline_pytorch_is_a_command_for_the_user(
    installer, slicer, lacking, tmp_path, monkeypatch, pytorch_extension
):
    monkeypatch.setenv("PROSTATEXFER_WHEELS", str(tmp_path))
    lacking("torch")
    with pytest.raises(ProstateXferError, match=f'--no-index --find-links "{tmp_path}" "torch>=2.6"'):
        installer.ensurePackages()
    assert not pytorch_extension.calls and not slicer.questions


def test_a_wheel_folder_that_is_not_there_is_said(installer, lacking, monkeypatch):
    monkeypatch.setenv("PROSTATEXFER_WHEELS", "/not/there")
    lacking("safetensors")
    with pytest.raises(ProstateXferError, match="/not/there, does not exist"):
        installer.ensurePackages()


def test_what_pip_said_last_is_in_the_sentence(installer, slicer, lacking):
    lacking("safetensors")
    slicer.pipFails = (
        "2026-01-01T10:00:00 Non-user install\n"
        "2026-01-01T10:00:01 WARNING: Retrying after connection broken by 'ProxyError'\n"
        "2026-01-01T10:00:02 WARNING: Retrying after connection broken by 'ProxyError'\n"
        "2026-01-01T10:00:09 ERROR: No matching distribution found for safetensors>=0.4.3\n"
    )
    sentence = "safetensors: not installed .Retrying after .*'ProxyError' / No matching .*: check the network, proxy"
    with pytest.raises(ProstateXferError, match=sentence):
        installer.ensurePackages()


def test_the_real_pips_log_is_understood(installer, tmp_path):
    log = tmp_path / "pip.log"
    words = ["install", "--no-index", "--log", str(log), "prostatexfer-no-such-package"]
    subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, check=False)
    assert "No matching distribution found" in installer._reason(log, RuntimeError())


def test_pip_that_cannot_start_is_said_too(installer, slicer, lacking, monkeypatch):
    def no_python(arguments):
        raise RuntimeError("PythonSlicer executable not found")

    lacking("safetensors")
    monkeypatch.setattr(slicer.util, "pip_install", no_python)
    with pytest.raises(ProstateXferError, match="PythonSlicer executable not found"):
        installer.ensurePackages()


def test_a_package_that_is_not_found_after_all_is_said(installer, slicer, lacking):
    lacking("safetensors")
    slicer.afterPip = lambda: None
    with pytest.raises(ProstateXferError, match="restart Slicer"):
        installer.ensurePackages()


def test_under_test_nothing_is_installed_though_slicer_answers_ok(installer, slicer, lacking, pytorch_extension):
    lacking("safetensors", "torch")
    slicer.testing = True
    with pytest.raises(ProstateXferError, match="a test installs nothing"):
        installer.ensurePackages()
    assert not slicer.pipCalls and not slicer.questions and not pytorch_extension.calls
