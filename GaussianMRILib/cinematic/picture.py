"""One path-traced picture of a volume, without any training."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from .body import keep_body
from .camera import half_angle, sides
from .clip import ClipPlane, Roi, combined, is_hollow
from .denoise import available, denoise, require
from .looks import Look, default_look, find_look, modality_warning
from .tracer import PathTracer, Render

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger("GaussianMRI")
NEAREST = 1.3
"""Zoom of a picture for which none is given, if all is seen with it; of one higher than wide by its height."""
_SMALL, _FEW = 128, 8  # pixels of the longer side and paths per pixel of a picture that says what is seen


def check_volume(volume: ArrayLike) -> NDArray[Any]:
    """The voxels, if there is something to see in them.

    Raises:
        GaussianMRIError: colour or complex voxels, not three axes, or one value only.
    """
    values = np.asarray(volume)
    if values.ndim == 4 and values.shape[-1] in (2, 3, 4):
        raise GaussianMRIError(
            f"The volume has {values.shape[-1]} values in each voxel (colour or vectors); give one of one number each."
        )
    if values.ndim != 3 or values.dtype.kind not in "biuf":
        raise GaussianMRIError(f"A volume needs three axes of real numbers, got {values.shape} of {values.dtype}.")
    few = values.reshape(-1)[:: max(1, values.size // 100_000)]
    if not (_varies(few) or _varies(values)):
        raise GaussianMRIError("The volume has one value only, so there is nothing to see. Choose another volume.")
    return values


def _varies(values: NDArray[Any]) -> bool:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return finite.size > 0 and bool(finite.min() != finite.max())


def _fitting(tracer: PathTracer, clips: Sequence[ClipPlane], size: tuple[int, int], view: dict[str, Any]) -> float:
    """The zoom at which what is seen of the volume just fits into a picture, by a small one; `NEAREST` at most."""
    # In a picture higher than wide the zoom is of the width, but the height is there to be filled.
    fov_degrees = view["fov_degrees"]
    most = NEAREST * math.sin(math.radians(fov_degrees) / 2) / math.sin(half_angle(fov_degrees, size))
    small = (max(1, round(n * _SMALL / max(size))) for n in size)
    camera = tracer.camera(size=tuple(small), zoom=1.0, **view)  # type: ignore[arg-type]
    render = tracer.render(camera, clips=clips, samples=_FEW)
    rows, columns = np.nonzero(render.alpha > 0.5)
    if not len(rows):
        return most
    # Of the way from the middle of the picture to its edge; the camera comes nearer until it is 1 for the first of them.
    share = np.maximum(abs(columns + 0.5 - camera.cx) / camera.cx, abs(rows + 0.5 - camera.cy) / camera.cy)
    nearer = float((render.depth[rows, columns] * (1 - share)).min())
    away = float(np.linalg.norm(camera.eye - tracer.centre))
    # What lies far behind the middle may never come to the edge on the way there.
    zoom = away / (away - nearer) if nearer < away else math.inf
    return most if zoom >= most else max(1.0, 0.96 * zoom)  # what is finer than the small picture's pixels needs room, too


def render_picture(
    volume: ArrayLike,
    ijk_to_ras: ArrayLike,
    *,
    look: Look | str | None = None,
    modality: str = "",
    body_only: bool = False,
    clips: Sequence[ClipPlane] = (),
    clip_type: str = "union",
    roi: Roi | None = None,
    size: int | tuple[int, int] = 512,
    samples: int = 64,
    azimuth: float = 30.0,
    elevation: float = 15.0,
    zoom: float | None = 1.0,
    fov_degrees: float = 30.0,
    denoised: bool | None = None,
    background: Sequence[float] = (0.0, 0.0, 0.0),
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Render:
    """A volume as a camera on a sphere round it sees it, cut open by planes.

    Args:
        volume: (K, J, I), any real dtype.
        ijk_to_ras: (4, 4) mm; slices may be shifted against each other (shear) and axes left-handed; rows must be
            perpendicular to columns.
        look: the look, or its name; None: by the volume (`default_look`).
        modality: DICOM's, as "CT" or "MR", where it is known; a look of another one is warned of.
        body_only: without table, headrest and cables (`body.keep_body`).
        clips: planes; at most eighteen, six fewer with a region.
        clip_type: "union": what any plane cuts away is cut away; "intersection": only what all of them cut away.
        roi: box to show: lowest and highest corner (RAS, mm), or a (4, 4) matrix from a cube of -1 to 1 to RAS.
        size: pixels: one number for a square, or (width, height).
        samples: paths per pixel.
        azimuth: degrees from the patient's front towards the patient's left.
        elevation: degrees upwards.
        zoom: 1: all of it is seen, whatever the direction; None: as near as all is seen from here, `NEAREST` at most.
        fov_degrees: vertical field of view.
        denoised: None: where the denoiser is installed.
        background: red, green, blue, 0..1 as displayed.
        progress: called with samples done and wanted, some times a second.
        cancelled: asked between passes; when it says yes the picture so far is returned.

    Raises:
        GaussianMRIError: nothing to see of the volume, region or planes, too many planes, no denoiser, a matrix that no
            volume has, or a size, zoom or field of view that no camera has.

    Example:
        >>> cut = ClipPlane.from_point((0, 0, 40), (0, 0, 1))                        # doctest: +SKIP
        >>> render_picture(volume, ijk_to_ras, look="CT bone", clips=[cut]).image    # doctest: +SKIP
    """
    values = check_volume(volume)
    if denoised:
        require()
    look = look if isinstance(look, Look) else find_look(look or default_look(values, modality))
    warning = modality_warning(look, values, modality)
    if warning:
        _LOG.warning(warning)
    if body_only:
        values = keep_body(values, ijk_to_ras, modality=modality)
    tracer = PathTracer(values, ijk_to_ras, look, roi=roi, device=device)
    clips = combined(clips, clip_type)
    for clip in () if is_hollow(clips) else clips:
        along = tracer.corners @ clip.normal
        if along.min() >= clip.offset:
            raise GaussianMRIError(
                f"The plane {f'of {clip.file} ' if clip.file else ''}leaves nothing of the volume, which lies from "
                f"{along.min():.0f} to {along.max():.0f} mm along the plane's normal: the plane's offset, "
                f"{clip.offset:.0f} mm, must be larger, or its normal turned round."
            )
    view: dict[str, Any] = {"azimuth": azimuth, "elevation": elevation, "fov_degrees": fov_degrees}
    if zoom is None:
        zoom = _fitting(tracer, clips, sides(size), view)
    camera = tracer.camera(size=size, zoom=zoom, **view)
    render = tracer.render(camera, clips=clips, samples=samples, seed=seed, progress=progress, cancelled=cancelled)
    if clips and not render.alpha.any():
        raise GaussianMRIError(
            "The planes leave nothing of the volume that this camera sees; move them, or look from elsewhere."
        )
    if available() if denoised is None else denoised:
        render = denoise(render, tracer.look.exposure)
    return dataclasses.replace(render, image=render.over(background))
