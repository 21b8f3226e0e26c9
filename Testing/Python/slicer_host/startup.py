# SPDX-License-Identifier: Apache-2.0
"""The order in which the host has to be built."""

import os


def startHost():
    """Build it, once in a process; gives `slicer.app`."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    from slicer_host import ctk_module, qt_module

    qt_module.install()  # before any widget class is made
    qt_module.ensureApplication()
    ctk_module.install()
    from slicer_host import qmrml_widgets

    qmrml_widgets.install()
    from slicer_host import application, modules, mrml, slicer_sources

    modules.install()
    app = application.makeApplication(mrml.makeMrml(), slicer_sources.version())
    slicer_sources.install()
    return app
