"""The first guess of the anatomy between slices, for one stack or several."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..baselines.resampling import Resampler, parallel_groups
from ..baselines.tikhonov import Grid, isotropic_grid, solve
from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..priors.consistency import enforce, upsample
from ..priors.network import load_network
from ..priors.network_prior import network_prior
from ..priors.ridge import ridge_prior
from ..priors.volume import PriorVolume
from ..stacks import SliceStack

PRIORS = ("auto", "network", "ridge", "spline")
#: Beyond this many acquired pixels the joint least squares of several stacks takes more memory than a laptop has.
LARGEST_JOINT = 4_000_000
LARGEST_JOINT_GRID = 30_000_000
#: Weights of staying with the guess, its value and its gradient, against agreeing with every slice of every stack.
JOINT_PRIOR_WEIGHT, JOINT_SMOOTHNESS = 0.05, 0.12

log = logging.getLogger("GaussianMRI")


def make_guess(
    stacks: Sequence[SliceStack],
    prior: str,
    low: float,
    high: float,
    device: torch.device,
    seed: int,
    turns: int = 1,
) -> tuple[PriorVolume, str]:
    """The guess on voxels about as fine as the pixels, and the name of the prior that made it.

    Args:
        stacks: one or several.
        prior: one of `PRIORS`; "auto" is the network where its weights are installed, else the ridge filters.
        low, high: intensities that are normalised to 0 and 1.
        turns: of the network, see `network_prior`.
    """
    if prior not in PRIORS:
        raise GaussianMRIError(f"There is no prior '{prior}'; choose one of {', '.join(PRIORS)}.")
    network = load_network() if prior in ("auto", "network") else None
    if prior == "network" and network is None:
        raise GaussianMRIError("The prior network's weights are not installed; choose the prior 'ridge'.")
    kind = "network" if network is not None else ("spline" if prior == "spline" else "ridge")

    def guess_one(stack: SliceStack) -> PriorVolume:
        if network is not None and stack.shape[0] >= 3:
            return network_prior(stack, network=network, device=device, range_=(low, high), turns=turns)
        if (
            kind == "ridge"
            and stack.shape[0] >= 3
            and min(stack.shape[1:]) >= 16
            and stack.grid() is not None
        ):
            return ridge_prior(stack, seed=seed)
        return cubic_guess(stack)

    if len(stacks) == 1 and len(parallel_groups(stacks[0])) == 1:
        return guess_one(stacks[0]), kind
    grid = isotropic_grid(stacks)
    spacing = grid.spacing[0]
    voxels = float(np.prod(np.array(grid.shape, float)))
    if voxels > LARGEST_JOINT_GRID:
        grid = isotropic_grid(stacks, spacing * (voxels / LARGEST_JOINT_GRID) ** (1 / 3))
        log.info(
            "The joint volume has voxels of %.2f mm instead of %.2f mm to fit in memory.",
            grid.spacing[0],
            spacing,
        )
    mean = on_grid(Resampler(stacks, guess_one), grid)
    mean[np.isnan(mean)] = low
    volume = PriorVolume(mean, grid.ijk_to_ras, tuple(stack.hull() for stack in stacks))
    return agree(volume, stacks), kind


def agree(volume: PriorVolume, stacks: Sequence[SliceStack]) -> PriorVolume:
    """The volume nearest to a guess that agrees with every slice, up to noise.

    One stack: in closed form. Several: by least squares, or as it is where they are too large for that.

    Args:
        volume: from `make_guess` of the same stacks, or something on its voxels.
    """
    if len(stacks) == 1 and len(parallel_groups(stacks[0])) == 1:
        return enforce(volume, stacks[0])
    if sum(stack.pixels.size for stack in stacks) > LARGEST_JOINT:
        return volume
    pixels = solve(
        stacks,
        Grid(volume.ijk_to_ras, volume.pixels.shape),
        prior=volume.pixels,
        smoothness=JOINT_SMOOTHNESS,
        prior_weight=JOINT_PRIOR_WEIGHT,
        iterations=15,
    )
    return replace(volume, pixels=pixels)


def cubic_guess(stack: SliceStack) -> PriorVolume:
    """Cubic spline with slice profile: what is left when a stack is too small to learn from."""
    return enforce(upsample(stack), stack)


def on_grid(resampler: Resampler, grid: Grid) -> np.ndarray:
    """Values of a resampler at every voxel, NaN outside the stacks."""
    plane = ImagePlane(grid.ijk_to_ras, grid.shape[1:])
    step = float(grid.ijk_to_ras[:3, 2] @ plane.normal)
    return np.stack([resampler.render(plane.offset(k * step)) for k in range(grid.shape[0])])
