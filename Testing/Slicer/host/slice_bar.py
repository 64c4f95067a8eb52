"""The bar over a slice view: its lists of volumes and what the view shows are one thing, as in Slicer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vtk
from PySide6 import QtWidgets

from .node_combo_box import SceneObserver, qMRMLNodeComboBox


class qMRMLSliceControllerWidget(QtWidgets.QWidget):
    """The lists of a slice view's layers; they are not drawn, the view's frame has a bar of its own."""

    API = ("mrmlSliceNode", "sliceLogic")
    LAYERS = (
        ("Background", "vtkMRMLVolumeNode"),
        ("Foreground", "vtkMRMLVolumeNode"),
        ("Label", "vtkMRMLLabelMapVolumeNode"),
    )

    def __init__(self, parent: QtWidgets.QWidget, logic: Any) -> None:
        super().__init__(parent)
        self._logic = logic
        self._lists: dict[str, qMRMLNodeComboBox] = {}
        scene = logic.GetMRMLScene()
        for layer, kind in self.LAYERS:
            made = qMRMLNodeComboBox(self)
            made.setObjectName(("LabelMap" if layer == "Label" else layer) + "ComboBox")
            made.setProperty("nodeTypes", [kind])
            made.setProperty("noneEnabled", True)
            made.setProperty("addEnabled", False)
            made.setProperty("removeEnabled", False)
            made.setMRMLScene(scene)
            chosen = self._chooser(layer)
            made.currentNodeChanged.connect(chosen)
            made.nodeActivated.connect(chosen)
            self._lists[layer] = made
        self._observer, self._composites = SceneObserver(self), SceneObserver(self)
        self._observer.add(logic, vtk.vtkCommand.ModifiedEvent, self._logic_modified)
        self._observer.add(scene, scene.EndBatchProcessEvent, self._update)
        self._logic_modified()
        self.hide()

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def _chooser(self, layer: str) -> Callable[[Any], None]:
        def choose(node: Any) -> None:
            composite = self._logic.GetSliceCompositeNode()
            if composite is not None:
                self._logic.StartSliceCompositeNodeInteraction(getattr(composite, f"{layer}VolumeFlag"))
                getattr(composite, f"Set{layer}VolumeID")(node.GetID() if node is not None else None)
                self._logic.EndSliceCompositeNodeInteraction()

        return choose

    def _logic_modified(self, *_: Any) -> None:
        composite = self._logic.GetSliceCompositeNode()
        self._composites.clear()
        if composite is not None:
            self._composites.add(composite, vtk.vtkCommand.ModifiedEvent, self._update)
        self._update()

    def _update(self, *_: Any) -> None:
        """Show in the lists what the composite node says, without telling of it."""
        composite, scene = self._logic.GetSliceCompositeNode(), self._logic.GetMRMLScene()
        if composite is None or scene is None or scene.IsBatchProcessing():
            return
        for layer, made in self._lists.items():
            blocked = made.blockSignals(True)
            made.setCurrentNodeID(getattr(composite, f"Get{layer}VolumeID")() or "")
            made.blockSignals(blocked)
