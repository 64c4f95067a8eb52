"""Planes of the scene (markups, slice views, three points) as image planes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import vtk
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, unit_vector
from ..geometry.plane_sets import DEFAULT_SIZE, Spacing, hung, pair_of
from .scene import (
    PREFIX,
    all_or_nothing,
    as_array,
    as_matrix,
    described,
    is_node,
    matrix_to_world,
    own_display_nodes,
    scene_of,
)

_FILL_BEFORE = PREFIX + "FillBefore"


def plane_from_node(plane_node: Any, *, spacing: Spacing = None, thickness: float = 0.0) -> ImagePlane:
    """The image on a markups plane, its transforms included: the plane's size, hung as by `ImagePlane.from_markups`.

    Args:
        plane_node: vtkMRMLMarkupsPlaneNode that has been placed.
        spacing: mm between pixels, one number or (along i, along j); 0.5 by default.
        thickness: mm averaged along the normal.

    Raises:
        GaussianMRIError: no plane node, one that is not placed yet, or one under a transform that is not linear.
    """
    if not is_node(plane_node, "vtkMRMLMarkupsPlaneNode"):
        raise GaussianMRIError(f"A markups plane is needed, got {described(plane_node)}.")
    if not plane_node.GetIsPlaneValid():
        raise GaussianMRIError(
            f"The plane '{plane_node.GetName()}' is not placed yet; place its points in a slice view or 3D view."
        )
    return hung(*rectangle(plane_node), spacing, thickness)


def rectangle(
    plane_node: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Middle, x and y axis (unit vectors) and size of a placed plane in the world; RAS mm."""
    matrix_to_world(plane_node)  # corners are meaningful under linear transforms only
    points = vtk.vtkPoints()
    points.SetDataTypeToDouble()  # else Slicer rounds to micrometres
    plane_node.GetPlaneCornerPointsWorld(points)
    corners = np.array([points.GetPoint(n) for n in range(4)])  # around the plane: -x-y, -x+y, +x+y, +x-y
    x, y = corners[3] - corners[0], corners[1] - corners[0]
    size = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    if min(size) < 1e-6:
        raise GaussianMRIError(
            f"The plane '{plane_node.GetName()}' has no size; set it in the Markups module."
        )
    return corners.mean(axis=0), unit_vector(x), unit_vector(y), size


def plane_from_points(
    points: ArrayLike,
    *,
    size: tuple[float, float] | None = None,
    spacing: Spacing = None,
    thickness: float = 0.0,
) -> ImagePlane:
    """The image on the plane through three points, such as a disc's anterior, posterior and lateral edge.

    The axes are those of Slicer's three-point plane: x from the first to the second point, normal towards the side
    from which the points run anticlockwise; the image hangs as by `ImagePlane.from_markups`. Its middle is the
    middle of the rectangle, along these axes, that the points span.

    Args:
        points: (3, 3) RAS mm.
        size: mm along x and y; default `DEFAULT_SIZE`.
        spacing, thickness: as in `plane_from_node`.

    Raises:
        GaussianMRIError: not three points, or points on one line.
    """
    p = np.asarray(points, dtype=np.float64)
    if p.shape != (3, 3) or not np.isfinite(p).all():
        raise GaussianMRIError(f"A plane needs three points (3, 3) in RAS mm, got {p.shape}.")
    edges = p[1:] - p[0]
    normal = np.cross(edges[0], edges[1])
    if np.linalg.norm(normal) < 1e-6 * max(float(np.square(edges).sum()), 1e-12):
        raise GaussianMRIError("The three points lie on one line; move one of them aside.")
    x = unit_vector(edges[0], what="first edge of the plane")
    y = np.cross(unit_vector(normal, what="plane's normal"), x)
    along = edges @ np.stack([x, y], axis=1)
    middle = (np.minimum(along.min(axis=0), 0) + np.maximum(along.max(axis=0), 0)) / 2
    return hung(p[0] + middle[0] * x + middle[1] * y, x, y, size or DEFAULT_SIZE, spacing, thickness)


def plane_from_slice_node(slice_node: Any, *, spacing: Spacing = None, thickness: float = 0.0) -> ImagePlane:
    """The image that a slice view shows: its orientation, field of view and, by default, its screen pixels.

    Args:
        slice_node: vtkMRMLSliceNode.
        spacing: mm between pixels, which then fill the same field of view.
        thickness: mm averaged along the normal.

    Raises:
        GaussianMRIError: no slice node, or one without a field of view.
    """
    if not is_node(slice_node, "vtkMRMLSliceNode"):
        raise GaussianMRIError(f"A slice view's node is needed, got {described(slice_node)}.")
    columns, rows = slice_node.GetDimensions()[:2]
    if min(columns, rows, *slice_node.GetFieldOfView()[:2]) <= 0:
        raise GaussianMRIError(f"The slice view '{slice_node.GetName()}' is empty; show it first.")
    xy_to_ras = as_array(slice_node.GetXYToRAS())
    matrix = xy_to_ras.copy()
    matrix[:3, 1] *= -1  # views count pixels upwards, images downwards
    matrix[:3, 3] += (rows - 1) * xy_to_ras[:3, 1]
    plane = ImagePlane(matrix, (rows, columns), thickness=thickness)
    pair = pair_of(spacing)
    if pair is None:
        return plane
    height, width = rows * plane.spacing[1], columns * plane.spacing[0]
    shape = (max(1, round(height / pair[1])), max(1, round(width / pair[0])))
    finer = ImagePlane.from_axes(plane.center, plane.i_axis, plane.j_axis, spacing=pair, shape=shape, thickness=thickness)
    matrix = finer.ijk_to_ras.copy()
    matrix[:3, 2] = plane.normal
    return ImagePlane(matrix, shape, thickness=thickness)


def plane_to_node(plane: ImagePlane, *, scene: Any = None, name: str = "plane") -> Any:
    """A new markups plane node where an image plane is, of its size and normal.

    `plane_from_node` with the plane's spacing gives the plane back, if it hangs as by `ImagePlane.from_markups`.
    """
    return planes_to_nodes([plane], [name], scene=scene)[0]


def planes_to_nodes(planes: Sequence[ImagePlane], names: Sequence[str], *, scene: Any = None) -> list[Any]:
    """`plane_to_node` for several planes, which one undo takes back together."""
    scene = scene_of(scene=scene)
    nodes = []
    with all_or_nothing(scene, undo=True) as added:
        for plane, name in zip(planes, names, strict=True):
            rows, columns = plane.shape
            size = columns * plane.spacing[0], rows * plane.spacing[1]
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", scene.GenerateUniqueName(name))
            added.append(node)
            nodes.append(node)
            fill_plane_node(node, plane.center, plane.i_axis, np.cross(plane.normal, plane.i_axis), size)
    return nodes


def show_handles(plane_node: Any, fill: float = 0.1) -> None:
    """Let a plane be dragged and turned in every view.

    Args:
        fill: opacity of its filling, 0 to 1.
    """
    plane_node.CreateDefaultDisplayNodes()
    display = plane_node.GetDisplayNode()
    display.SetHandlesInteractive(True)
    display.SetFillOpacity(fill)
    display.SetPropertiesLabelVisibility(False)


def outline_only(display: Any) -> None:
    """Draw a plane without its filling, which would tint what it shows or cuts.

    What was drawn before is kept in the display node: a scene that was saved meanwhile knows it, too.
    """
    if display.GetAttribute(_FILL_BEFORE) is None:
        display.SetAttribute(_FILL_BEFORE, str(int(display.GetFillVisibility())))
    display.SetFillVisibility(False)


def filled_as_before(display: Any) -> None:
    """Undo `outline_only`."""
    before = display.GetAttribute(_FILL_BEFORE)
    if before is not None:
        display.SetFillVisibility(before != "0")
        display.RemoveAttribute(_FILL_BEFORE)


def fill_plane_node(
    node: Any,
    center: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    size: tuple[float, float],
) -> None:
    """Make a markups plane this rectangle: middle, x and y axis (unit vectors), mm along them."""
    node.SetPlaneType(node.PlaneTypePointNormal)
    node.SetSizeMode(node.SizeModeAbsolute)
    node.SetCenter(center.tolist())
    node.SetAxes(x.tolist(), y.tolist(), np.cross(x, y).tolist())
    node.SetSize(*size)


def frame_of(plane_node: Any) -> NDArray[np.float64]:
    """(4, 4) of a placed plane in the world: x, y axis, normal (unit vectors) and middle; RAS mm."""
    center, x, y, _ = rectangle(plane_node)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, y, np.cross(x, y)], axis=1)
    matrix[:3, 3] = center
    return matrix


def move_plane(plane_node: Any, motion: NDArray[np.float64]) -> None:
    """Move a placed plane by a rigid motion (4, 4) of the world, in one event and whatever kind of plane it is."""
    to_world = matrix_to_world(plane_node)
    modifying = plane_node.StartModify()
    plane_node.ApplyTransformMatrix(as_matrix(np.linalg.inv(to_world) @ motion @ to_world))
    plane_node.EndModify(modifying)


def remove_planes(scene: Any, plane_nodes: Sequence[Any]) -> None:
    """Take planes and their display nodes out of a scene; where its undo is on, one undo brings all of them back."""
    nodes = [node for node in plane_nodes if node.GetScene() is scene]
    parts = [part for node in nodes for part in (*own_display_nodes(node), node)]
    if scene.GetUndoFlag():
        kept = vtk.vtkCollection()
        for part in parts:
            part.SetUndoEnabled(True)
            kept.AddItem(part)
        scene.SaveStateForUndo(kept)
    for part in parts:
        scene.RemoveNode(part)


def plane_of(value: Any, spacing: Spacing = None, thickness: float = 0.0) -> ImagePlane:
    """The image plane of a markups plane, a slice view or an image plane (which keeps its own pixels)."""
    if isinstance(value, ImagePlane):
        return value
    if is_node(value, "vtkMRMLSliceNode"):
        return plane_from_slice_node(value, spacing=spacing, thickness=thickness)
    return plane_from_node(value, spacing=spacing, thickness=thickness)
