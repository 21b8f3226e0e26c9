# SPDX-License-Identifier: Apache-2.0
"""Start-up: `import ProstateXferLib` and `prostatexfer --help`, each in a fresh interpreter."""

import subprocess
import sys

from rounds import best_seconds


def main(rounds: int) -> None:
    """Print the shortest times; the interpreter's own start is measured beside."""

    def run(*arguments: str):
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    best = best_seconds(
        {
            "python -c pass": run("-c", "pass"),
            "import ProstateXferLib": run("-c", "import ProstateXferLib"),
            "prostatexfer --help": run("-m", "ProstateXferLib", "--help"),
        },
        rounds,
    )
    limits = {"import ProstateXferLib": 0.3, "prostatexfer --help": 0.5}
    print("\nStart-up")
    for name, seconds in best.items():
        asked = (
            f"  asked <= {limits[name]} s  {'ok' if seconds <= limits[name] else 'MISSED'}" if name in limits else ""
        )
        print(f"  {name:<44} {seconds:8.3f} s{asked}")
