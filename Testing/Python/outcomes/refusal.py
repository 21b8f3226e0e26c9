# SPDX-License-Identifier: Apache-2.0
"""The sentence of a refusal."""

import pytest

from ProstateXferLib.errors import ProstateXferError


def refusal(function, *arguments, longest=400, **options) -> str:
    """What `function(*arguments, **options)` is refused with: one line of fewer than `longest` characters."""
    with pytest.raises(ProstateXferError) as caught:
        function(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence, f"more than one line: {sentence!r}"
    assert len(sentence) < longest, f"{len(sentence)} characters: {sentence!r}"
    return sentence
