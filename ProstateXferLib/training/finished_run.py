# SPDX-License-Identifier: Apache-2.0
"""What may go once a run has given its checkpoint: studies and federated rounds make dozens of runs."""

from pathlib import Path

from ProstateXferLib.training.candidates import CANDIDATES_FILE
from ProstateXferLib.training.chain import default_run_folder
from ProstateXferLib.training.run_folder import RunFolder


def drop_weights_of_run(output: Path) -> None:
    """Remove state and weights of the run whose finished checkpoint is `output`; logs and records stay.

    They take six times the checkpoint's own space, and only serve to go on with a run that is not finished.
    """
    run = RunFolder(default_run_folder(output))
    for path in (*run.path.glob("stages/*/*"), *run.packages.glob("*")):
        if path.suffix in (".pt", ".safetensors"):
            path.unlink()
    (run.path / CANDIDATES_FILE).unlink(missing_ok=True)
