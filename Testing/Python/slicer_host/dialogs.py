# SPDX-License-Identifier: Apache-2.0
"""Nobody sits before the host: what would wait for a click is written down here and answered from here."""

import dataclasses
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Message:
    """A box that was shown: `kind` is "info", "warning", "error", "confirm", "box" or "dialog"."""

    kind: str
    text: str
    options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Dialogs:
    """What the module showed and asked since the test began, and what it is answered."""

    messages: list[Message] = dataclasses.field(default_factory=list)
    confirm: bool = True  # answer to every question
    paths: list[str | Path] = dataclasses.field(default_factory=list)  # answers of the file dialogs to come; then ""
    fileQuestions: list[str] = dataclasses.field(default_factory=list)  # titles of the file dialogs that were shown
    openedUrls: list[str] = dataclasses.field(default_factory=list)
    installed: list[str] = dataclasses.field(default_factory=list)  # what pip was asked to install
    exitCodes: list[int] = dataclasses.field(default_factory=list)  # of slicer.util.exit
    onDialog: Callable | None = None  # what a user would do in a modal dialog; its answer is that of exec_()

    def texts(self, kind: str) -> list[str]:
        """The texts of the messages of one kind."""
        return [message.text for message in self.messages if message.kind == kind]

    def nextPath(self, title: str) -> str:
        """The answer to a file dialog; "" is Cancel."""
        self.fileQuestions.append(title)
        return str(self.paths.pop(0)) if self.paths else ""

    def reset(self) -> None:
        """Forget everything; the same object stays in use."""
        fresh = Dialogs()
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(fresh, field.name))


dialogs = Dialogs()
