# SPDX-License-Identifier: Apache-2.0
"""`make bench`: ratios taken in one run, minimum of several rounds in turn. No test depends on them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

BENCHMARKS = (
    "start_up",
    "mr_dinov3",
    "many_heads",
    "dgcf",
    "memory",
    "surface_metrics",
    "cohort_evaluation",
    "cached_features",
    "training_step",
    "nnunet_speed",
    "nnunet_memory",
    "nnunet_shortcuts",
)


def main() -> None:
    """Run all benchmarks, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import importlib

    import torch

    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {_processor()}")
    for name in arguments.names:
        importlib.import_module(name).main(arguments.rounds)


def _processor() -> str:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in flags]
    return f"processor has {', '.join(known) or 'no known vector extensions'}"


if __name__ == "__main__":
    main()
