"""Keeps the labels of graded planes true: a plane or volume that moves or changes makes them stale at once."""

from __future__ import annotations

from typing import Any

import vtk

from .grading_results import grades_table, mark_removed, table_of, update_label
from .grading_state import (
    GRADES_ATTRIBUTE,
    graded_planes,
    grades_of,
    volumes_of_grades,
)
from .scene import is_node

_PLANE = "vtkMRMLMarkupsPlaneNode"


class GradeWatcher:
    """Observes the graded planes of a scene, their volumes, and planes that are graded or loaded later.

    Example:
        >>> watcher = GradeWatcher(slicer.mrmlScene)                  # doctest: +SKIP
        >>> planeNode.SetCenter(0, 0, 0)   # its label now begins with "STALE"    # doctest: +SKIP
        >>> watcher.stop()                                            # doctest: +SKIP
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._observed: dict[str, list[tuple[Any, int]]] = {}
        self._busy = False
        self._tags = [
            scene.AddObserver(event, method)
            for event, method in (
                (scene.NodeAddedEvent, self._added),
                (scene.NodeAboutToBeRemovedEvent, self._leaves),
                (scene.EndImportEvent, self._settled),
                (scene.EndBatchProcessEvent, self._settled),
                (scene.EndUndoEvent, self._settled),
                (scene.EndRedoEvent, self._settled),
                (scene.EndCloseEvent, self._settled),
            )
        ]
        self.refresh()

    def stop(self) -> None:
        """Observe nothing any more."""
        for tag in self._tags:
            self.scene.RemoveObserver(tag)
        self._tags = []
        for node_id in list(self._observed):
            self._forget(node_id)

    def refresh(self) -> None:
        """Check every graded plane, and the rows of planes that are gone."""
        count = self.scene.GetNumberOfNodesByClass(_PLANE)
        for number in range(count):
            self._observe_plane(self.scene.GetNthNodeByClass(number, _PLANE))
        planes = graded_planes(self.scene)
        for plane in planes:
            self._check(plane)
        table = grades_table(self.scene)
        if table is not None:
            kept = {record["key"] for record in map(grades_of, planes) if record}
            column = table.GetTable().GetColumnByName("Key")
            rows = {column.GetValue(row) for row in range(table.GetTable().GetNumberOfRows())}
            mark_removed(table, sorted(rows - kept))

    # ---- events

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _added(self, scene: Any, event: Any, node: Any) -> None:
        if is_node(node, _PLANE):
            self._observe_plane(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _leaves(self, scene: Any, event: Any, node: Any) -> None:
        self._forget(node.GetID())
        if self.scene.IsClosing():
            return
        if is_node(node, _PLANE):
            record, table = grades_of(node), table_of(node)
            if record is not None and table is not None:
                mark_removed(table, [record["key"]])
        elif is_node(node, "vtkMRMLScalarVolumeNode"):
            for plane in graded_planes(self.scene):
                if node in volumes_of_grades(plane):
                    update_label(plane, "the graded volume is gone")

    def _settled(self, caller: Any, event: Any) -> None:
        for node_id in list(self._observed):
            if self.scene.GetNodeByID(node_id) is None:
                self._forget(node_id)
        if not self.scene.IsBatchProcessing():
            self.refresh()

    def _plane_changed(self, plane: Any, event: Any) -> None:
        if plane.GetAttribute(GRADES_ATTRIBUTE) and not self.scene.IsBatchProcessing():
            self._check(plane)

    def _volume_changed(self, volume: Any, event: Any) -> None:
        if self._busy or self.scene.IsBatchProcessing():
            return
        for plane in graded_planes(self.scene):
            if volume in volumes_of_grades(plane):
                self._check(plane)

    # ---- what they do

    def _check(self, plane: Any) -> None:
        if self._busy:  # writing a label is a change of the plane, too
            return
        self._busy = True
        try:
            for volume in volumes_of_grades(plane):
                self._observe_volume(volume)
            update_label(plane)
        finally:
            self._busy = False

    def _observe_plane(self, plane: Any) -> None:
        events = (vtk.vtkCommand.ModifiedEvent, plane.PointModifiedEvent, plane.TransformModifiedEvent)
        self._observe(plane, events, self._plane_changed)

    def _observe_volume(self, volume: Any) -> None:
        events = (vtk.vtkCommand.ModifiedEvent, volume.ImageDataModifiedEvent, volume.TransformModifiedEvent)
        self._observe(volume, events, self._volume_changed)

    def _observe(self, node: Any, events: Any, method: Any) -> None:
        if node.GetID() not in self._observed:
            self._observed[node.GetID()] = [(node, node.AddObserver(event, method)) for event in events]

    def _forget(self, node_id: str) -> None:
        for node, tag in self._observed.pop(node_id, []):
            node.RemoveObserver(tag)
