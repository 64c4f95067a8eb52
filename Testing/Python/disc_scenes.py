"""Discs and scans with a known place for the tests of grading."""

from __future__ import annotations

import numpy as np

from GaussianMRILib.grading.disc import DiscGeometry, disc_frame
from GaussianMRILib.phantom import Phantom, bones
from GaussianMRILib.stacks import SliceStack

LEVELS = {"L1/L2": "L1-L2", "L2/L3": "L2-L3", "L3/L4": "L3-L4", "L4/L5": "L4-L5", "L5/S1": "L5-S1"}


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(np.radians(degrees) * np.asarray(axis) / np.linalg.norm(axis)).as_matrix()


def made_disc(
    tilt: float = 30.0, center: tuple[float, float, float] = (3.0, -10.0, 20.0), **changes: object
) -> DiscGeometry:
    """A disc of 50 x 34 mm, its front lower by `tilt` degrees, with the back border of an ellipse at nine slices."""
    turn = rotation(np.array([1.0, 0, 0]), -tilt)
    frame = disc_frame(center, turn @ [0, 0, 1.0], [-1.0, 0, 0])
    lateral = np.linspace(-20, 20, 9)
    depth = 17 * np.sqrt(1 - (lateral / 25) ** 2)
    ends = [
        frame[:3, 3] + lateral[:, None] * frame[:3, 0] + sign * depth[:, None] * frame[:3, 1]
        for sign in (1, -1)
    ]
    values: dict[str, object] = {
        "frame": frame, "posterior": ends[0], "anterior": ends[1], "sagittal_depth": 45.0, "level": "L5/S1",
        "provenance": "made", "series_depth": 60.0, "height": 10.0,
    }  # fmt: skip
    return DiscGeometry(**(values | changes))  # type: ignore[arg-type]


def true_frame(phantom: Phantom, level: str) -> np.ndarray:
    """Frame of a phantom's disc, from the phantom's own coordinates."""
    disc = phantom.build.disc(LEVELS[level])
    right, _, up = phantom.frame.axes(disc.s).T
    return disc_frame(phantom.frame.to_ras(0, disc.half_depth - 17, disc.s), up, -right)


def disc_mask(phantom: Phantom, level: str, matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Voxels (K, rows, columns) bool of a phantom's disc, by the phantom's own shapes."""
    disc = phantom.build.disc(LEVELS[level])
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    ras = np.stack([i, j, k], axis=-1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    points = phantom.frame.points(ras)
    across = bones._outline(points, disc.half_width + 0.8, disc.half_depth + 0.6, disc.half_depth - 17)
    along = np.abs(points.s - disc.s) * points.metric - bones._half_height(points, disc)
    return ((across < 0) & (along < 0)).reshape(shape)


def grid_around(
    center: np.ndarray, columns: np.ndarray, rows: np.ndarray, slices: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """ijk_to_ras whose middle voxel lies at `center`, from the steps (3,) along columns, rows and slices."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([columns, rows, slices], axis=1)
    matrix[:3, 3] = center - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return matrix


def sagittal_grid(center: np.ndarray, shape: tuple[int, int, int] = (15, 88, 96)) -> np.ndarray:
    """Sagittal voxels, 4.4 mm between slices and 0.75 mm within; columns run to the back, slices to the right."""
    steps = np.array([0, -0.75, 0]), np.array([0, 0, -0.75]), np.array([4.4, 0, 0])
    return grid_around(center, *steps, shape)


def linear_scan(
    normal_tilt: float = 0.0,
    center: tuple[float, float, float] = (3.0, -10.0, 20.0),
    count: int = 15,
    spacing: float = 4.5,
    shape: tuple[int, int] = (120, 160),
    pixel: float = 1.0,
) -> SliceStack:
    """Axial slices, tilted like a disc of that tilt, whose intensity is `linear_signal` of the place."""
    turn = rotation(np.array([1.0, 0, 0]), -normal_tilt)
    steps = turn @ [-pixel, 0, 0], turn @ [0, -pixel, 0], turn @ [0, 0, spacing]
    matrix = grid_around(np.asarray(center), *steps, (count, *shape))
    k, j, i = np.meshgrid(*[np.arange(n) for n in (count, *shape)], indexing="ij")
    ras = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    return SliceStack.from_array(linear_signal(ras), matrix, thickness=4.0, name="axial")


def linear_signal(ras: np.ndarray) -> np.ndarray:
    """Intensity at RAS points (..., 3): rises to the left by 2, to the back by 1, upwards by 0.5 per mm."""
    return np.asarray(400 - 2 * ras[..., 0] - ras[..., 1] + 0.5 * ras[..., 2])
