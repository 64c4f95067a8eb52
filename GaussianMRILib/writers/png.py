"""One image as a PNG picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import GaussianMRIError
from ..files import atomic_write, itk_name, path_of
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
    with quiet_itk() as sitk, atomic_write(target) as temporary:
        picture = sitk.GetImageFromArray(grey.astype(np.float32))
        if plane is not None:
            spacing = np.asarray(plane.spacing)
            picture.SetSpacing(spacing.tolist())
            size = np.maximum(1, np.round(np.asarray(picture.GetSize()) * spacing / spacing.min())).astype(
                int
            )
            # Pixel edges, not centres, keep their place.
            origin = (spacing.min() - spacing) / 2
            resample = sitk.ResampleImageFilter()
            resample.SetSize(size.tolist())
            resample.SetOutputOrigin(origin.tolist())
            resample.SetOutputSpacing([float(spacing.min())] * 2)
            resample.SetInterpolator(sitk.sitkLinear)
            resample.UseNearestNeighborExtrapolatorOn()
            picture = resample.Execute(picture)
        levels = np.rint(sitk.GetArrayFromImage(picture)).astype(np.uint8)
        try:
            sitk.WriteImage(sitk.GetImageFromArray(levels), itk_name(temporary, target))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise GaussianMRIError(f"{target} cannot be written: {reason}") from error
    return target
