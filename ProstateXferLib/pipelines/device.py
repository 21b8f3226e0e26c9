# SPDX-License-Identifier: Apache-2.0
"""Where and in which number format a network runs, and what happens when memory runs out."""

from collections.abc import Callable

import torch
from torch import Tensor

from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.progress import Progress, raise_if_cancelled

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def resolve_device(name: str = "auto") -> torch.device:
    """Turn "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:N" or "mps" into a device that exists.

    Raises:
        ProstateXferError: an unknown name, or a device this machine does not have; never a silent fallback.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdecimal())):
        raise ProstateXferError(f"Device '{name}' is not known: use auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ProstateXferError(
                f"Device '{name}' was asked for, but PyTorch sees {count} CUDA device(s): choose another, or auto."
            )
        return torch.device("cuda", int(index or torch.cuda.current_device()))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ProstateXferError("Device 'mps' was asked for, but PyTorch sees no Apple GPU: choose cpu or auto.")
    return torch.device(kind)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn "auto", "fp32", "bf16" or "fp16" into a dtype.

    "auto" is bf16 on a CUDA device that computes in it, fp16 on an older one, and fp32 elsewhere: on a CPU bf16 is
    about twice as fast where the processor has it, but moves a few voxels, so it is only used when asked for.

    Raises:
        ProstateXferError: an unknown name.
    """
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if name not in PRECISIONS:
        raise ProstateXferError(f"Precision '{name}' is not known: use auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """The short name of a dtype, for provenance."""
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def refuse_non_finite(output: Tensor, model: str, dtype: torch.dtype) -> None:
    """Raise ProstateXferError where a network gave NaN or infinity: as labels or HU they would look like a result."""
    if not torch.isfinite(output).all():
        advice = "choose the precision bf16 or fp32" if dtype == torch.float16 else "get the model file again"
        raise ProstateXferError(
            f"The model '{model}' gave values that are not finite in {precision_name(dtype)}: {advice}."
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether this is CUDA's, MPS's or the CPU allocator's out-of-memory error and nothing else."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error).lower() for word in _OUT_OF_MEMORY_WORDS)


def default_batch_size(device: torch.device, bytes_per_item: int) -> int:
    """How many items to run at once: one on a CPU (two cores are busy with one), a quarter of a GPU's free memory."""
    if device.type == "cpu":
        return 1
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(max(1, min(64, free // 4 // max(1, bytes_per_item))))
    return 4


class AdaptiveRunner:
    """Runs a function over batches; on out-of-memory halves the batch, then moves to the CPU, and says so.

    Args:
        move: called with a device when the work has to move there (moves the network).
        device: where to start.
        batch_size: items at once to start with; what was learnt is kept for the next call.
        progress: told about fallbacks; asked whether to stop between batches.
        item: what is in a batch, for these words.
    """

    def __init__(
        self,
        move: Callable[[torch.device], None],
        device: torch.device,
        batch_size: int,
        progress: Progress,
        *,
        item: str = "slice",
    ) -> None:
        self._move, self.device, self.batch_size, self._progress = move, device, batch_size, progress
        self._item = item

    def run(self, function: Callable[[Tensor], Tensor], items: Tensor) -> list[Tensor]:
        """`function` of (b, ...) batches of `items` (n, ...); a list of its results in order, on `self.device`."""
        results, start = [], 0
        while start < len(items):
            raise_if_cancelled(self._progress)
            batch = items[start : start + self.batch_size]
            try:
                results.append(function(batch.to(self.device, non_blocking=True)))
            except RuntimeError as error:
                if not is_out_of_memory(error) or not self._fall_back(len(batch)):
                    raise
                results = [result.to(self.device) for result in results]
                continue
            start += len(batch)
        return results

    def _fall_back(self, tried: int) -> bool:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried > 1:
            self.batch_size = max(1, tried // 2)
            self._progress.warn(
                f"Memory of {self.device} ran out: going on with {self.batch_size} {self._item}(s) at a time."
            )
            return True
        if self.device.type == "cpu":
            return False
        self._progress.warn(
            f"Memory of {self.device} ran out even for one {self._item}: going on with the CPU, which is much slower."
        )
        self.device = torch.device("cpu")
        self._move(self.device)
        return True
