# SPDX-License-Identifier: Apache-2.0
"""Timing by rounds: every contender once a round, the minimum counts, so that drifting load hits all alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """Of one run: by the clock, and of the processor (all threads), which other work on the machine hardly changes."""

    wall: float
    cpu: float


def best_seconds(contenders: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Shortest wall time of each contender over `rounds` rounds, after one warm-up each."""
    return {name: seconds.wall for name, seconds in best_times(contenders, rounds).items()}


def best_times(contenders: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, Seconds]:
    """Shortest wall and processor time of each contender over `rounds` rounds, after one warm-up each."""
    for run in contenders.values():
        run()
    best = dict.fromkeys(contenders, Seconds(float("inf"), float("inf")))
    for _ in range(rounds):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = Seconds(min(best[name].wall, wall), min(best[name].cpu, cpu))
    return best


def report(title: str, best: Mapping[str, float], baseline: str, limits: Mapping[str, float] | None = None) -> None:
    """Print seconds and ratios to the baseline; a limit is what the project asks for."""
    print(f"\n{title}")
    for name, seconds in best.items():
        ratio = seconds / best[baseline]
        limit = (limits or {}).get(name)
        asked = "" if limit is None else f"  asked <= {limit:.2f}  {'ok' if ratio <= limit else 'MISSED'}"
        print(f"  {name:<44} {seconds:8.3f} s   x{ratio:5.2f}{asked}")


def report_times(
    title: str, best: Mapping[str, Seconds], baseline: str, limits: Mapping[str, float] | None = None
) -> None:
    """Print both times and their ratios to the baseline's; a limit counts for the processor's."""
    print(f"\n{title}")
    for name, seconds in best.items():
        wall, cpu = seconds.wall / best[baseline].wall, seconds.cpu / best[baseline].cpu
        limit = (limits or {}).get(name)
        asked = "" if limit is None else f"  asked <= {limit:.2f}  {'ok' if cpu <= limit else 'MISSED'}"
        print(f"  {name:<44} {seconds.wall:8.3f} s   x{wall:5.2f}   CPU {seconds.cpu:8.3f} s   x{cpu:6.3f}{asked}")
