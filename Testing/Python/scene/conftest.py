# SPDX-License-Identifier: Apache-2.0
"""This room runs in "Slicer for tests"; see slicer_host/fixtures.py for what the fixtures are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slicer_host.fixtures import (  # noqa: E402, F401
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
