"""Convex hulls around what was scanned: their corners, and where the rows of a plane are inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError


def hull_corners(hull: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners (V, 3), RAS mm, of a bounded intersection of half-spaces (M, 4), n . x + d <= 0.

    Raises:
        GaussianMRIError: the hull is empty, flat or unbounded.
    """
    from scipy.optimize import linprog
    from scipy.spatial import HalfspaceIntersection

    # The centre of the largest ball inside is strictly inside, which Qhull wants.
    reach = np.c_[hull[:, :3], np.linalg.norm(hull[:, :3], axis=1)]
    found = linprog([0, 0, 0, -1], reach, -hull[:, 3], bounds=[(None, None)] * 4)
    if not found.success or found.x[3] <= 0:
        raise GaussianMRIError("A hull is empty or unbounded; it has no corners.")
    return np.asarray(HalfspaceIntersection(hull, found.x[:3]).intersections)


def row_spans(
    hull: NDArray[np.float64], ijk_to_ras: NDArray[np.float64], shape: tuple[int, int], *, tolerance: float = 0.0
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Where planes' rows lie inside a hull: each row meets a convex hull in one interval.

    Args:
        hull: (M, 4) half-spaces, n . x + d <= 0, RAS mm.
        ijk_to_ras: (..., 4, 4) of planes of any angle.
        shape: rows and columns of each.
        tolerance: mm beyond a half-space that still count as inside, for unit normals.

    Returns:
        First column inside and the first one after it, both (..., rows) int32; equal where a row is outside.
    """
    rows, columns = shape
    # (M, ..., rows): each face is met once in a row.
    along_i, along_j, _, start = np.moveaxis(np.tensordot(hull[:, :3], ijk_to_ras[..., :3, :], (1, -2)), -1, 0)[..., None]
    constant = hull[:, 3].reshape(-1, *[1] * (along_i.ndim - 1))
    left = tolerance - (start + constant) - along_j * np.arange(rows)
    # along_i * column <= left. A half-space parallel to the rows has all of a row or nothing of it.
    level = along_i == 0
    limit = np.where(level, np.where(left >= 0, np.inf, -np.inf), left / np.where(level, 1.0, along_i))
    first = np.where(along_i < 0, limit, -np.inf).max(axis=0, initial=0.0)
    last = np.where(along_i < 0, np.inf, limit).min(axis=0, initial=columns - 1.0)
    begin = np.minimum(np.ceil(first), columns).astype(np.int32)
    return begin, np.maximum(np.floor(np.maximum(last, -1.0)).astype(np.int32) + 1, begin)
