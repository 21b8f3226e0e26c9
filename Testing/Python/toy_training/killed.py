# SPDX-License-Identifier: Apache-2.0
"""A training in a process of its own that SIGKILL ends at a chosen moment."""

import multiprocessing
import os
import signal
from pathlib import Path

PRELOADED = [
    "ProstateXferLib.cli.main",
    "ProstateXferLib.training.chain",
    "lightning_fabric",
    "torch.utils.tensorboard",
]


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(words: list[str], moment: str, count: int) -> int | None:
    """Run `prostatexfer train WORDS`; the process is killed at the `count`-th time that `moment` comes.

    Moments: "step" (before an optimiser's step), "save" (half of the state is written), "weights" (a checkpoint is
    written, nothing after it), "log" (half a line is written), "done" (all is written but the mark), "never".

    Returns the exit code, negative for a signal.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(words, moment, count))
    process.start()
    process.join()
    return process.exitcode


def _run(words: list[str], moment: str, count: int) -> None:
    from ProstateXferLib.cli.main import main
    from toy_training.task import ToyTask, register

    register()
    left = [count]

    def comes() -> bool:
        left[0] -= 1
        return left[0] == 0

    _MOMENTS[moment](comes, ToyTask)
    os._exit(main(["train", *words]))


def _at_step(comes, task) -> None:
    task.after_backward = lambda self, step: kill_self() if comes() else None


def _at_save(comes, task) -> None:
    import io

    import torch

    save = torch.save

    def half(state, stream):
        if not comes():
            return save(state, stream)
        whole = io.BytesIO()
        save(state, whole)
        stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        stream.flush()
        kill_self()

    torch.save = half


def _at_weights(comes, task) -> None:
    from ProstateXferLib.training import chain

    write = chain.write_checkpoint

    def write_and_die(path, *rest):
        write(path, *rest)
        if comes():
            kill_self()

    chain.write_checkpoint = write_and_die


def _at_log(comes, task) -> None:
    from ProstateXferLib.training.engine.logs import Logs

    write = Logs.write

    def half(self, kind, step, values):
        if comes():
            with Path(self._path).open("a", encoding="utf-8") as stream:
                stream.write('{"kind": "trai')
            kill_self()
        write(self, kind, step, values)

    Logs.write = half


def _at_done(comes, task) -> None:
    from ProstateXferLib.training.run_folder import StageFolder

    finish = StageFolder.finish
    StageFolder.finish = lambda self, record: kill_self() if comes() else finish(self, record)


_MOMENTS = {
    "step": _at_step,
    "save": _at_save,
    "weights": _at_weights,
    "log": _at_log,
    "done": _at_done,
    "never": lambda comes, task: None,
}
