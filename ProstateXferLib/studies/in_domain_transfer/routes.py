# SPDX-License-Identifier: Apache-2.0
"""Which chains of sites the protocol trains: pure bookkeeping."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from ProstateXferLib.errors import ProstateXferError

ALL = "all"
_REFUSED_IN_NAMES = set("-/\\: ")


@dataclass(frozen=True)
class Route:
    """One chain: ImageNet -> sites[0] -> ... -> sites[-1], or ImageNet -> all sites merged.

    Attributes:
        sites: in the order of training; of a merged route in the user's order.
        merged: one stage on all of them.
    """

    sites: tuple[str, ...]
    merged: bool = False

    @property
    def name(self) -> str:
        """Its folder: "A-B-C", or "all"."""
        return ALL if self.merged else "-".join(self.sites)

    @property
    def start(self) -> "Route | None":
        """The route whose weights it goes on from; None from ImageNet."""
        return None if self.merged or len(self.sites) == 1 else Route(self.sites[:-1])

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The sites of its own stage."""
        return self.sites if self.merged else self.sites[-1:]

    @property
    def source(self) -> tuple[str, ...] | str:
        """The row of the paper's Table III: the sites before the target, or "all"."""
        return ALL if self.merged else self.sites[:-1]


def routes(sites: Sequence[str], *, longest_transfer: int = 2, merged: bool = True) -> tuple[Route, ...]:
    """Baselines, then chains by length, then all sites merged; every route comes after the one it starts from.

    So A -> B is trained once, though A -> B -> C goes on from it.

    Args:
        sites: their names, two or more.
        longest_transfer: how many sites a chain may visit before its target.
        merged: whether the route of all sites together is one of them.

    Raises:
        ProstateXferError: fewer than two sites, a name twice, or one that cannot be part of a folder's name.
    """
    if len(sites) < 2 or len(set(sites)) != len(sites):
        raise ProstateXferError(f"Transfer needs two sites or more with names of their own, not {', '.join(sites)}.")
    for name in sites:
        if not name or name == ALL or _REFUSED_IN_NAMES & set(name):
            raise ProstateXferError(f"'{name}' cannot be a site's name: take a short word without '-', '/' or blanks.")
    if longest_transfer < 0:
        raise ProstateXferError(f"A chain cannot visit {longest_transfer} sites before its target.")
    lengths = range(1, min(longest_transfer + 1, len(sites)) + 1)
    chains = [Route(order) for length in lengths for order in permutations(sites, length)]
    return (*chains, *([Route(tuple(sites), merged=True)] if merged else []))
