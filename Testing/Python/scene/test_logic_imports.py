# SPDX-License-Identifier: Apache-2.0
"""The logic knows no Qt: everything but the panel can be imported where there is none."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import importlib, pkgutil, sys
from types import ModuleType
sys.path[:0] = [{root!r}, {module!r}, {tests!r}]
import slicer_host
slicer_host.start()
import slicer.parameterNodeWrapper, slicer.ScriptedLoadableModule  # Slicer's own may use Qt

class NoQt:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("qt", "ctk", "PySide6", "PythonQt"):
            raise ImportError(f"{{name}} is forbidden here")
sys.meta_path.insert(0, NoQt())
for name in [name for name in sys.modules if name in ("qt", "ctk")]:
    del sys.modules[name]
import ProstateXferSlicer.scene as scene
names = [f"ProstateXferSlicer.scene.{{entry.name}}" for entry in pkgutil.iter_modules(scene.__path__)]
names += [f"ProstateXferSlicer.{{name}}" for name in ("study_run", "measuring", "exporting", "work.job", "self_test")]
for name in names:
    importlib.import_module(name)
import ProstateXfer
ProstateXfer.ProstateXferLogic().getParameterNode()
try:
    import ProstateXferSlicer.panel.results_table
except ImportError:
    print(len(names))
"""


def test_logic_and_scene_import_without_qt_and_the_panel_does_not():
    folders = {"root": ROOT, "module": ROOT / "ProstateXfer", "tests": ROOT / "Testing" / "Python"}
    code = CODE.format(**{name: str(folder) for name, folder in folders.items()})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.strip().splitlines()[-1]) > 15


def test_the_modules_file_imports_nothing_heavy():
    code = CODE.split("import ProstateXferSlicer.scene as")[0] + "import ProstateXfer\nprint('torch' in sys.modules)"
    folders = {"root": ROOT, "module": ROOT / "ProstateXfer", "tests": ROOT / "Testing" / "Python"}
    code = code.format(**{name: str(folder) for name, folder in folders.items()})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1:] == ["False"], done.stderr
