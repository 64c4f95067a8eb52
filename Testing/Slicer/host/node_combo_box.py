"""A list of the nodes of a real scene, over PySide6: qMRMLNodeComboBox and what it is made of."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import dialogs
from .dialogs import Message
from .widgets_ctk import ctkComboBox, inner, stored

ID = QtCore.Qt.ItemDataRole.UserRole
ACTION = QtCore.Qt.ItemDataRole.UserRole + 1


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that hands its scene to the widgets within."""

    API = ("mrmlScene", "setMRMLScene")
    SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    SLOTS = ("setMRMLScene(vtkMRMLScene*)",)
    mrmlSceneChanged = Signal(object)
    _scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def refuse_while_filling(scene: Any, what: str) -> None:
    """Raise where a scene is being closed, imported or filled in a batch: Slicer's lists are then half filled.

    qMRMLSceneModel updates lazily: it takes no node while the scene processes a batch, and is emptied and filled again at
    the end of it. In Slicer 5.12.3 a choice in between ends in a segmentation fault (`QStandardItem::removeRows`).
    """
    if scene is not None and scene.IsBatchProcessing():
        raise RuntimeError(f"{what} was touched while the scene was being filled; Slicer would crash")


class SceneObserver:
    """Observes VTK objects with methods of a widget, as long as Qt keeps the widget."""

    def __init__(self, widget: QtWidgets.QWidget) -> None:
        self._tags: list[tuple[Any, int]] = []
        widget.destroyed.connect(
            lambda *_, tags=self._tags: [item[0].RemoveObserver(item[1]) for item in tags]
        )

    def add(
        self, observed: Any, event: Any, method: Any, calldata: bool = False, priority: float = 0.0
    ) -> None:
        weak = weakref.WeakMethod(method)

        def called(caller: Any, name: str, data: Any = None) -> None:
            bound = weak()
            if bound is not None and shiboken6.isValid(bound.__self__):
                bound(data if calldata else caller)

        if calldata:
            called.CallDataType = vtk.VTK_OBJECT
        self._tags.append((observed, observed.AddObserver(event, called, priority)))

    def clear(self, observed: Any = None) -> None:
        for item in [t for t in self._tags if observed in (None, t[0])]:
            item[0].RemoveObserver(item[1])
            self._tags.remove(item)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """One node of the scene, chosen from a list that follows the scene."""

    API = (
        "mrmlScene", "setMRMLScene", "addAttribute", "removeAttribute", "setBaseName", "setNodeTypeLabel",
        "nodeTypeLabel", "nodeCount", "nodeFromIndex", "currentNode", "setCurrentNode", "setCurrentNodeID",
        "setCurrentNodeIndex", "addNode", "removeCurrentNode", "renameCurrentNode", "editCurrentNode", "nodes",
        "addMenuAction",
    )  # fmt: skip
    SIGNALS: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeChangedValid",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "currentNodeRenamed(QString)": "currentNodeRenamed",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    }
    SLOTS = ("setMRMLScene(vtkMRMLScene*)", "setCurrentNode(vtkMRMLNode*)", "setCurrentNodeID(QString)")
    currentNodeChanged, currentNodeChangedValid = Signal(object), Signal(bool)
    currentNodeIDChanged, currentNodeRenamed = Signal(str), Signal(str)
    nodeActivated, nodeAdded, nodeAddedByUser = Signal(object), Signal(object), Signal(object)
    nodeAboutToBeRemoved, nodeAboutToBeEdited = Signal(object), Signal(object)
    ACTIONS = True

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observer = SceneObserver(self)
        self._attributes: dict[str, tuple[str, Any]] = {}  # one for each type: the last one stands
        self._names: dict[str, str] = {}
        self._names_known: dict[str, str] = {}  # of the nodes that are listened to, as the list's items have them
        self._labels: dict[str, str] = {}
        self._wanted, self._told, self._menu = "", ("", "", -1), []
        self._add_enabled = self._remove_enabled = self.ACTIONS
        self._box = ctkComboBox()
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.currentIndexChanged.connect(lambda _: self._changed())
        self._box.currentTextChanged.connect(lambda _: self._changed())
        self._box.activated.connect(self._activated)
        self.setEnabled(False)

    # Properties

    nodeTypes = stored("QStringList", "types", [], "_rebuild")
    showHidden = stored(bool, "show_hidden", False, "_rebuild")
    showChildNodeTypes = stored(bool, "show_child_types", True, "_rebuild")
    hideChildNodeTypes = stored("QStringList", "hide_child_types", [], "_rebuild")
    noneEnabled = stored(bool, "none_enabled", False, "_rebuild")
    addEnabled = stored(bool, "add_enabled", True, "_rebuild")
    removeEnabled = stored(bool, "remove_enabled", True, "_rebuild")
    editEnabled = stored(bool, "edit_enabled", False, "_rebuild")
    renameEnabled = stored(bool, "rename_enabled", False, "_rebuild")
    noneDisplay = stored(str, "none_display", "None", "_rebuild")
    selectNodeUponCreation = stored(bool, "select_upon_creation", True)
    interactionNodeSingletonTag = stored(str, "interaction_tag", "")
    sizeAdjustPolicy = inner(
        QtWidgets.QComboBox.SizeAdjustPolicy, "_box", "sizeAdjustPolicy", "setSizeAdjustPolicy"
    )
    baseName = Property(
        str,
        lambda self: self._names.get(self._types[0], "") if getattr(self, "_types", []) else "",
        lambda self, name: self.setBaseName(name),
    )

    # Scene

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._observer.clear()
        self._scene = scene
        if scene is not None:
            self._observer.add(scene, slicer.vtkMRMLScene.NodeAddedEvent, self._node_added, True)
            self._observer.add(scene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._node_leaves, True)
            # Before observers of modules, as qMRMLSceneModel.
            self._observer.add(scene, slicer.vtkMRMLScene.EndBatchProcessEvent, self._batch_ended, priority=10)
        wanted, self._wanted = self._wanted, ""
        self._rebuild(wanted)  # one change is told, not that of a node that only happens to be the first
        self.setEnabled(scene is not None)

    def _batch_ended(self, _: Any) -> None:
        self._rebuild()

    def _rejected(self, node: Any) -> bool:
        """Whether a node is kept out for good: Slicer's list does not listen to such a node."""
        exact = getattr(self, "_types", [])
        wanted = node.GetClassName() in exact
        if self.showChildNodeTypes:
            wanted = wanted or any(node.IsA(kind) for kind in exact)
            wanted = wanted and not any(node.IsA(kind) for kind in self.hideChildNodeTypes)
        return not wanted or (bool(node.GetHideFromEditors()) and not self.showHidden)

    def _listed(self, node: Any) -> bool:
        if self._rejected(node):
            return False
        for kind in getattr(self, "_types", []):  # of another type, as a derived one, no attribute is asked for
            if node.IsA(kind) and kind in self._attributes:
                name, value = self._attributes[kind]
                return node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
        return True

    def _rebuild(self, wanted: str = "") -> None:
        current = wanted or self.currentNodeID
        self._box.blockSignals(True)
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay, "")
        nodes = [] if self._scene is None else [
            self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())
        ]  # fmt: skip
        self._names_known.clear()
        for node in nodes:
            self._observer.clear(node)
            self._listen(node)
            if self._listed(node):
                self._box.addItem(node.GetName(), node.GetID())
        for text, action in self._actions():
            self._box.addItem(text)
            self._box.setItemData(self._box.count() - 1, action, ACTION)
        self._box.setCurrentIndex(self._row(current))
        self._box.blockSignals(False)
        self._box.defaultText = f"Select a {self.nodeTypeLabel((getattr(self, '_types', None) or [''])[0])}"
        self._changed()

    def _actions(self) -> list[tuple[str, str]]:
        types = getattr(self, "_types", [])
        label = self.nodeTypeLabel(types[0] if len(types) == 1 else "")
        found = []
        if self.renameEnabled:
            found.append((f"Rename current {label}", "RENAME"))
        if self.editEnabled:
            found.append((f"Edit current {label}", "EDIT"))
        if self.addEnabled:
            for kind in types:
                found.append((f"Create new {self.nodeTypeLabel(kind)}", "CREATE/" + kind))
                if self.renameEnabled:
                    found.append((f"Create new {self.nodeTypeLabel(kind)} as...", "CREATE_AS/" + kind))
        if self.removeEnabled:
            found.append((f"Delete current {label}", "DELETE"))
        return found + [(action.text(), "MENU/" + action.text()) for action in self._menu]

    def _row(self, node_id: str) -> int:
        """Row of a node; of "None" or no row where it is not listed."""
        row = self._box.findData(node_id) if node_id else -1
        return 0 if row < 0 and self.noneEnabled else row

    def _first(self) -> int:
        return int(bool(self.noneEnabled))

    def _node_added(self, node: Any) -> None:
        if self._scene.IsBatchProcessing():
            return
        self._listen(node)
        if self._listed(node):
            self._insert(node)
            self.nodeAdded.emit(node)

    def _listen(self, node: Any) -> None:
        if not self._rejected(node):
            self._names_known[node.GetID()] = node.GetName()
            self._observer.add(node, vtk.vtkCommand.ModifiedEvent, self._node_modified)

    def _insert(self, node: Any) -> None:
        row = self._first()
        while row < self._box.count() and self._box.itemData(row, ACTION) is None:
            row += 1
        self._box.insertItem(row, node.GetName(), node.GetID())

    def _node_leaves(self, node: Any) -> None:
        self._observer.clear(node)
        self._names_known.pop(node.GetID(), None)
        if self._scene.IsBatchProcessing():
            return
        row = self._box.findData(node.GetID())
        if row >= 0:
            self.nodeAboutToBeRemoved.emit(node)
            self._remove(row)

    def _remove(self, row: int) -> None:
        self._box.removeItem(row)
        if self.currentNode() is None:
            self._box.setCurrentIndex(0 if self.noneEnabled else -1)

    def _node_modified(self, node: Any) -> None:
        """A row is filtered again when its text changes; with a filter by attributes all are, at every change of a node.

        A node that is hidden stays in the list until then: qMRMLSceneModel::updateItemFromNode writes the same data.
        """
        if self._scene is None or self._scene.IsBatchProcessing():
            return
        renamed = self._names_known.get(node.GetID()) != node.GetName()
        self._names_known[node.GetID()] = node.GetName()
        if any(node.IsA(kind) for kind in getattr(self, "_types", []) if kind in self._attributes):
            for other in [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]:
                self._filter(other)
        elif renamed:
            self._filter(node)

    def _filter(self, node: Any) -> None:
        row = self._box.findData(node.GetID())
        if self._listed(node):
            if node.GetID() not in self._names_known:
                self._listen(node)
            if row < 0:
                self._insert(node)
            elif self._box.itemText(row) != node.GetName():
                self._box.setItemText(row, node.GetName())
        elif row >= 0:
            self._remove(row)

    def _changed(self) -> None:
        row = self._box.currentIndex()
        if row >= 0 and self._box.itemData(row, ACTION) is not None:
            # Where the chosen node left, Qt moves on to an action; Slicer chooses the last node instead.
            last = self.nodeFromIndex(self.nodeCount() - 1)
            if last is not None:
                self.setCurrentNode(last)
            return
        node = self.currentNode()
        # Qt also tells of the same item in another row, as when one before it is removed.
        state = (node.GetID(), node.GetName(), row) if node is not None else ("", "", -1)
        if state != self._told:
            self._told = state
            self.currentNodeChanged.emit(node)
            self.currentNodeChangedValid.emit(node is not None)
            self.currentNodeIDChanged.emit(state[0])

    # Choice

    def currentNode(self) -> Any:
        node_id = self._box.currentData(ID)
        return self._scene.GetNodeByID(node_id) if node_id and self._scene is not None else None

    def _current_id(self) -> str:
        node = self.currentNode()
        return node.GetID() if node is not None else ""

    def setCurrentNodeID(self, node_id: str) -> None:
        refuse_while_filling(self._scene, f"the list {self.objectName()}")
        if self._scene is None:
            self._wanted = node_id or ""
        self._box.setCurrentIndex(self._row(node_id or ""))

    currentNodeID = Property(str, _current_id, setCurrentNodeID)

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self._box.setCurrentIndex(index + self._first() if index < self.nodeCount() else self._first() - 1)

    def nodeCount(self) -> int:
        return sum(bool(self._box.itemData(row, ID)) for row in range(self._box.count()))

    def nodeFromIndex(self, index: int) -> Any:
        node_id = self._box.itemData(index + self._first(), ID)
        return self._scene.GetNodeByID(node_id) if node_id and self._scene is not None else None

    def nodes(self) -> list[Any]:
        return [self.nodeFromIndex(i) for i in range(self.nodeCount())]

    # Nodes made, renamed and removed by the user

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        if node_type not in getattr(self, "_types", []):
            return
        self._attributes[node_type] = name, None if value is None else str(value)
        self._rebuild()

    def removeAttribute(self, node_type: str, name: str) -> None:
        if self._attributes.get(node_type, ("",))[0] == name:
            del self._attributes[node_type]
        self._rebuild()

    def setBaseName(self, name: str, node_type: str = "") -> None:
        for kind in [node_type] if node_type else getattr(self, "_types", []):
            self._names[kind] = name

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._labels[node_type] = label
        self._rebuild()

    def nodeTypeLabel(self, node_type: str) -> str:
        if node_type in self._labels:
            return self._labels[node_type]
        return (self._scene and self._scene.GetTypeDisplayNameByClassName(node_type)) or "node"

    def addMenuAction(self, action: Any) -> None:
        self._menu.append(action)
        self._rebuild()

    def addNode(self, node_type: str = "") -> Any:
        node_type = node_type or self._types[0]
        node = self._scene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        name = self._names.get(node_type) or node.GetName() or node.GetDefaultNodeNamePrefix()
        node.SetName(self._scene.GetUniqueNameByString(name))
        for kind, (attribute, value) in self._attributes.items():
            if node.IsA(kind):
                node.SetAttribute(attribute, value or "")
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        if node is not None:
            name = dialogs.current.take(
                Message("New name:", f"Rename {self.nodeTypeLabel(node.GetClassName())}")
            )
            if name:
                node.SetName(name)
                self.currentNodeRenamed.emit(name)

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def _activated(self, row: int) -> None:
        action = self._box.itemData(row, ACTION)
        if action is None:
            self.nodeActivated.emit(self.currentNode())
            return
        kind, _, value = action.partition("/")
        if kind == "DELETE":
            self.removeCurrentNode()
        elif kind == "RENAME":
            self.renameCurrentNode()
        elif kind == "EDIT":
            self.editCurrentNode()
        elif kind == "MENU":
            next(item for item in self._menu if item.text() == value).trigger()
        else:
            name = ""
            if kind == "CREATE_AS":  # the name first: without one there is no node
                title = f"Create new {self.nodeTypeLabel(value)}"
                name = dialogs.current.take(Message("New name:", title))
                if not name:
                    return
            node = self.addNode(value)
            if name:
                node.SetName(name)
                self.setCurrentNode(node)

    def choose(self, text: str) -> None:
        """What a click on an item of the list does; for tests."""
        row = self._box.findText(text)
        if row < 0:
            items = [self._box.itemText(i) for i in range(self._box.count())]
            raise LookupError(f"{text!r} is none of {items}")
        if self._box.itemData(row, ACTION) is None:
            self._box.setCurrentIndex(row)
        self._activated(row)
