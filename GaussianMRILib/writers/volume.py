"""Parallel planes as one NRRD, NIfTI or MetaImage volume, written with SimpleITK."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, itk_name, path_of
from ..geometry.affine import LPS_RAS
from ..geometry.plane import ImagePlane
from ..stacks.itk import quiet_itk
from ..stacks.volume_checks import check_volume_header
from .images import checked_images, filled

SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha")
#: The planes may be off a regular, upright grid by this much (mm, at any corner).
_TOLERANCE_MM = 1e-3


def write_volume(
    path: str | os.PathLike[str],
    images: ArrayLike,
    planes: ImagePlane | Sequence[ImagePlane],
    *,
    fill: float | None = None,
    compress: bool = True,
) -> Path:
    """Write `images` (K, rows, columns) of K parallel, evenly spaced `planes` as a 3D volume, float32.

    The voxel step across the planes is the distance between them; one plane alone gets its thickness, or,
    when it is thin, its smaller pixel spacing. Where an image is NaN the file has `fill`: by default 0, or
    the smallest value if that is negative.

    Args:
        path: the suffix chooses the format: .nrrd, .nii, .nii.gz or .mha.
        images: (K, rows, columns) or, for one plane, (rows, columns).
        planes: the planes the images were made on, in order.
        fill: value for pixels that are NaN or infinite.
        compress: gzip inside .nrrd and .mha; .nii.gz always is, .nii never.

    Returns:
        The path written.

    Raises:
        GaussianMRIError: images and planes do not fit, the planes make no regular volume, an unknown suffix,
            or the file cannot be written. An existing file is replaced only when the new one is complete.
    """
    target = path_of(path)
    pixels, listed = checked_images(images, planes)
    return write_image(target, filled(pixels, fill), volume_affine(listed), compress=compress)


def write_image(
    target: Path,
    voxels: NDArray[Any],
    ijk_to_ras: NDArray[np.float64],
    *,
    compress: bool = True,
    words: Mapping[str, str] | None = None,
) -> Path:
    """Write voxels (K, rows, columns) of any type as `write_volume` does, with texts for the header of a .nrrd.

    Raises:
        GaussianMRIError: an unknown suffix, or the file cannot be written.
    """
    if not target.name.lower().endswith(SUFFIXES):
        raise GaussianMRIError(f"{target} has no suffix of a volume. Use one of {', '.join(SUFFIXES)}.")
    lps = LPS_RAS @ ijk_to_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    with quiet_itk() as sitk, atomic_write(target) as temporary:
        name = itk_name(temporary, target)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(spacing.tolist())
        direction = lps[:3, :3] / spacing
        # ITK's inverse stumbles over denormal numbers.
        image.SetDirection(np.where(np.abs(direction) < 1e-15, 0.0, direction).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        for key, text in (words or {}).items():
            image.SetMetaData(key, text)
        try:
            sitk.WriteImage(image, name, useCompression=compress)
            check_volume_header(temporary)  # not every writer of every ITK notices when the disk is full
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise GaussianMRIError(
                f"{target} cannot be written: {reason}. Choose another folder or free space."
            ) from error
        except GaussianMRIError as error:
            raise GaussianMRIError(
                f"{target} cannot be written: not all of it arrived. Choose another folder or free space."
            ) from error
    return target


def volume_affine(planes: Sequence[ImagePlane]) -> NDArray[np.float64]:
    """ijk_to_ras (4, 4) of the volume that `planes` make, column 2 the step from one to the next.

    Raises:
        GaussianMRIError: the planes are turned, shifted or unevenly spaced against each other.
    """
    first, last = planes[0], planes[-1]
    matrix: NDArray[np.float64] = first.ijk_to_ras.copy()
    if len(planes) == 1:
        matrix[:3, 2] *= first.thickness or min(first.spacing)
        return matrix
    matrix[:3, 2] = (last.origin - first.origin) / (len(planes) - 1)
    along = float(matrix[:3, 2] @ first.normal)
    worst = float(np.linalg.norm(matrix[:3, 2] - along * first.normal)) * (len(planes) - 1)
    for k, plane in enumerate(planes):
        expected = first.corners() + k * matrix[:3, 2]
        worst = max(worst, float(np.abs(plane.corners() - expected).max()))
    if worst > _TOLERANCE_MM or abs(along) <= _TOLERANCE_MM:
        raise GaussianMRIError(
            f"These {len(planes)} planes make no regular volume (off by up to {worst:.3g} mm, step "
            f"{along:.3g} mm). Use parallel planes with one distance, such as plane.stack(count, step), "
            "or write each alone."
        )
    return matrix
