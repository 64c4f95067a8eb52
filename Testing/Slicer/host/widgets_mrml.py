"""The MRML widgets that modules use, over PySide6 and a real scene."""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .node_combo_box import ID, SceneObserver, qMRMLNodeComboBox, qMRMLWidget, refuse_while_filling
from .widgets_ctk import stored


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Several nodes of the scene, ticked in a list that follows the scene."""

    API = ("checkedNodes", "uncheckedNodes", "allChecked", "noneChecked", "checkState", "setCheckState", "check",
           "uncheck")  # fmt: skip
    SIGNALS: ClassVar = {"checkedNodesChanged()": "checkedNodesChanged"}
    checkedNodesChanged = Signal()
    ACTIONS = False

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        self._checked: set[str] = set()
        super().__init__(parent)
        self._box.model().itemChanged.connect(self._item_changed)

    def _mark(self) -> None:
        """Give every node its tick box, and the closed box the names of the ticked ones."""
        model = self._box.model()
        model.blockSignals(True)
        for row in range(self._box.count()):
            item = model.item(row)
            if item.data(ID):
                on = item.data(ID) in self._checked
                item.setCheckable(True)
                item.setCheckState(QtCore.Qt.CheckState.Checked if on else QtCore.Qt.CheckState.Unchecked)
        model.blockSignals(False)
        names = [node.GetName() for node in self.checkedNodes()]
        self._box.defaultText = ", ".join(names) or "None"
        self._box.setCurrentIndex(-1)

    def _rebuild(self, wanted: str = "") -> None:
        super()._rebuild(wanted)
        self._mark()

    def _batch_ended(self, _: Any) -> None:
        self._checked.clear()  # the items are new ones
        super()._batch_ended(_)

    def _insert(self, node: Any) -> None:
        super()._insert(node)
        self._mark()

    def _remove(self, row: int) -> None:
        gone = self._box.itemData(row, ID)
        super()._remove(row)
        self._checked.discard(gone)  # CTK tells of this with the next change of a tick only
        self._mark()

    def _item_changed(self, item: Any) -> None:
        if item.data(ID) and item.isCheckable():
            self._set(item.data(ID), item.checkState() == QtCore.Qt.CheckState.Checked)

    def _set(self, node_id: str, on: bool) -> None:
        if (node_id in self._checked) != on and self._box.findData(node_id) >= 0:
            (self._checked.add if on else self._checked.discard)(node_id)
            self._mark()
            self.checkedNodesChanged.emit()

    def checkedNodes(self) -> list[Any]:
        return [node for node in self.nodes() if node.GetID() in self._checked]

    def uncheckedNodes(self) -> list[Any]:
        return [node for node in self.nodes() if node.GetID() not in self._checked]

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def checkState(self, node: Any) -> Any:
        on = node is not None and node.GetID() in self._checked
        return QtCore.Qt.CheckState.Checked if on else QtCore.Qt.CheckState.Unchecked

    def setCheckState(self, node: Any, state: Any) -> None:
        refuse_while_filling(self._scene, f"the list {self.objectName()}")
        if node is not None:
            self._set(node.GetID(), int(getattr(state, "value", state)) == QtCore.Qt.CheckState.Checked.value)

    def check(self, node: Any) -> None:
        self.setCheckState(node, QtCore.Qt.CheckState.Checked)

    def uncheck(self, node: Any) -> None:
        self.setCheckState(node, QtCore.Qt.CheckState.Unchecked)


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    API = ("currentNode", "currentNodeID", "setCurrentNode", "setCurrentNodeID", "currentSegmentID",
           "setCurrentSegmentID", "selectedSegmentIDs", "segmentIDs")  # fmt: skip
    SIGNALS: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentSegmentChanged(QString)": "currentSegmentChanged",
        "segmentSelectionChanged(QStringList)": "segmentSelectionChanged",
    }
    SLOTS = (*qMRMLWidget.SLOTS, "setCurrentNode(vtkMRMLNode*)")
    currentNodeChanged, currentSegmentChanged = Signal(object), Signal(str)
    segmentSelectionChanged = Signal(list)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._nodes, self._segments = qMRMLNodeComboBox(), QtWidgets.QComboBox()
        self._nodes.setProperty("nodeTypes", ["vtkMRMLSegmentationNode"])
        for name in ("addEnabled", "removeEnabled"):
            self._nodes.setProperty(name, False)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)
        self._observer = SceneObserver(self)
        self.mrmlSceneChanged.connect(self._nodes.setMRMLScene)
        self._nodes.currentNodeChanged.connect(self._node_chosen)
        self._segments.currentIndexChanged.connect(self._segment_chosen)

    def _none(self, on: bool) -> None:
        self._nodes.setProperty("noneEnabled", on)
        self._fill()

    noneEnabled = Property(bool, lambda self: self._nodes.noneEnabled, _none)
    editEnabled = stored(bool, "edit_enabled", False)
    multiSelection = stored(bool, "multi_selection", False)
    horizontalLayout = stored(bool, "horizontal_layout", False)
    selectNodeUponCreation = stored(bool, "select_upon_creation", True)
    segmentationNodeSelectorVisible = Property(
        bool, lambda self: not self._nodes.isHidden(), lambda self, on: self._nodes.setVisible(on)
    )

    def _node_chosen(self, node: Any) -> None:
        self._observer.clear()
        if node is not None:
            for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved,
                          slicer.vtkSegmentation.SegmentModified):  # fmt: skip
                self._observer.add(node, event, self._fill)
        self._fill()
        self.currentNodeChanged.emit(node)

    def _fill(self, *_: Any) -> None:
        current = self.currentSegmentID()
        self._segments.blockSignals(True)
        self._segments.clear()
        if self.noneEnabled:
            self._segments.addItem("None", "")
        for segment in self.segmentIDs():
            name = self.currentNode().GetSegmentation().GetSegment(segment).GetName()
            self._segments.addItem(name, segment)
        self._segments.setCurrentIndex(max(0, self._segments.findData(current)))
        self._segments.blockSignals(False)
        if self.currentSegmentID() != current:
            self._segment_chosen()

    def _segment_chosen(self, *_: Any) -> None:
        self.currentSegmentChanged.emit(self.currentSegmentID())

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    def currentNodeID(self) -> str:
        return self._nodes.currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def setCurrentNodeID(self, node_id: str) -> None:
        self._nodes.setCurrentNodeID(node_id)

    def segmentIDs(self) -> list[str]:
        node = self.currentNode()
        return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []

    def currentSegmentID(self) -> str:
        return self._segments.currentData() or ""

    def selectedSegmentIDs(self) -> list[str]:
        return [self.currentSegmentID()] if self.currentSegmentID() else []

    def setCurrentSegmentID(self, segment: str) -> None:
        self._segments.setCurrentIndex(self._segments.findData(segment or ""))


WIDGETS = {
    cls.__name__: cls
    for cls in (qMRMLWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox, qMRMLSegmentSelectorWidget)
}
