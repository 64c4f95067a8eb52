"""The first guess of the anatomy between the slices of one block."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import GaussianMRIError
from ..priors.network import load_network
from ..priors.network_prior import network_prior
from ..priors.ridge import ridge_prior
from ..stacks import SliceStack
from ..volumes import Volume, enforce, spline_volume

PRIORS = ("auto", "network", "ridge", "spline")


class Guesser:
    """Makes the guess from parallel slices, and brings other volumes on its voxels into agreement with them.

    Args:
        block: parallel slices on one line.
        prior: one of `PRIORS`; "auto" is the network where its weights are installed, else the ridge filters.
        low, high: intensities that are normalised to 0 and 1.
        turns: of the network, see `network_prior`.
        progress: called with the share (0 to 1) of a guess that is done, while the network works.

    Attributes:
        kind: name of the prior that is used.

    Raises:
        GaussianMRIError: no such prior, or its weights are not installed.
    """

    def __init__(
        self,
        block: SliceStack,
        prior: str,
        low: float,
        high: float,
        device: torch.device,
        seed: int,
        turns: int = 1,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        if prior not in PRIORS:
            raise GaussianMRIError(f"There is no prior '{prior}'; choose one of {', '.join(PRIORS)}.")
        self.network = load_network() if prior in ("auto", "network") else None
        if prior == "network" and self.network is None:
            raise GaussianMRIError("The prior network's weights are not installed; choose the prior 'ridge'.")
        self.kind = "network" if self.network is not None else ("spline" if prior == "spline" else "ridge")
        self.block, self.low, self.high = block, low, high
        self.device, self.seed, self.turns = device, seed, turns
        self._progress = progress

    def guess(self) -> Volume:
        """The guess, on voxels about as fine as the pixels."""
        block = self.block
        count, rows, columns = block.shape
        if self.network is not None and count >= 3:
            return network_prior(
                block,
                network=self.network,
                device=self.device,
                range_=(self.low, self.high),
                turns=self.turns,
                progress=self._progress,
            )
        if self.kind == "ridge" and count >= 3 and min(rows, columns) >= 16 and block.grid() is not None:
            return ridge_prior(block, seed=self.seed)
        return spline_volume(block)  # too small to learn from

    def agree(self, volume: Volume) -> Volume:
        """The volume nearest to one on the guess's voxels that agrees with every slice, up to noise."""
        return enforce(volume, self.block)
