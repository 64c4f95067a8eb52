"""Label maps of a lumbar spine whose discs, vertebrae and canal are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from disc_scenes import grid_around, rotation

from GaussianMRILib.grading.disc import disc_frame
from GaussianMRILib.grading.label_schemes import SPINEPS_VERTEBRAE, TOTALSPINESEG, Scheme, spineps_discs
from GaussianMRILib.labels import LabelFile

#: Vertebrae from the head down; discs lie between two of them.
LUMBAR = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")
#: mm between discs, and of a disc's height and half-axes.
STEP, HEIGHT, WIDE, DEEP = 34.0, 9.0, 24.0, 17.0
#: Half-axes of the canal's section with each disc's plane, mm, by level.
CANAL = {"L1/L2": (9.0, 7.0), "L2/L3": (9.0, 6.5), "L3/L4": (8.5, 6.0), "L4/L5": (7.5, 4.4), "L5/S1": (8.0, 5.5)}
TILT = {"T12/L1": -6.0, "L1/L2": -4.0, "L2/L3": 0.0, "L3/L4": 5.0, "L4/L5": 12.0, "L5/S1": 28.0}
Grid = tuple[np.ndarray, tuple[int, int, int]]
BACK = 31.0  # mm from a disc's middle to the canal's


def sagittal(spacing: float = 4.4, pixel: float = 0.9, shift: tuple[float, float, float] = (0.6, 0.3, -0.2)) -> Grid:
    """Matrix and shape of sagittal voxels around the spine."""
    shape = (round(70 / spacing) | 1, round(250 / pixel), round(130 / pixel))
    steps = np.array([0, -pixel, 0]), np.array([0, 0, -pixel]), np.array([spacing, 0, 0])
    return grid_around(np.array([0.0, -20, 0]) + shift, *steps, shape), shape


def axial(spacing: float = 4.0, pixel: float = 0.9) -> Grid:
    """Matrix and shape of axial voxels around the spine."""
    shape = (round(250 / spacing), round(130 / pixel), round(90 / pixel))
    steps = np.array([-pixel, 0, 0]), np.array([0, -pixel, 0]), np.array([0, 0, spacing])
    return grid_around(np.array([0.3, -20.2, 0.4]), *steps, shape), shape


def true_frames(vertebrae: tuple[str, ...] = LUMBAR) -> dict[str, np.ndarray]:
    """Frame of the disc below each vertebra but the last, by names of both."""
    frames = {}
    for n, (upper, lower) in enumerate(pairwise(vertebrae)):
        tilt = list(TILT.values())[n]
        normal = rotation(np.array([1.0, 0, 0]), -tilt) @ [0, 0, 1.0]
        frames[f"{upper}/{lower}"] = disc_frame([0, 0, 85 - STEP * n], normal, [-1.0, 0, 0])
    return frames


def true_area(level: str) -> float:
    """mm² of the canal on a disc's plane."""
    return float(np.pi * np.prod(CANAL[level]))


def spine_map(
    scheme: Scheme = TOTALSPINESEG, grid: Grid | None = None, vertebrae: tuple[str, ...] = LUMBAR, canal: bool = True
) -> LabelFile:
    """A label map with the values of a scheme. Around each disc the canal is a cylinder along its normal."""
    matrix, shape = grid if grid is not None else sagittal()
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    ras = (np.stack([i, j, k], axis=-1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
    voxels = np.zeros(len(ras), np.uint16)
    frames = true_frames(vertebrae)
    single = {name: frame.astype(np.float32) for name, frame in frames.items()}
    local = {name: (ras - frame[:3, 3]) @ frame[:3, :3] for name, frame in single.items()}
    names = list(frames)
    outline = (ras[:, 0] / WIDE) ** 2 + (ras[:, 1] / DEEP) ** 2 < 1
    for n, vertebra in enumerate(vertebrae):
        inside = outline & (np.abs(ras[:, 2] - 85 + STEP * (n - 0.5)) < 60)
        if n:
            inside &= local[names[n - 1]][:, 2] < -HEIGHT / 2
        if n < len(names):
            inside &= local[names[n]][:, 2] > HEIGHT / 2
        voxels[inside & (np.abs(ras[:, 2] - 85 + STEP * (n - 0.5)) < 26)] = scheme.vertebrae[vertebra]
    for name, points in local.items():
        within = (points[:, 0] / WIDE) ** 2 + (points[:, 1] / DEEP) ** 2 < 1
        voxels[within & (np.abs(points[:, 2]) < HEIGHT / 2)] = scheme.discs[name]
    if canal:
        voxels[canal_of(local).reshape(-1)] = scheme.canal[0]
    return LabelFile(voxels.reshape(shape), matrix)


def canal_of(local: dict[str, np.ndarray]) -> np.ndarray:
    """The canal: at each place the cylinder of the disc that is nearest along its normal."""
    depth = np.stack([points[:, 2] for points in local.values()])
    nearest = np.abs(depth).argmin(axis=0)
    inside = np.zeros(depth.shape[1], bool)
    sizes = list(CANAL.values())
    for n, points in enumerate(local.values()):
        wide, deep = sizes[min(max(n - 1, 0), len(sizes) - 1)]
        section = (points[:, 0] / wide) ** 2 + ((points[:, 1] - BACK) / deep) ** 2 < 1
        inside |= section & (nearest == n) & (np.abs(points[:, 2]) < STEP)
    return inside


def spineps_pair(grid: Grid | None = None, vertebrae: tuple[str, ...] = LUMBAR) -> tuple[LabelFile, LabelFile]:
    """seg-vert and seg-spine as SPINEPS writes them, with processes on either side."""
    present = {SPINEPS_VERTEBRAE.vertebrae[name] for name in vertebrae}
    scheme = replace(SPINEPS_VERTEBRAE, discs=spineps_discs(present), canal=(99,))
    both = spine_map(scheme, grid, vertebrae)
    regions = np.zeros_like(both.voxels)
    regions[both.voxels > 0] = 49
    regions[both.voxels == 26] = 26
    regions[(both.voxels > 100) & (both.voxels < 200)] = 100
    regions[both.voxels == 99] = 61
    x = (np.indices(both.voxels.shape)[::-1].reshape(3, -1).T @ both.ijk_to_ras[:3, :3].T + both.ijk_to_ras[:3, 3])[:, 0]
    x = x.reshape(both.voxels.shape)
    regions[(regions == 49) & (x < -14)] = 43  # the patient's left
    regions[(regions == 49) & (x > 14)] = 44
    instances = np.where(both.voxels == 99, 0, both.voxels)
    return LabelFile(instances, both.ijk_to_ras), LabelFile(regions, both.ijk_to_ras)

