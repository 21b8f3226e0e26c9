# SPDX-License-Identifier: Apache-2.0
"""docs/datasets.md says what the adapters say."""

from pathlib import Path

import pytest

from ProstateXferLib.training.datasets.registry import LAYOUTS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_the_page_has_every_layouts_tree_and_terms(layout):
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition(f"\n## {layout.name}\n")[2].partition("\n## ")[0]
    assert f"```text\n{layout.description}\n```" in section, "copy the adapter's docstring into docs/datasets.md"
    assert all(fact in section for fact in (layout.licence, layout.citation, layout.cases, layout.where))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_every_option_is_explained(layout):
    options = " ".join(layout.description.partition("\nOption")[2].split())
    assert all(f"{option} (" in options for option in layout.options)
