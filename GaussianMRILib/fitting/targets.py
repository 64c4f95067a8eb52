"""What a field is fitted to: acquired slices through their profile, and thin planes of a guessed volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..gaussians import PlaneBatch
from ..priors.volume import PriorVolume
from ..stacks import SliceStack


def concatenate(batches: Sequence[PlaneBatch]) -> PlaneBatch:
    """One batch of several; thin planes get the quadrature of the thickest with no width."""
    quadrature = max(batch.offsets.shape[1] for batch in batches)
    offsets, weights = [], []
    for batch in batches:
        missing = quadrature - batch.offsets.shape[1]
        offsets.append(torch.nn.functional.pad(batch.offsets, (0, missing)))
        weights.append(torch.nn.functional.pad(batch.weights, (0, missing)))
    return PlaneBatch(
        torch.cat([batch.frames for batch in batches]),
        torch.cat([batch.shapes for batch in batches]),
        torch.cat(offsets),
        torch.cat(weights),
    )


def slice_targets(stacks: Sequence[SliceStack], low: float, high: float, device: torch.device, profile: bool = True):
    """Every slice of every stack: a `PlaneBatch` and normalised pixels (total,)."""
    planes = [plane for stack in stacks for plane in stack.planes()]
    pixels = np.concatenate([stack.pixels.reshape(-1) for stack in stacks])
    target = torch.from_numpy((pixels - np.float32(low)) / np.float32(high - low)).to(device)
    return PlaneBatch.from_planes(planes, device, profile), target


class VolumePlanes:
    """Thin planes along the three axes of a volume, whose targets are its voxels: no interpolation is needed.

    Args:
        volume: the guess, image intensities.
        low, high: intensities of normalised 0 and 1.
    """

    def __init__(self, volume: PriorVolume, low: float, high: float, device: torch.device) -> None:
        self.voxels = torch.from_numpy(((volume.pixels - low) / (high - low)).astype(np.float32)).to(device)
        self.origin = torch.from_numpy(volume.ijk_to_ras[:3, 3])
        self.steps = torch.from_numpy(volume.ijk_to_ras[:3, [2, 1, 0]].T)  # along z, rows, columns
        self.device = device

    def draw(self, axis: int, indices: Sequence[int]) -> tuple[PlaneBatch, torch.Tensor]:
        """The planes with the given indices across `axis` (0 sub-slices, 1 rows, 2 columns)."""
        row_axis, column_axis = [a for a in range(3) if a != axis]
        normal = torch.linalg.cross(self.steps[column_axis], self.steps[row_axis])
        normal = normal / normal.norm()
        index = torch.as_tensor(indices, dtype=torch.float64)
        origins = self.origin + index[:, None] * self.steps[axis]
        fixed = torch.cat([self.steps[column_axis], self.steps[row_axis], normal]).expand(len(index), 9)
        shape = [self.voxels.shape[row_axis], self.voxels.shape[column_axis]]
        batch = PlaneBatch(
            torch.cat([origins, fixed], 1).float().to(self.device),
            torch.tensor([shape] * len(index), dtype=torch.int32).reshape(-1, 2),
            torch.zeros(len(index), 1, device=self.device),
            torch.ones(len(index), 1, device=self.device),
        )
        target = self.voxels.index_select(axis, index.long().to(self.device)).movedim(axis, 0)
        return batch, target.reshape(-1)
