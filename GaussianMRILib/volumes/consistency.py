"""Volumes that agree with the acquired slices: the slice profile as a linear operator along each column.

Parallel slices s (K values per column of pixels) are averages of sub-slices x (Z values): s = A x. A has K x
Z entries, is the same for every column and depends on positions in millimetres only, so gaps, overlaps,
irregular spacing and sheared grids need no special case. The closest volume to x0 that agrees with the
slices up to noise is

    x = x0 + A^T (A A^T + lambda I)^-1 (s - A x0),

the minimum of |s - A x|^2 + lambda |x - x0|^2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import PROFILE_EDGE_MM
from ..interruption import checkpoint
from ..stacks import SliceColumns, SliceStack, slice_columns
from .volume import Volume

#: Slices may be 35 pixels apart, but the network's basis has eight cosines a spacing: more sub-slices cost memory only.
LARGEST_FACTOR = 10
#: Rows of the volume that are worked on together, so that a large scan needs no copies of all of it.
ROWS_AT_ONCE = 64


def slice_operator(
    z_positions_mm: ArrayLike,
    slice_positions_mm: ArrayLike,
    thickness_mm: ArrayLike,
    *,
    edge_mm: float = PROFILE_EDGE_MM,
) -> NDArray[np.float64]:
    """A of s = A x: the slice profile, a box with soft edges, integrated over each sub-slice. Rows sum to 1.

    Args:
        z_positions_mm: (Z,) sub-slice centres, equally spaced and increasing.
        slice_positions_mm: (K,) slice centres.
        thickness_mm: one number or (K,).
        edge_mm: width of the transition at each side; the box is convolved with a Gaussian whose sigma is
            half of it.

    Returns:
        (K, Z) float64.
    """
    from scipy.special import erf

    z = np.asarray(z_positions_mm, dtype=np.float64)
    positions = np.atleast_1d(np.asarray(slice_positions_mm, dtype=np.float64))
    half = np.broadcast_to(np.asarray(thickness_mm, dtype=np.float64), positions.shape)[:, None] / 2
    step = z[1] - z[0] if len(z) > 1 else 2 * half.min()
    sigma = max(edge_mm / 2, 1e-6) * np.sqrt(2.0)
    operator = np.zeros((len(positions), len(z)))
    parts = 8
    for part in (np.arange(parts) + 0.5) / parts - 0.5:
        distance = z[None, :] + part * step - positions[:, None]
        operator += erf((distance + half) / sigma) - erf((distance - half) / sigma)
    total = operator.sum(axis=1, keepdims=True)
    if total.min() <= 0:
        raise GaussianMRIError("A slice lies outside the sub-slices; its place cannot be in this volume.")
    return operator / total


def default_factor(stack: SliceStack) -> int:
    """Sub-slices per slice that make voxels about as long as the finer in-plane pixel, 1 to 10."""
    return int(np.clip(round(stack.spacing / min(stack.pixel_spacing)), 1, LARGEST_FACTOR))


def upsample(stack: SliceStack, *, factor: int | None = None, order: int = 3) -> Volume:
    """Interpolate a parallel stack by a spline along its columns, which ignores the slice profile.

    A regular stack of K slices becomes K * factor sub-slices, sub-slice f of slice k at
    ((f + 1/2) / factor - 1/2) of the spacing from its centre. Irregular slices get sub-slices of equal step,
    median spacing / factor, over the whole slab. Values are constant beyond the centres of the end slices.

    Args:
        factor: sub-slices per slice; default: `default_factor`.
        order: degree of the spline, 1 or 3; lower where there are too few slices.

    Raises:
        GaussianMRIError: the slices are not parallel, in order and on one line, or the factor is not
            positive.
    """
    factor = default_factor(stack) if factor is None else int(factor)
    if factor < 1:
        raise GaussianMRIError(f"The number of sub-slices per slice must be at least 1, got {factor}.")
    columns = _columns(stack)
    positions = columns.positions
    step = stack.spacing / factor
    if stack.grid() is not None:
        start, count = (1 / factor - 1) / 2 * stack.spacing, len(positions) * factor
    else:
        low = (positions - stack.slice_thickness / 2).min()
        high = (positions + stack.slice_thickness / 2).max()
        count = max(int(np.ceil((high - low) / step - 1e-6)), 1)
        start = (low + high - (count - 1) * step) / 2
    z = start + step * np.arange(count, dtype=np.float64)
    interpolation = _interpolation(positions, z, order)
    pixels = _apply(interpolation, stack.pixels)
    return Volume(pixels, columns.volume_affine(start, step), hull=tuple(stack.hulls()), order=order)


def enforce(
    volume: Volume, stack: SliceStack, *, strength: float = 0.1, edge_mm: float = PROFILE_EDGE_MM
) -> Volume:
    """The volume closest to `volume` that agrees with the slices of `stack`, up to noise.

    Args:
        volume: on sub-slices of the stack (as `upsample` makes them): same rows and columns, same in-plane
            place.
        strength: lambda relative to the mean diagonal of A A^T, so that it means the same for every factor;
            0 reproduces the slices exactly, larger values trust them less.
        edge_mm: see `slice_operator`.

    Raises:
        GaussianMRIError: the slices have no common columns, or the volume is not on them.
    """
    _, operator = volume_operator(volume, stack, edge_mm=edge_mm)
    gram = operator @ operator.T
    gram += (strength + 1e-9) * np.trace(gram) / len(gram) * np.eye(len(gram))
    correction = operator.T @ np.linalg.inv(gram)  # (Z, K)
    pixels = np.empty_like(volume.pixels)
    for row in range(0, stack.shape[1], ROWS_AT_ONCE):
        rows = slice(row, row + ROWS_AT_ONCE)
        residual = stack.pixels[:, rows] - _apply(operator, volume.pixels[:, rows])
        pixels[:, rows] = volume.pixels[:, rows] + _apply(correction, residual)
    return replace(volume, pixels=pixels)


def spline_volume(
    stack: SliceStack, *, order: int = 3, slice_profile: bool = True, strength: float = 0.1
) -> Volume:
    """A cubic (or linear, `order` 1) spline through parallel slices on one line.

    Args:
        slice_profile: correct for the slices being averages over their thickness, see `enforce`.
        strength: of `enforce`.
    """
    if slice_profile:
        return enforce(upsample(stack, order=order), stack, strength=strength)
    grid = stack.grid()
    if grid is None:  # irregular along the normal: the spline is made there, on a fine grid
        return upsample(stack, order=order)
    return Volume(stack.pixels, grid, hull=tuple(stack.hulls()), order=order)


def volume_operator(
    volume: Volume, stack: SliceStack, *, edge_mm: float = PROFILE_EDGE_MM
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sub-slice positions (Z,), mm from the first slice, and A (K, Z) of a volume on a stack's columns."""
    columns = _columns(stack)
    normal = stack.ijk_to_ras[0, :3, 2]
    start = float((volume.ijk_to_ras[:3, 3] - columns.ijk_to_ras[:3, 3]) @ normal)
    step = float(volume.ijk_to_ras[:3, 2] @ normal)
    same = np.allclose(volume.ijk_to_ras, columns.volume_affine(start, step), rtol=0, atol=1e-3)
    if not same or volume.pixels.shape[1:] != stack.pixels.shape[1:] or step <= 0:
        raise GaussianMRIError(
            f"The volume does not lie on the columns of {stack.name}; make it with upsample()."
        )
    z: NDArray[np.float64] = start + step * np.arange(len(volume.pixels), dtype=np.float64)
    return z, slice_operator(z, columns.positions, stack.slice_thickness, edge_mm=edge_mm)


def _columns(stack: SliceStack) -> SliceColumns:
    columns = slice_columns(stack)
    if columns is None:
        raise GaussianMRIError(
            f"The slices of {stack.name} are not parallel and on one line; split the stack."
        )
    return columns


def _interpolation(positions: NDArray[np.float64], z: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """(Z, K) weights of the spline through slices at `positions`, constant beyond the ends."""
    from scipy.interpolate import make_interp_spline

    count = len(positions)
    if count == 1:
        return np.ones((len(z), 1))
    spline = make_interp_spline(positions, np.eye(count), k=min(order, count - 1))
    return spline(np.clip(z, positions[0], positions[-1]))


def _apply(matrix: NDArray[np.float64], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """matrix (M, K) times every column of pixels (K, rows, columns), float32."""
    checkpoint()
    flat = np.ascontiguousarray(pixels, dtype=np.float32).reshape(len(pixels), -1)
    return (matrix.astype(np.float32) @ flat).reshape(-1, *pixels.shape[1:])
