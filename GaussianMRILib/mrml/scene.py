"""What every bridge function needs of a scene: which one, where its nodes are, where they are listed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from ..errors import GaussianMRIError

log = logging.getLogger("GaussianMRI")
T = TypeVar("T")

#: Attributes and reference roles that this project gives to nodes begin with this.
PREFIX = "GaussianMRI."


def scene_of(*nodes: Any, scene: Any = None) -> Any:
    """`scene` where given, else the scene of the first node that has one, else Slicer's own.

    Raises:
        GaussianMRIError: there is none of these.
    """
    if scene is not None:
        return scene
    for node in nodes:
        if in_scene(node):
            return node.GetScene()
    # Set in the Slicer application only.
    current = getattr(slicer, "mrmlScene", None)
    if current is None:
        raise GaussianMRIError("There is no scene to work in; pass scene=... outside the Slicer application.")
    return current


def in_scene(node: Any) -> bool:
    """Whether this is a node that is still in a scene (not deleted, scene not closed)."""
    return is_node(node) and node.GetScene() is not None


def is_node(value: Any, class_name: str = "vtkMRMLNode") -> bool:
    """Whether a value is a node of this class or of one derived from it."""
    return isinstance(value, vtk.vtkObject) and bool(value.IsA(class_name))


def as_list(value: Any) -> list[Any]:
    """One thing or several, as a list."""
    return list(value) if isinstance(value, Sequence) else [value]


def described(value: Any) -> str:
    """A node's name and class, for messages; anything else by its type."""
    if is_node(value):
        return f"'{value.GetName()}' ({value.GetClassName()})"
    return f"{type(value).__name__}"


def as_array(matrix: Any) -> NDArray[np.float64]:
    """A vtkMatrix4x4 as (4, 4) float64."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def as_matrix(array: NDArray[np.float64]) -> Any:
    """(4, 4) as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=np.float64).ravel().tolist())
    return matrix


def ijk_to_ras(volume_node: Any) -> NDArray[np.float64]:
    """(4, 4) float64 of a volume node, without the transforms above it."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return as_array(matrix)


def matrix_to_world(node: Any) -> NDArray[np.float64]:
    """(4, 4) float64 from a node's own coordinates to RAS mm: every transform above it.

    Raises:
        GaussianMRIError: one of them is not linear.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise GaussianMRIError(
            f"{described(node)} is under the transform '{parent.GetName()}', which is not linear. Harden the transform "
            "first (Data module, context menu of the transform), or take the node out of it."
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return as_array(matrix)


def stored(node: Any, attribute: str, read: Callable[[str], T], default: T) -> T:
    """What `read` makes of a node's attribute, which a scene's file may have damaged; where it cannot, or where there is no
    such attribute, the default."""
    text = node.GetAttribute(attribute)
    try:
        return default if text is None else read(text)
    except (ArithmeticError, AttributeError, GaussianMRIError, LookupError, RecursionError, TypeError, ValueError):
        log.warning("The attribute %s of a %s is damaged and ignored.", attribute, node.GetClassName())
        return default


def numbers(values: Any, count: int) -> list[float]:
    """So many finite numbers; raises TypeError or ValueError for anything else."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"{count} numbers are needed")
    return [float(value) for value in array]


@contextmanager
def all_or_nothing(scene: Any, undo: bool = False, changed: Any = None) -> Iterator[list[Any]]:
    """Yields a list; nodes put into it are taken out of the scene again when the block fails.

    Args:
        undo: where the scene's undo is on, one undo takes back the whole block.
        changed: with `undo`: a node that the block changes.
    """
    added: list[Any] = []
    undo = undo and scene.GetUndoFlag()
    if undo and changed is not None:
        scene.SaveStateForUndo(changed)
    elif undo:
        # Nodes come and none changes: without a list Slicer would copy every node, pixels included.
        scene.SaveStateForUndo(vtk.vtkCollection())
    try:
        yield added
    except BaseException:
        for node in reversed(added):
            for display in own_display_nodes(node):
                scene.RemoveNode(display)
            if node.GetScene() is not None:
                scene.RemoveNode(node)
        raise
    if undo:
        for node in added:
            for part in (*own_display_nodes(node), node):
                part.SetUndoEnabled(True)


def node_to_fill(scene: Any, added: list[Any], node: Any, class_name: str, name: str, need: str) -> Any:
    """The given node, or where there is none a new one, which is also put into `added`.

    Args:
        added: what `all_or_nothing` yielded.
        class_name: that the node must have, or be derived from.
        name: of a new node.
        need: beginning of the message where the given node is of another class: "A field needs a model node".
    """
    if node is None:
        node = scene.AddNewNodeByClass(class_name, scene.GenerateUniqueName(name))
        added.append(node)
    elif not is_node(node, class_name):
        raise GaussianMRIError(f"{need}, got {described(node)}.")
    return node


def hidden_node(scene: Any, class_name: str, name: str, kind: str) -> Any:
    """A new node of the scene that no list offers and no file takes.

    It is hidden before it is added: Slicer's lists keep a node that is hidden later, until its name changes; the list of a
    slice view then chooses another volume in its place.

    Args:
        kind: value of the attribute `GaussianMRI.Kind`.
    """
    node = scene.CreateNodeByClass(class_name)
    node.UnRegister(None)
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(PREFIX + "Kind", kind)
    return scene.AddNode(node)


def own_display_nodes(node: Any) -> Sequence[Any]:
    """The display nodes of a node that are in the scene."""
    if not is_node(node, "vtkMRMLDisplayableNode"):
        return ()
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    return [display for display in displays if in_scene(display)]


def place_beside(node: Any, neighbour: Any) -> None:
    """List a node in the subject hierarchy where its neighbour is: the same study or folder."""
    scene = node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None or not in_scene(neighbour):
        return
    invalid = hierarchy.GetInvalidItemID()
    beside = hierarchy.GetItemByDataNode(neighbour)
    if beside == invalid:
        return
    parent = hierarchy.GetItemParent(beside)
    item = hierarchy.GetItemByDataNode(node)
    if item == invalid:
        hierarchy.CreateItem(parent, node)
    else:
        hierarchy.SetItemParent(item, parent)
