"""Planes fitted to segments."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, transform_points
from ..geometry.plane_sets import Spacing, check_margin, fitted_plane
from .scene import as_array, described, is_node, matrix_to_world

log = logging.getLogger("GaussianMRI")

#: A segment whose thinnest direction is this share of the next (standard deviations) is hardly flat.
_HARDLY_FLAT = 0.9


def plane_from_segment(
    segmentation_node: Any,
    segment_id: str,
    *,
    spacing: Spacing = None,
    thickness: float = 0.0,
    margin: float = 10.0,
) -> ImagePlane:
    """The image on the plane that fits a segment best, such as a disc: through its centre of mass, across its thinnest
    principal direction, the node's transforms included.

    The image hangs as by `ImagePlane.from_normal`; the normal points to the right, anterior or superior, whichever
    is nearest. It covers the segment with a margin all around.

    Args:
        segmentation_node: vtkMRMLSegmentationNode.
        segment_id: ID of the segment, which is often its name.
        spacing: mm between pixels, one number or (along i, along j); 0.5 by default.
        thickness: mm averaged along the normal.
        margin: mm.

    Raises:
        GaussianMRIError: no segmentation, no such segment, an empty one, or a transform that is not linear.
    """
    check_margin(margin)
    mask, affine = mask_of_segment(segmentation_node, segment_id)
    points, voxel = transform_points(affine, np.argwhere(mask)[:, ::-1]), affine[:3, :3]
    center = points.mean(axis=0)
    # A voxel is a box, not a point: one layer of voxels has a thickness too, and a single one a shape.
    spread = np.cov((points - center).T, bias=True) + voxel @ voxel.T / 12
    variances = np.linalg.eigvalsh(spread)
    if np.sqrt(variances[0] / variances[1]) > _HARDLY_FLAT:
        log.info(
            "The segment '%s' is hardly flat; the plane across its thinnest side may be any.", segment_id
        )
    corners = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)]) @ voxel.T
    return fitted_plane(center, spread, points, corners, margin, spacing, thickness)


class LabelLayer(NamedTuple):
    """Segments that share a label map.

    Attributes:
        labels: (K, J, I) unsigned; 0 where there is no segment.
        ijk_to_ras: (4, 4), RAS mm, the node's transforms included.
        values: the label of each segment, by its ID.
    """

    labels: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]
    values: dict[str, int]


def label_layers(segmentation_node: Any) -> list[LabelLayer]:
    """The segments of a node as label maps, one for those that share one in Slicer; empty segments are in none.

    Raises:
        GaussianMRIError: no segmentation, one without anything in it, or a transform that is not linear.
    """
    node = segmentation_node
    if not is_node(node, "vtkMRMLSegmentationNode"):
        raise GaussianMRIError(f"A segmentation is needed, got {described(node)}.")
    segmentation = node.GetSegmentation()
    labelmap = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    shared: dict[Any, LabelLayer] = {}
    for number in range(segmentation.GetNumberOfSegments()):
        segment_id = segmentation.GetNthSegmentID(number)
        try:
            mask, affine = mask_of_segment(node, segment_id)
        except EmptySegmentError:
            continue
        # The segments of one label map exclude each other; those made of surfaces are on their own.
        key = segmentation.GetSegment(segment_id).GetRepresentation(labelmap) or segment_id
        layer = shared.setdefault(key, LabelLayer(np.zeros(mask.shape, np.uint16), affine, {}))
        layer.values[segment_id] = len(layer.values) + 1
        layer.labels[mask] = layer.values[segment_id]
    if not shared:
        raise GaussianMRIError(f"{described(node)} has nothing in its segments; paint one first.")
    return list(shared.values())


def empty_segments(segmentation_node: Any) -> list[str]:
    """Names of the segments in which there is nothing."""
    segmentation, names = segmentation_node.GetSegmentation(), []
    for number in range(segmentation.GetNumberOfSegments()):
        segment_id = segmentation.GetNthSegmentID(number)
        try:
            mask_of_segment(segmentation_node, segment_id)
        except EmptySegmentError:
            names.append(segmentation.GetSegment(segment_id).GetName())
    return names


class EmptySegmentError(GaussianMRIError):
    """A segment without a voxel."""


def mask_of_segment(segmentation_node: Any, segment_id: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The voxels of a segment and where they are, the node's transforms included.

    Args:
        segmentation_node: vtkMRMLSegmentationNode; a surface is converted, and the node stays as it is.
        segment_id: ID of the segment, which is often its name.

    Returns:
        mask: (K, J, I).
        ijk_to_ras: (4, 4), RAS mm.

    Raises:
        GaussianMRIError: no segmentation, no such segment, an empty one, or a transform that is not linear.
    """
    node = segmentation_node
    if not is_node(node, "vtkMRMLSegmentationNode"):
        raise GaussianMRIError(f"A segmentation is needed, got {described(node)}.")
    segmentation = node.GetSegmentation()
    segment = segmentation.GetSegment(segment_id)
    if segment is None:
        names = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        raise GaussianMRIError(
            f"{described(node)} has no segment '{segment_id}'; it has {', '.join(names) or 'none'}."
        )
    to_world = matrix_to_world(node)
    labels = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segment.GetRepresentation(labels) is None:
        # A copy is converted, so that the node stays as it is.
        copy = slicer.vtkSegmentation()
        copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
        if copy.CopySegmentFromSegmentation(segmentation, segment_id) and copy.CreateRepresentation(labels):
            segment = copy.GetSegment(segment_id)
    image = segment.GetRepresentation(labels)
    scalars = None if image is None else image.GetPointData().GetScalars()
    if scalars is not None and scalars.GetNumberOfTuples():
        mask: NDArray[np.bool_] = (
            vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]) == segment.GetLabelValue()
        )
        if mask.any():
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            affine = to_world @ as_array(matrix)
            affine[:3, 3] += affine[:3, :3] @ image.GetExtent()[::2]
            return mask, affine
    raise EmptySegmentError(
        f"The segment '{segment.GetName()}' of {described(node)} is empty; paint it first."
    )
