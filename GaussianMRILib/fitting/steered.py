"""Steered Gaussians fitted to slices, and what they add to a guess of the volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..gaussians import BACKGROUND
from ..stacks import SliceStack
from ..volumes import Volume
from .optimiser import FieldOptimiser, Rates
from .steering import steered_gaussians
from .targets import SlicePasses, VolumePlanes

#: Fitted pixels per pass; larger scans are visited on a coarser grid of pixels that moves from pass to pass.
PIXELS_PER_PASS = 1_500_000
#: Scans of at most so many pixels are fitted with more effort: they take no longer than larger ones.
SMALL_SCAN = 250_000
FEWEST_GAUSSIANS, MOST_GAUSSIANS = 1_000, 2_000_000
STEPS_PER_PASS = 6
SSIM_WEIGHT, SOFTNESS, WIDTH = 0.1, 0.02, 0.8
#: Rates at the start, in units of the mean distance between Gaussians where they are lengths; they fall to a tenth.
RATES = Rates(means=0.066, diagonal=0.039, off_diagonal=0.062, colours=0.02, amplitudes=0.039)
PLANES_PER_CHUNK = 32


@dataclass(frozen=True)
class Effort:
    """How much is spent on a scan; the same on a part of it, so that a probe of the part speaks for the whole.

    Attributes:
        density: Gaussians per acquired pixel. Best, on scans with slices of 3 to 15 mm, are cells of half the distance
            between slices: finer ones learn the slices by heart, coarser ones blur.
        passes: over all slices in one round.
        turns: of the prior network, see `network_prior`.
        rounds: of fitting and blending, each from the volume that the last one made.
        stride: every so manieth pixel along rows and columns is fitted in one pass.
    """

    density: float
    passes: int
    turns: int
    rounds: int
    stride: int

    @classmethod
    def of(
        cls, stacks: Sequence[SliceStack], gaussians: int | None = None, passes: int | None = None
    ) -> Effort:
        """The default for a scan, with an own number of Gaussians or passes if given."""
        pixels = sum(stack.pixels.size for stack in stacks)
        ratio = min(stack.spacing / float(np.prod(stack.pixel_spacing)) ** 0.5 for stack in stacks)
        count = gaussians or int(np.clip(8 / ratio**2 * pixels, FEWEST_GAUSSIANS, MOST_GAUSSIANS))
        small = pixels <= SMALL_SCAN
        return cls(
            density=min(count / pixels, 1.0),
            passes=passes or (12 if small else 8),
            turns=2 if small else 1,
            rounds=2 if small else 1,
            stride=max(1, round((pixels / PIXELS_PER_PASS) ** 0.5)),
        )


class SteeredFit:
    """Fits steered Gaussians to slices from a guess, for as many passes as help between the slices.

    Args:
        low, high: intensities of normalised 0 and 1.
        seed: of places and orders.

    Attributes:
        parameters: (11, N) of the Gaussians so far, None before `run`.
    """

    def __init__(self, effort: Effort, low: float, high: float, device: torch.device, seed: int) -> None:
        self.effort, self.low, self.high, self.device, self.seed = effort, low, high, device, seed
        self.parameters: torch.Tensor | None = None

    def run(
        self, stacks: Sequence[SliceStack], guess: Volume, weights: torch.Tensor | None = None
    ) -> Iterator[tuple[float, float]]:
        """One round; yields (fraction done, loss) after every pass.

        Args:
            weights: (total,) of the slices' pixels, or None for 1.
        """
        effort = self.effort
        count = max(round(effort.density * sum(stack.pixels.size for stack in stacks)), 100)
        start = steered_gaussians(guess, self.low, self.high, count, WIDTH, self.seed)
        optimiser = FieldOptimiser(start.to(self.device))
        self.parameters = optimiser.parameters
        voxel = abs(np.linalg.det(guess.ijk_to_ras[:3, :3]))
        distance = (voxel * guess.pixels.size / start.shape[1]) ** (1 / 3)
        slices = SlicePasses(
            stacks,
            self.low,
            self.high,
            self.device,
            effort.stride,
            STEPS_PER_PASS,
            self.seed,
            weights,
        )
        similarity = SSIM_WEIGHT if effort.stride == 1 else 0.0
        for n in range(effort.passes):
            loss = 0.0
            for step, (batch, target, weight) in enumerate(slices.draw()):
                fall = 10 ** -((n + step / STEPS_PER_PASS) / effort.passes)
                rates = Rates(
                    RATES.means * distance * fall,
                    RATES.diagonal * fall,
                    RATES.off_diagonal / distance * fall,
                    RATES.colours * fall,
                    RATES.amplitudes * fall,
                )
                loss += optimiser.step(batch, target, weight, rates, similarity, SOFTNESS) / STEPS_PER_PASS
            yield (n + 1) / effort.passes, loss

    def blended(self, guess: Volume, blend: float) -> Volume:
        """The guess with `blend` of the Gaussians' image mixed in where there are any."""
        assert self.parameters is not None
        planes = VolumePlanes(guess, self.low, self.high, self.device)
        pixels = guess.pixels.copy()
        for first in range(0, len(pixels), PLANES_PER_CHUNK):
            part = pixels[first : first + PLANES_PER_CHUNK]
            batch, target = planes.draw(slice(first, first + len(part)))
            image, _, density = batch.render(self.parameters)
            difference = torch.where(density[0] > 100 * BACKGROUND, image - target, 0.0)
            part += (blend * (self.high - self.low)) * difference.reshape(part.shape).cpu().numpy()
        return replace(guess, pixels=pixels)
