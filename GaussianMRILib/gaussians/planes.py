"""Planes as the kernels take them: flat float32 frames and the quadrature across the slice thickness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .. import native
from ..geometry import ImagePlane, slice_profile

#: Three-point quadrature of a slice profile: offsets in units of the thickness (1.75 mm at 4 mm), and weights.
PROFILE_OFFSETS = (-0.4375, 0.0, 0.4375)
PROFILE_WEIGHTS = (0.275, 0.45, 0.275)
#: Squared Mahalanobis distance within which a 3D Gaussian has 95 % of its mass; it counts only there (the seed, 3).
CUT = native.CUT
#: Weight of the black background that keeps empty places from dividing by zero (the seed, eq. 2).
BACKGROUND = 1e-4


@dataclass(frozen=True)
class PlaneBatch:
    """Several planes, ready for `native.render_planes`.

    Attributes:
        frames: (P, 12) float32: centre of pixel (0, 0), step along columns, step along rows, unit normal; RAS mm.
        shapes: (P, 2) int32 on the CPU: rows, columns.
        offsets: (P, Q) float32 mm along the normal.
        weights: (P, Q) float32, rows sum to 1.
    """

    frames: torch.Tensor
    shapes: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def from_planes(
        cls,
        planes: Sequence[ImagePlane],
        *,
        device: torch.device | str = "cpu",
        profile: bool = True,
        step: float | None = None,
    ) -> PlaneBatch:
        """Pack planes; each is averaged over its thickness unless `profile` is false or the planes are all thin.

        Args:
            step: mm between samples across a slice, at most; default: the three of `PROFILE_OFFSETS`.
        """
        count = len(planes)
        matrices = np.stack([plane.ijk_to_ras for plane in planes]) if count else np.zeros((0, 4, 4))
        shapes = np.array([plane.shape for plane in planes], np.int32).reshape(count, 2)
        thickness = np.array([plane.thickness if profile else 0.0 for plane in planes], np.float32)
        return cls.from_matrices(matrices, shapes, thickness, device=device, step=step)

    @classmethod
    def from_matrices(
        cls,
        matrices: NDArray[np.float64],
        shapes: NDArray[np.int32],
        thickness: NDArray[np.float32],
        *,
        device: torch.device | str = "cpu",
        step: float | None = None,
    ) -> PlaneBatch:
        """Planes by their ijk_to_ras (P, 4, 4), rows and columns (P, 2) and thickness (P,), mm, as in `ImagePlane`."""
        count = len(matrices)
        frames = np.concatenate([matrices[:, :3, column] for column in (3, 0, 1, 2)], axis=1).astype(np.float32)
        if step is not None:
            offsets, weights = slice_profile(thickness, step)
        elif np.any(thickness > 0):
            offsets = thickness[:, None] * np.array(PROFILE_OFFSETS, np.float32)
            weights = np.tile(np.array(PROFILE_WEIGHTS, np.float32), (count, 1))
        else:
            offsets, weights = np.zeros((count, 1), np.float32), np.ones((count, 1), np.float32)
        return cls(
            torch.from_numpy(frames).to(device),
            torch.from_numpy(shapes),
            torch.from_numpy(offsets).to(device),
            torch.from_numpy(weights).to(device),
        )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def sizes(self) -> list[int]:
        """Pixels of each plane."""
        return [rows * columns for rows, columns in self.shapes.tolist()]

    def render(
        self, parameters: torch.Tensor, *, background: float = BACKGROUND, cut: float = CUT
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image (total,), samples and density (Q, total) of Gaussians (11, N); see `native.render_planes`."""
        return native.render_planes(
            parameters, self.frames, self.shapes, self.offsets, self.weights, background, cut=cut
        )

    def render_backward(
        self,
        gradient: torch.Tensor,
        samples: torch.Tensor,
        density: torch.Tensor,
        parameters: torch.Tensor,
    ) -> torch.Tensor:
        """Gradient (11, N) of sum(gradient * image) of what `render(parameters)` returned."""
        planes = (self.frames, self.shapes, self.offsets, self.weights)
        return native.render_planes_backward(gradient, samples, density, parameters, *planes, BACKGROUND, CUT)

    def averaged(self, samples: torch.Tensor) -> torch.Tensor:
        """(total,) mean over the profile of values (Q, total)."""
        index = torch.repeat_interleave(torch.arange(len(self)), torch.tensor(self.sizes)).to(samples.device)
        return (samples * self.weights.T[:, index]).sum(0)

    def samples(self) -> Iterator[tuple[torch.Tensor, PlaneBatch]]:
        """Each sample of the profile: its weights (total,), and the planes there, thin."""
        index = torch.repeat_interleave(torch.arange(len(self)), torch.tensor(self.sizes)).to(self.frames.device)
        for offset, weight in zip(self.offsets.T, self.weights.T, strict=True):
            frames = self.frames.clone()
            frames[:, 0:3] += offset[:, None] * frames[:, 9:12]
            thin = torch.zeros_like(offset)[:, None]
            yield weight[index], PlaneBatch(frames, self.shapes, thin, torch.ones_like(thin))

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """(total,) values into one (rows, columns) image a plane."""
        parts = torch.split(flat, self.sizes)
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes.tolist(), strict=True)]


def upper_factor(precision: torch.Tensor) -> torch.Tensor:
    """Upper triangular M with M^T M = P: (6, N) M00 M01 M02 M11 M12 M22 of precisions (N, 3, 3)."""
    p = precision.double()
    m00 = p[:, 0, 0].sqrt()
    m01, m02 = p[:, 0, 1] / m00, p[:, 0, 2] / m00
    m11 = (p[:, 1, 1] - m01**2).clamp(min=1e-12).sqrt()
    m12 = (p[:, 1, 2] - m01 * m02) / m11
    m22 = (p[:, 2, 2] - m02**2 - m12**2).clamp(min=1e-12).sqrt()
    return torch.stack([m00, m01, m02, m11, m12, m22]).float()
