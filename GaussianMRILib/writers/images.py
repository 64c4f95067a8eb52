"""What every writer does with images first: check them, fill what is empty, choose a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry.affine import plain_array
from ..geometry.plane import ImagePlane, as_planes


def checked_images(
    images: ArrayLike, planes: ImagePlane | Sequence[ImagePlane]
) -> tuple[NDArray[np.float32], list[ImagePlane]]:
    """Images (K, rows, columns) float32 and their K planes; one image may come as (rows, columns) with its
    plane.

    Raises:
        GaussianMRIError: shapes that do not fit each other, values that are no real numbers.
    """
    listed = as_planes(planes)
    array: NDArray[Any] = np.asarray(plain_array(images))
    if array.dtype.kind not in "biuf":
        raise GaussianMRIError(f"Images must be real numbers of one shape, got {array.dtype}.")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not array.size:
        raise GaussianMRIError(f"Images must be (planes, rows, columns), got {array.shape}.")
    if len(array) != len(listed) or any(plane.shape != array.shape[1:] for plane in listed):
        shapes = sorted({plane.shape for plane in listed})
        raise GaussianMRIError(
            f"{len(array)} images of {array.shape[1:]} do not fit {len(listed)} planes of {shapes} "
            "(rows, columns). Give one plane for each image."
        )
    return array.astype(np.float32), listed


def filled(images: NDArray[np.float32], fill: float | None = None) -> NDArray[np.float32]:
    """A copy of `images` with `fill` where they are NaN or infinite.

    Files of images have no place for "nothing here". Without a `fill` it is 0, air in MR, or the smallest
    value there is if that is below 0 (air in CT).
    """
    finite = np.isfinite(images)
    if fill is None:
        fill = min(0.0, float(images[finite].min())) if finite.any() else 0.0
    return np.where(finite, images, np.float32(fill))


def default_window(images: NDArray[np.float32]) -> tuple[float, float]:
    """(black, white): the 0.5th and 99.5th percentile of what is finite; never of zero width."""
    values = images[np.isfinite(images)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)
