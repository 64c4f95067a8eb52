"""The body in a scan, without table, headrest and cables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import check_affine
from ..interruption import checkpoint

#: Of a CT, HU: what is denser is body, or something that it lies on.
TISSUE_HU = -300.0
#: mm: the body is looked for with voxels of about this size.
GRID = 2.0
#: mm: what is thinner than twice this, as the shell of a table, does not join it to the body.
THIN = 4.0
#: mm: what is thin and joined to the body belongs to it, as an ear does, unless it leads farther away from it than this.
REACH = 30.0
#: Bodies at least this part of the largest are kept as well, as the other leg is.
SHARE = 1 / 3


def keep_body(volume: ArrayLike, ijk_to_ras: ArrayLike, *, modality: str = "") -> NDArray[Any]:
    """The volume with its smallest value wherever the body is not: table, headrest and cables are gone.

    The body is the largest connected part of what is no air, after an opening by a ball of `THIN` mm, with the thin parts
    joined to it that stay within `REACH` of it, as ears do, its holes filled. Thin parts that lead away, as table, headrest
    and cables, go, but for what of them lies on the skin with no air between. A pad as dense as tissue stays; arms apart
    from the trunk go where they are smaller than a third of it, and an ear that touches a head holder goes with it.

    Args:
        volume: (K, J, I), any real dtype.
        ijk_to_ras: (4, 4) mm.
        modality: DICOM's; where it says nothing, Hounsfield units are known by their air, as `looks.default_look` does.

    Returns:
        a copy, of the same dtype. An MR's padding (`looks.lowest`) is not its smallest value.

    Raises:
        GaussianMRIError: nothing thick enough is in the volume.
    """
    from scipy import ndimage

    from .looks import default_look, lowest, otsu

    values = np.asarray(volume)
    affine = check_affine(ijk_to_ras, what="the volume's ijk_to_ras")
    spacings = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    strides = [max(1, round(GRID / s)) for s in spacings]
    few = values[:: strides[0], :: strides[1], :: strides[2]].astype(np.float32)
    finite = np.isfinite(few)
    least = float(few[finite].min()) if finite.any() else 0.0
    few[~finite] = least
    if default_look(few, modality).startswith("CT"):
        outside = np.nanmin(values)
        threshold = TISSUE_HU
        tissue = few > threshold
    else:
        outside = lowest(values[np.isfinite(values)])
        few = np.maximum(few, outside)
        least = float(few.min())
        parted = otsu(few.ravel().astype(np.float64), least, float(np.percentile(few, 99.9)))
        air, bright = (float(np.median(few[part])) for part in (few <= parted, few > parted))
        threshold = air + 0.25 * (bright - air)
        # Bone is as dark as air, so it is known by what lies around it.
        tissue = _filled(few > threshold)
    steps = spacings * strides
    checkpoint()
    # Distances do what a ball of any size does, in time that does not grow with it. Air lies around the scan.
    inner = ndimage.distance_transform_edt(np.pad(tissue, 1, mode="edge"), sampling=steps)[1:-1, 1:-1, 1:-1] > THIN
    labels, count = ndimage.label(inner)
    if count == 0:
        raise GaussianMRIError(
            f"No body is found in the volume: nothing in it is denser than {threshold:g} and thicker than {2 * THIN:g} mm. "
            "Show all of it."
        )
    sizes = np.bincount(labels.ravel())[1:]
    body = np.isin(labels, 1 + np.flatnonzero(sizes >= SHARE * sizes.max()))
    checkpoint()
    away = ndimage.distance_transform_edt(~body, sampling=steps)
    opened = tissue & (away <= THIN + steps.max() / 2)
    thin, count = ndimage.label(tissue & ~opened, np.ones((3, 3, 3)))
    parts = np.arange(1, count + 1)
    nearest, farthest = (np.asarray(f(away, thin, parts)) for f in (ndimage.minimum, ndimage.maximum))
    joined = (nearest <= THIN + 2 * steps.max()) & (farthest <= THIN + REACH)
    beside = np.isin(thin, parts[~joined])
    kept = opened | np.isin(thin, parts[joined])
    # Between the voxels that were looked at there is more of the skin.
    grown = _filled(ndimage.binary_dilation(kept) & ~beside)
    return np.where(_full(grown, values.shape, strides), values, values.dtype.type(outside))


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With what is enclosed in it, also where a slice across any axis encloses it, as lungs at the border of a scan."""
    from scipy import ndimage

    result = mask.copy()
    for axis in range(3):
        within = ndimage.generate_binary_structure(3, 1)
        np.moveaxis(within, axis, 0)[[0, 2]] = False
        labels, count = ndimage.label(~mask, within)
        open_ = np.zeros(count + 1, dtype=bool)
        for other in {0, 1, 2} - {axis}:
            ends = np.moveaxis(labels, other, 0)
            open_[ends[0]] = open_[ends[-1]] = True
        open_[0] = False  # the mask itself
        result |= ~open_[labels]
    return result


def _full(mask: NDArray[np.bool_], shape: tuple[int, ...], strides: list[int]) -> NDArray[np.bool_]:
    """The mask of every n-th voxel for all voxels: that of the nearest."""
    for axis, stride in enumerate(strides):
        index = np.minimum((np.arange(shape[axis]) + stride // 2) // stride, mask.shape[axis] - 1)
        mask = np.take(mask, index, axis)
    return mask
