"""Discs of the scene: segments, points and planes as `DiscGeometry`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points, unit_vector
from ..grading.disc import DiscGeometry, level_name
from .grading_state import grades_of, place_of
from .planes import plane_from_node
from .scene import as_list, described, is_node
from .segments import mask_of_segment

if TYPE_CHECKING:
    from ..stacks import SliceStack

_POINTS = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsLineNode")


def disc_from_segment_node(
    segmentation_node: Any, segment_id: str, level: str, *, sagittal: SliceStack | None = None
) -> DiscGeometry:
    """The disc that a segment shows, such as TotalSpineSeg's, the node's transforms included.

    Args:
        segmentation_node: vtkMRMLSegmentationNode.
        segment_id: ID of the segment, which is often its name.
        level: such as "L5/S1".
        sagittal: the series whose slices cross the disc; default: the planes of the segment's own voxels.

    Raises:
        GaussianMRIError: no such segment, one that is no disc, or whose name says another level.
    """
    from ..grading.disc_sources import disc_from_segment
    from ..grading.label_schemes import disc_of_name

    mask, ijk_to_ras = mask_of_segment(segmentation_node, segment_id)
    name = segmentation_node.GetSegmentation().GetSegment(segment_id).GetName()
    said = disc_of_name(name)
    if said and said != level_name(level):
        raise GaussianMRIError(
            f"The segment '{name}' of {described(segmentation_node)} is {said} by its name, and {level} is chosen. "
            "Choose the level that it is, or rename the segment."
        )
    return disc_from_segment(mask, ijk_to_ras, level, sagittal)


def disc_from_points_node(points_nodes: Any, level: str) -> DiscGeometry:
    """The disc between an anterior and a posterior point, optionally with points on its left and right border.

    Which point is anterior or left follows from where it lies, not from its name or its place in the list, so that sides
    cannot be exchanged by a slip: of the first two points the one further in front is the anterior one; of the next
    two the one further to the patient's left is the left one.

    Args:
        points_nodes: a point list of two or four points, a line, or two of these: front to back, then across.
        level: such as "L5/S1".

    Raises:
        GaussianMRIError: other nodes or numbers of points, or points that no disc can have.
    """
    from ..grading.disc_sources import disc_from_points

    points: list[NDArray[np.float64]] = []
    for node in as_list(points_nodes):
        if not any(is_node(node, name) for name in _POINTS):
            raise GaussianMRIError(f"A point list or a line is needed for the disc, got {described(node)}.")
        for number in range(node.GetNumberOfControlPoints()):
            if node.GetNthControlPointPositionStatus(number) == node.PositionDefined:
                points.append(np.array(node.GetNthControlPointPositionWorld(number)))
    if len(points) not in (2, 4):
        raise GaussianMRIError(
            f"A disc needs two points (its front and back in the midline) or four (also its left and right border), got "
            f"{len(points)}. Place them in the sagittal and axial views."
        )
    anterior, posterior = sorted(points[:2], key=lambda point: -point[1])
    left, right = sorted(points[2:], key=lambda point: point[0]) if len(points) == 4 else (None, None)
    return disc_from_points(anterior, posterior, left, right, level=level)


def disc_from_plane_node(plane_node: Any, level: str) -> DiscGeometry:
    """The disc on a markups plane: the plane's middle is the disc's, its normal the disc's normal.

    A plane with grades knows its disc, whose region it may outline: that disc is taken, moved as the plane was since.

    Raises:
        GaussianMRIError: no placed plane, or one that does not lie across the body.
    """
    from ..grading.disc_sources import disc_from_plane

    plane, record = plane_from_node(plane_node), grades_of(plane_node)
    if record is None:
        return disc_from_plane(plane, level)
    disc = DiscGeometry.from_dict(record["disc"])
    before, now = _frame(record["state"]["plane"]), _frame(place_of(plane_node))
    move = now @ np.linalg.inv(before)
    if np.allclose(move, np.eye(4), atol=1e-6):
        return replace(disc, level=level)
    return replace(
        disc,
        frame=move @ disc.frame,
        posterior=transform_points(move, disc.posterior),
        anterior=transform_points(move, disc.anterior),
        level=level,
        provenance=f"{disc.provenance}, moved with its plane",
    )


def _frame(place: list[list[float]]) -> NDArray[np.float64]:
    """(4, 4) of a plane's axes and middle, from `place_of`."""
    center, on_x, on_y = np.asarray(place, dtype=np.float64)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1] = (unit_vector(edge - center) for edge in (on_x, on_y))
    frame[:3, 2], frame[:3, 3] = np.cross(frame[:3, 0], frame[:3, 1]), center
    return frame
