"""Volumes of the scene as path-traced pictures: what they depend on, and where the camera sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .fitting import roi_to_world
from .scene import ijk_to_ras, in_scene, matrix_to_world
from .volumes import DICOM_MODALITY, check_scalar, dicom_value

if TYPE_CHECKING:
    from ..cinematic.live import LivePicture
    from ..cinematic.looks import Look
    from ..cinematic.model import CinematicModel


_last_body: tuple[tuple[Any, ...], NDArray[Any]] | None = None


def rendering_display(volume_node: Any) -> Any:
    """The volume's first vtkMRMLVolumeRenderingDisplayNode; None where the volume has none."""
    displays = (volume_node.GetNthDisplayNode(n) for n in range(volume_node.GetNumberOfDisplayNodes()))
    return next((node for node in displays if node and node.IsA("vtkMRMLVolumeRenderingDisplayNode")), None)


def look_of_volume(volume_node: Any) -> Look:
    """The look of a volume that nobody has chosen one for: by its DICOM modality, else by its values.

    Raises:
        GaussianMRIError: no scalar volume.
    """
    from ..cinematic.looks import default_look, find_look

    check_scalar(volume_node)
    return find_look(default_look(slicer.util.arrayFromVolume(volume_node), dicom_value(volume_node, DICOM_MODALITY)))


def look_warning(volume_node: Any, look: Look) -> str:
    """A sentence where the look is made for another modality than the volume's, else ""."""
    from ..cinematic.looks import modality_warning

    check_scalar(volume_node)
    return modality_warning(look, slicer.util.arrayFromVolume(volume_node), dicom_value(volume_node, DICOM_MODALITY))


def voxels_of(volume_node: Any, *, body_only: bool = False) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels (K, J, I) of a volume node, a copy, and their (4, 4) to RAS mm in the world.

    Args:
        body_only: without table, headrest and cables (`cinematic.body.keep_body`), which takes seconds for a large volume;
            that of the last volume is kept.

    Raises:
        GaussianMRIError: no scalar volume, no body in it, or a transform that is not linear.
    """
    global _last_body
    check_scalar(volume_node)
    affine = matrix_to_world(volume_node) @ ijk_to_ras(volume_node)
    values: NDArray[Any] = np.array(slicer.util.arrayFromVolume(volume_node))
    if not body_only:
        _last_body = None
        return values, affine
    from ..cinematic.body import keep_body
    from ..cinematic.picture import check_volume

    state = (volume_node.GetID(), volume_node.GetImageData().GetMTime(), affine.tobytes())
    if _last_body is None or _last_body[0] != state:
        body = keep_body(check_volume(values), affine, modality=dicom_value(volume_node, DICOM_MODALITY))
        _last_body = state, body
    return _last_body[1], affine


def live_picture(
    volume_node: Any,
    look: Look,
    region_node: Any = None,
    *,
    model: CinematicModel | None = None,
    samples: int = 64,
    body_only: bool = False,
) -> LivePicture:
    """A volume node where it is in the world, for `CinematicView`.

    Args:
        volume_node: vtkMRMLScalarVolumeNode. Its voxels are copied, so the node may change afterwards.
        region_node: markups ROI outside which nothing is shown.
        model: splats of this volume, shown while something moves.
        samples: paths per pixel of the finished picture.
        body_only: without table, headrest and cables.

    Raises:
        GaussianMRIError: no scalar volume, nothing to see of it, a region outside it, or a transform that is not linear.
    """
    from ..cinematic.live import LivePicture

    values, affine = voxels_of(volume_node, body_only=body_only)
    roi = roi_to_world(region_node) if in_scene(region_node) else None
    return LivePicture(values, affine, look, roi=roi, samples=samples, model=model)


def state_of(volume_node: Any, region_node: Any = None, display_node: Any = None) -> tuple[Any, ...]:
    """What differs once a picture of these nodes is out of date: their place, voxels, box and transfer functions."""
    image = volume_node.GetImageData()
    property_node = None if display_node is None else display_node.GetVolumePropertyNode()
    try:
        box = roi_to_world(region_node).tobytes() if in_scene(region_node) else None
        place = (matrix_to_world(volume_node) @ ijk_to_ras(volume_node)).tobytes()
    except GaussianMRIError as error:
        return (volume_node.GetID(), str(error))
    look = None if property_node is None else (property_node.GetID(), property_node.GetVolumeProperty().GetMTime())
    return (volume_node.GetID(), None if image is None else image.GetMTime(), place, box, look)


def bring_into_view(renderer: Any, live: LivePicture) -> tuple[Any, ...] | None:
    """Move a view's camera so that it sees the whole volume from the front, unless it looks at the volume already.

    Returns:
        what `take_back` needs, or None where the camera was left alone.
    """
    from ..cinematic.camera import half_angle

    camera = renderer.GetActiveCamera()
    eye, target = np.array(camera.GetPosition()), np.array(camera.GetFocalPoint())
    forward = (target - eye) / max(float(np.linalg.norm(target - eye)), 1e-9)
    away = live.centre - eye
    depth = float(away @ forward)
    aside = float(np.linalg.norm(away - depth * forward))
    opening = np.tan(np.radians(camera.GetViewAngle()) / 2)
    seen = depth > live.radius and aside < depth * opening and 0.1 * depth * opening < live.radius
    if seen:
        return None
    before = camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp()
    width, height = (max(pixels, 1) for pixels in renderer.GetSize())  # a view may be higher than wide
    distance = live.radius / np.sin(half_angle(float(np.clip(camera.GetViewAngle(), 0.1, 170.0)), (width, height)))
    camera.SetPosition(*(live.centre + np.array([0.0, distance, 0.0])))
    camera.SetFocalPoint(*live.centre)
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCameraClippingRange()
    return *before, camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp()


def take_back(renderer: Any, moved: tuple[Any, ...] | None) -> None:
    """Put the camera back where `bring_into_view` found it, unless the user has moved it since."""
    camera = renderer.GetActiveCamera()
    if moved is not None and moved[3:] == (camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp()):
        for put, value in zip((camera.SetPosition, camera.SetFocalPoint, camera.SetViewUp), moved, strict=False):
            put(*value)
        renderer.ResetCameraClippingRange()
