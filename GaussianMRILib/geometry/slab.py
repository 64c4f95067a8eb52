"""Thick slabs: what lies within some millimetres of a plane, as one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError

if TYPE_CHECKING:
    from .plane import ImagePlane

#: What becomes of the values along the normal: as in a slice of that thickness, the brightest, the darkest.
PROJECTIONS = ("mean", "max", "min")
#: Pixels that are rendered at once.
_PIXELS_AT_ONCE = 1 << 22

Image = NDArray[np.float32]


def check_projection(projection: str, *, planes: Sequence[ImagePlane] = ()) -> None:
    """Refuse what is none of `PROJECTIONS`, and the brightest or darkest value of planes that are not all slabs."""
    if projection not in PROJECTIONS:
        raise GaussianMRIError(f"There is no projection '{projection}'; choose one of {', '.join(PROJECTIONS)}.")
    if projection != "mean" and any(plane.thickness == 0 for plane in planes):
        raise GaussianMRIError(
            f"The projection '{projection}' is of a slab, and the plane is thin; give it a thickness in mm."
        )


def slab_image(
    render_many: Callable[[Sequence[ImagePlane]], list[Image]], plane: ImagePlane, *, projection: str, step: float
) -> Image:
    """One image of a slab, from thin planes between its two faces.

    What lies outside the scan does not count, and a pixel whose middle lies outside is empty, so that an image has the
    same outline with every projection.

    Args:
        render_many: thin planes to images (rows, columns), NaN outside the scan.
        plane: its thickness is the slab's, around it; of a thin plane the image is the plane's own.
        projection: one of `PROJECTIONS`; the mean here is that of a box, without the soft edges of a slice profile.
        step: mm between the thin planes, at most.

    Returns:
        (rows, columns) float32, NaN outside the scan.

    Raises:
        GaussianMRIError: an unknown projection.
    """
    check_projection(projection)
    half = int(np.ceil(plane.thickness / 2 / step))  # the same on both sides: one of the planes is the middle
    thin = replace(plane, thickness=0.0)
    offsets = np.linspace(-plane.thickness / 2, plane.thickness / 2, 2 * half + 1)
    weights = np.where(np.abs(np.arange(-half, half + 1)) == half, 0.5, 1.0) if half else np.ones(1)
    total, count = np.zeros(plane.shape), np.zeros(plane.shape)
    extreme, best = np.full(plane.shape, np.nan, np.float32), {"max": np.fmax, "min": np.fmin}.get(projection)
    empty = np.zeros(plane.shape, bool)
    at_once = max(1, _PIXELS_AT_ONCE // (plane.shape[0] * plane.shape[1]))
    for first in range(0, len(offsets), at_once):
        listed = range(first, min(first + at_once, len(offsets)))
        for n, image in zip(listed, render_many([thin.offset(offsets[n]) for n in listed]), strict=True):
            if n == half:
                empty = np.isnan(image)
            if best is not None:
                best(extreme, image, out=extreme)
            else:
                inside = np.isfinite(image)
                np.add(total, weights[n] * image, out=total, where=inside)
                np.add(count, weights[n], out=count, where=inside)
    if best is None:
        extreme = (total / np.maximum(count, 1e-9)).astype(np.float32)
    extreme[empty] = np.nan
    return extreme
