# SPDX-License-Identifier: Apache-2.0
"""When memory runs out: smaller batches, then the CPU, always said aloud; any other error is let through."""

from types import SimpleNamespace

import pytest
import torch

from ProstateXferLib.errors import CancelledError
from ProstateXferLib.networks.mr_dinov3 import MRDINOv3
from ProstateXferLib.pipelines.device import AdaptiveRunner, default_batch_size, is_out_of_memory
from ProstateXferLib.pipelines.slice_decoder import HeadTask, SliceDecoder, slice_mirrorings
from ProstateXferLib.pipelines.tiling import Tiling

# A device that every machine has besides its CPU: tensors on it have a shape and no values.
OTHER = torch.device("meta")
ITEMS = torch.arange(11.0).view(11, 1)


class Watcher:
    def __init__(self, stop_after=10**6):
        self.told, self.asked, self.stop_after = [], 0, stop_after

    def update(self, step, fraction, message=""):
        pass

    def warn(self, message):
        self.told.append(message)

    def cancelled(self):
        self.asked += 1
        return self.asked > self.stop_after


@pytest.fixture
def watcher():
    return Watcher()


def runner(watcher, *, batch_size=8, device="cpu", moved=None):
    return AdaptiveRunner((moved if moved is not None else []).append, torch.device(device), batch_size, watcher)


def square(batch, *, most, seen=None):
    if seen is not None:
        seen.append(len(batch))
    if len(batch) > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return batch**2


def test_a_batch_that_is_too_large_is_halved_until_it_fits_and_the_result_is_the_same(watcher):
    seen, work = [], runner(watcher)
    results = work.run(lambda batch: square(batch, most=3, seen=seen), ITEMS)
    assert torch.equal(torch.cat(results), ITEMS**2)
    assert seen == [8, 4, 2, 2, 2, 2, 2, 1]
    assert watcher.told == [
        "Memory of cpu ran out: going on with 4 slice(s) at a time.",
        "Memory of cpu ran out: going on with 2 slice(s) at a time.",
    ]


def test_what_was_learnt_is_kept_for_the_next_call(watcher):
    work = runner(watcher)
    work.run(lambda batch: square(batch, most=2), ITEMS)
    seen = []
    work.run(lambda batch: square(batch, most=2, seen=seen), ITEMS)
    assert max(seen) == 2
    assert len(watcher.told) == 2


def test_when_even_one_item_is_too_much_for_the_device_the_cpu_takes_over(watcher):
    moved, seen = [], []

    def work_of(batch):
        seen.append((batch.device.type, len(batch)))
        return square(batch, most=0 if batch.device == OTHER else 5)

    work = runner(watcher, batch_size=2, device=OTHER, moved=moved)
    results = work.run(work_of, ITEMS[:4])
    assert torch.equal(torch.cat(results), ITEMS[:4] ** 2)
    assert seen == [("meta", 2), ("meta", 1), *[("cpu", 1)] * 4]
    assert moved == [torch.device("cpu")]
    assert work.device == torch.device("cpu")
    assert "going on with the CPU, which is much slower" in watcher.told[-1]


def test_when_the_cpu_cannot_hold_one_item_either_the_error_is_raised(watcher):
    with pytest.raises(torch.OutOfMemoryError):
        runner(watcher, batch_size=2).run(lambda batch: square(batch, most=0), ITEMS)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("wrong")])
def test_other_errors_are_not_swallowed(watcher, error):
    calls = []

    def fail(batch):
        calls.append(batch)
        raise error

    with pytest.raises(type(error), match=str(error)):
        runner(watcher).run(fail, ITEMS)
    assert len(calls) == 1
    assert watcher.told == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("anything"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"), False),
    ],
)
def test_only_an_exhausted_memory_counts_as_such(error, expected):
    assert is_out_of_memory(error) is expected


def test_between_batches_the_user_can_stop():
    seen = []
    with pytest.raises(CancelledError):
        runner(Watcher(stop_after=2), batch_size=2).run(lambda batch: square(batch, most=9, seen=seen), ITEMS)
    assert seen == [2, 2]


def test_no_items_give_no_results(watcher):
    assert runner(watcher).run(lambda batch: batch, ITEMS[:0]) == []


def test_a_cpu_takes_one_item_at_a_time():
    assert default_batch_size(torch.device("cpu"), 1) == 1


class PretendedGpu(AdaptiveRunner):
    """Runs on the CPU, but says that it is a GPU."""

    def __init__(self, batch_size, watcher):
        super().__init__(lambda device: None, torch.device("cpu"), batch_size, watcher)

    def run(self, function, items):
        self.device = torch.device("cpu")
        try:
            return super().run(function, items)
        finally:
            self.device = SimpleNamespace(type="cuda")


@pytest.mark.parametrize("method", ["encode", "decode_where"])
def test_memory_that_runs_out_in_encoder_or_decoder_costs_batch_size_and_not_the_result(
    watcher, random_state, monkeypatch, method
):
    network = MRDINOv3.from_state_dict(random_state(gland=2, fold=2, dil=2), eps=1e-5, rope_dtype="fp32")
    lesion = HeadTask("dil", 2, within="gland", margin_px=3.0, margin_slices=1)
    tasks = [HeadTask("gland", 2), HeadTask("fold", 2, like="gland"), lesion]
    slices = torch.randn(6, 40, 32, generator=torch.Generator().manual_seed(0))
    tiling, mirrors = Tiling.of((40, 32), (32, 32)), slice_mirrorings(True)
    decoder = SliceDecoder(network, tasks, tiling, mirrors=mirrors, skip_outside=True)
    real = getattr(MRDINOv3, method)

    def small(self, *args, **options):
        if len(args[0 if method == "encode" else 1]) > 3:
            raise torch.OutOfMemoryError("pretended")
        return real(self, *args, **options)

    with torch.inference_mode():
        expected = decoder.run(slices, runner(Watcher(), batch_size=1), Watcher())
        monkeypatch.setattr(MRDINOv3, method, small)
        found = decoder.run(slices, PretendedGpu(64, watcher), Watcher())
    assert watcher.told
    for head, logits in expected.items():
        assert torch.allclose(found[head], logits, atol=1e-4)
