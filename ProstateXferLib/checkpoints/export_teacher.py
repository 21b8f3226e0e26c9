# SPDX-License-Identifier: Apache-2.0
"""An encoder checkpoint as the kind of file that MedDINOv3 is published in, for programs that read no other.

The file is a pickle of plain tensors, {"teacher": {"backbone.*", "dino_head.*", "ibot_head.*"}} (reference notes 1.6d):
it opens with `torch.load(..., weights_only=True)`. It has no place for a card: eps, RoPE dtype, training data and
licence stay behind, and readers assume MedDINOv3's settings where there is no qkv bias, Meta's where there is one.
"""

from pathlib import Path

from ProstateXferLib.checkpoints.file_format import read_checkpoint
from ProstateXferLib.errors import ProstateXferError
from ProstateXferLib.files import atomic_file

BACKBONE = "backbone."
_OTHER_PARTS = ("dino_head.", "ibot_head.")


def export_teacher(checkpoint: Path, destination: Path) -> Path:
    """Write the encoder, and the heads where the checkpoint holds them, as a .pth file.

    Args:
        checkpoint: an encoder checkpoint of ours.
        destination: file to write, ending in .pth.

    Raises:
        ProstateXferError: a folder, not an encoder, a wrong ending, or settings that readers of such a file would get
            wrong.
    """
    import torch

    from ProstateXferLib.networks.dinov3 import DINOv3

    if Path(checkpoint).is_dir():
        raise ProstateXferError(
            f"'{checkpoint}' is a folder: only the file of an encoder can be exported, and an nnU-Net folder is a "
            "segmentation model."
        )
    card, state = read_checkpoint(Path(checkpoint))
    if card.task != "encoder":
        raise ProstateXferError(f"'{card.name}' is a {card.task} model: only encoders can be exported.")
    if Path(destination).suffix != ".pth":
        raise ProstateXferError(f"The exported file's name must end in .pth; '{Path(destination).name}' does not.")
    teacher = {
        key if key.startswith((BACKBONE, *_OTHER_PARTS)) else f"{BACKBONE}{key}": tensor
        for key, tensor in state.items()
    }
    intended = DINOv3.from_state_dict(state, eps=card.arguments.get("eps"), rope_dtype=card.arguments.get("rope_dtype"))
    periods = f"{BACKBONE}rope_embed.periods"
    if intended.rope_dtype == torch.bfloat16:  # as in MedDINOv3's own file; the values are bfloat16's
        teacher[periods] = teacher[periods].to(torch.bfloat16)
    assumed = DINOv3.from_state_dict({"teacher": teacher})
    if (assumed.eps, assumed.rope_dtype) != (intended.eps, intended.rope_dtype):
        raise ProstateXferError(
            f"'{card.name}' was trained with eps {intended.eps:g} and RoPE in {str(intended.rope_dtype)[6:]}, which "
            "readers of a .pth file would not guess: share the checkpoint itself."
        )
    with atomic_file(Path(destination)) as temporary:
        torch.save({"teacher": teacher}, temporary)
    return Path(destination)
