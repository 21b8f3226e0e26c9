# SPDX-License-Identifier: Apache-2.0
"""Timing by rounds: every contender once a round, the minimum counts, so that drifting load hits all alike."""

import time
from collections.abc import Callable, Mapping


def best_seconds(contenders: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Shortest wall time of each contender over `rounds` rounds, after one warm-up each."""
    for run in contenders.values():
        run()
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def report(title: str, best: Mapping[str, float], baseline: str, limits: Mapping[str, float] | None = None) -> None:
    """Print seconds and ratios to the baseline; a limit is what the project asks for."""
    print(f"\n{title}")
    for name, seconds in best.items():
        ratio = seconds / best[baseline]
        limit = (limits or {}).get(name)
        asked = "" if limit is None else f"  asked <= {limit:.2f}  {'ok' if ratio <= limit else 'MISSED'}"
        print(f"  {name:<44} {seconds:8.3f} s   x{ratio:5.2f}{asked}")
