# SPDX-License-Identifier: Apache-2.0
"""The one way the panel tells an error: a sentence, and the end of the log behind "Details"."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import slicer
from slicer.i18n import tr as _

from ProstateXferLib.errors import CancelledError, ProstateXferError


def showError(title: str, sentence: str, logTail: Sequence[str] = ()) -> None:
    """Show what is wrong and what to do; `logTail` goes behind the button "Show details"."""
    details = {"detailedText": "\n".join(logTail)} if logTail else {}
    slicer.util.errorDisplay(sentence, windowTitle=title, **details)


@contextmanager
def errorsShown(title: str) -> Iterator[None]:
    """Show an error instead of letting it reach Qt; the traceback of an unexpected one goes to Slicer's log."""
    try:
        yield
    except CancelledError:
        pass
    except ProstateXferError as error:
        showError(title, str(error))
    except Exception as error:  # the edge of the panel: no exception reaches the user raw
        import logging
        import traceback

        logging.getLogger(__name__).exception(title)
        sentence = _("Unexpected {kind}: {text}. Please report it with the details.")
        showError(title, sentence.format(kind=type(error).__name__, text=error), traceback.format_exc().splitlines())


def shown(title: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`errorsShown` for a slot; the slot must take no signal arguments."""

    def decorate(slot: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(slot)
        def guarded(self) -> Any:
            with errorsShown(title):
                return slot(self)

        return guarded

    return decorate
