# SPDX-License-Identifier: Apache-2.0
"""What people read: measurement tables, figures, one self-contained HTML page."""

from importlib import import_module

_HOMES = {
    "Figure": "html",
    "Outline": "outlines",
    "Page": "html",
    "Table": "html",
    "axial_slices": "figures",
    "measurement_tables": "table",
    "measurements_text": "table",
    "outlines_of": "outlines",
    "render_page": "html",
    "sagittal_coronal": "figures",
    "synthetic_ct": "figures",
    "write_measurements_csv": "table",
    "write_measurements_json": "table",
    "write_page": "html",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Import the module a public name lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, whether loaded or not."""
    return sorted({*globals(), *__all__})
