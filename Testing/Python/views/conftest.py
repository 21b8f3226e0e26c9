# SPDX-License-Identifier: Apache-2.0
"""This room runs in "Slicer for tests"; see slicer_host/fixtures.py for what the fixtures are."""

import pytest

from slicer_host.fixtures import (  # noqa: F401
    callback_errors,
    cbct_volume,
    ct_volume,
    dialogs,
    module_widget,
    no_main_window,
    phantom_study,
    pytest_pycollect_makemodule,
    scene,
    slicer_host,
    t2w_volume,
)


@pytest.fixture(autouse=True)
def _gl():
    """Nothing can be drawn where OpenGL is missing."""
    from slicer_host import render

    if (reason := render.missingGl()) is not None:
        pytest.skip(reason)
