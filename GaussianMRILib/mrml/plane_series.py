"""Planes from things of the scene: lines, views, planes, curves and models; and what a table says of planes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, PlaneAngles, best_fit_plane, plane_angles, planes_along, radial_planes
from ..geometry.plane_sets import DEFAULT_SIZE, MOST_PLANES, Spacing, orthogonal_planes
from .fields import is_field
from .planes import plane_of
from .scene import as_matrix, described, is_node, matrix_to_world

#: What `planes_from` makes, and the classes of nodes that it makes it of.
SERIES = {
    "along": ("vtkMRMLMarkupsLineNode", "vtkMRMLMarkupsFiducialNode"),
    "radial": ("vtkMRMLMarkupsLineNode", "vtkMRMLMarkupsFiducialNode"),
    "parallel": ("vtkMRMLMarkupsPlaneNode", "vtkMRMLSliceNode"),
    "orthogonal": ("vtkMRMLMarkupsPlaneNode", "vtkMRMLSliceNode"),
    "fit": ("vtkMRMLModelNode", "vtkMRMLMarkupsCurveNode", "vtkMRMLMarkupsFiducialNode"),
}
_SEPARATE = {"along": "at {:.1f} mm", "radial": "at {:.1f}°", "parallel": "{:+.1f} mm"}


class PlaneRow(NamedTuple):
    """What a table says of a placed plane.

    Attributes:
        name: of the node.
        angles: degrees to the patient's axial, sagittal and coronal planes.
        center: (3,) RAS mm.
    """

    name: str
    angles: PlaneAngles
    center: NDArray[np.float64]


def plane_rows(plane_nodes: Any) -> list[PlaneRow]:
    """A row for each plane node; those not placed yet have NaN."""
    rows = []
    for node in plane_nodes:
        try:
            plane = plane_of(node)
            rows.append(PlaneRow(node.GetName(), plane_angles(plane), plane.center))
        except GaussianMRIError:
            rows.append(PlaneRow(node.GetName(), PlaneAngles(*[np.nan] * 3), np.full(3, np.nan)))
    return rows


def planes_from(
    node: Any,
    kind: str,
    *,
    count: int = 12,
    step: float = 5.0,
    size: tuple[float, float] | None = None,
    margin: float = 10.0,
    spacing: Spacing = None,
    thickness: float = 0.0,
) -> list[tuple[str, ImagePlane]]:
    """Planes made of a node, each with a name; transforms of the node are included.

    Args:
        node: what the planes are made of. A model that is a field has no shape.
        kind: "along": across a line from its start on, every `step` mm. "radial": `count` planes through a line, evenly
            turned about it. "parallel": `count` planes around a plane or slice view, `step` mm apart. "orthogonal": the two
            through its middle that are perpendicular to it and to each other. "fit": the best fit of a model's surface, a
            curve or a point list.
        count: of planes.
        step: mm.
        size: mm along columns and rows of planes along and about a line; default `DEFAULT_SIZE`.
        margin: mm around what is fitted.
        spacing, thickness: as in `plane_from_node`.

    Raises:
        GaussianMRIError: another kind of planes or node, a node without what is needed, numbers that make no planes.
    """
    if kind not in SERIES:
        raise GaussianMRIError(f"There are no '{kind}' planes; choose one of {', '.join(SERIES)}.")
    if not any(is_node(node, name) for name in SERIES[kind]):
        needed = " or ".join(name.removeprefix("vtkMRML") for name in SERIES[kind])
        raise GaussianMRIError(f"For these planes a {needed} is needed, got {described(node)}.")
    name = node.GetName()
    try:
        if kind == "along":
            start, end = _ends(node)
            planes = planes_along(start, end, step, size=size or DEFAULT_SIZE, spacing=spacing, thickness=thickness)
            places = [step * k for k in range(len(planes))]
        elif kind == "radial":
            start, end = _ends(node)
            planes = radial_planes(start, end, count, size=size or DEFAULT_SIZE, spacing=spacing, thickness=thickness)
            places = [180 * k / count for k in range(count)]
        elif kind == "parallel":
            if count > MOST_PLANES:
                raise GaussianMRIError(f"There can be up to {MOST_PLANES} parallel planes, got {count}.")
            planes = plane_of(node, spacing, thickness).stack(count, step)
            places = [(k - (count - 1) / 2) * step for k in range(count)]
        elif kind == "orthogonal":
            one, other = orthogonal_planes(plane_of(node, spacing, thickness))
            return [(f"{name} across 1", one), (f"{name} across 2", other)]
        else:
            fitted = best_fit_plane(_simplices(node), margin=margin, spacing=spacing, thickness=thickness)
            return [(f"{name} fit", fitted)]
    except GaussianMRIError as error:
        raise GaussianMRIError(str(error) if described(node) in str(error) else f"{described(node)}: {error}") from error
    return [(f"{name} {_SEPARATE[kind].format(place)}", plane) for place, plane in zip(places, planes, strict=True)]


def _ends(node: Any) -> NDArray[np.float64]:
    """(2, 3) RAS mm: both ends of a line, or the points of a list of two."""
    points = control_points(node)
    if len(points) != 2:
        raise GaussianMRIError(f"{described(node)} has {len(points)} points; a line from one to another needs two.")
    return points


def control_points(node: Any) -> NDArray[np.float64]:
    """(N, 3) RAS mm of those that are placed."""
    numbers = range(node.GetNumberOfControlPoints())
    defined = [n for n in numbers if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
    return np.array([node.GetNthControlPointPositionWorld(n) for n in defined], float).reshape(-1, 3)


def _simplices(node: Any) -> NDArray[np.float64]:
    """What a plane is fitted to: points (N, 1, 3), pieces of a curve (N, 2, 3) or triangles (N, 3, 3), RAS mm."""
    if is_node(node, "vtkMRMLModelNode"):
        return _surface(node)
    if not is_node(node, "vtkMRMLMarkupsCurveNode"):
        return control_points(node)[:, None]
    points = node.GetCurvePointsWorld()
    if points is None or points.GetNumberOfPoints() < 2:
        raise GaussianMRIError(f"{described(node)} is not placed yet; place its points.")
    places = vtk_to_numpy(points.GetData()).astype(np.float64)
    return np.stack([places[:-1], places[1:]], axis=1)


def _surface(node: Any) -> NDArray[np.float64]:
    if is_field(node):
        raise GaussianMRIError(f"{described(node)} is a fit, which has no shape; choose a surface.")
    mesh = node.GetPolyData()
    if mesh is None or not mesh.GetNumberOfPoints():
        raise GaussianMRIError(f"{described(node)} is empty; choose a model with a surface.")
    transform = vtk.vtkTransform()
    transform.SetMatrix(as_matrix(matrix_to_world(node)))
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetTransform(transform)
    moved.SetInputData(mesh)
    pieces = vtk.vtkTriangleFilter()
    pieces.PassVertsOff()
    pieces.SetInputConnection(moved.GetOutputPort())
    pieces.Update()
    found = pieces.GetOutput()
    places = vtk_to_numpy(found.GetPoints().GetData()).astype(np.float64)
    for cells, corners in ((found.GetPolys(), 3), (found.GetLines(), 2)):
        if cells.GetNumberOfCells():
            ids = vtk_to_numpy(cells.GetConnectivityArray()).reshape(-1, corners)
            simplices: NDArray[np.float64] = places[ids]
            return simplices
    return places[:, None]
