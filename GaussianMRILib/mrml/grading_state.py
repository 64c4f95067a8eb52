"""Whether grades on a plane still stand: where plane and volumes were, and where they are."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import slicer

from ..errors import GaussianMRIError
from ..geometry import slice_poses, transform_points
from .planes import rectangle
from .scene import PREFIX, in_scene, is_node
from .volumes import placed

GRADES_ATTRIBUTE = PREFIX + "Grades"
SOURCE_ROLE = PREFIX + "Source"
#: mm that a corner of the plane or of a volume may move before a grade is stale: what files round away.
STILL_MM = 0.02


def grades_of(plane_node: Any) -> dict[str, Any] | None:
    """What `show_grades` wrote into a plane's attributes; None where there are no grades."""
    text = (
        plane_node.GetAttribute(GRADES_ATTRIBUTE) if is_node(plane_node, "vtkMRMLMarkupsPlaneNode") else None
    )
    if not text:
        return None
    try:
        record: dict[str, Any] = json.loads(text)
        return record if record["grades"] and record["key"] and record["state"] else None
    except (ValueError, KeyError, TypeError):
        return None


def graded_planes(scene: Any) -> list[Any]:
    """The markups planes of a scene that have grades."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLMarkupsPlaneNode")
    nodes = [scene.GetNthNodeByClass(n, "vtkMRMLMarkupsPlaneNode") for n in range(count)]
    return [node for node in nodes if node.GetAttribute(GRADES_ATTRIBUTE)]


def volumes_of_grades(plane_node: Any) -> list[Any]:
    """The graded volumes that are still in the scene."""
    count = plane_node.GetNumberOfNodeReferences(SOURCE_ROLE)
    nodes = [plane_node.GetNthNodeReference(SOURCE_ROLE, number) for number in range(count)]
    return [node for node in nodes if in_scene(node)]


def place_of(plane_node: Any) -> list[list[float]]:
    """Middle, x and y axis and size of a placed plane in the world: JSON types, mm."""
    center, x, y, size = rectangle(plane_node)
    # As points, so that a turn counts by how far it moves the plane's edge.
    edges = [center + x * size[0] / 2, center + y * size[1] / 2]
    return [center.tolist(), *(edge.tolist() for edge in edges)]


def state_of_volume(volume_node: Any) -> dict[str, Any]:
    """Where a volume's voxels are and a checksum of their values: JSON types.

    Voxels count in right-handed order, into which Slicer turns volumes when it loads them.
    """
    pixels = slicer.util.arrayFromVolume(volume_node)
    geometry, to_world = placed(volume_node)
    poses = geometry if geometry.ndim == 3 else slice_poses(geometry, len(pixels))
    poses = to_world @ poses
    step = poses[-1, :3, 3] - poses[0, :3, 3]
    if np.cross(poses[0, :3, 0], poses[0, :3, 1]) @ step < 0:
        pixels, poses = pixels[::-1], poses[::-1]
    rows, columns = pixels.shape[1:3]
    corners = [[0, 0, 0], [columns - 1, 0, 0], [0, rows - 1, 0]]
    shown = [transform_points(poses[k], corners) for k in sorted({0, len(poses) // 2, len(poses) - 1})]
    return {
        "name": volume_node.GetName(),
        "corners": np.concatenate(shown).tolist(),
        "shape": list(pixels.shape),
        "checksum": zlib.crc32(np.ascontiguousarray(pixels).data),
    }


class VolumeStates:
    """States of volumes, worked out anew only where pixels or place may have changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}

    def __call__(self, volume_node: Any) -> dict[str, Any]:
        image, parent = volume_node.GetImageData(), volume_node.GetParentTransformNode()
        above = None if parent is None else parent.GetTransformToWorldMTime()
        stamp = (id(image), image.GetMTime(), volume_node.GetMTime(), above)
        known = self._known.get(volume_node.GetID())
        if known is None or known[0] != stamp:
            known = self._known[volume_node.GetID()] = (stamp, state_of_volume(volume_node))
        return known[1]


#: VTK's modification times never come twice, so one memory serves every scene.
_state_of = VolumeStates()


def staleness(plane_node: Any) -> str:
    """Why the grades on a plane no longer stand: "the plane was moved"; "" where they do, or where there are none.

    Compares with what was there when it was graded, so it also holds after a scene was saved and loaded, and a plane that
    is put back has its grades again.
    """
    record = grades_of(plane_node)
    if record is None:
        return "its description is damaged" if plane_node.GetAttribute(GRADES_ATTRIBUTE) else ""
    try:
        if not plane_node.GetIsPlaneValid() or _apart(place_of(plane_node), record["state"]["plane"]):
            return "the plane was moved"
    except GaussianMRIError:
        return "the plane was moved"
    wanted = record["state"]["volumes"]
    present = volumes_of_grades(plane_node)
    if len(present) < len(wanted):
        return "the graded volume is gone"
    for node, before in zip(present, wanted, strict=True):
        try:
            now = _state_of(node)
        except (GaussianMRIError, AttributeError, ValueError):
            return "the graded volume was changed"
        if now["shape"] != before["shape"] or now["checksum"] != before["checksum"]:
            return "the graded volume was changed"
        if _apart(now["corners"], before["corners"]):
            return "the graded volume was moved"
    return ""


def _apart(a: Any, b: Any) -> bool:
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return one.shape != other.shape or not bool(np.abs(one - other).max() <= STILL_MM)
