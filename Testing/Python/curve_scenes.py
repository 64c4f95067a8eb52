"""Curves and fields with a known truth: an arc of a circle, and bright points beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import GaussianMRILib as gm
from GaussianMRILib.gaussians import GaussianLattice

#: mm; middle and radius of an arc in a sagittal plane that bulges to the front, from the feet upwards.
CENTER, RADIUS, HALF_ANGLE = np.array([3.0, -40.0, 10.0]), 60.0, 0.6
LENGTH = 2 * HALF_ANGLE * RADIUS


def arc(count: int = 60) -> np.ndarray:
    """Points (count, 3), RAS mm, unevenly spaced."""
    angle = HALF_ANGLE * np.sin(np.linspace(-np.pi / 2, np.pi / 2, count))
    return CENTER + RADIUS * np.stack([0 * angle, np.cos(angle), np.sin(angle)], axis=1)


def beside_arc(s: Any, back: Any, right: Any) -> np.ndarray:
    """Places (N, 3), RAS mm, by s mm along the arc from its lower end, mm to the back of it and mm to the right."""
    s, back, right = np.broadcast_arrays(s, back, right)
    angle, radius = s / RADIUS - HALF_ANGLE, RADIUS - back
    return CENTER + np.stack([right, radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def box(middle: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Half-spaces (6, 4) of a box."""
    normals = np.concatenate([np.eye(3), -np.eye(3)])
    return np.c_[normals, -normals @ middle - np.tile(half, 2)]


def bright_points(points: np.ndarray, sigma: float = 1.5, pitch: float = 0.7) -> gm.GaussianField:
    """A field of round bright points on a dark ground (20 to 320) in a box about an arc."""
    hull = box(np.add(CENTER, [0, 52, 0]), np.array([22.0, 24, 42]))
    lattice = GaussianLattice.covering([hull], np.eye(3) * pitch)
    places = lattice.points()
    colours = sum(np.exp(-((places - point) ** 2).sum(-1) / (2 * sigma**2)) for point in points)
    lattice = lattice.with_nodes(torch.from_numpy(np.asarray(colours, "f4"))).rounded(1e-4)
    poses, shapes = np.eye(4)[None] * [0.5, 0.5, 1, 1], np.array([[8, 8]], np.int32)
    return gm.GaussianField(torch.zeros(11, 0), 20.0, 300.0, (hull,), poses, shapes, "1.2.3", lattice=lattice)


def middle_of(image: np.ndarray, about: np.ndarray, half: int = 8) -> np.ndarray:
    """Index of the middle of a bright point near an index, in pixels or voxels."""
    low = np.maximum(np.round(about).astype(int) - half, 0)
    part = image[tuple(slice(a, a + 2 * half + 1) for a in low)]
    above = np.clip(np.nan_to_num(part) - 20 - 0.2 * (np.nanmax(part) - 20), 0, None)
    return low + np.array([(axis * above).sum() for axis in np.indices(part.shape)]) / above.sum()
