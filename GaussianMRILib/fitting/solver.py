"""Colours of a lattice by least squares: agreement with thick slices, smoothness that keeps edges, a start to stay near.

    min_c  sum_k sum_pixels v t (A_k c - s_k)^2 + smoothness * int phi(|grad c|) + pull * int (c - c0)^2

A_k renders the lattice on the slices of stack k through their profile (no matrix is stored: the kernels apply it and its
adjoint), v is the volume that a pixel stands for, so that weights mean the same at every resolution, and t a robust
weight, by which a pixel that nothing else supports loses its say (Cauchy; Holland and Welsch 1977). phi grows like the
square for slopes below `edge` and linearly above. Reweighted least squares, each step by conjugate gradients with the
diagonal of row sums as preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .. import native
from ..gaussians import BACKGROUND, GaussianLattice, PlaneBatch

#: Residuals of so many robust standard deviations have half a say.
ROBUST = 2.0


@dataclass
class SliceTerm:
    """Slices that the lattice has to agree with.

    Attributes:
        batch: their planes, with the slice profile.
        target: (total,) normalised pixels.
        volume: (total,) or a number: mm^3 that a pixel stands for, times its weight against other stacks.
    """

    batch: PlaneBatch
    target: torch.Tensor
    volume: torch.Tensor | float


@dataclass(frozen=True)
class Regularisation:
    """What decides where the slices leave a choice.

    Attributes:
        smoothness: mm^2; details smaller than its root are smoothed.
        edge: normalised intensity per mm; steeper slopes count as edges; 0: every slope counts by its square.
        pull: towards the start, without unit.
        robust: whether pixels that disagree lose their say.
    """

    smoothness: float = 0.3
    edge: float = 0.0
    pull: float = 0.03
    robust: bool = True


def solve_lattice(
    start: GaussianLattice,
    terms: Sequence[SliceTerm],
    regularisation: Regularisation,
    rounds: int = 2,
    iterations: int = 10,
    progress: Callable[[float], object] | None = None,
    first: torch.Tensor | None = None,
) -> GaussianLattice:
    """The lattice whose colours minimise the sum above.

    Args:
        start: c0.
        terms: one for each stack.
        regularisation: see there.
        rounds: of reweighting.
        iterations: of conjugate gradients in a round.
        progress: called with the share that is done, 0 to 1; it may raise to stop.
        first: (B, 8, 8, 8), where the solution begins; default: at c0.
    """
    scales = [1 / float(p) for p in start.pitch]
    cell = abs(float(np.linalg.det(start.node_to_ras[:3, :3])))
    smooth, pull = cell * regularisation.smoothness, cell * regularisation.pull
    nodes = (start.nodes if first is None else first).clone()
    for number in range(rounds):
        guide = nodes.clone()
        weights, residual = [], pull * (start.nodes - nodes)
        diagonal = torch.full_like(nodes, pull + 6 * smooth * float(np.mean(np.square(scales))))
        for term in terms:
            weight, missed = _weighed(start.with_nodes(nodes), term, regularisation.robust)
            diagonal += start.adjoint(weight, term.batch)
            residual += start.adjoint(missed.mul_(weight), term.batch)
            weights.append(weight)
        if smooth > 0:
            residual -= smooth * native.lattice_smooth(nodes, guide, start.table, scales, regularisation.edge)

        def normal(x: torch.Tensor, guide: torch.Tensor = guide, weights: list[torch.Tensor] = weights) -> torch.Tensor:
            result = pull * x
            if smooth > 0:
                result += smooth * native.lattice_smooth(x, guide, start.table, scales, regularisation.edge)
            lattice = start.with_nodes(x)
            for term, weight in zip(terms, weights, strict=True):
                image, _ = lattice.render(term.batch)
                result += lattice.adjoint(image.mul_(weight), term.batch)
            return result

        for n in conjugate_gradients(normal, residual, nodes, diagonal.reciprocal_(), iterations):
            if progress is not None:
                progress((number + n / iterations) / rounds)
    return start.with_nodes(nodes)


def _weighed(lattice: GaussianLattice, term: SliceTerm, robust: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(total,) volume times robust weight, 0 where the lattice has no node; and (total,) target less image."""
    image, density = lattice.render(term.batch)
    seen = density > 100 * BACKGROUND
    weight = seen.float() * term.volume
    residual = term.target - image
    if robust:
        spread = 1.4826 * float(_median(residual[seen].abs())) + 1e-6
        weight /= 1 + (residual / (ROBUST * spread)) ** 2
    return weight, residual


def _median(values: torch.Tensor) -> torch.Tensor:
    """Of at most a million of them."""
    step = max(1, len(values) // 1_000_000)
    return values[::step].median() if len(values) else torch.zeros((), dtype=torch.float32)


def conjugate_gradients(
    normal: Callable[[torch.Tensor], torch.Tensor],
    residual: torch.Tensor,
    x: torch.Tensor,
    precondition: torch.Tensor,
    iterations: int,
) -> Iterator[int]:
    """Solve normal(x) = right in place for a symmetric positive definite `normal`; yields the number of steps done.

    scipy's are for NumPy arrays: these leave tensors on their device. `residual`: right - normal(x), which is consumed.
    """
    direction = precondition * residual
    power = _dot(residual, direction)
    for n in range(iterations):
        if power <= 0:
            return
        image = normal(direction)
        length = power / _dot(direction, image)
        x += length * direction
        residual -= length * image
        scaled = precondition * residual
        power, previous = _dot(residual, scaled), power
        direction = scaled + (power / previous) * direction
        yield n + 1


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))
