"""A volume as the path tracer wants it: quantised, cropped to what can be seen, with majorants and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points
from ..interruption import checkpoint
from .camera import Camera
from .clip import ClipPlane, Roi, box_corners, box_planes, box_to_ras
from .looks import Look

if TYPE_CHECKING:
    import torch

LEVELS = 4096
_MOST_COLLISIONS = 100.0  # of a ray in a voxel


def srgb_to_linear(colour: ArrayLike) -> NDArray[np.float64]:
    """Linear colour of one picked on a screen (IEC 61966-2-1)."""
    x = np.asarray(colour, dtype=np.float64)
    linear: NDArray[np.float64] = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return linear


@dataclass(frozen=True, eq=False)
class TracerVolume:
    """What stays the same from image to image.

    Attributes:
        values: (K, J, I) uint16. gradients: the same shape uint8, or empty. majorants, skips: per cell, 1/mm and cells.
        table: extinction of each level, albedo of each, then factors for gradients.
        ijk_to_ras: (4, 4) of the cropped voxels.
        low, high: (3,) box of what can be seen, in voxels (i, j, k).
        radius: mm, of the sphere round `centre` that holds all that can be seen.
        step: value of one unit of `values`.
        rois: half-spaces (n, 4) in RAS: n . x < d.
    """

    values: torch.Tensor
    gradients: torch.Tensor
    majorants: torch.Tensor
    skips: torch.Tensor
    table: torch.Tensor
    ijk_to_ras: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    radius: float
    step: float
    rois: tuple[ClipPlane, ...]

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """In the operator's order."""
        return self.values, self.gradients, self.majorants, self.skips, self.table

    def corners(self) -> NDArray[np.float64]:
        """(8, 3) RAS mm."""
        ends = np.stack([self.low, self.high])
        ijk = np.array([[ends[a, 0], ends[b, 1], ends[c, 2]] for c in (0, 1) for b in (0, 1) for a in (0, 1)])
        return transform_points(self.ijk_to_ras, ijk)

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) RAS mm."""
        return transform_points(self.ijk_to_ras, (self.low + self.high) / 2)

    @property
    def spacing(self) -> float:
        """mm: mean over the axes."""
        return float(np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0).mean())

    def scene(self, camera: Camera, clips: Sequence[ClipPlane], look: Look) -> torch.Tensor:
        """GmTraceScene, as int32 words; positions relative to `centre`, so that they keep their digits.

        Raises:
            GaussianMRIError: too many planes.
        """
        import torch

        from ..native.paths.arguments import MAX_LIGHTS, MAX_PLANES, SCENE

        clips = [*self.rois, *sorted(clips, key=lambda plane: plane.joint)]
        if len(clips) > MAX_PLANES - 6:
            raise GaussianMRIError(f"At most {MAX_PLANES - 6} clip planes are possible, got {len(clips)}.")
        s = np.zeros(1, dtype=SCENE)[0]
        shape = self.values.shape
        s["size"], s["cells"] = shape[::-1], self.majorants.shape[::-1]
        s["levels"], s["events"] = LEVELS, look.scatterings
        s["width"], s["height"] = camera.width, camera.height
        to_voxel = np.linalg.inv(self.ijk_to_ras)
        s["to_voxel"][:, :3] = to_voxel[:3, :3]
        s["to_voxel"][:, 3] = transform_points(to_voxel, self.centre)
        right, down, forward = camera.world_to_camera[:3, :3]
        s["eye"] = camera.eye - self.centre
        s["right"], s["down"] = right / camera.fx, down / camera.fy
        s["corner"] = forward - right * camera.cx / camera.fx - down * camera.cy / camera.fy
        s["value_scale"] = (LEVELS - 1) / 65535
        s["gradient_scale"] = np.clip(look.surface / self.step, 1e-30, 1e30)  # of 32 bits
        s["face"] = self.spacing
        s["anisotropy"], s["reflectance"], s["shininess"] = (
            look.anisotropy, look.reflectance, look.shininess
        )  # fmt: skip
        s["up"] = (0, 0, 1)
        s["zenith"], s["horizon"], s["nadir"] = look.zenith, look.horizon, look.nadir
        s["planes"], s["holes"] = 6 + len(clips), sum(plane.joint for plane in clips)
        for axis in range(3):
            outward = to_voxel[axis, :3] / np.linalg.norm(to_voxel[axis, :3])
            for side, sign in enumerate((-1.0, 1.0)):
                n = 2 * axis + side
                s["plane"][axis, n] = sign
                s["plane"][3, n] = sign * (self.low if side == 0 else self.high)[axis]
                s["normal"][n] = sign * outward
        for n, clip in enumerate(clips, 6):
            s["plane"][:3, n] = clip.normal @ self.ijk_to_ras[:3, :3]
            s["plane"][3, n] = clip.offset - clip.normal @ self.ijk_to_ras[:3, 3]
            s["normal"][n] = clip.normal
        lights = [light for light in look.lights if light.intensity > 0]
        s["lights"] = len(lights)
        assert len(lights) <= MAX_LIGHTS
        for out, light in zip(s["light"], lights, strict=False):
            self._light(out, light)
        return torch.from_numpy(np.frombuffer(s.tobytes(), np.int32).copy())

    def _light(self, out: Any, light: Any) -> None:
        direction = light.direction
        helper = np.eye(3)[2] if abs(direction[2]) < 0.9 else np.eye(3)[1]
        u = np.cross(helper, direction)
        u /= np.linalg.norm(u)
        distance, half = light.distance * self.radius, light.size * self.radius / 2
        out["centre"] = direction * distance
        out["u"], out["v"] = u * half, np.cross(direction, u) * half
        out["normal"] = -direction
        out["area"] = 4 * half * half
        # A white matte surface in the middle reflects intensity = irradiance / pi.
        out["radiance"] = np.asarray(light.colour) * light.intensity * np.pi * distance**2 / out["area"]


def prepare(
    volume: NDArray[Any], ijk_to_ras: NDArray[np.float64], look: Look, roi: Roi | None, device: str | torch.device
) -> TracerVolume:
    """Crop, smooth and quantise a volume for a look in its own units.

    Raises:
        GaussianMRIError: the transfer function shows nothing of the volume, or of the region.
    """
    import torch

    box = None if roi is None else box_to_ras(roi)
    rois = () if box is None else box_planes(box)
    visible = look.transfer.visible_range()
    first, last = _visible_voxels(volume, ijk_to_ras, visible, box)
    spacings = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    blur = look.smoothing / spacings if look.smoothing > 0 else np.zeros(3)
    margin = np.ceil(3 * blur).astype(int) + 2
    start = np.maximum(first - margin, 0)
    end = np.minimum(last + margin + 1, volume.shape[::-1])
    end = np.maximum(end, np.minimum(start + 2, volume.shape[::-1]))
    start = np.minimum(start, end - 2)
    part = volume[start[2] : end[2], start[1] : end[1], start[0] : end[0]].astype(np.float32)
    finite = np.isfinite(part)
    if not finite.all():
        part[~finite] = part[finite].min() if finite.any() else 0.0
    if look.smoothing > 0:
        from scipy.ndimage import gaussian_filter1d

        for axis, width in enumerate(blur[::-1]):
            checkpoint()
            part = gaussian_filter1d(part, width, axis, truncate=3.0, mode="nearest")
    affine = ijk_to_ras.copy()
    affine[:3, 3] = transform_points(ijk_to_ras, start)

    # Beyond the functions' points nothing changes, so the levels are spent between them.
    points = np.concatenate([look.transfer.colour[:, 0], look.transfer.opacity[:, 0]])
    low = max(float(part.min()), float(points.min()) - 1e-3 * float(np.ptp(points)))
    high = min(float(part.max()), float(points.max()) + 1e-3 * float(np.ptp(points)))
    if not high > low:
        low, high = float(part.min()), float(part.max())
    step = (high - low) / 65535 if high > low else 1.0
    spacing = float(spacings.mean())
    checkpoint()
    gradients, factors = _gradients(part, spacings, spacing, look)
    np.subtract(part, low, out=part)
    np.divide(part, step, out=part)
    np.clip(part, 0, 65535, out=part)
    values = np.rint(part, out=part).astype(np.uint16)
    levels = low + np.arange(LEVELS) * (step * 65535 / (LEVELS - 1))
    extinction = look.transfer.extinction_at(levels, spacing=spacing) * look.density
    # Light ends within a hundredth of a voxel then. More would look the same and take hours, a step for each collision.
    np.minimum(extinction, _MOST_COLLISIONS / float(spacings.min()), out=extinction)
    colour = srgb_to_linear(look.transfer.colour_at(levels))
    table = np.concatenate([extinction, colour.ravel(), factors]).astype(np.float32)
    checkpoint()
    majorants = _majorants(values, table[:LEVELS])
    if len(gradients):
        majorants *= _range_maximum(factors.astype(np.float32), *(x + 0.5 for x in _cell_range(gradients)))
    seen = majorants > 0
    if not seen.any():
        raise GaussianMRIError(
            "The transfer function shows nothing of this volume. Raise its opacity over the volume's values, "
            f"{float(volume[finite_slice(volume)].min()):g} to {float(volume[finite_slice(volume)].max()):g}."
        )
    for plane in rois:
        seen &= _reaches(plane, affine, values.shape, seen.shape)
    if not seen.any():
        raise GaussianMRIError("The region lies outside what can be seen of the volume.")
    majorants[~seen] = 0
    from ..native.paths.arguments import CELL

    where = [np.flatnonzero(seen.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    top = np.array(values.shape[::-1]) - 1.0
    box_low = np.array([w[0] * CELL for w in where], dtype=np.float64)
    box_high = np.minimum(np.array([(w[-1] + 1) * CELL for w in where], dtype=np.float64), top)
    tensors = [torch.from_numpy(x).to(device) for x in (values, gradients, majorants, _skips(seen), table)]
    radius = _radius(seen, affine, box_low, box_high)
    return TracerVolume(*tensors, affine, box_low, box_high, radius, step, rois)  # type: ignore[arg-type, call-arg]


def _radius(
    seen: NDArray[np.bool_],
    ijk_to_ras: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> float:
    """Distance of the farthest corner of a cell that is not empty from the box's middle, mm."""
    from ..native.paths.arguments import CELL

    cells = np.argwhere(seen)[:, ::-1]
    centre = (low + high) / 2
    # Of each cell the corner away from the middle, within the box.
    corners = np.clip(np.where(cells * CELL + CELL / 2 < centre, cells, cells + 1) * CELL, low, high)
    return float(np.linalg.norm((corners - centre) @ ijk_to_ras[:3, :3].T, axis=1).max())


def finite_slice(volume: NDArray[Any]) -> Any:
    """Mask of finite voxels, for messages."""
    return np.isfinite(volume) if volume.dtype.kind == "f" else np.ones(volume.shape, dtype=bool)


def _reaches(
    plane: ClipPlane, ijk_to_ras: NDArray[np.float64], shape: Sequence[int], cells: Sequence[int]
) -> NDArray[np.bool_]:
    """Cells (ck, cj, ci) of which something lies on the plane's kept side."""
    from ..native.paths.arguments import CELL

    lowest = -plane.signed_distance(ijk_to_ras[:3, 3]) * np.ones(tuple(cells))
    for axis, rate in enumerate(plane.normal @ ijk_to_ras[:3, [2, 1, 0]]):
        first = np.arange(cells[axis]) * CELL
        least = np.minimum(rate * first, rate * np.minimum(first + CELL, shape[axis] - 1))
        lowest -= least.reshape([-1 if a == axis else 1 for a in range(3)])
    return lowest > 0


def _visible_voxels(
    volume: NDArray[Any],
    ijk_to_ras: NDArray[np.float64],
    visible: tuple[float, float],
    box: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last voxel (i, j, k) of the box of what can be seen."""
    spans: list[NDArray[np.bool_]] = [np.zeros(n, dtype=bool) for n in volume.shape]
    for k, image in enumerate(volume):
        checkpoint()
        shown = (image > visible[0]) & (image < visible[1])
        if shown.any():
            spans[0][k] = True
            spans[1] |= shown.any(axis=1)
            spans[2] |= shown.any(axis=0)
    first = np.array([int(np.argmax(s)) for s in spans[::-1]])
    last = np.array([len(s) - 1 - int(np.argmax(s[::-1])) for s in spans[::-1]])
    if box is not None:
        ijk = transform_points(np.linalg.inv(ijk_to_ras), box_corners(box))
        first = np.maximum(first, np.floor(ijk.min(axis=0)).astype(int))
        last = np.minimum(last, np.ceil(ijk.max(axis=0)).astype(int))
        if np.any(last < first):
            raise GaussianMRIError("The region lies outside what can be seen of the volume.")
    return first, last


def _gradients(
    values: NDArray[np.float32], spacings: NDArray[np.float64], spacing: float, look: Look
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Magnitudes in 255 steps up to the gradient opacity's last point, and the factor of each; empty where unused."""
    points = look.transfer.gradient_opacity
    if not len(points):
        return np.zeros(0, dtype=np.uint8), np.ones(256)
    square = np.zeros_like(values)
    for axis in range(3):
        square += np.gradient(values, axis=axis) ** 2 * np.float32((spacing / spacings[2 - axis]) ** 2)
    largest = max(min(float(points[-1, 0]), float(np.sqrt(square.max()))), 1e-9)
    steps = np.minimum(np.rint(np.sqrt(square) * (255 / largest)), 255).astype(np.uint8)
    return steps, np.interp(np.arange(256) * (largest / 255), points[:, 0], points[:, 1])


def _cell_range(values: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest value of each cell and half a voxel round it, as the kernel interpolates there."""
    return _cell_extreme(values, np.minimum), _cell_extreme(values, np.maximum)


def _cell_extreme(values: NDArray[Any], extreme: np.ufunc) -> NDArray[np.float32]:
    """Linear interpolation has its extremes at voxels and at the ends, halfway to the next voxel."""
    from ..native.paths.arguments import CELL

    found = values
    for axis in range(3):
        top = found.shape[axis] - 1
        starts = np.arange(0, top, CELL)
        behind, first, last, ahead = (
            np.take(found, np.clip(starts + n, 0, top), axis).astype(np.float32) for n in (-1, 0, CELL, CELL + 1)
        )
        inside = extreme.reduceat(found, starts, axis)
        found = extreme.reduce([inside, last, (behind + first) / 2, (last + ahead) / 2])
    return found


def _majorants(values: NDArray[np.uint16], extinction: NDArray[np.float32]) -> NDArray[np.float32]:
    # As the kernel rounds, with a little room for its arithmetic in single precision.
    smallest, largest = (x.astype(np.float64) * ((LEVELS - 1) / 65535) + 0.5 for x in _cell_range(values))
    return _range_maximum(extinction, smallest - 1e-3, largest + 1e-3)


def _range_maximum(
    function: NDArray[np.float32], first: NDArray[Any], last: NDArray[Any]
) -> NDArray[np.float32]:
    """Largest of function[first .. last], both rounded down."""
    top = len(function) - 1
    first = np.clip(np.floor(first).astype(np.int64), 0, top)
    last = np.clip(np.floor(last).astype(np.int64), 0, top)
    rows = [function]
    while 2 ** len(rows) <= len(function):
        half = 2 ** (len(rows) - 1)
        rows.append(np.maximum(rows[-1][:-half], rows[-1][half:]))
    padded = np.stack([np.pad(row, (0, len(function) - len(row))) for row in rows])
    level = np.log2(last - first + 1).astype(np.int64)
    return np.maximum(padded[level, first], padded[level, last - 2**level + 1])


def _skips(seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Per empty cell, how many cells in every direction are empty, itself included; 0 for others."""
    from scipy.ndimage import distance_transform_cdt

    return np.minimum(distance_transform_cdt(~seen, "chessboard"), 255).astype(np.uint8)
