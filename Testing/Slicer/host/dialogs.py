"""Dialogs: what a person would be shown is recorded, and what a person would answer is told beforehand."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtWidgets

from . import qt_style

BUTTONS = QtWidgets.QMessageBox.StandardButton


@dataclass
class Message:
    """A message box or dialog that was shown."""

    text: str
    title: str = ""
    icon: str = ""
    detail: str = ""
    buttons: tuple[str, ...] = ()


@dataclass
class Conversation:
    """What was shown, and the answers that are still to be given, first one first.

    An answer is the name of a button ("Ok", "Yes", "Cancel"), True or False for the first accepting or refusing
    button, a path for a file dialog, a text for an input dialog.
    """

    messages: list[Message] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)

    def take(self, message: Message) -> Any:
        """Record a question and give the next answer.

        Under the busy cursor people wait, and do not see that they are asked: Slicer's own dialogs show no other cursor.
        No module may take this error for an answer.
        """
        self.messages.append(message)
        if QtWidgets.QApplication.overrideCursor() is not None:
            raise AssertionError(f"the question {message.text!r} stands under the busy cursor")
        if not self.answers:
            raise LookupError(f"no answer is prepared for the question {message.text!r}")
        return self.answers.popleft()


current = Conversation()


def _box(box: Any) -> int:
    """Stand in for QMessageBox.exec_."""
    native = qt_style.unwrap(box)
    given = native.standardButtons()
    names = tuple(b.name for b in BUTTONS if b.value and b & given and b.value == (b & given).value)
    details = QtWidgets.QMessageBox.ButtonRole.ActionRole  # "Show Details..." answers nothing
    own = {
        button.text(): button
        for button in native.buttons()
        if native.standardButton(button) == BUTTONS.NoButton and native.buttonRole(button) != details
    }
    message = Message(native.text(), native.windowTitle(), native.icon().name, native.detailedText(), names)
    if len(names) + len(own) <= 1:
        current.messages.append(message)
        return BUTTONS[names[0]].value if names else 0
    answer = current.take(message)
    if answer in own:
        own[answer].click()
        return 0
    if isinstance(answer, bool):
        wanted = ("Ok", "Yes", "Retry", "Save", "Open") if answer else ("Cancel", "No", "Close", "Abort")
        answer = next(name for name in wanted if name in names)
    if answer not in names:
        raise ValueError(f"{answer!r} is none of the buttons {names} of {message.text!r}")
    return BUTTONS[answer].value


def _static(icon: str, default: BUTTONS) -> Any:
    """Stand in for QMessageBox.information and its kin."""

    def show(parent: Any, title: str, text: str, buttons: Any = default, *_: Any) -> int:
        box = QtWidgets.QMessageBox()
        box.setWindowTitle(title)
        box.setText(text)
        box.setIcon(QtWidgets.QMessageBox.Icon[icon])
        box.setStandardButtons(BUTTONS(int(getattr(buttons, "value", buttons))))
        return _box(box)

    return show


def _dialog(dialog: Any) -> int:
    """Stand in for QDialog.exec_: accepted or rejected."""
    native = qt_style.unwrap(dialog)
    accepted = bool(current.take(Message(native.windowTitle(), native.windowTitle())))
    (native.accept if accepted else native.reject)()
    return int(accepted)


def ask_path(title: str, kind: str = "", filters: str = "", start: str = "") -> str:
    """A path that a file dialog gives; empty where it was cancelled.

    Args:
        kind: "Open", "Save" or "Folder", which the message has as its icon.
        filters: of names, which it has as its detail; behind a line break follows where the dialog begins.
    """
    answer = current.take(Message(title, title, kind, f"{filters}\n{start}"))
    return str(answer) if answer else ""


def _path(kind: str) -> Any:
    def ask(parent: Any = None, title: str = "", start: str = "", filters: str = "", *_: Any) -> str:
        return ask_path(title, kind, "" if kind == "Folder" else filters, start)

    return ask


def _paths(parent: Any = None, title: str = "", *_: Any) -> tuple[str, ...]:
    answer = current.take(Message(title, title))
    return tuple(str(path) for path in answer or ())


def _value(parent: Any, title: str, text: str, *_: Any) -> Any:
    return current.take(Message(text, title))


def install() -> None:
    """Put the stand-ins in place of every dialog of Qt that waits for a person."""
    for name in ("exec", "exec_"):
        qt_style.replaced["QMessageBox", name] = _box
        qt_style.replaced["QDialog", name] = _dialog
        qt_style.replaced["QMenu", name] = lambda *_: None
    for name in ("information", "warning", "critical"):
        qt_style.replaced["QMessageBox", name] = _static(name.capitalize(), BUTTONS.Ok)
    qt_style.replaced["QMessageBox", "question"] = _static("Question", BUTTONS.Yes | BUTTONS.No)
    kinds = {"getOpenFileName": "Open", "getSaveFileName": "Save", "getExistingDirectory": "Folder"}
    for name, kind in kinds.items():
        qt_style.replaced["QFileDialog", name] = _path(kind)
    qt_style.replaced["QFileDialog", "getOpenFileNames"] = _paths
    for name in ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"):
        qt_style.replaced["QInputDialog", name] = _value
