"""Which widget shows which type of parameter, and how; as Slicer's parameterNodeWrapper connects them.

Slicer compares exact widget classes, so a widget that is not in this table is refused there as well.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer


@dataclass
class Decimals:
    """Annotation: digits that a spin box or slider shows."""

    value: int


@dataclass
class SingleStep:
    """Annotation: step of a spin box or slider."""

    value: float


class Connector:
    """A widget and one property of it, with the signal that tells of changes."""

    def __init__(
        self, widget: Any, attribute: str, signal: str | None, kind: Callable[[Any], Any] = lambda v: v
    ) -> None:
        self.widget, self._attribute, self._signal, self._kind = widget, attribute, signal, kind
        self._callback: Callable[[], None] | None = None

    def connect(self, callback: Callable[[], None]) -> None:
        self._callback = lambda: callback()
        if self._signal:
            self.widget.connect(self._signal, self._callback)

    def disconnect(self) -> None:
        if self._signal and self._callback:
            self.widget.disconnect(self._signal, self._callback)
        self._callback = None

    def read(self) -> Any:
        return self._kind(getattr(self.widget, self._attribute))

    def write(self, value: Any) -> None:
        if getattr(self.widget, self._attribute) != value:
            setattr(self.widget, self._attribute, value)


class _NodeConnector(Connector):
    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


class _ChoiceConnector(Connector):
    def __init__(self, widget: Any, choices: list[Any], label: Callable[[Any], str] = str) -> None:
        super().__init__(widget, "currentIndex", "currentIndexChanged(int)")
        self._choices = choices
        widget.clear()
        for choice in choices:
            widget.addItem(label(choice))

    def read(self) -> Any:
        return self._choices[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self._choices:
            raise ValueError(f"Unable to find value {value} in choices {self._choices}")
        self.widget.currentIndex = self._choices.index(value)


def _ranged(widget: Any, kind: type, annotations: list[Any], needs_range: bool) -> None:
    limits: dict[str, Any] = {}
    for annotation in annotations:
        for name in ("minimum", "maximum"):
            if hasattr(annotation, name):
                limits[name] = getattr(annotation, name)
        if isinstance(annotation, Decimals):
            widget.decimals = annotation.value
        if isinstance(annotation, SingleStep):
            widget.singleStep = annotation.value
    if needs_range and len(limits) < 2:
        raise RuntimeError(f"a {type(widget).__name__} needs a parameter with a WithinRange annotation")
    unbounded = (-(2**31), 2**31 - 1) if kind is int else (float("-inf"), float("inf"))
    widget.minimum = limits.get("minimum", unbounded[0])
    widget.maximum = limits.get("maximum", unbounded[1])


def connector(widget: Any, kind: Any, annotations: list[Any]) -> Connector:
    """The connector of a widget and a type.

    Raises:
        RuntimeError: Slicer has no connector for this widget and type, or it needs an annotation that is missing.
    """
    import ctk
    import qt

    cls = type(widget)
    if kind is bool and cls is qt.QCheckBox:
        return Connector(widget, "checked", "toggled(bool)")
    if kind is bool and cls is qt.QPushButton:
        widget.checkable = True
        return Connector(widget, "checked", "toggled(bool)")
    if kind is int and cls in (qt.QSlider, qt.QSpinBox):
        _ranged(widget, int, annotations, cls is qt.QSlider)
        return Connector(widget, "value", "valueChanged(int)")
    if kind in (int, float) and cls in (qt.QDoubleSpinBox, ctk.ctkSliderWidget, ctk.ctkDoubleSpinBox):
        if kind is int:
            widget.decimals = 0
        _ranged(widget, float, annotations, cls is ctk.ctkSliderWidget)
        return Connector(widget, "value", "valueChanged(double)", kind)
    if kind in (bool, int, float, str) and cls in (qt.QComboBox, ctk.ctkComboBox):
        choices = next((a.choices for a in annotations if hasattr(a, "choices")), None)
        if choices is None:
            raise RuntimeError("a combo box needs a parameter with a Choice annotation")
        return _ChoiceConnector(widget, choices)
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and cls is qt.QComboBox:
        return _ChoiceConnector(widget, list(kind), getattr(kind, "label", lambda member: member.name))
    if kind is str and cls is qt.QLineEdit:
        return Connector(widget, "text", "textChanged(QString)")
    if kind is str and cls is qt.QLabel:
        return Connector(widget, "text", None)
    if kind is Path and cls is ctk.ctkPathLineEdit:
        return Connector(widget, "currentPath", "currentPathChanged(QString)", Path)
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode) and cls is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = (kind().GetClassName(),)
        return _NodeConnector(widget, "currentNodeID", "currentNodeChanged(vtkMRMLNode*)")
    raise RuntimeError(
        f"Unable to create GUI connector from datatype '{kind}' to widget type '{cls.__name__}'"
    )
