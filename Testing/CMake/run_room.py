# SPDX-License-Identifier: Apache-2.0
"""Run one room of Testing/Python on the library of the installed tree, not of the checkout; called by ctest.

`run_room.py ROOM [pytest arguments]`; PROSTATEXFER_MODULE_DIR names the installed qt-scripted-modules folder.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


# What belongs to the installed tree; tests read the rest (sources, golden files) in the checkout.
OURS = ("ProstateXfer", "ProstateXferLib", "ProstateXferSlicer")


def taken_from_elsewhere(installed: Path) -> list[str]:
    """The files of loaded modules of ours that do not lie in the installed tree."""
    ours = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in OURS]
    files = {Path(module.__file__).resolve() for module in ours if getattr(module, "__file__", None)}
    return sorted(str(file) for file in files if not file.is_relative_to(installed))


def main() -> int:
    """Pytest's exit status; 1 with a sentence where the wrong library was tested."""
    import ProstateXferLib

    room, *arguments = sys.argv[1:]
    installed, found = Path(os.environ["PROSTATEXFER_MODULE_DIR"]).resolve(), Path(ProstateXferLib.__file__).resolve()
    if not found.is_relative_to(installed):
        sys.stderr.write(f"ProstateXferLib was found in {found}, not in {installed}.\n")
        return 1
    folder = ROOT / "Testing" / "Python" / room
    configuration = ["--config-file", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    # What pytest remembers of the last run is that of the checkout.
    status = pytest.main([*configuration, "-p", "no:cacheprovider", "-q", "-rs", *arguments, str(folder)])
    wrong = taken_from_elsewhere(installed)
    if wrong:
        sys.stderr.write("\n".join([f"These were tested, and not what lies in {installed}:", *wrong, ""]))
    return int(status) or bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
