"""The curved coordinate frame of a lumbar spine: positions relative to the discs instead of the scanner.

A planar curve runs through the middle of the discs and vertebral bodies. A point has coordinates (u, v, s): u
mm to the patient's right, v mm anterior of the curve, s mm along it, upwards. Points of equal s form a plane
across the spine, so the mid-plane of a disc is a true plane, tilted by the angle of the curve there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]

_STEP = 0.5  # mm between nodes of the tabulated curve
_LOW, _HIGH = -170.0, 250.0  # mm, extent of the curve around the L5-S1 disc
_GRID = 2.0  # mm between nodes of the table of starting values
_SMALLEST_METRIC = 0.15  # behind the centre of curvature s is not unique; only far fat lies there


def rotation(degrees_about_x: float, degrees_about_y: float, degrees_about_z: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3), first about x, then y, then z."""
    a, b, c = np.radians([degrees_about_x, degrees_about_y, degrees_about_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True)
class Points:
    """Coordinates of points, (N,) float32, mm: x, y, z of the patient and u, v, s of the spine."""

    x: Floats
    y: Floats
    z: Floats
    v: Floats
    s: Floats
    metric: Floats  # mm along the spine per unit of s at this v: more in front of the curve, less behind
    side: Floats  # |u|, for everything that is the same left and right
    back: Floats  # y of the spine at this height, averaged over its neighbourhood: the back follows it

    @property
    def u(self) -> Floats:
        return self.x

    def take(self, index: NDArray[np.intp]) -> Points:
        """The points of these indices."""
        return Points(*(getattr(self, field.name)[index] for field in fields(self)))


class SpineFrame:
    """Transforms between RAS and the spine's coordinates.

    Args:
        stations: positions s in mm, increasing.
        tilts: angle in degrees of the curve at each station; positive leans forward, so the disc's front is
            lower.
        pose: rotation (3, 3) of the patient in the scanner.
        position: RAS of the middle of the L5-S1 disc, where s = 0.
    """

    def __init__(
        self, stations: ArrayLike, tilts: ArrayLike, pose: NDArray[np.float64], position: NDArray[np.float64]
    ) -> None:
        s = np.arange(_LOW, _HIGH + _STEP, _STEP)
        angle = np.radians(np.interp(s, np.asarray(stations, float), np.asarray(tilts, float)))
        # A spine bends smoothly: the corners of the interpolation are rounded over about 12 mm.
        kernel = np.exp(-0.5 * (np.arange(-40, 41) * _STEP / 6.0) ** 2)
        angle = np.convolve(np.pad(angle, 40, mode="edge"), kernel / kernel.sum(), mode="valid")
        y = np.concatenate([[0.0], np.cumsum(np.sin((angle[1:] + angle[:-1]) / 2))]) * _STEP
        z = np.concatenate([[0.0], np.cumsum(np.cos((angle[1:] + angle[:-1]) / 2))]) * _STEP
        middle = round(-_LOW / _STEP)
        self._s, self._angle = s, angle
        self._y, self._z = y - y[middle], z - z[middle]
        self._turn = np.gradient(angle, _STEP)
        self.pose = np.asarray(pose, dtype=np.float64)
        self.position = np.asarray(position, dtype=np.float64)
        self._start = self._starting_values()
        self._heights = np.arange(-180.0, 240.0, 2.0)
        half = 15  # nodes: a running mean over 60 mm, for the back does not follow every bend
        depth = np.pad(np.interp(self._heights, self._z, self._y), half, mode="edge")
        self._back = np.convolve(depth, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")

    def _starting_values(self) -> Floats:
        """s at the nodes of a grid over (y, z), from the nearest point of the curve."""
        y = np.arange(-160.0, 170.0, _GRID)
        z = np.arange(-180.0, 200.0, _GRID)
        curve = np.stack([self._y, self._z], axis=1)[::2]
        nearest = np.empty((y.size, z.size), dtype=np.float32)
        for row, value in enumerate(y):
            distance = (curve[:, 0] - value) ** 2 + (curve[:, 1] - z[:, None]) ** 2
            nearest[row] = self._s[::2][np.argmin(distance, axis=1)]
        return nearest

    def tilt(self, s: float) -> float:
        """Angle of the curve at s, in degrees, before the pose of the patient."""
        return float(np.degrees(np.interp(s, self._s, self._angle)))

    def axes(self, s: float) -> NDArray[np.float64]:
        """Columns (3, 3), RAS: unit vectors to the right, anterior and along the spine upwards at s."""
        a = np.interp(s, self._s, self._angle)
        local = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
        return np.asarray(self.pose @ local)

    def to_ras(self, u: float, v: float, s: float) -> NDArray[np.float64]:
        """RAS (3,) in mm of a point given in the spine's coordinates."""
        a = np.interp(s, self._s, self._angle)
        y = np.interp(s, self._s, self._y) + v * np.cos(a)
        z = np.interp(s, self._s, self._z) - v * np.sin(a)
        return np.asarray(self.pose @ np.array([u, y, z]) + self.position)

    def to_patient(self, ras: ArrayLike) -> NDArray[np.float64]:
        """Coordinates (..., 3) along the patient's own axes, from RAS (..., 3)."""
        return np.asarray((np.asarray(ras, dtype=np.float64) - self.position) @ self.pose)

    def from_patient(self, xyz: ArrayLike) -> NDArray[np.float64]:
        """RAS (..., 3) of coordinates along the patient's own axes."""
        return np.asarray(np.asarray(xyz, dtype=np.float64) @ self.pose.T + self.position)

    def back(self, z: NDArray[np.float64]) -> Floats:
        """y of the spine, averaged over 60 mm, at height z; both along the patient's axes."""
        return np.interp(z, self._heights, self._back).astype(np.float32)

    def points(self, ras: NDArray[np.float64]) -> Points:
        """Spine coordinates of RAS points (N, 3) in mm."""
        local = self.to_patient(ras)
        y, z = local[:, 1], local[:, 2]
        s = self._interpolate_start(y, z)
        # One Newton step from the table: the offset from the curve is perpendicular to it.
        node = np.clip((s - _LOW) / _STEP, 0, self._s.size - 1.001)
        low = node.astype(np.int64)
        t = node - low
        angle = self._angle[low] * (1 - t) + self._angle[low + 1] * t
        turn = self._turn[low] * (1 - t) + self._turn[low + 1] * t
        dy = y - (self._y[low] * (1 - t) + self._y[low + 1] * t)
        dz = z - (self._z[low] * (1 - t) + self._z[low + 1] * t)
        sine, cosine = np.sin(angle), np.cos(angle)
        v = dy * cosine - dz * sine
        metric = np.maximum(1 - turn * v, _SMALLEST_METRIC)
        s = s + (dy * sine + dz * cosine) / metric
        x = local[:, 0].astype(np.float32)
        return Points(
            x=x, y=y.astype(np.float32), z=z.astype(np.float32),
            v=v.astype(np.float32), s=s.astype(np.float32),
            metric=metric.astype(np.float32), side=np.abs(x), back=self.back(z),
        )  # fmt: skip

    def _interpolate_start(self, y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
        rows, columns = self._start.shape
        i = np.clip((y + 160.0) / _GRID, 0, rows - 1.001)
        j = np.clip((z + 180.0) / _GRID, 0, columns - 1.001)
        i0, j0 = i.astype(np.int64), j.astype(np.int64)
        p, q = i - i0, j - j0
        flat, base = self._start.ravel(), i0 * columns + j0
        upper = flat[base] * (1 - q) + flat[base + 1] * q
        lower = flat[base + columns] * (1 - q) + flat[base + columns + 1] * q
        return np.asarray(upper * (1 - p) + lower * p, dtype=np.float64)
