# SPDX-License-Identifier: Apache-2.0
"""Which slice of which case sample number i is."""

from collections.abc import Sequence

import numpy as np

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache.prepared import PreparedCase
from ProstateXferLib.training.sampling.draws import generator_of


class SliceChoice:
    """Slices of cases by number: each once an epoch, or a share of them from those that show a structure.

    Args:
        cases: prepared cases.
        foreground_share: share of choices among the slices that show a structure, the others among all; None gives
            every slice once an epoch, in an order drawn anew for each.
        even_cases: with a share, a case is drawn first and then one of its slices.
        minimum_pixels: slices count only with more pixels of structures than this; 0 lets all count.
        seed: of the draws.

    Raises:
        ProstateXferError: no slice counts.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        *,
        foreground_share: float | None,
        even_cases: bool = False,
        minimum_pixels: int,
        seed: int,
    ) -> None:
        self._share, self._even, self._seed = foreground_share, even_cases, seed
        found = [drawn_pixels(case) for case in cases]
        counted = [
            (case, z, bool(pixels))
            for case, per_slice in enumerate(found)
            for z, pixels in enumerate(per_slice)
            if not minimum_pixels or pixels > minimum_pixels
        ]
        if not counted:
            raise ProstateXferError(
                f"None of the {len(found)} cases has a slice with more than {minimum_pixels} pixels of its structures: "
                "lower minimum_pixels or check the masks."
            )
        # (n, 2): case and slice, small enough to travel to every worker.
        self._all = np.array([(case, z) for case, z, _ in counted], dtype=np.int32)
        self._foreground = self._all[np.array([shown for _, _, shown in counted])]

    def __len__(self) -> int:
        """Slices that count."""
        return len(self._all)

    def of(self, index: int) -> tuple[int, int]:
        """(position of the case, z) of sample `index`."""
        if self._share is None:
            epoch, place = divmod(index, len(self._all))
            order = generator_of(self._seed, epoch, "order of slices").permutation(len(self._all))
            return tuple(self._all[order[place]].tolist())
        random = generator_of(self._seed, index, "choice of a slice")
        among, foreground = self._all, self._foreground
        if self._even:
            cases = np.unique(self._all[:, 0])
            case = cases[random.integers(len(cases))]
            among, foreground = (item[item[:, 0] == case] for item in (among, foreground))
        if random.random() < self._share and len(foreground):
            among = foreground
        return tuple(among[random.integers(len(among))].tolist())


def drawn_pixels(case: PreparedCase) -> np.ndarray:
    """(z,) number of pixels in each slice that belong to any structure."""
    counts = [np.asarray(per_slice) for per_slice in case.slice_voxels.values()]
    return np.sum(counts, axis=0, dtype=np.int64) if counts else np.zeros(case.shape_zyx[0], np.int64)
