"""Correct slices of several stacks for intensity and motion between them, before they are fitted together.

Slice-to-volume registration (cf. Gholipour et al., IEEE TMI 2010): all slices at their present poses make one coarse volume
by regularised least squares; each slice is then compared with it: an intensity scale by least squares, and a small
rigid motion (three rotations about its centre, three shifts) by Gauss-Newton with Welsch weights (Holland and Welsch
1977), which let outliers go. A few rounds of both. The last weights tell the fit which pixels the stacks agree on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..baselines.tikhonov import isotropic_grid, solve
from ..geometry import ImagePlane
from ..priors.volume import PriorVolume
from ..stacks import SliceStack, hulls_of

#: Tuning constant of Welsch weights, 95 % efficiency on Gaussian noise, in robust standard deviations.
WELSCH = 2.985
ROUNDS, STEP_MM, SMOOTHNESS = 4, 0.5, 0.2
#: A slice moves only when the volume covers this share of it, and never further than this in a round.
SMALLEST_OVERLAP, LARGEST_SHIFT_MM, LARGEST_TURN = 0.1, 6.0, 0.15
PIXELS_PER_SLICE = 1500


def refine_stacks(
    stacks: Sequence[SliceStack], low: float, high: float
) -> tuple[list[SliceStack], torch.Tensor | None, dict[str, Any]]:
    """Stacks with corrected poses and intensities, a robust weight for every pixel, and a report.

    Args:
        stacks: two or more that overlap; a single stack is returned as it is, since nothing can be compared.
        low, high: intensities of normalised 0 and 1.

    Returns:
        The stacks; weights (total pixels,) in [0, 1] in the order of the stacks' pixels, or None; the report.
    """
    current = list(stacks)
    if len(current) < 2:
        return current, None, {"note": "one stack has no other to be compared with; nothing was moved"}
    scales = [np.ones(len(stack.pixels)) for stack in current]
    moved = [np.zeros(len(stack.pixels)) for stack in current]
    for _ in range(ROUNDS):
        volume = _volume(current)
        updated = []
        for n, stack in enumerate(current):
            pixels, poses = stack.pixels.copy(), stack.ijk_to_ras.copy()
            for k in range(len(pixels)):
                scale, motion = _register(stack.plane(k), pixels[k], volume, low, high)
                pixels[k] = low + (pixels[k] - low) * scale
                scales[n][k] *= scale
                poses[k] = rigid(motion, stack.plane(k).center) @ poses[k]
                moved[n][k] += float(np.linalg.norm(motion[3:]))
            updated.append(replace(stack, pixels=pixels, ijk_to_ras=poses))
        # The volume follows the slices: what they have in common must not drift.
        mean = float(np.exp(np.mean(np.log(np.concatenate(scales)))))
        current = [replace(stack, pixels=low + (stack.pixels - low) / np.float32(mean)) for stack in updated]
        scales = [scale / mean for scale in scales]
    weights = _weights(current, low, high)
    report = {
        "intensity_scales": [[round(float(v), 4) for v in scale] for scale in scales],
        "shifts_mm": [[round(float(v), 3) for v in shift] for shift in moved],
        "mean_weight": round(float(weights.mean()), 4),
    }
    return current, torch.from_numpy(weights), report


def _register(
    plane: ImagePlane, pixels: NDArray[np.float32], volume: PriorVolume, low: float, high: float
) -> tuple[float, NDArray[np.float64]]:
    """Intensity scale and motion (rotation vector in rad, shift in mm) that take a slice to where the volume has it."""
    stride = max(1, int(np.sqrt(pixels.size / PIXELS_PER_SLICE)))
    coarse = plane.ijk_to_ras.copy()
    coarse[:3, :2] *= stride
    target = (pixels[::stride, ::stride] - low) / (high - low)
    view = ImagePlane(coarse, target.shape, plane.thickness)

    def seen(motion: NDArray[np.float64]) -> NDArray[np.float32]:
        matrix = rigid(motion, plane.center)
        return (volume.sample(view.transformed(matrix)) - low) / (high - low)

    image = seen(np.zeros(6))
    valid = np.isfinite(image)
    if valid.mean() < SMALLEST_OVERLAP:
        return 1.0, np.zeros(6)
    scale = float(
        np.clip((image[valid] @ target[valid]) / max(float(target[valid] @ target[valid]), 1e-9), 0.5, 2.0)
    )
    # Turns are measured as the shift they cause at the border, so that all six numbers are millimetres.
    radius = max(np.linalg.norm(plane.corners() - plane.center, axis=1).max(), 1.0)
    columns = []
    for axis in range(6):
        motion = np.zeros(6)
        motion[axis] = STEP_MM / radius if axis < 3 else STEP_MM
        columns.append((seen(motion) - seen(-motion)) / (2 * STEP_MM))
    jacobian = np.stack(columns, -1)
    valid &= np.isfinite(jacobian).all(axis=-1)
    if valid.sum() < 60:
        return scale, np.zeros(6)
    j, residual = jacobian[valid].astype(np.float64), (scale * target - image)[valid].astype(np.float64)
    weight = welsch(residual)
    normal = j.T @ (weight[:, None] * j)
    normal += 1e-3 * np.trace(normal) / 6 * np.eye(6)
    motion = np.linalg.solve(normal, j.T @ (weight * residual))
    motion[:3] /= radius
    if np.linalg.norm(motion[3:]) > LARGEST_SHIFT_MM or np.linalg.norm(motion[:3]) > LARGEST_TURN:
        return scale, np.zeros(6)
    return scale, motion


def welsch(residual: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Welsch weights exp(-(r / c)^2) with c from the median absolute deviation; 1 where there is no spread."""
    spread = float(np.median(np.abs(residual - np.median(residual)))) * 1.4826
    if spread <= 0:
        return np.ones(residual.shape)
    return np.exp(-((np.asarray(residual, np.float64) / (WELSCH * spread)) ** 2))


def rigid(motion: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a rotation vector (rad) about `centre` followed by a shift (mm)."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(motion[:3]).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + motion[3:]
    return matrix


def _volume(stacks: Sequence[SliceStack]) -> PriorVolume:
    spacing = max(
        min(min(stack.pixel_spacing) for stack in stacks), max(stack.spacing for stack in stacks) / 3
    )
    grid = isotropic_grid(stacks, spacing)
    voxels = solve(stacks, grid, smoothness=SMOOTHNESS, iterations=12)
    return PriorVolume(voxels, grid.ijk_to_ras, hulls_of(stacks), order=1)


def _weights(stacks: Sequence[SliceStack], low: float, high: float) -> NDArray[np.float32]:
    """Robust weight of every pixel: how well it agrees with the volume of all slices."""
    volume = _volume(stacks)
    result = []
    for stack in stacks:
        for pixels, plane in zip(stack.pixels, stack.planes(), strict=True):
            residual = (volume.sample(plane) - pixels) / (high - low)
            weight = np.ones(residual.shape)
            valid = np.isfinite(residual)
            weight[valid] = welsch(residual[valid])
            result.append(weight.ravel())
    return np.concatenate(result).astype(np.float32)


__all__ = ["refine_stacks", "rigid", "welsch"]
