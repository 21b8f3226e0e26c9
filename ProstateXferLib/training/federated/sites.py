# SPDX-License-Identifier: Apache-2.0
"""The sites of a federated run, and how many patients train at each: the weight of its share."""

from collections.abc import Mapping
from pathlib import Path

from ProstateXferLib.training.datasets.registry import find_cases
from ProstateXferLib.training.datasets.splits import split_cases
from ProstateXferLib.training.federated.rounds import Site
from ProstateXferLib.training.recipe.schema import Chain, Source


def find_sites(sources: Mapping[str, Source], chain: Chain, data: Path) -> tuple[Site, ...]:
    """Count the patients that train at each site after the recipe's split; those that validate or test do not count.

    Args:
        sources: site name -> its cases.
        chain: what a site trains; the split of its last stage counts.
        data: folder that the sources' paths are relative to.

    Raises:
        ProstateXferError: a folder that is not there, or a split that leaves nobody to train.
    """
    sites = []
    for name, source in sources.items():
        split = split_cases([(source, find_cases(source, data))], chain.stages[-1].split)
        patients = {case.patient_id for _, cases in split.train for case in cases}
        sites.append(Site(name, source, len(patients)))
    return tuple(sites)
