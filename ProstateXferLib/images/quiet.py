# SPDX-License-Identifier: Apache-2.0
"""Keeping ITK's C++ warnings off stderr, where the command line speaks to the user."""

from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk


@contextmanager
def quiet_itk() -> Iterator[None]:
    """No C++ warnings inside the block; exceptions still come."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
