"""Sets of markups planes in one file, to be used again: in another scene, on another day, from the command line."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..errors import GaussianMRIError
from ..files import atomic_write
from .planes import fill_plane_node, plane_from_node, rectangle
from .scene import all_or_nothing, as_list, as_matrix, matrix_to_world, scene_of

#: Of the entry that Slicer writes of a plane, what depends on where the plane is.
_GEOMETRY = (
    "planeType",
    "sizeMode",
    "center",
    "normal",
    "objectToBase",
    "baseToNode",
    "orientation",
    "size",
    "planeBounds",
    "controlPoints",
)


def save_planes(path: str | os.PathLike[str], plane_nodes: Any) -> Path:
    """Write markups planes into one Slicer markups file, where they are in the world: their transforms are applied.

    Slicer itself (Add Data), `load_planes` and `gaussianmri resample --plane` read it, with the planes' names.

    Args:
        path: *.mrk.json.
        plane_nodes: vtkMRMLMarkupsPlaneNode or several.

    Raises:
        GaussianMRIError: no plane, one that is not placed or under a transform that is not linear, another suffix, or
            a file that cannot be written; an existing file is then as it was.
    """
    target, nodes = Path(path), as_list(plane_nodes)
    if not target.name.lower().endswith(".json"):
        raise GaussianMRIError(f"{target} is no name for a markups file; call it {target.name}.mrk.json.")
    if not nodes:
        raise GaussianMRIError("There is no plane to save; place at least one.")
    content: dict[str, Any] = {}
    for node in nodes:
        plane_from_node(node)  # refuses what is no plane in space
        written = _written(node)
        (entry,) = written["markups"]
        to_world = matrix_to_world(node)
        if not np.array_equal(to_world, np.eye(4)):
            (there,) = _written(_moved(node, to_world))["markups"]
            entry.update({key: there[key] for key in _GEOMETRY})
        content = content or {**written, "markups": []}
        content["markups"].append({"type": "Plane", "name": node.GetName() or "", **entry})
    with atomic_write(target) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return target


def load_planes(path: str | os.PathLike[str], *, scene: Any = None) -> list[Any]:
    """The planes of a Slicer markups file as new markups plane nodes, named as in the file.

    Args:
        scene: default: Slicer's.

    Raises:
        GaussianMRIError: no such file, no markups file, no plane in it, or one that Slicer cannot read; the scene is
            then as it was.
    """
    from ..geometry.markups import load_markups, read_plane_markups

    name, content = load_markups(path)
    read_plane_markups(content)
    scene = scene_of(scene=scene)
    stem = Path(name).name.removesuffix(".json").removesuffix(".mrk")
    with all_or_nothing(scene, undo=True) as added:
        nodes = []
        for number, markup in enumerate(content["markups"]):
            if markup.get("type") != "Plane":
                continue
            before = _ids(scene)
            storage = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneJsonStorageNode")
            added.append(storage)
            label = markup.get("name") or scene.GenerateUniqueName(stem)
            node = storage.AddNewMarkupsNodeFromFile(name, label, number)
            if node is None:
                # Slicer leaves some of what it made for it behind.
                added += [scene.GetNodeByID(made) for made in _ids(scene) - before]
                raise GaussianMRIError(f"Slicer cannot read plane {number + 1} of {name}; save it again.")
            added.append(node)
            nodes.append(node)
    return nodes


def _ids(scene: Any) -> set[str]:
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


def _moved(node: Any, to_world: Any) -> Any:
    """A plane node, in no scene, that is where a node under a transform is."""
    copy = slicer.vtkMRMLMarkupsPlaneNode()
    copy.CopyContent(node)
    if np.allclose(to_world[:3, :3] @ to_world[:3, :3].T, np.eye(3), atol=1e-9):
        copy.ApplyTransformMatrix(as_matrix(to_world))
    else:  # stretched: a plane keeps its three points only where they keep their angles
        fill_plane_node(copy, *rectangle(node))
    return copy


def _written(node: Any) -> dict[str, Any]:
    """What Slicer writes of a markups node, in the node's own coordinates."""
    storage = slicer.vtkMRMLMarkupsPlaneJsonStorageNode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plane.mrk.json")
        storage.SetFileName(str(path))
        if not storage.WriteData(node):
            raise GaussianMRIError(f"Slicer cannot write the plane '{node.GetName()}'.")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
