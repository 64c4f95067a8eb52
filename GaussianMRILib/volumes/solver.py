"""Voxels of several stacks by regularised least squares.

    min_x  sum_k |A_k x - s_k|^2 + d (smoothness h^2 |grad (x - p)|^2 + prior_weight |x - p|^2)

over an isotropic grid x with voxels of h mm, by conjugate gradients. d is the mean diagonal of sum A_k^T A_k
where it is not zero, so that both weights mean the same for every thickness, voxel size and number of
stacks. A_k takes each pixel of each slice of stack k at its own pose: a box profile with soft edges along
the slice's normal, sampled trilinearly. p is an optional prior image, else 0 (and then prior_weight is not
used). Cf. Gholipour et al., IEEE TMI 2010; Van Reeth et al. 2012 for a review.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import PROFILE_EDGE_MM, ImagePlane
from ..geometry.affine import transform_points, trilinear
from ..interruption import checkpoint
from ..stacks import SliceStack, check_same_frame
from .consistency import spline_volume
from .grid import Grid
from .resampling import Resampler

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SMOOTHNESS = 0.04  # the maximum of PSNR is flat: 0.01 to 0.06 lose less than 0.1 dB


def solve(
    stacks: Sequence[SliceStack],
    grid: Grid,
    *,
    prior: NDArray[np.float32] | None = None,
    smoothness: float = SMOOTHNESS,
    prior_weight: float = 0.0,
    iterations: int = 40,
    tolerance: float = 1e-3,
    operators: Sequence[csr_matrix] | None = None,
) -> NDArray[np.float32]:
    """Voxels (grid.shape) float32 that minimise the sum of squares above.

    Args:
        prior: image p on the grid. With one, p is also the start, and what the slices do not say stays p.
        smoothness: weight of |grad (x - p)|^2.
        prior_weight: weight of |x - p|^2.
        iterations, tolerance: conjugate gradients stop when the residual's norm has fallen by `tolerance`.
        operators: `acquisition_operator` of each stack on the grid, where they are already there.

    Raises:
        GaussianMRIError: stacks of different frames of reference, or a prior that is not on the grid.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    check_same_frame(stacks)
    if prior is not None and prior.shape != grid.shape:
        raise GaussianMRIError(f"The prior must be on the grid, {grid.shape}, got {prior.shape}.")
    if prior is None and smoothness <= 0:
        raise GaussianMRIError("Without a prior image the smoothness must be positive.")
    if operators is None:
        operators = [acquisition_operator(stack, grid) for stack in stacks]
    diagonal = np.sum([np.asarray(a.multiply(a).sum(axis=0)).ravel() for a in operators], axis=0)
    if not diagonal.any():
        raise GaussianMRIError("No slice lies inside the grid; choose a grid around the stacks.")
    curvature = diagonal[diagonal > 0].mean()
    weight = np.float32(curvature * prior_weight if prior is not None else 0)
    stiffness = np.float32(curvature * smoothness * min(grid.spacing) ** 2)

    def normal(x: NDArray[np.float32]) -> NDArray[np.float32]:
        checkpoint()
        result = weight * x
        for operator in operators:
            result += operator.T @ (operator @ x)
        if smoothness > 0:
            result += stiffness * _minus_laplacian(x.reshape(grid.shape), grid.spacing).ravel()
        return result

    base = np.zeros(int(np.prod(grid.shape)), dtype=np.float32) if prior is None else prior.ravel()
    base = base.astype(np.float32)
    right = np.zeros_like(base)
    for operator, stack in zip(operators, stacks, strict=True):
        right += operator.T @ (stack.pixels.ravel() - operator @ base)
    start = np.zeros_like(base) if prior is not None else _start(stacks, grid)
    system = LinearOperator((len(right), len(right)), matvec=normal, dtype=np.float32)
    # The residual's norm as a number: the name of the relative tolerance depends on scipy's version.
    stop = tolerance * float(np.linalg.norm(right))
    change, _ = cg(system, right, x0=start, maxiter=iterations, atol=stop)
    return (base + change).reshape(grid.shape)


def acquisition_operator(stack: SliceStack, grid: Grid, edge_mm: float = PROFILE_EDGE_MM) -> csr_matrix:
    """A of s = A x for every pixel of every slice at its own pose, (slices * rows * columns, voxels) float32.

    Pixels whose profile leaves the grid keep the part inside it, renormalised; pixels wholly outside have
    empty rows.
    """
    from scipy.sparse import vstack

    return vstack([_plane_operator(plane, grid, edge_mm) for plane in stack.planes()], format="csr")


def _plane_operator(plane: ImagePlane, grid: Grid, edge_mm: float) -> csr_matrix:
    from scipy.sparse import coo_matrix, diags
    from scipy.special import erf

    half, sigma = plane.thickness / 2, edge_mm / 2 * np.sqrt(2)
    reach = half + edge_mm / 2
    count = max(int(np.ceil(2 * reach / (0.5 * min(grid.spacing)))), 3)
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * 2 * reach
    profile = erf((offsets + half) / sigma) - erf((offsets - half) / sigma)
    inverse = np.linalg.inv(grid.ijk_to_ras)
    # Everything in voxels, [k, j, i]; one plane is affine in (row, column, offset).
    index = transform_points(inverse, plane.points().reshape(-1, 3))[:, ::-1]
    normal = (inverse[:3, :3] @ plane.normal)[::-1]
    shape = np.array(grid.shape)
    pixels = np.arange(len(index))
    parts = []
    for offset, share in zip(offsets, profile / profile.sum(), strict=True):
        position = index + offset * normal
        inside = ((position >= -0.5) & (position <= shape - 0.5)).all(axis=1)
        voxels, values = trilinear(position[inside], grid.shape)
        values *= share
        used = values > 1e-9
        rows = np.broadcast_to(pixels[inside], used.shape)[used]
        entries = (values[used], (rows, voxels[used]))
        parts.append(coo_matrix(entries, shape=(len(index), int(np.prod(grid.shape)))).tocsr())
    total = sum(parts[1:], start=parts[0])
    sums = np.asarray(total.sum(axis=1)).ravel()
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 1e-6)
    return (diags(scale) @ total).astype(np.float32).tocsr()


def _start(stacks: Sequence[SliceStack], grid: Grid) -> NDArray[np.float32]:
    """The mean of the stacks' splines; 0 where no stack was acquired."""
    splines = Resampler(stacks, lambda stack: spline_volume(stack, slice_profile=False))
    start = np.stack([splines.render(plane) for plane in grid.planes()])
    return np.nan_to_num(start).ravel().astype(np.float32)


def _minus_laplacian(x: NDArray[np.float32], spacing: Sequence[float]) -> NDArray[np.float32]:
    """grad^T grad of voxels by forward differences, mm^-2; no flow through the border."""
    result = np.zeros_like(x)
    for axis, step in enumerate(spacing):
        difference = np.diff(x, axis=axis) / np.float32(step**2)
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        result[low] -= difference
        result[high] += difference
    return result
