# SPDX-License-Identifier: Apache-2.0
"""This room runs in "Slicer for tests"; see slicer_host/fixtures.py for what the fixtures are."""

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
from study_child.fixtures import (  # noqa: F401
    child,
    finished_panel,
    panel,
    study_of,
    temporary_folder,
    whole_study,
)
