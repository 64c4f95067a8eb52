"""Nodes of the scene that cut: markups planes, slice views, boxes, and Slicer's own clip nodes, as clip planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GaussianMRIError
from .fitting import roi_to_world
from .planes import plane_from_slice_node, rectangle
from .scene import described, is_node

if TYPE_CHECKING:
    from ..cinematic.clip import ClipPlane


def clip_of_node(node: Any, flipped: bool = False) -> ClipPlane:
    """The clip plane that a markups plane or a slice view gives: the side that its normal points to is cut away.

    Args:
        flipped: cut away the other side.

    Raises:
        GaussianMRIError: no such node, a plane that is not placed, or a transform that is not linear.
    """
    from ..cinematic.clip import ClipPlane

    if is_node(node, "vtkMRMLSliceNode"):
        plane = plane_from_slice_node(node)
        center, normal = plane.center, plane.normal
    elif is_node(node, "vtkMRMLMarkupsPlaneNode"):
        if not node.GetIsPlaneValid():
            raise GaussianMRIError(f"The plane '{node.GetName()}' is not placed yet; place it in a view.")
        center, x, y, _ = rectangle(node)
        normal = np.cross(x, y)
    else:
        raise GaussianMRIError(f"A markups plane or a slice view is needed, got {described(node)}.")
    return ClipPlane.from_point(center, -normal if flipped else normal)


def clips_of_clip_node(clip_node: Any) -> tuple[ClipPlane, ...]:
    """What a vtkMRMLClipNode cuts away: its planes, slice views and boxes, each with its side, as its type combines them.

    Its type is about what is cut away ("Union" leaves what all its nodes keep), as that of `cinematic.clip.combined`. A box
    may be kept, or cut out of the rest. What is left must be a convex body, with a convex hole at most: so one box at most
    is cut out by a union, and a box that is kept stands alone in an intersection.

    Raises:
        GaussianMRIError: no such node; a node in it that is no plane, slice view or box, or is not placed; or another body.
    """
    from ..cinematic.clip import box_planes, combined

    if not is_node(clip_node, "vtkMRMLClipNode"):
        raise GaussianMRIError(f"A clip node is needed, got {described(clip_node)}.")
    planes: list[ClipPlane] = []
    kept: list[tuple[ClipPlane, ...]] = []
    holes: list[tuple[ClipPlane, ...]] = []
    for n in range(clip_node.GetNumberOfClippingNodes()):
        node, state = clip_node.GetNthClippingNode(n), clip_node.GetNthClippingNodeState(n)
        if node is None or state == clip_node.ClipOff:
            continue
        positive = state == clip_node.ClipPositiveSpace
        if is_node(node, "vtkMRMLMarkupsROINode"):  # its positive space is outside, unless it is turned inside out
            (holes if positive != bool(node.GetInsideOut()) else kept).append(box_planes(roi_to_world(node)))
        elif is_node(node, "vtkMRMLSliceNode") or is_node(node, "vtkMRMLMarkupsPlaneNode"):
            planes.append(clip_of_node(node, flipped=positive))
        else:
            raise GaussianMRIError(
                f"{described(clip_node)} clips by {described(node)}; a cinematic picture is cut by markups planes, slice "
                "views and boxes (ROI) only. Switch it off there."
            )
    outer = tuple(plane for box in kept for plane in box)
    cut_out = [combined([plane.flipped() for plane in box], "intersection") for box in holes]
    several = len(planes) + len(kept) + len(holes) > 1
    if several and clip_node.GetClipType() == clip_node.ClipIntersection:
        if kept or len(holes) > 1:
            raise GaussianMRIError(
                f"{described(clip_node)} is an intersection with a box that is kept, or with several that are cut out; a "
                "cinematic picture cannot show that. Choose Union there."
            )
        return combined([*planes, *(plane for hole in cut_out for plane in hole)], "intersection")
    if len(cut_out) > 1:
        raise GaussianMRIError(
            f"{described(clip_node)} cuts out {len(cut_out)} boxes; a cinematic picture can show one. Switch the others off."
        )
    return (*planes, *outer, *(plane for hole in cut_out for plane in hole))
