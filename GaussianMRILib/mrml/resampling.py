"""Images on planes of the scene as volume nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, slab_image
from .dicom import stacks_of
from .fields import is_field, volumes_of
from .maps import MAP_OUTSIDE, MAPS, as_field, map_image, native_spacing, show_map
from .planes import Spacing, plane_of
from .scene import PREFIX, all_or_nothing, as_list, in_scene, is_node, place_beside, scene_of
from .volumes import copy_display, volume_from_images

#: What makes the images of a plane; `MAPS` are beside them.
RESAMPLERS = ("gaussians", "voxel", "spline")
#: Reference roles from a resampled volume.
FIELD_ROLE, PLANE_ROLE, SOURCE_ROLE = PREFIX + "Field", PREFIX + "Plane", PREFIX + "Source"


class Renders(Protocol):
    """What has an image on every plane: a GaussianField, a baseline's interpolator."""

    def render(self, plane: ImagePlane) -> NDArray[np.float32]: ...


def resample(
    source: Any,
    planes: Any,
    *,
    method: str | Sequence[str] = "gaussians",
    count: int = 1,
    step: float | None = None,
    volumes: Any = None,
    spacing: Spacing = None,
    thickness: float = 0.0,
    background: float | None = None,
    scene: Any = None,
    node: Any = None,
    projection: str = "mean",
) -> Any:
    """The image on each plane as a new scalar volume node, shown as the source is.

    Args:
        source: a field (model node or GaussianField) or, for "voxel" and "spline", one or several volume nodes.
            Maps need a field.
        planes: a markups plane node, slice node or ImagePlane, or a list of them.
        method: "gaussians", "voxel" (the seed paper's baseline) or "spline" (cubic, with the slice profile); or one
            of `MAPS` of the image by Gaussians, to lay over it: "distance" (mm to the nearest acquired slice) or
            "support" (0 to 1), which are shown in colours. Also a list of these.
        count, step: parallel planes around each one, and the mm between them along its normal; together they make
            one volume. Default step: the thickness, of thin planes the pixel spacing.
        volumes: volume nodes for "voxel" and "spline", for the display settings and the place in the subject
            hierarchy. Default: the source, or those that the field's node refers to.
        spacing: mm between pixels, one number or (along i, along j); default: the source's own in-plane spacing. An
            ImagePlane keeps its own.
        thickness: mm along the normal that the image shows, except of an ImagePlane, which has its own.
        background: value of pixels outside the scan; default: 0, or the scan's darkest where that is negative; of
            maps `MAP_OUTSIDE`.
        scene: default: that of the nodes.
        node: a scalar volume node to fill again, for one plane and one method; default: new ones.
        projection: of the thickness: "mean", "max" or "min", see `GaussianField.render`. Maps are those of the middle, and a
            thin plane has one image only.

    Returns:
        a volume node for one plane and method, a list of nodes for a list of either: all methods of the first plane,
        then of the next. One undo takes all of them back. Attributes as in `volume_from_images`, and
        `GaussianMRI.Method`, of maps also `GaussianMRI.Units`, of other projections
        `GaussianMRI.Projection`; references `GaussianMRI.Field`, `.Plane` and `.Source`.

    Raises:
        GaussianMRIError: an unknown method, a source or plane that does not do. Then the scene is as it was.
    """
    wanted = as_list(planes)
    if not wanted:
        raise GaussianMRIError("There is no plane to resample on; give at least one.")
    shown_as = _volumes(source, volumes)
    scene = scene_of(*wanted, source, *shown_as, scene=scene)
    methods = [method] if isinstance(method, str) else list(method)
    if not methods:
        raise GaussianMRIError("There is no method to resample by; give at least one.")
    if node is not None and len(wanted) * len(methods) != 1:
        raise GaussianMRIError(
            f"{len(wanted) * len(methods)} images do not go into the one volume '{node.GetName()}'; choose one plane and "
            "one image, or no output volume."
        )
    if node is not None and any(node is volume for volume in shown_as):
        raise GaussianMRIError(f"'{node.GetName()}' is what is resampled; choose another output volume.")
    # Every image before the first node: a failure then leaves nothing behind.
    made = []
    of_field = (RESAMPLERS[0], *MAPS)
    field = as_field(source) if set(methods) & set(of_field) else None  # read once for all of them
    renderers = {name: field if name in of_field else resampler(source, method=name, volumes=volumes) for name in methods}
    for value in wanted:
        for name, renderer in renderers.items():
            pixel = native_spacing(renderer) if spacing is None else spacing
            middle = plane_of(value, pixel, thickness)
            apart = (middle.thickness or min(middle.spacing)) if step is None else step
            listed = middle.stack(count, apart)
            if name in MAPS:
                images = [map_image(renderer, plane, name) for plane in listed]
            else:
                images = images_of(renderer, listed, projection)
            made.append((value, name, listed, images))
    result: list[Any] = []
    with all_or_nothing(scene, undo=True, changed=node) as added:
        for value, name, listed, images in made:
            outside = background
            if outside is None:
                outside = MAP_OUTSIDE if name in MAPS else empty_value(renderers[name])
            shown = "" if name in MAPS or projection == "mean" or not listed[0].thickness else projection
            label = f"{value.GetName() if is_node(value) else 'plane'} {name} {shown}".rstrip()
            filled = volume_from_images(images, listed, scene=scene, node=node, name=label, background=outside)
            if node is None:
                added.append(filled)
            result.append(filled)
            describe_result(filled, source, value, shown_as, name, renderers[name])
            if shown:
                filled.SetAttribute(PREFIX + "Projection", shown)
    several = isinstance(planes, Sequence) or not isinstance(method, str)
    return result if several else result[0]


def resampler(source: Any, *, method: str = "gaussians", volumes: Any = None) -> Renders:
    """What `resample` renders with; keep it to render many planes, as while one is dragged.

    Returns:
        an object with `render(ImagePlane) -> (rows, columns) float32`, NaN outside what was scanned.

    Raises:
        GaussianMRIError: see `resample`.
    """
    if method not in RESAMPLERS:
        raise GaussianMRIError(
            f"There is no method '{method}' to render with; choose one of {', '.join(RESAMPLERS)} (`resample` also makes "
            f"the maps {', '.join(MAPS)})."
        )
    if method == "gaussians":
        field: Renders = as_field(source)
        return field
    nodes = _volumes(source, volumes)
    if not nodes:
        raise GaussianMRIError(
            f"The method {method} needs the volume itself, which this field does not refer to (any more); give volumes=..."
        )
    from ..baselines import SplineInterpolator, VoxelInterpolator

    stacks = stacks_of(nodes)
    return VoxelInterpolator(stacks) if method == "voxel" else SplineInterpolator(stacks)


def empty_value(renderer: Any) -> float:
    """What "nothing here" looks like in a scan: 0, or less where its darkest value is less. The same for every method,
    whose own overshoot would otherwise tell."""
    if hasattr(renderer, "offset"):
        return min(0.0, float(renderer.offset))
    return min([0.0, *(float(stack.pixels.min()) for stack in getattr(renderer, "stacks", ()))])


def images_of(renderer: Any, planes: Sequence[ImagePlane], projection: str = "mean") -> list[NDArray[np.float32]]:
    """What any renderer shows on planes: (rows, columns) float32 each, NaN outside the scan.

    Args:
        renderer: a GaussianField or an interpolator of `resampler`; of the latter, planes of a slab lie a pixel apart.
        projection: see `resample`.
    """
    if not any(plane.thickness for plane in planes):
        projection = "mean"
    if hasattr(renderer, "render_many"):
        images: list[NDArray[np.float32]] = renderer.render_many(planes, projection=projection)
        return images

    def each(listed: Sequence[ImagePlane]) -> list[NDArray[np.float32]]:
        return [renderer.render(plane) for plane in listed]

    if projection == "mean":
        return each(planes)
    return [slab_image(each, plane, projection=projection, step=min(plane.spacing)) for plane in planes]


def _volumes(source: Any, volumes: Any) -> list[Any]:
    if volumes is not None:
        return as_list(volumes)
    if isinstance(source, Sequence):
        return list(source)
    if is_field(source):
        return volumes_of(source)
    return [source] if is_node(source, "vtkMRMLVolumeNode") else []


def describe_result(node: Any, source: Any, plane: Any, volumes: Sequence[Any], method: str, renderer: Any) -> None:
    """Where a volume came from, how it is shown and where it is listed."""
    node.SetAttribute(PREFIX + "Method", method)
    # A volume that is filled again may have been something else, somewhere else.
    node.RemoveAttribute(PREFIX + "Units")
    node.RemoveAttribute(PREFIX + "Projection")
    node.SetAndObserveTransformNodeID(None)
    node.RemoveNodeReferenceIDs(SOURCE_ROLE)
    frames = [getattr(renderer, "frame_of_reference", None)]
    frames += [stack.frame_of_reference for stack in getattr(renderer, "stacks", [])]
    frame = next((frame for frame in frames if frame), None)
    if frame:
        node.SetAttribute(PREFIX + "FrameOfReference", frame)
    present = [volume for volume in volumes if in_scene(volume)]
    if is_field(source) and in_scene(source):
        node.SetNodeReferenceID(FIELD_ROLE, source.GetID())
    if in_scene(plane):
        node.SetNodeReferenceID(PLANE_ROLE, plane.GetID())
    for volume in present:
        node.AddNodeReferenceID(SOURCE_ROLE, volume.GetID())
    if method in MAPS:
        show_map(node, method)
    else:
        copy_display(present[0] if present else None, node)
    beside = present[0] if present else source
    if in_scene(beside):
        place_beside(node, beside)
