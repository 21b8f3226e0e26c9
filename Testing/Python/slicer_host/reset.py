# SPDX-License-Identifier: Apache-2.0
"""Between two tests the process is a Slicer that was just started."""

import slicer

from slicer_host.application import forgetSettings
from slicer_host.dialogs import dialogs


def reset() -> None:
    """Unload the module, empty the scene, forget settings and messages."""
    manager = slicer.app.moduleManager()
    for name in [name for name in manager.loadedModuleNames() if hasattr(manager.module(name), "path")]:
        manager.unload(name)
    scene = slicer.mrmlScene
    scene.Clear(False)
    # A closed scene keeps singletons; the parameter nodes are of this kind.
    for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
        scene.RemoveNode(node)
    scene.SetURL("")
    dialogs.reset()
    forgetSettings()
    slicer.modules.sampleDataSources.clear()
    slicer.app.hasMainWindow = True
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
