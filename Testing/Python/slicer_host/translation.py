# SPDX-License-Identifier: Apache-2.0
"""Stand-in for `slicer.i18n`: texts stay as they are."""

import slicer


def translate(context: str, text: str) -> str:
    """The text in the application's language; `context` says where it is used."""
    return slicer.app.translate(context, text)


def tr(text: str) -> str:
    """The same, with the calling file as context."""
    return translate("", text)
