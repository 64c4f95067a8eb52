"""Small helpers for 4x4 matrices that map (column i, row j, slice k, 1) to RAS millimetres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError

#: Turns LPS (DICOM, ITK) into RAS (Slicer, NIfTI) and back.
LPS_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_RAS.flags.writeable = False

#: A pixel, slice gap or slice thickness larger than this (mm) is a mistake, not anatomy.
LARGEST_SPACING_MM = 1000.0
#: A smaller one (mm) as well: a micrometre.
SMALLEST_SPACING_MM = 1e-3
#: So is a place further than this (mm) from the origin: a kilometre.
LARGEST_POSITION_MM = 1e6
#: Largest cosine between the row and column directions; covers cosines rounded to three decimals.
_LARGEST_SKEW = 2e-3

T = TypeVar("T")


def numbers(values: Any, what: str) -> NDArray[np.float64]:
    """`values` as float64, of any shape, also of a tensor.

    Raises:
        GaussianMRIError: they are no numbers; `what` names them in the message.
    """
    try:
        array = np.asarray(plain_array(values))
        if values is not None and array.dtype.kind not in "USmM":  # text that says a number is text
            return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    shown = repr(values) if values is None or isinstance(values, (str, bytes)) else f"of the type {type(values).__name__}"
    raise GaussianMRIError(f"The {what} must be numbers, got {shown[:80]}.")


def plain_array(values: Any) -> Any:
    """What NumPy can take: a tensor without its gradient, from whatever device, bfloat16 in single precision."""
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()


def all_of(kind: type[T], values: Any, otherwise: str) -> list[T]:
    """One thing of a kind, or several, as a list.

    Args:
        otherwise: the message where something else is among them, with {got} for its type.

    Raises:
        GaussianMRIError: something else is among them.
    """
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) else [values]
    wrong = next((type(value).__name__ for value in listed if not isinstance(value, kind)), None)
    if wrong is not None:
        raise GaussianMRIError(otherwise.format(got=wrong))
    return listed


def pair(values: Any, what: str) -> tuple[float, float]:
    """Two numbers.

    Raises:
        GaussianMRIError: they are something else; `what` names them in the message.
    """
    array = numbers(values, what)
    if array.shape != (2,):
        shown = repr(values) if array.ndim == 0 else f"{array.size} numbers"
        raise GaussianMRIError(f"The {what} must be two numbers, got {shown[:80]}.")
    return float(array[0]), float(array[1])


def unit_vector(vector: ArrayLike, *, what: str = "vector") -> NDArray[np.float64]:
    """`vector` (3,) divided by its length.

    Raises:
        GaussianMRIError: not three finite numbers, or zero length; `what` names it in the message.
    """
    v = numbers(vector, what)
    if v.shape != (3,) or not np.all(np.isfinite(v)):
        raise GaussianMRIError(f"The {what} must be three finite numbers, got {np.asarray(vector).tolist()}.")
    length = float(np.linalg.norm(v))
    if length < 1e-12:
        raise GaussianMRIError(f"The {what} has no length; give a direction such as 0 0 1.")
    return v / length


def axis_of(start: ArrayLike, end: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The first point, the unit vector to the second and the mm between them."""
    ends = np.asarray([start, end], dtype=np.float64)
    if ends.shape != (2, 3) or not np.isfinite(ends).all():
        raise GaussianMRIError(f"A line needs two points (3,) in RAS mm, got {np.shape(start)} and {np.shape(end)}.")
    length = float(np.linalg.norm(ends[1] - ends[0]))
    if length < 1e-6:
        raise GaussianMRIError("The two points of the line are at one place; move one of them.")
    return ends[0], (ends[1] - ends[0]) / length, length


def transform_points(affine: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map `points` (..., 3) by `affine` (4, 4); float64 of the same shape."""
    matrix, places = np.asarray(affine, dtype=np.float64), np.asarray(points, dtype=np.float64)
    result = np.empty(places.shape)
    to = result.reshape(-1, 3)
    for block in _blocks(flat := places.reshape(-1, 3)):
        np.matmul(flat[block], matrix[:3, :3].T, out=to[block])
        to[block] += matrix[:3, 3]
    return result


def _blocks(rows: NDArray[np.float64]) -> Iterator[slice]:
    """Blocks that stay in the cache, and for which OpenBLAS wakes no second thread: where other programs run, waiting for
    it costs several times the product itself."""
    for start in range(0, len(rows), 8192):
        yield slice(start, start + 8192)


def check_spacing(spacing: ArrayLike, what: str) -> None:
    """Refuse a spacing or thickness (mm, any shape) that is not finite, below a micrometre or larger than a metre."""
    values = np.atleast_1d(numbers(spacing, what))
    if not np.all((values >= SMALLEST_SPACING_MM) & (values <= LARGEST_SPACING_MM)):  # not NaN
        shown = np.unique([f"{v:g}" for v in values.ravel()[:6]]).tolist()
        raise GaussianMRIError(
            f"The {what} must be at least {SMALLEST_SPACING_MM:g} and at most {LARGEST_SPACING_MM:g} mm, got {shown}. "
            "Correct the header of the image or pass the true value."
        )


def check_affine(ijk_to_ras: ArrayLike, *, what: str = "ijk_to_ras") -> NDArray[np.float64]:
    """A float64 copy of `ijk_to_ras` (4, 4) or (K, 4, 4) after checking that a pixel grid can have it.

    Raises:
        GaussianMRIError: wrong shape, not finite, last row not 0 0 0 1, pixel spacing zero or absurd, or rows
            not perpendicular to columns within each slice. Column 2 may point anywhere out of the slice
            (shear is legal).
    """
    matrix = np.array(numbers(ijk_to_ras, what.removeprefix("the ")))
    if matrix.shape[-2:] != (4, 4) or matrix.ndim not in (2, 3):
        raise GaussianMRIError(f"{what} must be (4, 4) or (K, 4, 4), got {matrix.shape}.")
    if not np.all(np.isfinite(matrix)):
        raise GaussianMRIError(f"{what} has values that are not finite.")
    if not np.allclose(matrix[..., 3, :], [0.0, 0.0, 0.0, 1.0], atol=1e-9):
        raise GaussianMRIError(f"The last row of {what} must be 0 0 0 1.")
    if np.max(np.abs(matrix[..., :3, 3]), initial=0.0) > LARGEST_POSITION_MM:
        raise GaussianMRIError(
            f"{what} places the image {np.abs(matrix[..., :3, 3]).max():g} mm from the origin, where nothing was scanned. "
            "Correct the header of the image."
        )
    i_step, j_step = matrix[..., :3, 0], matrix[..., :3, 1]
    lengths = np.stack([np.linalg.norm(i_step, axis=-1), np.linalg.norm(j_step, axis=-1)], axis=-1)
    check_spacing(lengths, f"pixel spacing of {what}")
    skew = np.abs(np.sum(i_step * j_step, axis=-1)) / np.prod(lengths, axis=-1)
    if np.max(skew, initial=0.0) > _LARGEST_SKEW:
        raise GaussianMRIError(
            f"Rows and columns of {what} are not perpendicular (cosine {np.max(skew):.4f}). "
            "Resample the image to a grid whose slices are rectangular."
        )
    return matrix


def slice_normal(ijk_to_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normals (..., 3) of pixel grids (..., 4, 4): perpendicular to i and j, on column 2's side."""
    cross = np.cross(ijk_to_ras[..., :3, 0], ijk_to_ras[..., :3, 1])
    normal = cross / np.linalg.norm(cross, axis=-1, keepdims=True)
    side = np.sum(normal * ijk_to_ras[..., :3, 2], axis=-1, keepdims=True)
    towards: NDArray[np.float64] = np.where(side < 0, -normal, normal)
    return towards


def slice_poses(ijk_to_ras: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Poses (count, 4, 4) of the slices of a regular volume; column 2 of its matrix is the step, shear is legal."""
    poses: NDArray[np.float64] = np.repeat(ijk_to_ras[None], count, axis=0)
    poses[:, :3, 3] += np.arange(count)[:, None] * ijk_to_ras[:3, 2]
    return poses


def inside_hull(
    hull: NDArray[np.float64], points: NDArray[np.float64], *, tolerance: float = 1e-6
) -> NDArray[np.bool_]:
    """Whether RAS points (..., 3) satisfy every half-space (M, 4); (...) bool."""
    result = np.empty(points.shape[:-1], dtype=bool)
    inside = result.reshape(-1)
    for block in _blocks(flat := points.reshape(-1, 3)):
        inside[block] = (flat[block] @ hull[:, :3].T + hull[:, 3] <= tolerance).all(axis=1)
    return result


def trilinear(index: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The voxels around places in a volume, for trilinear interpolation; beyond the volume those nearest to it.

    Args:
        index: (N, 3) fractional [k, j, i].
        shape: (slices, rows, columns).

    Returns:
        Flat numbers and weights of the eight voxels, both (8, N); weights sum to 1.
    """
    size = np.array(shape)
    position = np.clip(index, 0, size - 1)
    low = np.minimum(position.astype(np.int64), np.maximum(size - 2, 0))
    fraction = position - low
    numbers, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        voxel = np.minimum(low + corner, size - 1)
        numbers.append(np.ravel_multi_index(tuple(voxel.T), shape))
        weights.append(np.prod(np.where(corner, fraction, 1 - fraction), axis=1))
    return np.stack(numbers), np.stack(weights)
