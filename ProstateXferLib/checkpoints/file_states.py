# SPDX-License-Identifier: Apache-2.0
"""Whether what a model is made of has changed since it was last read."""

from pathlib import Path

from ProstateXferLib.checkpoints.nnunet_folder import nnunet_files
from ProstateXferLib.errors import ProstateXferError

FileStates = tuple[tuple[str, int, int, int], ...]


def file_states(path: Path) -> FileStates:
    """What changes with a checkpoint file, or with any file of an nnU-Net folder.

    Returns:
        Of each file its absolute path, two times in ns and its size in bytes: the time of the last change of its
        content, and that of its entry (on Windows: of its creation), which copying programs cannot set back.

    Raises:
        ProstateXferError: a file cannot be read, or the folder lacks one that its model is made of.
    """
    files = nnunet_files(path) if path.is_dir() else [path]
    try:
        states = [(str(file.absolute()), file.stat()) for file in files]
    except OSError as error:
        raise ProstateXferError(
            f"The checkpoint '{path}' cannot be read ({error.strerror}): check the path."
        ) from error
    return tuple((name, status.st_mtime_ns, status.st_ctime_ns, status.st_size) for name, status in states)
