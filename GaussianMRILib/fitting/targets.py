"""What a field is fitted to: acquired slices through their profile, and thin planes of a guessed volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..gaussians import PlaneBatch
from ..geometry import ImagePlane, slice_poses
from ..stacks import SliceStack
from ..volumes import Volume


def slice_targets(
    stacks: Sequence[SliceStack], low: float, high: float, device: torch.device, profile: bool = True
) -> tuple[PlaneBatch, torch.Tensor]:
    """Every slice of every stack: a `PlaneBatch` and normalised pixels (total,)."""
    planes = [plane for stack in stacks for plane in stack.planes()]
    pixels = np.concatenate([stack.pixels.reshape(-1) for stack in stacks])
    target = torch.from_numpy((pixels - np.float32(low)) / np.float32(high - low)).to(device)
    return PlaneBatch.from_planes(planes, device=device, profile=profile), target


class SlicePasses:
    """Slices in a few steps a pass, each step a random share of the slices, large scans on a moving coarser grid of pixels.

    Args:
        stacks: the slices; low, high: intensities of normalised 0 and 1.
        stride: every so manieth pixel along rows and columns is in one pass.
        steps: parts of a pass.
        seed: of the order.
        weights: (total,) of the pixels, or None for 1.
    """

    def __init__(
        self,
        stacks: Sequence[SliceStack],
        low: float,
        high: float,
        device: torch.device,
        stride: int,
        steps: int,
        seed: int,
        weights: torch.Tensor | None = None,
    ) -> None:
        self.batch, target = slice_targets(stacks, low, high, device)
        shapes = self.batch.shapes.tolist()
        self.targets = [
            t.reshape(shape) for t, shape in zip(torch.split(target, self.batch.sizes), shapes, strict=True)
        ]
        self.weights = None
        if weights is not None:
            parts = torch.split(weights.to(device), self.batch.sizes)
            self.weights = [w.reshape(shape) for w, shape in zip(parts, shapes, strict=True)]
        self.stride = stride
        self.steps = min(steps, len(self.batch))
        self.random = np.random.default_rng(seed)

    def draw(self) -> Iterator[tuple[PlaneBatch, torch.Tensor, torch.Tensor | None]]:
        """The steps of one pass: planes, normalised targets (total,), weights."""
        s = self.stride
        row, column = (int(v) for v in self.random.integers(0, s, 2))
        frames = self.batch.frames.clone()
        frames[:, 0:3] += column * frames[:, 3:6] + row * frames[:, 6:9]
        frames[:, 3:9] *= s
        for first in self.random.permutation(self.steps):
            index = list(range(int(first), len(self.batch), self.steps))
            chosen = [self.targets[n][row::s, column::s] for n in index]
            batch = PlaneBatch(
                frames[index],
                torch.tensor([part.shape for part in chosen], dtype=torch.int32),
                self.batch.offsets[index],
                self.batch.weights[index],
            )
            weight = None
            if self.weights is not None:
                weight = torch.cat([self.weights[n][row::s, column::s].reshape(-1) for n in index])
            yield batch, torch.cat([part.reshape(-1) for part in chosen]), weight


class VolumePlanes:
    """The sub-slices of a volume as thin planes, whose targets are its voxels: no interpolation is needed.

    Args:
        volume: the guess, image intensities.
        low, high: intensities of normalised 0 and 1.
    """

    def __init__(self, volume: Volume, low: float, high: float, device: torch.device) -> None:
        self.voxels = torch.from_numpy(((volume.pixels - low) / (high - low)).astype(np.float32)).to(device)
        count, rows, columns = volume.pixels.shape
        poses = slice_poses(volume.ijk_to_ras, count)
        self.batch = PlaneBatch.from_planes([ImagePlane(pose, (rows, columns)) for pose in poses], device=device)

    def draw(self, part: slice) -> tuple[PlaneBatch, torch.Tensor]:
        """Some of the sub-slices: planes, normalised targets (total,)."""
        whole = self.batch
        batch = PlaneBatch(whole.frames[part], whole.shapes[part], whole.offsets[part], whole.weights[part])
        return batch, self.voxels[part].reshape(-1)
