"""Whether grades on a plane still stand: where plane and volumes were, and where they are."""

from __future__ import annotations

import json
from typing import Any

from ..errors import GaussianMRIError
from .planes import rectangle
from .scene import PREFIX, described, in_scene, is_node, numbers, stored
from .volume_state import apart, change_of_volume

GRADES_ATTRIBUTE = PREFIX + "Grades"
SOURCE_ROLE = PREFIX + "Source"


def grades_of(plane_node: Any) -> dict[str, Any] | None:
    """What `show_grades` wrote into a plane's attributes; None where there are no grades, or where a file damaged them."""
    if not is_node(plane_node, "vtkMRMLMarkupsPlaneNode"):
        return None
    return stored(plane_node, GRADES_ATTRIBUTE, _record, None)


def _record(text: str) -> dict[str, Any]:
    """A record with all that is read of it without further checks."""
    record: dict[str, Any] = json.loads(text)
    fit, state = record.get("fit") or {"name": "", "volumes": []}, record["state"]
    texts = [record["key"], fit["name"], *fit["volumes"], *record.get("not_asked", [])]
    for grade in record["grades"]:
        texts += [grade[name] for name in ("text", "side", "condition", "input_type")] + grade["notes"]
        if grade["outside"] is not None:
            numbers([grade["outside"]], 1)
        if not isinstance(grade["calibrated"], bool):
            raise TypeError("calibrated is true or false")
    points = [numbers(point, 3) for point in state["plane"]]
    volumes = isinstance(state["volumes"], list)
    if not (record["grades"] and len(points) == 3 and volumes and all(isinstance(part, str) for part in texts)):
        raise TypeError("these are no grades")
    return record


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


def check_plane(node: Any) -> None:
    """Refuse what grades cannot be shown on."""
    if not is_node(node, "vtkMRMLMarkupsPlaneNode"):
        raise GaussianMRIError(f"Grades are shown on a markups plane, got {described(node)}.")


def place_of(plane_node: Any) -> list[list[float]]:
    """Middle, x and y axis and size of a placed plane in the world: JSON types, mm."""
    center, x, y, size = rectangle(plane_node)
    # As points, so that a turn counts by how far it moves the plane's edge.
    edges = [center + x * size[0] / 2, center + y * size[1] / 2]
    return [center.tolist(), *(edge.tolist() for edge in edges)]


def staleness(plane_node: Any) -> str:
    """Why the grades on a plane no longer stand: "the plane was moved"; "" where they do, or where there are none.

    Compares with what was there when it was graded, so it also holds after a scene was saved and loaded, and a plane that
    is put back has its grades again.
    """
    record = grades_of(plane_node)
    if record is None:
        return "its description is damaged" if plane_node.GetAttribute(GRADES_ATTRIBUTE) else ""
    try:
        if not plane_node.GetIsPlaneValid() or apart(place_of(plane_node), record["state"]["plane"]):
            return "the plane was moved"
    except GaussianMRIError:
        return "the plane was moved"
    wanted = record["state"]["volumes"]
    present = volumes_of_grades(plane_node)
    if len(present) != len(wanted):
        return "the graded volume is gone"
    for node, before in zip(present, wanted, strict=True):
        if how := change_of_volume(node, before):
            return f"the graded volume was {how}"
    return ""
