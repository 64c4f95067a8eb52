"""The first guess of the anatomy between slices, for one stack or several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..baselines.resampling import Resampler, parallel_groups
from ..baselines.tikhonov import Grid, acquisition_operator, isotropic_grid, solve
from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..priors.consistency import enforce, upsample
from ..priors.network import load_network
from ..priors.network_prior import network_prior
from ..priors.ridge import ridge_prior
from ..priors.volume import PriorVolume
from ..stacks import SliceStack, hulls_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PRIORS = ("auto", "network", "ridge", "spline")
#: Beyond this many acquired pixels the joint least squares of several stacks takes more memory than a laptop has.
LARGEST_JOINT = 4_000_000
LARGEST_JOINT_GRID = 30_000_000
#: Weights of staying with the guess, its value and its gradient, against agreeing with every slice of every stack.
JOINT_PRIOR_WEIGHT, JOINT_SMOOTHNESS = 0.2, 0.5

log = logging.getLogger("GaussianMRI")


class Guesser:
    """Makes the guess from stacks, and brings other volumes on its voxels into agreement with the slices.

    Args:
        stacks: one or several.
        prior: one of `PRIORS`; "auto" is the network where its weights are installed, else the ridge filters.
        low, high: intensities that are normalised to 0 and 1.
        turns: of the network, see `network_prior`.
        progress: called with the share (0 to 1) of a guess that is done, while the network works.

    Attributes:
        kind: name of the prior that is used.
        single: one stack of parallel slices, whose columns make everything simple.
        exact: whether `agree` can do what it says; False where several stacks are too large for least squares.

    Raises:
        GaussianMRIError: no such prior, or its weights are not installed.
    """

    def __init__(
        self,
        stacks: Sequence[SliceStack],
        prior: str,
        low: float,
        high: float,
        device: torch.device,
        seed: int,
        turns: int = 1,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        if prior not in PRIORS:
            raise GaussianMRIError(f"There is no prior '{prior}'; choose one of {', '.join(PRIORS)}.")
        self.network = load_network() if prior in ("auto", "network") else None
        if prior == "network" and self.network is None:
            raise GaussianMRIError("The prior network's weights are not installed; choose the prior 'ridge'.")
        self.kind = "network" if self.network is not None else ("spline" if prior == "spline" else "ridge")
        self.stacks, self.low, self.high = stacks, low, high
        self.device, self.seed, self.turns = device, seed, turns
        self._progress, self._guessed = progress, 0
        self.single = len(stacks) == 1 and len(parallel_groups(stacks[0])) == 1
        self.exact = self.single or sum(stack.pixels.size for stack in stacks) <= LARGEST_JOINT
        self._operators: list[csr_matrix] | None = None

    def guess(self) -> PriorVolume:
        """The guess, on voxels about as fine as the pixels."""
        if self.single:
            return self._of(self.stacks[0])
        grid = isotropic_grid(self.stacks)
        spacing = grid.spacing[0]
        voxels = float(np.prod(np.array(grid.shape, float)))
        if voxels > LARGEST_JOINT_GRID:
            grid = isotropic_grid(self.stacks, spacing * (voxels / LARGEST_JOINT_GRID) ** (1 / 3))
            log.info(
                "The joint volume has voxels of %.2f mm instead of %.2f mm to fit in memory.",
                grid.spacing[0],
                spacing,
            )
        mean = on_grid(Resampler(self.stacks, self._of), grid)
        mean[np.isnan(mean)] = self.low
        return self.agree(PriorVolume(mean, grid.ijk_to_ras, hulls_of(self.stacks)))

    def agree(self, volume: PriorVolume) -> PriorVolume:
        """The volume nearest to one on the guess's voxels that agrees with every slice, up to noise.

        One stack: in closed form. Several: by least squares, or as it is where they are too large for that.
        """
        if self.single:
            return enforce(volume, self.stacks[0])
        if not self.exact:
            return volume
        grid = Grid(volume.ijk_to_ras, volume.pixels.shape)
        if self._operators is None:
            self._operators = [acquisition_operator(stack, grid) for stack in self.stacks]
        pixels = solve(
            self.stacks,
            grid,
            prior=volume.pixels,
            smoothness=JOINT_SMOOTHNESS,
            prior_weight=JOINT_PRIOR_WEIGHT,
            iterations=15,
            operators=self._operators,
        )
        return replace(volume, pixels=pixels)

    def _report(self, share: float) -> None:
        if self._progress is not None:
            self._progress(min((self._guessed + share) / len(self.stacks), 1.0))
        self._guessed += share == 1

    def _of(self, stack: SliceStack) -> PriorVolume:
        count, rows, columns = stack.shape
        if self.network is not None and count >= 3:
            return network_prior(
                stack,
                network=self.network,
                device=self.device,
                range_=(self.low, self.high),
                turns=self.turns,
                progress=self._report,
            )
        if self.kind == "ridge" and count >= 3 and min(rows, columns) >= 16 and stack.grid() is not None:
            return ridge_prior(stack, seed=self.seed)
        return cubic_guess(stack)


def cubic_guess(stack: SliceStack) -> PriorVolume:
    """Cubic spline with slice profile: what is left when a stack is too small to learn from."""
    return enforce(upsample(stack), stack)


def on_grid(resampler: Resampler, grid: Grid) -> np.ndarray:
    """Values of a resampler at every voxel, NaN outside the stacks."""
    plane = ImagePlane(grid.ijk_to_ras, grid.shape[1:])
    step = float(grid.ijk_to_ras[:3, 2] @ plane.normal)
    return np.stack([resampler.render(plane.offset(k * step)) for k in range(grid.shape[0])])
