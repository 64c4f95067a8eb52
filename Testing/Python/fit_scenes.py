"""Small analytic scenes whose value is known at every point, for tests of fields and fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from GaussianMRILib import SliceStack
from GaussianMRILib.gaussians import GaussianField, GaussianLattice

#: Oblique directions (columns i, j, k) so that no axis of the scan is an axis of the patient.
AXES = np.array([[0.96, -0.05, 0.10], [0.02, 0.97, -0.22], [-0.09, 0.20, 0.95]])
AXES = np.linalg.qr(AXES)[0] * np.sign(np.diag(np.linalg.qr(AXES)[1]))

#: The same, of slices across the first ones.
SAGITTAL = AXES[:, [1, 2, 0]]


def empty_lattice() -> GaussianLattice:
    """80 x 96 x 96 nodes 1.5 mm apart around the origin."""
    matrix = np.eye(4)
    matrix[:3, :3] *= 1.5
    matrix[:3, 3] = (-70, -75, -60)
    return GaussianLattice.of_box(torch.zeros(80, 96, 96), matrix)


def intensity(points: np.ndarray) -> np.ndarray:
    """Smooth anatomy, 100 to about 900, at RAS points (..., 3), mm."""
    x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
    tilted = z + 0.45 * x - 0.2 * y
    body = 1 / (1 + np.exp((np.hypot(x / 22, y / 18) - 1) * 9))
    layers = 0.5 + 0.5 * np.tanh(4 * np.sin(tilted / 4.0))
    ball = np.exp(-((x - 6) ** 2 + (y + 3) ** 2 + (z - 2) ** 2) / 40)
    return 100 + body * (350 * layers + 250 * ball + 150)


def scan(
    slices: int = 12,
    side: tuple[int, int] = (48, 56),
    spacing: float = 4.0,
    pixel: float = 1.0,
    axes: np.ndarray = AXES,
    noise: float = 4.0,
    seed: int = 0,
    thickness: float = 4.0,
) -> SliceStack:
    """A stack of thick slices of `intensity`, centred on the origin."""
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = axes[:, 0] * pixel, axes[:, 1] * pixel, axes[:, 2] * spacing
    matrix[:3, 3] = -matrix[:3, :3] @ [(side[1] - 1) / 2, (side[0] - 1) / 2, (slices - 1) / 2]
    k, j, i = np.meshgrid(np.arange(slices), np.arange(side[0]), np.arange(side[1]), indexing="ij")
    points = np.stack([i, j, k], -1) @ matrix[:3, :3].T + matrix[:3, 3]
    offsets = (np.arange(8) + 0.5) / 8 - 0.5
    pixels = np.mean([intensity(points + o * thickness * axes[:, 2]) for o in offsets], axis=0)
    pixels += np.random.default_rng(seed).normal(0, noise, pixels.shape)
    return SliceStack.from_array(pixels.astype(np.float32), matrix, thickness=thickness)


def painted(function: Callable[[np.ndarray], np.ndarray], half: float = 16.0, pitch: float = 0.8) -> GaussianField:
    """A field that shows `function` of RAS points (..., 3), 0 to 1, in a cube of 2 `half` mm about the origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = AXES * pitch
    sides = 8 * int(np.ceil((2 * np.sqrt(3) * half / pitch + 6) / 8))
    matrix[:3, 3] = -matrix[:3, :3] @ np.full(3, (sides - 1) / 2)
    z, y, x = np.meshgrid(*[np.arange(sides)] * 3, indexing="ij")
    places = np.stack([x, y, z], -1) @ matrix[:3, :3].T + matrix[:3, 3]
    lattice = GaussianLattice.of_box(torch.from_numpy(function(places).astype(np.float32)), matrix).rounded(1e-4)
    cube = np.concatenate([np.c_[np.eye(3), np.full(3, -half)], np.c_[-np.eye(3), np.full(3, -half)]])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, :2] *= pitch
    poses[1, 2, 3] = 4.0
    shapes = np.array([[41, 41]] * 2, np.int32)
    return GaussianField(torch.zeros(11, 0), 0.0, 1000.0, (cube,), poses, shapes, lattice=lattice)
