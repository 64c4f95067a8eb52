"""A pinhole camera in RAS millimetres."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points, unit_vector


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Width and height, pixels, of one number for a square, or of (width, height)."""
    width, height = (size, size) if isinstance(size, (int, np.integer)) else size
    return int(width), int(height)


def half_angle(fov_degrees: float, size: int | tuple[int, int]) -> float:
    """Half of the narrower field of view, radians: what fits into it is seen whole, also by a picture higher than wide.

    Args:
        fov_degrees: full vertical field of view.
        size: as of `sides`.

    Raises:
        GaussianMRIError: a field of view or a size that no camera has.
    """
    width, height = sides(size)
    Camera.check_size(width, height)
    if not 0.1 <= fov_degrees <= 170.0:
        raise GaussianMRIError(f"The field of view must be 0.1 to 170 degrees, got {fov_degrees}.")
    half = math.radians(fov_degrees) / 2
    return half if width >= height else math.atan(math.tan(half) * width / height)


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera; its axes are x right, y down, z forward, and pixel centres lie at +0.5.

    A point (x, y, z) of the camera's frame falls on column fx x / z + cx and row fy y / z + cy; the image covers
    columns 0 to `width` and rows 0 to `height`.

    Attributes:
        world_to_camera: (4, 4) float64, rigid: RAS mm to the camera's frame, mm.
        fx, fy: focal lengths, pixels.
        cx, cy: principal point, pixels.
        width, height: pixels.

    Raises:
        GaussianMRIError: the matrix is not rigid, a focal length is not positive, or the image has no pixels.
    """

    world_to_camera: NDArray[np.float64]
    _: KW_ONLY
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        matrix = np.array(self.world_to_camera, dtype=np.float64)
        rigid = (
            matrix.shape == (4, 4)
            and bool(np.all(np.isfinite(matrix)))
            and np.allclose(matrix[3], [0, 0, 0, 1])
            and np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-5)
            and np.linalg.det(matrix[:3, :3]) > 0
        )
        if not rigid:
            raise GaussianMRIError("A camera's world_to_camera must be a rigid (4, 4) matrix in mm.")
        matrix.flags.writeable = False
        object.__setattr__(self, "world_to_camera", matrix)
        for name in ("fx", "fy", "cx", "cy"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("width", "height"):
            object.__setattr__(self, name, int(getattr(self, name)))
        lengths = (self.fx, self.fy)
        if not all(math.isfinite(f) and f > 0 for f in lengths) or not math.isfinite(self.cx + self.cy):
            raise GaussianMRIError(
                f"A camera needs positive focal lengths and a finite centre, got {lengths}."
            )
        self.check_size(self.width, self.height)

    @staticmethod
    def check_size(width: int, height: int) -> None:
        """Refuse what is no image that a camera takes."""
        if not (1 <= width <= 16384 and 1 <= height <= 16384):
            raise GaussianMRIError(
                f"A camera's image must have 1 to 16384 pixels a side, got {width} x {height}."
            )

    @classmethod
    def look_at(
        cls,
        eye: ArrayLike,
        target: ArrayLike,
        *,
        up: ArrayLike = (0.0, 0.0, 1.0),
        fov_degrees: float = 30.0,
        size: int | tuple[int, int] = 512,
    ) -> Camera:
        """Camera at `eye` that has `target` in the middle of its image.

        Args:
            eye, target: (3,) RAS mm.
            up: (3,) direction that points up in the image; must not be the viewing direction.
            fov_degrees: full vertical field of view.
            size: pixels: one number for a square, or (width, height).
        """
        position = np.asarray(eye, dtype=np.float64)
        z = unit_vector(np.asarray(target, dtype=np.float64) - position, what="camera's viewing direction")
        wanted = unit_vector(up, what="camera's up direction")
        upward = wanted - z * (wanted @ z)
        if np.linalg.norm(upward) < 1e-6:
            raise GaussianMRIError("The camera's up direction is its viewing direction; choose another one.")
        half_angle(fov_degrees, size)  # which refuses what is none
        y = -unit_vector(upward, what="camera's up direction")
        rotation = np.stack([np.cross(y, z), y, z])
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ position
        width, height = sides(size)
        focal = height / 2 / math.tan(math.radians(fov_degrees) / 2)
        return cls(matrix, fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)

    @classmethod
    def around(
        cls,
        middle: ArrayLike,
        distance: float,
        *,
        azimuth: float = 0.0,
        elevation: float = 0.0,
        fov_degrees: float = 30.0,
        size: int | tuple[int, int] = 512,
    ) -> Camera:
        """Camera on a sphere round `middle`, which it looks at, superior up; from above and below as the azimuth says.

        Args:
            middle: (3,) RAS mm.
            distance: mm, above 0.
            azimuth: degrees from the patient's front towards the patient's left.
            elevation: degrees upwards; beyond 90 the camera goes on over the pole, head down.
            fov_degrees, size: as for `look_at`.

        Raises:
            GaussianMRIError: a distance, field of view or size that no camera has.
        """
        if not 0 < distance < math.inf:
            raise GaussianMRIError(f"The camera's distance must be above 0 mm, got {distance}.")
        turn, lift = math.radians(azimuth), math.radians(elevation)
        level = math.cos(lift)
        outward = np.array([-level * math.sin(turn), level * math.cos(turn), math.sin(lift)])
        # Where the sphere rises: superior, seen from anywhere but near the poles, where that is no direction in the picture.
        rising = (math.sin(lift) * math.sin(turn), -math.sin(lift) * math.cos(turn), level)
        up = (0.0, 0.0, 1.0) if level > 0.05 else rising
        target = np.asarray(middle, dtype=np.float64)
        return cls.look_at(target + outward * distance, target, up=up, fov_degrees=fov_degrees, size=size)

    @property
    def camera_to_world(self) -> NDArray[np.float64]:
        """(4, 4): the camera's frame to RAS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.world_to_camera[:3, :3].T
        matrix[:3, 3] = self.eye
        return matrix

    @property
    def eye(self) -> NDArray[np.float64]:
        """(3,) RAS mm."""
        position: NDArray[np.float64] = -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]
        return position

    def rays(self) -> NDArray[np.float64]:
        """(height, width, 3) float64: unit directions through the pixels' centres, RAS."""
        x = (np.arange(self.width) + 0.5 - self.cx) / self.fx
        y = (np.arange(self.height) + 0.5 - self.cy) / self.fy
        local = np.stack(
            [*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((self.height, self.width))], -1
        )
        local /= np.linalg.norm(local, axis=-1, keepdims=True)
        directions: NDArray[np.float64] = local @ self.world_to_camera[:3, :3]
        return directions

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows (..., 2) of RAS points (..., 3), and their depth (...) along the camera's z, mm."""
        matrix = self.world_to_camera
        local = transform_points(matrix, points)
        depth = local[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = local[..., :2] / depth[..., None] * [self.fx, self.fy] + [self.cx, self.cy]
        return pixels, depth

    def resized(self, width: int, height: int) -> Camera:
        """The same view with another number of pixels; the vertical field of view stays."""
        scale = height / self.height
        cx = width / 2 + (self.cx - self.width / 2) * scale
        return Camera(
            self.world_to_camera,
            fx=self.fx * scale,
            fy=self.fy * scale,
            cx=cx,
            cy=self.cy * scale,
            width=width,
            height=height,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        names = ("fx", "fy", "cx", "cy", "width", "height")
        return {
            "world_to_camera": self.world_to_camera.tolist(),
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Camera:
        """The camera that `to_dict` described.

        Raises:
            GaussianMRIError: a value is missing or is not a number.
        """
        try:
            fx, fy, cx, cy = (float(values[name]) for name in ("fx", "fy", "cx", "cy"))
            width, height = int(values["width"]), int(values["height"])
            matrix = np.asarray(values["world_to_camera"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise GaussianMRIError(f"The description of a camera is incomplete: {error}.") from error
        return cls(matrix, fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
