"""The published recipe: "Rendering Novel Views of MRI using 3D Gaussian Splatting", section 3.

To the letter: 100,000 Gaussians at uniformly random places inside the box bounded by the first and last slice, colour 0.5,
opacity 0.623 (the sigmoid of 0.5), loss 0.7 L1 + 0.3 (1 - SSIM), Adam with exponentially decaying rates, and from iteration
4,000 every 7,500: Gaussians with a large positional gradient are split (largest standard deviation > 0.1, into two,
each 1.6 times smaller) or cloned, those with an opacity below 0.4 are removed. Slices are thin: there is no slice profile.

What the paper leaves open is chosen here so:

- The normalised frame is the mid-slice's, scaled so that half the longest edge of the box is 1.
- One iteration renders one slice; an epoch is every slice once in random order; 1,000 epochs (its Fig. 5 ends there).
- First covariances are isotropic with the standard deviation of one mean distance between Gaussians over two.
- The rate of the covariance applies to the entries of the precision's triangular factor in the normalised frame.
- The positional gradient is summed over the iterations since the last densification: a mean over that many
  thousand pixels is never above 0.01.
- Several stacks share one box around all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..gaussians import GaussianField, PlaneBatch
from .optimiser import UNIT, FieldOptimiser, Rates
from .problem import Problem, Progress
from .targets import slice_targets

#: First and last learning rate of means, covariance, colour, opacity (the seed, "Implementation and training details").
RATES = ((0.00075, 0.000075), (0.1, 0.001), (0.01, 0.001), (0.025, 0.0025))
COLOUR, OPACITY = 0.5, 0.623
SSIM_WEIGHT = 0.3
GRADIENT_THRESHOLD, SIZE_THRESHOLD, SPLIT_FACTOR, OPACITY_THRESHOLD = 0.01, 0.1, 1.6, 0.4
REPORT_EVERY = 50


@dataclass
class PaperOptions:
    """Options of the preset.

    Attributes:
        gaussians: at the start.
        epochs: passes over all slices.
        densify_from, densify_every: iterations.
        densify_most: Gaussians beyond which none are added.
    """

    gaussians: int = 100_000
    epochs: int = 1000
    densify_from: int = 4000
    densify_every: int = 7500
    densify_most: int = 1_000_000


class PaperFit:
    """The preset `paper`; `run` yields progress, `field` is the field so far."""

    def __init__(self, problem: Problem, refine: bool = False, **options: int) -> None:
        self.problem = problem
        self.options = PaperOptions(**options)
        self.generator = torch.Generator().manual_seed(problem.seed)
        self.optimiser: FieldOptimiser | None = None
        if refine:
            problem.report["notes"] = [
                "refinement of slice poses belongs to the preset 'fast'; the recipe has none"
            ]

    def field(self) -> GaussianField | None:
        return None if self.optimiser is None else self.problem.field(self.optimiser.parameters)

    def run(self) -> Iterator[Progress]:
        problem, options = self.problem, self.options
        parameters, unit = self._initialise()
        optimiser = self.optimiser = FieldOptimiser(parameters.to(problem.device), UNIT)
        batch, target = slice_targets(
            problem.stacks, problem.low, problem.high, problem.device, profile=False
        )
        targets = torch.split(target, batch.sizes)
        total = options.epochs * len(batch)
        gradient_sum = torch.zeros(parameters.shape[1], device=problem.device)
        recent = 0.0
        for iteration in range(total):
            if iteration % len(batch) == 0:
                order = torch.randperm(len(batch), generator=self.generator)
            n = int(order[iteration % len(batch)])
            single = PlaneBatch(
                batch.frames[n : n + 1],
                batch.shapes[n : n + 1],
                batch.offsets[n : n + 1],
                batch.weights[n : n + 1],
            )
            loss = optimiser.step(single, targets[n], None, self._rates(iteration / total, unit), SSIM_WEIGHT)
            # The means' plain steps stay in millimetres; a triangular factor must keep a positive diagonal.
            optimiser.parameters[[3, 6, 8]] = optimiser.parameters[[3, 6, 8]].clamp(min=0.1 / unit)
            x, y, z = optimiser.gradient[:3]  # torch's norm over a short first axis is ten times slower
            gradient_sum += torch.sqrt(x * x + y * y + z * z) * unit
            recent = loss if iteration == 0 else recent + 0.05 * (loss - recent)
            done = iteration + 1
            if (
                done >= options.densify_from
                and (done - options.densify_from) % options.densify_every == 0
                and done < total
            ):
                optimiser = self._densify(gradient_sum, unit)
                gradient_sum = torch.zeros(optimiser.parameters.shape[1], device=problem.device)
            if done % REPORT_EVERY == 0 or done == total:
                yield problem.progress("fitting", done / total, recent)
        problem.report.update(epochs=options.epochs, iterations=total, loss=recent)

    def _initialise(self) -> tuple[torch.Tensor, float]:
        """Parameters (11, N), and the millimetres of one unit of the normalised frame."""
        stacks, count = self.problem.stacks, self.options.gaussians
        middle = stacks[0].ijk_to_ras[len(stacks[0].pixels) // 2]
        axes = middle[:3, :3] / np.linalg.norm(middle[:3, :3], axis=0)
        corners = (
            np.concatenate([plane.corners() for stack in stacks for plane in stack.planes()])
            @ np.linalg.inv(axes).T
        )
        low, high = corners.min(axis=0), corners.max(axis=0)
        places = torch.rand(count, 3, generator=self.generator).double().numpy() * (high - low) + low
        unit = float((high - low).max() / 2)
        sigma = float(np.prod(np.maximum(high - low, 1e-3)) / count) ** (1 / 3) / 2
        parameters = torch.zeros(11, count)
        parameters[0:3] = torch.from_numpy((places @ axes.T).T.astype(np.float32))
        parameters[[3, 6, 8]] = 1 / sigma
        parameters[9], parameters[10] = COLOUR, OPACITY
        return parameters, unit

    def _rates(self, progress: float, unit: float) -> Rates:
        means, covariance, colour, opacity = (first * (last / first) ** progress for first, last in RATES)
        return Rates(means * unit, covariance / unit, covariance / unit, colour, opacity)

    def _densify(self, gradient_sum: torch.Tensor, unit: float) -> FieldOptimiser:
        """Split, clone and prune (the seed's heuristics after 3D Gaussian Splatting)."""
        assert self.optimiser is not None
        old = self.optimiser
        p = old.parameters
        keep = p[10] >= OPACITY_THRESHOLD
        grow = (gradient_sum > GRADIENT_THRESHOLD) & keep
        room = max(self.options.densify_most - int(keep.sum()), 0)
        if int(grow.sum()) > room:
            limit = torch.sort(gradient_sum * grow, descending=True).values[room]
            grow &= gradient_sum > limit
        largest = _largest_deviation(p[3:9])
        split = grow & (largest > SIZE_THRESHOLD * unit)
        clone = grow & ~split
        halves = []
        for _ in range(2):
            half = p[:, split].clone()
            # Each half is drawn from the Gaussian it replaces, as 3DGS does.
            noise = torch.randn(3, half.shape[1], generator=self.generator).to(p.device)
            half[0:3] += _solve_upper(half[3:9], noise)
            half[3:9] *= SPLIT_FACTOR
            halves.append(half)
        kept = keep & ~split
        parts = [p[:, kept], p[:, clone].clone(), *halves]
        fresh = FieldOptimiser(torch.cat(parts, 1), UNIT)
        survivors = int(kept.sum())
        fresh.first[:, :survivors] = old.first[:, kept]
        fresh.second[:, :survivors] = old.second[:, kept]
        fresh.iterations = old.iterations
        self.optimiser = fresh
        return fresh


def _solve_upper(factors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """x of M x = values for each column: (6, N) factors, (3, N)."""
    m00, m01, m02, m11, m12, m22 = factors
    z = values[2] / m22
    y = (values[1] - m12 * z) / m11
    return torch.stack([(values[0] - m01 * y - m02 * z) / m00, y, z])


def _largest_deviation(factors: torch.Tensor) -> torch.Tensor:
    """Largest standard deviation (N,), mm."""
    m = torch.zeros(factors.shape[1], 3, 3, device=factors.device)
    for row, (a, b) in zip(factors, ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), strict=True):
        m[:, a, b] = row
    values = torch.linalg.eigvalsh(m.transpose(1, 2) @ m)
    return 1 / values[:, 0].clamp(min=1e-8).sqrt()
