# SPDX-License-Identifier: Apache-2.0
"""Seeds of every step: what the learner draws is a function of the run's seed and the step, not of what ran before."""

import hashlib

import torch


def seed_torch(device: torch.device, *numbers: int) -> None:
    """Seed torch's generators on the CPU and on `device` from several numbers.

    Not `torch.manual_seed`: it also leaves a seed for every kind of device that torch knows and never starts, with a
    traceback each, which a million steps would pile up.
    """
    seed = mixed_seed(*numbers)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def mixed_seed(*numbers: int) -> int:
    """A seed of 63 bits; near numbers give seeds that have nothing to do with each other."""
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
