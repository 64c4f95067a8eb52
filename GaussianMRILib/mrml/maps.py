"""How far an image on a plane can be trusted: maps to lay over it, and numbers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from .fields import field_from_model
from .planes import Spacing, plane_of
from .scene import PREFIX, is_node

#: mm to the nearest acquired slice; the Gaussians' weight, 0 (nothing there) to 1 (as usual in this field).
MAPS = ("distance", "support")
#: Value of a map's pixels outside the scan. It is below what is shown, so that they are transparent in an overlay.
MAP_OUTSIDE = -1.0
#: Unit (UCUM) and its name, and a colour table whose red says that less is known.
_UNITS = {"distance": ("mm", "millimeter"), "support": ("1", "no units")}
_COLOURS = {"distance": "vtkMRMLColorTableNodeWarm1", "support": "vtkMRMLColorTableNodefMRIPA"}


@dataclass(frozen=True)
class PlaneFacts:
    """Numbers about the image on a plane.

    Attributes:
        outside: share of the pixels that lie outside the scan and are empty, 0 to 1.
        mean_distance, max_distance: mm from the other pixels to the nearest acquired slice; NaN when there are none.
        mean_support: mean of the support map there, 0 to 1; NaN when there are none.
    """

    outside: float
    mean_distance: float
    max_distance: float
    _: KW_ONLY
    mean_support: float


def plane_facts(field: Any, plane: Any, *, spacing: Spacing = None, thickness: float = 0.0) -> PlaneFacts:
    """What is known of the image on a plane.

    Args:
        field: a GaussianField or its model node.
        plane: an ImagePlane, markups plane node or slice node.
        spacing, thickness: of a node's image, as in `resample`; default spacing: the scan's own.
    """
    field = as_field(field)
    if not isinstance(plane, ImagePlane):
        plane = plane_of(plane, native_spacing(field) if spacing is None else spacing, thickness)
    distance, support = (map_image(field, plane, method) for method in MAPS)
    inside = np.isfinite(distance)
    if not inside.any():
        return PlaneFacts(1.0, float("nan"), float("nan"), mean_support=float("nan"))
    return PlaneFacts(
        1 - float(inside.mean()),
        float(distance[inside].mean(dtype=np.float64)),
        float(distance[inside].max()),
        mean_support=float(support[inside].mean(dtype=np.float64)),
    )


def map_image(field: Any, plane: ImagePlane, method: str) -> NDArray[np.float32]:
    """One of `MAPS` on a plane: (rows, columns) float32, NaN outside the scan.

    Args:
        field: a GaussianField or its model node.
    """
    field = as_field(field)
    if method not in MAPS:
        raise GaussianMRIError(f"There is no map '{method}'; choose one of {', '.join(MAPS)}.")
    values = field.distance_to_slices(plane) if method == "distance" else field.support(plane).clip(0, 1)
    return np.where(field.inside_plane(plane), values, np.float32(np.nan))


def show_map(volume_node: Any, method: str, *, highest: float | None = None) -> None:
    """Show a volume node as one of `MAPS`: a colour table, the unit, nothing outside the scan.

    Args:
        highest: value with the last colour; default: 1 of support, the node's largest of distance.
    """
    unit, meaning = _UNITS[method]
    volume_node.SetAttribute(PREFIX + "Units", unit)
    code = slicer.vtkCodedEntry()
    code.SetValueSchemeMeaning(unit, "UCUM", meaning)
    volume_node.SetVoxelValueUnits(code)
    if volume_node.GetDisplayNode() is None:
        volume_node.CreateDefaultDisplayNodes()
    if highest is None:
        highest = 1.0 if method == "support" else float(slicer.util.arrayFromVolume(volume_node).max())
    highest = max(highest, 1e-3)
    shown = volume_node.GetDisplayNode()
    shown.SetAndObserveColorNodeID(_COLOURS[method])
    shown.SetAutoWindowLevel(False)
    shown.SetWindowLevelMinMax(0, highest)
    shown.SetAutoThreshold(False)
    shown.SetThreshold(0, max(2 * highest, 1e6))
    shown.SetApplyThreshold(True)


def as_field(source: Any) -> Any:
    """The GaussianField itself, or the one in a model node.

    Raises:
        GaussianMRIError: neither.
    """
    from ..gaussians import GaussianField

    if isinstance(source, GaussianField):
        return source
    if is_node(source, "vtkMRMLVolumeNode") or isinstance(source, (list, tuple)):
        raise GaussianMRIError("Gaussians need a field; fit the volume first, or choose voxel or spline.")
    return field_from_model(source)


def native_spacing(renderer: Any) -> float | None:
    """The smallest in-plane pixel spacing, mm, of the slices behind a field or an interpolator; None if unknown."""
    if hasattr(renderer, "slice_poses"):
        lengths = np.linalg.norm(renderer.slice_poses[:, :3, :2], axis=1)
        return float(lengths.min()) if lengths.size else None
    stacks = getattr(renderer, "stacks", None) or []
    return min((min(stack.pixel_spacing) for stack in stacks), default=None)


def scan_corners(renderer: Any) -> NDArray[np.float64]:
    """(N, 3) RAS mm: corners of the slices behind a field or an interpolator."""
    if hasattr(renderer, "slice_poses"):
        poses, shapes = renderer.slice_poses, renderer.slice_shapes
    else:
        poses = np.concatenate([stack.ijk_to_ras for stack in renderer.stacks])
        shapes = np.array([stack.shape[1:] for stack in renderer.stacks for _ in stack.pixels])
    last = np.asarray(shapes)[:, ::-1] - 1
    steps = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return np.concatenate(
        [
            poses[:, :3, 3] + i * last[:, :1] * poses[:, :3, 0] + j * last[:, 1:] * poses[:, :3, 1]
            for i, j in steps
        ]
    )
