"""Files of Qt Designer (.ui), with the classes and connections of Slicer."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

from PySide6 import QtCore, QtUiTools, QtWidgets

from .qt_style import wrap


class _Loader(QtUiTools.QUiLoader):
    def __init__(self, own: Mapping[str, type]) -> None:
        super().__init__()
        self._own = own

    def createWidget(
        self, name: str, parent: QtWidgets.QWidget | None = None, object_name: str = ""
    ) -> object:
        if name not in self._own:
            widget = super().createWidget(name, parent, object_name)
            if widget is None:
                raise RuntimeError(f"the .ui file has a widget of class {name}, which the host does not know")
            return widget
        widget = self._own[name](parent)
        widget.setObjectName(object_name)
        return widget


def _check(element: ElementTree.Element, root: QtWidgets.QWidget) -> None:
    """Every property that a file sets must exist: Qt would make a dynamic property of a misspelt one."""
    for item in element.iter("widget"):
        name = item.get("name")
        widget = root if root.objectName() == name else root.findChild(QtWidgets.QWidget, name)
        if widget is None:
            raise RuntimeError(f"the widget {name} of the .ui file was not made")
        for entry in item.findall("property"):
            known = widget.metaObject().indexOfProperty(entry.get("name")) >= 0
            if entry.get("stdset") != "0" and not known:
                raise AttributeError(f"{item.get('class')} {name} has no property '{entry.get('name')}'")


def _take_enumerations(tree: ElementTree.Element, own: Mapping[str, type]) -> list[tuple[str, str, object]]:
    """Names of widgets and properties, and values of Qt's enumerations that a file sets on classes of the host.

    They are taken out of the file: Qt's loader knows no enumeration of a property that is written in Python.
    """
    found = []
    for item in tree.iter("widget"):
        for entry in item.findall("property") if item.get("class") in own else ():
            text = entry.findtext("enum", "")
            if text:
                kind, value = text.split("::")
                found.append((item.get("name", ""), entry.get("name", ""), getattr(getattr(QtWidgets, kind), value)))
                item.remove(entry)
    return found


def load(path: str, own: Mapping[str, type]) -> object:
    """The widget of a .ui file.

    Args:
        own: classes of CTK and Slicer by name.

    Raises:
        AttributeError, ValueError: a property, signal or slot in the file is none of its widget's.
        RuntimeError: the file is not a .ui file, or has a widget of a class that the host lacks.
    """
    tree = ElementTree.parse(path).getroot()
    connections = tree.find("connections")
    if connections is not None:
        tree.remove(connections)  # made below, where misspelt ones are found
    enumerations = _take_enumerations(tree, own)
    data = QtCore.QBuffer()
    data.setData(ElementTree.tostring(tree))
    data.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    root = _Loader(own).load(data)
    if root is None:
        raise RuntimeError(f"could not load the .ui file {path}")
    _check(tree, root)
    for name, key, value in enumerations:
        widget = root.findChild(QtWidgets.QWidget, name)
        if not widget.setProperty(key, value):
            raise AttributeError(f"{type(widget).__name__} {name} has no property '{key}'")
    for item in connections if connections is not None else ():
        sender, signal, receiver, slot = (
            item.findtext(k, "") for k in ("sender", "signal", "receiver", "slot")
        )
        ends = []
        for name in (sender, receiver):
            found = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
            if found is None:
                raise RuntimeError(f"the .ui file connects {name}, which it does not have")
            ends.append(found)
        slots = [s for base in type(ends[1]).__mro__ for s in vars(base).get("SLOTS", ())]
        normal = bytes(QtCore.QMetaObject.normalizedSignature(slot).data()).decode()
        if normal not in slots and ends[1].metaObject().indexOfMethod(normal) < 0:
            raise ValueError(
                f"the .ui file connects to {receiver}.{slot}, which is no slot of {type(ends[1]).__name__}"
            )
        wrap(ends[0]).connect(signal, getattr(wrap(ends[1]), slot.split("(")[0]))
    return wrap(root)
