"""Patches of synthetic volumes as a scanner would slice them, which the prior network learns from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from ..files import atomic_write, save_array
from .network import condition_vector, sub_slice_phases
from .synthetic import dead_leaves

#: A patch has so many slices of so many rows and columns. Beside cubes there are long volumes, for ratios that need them.
SLICES, SIDE, VOLUME = 8, 40, 88
LONG_VOLUME, LARGEST_SCALE = (SLICES * 40, 48, 48), 2.0
#: Seeds of long volumes begin here, so that they are none of the cubes'.
FIRST_LONG = 1_000_000
RATIOS = tuple(range(3, 41))
COMMON_RATIO, RARE_SHARE = 15, 0.1


def cubic_matrix(slices: int, factor: int) -> torch.Tensor:
    """Cubic spline through `slices` equally spaced values, evaluated at `factor` phases each: (slices * factor, slices)."""
    at = (torch.arange(slices)[:, None] + sub_slice_phases(factor)).reshape(-1).numpy()
    spline = make_interp_spline(np.arange(slices), np.eye(slices), k=3)
    return torch.from_numpy(spline(at.clip(0, slices - 1)).astype(np.float32))


def profile_matrix(slices: int, factor: int, fill: float, edge: float) -> torch.Tensor:
    """Average over the thickness of each slice, (slices, slices * factor): a box with a soft edge of `edge` pixels."""
    z = (torch.arange(slices)[:, None] + sub_slice_phases(factor)).reshape(1, -1)
    distance = (z - torch.arange(slices)[:, None]).abs() * factor
    weight = torch.sigmoid((0.5 * fill * factor - distance) * (4.0 / edge))
    return weight / weight.sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches of one ratio.

    Attributes:
        slices: (B, 1, K, S, S); condition: (B, 3).
        base, truth: cubic upsampling and sharp truth, (B, K * ratio, S, S).
        taught: coefficients that the teacher predicts, (B, basis, K, S, S), or None beyond its ratios.
    """

    slices: torch.Tensor
    condition: torch.Tensor
    base: torch.Tensor
    truth: torch.Tensor
    ratio: int
    taught: torch.Tensor | None = None


def ratio_weights(ratios: Sequence[int]) -> np.ndarray:
    """How often each ratio is drawn: as even in its logarithm up to `COMMON_RATIO`, a tenth of the batches beyond."""
    weights = 1.0 / np.array(ratios, dtype=float)
    rare = np.array(ratios) > COMMON_RATIO
    if rare.any() and not rare.all():
        weights[rare] *= RARE_SHARE / (1 - RARE_SHARE) * weights[~rare].sum() / weights[rare].sum()
    return weights / weights.sum()


def make_batch(
    cubes: Sequence[torch.Tensor],
    columns: Sequence[torch.Tensor],
    rng: np.random.Generator,
    count: int,
    ratios: Sequence[int] = RATIOS,
) -> Batch:
    """Patches of one ratio, from cubes in any orientation, or from long volumes where cubes are too short."""
    ratio = int(rng.choice(ratios, p=ratio_weights(ratios)))
    volumes = cubes if SLICES * ratio <= VOLUME else columns
    fill = float(rng.uniform(0.65, 1.1))
    noise = float(np.exp(rng.uniform(np.log(0.003), np.log(0.03))))
    average = profile_matrix(SLICES, ratio, fill, float(rng.uniform(0.3, 1.0)))
    upsample = cubic_matrix(SLICES, ratio)
    truth = torch.empty(count, SLICES * ratio, SIDE, SIDE, dtype=torch.float32)
    for n in range(count):
        volume = volumes[int(rng.integers(len(volumes)))]
        # A long volume keeps its first axis across the slices.
        order = rng.permutation(3) if volumes is cubes else np.append(0, 1 + rng.permutation(2))
        volume = volume.permute(*order.tolist())
        z, y, x = (
            int(rng.integers(0, side - need + 1))
            for side, need in zip(volume.shape, truth.shape[1:], strict=True)
        )
        patch = volume[z : z + truth.shape[1], y : y + SIDE, x : x + SIDE].float()
        patch = patch.flip([axis for axis in range(3) if rng.random() < 0.5])
        if rng.random() < 0.3:
            patch = float(rng.uniform(0.8, 1.0)) - patch
            patch = patch.clamp(min=0)
        truth[n] = patch * float(rng.uniform(0.6, 1.2))
    slices = _sliced(average, truth)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    real = slices + noise * torch.randn(slices.shape, generator=generator, dtype=torch.float32)
    slices = torch.sqrt(real**2 + (noise * torch.randn(slices.shape, generator=generator, dtype=torch.float32)) ** 2)
    condition = torch.tensor([condition_vector(ratio, fill, noise)], dtype=torch.float32).expand(count, 3)
    return Batch(slices[:, None], condition, _sliced(upsample, slices), truth, ratio)


def _sliced(matrix: torch.Tensor, volumes: torch.Tensor) -> torch.Tensor:
    """matrix (M, Z) times every column of (B, Z, rows, columns)."""
    return (matrix @ volumes.flatten(2)).unflatten(2, volumes.shape[2:])


def volume_path(folder: str, index: int, long: bool) -> Path:
    return Path(folder, f"long-{index:05d}.npy" if long else f"{index:05d}.npy")


def write_volume(folder: str, index: int, long: bool) -> None:
    path = volume_path(folder, index, long)
    if path.exists():
        return
    if long:
        volume = dead_leaves(FIRST_LONG + index, LONG_VOLUME, LARGEST_SCALE)
    else:
        volume = dead_leaves(index, (VOLUME, VOLUME, VOLUME))
    with atomic_write(path) as partial:
        save_array(partial, (volume * 50000).round().numpy().astype(np.uint16))


def read_volume(folder: str, index: int, long: bool) -> torch.Tensor:
    """A volume, as soon as it is there."""
    path = volume_path(folder, index, long)
    while not path.exists():
        time.sleep(0.2)
    return torch.from_numpy((np.load(path) * np.float32(2e-5)).astype(np.float16))
