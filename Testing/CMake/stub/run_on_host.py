# SPDX-License-Identifier: Apache-2.0
"""What Slicer's test macros run in Slicer, on the host of Testing/Python/slicer_host instead; called by ctest.

`run_on_host.py generic MODULE`, `run_on_host.py unittest FILE_STEM FOLDER` or `run_on_host.py script FILE [arguments]`;
PROSTATEXFER_MODULE_DIR names the folder with the module.
"""

import os
import runpy
import sys
import unittest
from pathlib import Path

MODULES = Path(os.environ["PROSTATEXFER_MODULE_DIR"])
# The environment of `make test`; the host itself is not installed.
sys.path.append(str(Path(__file__).resolve().parents[2] / "Python"))


class GenericTest(unittest.TestCase):
    """What Slicer asks of every module: it loads, introduces itself, and shows a panel, also without a main window."""

    name = ""

    def setUp(self) -> None:
        import slicer

        self.module = getattr(slicer.modules, self.name.lower())

    def test_the_module_introduces_itself(self) -> None:
        for text in (self.module.title, self.module.categories, self.module.contributors, self.module.helpText):
            self.assertTrue(text)
        self.assertTrue(self.module.acknowledgementText)

    def test_there_is_one_panel(self) -> None:
        self.assertIsNotNone(self.module.widgetRepresentation())
        self.assertIs(self.module.widgetRepresentation(), self.module.widgetRepresentation())


def main() -> int:
    """0 when all went well, 1 when not, 77 (ctest: skipped) where the host cannot run."""
    import slicer_host

    kind, name, *arguments = sys.argv[1:]
    reason = slicer_host.missing()
    if reason:
        sys.stderr.write(f"Skipped: {reason}.\n")
        return 77
    app = slicer_host.start()
    app.hasMainWindow = kind != "generic"
    app.moduleManager().loadScripted(next(MODULES.glob("*.py")))
    if kind == "script":
        sys.argv = [name, *arguments]
        runpy.run_path(name, run_name="__main__")
        return 0
    if kind == "generic":
        GenericTest.name = name
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(GenericTest)
    else:
        sys.path.extend(folder for folder in arguments if folder not in sys.path)
        suite = unittest.defaultTestLoader.loadTestsFromName(name)
    done = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if done.wasSuccessful() and done.testsRun else 1


if __name__ == "__main__":
    # Qt's and VTK's objects die in no order of ours when the interpreter ends; the result stands already.
    sys.stdout.flush()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
