"""A real MRML scene with the logics that Slicer's application gives it, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer
import vtk

#: Modules of Slicer and their logics; each registers its own node classes with the scene.
LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class Host:
    """Scene, application logic, colours, markups, views' presets, and what scene bundles (.mrb) need.

    Args:
        folder: an empty folder for temporary and cached files.
    """

    def __init__(self, folder: Path) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetTemporaryPath(str(folder))
        self.application.SetMRMLScene(self.scene)
        self.application.SetSliceLogics(vtk.vtkCollection())
        self.application.SetViewLogics(vtk.vtkCollection())
        self.logics: list[Any] = []
        for name, logic in LOGICS.items():
            self._add_logic(name, getattr(slicer, logic)())
        # The scene reads bundles through its data manager.
        remote = slicer.vtkMRMLRemoteIOLogic()
        remote.GetCacheManager().SetRemoteCacheDirectory(str(folder))
        remote.SetMRMLScene(self.scene)
        remote.AddDataIOToScene()
        transfers = slicer.vtkDataIOManagerLogic()
        transfers.SetMRMLApplicationLogic(self.application)
        transfers.SetAndObserveDataIOManager(remote.GetDataIOManager())
        self.logics += [remote, transfers]
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)

    def _add_logic(self, name: str, logic: Any) -> None:
        # The folder of a module's resources has to be known before its logic sees the scene.
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory("")
        logic.SetMRMLApplicationLogic(self.application)
        logic.SetMRMLScene(self.scene)
        self.application.SetModuleLogic(name, logic)
        if name == "Colors":
            self.application.SetColorLogic(logic)
        self.logics.append(logic)

    def nodes(self) -> Iterator[Any]:
        """Every node of the scene."""
        for number in range(self.scene.GetNumberOfNodes()):
            yield self.scene.GetNthNode(number)

    def ids(self) -> set[str]:
        """IDs of every node: what must not change when an action fails."""
        return {node.GetID() for node in self.nodes()}

    def save(self, path: Path) -> None:
        """Write the scene as a bundle (.mrb), as Slicer's save dialog does: every node with data gets a file."""
        for node in list(self.nodes()):
            if node.IsA("vtkMRMLStorableNode") and node.GetStorageNode() is None:
                node.AddDefaultStorageNode()
        assert self.scene.WriteToMRB(str(path)), "the scene was not written"

    def close(self) -> None:
        """Close the scene, as File > Close Scene does: singletons stay."""
        self.scene.Clear(False)

    def load(self, path: Path) -> None:
        """Read a bundle in place of the scene."""
        assert self.scene.ReadFromMRB(str(path), True), "the scene was not read"
