# SPDX-License-Identifier: Apache-2.0
"""What several rooms' tests share: where the real images and the reference results lie."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

with contextlib.suppress(ImportError):  # Slicer's Python may lack it; the tests that need it say so themselves
    from hypothesis import settings

    # How long an example takes says something about the machine's other work, not about the code.
    settings.register_profile("project", deadline=None, print_blob=True)
    settings.load_profile("project")

_SHARED = Path(__file__).resolve().parents[3] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses real images, so that `-m "not real_data"` leaves it out."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"there is no folder '{folder}'; set {variable} to the one to use")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real images; its README.md says what lies where."""
    return _folder("PROSTATEXFER_TEST_DATA", _SHARED / "data")


@pytest.fixture(scope="session")
def golden_data() -> Path:
    """The folder with results of the reference implementations."""
    return _folder("PROSTATEXFER_GOLDEN_DATA", _SHARED / "golden")


@pytest.fixture(scope="session")
def oblique_direction() -> tuple[float, ...]:
    """A right-handed direction, row by row, that is far from every patient axis."""
    left, _, right = np.linalg.svd(np.random.default_rng(7).normal(size=(3, 3)))
    return tuple((left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right).ravel())
