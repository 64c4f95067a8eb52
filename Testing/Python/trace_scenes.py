"""Volumes for the tests of the path tracer, and its brute-force reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.looks import Light, Look
from GaussianMRILib.cinematic.tracer import PathTracer, srgb_to_linear
from GaussianMRILib.cinematic.transfer import TransferFunction

WHITE = (1.0, 1.0, 1.0)
BLACK = (0.0, 0.0, 0.0)


def plain(opacity: float = 0.1, colour: Sequence[float] = WHITE, **changes: object) -> Look:
    """A look whose extinction rises with the value from 0 to 1, one colour, a white dome and no lights."""
    transfer = TransferFunction(
        [[0, *colour], [1, *colour]], [[x, 1 - (1 - opacity) ** x] for x in np.linspace(0, 1, 101)]
    )
    values = {
        "surface": 1e6, "reflectance": 0.0, "lights": (), "zenith": WHITE, "horizon": WHITE, "nadir": WHITE
    }  # fmt: skip
    return Look("plain", transfer, **{**values, **changes})


def affine(spacing: Sequence[float] = (1.0, 1.0, 1.0), shape: Sequence[int] = (24, 24, 24)) -> np.ndarray:
    """Turned a little, the volume's middle at (5, -3, 8)."""
    axes = np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.2, 1, 0.15], [0.05, -0.1, 1.0]]))[0]
    axes *= np.sign(np.diag(axes))
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = np.array([5.0, -3.0, 8.0]) - matrix[:3, :3] @ ((np.array(shape)[::-1] - 1) / 2)
    return matrix


def blob(shape: Sequence[int] = (20, 24, 28)) -> np.ndarray:
    """A smooth bump with a ripple, 0 at the borders and at most 1."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    window = np.clip(1 - (i * i + j * j + k * k), 0, 1)
    return (window * (0.75 + 0.25 * np.sin(3 * i + 2 * j) * np.cos(2 * k))).astype(np.float32)


class BruteForce:
    """Single scattering by quadrature in float64: every step of the ray, of every light ray, no random numbers.

    It uses the volume and the look themselves, not what the tracer made of them.
    """

    def __init__(
        self, volume: np.ndarray, ijk_to_ras: np.ndarray, look: Look, tracer: PathTracer
    ) -> None:
        self.volume = torch.from_numpy(volume).double()
        self.inverse = torch.from_numpy(np.linalg.inv(ijk_to_ras))
        self.look, self.tracer = look, tracer
        # Four points that stand for the box of one voxel: means of quadratic functions are exact.
        corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / math.sqrt(12)
        self.near = torch.from_numpy(corners @ ijk_to_ras[:3, :3].T)

    def value(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Interpolated value, and whether the point is in the box, of RAS points (..., 3)."""
        ijk = points @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        top = torch.tensor(self.volume.shape[::-1], dtype=torch.float64) - 1
        inside = ((ijk >= 0) & (ijk <= top)).all(dim=-1)
        total = torch.from_numpy(map_coordinates(self.volume.numpy(), ijk.numpy().T[::-1], order=1, mode="nearest").T)
        return total, inside

    def tissue(self, points: torch.Tensor) -> torch.Tensor:
        """Extinction (1/mm) of the voxels at points (..., 3)."""
        return torch.from_numpy(self.look.transfer.extinction_at(self.value(points)[0].numpy())) * self.look.density

    def extinction(self, points: torch.Tensor, clips: Sequence[ClipPlane]) -> torch.Tensor:
        """The tissue's mean over the box of a voxel round each point."""
        inside = self.value(points)[1]
        for clip in clips:
            inside &= points @ torch.from_numpy(clip.normal.copy()) < clip.offset
        sigma = sum(self.tissue(points + step) for step in self.near) / len(self.near)
        return torch.where(inside, sigma, 0.0)

    def gradient(self, points: torch.Tensor) -> torch.Tensor:
        """Per mm, of the cubic B-spline with the voxels as coefficients, by small differences of its values."""
        wider = np.pad(self.volume.numpy(), 2, mode="reflect", reflect_type="odd")
        ijk = (points @ self.inverse[:3, :3].T + self.inverse[:3, 3]).numpy() + 2

        def spline(at: np.ndarray) -> np.ndarray:
            return map_coordinates(wider, at[..., ::-1].T, order=3, prefilter=False).T

        parts = [(spline(ijk + step) - spline(ijk - step)) / 2e-4 for step in 1e-4 * np.eye(3)]
        return torch.from_numpy(np.stack(parts, axis=-1)) @ self.inverse[:3, :3]

    def transmittance(
        self, points: torch.Tensor, directions: torch.Tensor, length: torch.Tensor | float,
        clips: Sequence[ClipPlane], steps: int = 48,
    ) -> torch.Tensor:  # fmt: skip
        at = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        dt = torch.as_tensor(length, dtype=torch.float64) / steps
        depth = torch.zeros(torch.broadcast_shapes(points.shape, directions.shape)[:-1], dtype=torch.float64)
        for t in at:
            depth += self.extinction(points + directions * (t * steps * dt)[..., None], clips) * dt
        return torch.exp(-depth)

    def scatter(
        self, p: torch.Tensor, incoming: torch.Tensor, out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Density of the outgoing directions (n, m, 3) at points (n, 3): what the albedo tints, and what is white."""
        share = torch.stack([self.tissue(p + step) for step in self.near])[..., None]
        parts = [self.scatter_of(p + step, incoming, out) for step in self.near]
        tinted, white = (torch.stack([part[n] + torch.zeros(out.shape[:-1]) for part in parts]) for n in (0, 1))
        total = share.sum(0).clamp(min=1e-12)
        return (share * tinted).sum(0) / total, (share * white).sum(0) / total

    def scatter_of(
        self, p: torch.Tensor, incoming: torch.Tensor, out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`scatter` of the tissue at the points themselves."""
        look, g = self.look, self.look.anisotropy
        gradient = self.gradient(p)
        size = gradient.norm(dim=-1, keepdim=True)
        normal = gradient / size.clamp(min=1e-12)
        normal = torch.where((normal @ incoming)[:, None] > 0, -normal, normal)
        surface = 1 - torch.exp(-size / look.surface)
        phase = (1 - g * g) / (4 * math.pi * (1 + g * g - 2 * g * (out @ incoming)) ** 1.5)
        facing = -(normal @ incoming)[:, None]
        f = look.reflectance + (1 - look.reflectance) * (1 - facing) ** 5 if look.reflectance else 0.0
        mirror = incoming + 2 * facing * normal
        diffuse = (1 - f) * (normal[:, None] * out).sum(-1).clamp(min=0) / math.pi
        m = (mirror[:, None] * out).sum(-1).clamp(min=0)
        lobe = f * (look.shininess + 1) / (2 * math.pi) * m**look.shininess
        return surface * diffuse + (1 - surface) * phase, surface * lobe

    def lamp(self, light: Light, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (n*n, 3) of a square light, and the area (mm^2) times radiance (3) that each stands for."""
        radius = self.tracer.radius
        d = torch.from_numpy(light.direction)
        u = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), d)
        u = u / u.norm()
        at = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) * light.size * radius
        grid = at[:, None, None] * u + at[None, :, None] * torch.linalg.cross(d, u)
        points = torch.from_numpy(self.tracer.centre) + d * light.distance * radius + grid.reshape(-1, 3)
        power = math.pi * light.intensity * (light.distance * radius) ** 2
        return points, torch.tensor(light.colour, dtype=torch.float64) * power / n**2

    def pixel(self, camera: Camera, row: int, column: int, clips: Sequence[ClipPlane] = ()) -> np.ndarray:
        """Radiance (3) and alpha of one pixel's middle ray, which must not meet a cut face."""
        look, radius, steps = self.look, self.tracer.radius, 160
        direction, eye = torch.from_numpy(camera.rays()[row, column].copy()), torch.from_numpy(camera.eye)
        near = float((torch.from_numpy(self.tracer.centre) - eye).norm()) - radius
        dt = 2 * radius / steps
        t = near + (torch.arange(steps, dtype=torch.float64) + 0.5) * dt
        points = eye + t[:, None] * direction
        sigma = self.extinction(points, clips)
        weight = torch.exp(-(torch.cumsum(sigma, 0) - sigma) * dt) * -torch.expm1(-sigma * dt)
        alpha = float(weight.sum())
        keep = weight > 1e-6
        p, weight = points[keep], weight[keep]
        colour = srgb_to_linear(look.transfer.colour_at(self.value(p)[0].numpy()))
        radiance = torch.zeros(len(p), 3, dtype=torch.float64)
        for light in look.lights:
            lamp, power = self.lamp(light)
            away = lamp - p[:, None]
            distance = away.norm(dim=-1)
            out = away / distance[..., None]
            cosine = (out @ torch.from_numpy(light.direction)).clamp(min=0)
            free = self.transmittance(p[:, None], out, 2 * radius, clips)
            tinted, white = (x * free * cosine / distance**2 for x in self.scatter(p, direction, out))
            radiance += (tinted.sum(1)[:, None] * torch.from_numpy(colour) + white.sum(1)[:, None]) * power
        if max(look.horizon) > 0:
            n = 500  # directions of a spherical Fibonacci lattice
            z = 1 - (2 * torch.arange(n, dtype=torch.float64) + 1) / n
            angle = torch.arange(n, dtype=torch.float64) * math.pi * (3 - math.sqrt(5))
            level = torch.sqrt(1 - z * z)
            out = torch.stack([level * torch.cos(angle), level * torch.sin(angle), z], dim=-1).expand(
                len(p), n, 3
            )
            free = self.transmittance(p[:, None], out, 2 * radius, clips) * 4 * math.pi / n
            tinted, white = (x * free for x in self.scatter(p, direction, out))
            ends = [
                torch.tensor(x, dtype=torch.float64) for x in (look.horizon, look.zenith, look.nadir)
            ]
            dome = ends[0] + z.abs()[:, None] * (torch.where(z[:, None] > 0, ends[1], ends[2]) - ends[0])
            radiance += (tinted @ dome) * torch.from_numpy(colour) + white @ dome
        return np.append((weight[:, None] * radiance).sum(0).numpy(), alpha)
