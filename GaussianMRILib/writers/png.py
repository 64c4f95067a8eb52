"""One image as a PNG picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, path_of
from ..geometry.affine import pair, plain_array
from ..geometry.plane import ImagePlane
from ..stacks.itk import quiet_itk
from .images import default_window


def write_png(
    path: str | os.PathLike[str],
    image: ArrayLike,
    *,
    plane: ImagePlane | None = None,
    window: tuple[float, float] | None = None,
) -> Path:
    """Write `image` (rows, columns) as an 8-bit grey PNG with square pixels.

    Args:
        path: ends in .png.
        image: (rows, columns); NaN becomes black.
        plane: the plane of the image; when its pixels are not square the picture is stretched (linear
            interpolation) to the smaller spacing. Without it pixels are taken as square.
        window: (black, white) in the units of the image; by default the 0.5th to 99.5th percentile.

    Returns:
        The path written.

    Raises:
        GaussianMRIError: no single image, a window without width, another suffix, or an unwritable file.
    """
    from PIL import Image

    target = path_of(path)
    if target.suffix.lower() != ".png":
        raise GaussianMRIError(f"{target} must end in .png.")
    pixels = np.asarray(plain_array(image))
    if pixels.ndim != 2 or not pixels.size or pixels.dtype.kind not in "biuf":
        raise GaussianMRIError(f"A picture needs one image (rows, columns) of numbers, got {pixels.shape}.")
    if plane is not None and plane.shape != pixels.shape:
        raise GaussianMRIError(f"The image is {pixels.shape}, its plane {plane.shape} (rows, columns).")
    pixels = pixels.astype(np.float32)
    black, white = default_window(pixels) if window is None else pair(window, "window (black, white)")
    if not (np.isfinite([black, white]).all() and white > black):
        raise GaussianMRIError(f"The window must go from black to a larger white, got {window}.")
    grey = np.clip((np.nan_to_num(pixels, nan=black) - black) / (white - black), 0, 1) * 255
    levels = np.rint(grey if plane is None else _with_square_pixels(grey, plane.spacing)).astype(np.uint8)
    with atomic_write(target) as temporary:
        # Not by ITK, to which it is no error when the last block of a file finds the disk full.
        Image.fromarray(levels).save(temporary, format="PNG")
    return target


def _with_square_pixels(grey: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.float32]:
    """An image stretched to the smaller spacing; pixel edges, not centres, keep their place."""
    sides, smallest = np.asarray(spacing), min(spacing)
    with quiet_itk() as sitk:
        picture = sitk.GetImageFromArray(grey.astype(np.float32))
        picture.SetSpacing(sides.tolist())
        resample = sitk.ResampleImageFilter()
        size = np.maximum(1, np.round(np.asarray(picture.GetSize()) * sides / smallest)).astype(int)
        resample.SetSize(size.tolist())
        resample.SetOutputOrigin(((smallest - sides) / 2).tolist())
        resample.SetOutputSpacing([float(smallest)] * 2)
        resample.SetInterpolator(sitk.sitkLinear)
        resample.UseNearestNeighborExtrapolatorOn()
        stretched: NDArray[np.float32] = sitk.GetArrayFromImage(resample.Execute(picture))
    return stretched
