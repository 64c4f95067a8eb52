"""Curved planar reformation in a scene: straightened volumes, planes across a curve, the way there and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import GaussianMRIError
from ..geometry import Curve, ImagePlane, transform_points
from .fields import is_field, volumes_of
from .maps import as_field
from .planes import fill_plane_node
from .resampling import describe_result, empty_value
from .scene import PREFIX, all_or_nothing, as_matrix, described, in_scene, is_node, node_to_fill, scene_of
from .volumes import STRAIGHT_SPACE, volume_from_images

if TYPE_CHECKING:
    from ..gaussians import StraightField
    from .jobs import Job

#: Reference role from a straightened volume, a plane across a curve or a transform to the curve.
CURVE_ROLE = PREFIX + "Curve"
#: `GaussianMRI.Method` of volumes in a straight space.
STRAIGHTENED = "straightened"
#: mm along the curve between the displacements of a transform, and how far it reaches beyond the volume's sides.
_GRID_MM, _MARGIN_MM = 0.5, 2.0
#: A transform has to lead back to within this (mm) of where a point was.
ROUND_TRIP_MM = 0.1


def curve_from_node(
    curve_node: Any, *, across: ArrayLike | str | None = None, fixed: bool = False, turn: float = 0.0
) -> Curve:
    """The curve of a markups node, open or closed, where it is drawn: its transforms are applied.

    Args:
        curve_node: vtkMRMLMarkupsCurveNode, of any kind of curve; corners of a linear one are rounded.
        across, fixed, turn: as of `Curve`.

    Raises:
        GaussianMRIError: no curve, one of fewer than two points, or a direction that does not do for it.
    """
    if not is_node(curve_node, "vtkMRMLMarkupsCurveNode"):
        raise GaussianMRIError(f"A markups curve is needed, got {described(curve_node)}.")
    drawn = curve_node.GetCurvePointsWorld()
    count = drawn.GetNumberOfPoints() if drawn is not None else 0
    if curve_node.GetNumberOfDefinedControlPoints() < 2 or count < 2:
        raise GaussianMRIError(
            f"The curve '{curve_node.GetName()}' has fewer than two points; place more in a slice view or 3D view."
        )
    return Curve(vtk_to_numpy(drawn.GetData()).astype(np.float64), across=across, fixed=fixed, turn=turn)


def straight_field(
    source: Any,
    curve_node: Any,
    *,
    width: float = 60.0,
    spacing: float | None = None,
    across: ArrayLike | str | None = None,
    fixed: bool = False,
    turn: float = 0.0,
) -> StraightField:
    """A field along a markups curve; see `GaussianMRILib.straighten`.

    Args:
        source: a field: its model node or a GaussianField.
        curve_node: vtkMRMLMarkupsCurveNode.
        width, spacing: mm; spacing by default the field's own.
        across, fixed, turn: as of `Curve`.
    """
    from ..gaussians import straighten

    curve = curve_from_node(curve_node, across=across, fixed=fixed, turn=turn)
    return straighten(as_field(source), curve, width=width, spacing=spacing)


def straighten(
    source: Any,
    curve_node: Any,
    *,
    slab: float | None = None,
    projection: str = "mean",
    node: Any = None,
    **options: Any,
) -> Any:
    """What lies along a curve as a volume in which the curve is straight, shown as the source is.

    The volume lies in the curve's straight space, about where the curve is (see `Curve`); `straightening_transform` leads
    there. It belongs to no frame of reference.

    Args:
        source: a field: its model node or a GaussianField.
        curve_node: vtkMRMLMarkupsCurveNode.
        slab: None: the volume; else the straightened image, mm thick, as a volume of one slice.
        projection: of the slab: "mean", "max" or "min"; a thin image has one only.
        node: a scalar volume node to fill again; default: a new one.
        options: width, spacing (mm), across, fixed, turn: as of `straight_field`.

    Raises:
        GaussianMRIError: no field, no usable curve, a size that makes no image, or nothing of it was scanned; the scene is
            then as it was.
    """
    straight = straight_field(source, curve_node, **options)
    return straight_to_node(straight, *straight_images(straight, slab, projection), source, curve_node, node)


def straight_images(
    straight: StraightField, slab: float | None = None, projection: str = "mean", job: Job | None = None
) -> tuple[list[NDArray[np.float32]], list[ImagePlane]]:
    """Images of a straightened volume, or of an image `slab` mm thick, and their planes in the straight space.

    Args:
        job: is told how far it is, and may be cancelled; the images are then worth nothing.
    """
    if slab is not None:
        return [straight.image(slab=slab, projection=projection if slab else "mean")], [
            ImagePlane(straight.plane.ijk_to_ras, straight.plane.shape, thickness=slab)
        ]
    voxels = np.full(straight.grid.shape, np.nan, np.float32)
    for first, part in straight.slabs():
        voxels[first : first + len(part)] = part
        if job is not None:
            job.report((first + len(part)) / len(voxels), "straightening")
            if job.cancelled:
                break
    return list(voxels), straight.grid.planes()


def straight_to_node(
    straight: StraightField,
    images: Sequence[NDArray[np.float32]],
    planes: Sequence[ImagePlane],
    source: Any,
    curve_node: Any,
    node: Any = None,
) -> Any:
    """What `straight_images` made as a volume node; see `straighten`."""
    if not any(np.isfinite(image).any() for image in images):
        raise GaussianMRIError(f"The curve '{curve_node.GetName()}' lies outside the scan; nothing is known there. Move it.")
    shown_as = volumes_of(source) if is_field(source) else []
    if node is not None and any(node is volume for volume in shown_as):
        raise GaussianMRIError(f"'{node.GetName()}' is what is straightened; choose another output volume.")
    scene = scene_of(node, curve_node, source)
    name = f"{curve_node.GetName()} {'image' if len(planes) == 1 else STRAIGHTENED}"
    with all_or_nothing(scene, undo=True, changed=node) as added:
        filled = volume_from_images(images, planes, scene=scene, node=node, name=name, background=empty_value(straight))
        if node is None:
            added.append(filled)
        filled.RemoveAttribute(PREFIX + "FrameOfReference")
        describe_result(filled, source, None, shown_as, STRAIGHTENED, straight)
        space = {"curve": straight.curve.to_dict(), "width": straight.width}
        filled.SetAttribute(STRAIGHT_SPACE, json.dumps(space))
        if in_scene(curve_node):
            filled.SetNodeReferenceID(CURVE_ROLE, curve_node.GetID())
    return filled


def planes_along_curve(
    curve_node: Any,
    step: float,
    *,
    width: float = 60.0,
    across: ArrayLike | str | None = None,
    fixed: bool = False,
    turn: float = 0.0,
) -> list[Any]:
    """Markups planes across a curve, centred on it, from its beginning to its end.

    Args:
        curve_node: vtkMRMLMarkupsCurveNode.
        step: mm along the curve between planes.
        width: mm, their width and height.
        across, fixed, turn: as of `Curve`.

    Returns:
        plane nodes, named after the curve and the mm from its beginning. One undo takes all of them back.

    Raises:
        GaussianMRIError: no usable curve, or a step or width that makes no planes; the scene is then as it was.
    """
    from ..gaussians.curved import planes_across

    curve = curve_from_node(curve_node, across=across, fixed=fixed, turn=turn)
    found = planes_across(curve, step, width, width / 2)
    scene, nodes = scene_of(curve_node), []
    with all_or_nothing(scene, undo=True) as added:
        for s, plane in found:
            name = scene.GenerateUniqueName(f"{curve_node.GetName()} {s:.0f} mm")
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", name)
            added.append(node)
            fill_plane_node(node, plane.center, plane.i_axis, np.cross(plane.normal, plane.i_axis), (width, width))
            if in_scene(curve_node):
                node.SetNodeReferenceID(CURVE_ROLE, curve_node.GetID())
            nodes.append(node)
    return nodes


def straightening_transform(
    curve_node: Any,
    *,
    width: float = 60.0,
    across: ArrayLike | str | None = None,
    fixed: bool = False,
    turn: float = 0.0,
    node: Any = None,
) -> Any:
    """The transform to the straight space of a curve: what is put under it goes there, and back under its inverse.

    A grid transform, which Slicer saves with the scene, inverts (Transforms module) and hardens for segmentations, models,
    markups and volumes. It is right within `width` about the curve, from its beginning to its end.

    Args:
        curve_node: vtkMRMLMarkupsCurveNode.
        width: mm on both sides of the curve together.
        across, fixed, turn: as of `Curve`; those of the straightened volume, so that things come to lie in it.
        node: a transform node to fill again; default: a new one.

    Raises:
        GaussianMRIError: no usable curve, or one that is bent too tightly for this width, so that there is no way back; the
            scene is then as it was.
    """
    curve = curve_from_node(curve_node, across=across, fixed=fixed, turn=turn)
    transform = there_and_back(curve, width, curve_node.GetName())
    scene = scene_of(node, curve_node)
    with all_or_nothing(scene, undo=True, changed=node) as added:
        name = f"{curve_node.GetName()} to straight"
        need = "A straightening transform needs a grid transform node"
        node = node_to_fill(scene, added, node, "vtkMRMLGridTransformNode", name, need)
        node.SetAndObserveTransformFromParent(transform)
        if in_scene(curve_node):
            node.SetNodeReferenceID(CURVE_ROLE, curve_node.GetID())
    return node


def there_and_back(curve: Curve, width: float, name: str) -> Any:
    """`grid_transform` of a curve, by whose inverse all within its width comes back to where it was.

    Raises:
        GaussianMRIError: the curve, called `name`, is bent too tightly for this width.
    """
    folding = curve.folding(width, aside=width)
    if folding:
        raise GaussianMRIError(f"There is no way back from the straight space of '{name}': {folding}")
    transform = grid_transform(curve, width)
    lost = _lost(curve, transform, width)
    if lost > ROUND_TRIP_MM:
        raise GaussianMRIError(
            f"Points beside the curve '{name}' would come back up to {lost:.2g} mm from where they were; "
            "take a smaller width, or a part of the curve."
        )
    return transform


def grid_transform(curve: Curve, width: float) -> Any:
    """A vtkOrientedGridTransform from the straight space of a curve to the patient, `width` mm wide.

    Displacements are linear across the curve, so that the corners are enough; a step of half a millimetre leaves the
    bend's sagitta, h^2 / 8 r. At its ends it goes on for half the width, so that its inverse finds its way there.
    """
    half, matrix = width / 2 + _MARGIN_MM, curve.straight_to_ras
    # Nodes at both ends of the curve, where its bend begins at once.
    step = curve.length / int(np.ceil(curve.length / _GRID_MM))
    along = step * np.arange(-int(width / 2 / step), int((curve.length + width / 2) / step) + 1)
    s, v, u = np.meshgrid(along, (-half, half), (-half, half), indexing="ij")
    straight = transform_points(matrix, np.stack([u, v, s], axis=-1))
    grid = vtk.vtkImageData()
    grid.SetDimensions(2, 2, len(along))
    grid.SetSpacing(2 * half, 2 * half, step)
    grid.SetOrigin(*straight[0, 0, 0])
    moved = numpy_to_vtk((curve.to_curved(straight) - straight).reshape(-1, 3), deep=1)
    grid.GetPointData().SetScalars(moved)
    directions = np.eye(4)
    directions[:3, :3] = matrix[:3, :3]
    transform = slicer.vtkOrientedGridTransform()
    transform.SetGridDirectionMatrix(as_matrix(directions))
    transform.SetDisplacementGridData(grid)
    transform.SetInterpolationModeToLinear()  # as files keep it
    return transform


def _lost(curve: Curve, transform: Any, width: float) -> float:
    """mm by which points within a width about a curve are off, there and back, at most."""
    sides = np.linspace(-width / 2, width / 2, 7)
    s, v, u = np.meshgrid(np.linspace(0, curve.length, max(9, int(curve.length / 4))), sides, sides, indexing="ij")
    local = np.stack([u, v, s], axis=-1).reshape(-1, 3)
    points = transform_points(curve.straight_to_ras, local)
    return float(np.linalg.norm(moved(transform.GetInverse(), curve.to_curved(points)) - points, axis=1).max())


def moved(transform: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 3) by a VTK transform."""
    given, result = vtk.vtkPoints(), vtk.vtkPoints()
    result.SetDataTypeToDouble()
    given.SetData(numpy_to_vtk(np.ascontiguousarray(points, np.float64), deep=1))
    transform.TransformPoints(given, result)
    return np.array(vtk_to_numpy(result.GetData()))
