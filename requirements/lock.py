# SPDX-License-Identifier: Apache-2.0
"""Write demo.lock and test.lock anew: install what pyproject.toml asks for into an empty environment and freeze it.

Run by `make lock`. The freeze is the machine's own answer, so a lock never names what was not installed and run here.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# PyTorch is chosen by hand: every machine of this project has a build of this release. The demo takes any build.
# Networks of segmentation_models_pytorch need torchvision, and torchvision the very build of PyTorch it was made with,
# the registry's ordinary one. `===` asks for that: `==` prefers a local build such as 2.13.0+cpu, and with that
# torchvision cannot be imported.
TORCH = "torch==2.13.0"
TORCH_PAIR = ("torch===2.13.0", "torchvision==0.28.0")
# The package itself is installed editable without build isolation, so its build backend is part of the lock.
BUILD_BACKEND = "hatchling"
# No wheels of slicer-core for Linux on ARM; what comes with it is of no use alone. The same words as in pyproject.toml.
NOT_LINUX_ON_ARM = "sys_platform != 'linux' or platform_machine == 'x86_64'"
MARKERS = dict.fromkeys(("PySide6_Essentials", "shiboken6", "slicer-core", "vtk"), NOT_LINUX_ON_ARM)

# What a GPU build of PyTorch for Linux brings along; it pins them itself, and other platforms have none.
GPU_LIBRARIES = ("nvidia-", "cuda-", "triton==")

HEADER = """\
# {what}
# Written by `make lock` (requirements/lock.py) with Python {python}; do not edit by hand.
# Exact versions of everything, with wheels for Python 3.11 to 3.13 on Linux, macOS and Windows. What only one platform
# needs (colorama on Windows, the CUDA libraries of a Linux GPU build of PyTorch) is left to pip: PyTorch pins its own.
"""


def wanted(*extras: str) -> list[str]:
    """The project's dependencies and those of `extras`, with extras that name other extras of the project resolved."""
    requirements = list(PROJECT["dependencies"])
    for extra in extras:
        for requirement in PROJECT["optional-dependencies"][extra]:
            nested = re.fullmatch(rf"{PROJECT['name']}\[(.+)\]", requirement)
            requirements += wanted(*nested[1].split(",")) if nested else [requirement]
    return requirements


def frozen(python: Path) -> list[str]:
    """What is installed, as lines `name==version` with MARKERS; a build's local part (`+cpu`) goes: any build fits."""
    listing = subprocess.run(
        [python, "-m", "pip", "freeze", "--exclude", "pip", "--exclude", "setuptools"],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout
    versions = [
        re.sub(r"\+\w+$", "", line) for line in listing.splitlines() if line and not line.startswith(GPU_LIBRARIES)
    ]
    markers = [MARKERS.get(line.partition("==")[0]) for line in versions]
    return [f"{line}; {marker}" if marker else line for line, marker in zip(versions, markers, strict=True)]


def main() -> int:
    """Make the environment in the folder given, and both locks beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment", type=Path, help="folder of the throw-away environment (emptied first)")
    environment = parser.parse_args().environment
    shutil.rmtree(environment, ignore_errors=True)
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    def install(*requirements: str) -> None:
        subprocess.run([python, "-m", "pip", "install", "--quiet", BUILD_BACKEND, *requirements], check=True)

    install(TORCH, *wanted("report"))
    demo = frozen(python)
    title = HEADER.format(
        what="What `make demo` installs: the library, its reports, and its build backend.", python=version
    )
    (HERE / "demo.lock").write_text(title + "\n".join(demo) + "\n", encoding="utf-8")

    install(*TORCH_PAIR, *wanted("dev"))
    everything = frozen(python)
    changed = sorted(set(demo) - set(everything))
    if changed:
        raise SystemExit(f"The test tools need other versions than the demo: {', '.join(changed)}.")
    title = HEADER.format(
        what="What `make test` installs on top of demo.lock: training, scores, Slicer for tests, and the tools.",
        python=version,
    )
    added = [line for line in everything if line not in demo]
    lines = ["-r demo.lock", TORCH_PAIR[0], *added]
    (HERE / "test.lock").write_text(title + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
