"""The layout manager: the views of the chosen layout, and the table views, in one widget."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .views import qMRMLSliceWidget, qMRMLThreeDWidget


class qMRMLTableWidget(QtWidgets.QTableWidget):
    """A table view: it shows the table that its node refers to, which `PropagateTableSelection` sets."""

    API = ("mrmlTableViewNode",)

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._fill())
        self._fill()

    def mrmlTableViewNode(self) -> Any:
        return self._node

    def _fill(self) -> None:
        self.clear()
        table = self._node.GetTableNode()
        self.setRowCount(table.GetNumberOfRows() if table is not None else 0)
        self.setColumnCount(table.GetNumberOfColumns() if table is not None else 0)
        for column in range(self.columnCount()):
            name = table.GetColumnTitle(table.GetColumnName(column)) or table.GetColumnName(column)
            self.setHorizontalHeaderItem(column, QtWidgets.QTableWidgetItem(name))
            for row in range(self.rowCount()):
                self.setItem(row, column, QtWidgets.QTableWidgetItem(table.GetCellText(row, column)))
        self.resizeColumnsToContents()

    def close_view(self) -> None:
        self._node.RemoveObserver(self._tag)


class qSlicerLayoutManager(QtCore.QObject):
    """slicer.app.layoutManager(): the views of the chosen layout, in one widget."""

    API = (
        "sliceWidget", "sliceViewNames", "threeDWidget", "viewWidget", "viewport", "setLayout", "layoutLogic",
        "mrmlSliceLogics", "mrmlViewLogics", "resetSliceViews", "resetThreeDViews", "activeMRMLThreeDViewNode",
        "tableWidget", "plotWidget", "mrmlScene", "pauseRender", "resumeRender", "setRenderPaused",
    )  # fmt: skip
    layoutChanged = Signal(int)

    def __init__(self, application: Any) -> None:
        super().__init__()
        self._application = application
        self._slices: dict[str, Any] = {}
        self._threed: list[Any] = []
        self._tables: dict[str, Any] = {}
        self._port = QtWidgets.QWidget()
        QtWidgets.QVBoxLayout(self._port).setContentsMargins(0, 0, 0, 0)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(application.scene)
        self._node = self._logic.GetLayoutNode()
        self._tag = self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._arrange())
        self._shown = -1
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._arrange()

    def _widget(self, node: Any) -> QtWidgets.QWidget | None:
        if node.IsA("vtkMRMLSliceNode"):
            name = node.GetLayoutName()
            if name not in self._slices:
                self._slices[name] = qMRMLSliceWidget(self._application, node)
            return self._slices[name]
        if node.IsA("vtkMRMLViewNode"):
            for widget in self._threed:
                if widget.mrmlViewNode() is node:
                    return widget
            self._threed.append(qMRMLThreeDWidget(self._application, node))
            return self._threed[-1]
        if node.IsA("vtkMRMLTableViewNode"):
            if node.GetID() not in self._tables:
                self._tables[node.GetID()] = qMRMLTableWidget(node)
            return self._tables[node.GetID()]
        return QtWidgets.QWidget()  # plots have views of their own in Slicer

    def _arrange(self) -> None:
        arrangement = self._node.GetViewArrangement()
        root = self._node.GetLayoutRootElement()
        if arrangement == self._shown or root is None:
            return
        self._shown = arrangement
        for widget in [*self._slices.values(), *self._threed]:
            widget.mrmlNode().SetMappedInLayout(False)
        for widget in [*self._slices.values(), *self._threed, *self._tables.values()]:
            widget.setParent(None)
        old = self._port.layout().takeAt(0)
        if old is not None:
            old.widget().deleteLater()
        self._port.layout().addWidget(self._element(root))
        for widget in [*self._slices.values(), *self._threed, *self._tables.values()]:
            widget.setVisible(widget.parent() is not None)
        self.layoutChanged.emit(arrangement)

    def _element(self, element: Any) -> QtWidgets.QWidget:
        """The widget of a <layout> element: its items beside or under each other, in a grid or in tabs."""
        items = [element.GetNestedElement(i) for i in range(element.GetNumberOfNestedElements())]
        kind = element.GetAttribute("type") or "horizontal"
        box: Any = QtWidgets.QTabWidget() if kind == "tab" else QtWidgets.QWidget()
        if kind == "grid":
            layout: Any = QtWidgets.QGridLayout(box)
        elif kind != "tab":
            layout = QtWidgets.QVBoxLayout(box) if kind == "vertical" else QtWidgets.QHBoxLayout(box)
        if kind != "tab":
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(2)
        for item in (i for i in items if i.GetName() == "item"):
            child = item.GetNestedElement(0)
            widget = self._element(child) if child.GetName() == "layout" else self._view(child)
            if kind == "grid":
                layout.addWidget(widget, int(item.GetAttribute("row")), int(item.GetAttribute("column")))
            elif kind == "tab":
                box.addTab(widget, child.GetAttribute("singletontag") or "")
            else:
                layout.addWidget(widget, 1)
        return box

    def _view(self, element: Any) -> QtWidgets.QWidget:
        node = self._application.scene.GetSingletonNode(
            element.GetAttribute("singletontag"), element.GetAttribute("class")
        )
        if node is None:
            return QtWidgets.QWidget()
        widget = self._widget(node)
        node.SetMappedInLayout(True)
        return widget

    layout = Property(int, lambda self: self._node.GetViewArrangement(),
                      lambda self, number: self._node.SetViewArrangement(number))  # fmt: skip
    threeDViewCount = Property(int, lambda self: len(self._threed))

    def setLayout(self, number: int) -> None:
        self._node.SetViewArrangement(number)

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._application.scene

    def sliceWidget(self, name: str) -> Any:
        return self._slices.get(name)

    def sliceViewNames(self) -> list[str]:
        nodes = self._logic.GetViewNodes()
        shown = [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
        return [node.GetLayoutName() for node in shown if node.IsA("vtkMRMLSliceNode")]

    def threeDWidget(self, number: int) -> Any:
        """Views stay when another layout is chosen, and have no order: qMRMLLayoutViewFactory keeps them by pointers."""
        return self._threed[::-1][number] if 0 <= number < len(self._threed) else None

    def viewWidget(self, node: Any) -> Any:
        return self._widget(node)

    def tableWidget(self, number: int) -> Any:
        tables = list(self._tables.values())
        return tables[number] if number < len(tables) else None

    def plotWidget(self, number: int) -> None:
        return None

    def viewport(self) -> QtWidgets.QWidget:
        return self._port

    def mrmlSliceLogics(self) -> Any:
        return self._application.application.GetSliceLogics()

    def mrmlViewLogics(self) -> Any:
        return self._application.application.GetViewLogics()

    def activeMRMLThreeDViewNode(self) -> Any:
        return self._threed[0].mrmlViewNode() if self._threed else None

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        for widget in self._threed:
            widget.threeDView().resetFocalPoint()

    def pauseRender(self) -> None:
        self._application.app.pauseRender()

    def resumeRender(self) -> None:
        self._application.app.resumeRender()

    def setRenderPaused(self, paused: bool) -> None:
        self._application.app.setRenderPaused(paused)

    def framed(self) -> list[Any]:
        """Every view that the layout shows."""
        return [w for w in [*self._slices.values(), *self._threed] if w.parent() is not None]

    def shown_threed(self) -> list[Any]:
        """The 3D views that the layout shows, in the order in which they were made."""
        return [widget for widget in self._threed if widget.mrmlNode().IsMappedInLayout()]

    def close(self) -> None:
        self._node.RemoveObserver(self._tag)
        for widget in [*self._slices.values(), *self._threed]:
            widget.viewWidget().close_view()
        for table in self._tables.values():
            table.close_view()
        self._application.application.GetSliceLogics().RemoveAllItems()
        self._port.deleteLater()
