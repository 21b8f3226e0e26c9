# SPDX-License-Identifier: Apache-2.0
"""What a layout finds in its tree, for the tests of layouts."""

import SimpleITK as sitk

from dataset_trees.trees import write_tree
from ProstateXferLib.images.grid import Grid
from ProstateXferLib.training.datasets.masks import read_mask, read_sequence
from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.recipe.schema import Source


def trees_in(root):
    """trees(layout): the folder of that layout's tree below `root`, written once."""
    made = set()

    def tree(layout):
        if layout not in made:
            write_tree(layout, root / layout)
            made.add(layout)
        return root / layout

    return tree


def found(folder, layout, **options):
    """{case id: case}."""
    return {case.case_id: case for case in find_cases(Source(layout, options=options), folder)}


def mask(case, structure):
    """bool (z, y, x) on the grid of the case's first image."""
    image = read_sequence(case, next(iter(case.images)))
    return sitk.GetArrayFromImage(read_mask(case.masks[structure], Grid.of(image))) > 0
