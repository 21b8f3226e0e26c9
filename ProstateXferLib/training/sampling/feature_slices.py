# SPDX-License-Identifier: Apache-2.0
"""Training samples of heads on a frozen encoder: slices as stored tokens."""

from dataclasses import dataclass

from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.training.cache.features import FeatureStore
from ProstateXferLib.training.sampling.draws import generator_of
from ProstateXferLib.training.sampling.slice_choice import SliceChoice
from ProstateXferLib.training.sampling.tensors import known_flags


@dataclass(frozen=True)
class FeatureSliceOptions:
    """Which slices.

    Attributes:
        foreground_share, even_cases, minimum_pixels: as `slices.SliceOptions` has them.
    """

    foreground_share: float | None = None
    even_cases: bool = False
    minimum_pixels: int = 0

    def __post_init__(self) -> None:
        if self.foreground_share is not None and not 0 <= self.foreground_share <= 1:
            raise ProstateXferError("The slices' foreground_share must be a share from 0 to 1.")
        if self.minimum_pixels < 0:
            raise ProstateXferError("The slices' minimum_pixels starts at 0.")


class FeatureSliceSamples:
    """Slices as tokens; `samples[i]` depends on (seed, i) alone, and so does which stored variant it is.

    Each gives "tokens" (N, E) float32, "labels" (H, W) int64 of that variant, "known" (S,) bool.

    Args:
        store: see `cache.features.cached_features`, where the trade against augmentation on the fly is told.
        options: see `FeatureSliceOptions`.
        seed: of everything that is drawn.

    Raises:
        ProstateXferError: no slice counts.
    """

    def __init__(self, store: FeatureStore, options: FeatureSliceOptions, seed: int) -> None:
        self._store, self._seed = store, seed
        self._choice = SliceChoice(
            store.cases,
            foreground_share=options.foreground_share,
            even_cases=options.even_cases,
            minimum_pixels=options.minimum_pixels,
            seed=seed,
        )

    def __len__(self) -> int:
        """Slices that count."""
        return len(self._choice)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Sample `index`, counted from 0 without end."""
        case, z = self._choice.of(index)
        variants = len(self._store.folders[case])
        variant = int(generator_of(self._seed, index, "variant").integers(variants))
        return {
            "tokens": self._store.tokens(case, z, variant),
            "labels": self._store.labels(case, z, variant),
            "known": known_flags(self._store.cases[case]),
        }
