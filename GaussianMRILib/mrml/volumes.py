"""Scalar volume nodes as slice stacks, and images as scalar volume nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, slice_poses, transform_points
from ..geometry.affine import slice_normal
from .scene import (
    PREFIX,
    all_or_nothing,
    as_matrix,
    described,
    ijk_to_ras,
    is_node,
    matrix_to_world,
    node_to_fill,
    numbers,
    scene_of,
    stored,
)

if TYPE_CHECKING:
    from ..stacks import SliceStack

SLICE_THICKNESS, FRAME_OF_REFERENCE, DICOM_MODALITY = "0018,0050", "0020,0052", "0008,0060"
#: A transform that moves every pixel of a slice by the same affine map to within this (mm) does not bend it.
FLAT_MM = 0.02
#: Attribute of straightened volumes: the curve as it was, and the width, by which things go along (`take_along`); JSON.
STRAIGHT_SPACE = PREFIX + "StraightSpace"


def stack_from_volume(volume_node: Any, *, thickness: float | None = None) -> SliceStack:
    """The slices of a scalar volume node, where they are in the world: its transforms are applied.

    Slices lie across the axis with the coarsest spacing, except that a volume from DICOM keeps its own. Where
    the DICOM files are still there, `stacks_from_volume` knows more of them.

    Args:
        volume_node: vtkMRMLScalarVolumeNode. Its pixels are copied, so the node may change afterwards.
        thickness: slice thickness, mm in the scanner. Default: from Slicer's DICOM database where the volume came
            from there, else the distance between slices.

    Returns:
        a stack with the node's name, and its DICOM frame of reference where that is known and no transform moves
        the volume out of it.

    Raises:
        GaussianMRIError: no scalar volume (colour, vector, label map), an empty one, or one under a transform that
            is not linear, other than Slicer's acquisition transform, which moves every slice to its own place.
    """
    from ..stacks import SliceStack
    from ..stacks.volumes import stacked_along_coarsest_axis

    check_scalar(volume_node)
    geometry, to_world = placed(volume_node)
    pixels = slicer.util.arrayFromVolume(volume_node)
    if thickness is None and dicom_slices(volume_node):
        thickness = _number(dicom_value(volume_node, SLICE_THICKNESS))
    if geometry.ndim == 2 and not dicom_slices(volume_node):
        pixels, geometry = stacked_along_coarsest_axis(pixels, geometry)
    if thickness is not None:
        # A transform that scales changes the thickness as it does the distance between slices.
        thickness = thickness * stretch(geometry if geometry.ndim == 2 else geometry[0], to_world)
    frame = volume_node.GetAttribute(PREFIX + "FrameOfReference")
    frame = frame or dicom_value(volume_node, FRAME_OF_REFERENCE) or None
    if not np.array_equal(to_world, np.eye(4)):
        frame = None
    return SliceStack.from_array(
        np.array(pixels, dtype=np.float32, order="C"),
        to_world @ geometry,
        thickness=thickness,
        frame_of_reference=frame,
        name=volume_node.GetName() or "volume",
        source=_file_source(volume_node),
        notes=file_notes(volume_node),
        copy=False,
    )


def file_notes(volume_node: Any) -> list[str]:
    """Remarks on what the file of a volume leaves open about its place; none of volumes without a file."""
    path = _file_of(volume_node)
    if path is None:
        return []
    from ..stacks.volume_headers import geometry_notes

    try:
        return geometry_notes(path)
    except GaussianMRIError as error:
        return [str(error)]


def _file_source(volume_node: Any) -> dict[str, Any]:
    """`SliceStack.source` by the JSON file beside a volume's file."""
    from ..stacks.sidecar import read_sidecar, sidecar_source

    path = _file_of(volume_node)
    return {} if path is None else sidecar_source(path, read_sidecar(path))


def _file_of(volume_node: Any) -> Path | None:
    """The file that a volume was loaded from or saved to, if it is still there."""
    storage = volume_node.GetStorageNode()
    path = storage.GetFileName() if storage is not None else None
    return Path(path) if path and Path(path).is_file() else None


def placed(volume_node: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a volume's voxels are: their geometry, and the (4, 4) of the linear transforms above it.

    Returns:
        geometry: ijk to RAS (4, 4); under an acquisition transform the pose of every slice, (K, 4, 4).

    Raises:
        GaussianMRIError: a transform that bends slices.
    """
    affine = ijk_to_ras(volume_node)
    parent = volume_node.GetParentTransformNode()
    if parent is None or parent.IsLinear():
        return affine, matrix_to_world(volume_node)
    poses = _moved_slices(parent, affine, volume_node.GetImageData().GetDimensions())
    if poses is None:
        return affine, matrix_to_world(volume_node)  # which says what is wrong
    return poses, matrix_to_world(parent)


def _moved_slices(
    transform: Any, affine: NDArray[np.float64], size: tuple[int, int, int]
) -> NDArray[np.float64] | None:
    """Poses (K, 4, 4) of slices that a transform node moves each as a whole; None where it bends them."""
    columns, rows, count = size
    i, j = (
        np.array(part).ravel()
        for part in np.meshgrid(*(np.linspace(0, n - 1, 5) if n > 1 else [0, 1] for n in (columns, rows)))
    )
    terms = np.stack([i, j, np.ones_like(i)], axis=1)
    to_parent = transform.GetTransformToParent()
    poses = np.tile(np.eye(4), (count, 1, 1))
    for k in range(count):
        before = transform_points(affine, np.stack([i, j, np.full_like(i, k)], axis=1))
        after = np.array([to_parent.TransformPoint(point) for point in before])
        fitted = np.linalg.lstsq(terms, after, rcond=None)[0]
        if np.abs(terms @ fitted - after).max() > FLAT_MM:
            return None
        poses[k, :3, [0, 1, 3]] = fitted
        poses[k, :3, 2] = slice_normal(np.column_stack([fitted[0], fitted[1], affine[:3, 2]]))
    return poses


def dicom_slices(volume_node: Any) -> list[str]:
    """SOP instance UID of every slice of a volume that Slicer loaded from DICOM, of a multi-frame file the one; empty
    where not known, or where the volume no longer has these slices, as a cropped copy."""
    uids = (volume_node.GetAttribute("DICOM.instanceUIDs") or "").split()
    return uids if len(uids) in (1, volume_node.GetImageData().GetDimensions()[2]) else []


def dicom_value(volume_node: Any, tag: str) -> str:
    """A value ("gggg,eeee") of the first DICOM file of a volume, from Slicer's database; "" where not known."""
    uids = (volume_node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return ""
    return str(database.instanceValue(uids[0], tag) or "").strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


def stretch(pose: NDArray[np.float64], to_world: NDArray[np.float64]) -> float:
    """How much further apart slices are, and thicker, after `to_world`."""

    def distance(matrix: NDArray[np.float64]) -> float:
        normal = np.cross(matrix[:3, 0], matrix[:3, 1])
        return abs(float(normal @ matrix[:3, 2])) / max(float(np.linalg.norm(normal)), 1e-12)

    before = distance(pose)
    return distance(to_world @ pose) / before if before > 0 else 1.0


def check_scalar(node: Any) -> None:
    if not is_node(node, "vtkMRMLVolumeNode"):
        raise GaussianMRIError(f"A scalar volume node is needed, got {described(node)}.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise GaussianMRIError(
            f"{described(node)} is a label map; labels cannot be interpolated. Choose the image it was drawn on."
        )
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise GaussianMRIError(f"{described(node)} has no pixels; load an image into it.")
    components = image.GetNumberOfScalarComponents()
    if not node.IsA("vtkMRMLScalarVolumeNode") or components != 1:
        raise GaussianMRIError(
            f"{described(node)} has {components} values in each voxel (colour or vectors). Give a volume of one number "
            "each; the Vector to Scalar Volume module makes one."
        )


def volume_from_images(
    images: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    planes: Sequence[ImagePlane],
    *,
    scene: Any = None,
    node: Any = None,
    name: str = "resampled",
    background: float | None = None,
) -> Any:
    """Images of parallel, evenly spaced planes as a scalar volume node, in place to float64 precision.

    Pixels that are NaN get the background value. The node's attributes tell of it: `GaussianMRI.Background`,
    `GaussianMRI.OutsideFraction` (share of all pixels, 0 to 1), `GaussianMRI.OutsideFractions` (JSON, one a slice)
    and `GaussianMRI.SliceThickness` (mm). The step along k is the distance between planes; of one plane its
    thickness or, when it is thin, its smaller pixel spacing. Slices are in the order of the planes, or in reverse where
    only that makes the voxels right-handed: Slicer turns round volumes that are not when it loads a scene.

    Args:
        images: (rows, columns) each, NaN outside what was scanned.
        planes: as many, in order.
        scene: default: the node's, else Slicer's.
        node: a scalar volume node to fill again; a new one by default.
        name: of a new node.
        background: default: 0, or the smallest value where that is negative.

    Raises:
        GaussianMRIError: images and planes do not fit or the planes make no regular volume; nothing is changed.
    """
    from ..writers.images import checked_images, filled
    from ..writers.volume import volume_affine

    pixels, listed = checked_images(images if isinstance(images, np.ndarray) else np.stack(images), planes)
    affine = volume_affine(listed)
    outside = np.isnan(pixels).mean(axis=(1, 2))
    if background is None:
        background = min(0.0, float(np.nanmin(pixels))) if (outside < 1).any() else 0.0
    shown = filled(pixels, background)
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:3, 3] += (len(shown) - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        shown, outside = np.ascontiguousarray(shown[::-1]), outside[::-1]
    scene = scene_of(node, scene=scene)
    with all_or_nothing(scene) as added:
        need = "The images need a scalar volume node"
        node = node_to_fill(scene, added, node, "vtkMRMLScalarVolumeNode", name, need)
        node.SetIJKToRASMatrix(as_matrix(affine))
        slicer.util.updateVolumeFromArray(node, shown)
        node.RemoveAttribute(STRAIGHT_SPACE)  # of what was in it before
        node.SetAttribute(PREFIX + "Background", repr(float(background)))
        node.SetAttribute(PREFIX + "OutsideFraction", f"{outside.mean():.6f}")
        node.SetAttribute(PREFIX + "OutsideFractions", json.dumps([round(float(v), 6) for v in outside]))
        node.SetAttribute(PREFIX + "SliceThickness", repr(listed[0].thickness))
    return node


def planes_of_volume(volume_node: Any) -> list[ImagePlane]:
    """The planes of a volume that `volume_from_images` made, where they are in the world.

    Raises:
        GaussianMRIError: a transform that is not linear.
    """
    affine = matrix_to_world(volume_node) @ ijk_to_ras(volume_node)
    columns, rows, count = volume_node.GetImageData().GetDimensions()
    thickness = stored(volume_node, PREFIX + "SliceThickness", lambda text: max(numbers([text], 1)[0], 0.0), 0.0)
    return [ImagePlane(pose, (rows, columns), thickness=thickness) for pose in slice_poses(affine, count)]


def copy_display(source: Any, target: Any) -> None:
    """Show a volume node as another one: window, level, colours, threshold, interpolation.

    Without a source (None, or one without a display node) the target gets Slicer's automatic settings.
    """
    if target.GetDisplayNode() is None:
        target.CreateDefaultDisplayNodes()
    shown = target.GetDisplayNode()
    wanted = source.GetDisplayNode() if is_node(source, "vtkMRMLScalarVolumeNode") else None
    if shown is None or wanted is None:
        return
    shown.SetAutoWindowLevel(False)
    shown.SetWindowLevel(wanted.GetWindow(), wanted.GetLevel())
    shown.SetAndObserveColorNodeID(wanted.GetColorNodeID())
    shown.SetInterpolate(wanted.GetInterpolate())
    shown.SetAutoThreshold(False)
    shown.SetThreshold(wanted.GetLowerThreshold(), wanted.GetUpperThreshold())
    shown.SetApplyThreshold(wanted.GetApplyThreshold())
