# SPDX-License-Identifier: Apache-2.0
"""Writes a models folder's registry."""

import json


def register(folder, *entries, **entry):
    """registry.json with these entries, or with one given by keywords; what they do not say is a test model's."""
    common = {"task": "segmentation", "title": "a test model", "licence": "Apache-2.0"}
    models = [common | values for values in (entries or (entry,))]
    (folder / "registry.json").write_text(json.dumps({"models": models}), encoding="utf-8")
