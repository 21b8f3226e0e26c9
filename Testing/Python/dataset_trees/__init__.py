# SPDX-License-Identifier: Apache-2.0
"""Small data sets in the layouts of published ones: `write_tree(layout, folder)` for whoever needs one to train on."""

from dataset_trees.trees import TREES, write_tree
from dataset_trees.volumes import GLAND_CM3, GRID, gland_labels, image_array, lesion_labels, zone_labels

__all__ = [
    "GLAND_CM3",
    "GRID",
    "TREES",
    "gland_labels",
    "image_array",
    "lesion_labels",
    "write_tree",
    "zone_labels",
]
