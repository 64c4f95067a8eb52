"""Random Gaussians and planes for the tests of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class Scene(NamedTuple):
    """The arguments of `native.render_planes`, in its order."""

    parameters: torch.Tensor
    frames: torch.Tensor
    shapes: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor
    background: float
    cut: float

    @property
    def total(self) -> int:
        """Pixels of all planes."""
        return int(self.shapes.prod(dim=1).sum())

    def in_double(self) -> Scene:
        return Scene(*(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in self))

    def to(self, device: str) -> Scene:
        """On a device; shapes stay on the CPU."""
        return Scene(*(x.to(device) if isinstance(x, torch.Tensor) and x is not self.shapes else x for x in self))


def oblique_frames(
    uniform: Callable[..., torch.Tensor], shapes: list[tuple[int, int]], centre: torch.Tensor, away: float, step: float
) -> torch.Tensor:
    """Frames (P, 12) of sheared planes at any angle, their middles about `away` mm from `centre` (3,).

    Pixels are 0.4 to `step` mm; `uniform(*size, low=0.0, high=1.0)` draws float64 numbers.
    """
    frames = []
    for rows, columns in shapes:
        axes = torch.linalg.qr(uniform(3, 3, low=-1)).Q.T
        u = axes[0] * uniform(1, low=0.4, high=step)
        v = (axes[1] + 0.2 * axes[0]) * uniform(1, low=0.4, high=step)
        middle = centre + uniform(3, low=-1, high=1) * away
        frames.append(torch.cat([middle - u * (columns - 1) / 2 - v * (rows - 1) / 2, u, v, axes[2]]))
    return torch.stack(frames).float() if frames else torch.empty(0, 12)


def random_scene(
    seed: int,
    gaussians: int,
    shapes: list[tuple[int, int]],
    samples: int = 3,
    spacing: float = 1.0,
    background: float = 1e-3,
    cut: float = 7.814728,
) -> Scene:
    """Gaussians of 0.8-2 mm in a box, planes at random angles through it, sheared a little."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    box = torch.tensor([60.0, 70.0, 30.0])[:, None]
    parameters = torch.zeros(11, gaussians)
    parameters[0:3] = (uniform(3, gaussians) - 0.5) * box
    for row in (3, 6, 8):
        parameters[row] = 1 / (0.8 + 1.2 * uniform(gaussians))
    for row in (4, 5, 7):
        parameters[row] = 0.2 * normal(gaussians)
    parameters[9] = uniform(gaussians)
    parameters[10] = 0.1 + uniform(gaussians)
    frames = []
    for rows, columns in shapes:
        axes = torch.linalg.qr(normal(3, 3).double()).Q
        i_step, j_step = axes[:, 0] * spacing, (axes[:, 1] * 0.9 + axes[:, 0] * 0.2) * spacing
        origin = normal(3).double() * 3 - i_step * (columns / 2) - j_step * (rows / 2)
        frames.append(torch.cat([origin, i_step, j_step, axes[:, 2]]).float())
    planes = len(shapes)
    weights = uniform(planes, samples) + 0.1
    return Scene(
        parameters,
        torch.stack(frames) if frames else torch.zeros(0, 12),
        torch.tensor(shapes, dtype=torch.int32).reshape(-1, 2),
        (uniform(planes, samples) - 0.5) * 4,
        weights / weights.sum(dim=1, keepdim=True),
        background,
        cut,
    )
