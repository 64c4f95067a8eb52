"""The published recipe: "Rendering Novel Views of MRI using 3D Gaussian Splatting" (arXiv:2606.26236), section 3.

To the letter: 100,000 Gaussians at uniformly random places inside the box bounded by the first and last slice, colour 0.5,
opacity 0.623 (the sigmoid of 0.5), loss 0.7 L1 + 0.3 (1 - SSIM), Adam with exponentially decaying rates, and from iteration
4,000 every 7,500: Gaussians with a large positional gradient are split (largest standard deviation > 0.1, into two,
each 1.6 times smaller) or cloned, those with an opacity below 0.4 are removed. Slices are thin: there is no slice profile.

What the paper leaves open is that of its predecessor, M. C. Eid et al., "UltraGauss: Ultrafast Gaussian Reconstruction of
3D Ultrasound Volumes" (ICLR 2026, arXiv:2505.05643):

- The precision is L L^T in the frame, L lower triangular with the diagonal l^2 + beta. Adam steps l and the entries below
  the diagonal at the rate of the covariance, and opacities as logits.
- Every l and every entry below the diagonal is drawn from U[4, 5): a standard deviation of about 0.05.

What stays open in both, as far as they are known here, is chosen so:

- The frame is the mid-slice's, scaled so that half the longest edge of the box around all slices is 1: nothing depends on
  the unit of the scan. Several stacks share the box and the first one's mid-slice.
- beta is 0.001; it only keeps the precision positive definite.
- One iteration renders one slice; an epoch is every slice once in random order; 1,000 epochs (its Fig. 5 ends there).
- What the positional gradient means that is compared with 0.01: here the loss's gradient with respect to the mean in the
  frame, its norm averaged over those iterations since the last densification that drew the Gaussian, as 3D Gaussian
  Splatting averages. Its largest values are about 0.01, so few Gaussians grow, and pruning is most of the densification.
- Gaussians that have shrunk away from every slice get no gradient, and keep a colour from earlier in the gaps where they
  lie. They are removed at the end, which planes between slices gain from; the report has their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..gaussians import GaussianField, PlaneBatch
from ..gaussians.planes import upper_factor
from ..stacks import SliceStack
from .optimiser import PLAIN, UNIT, FieldOptimiser, Rates
from .problem import Problem, Progress
from .targets import slice_targets

#: First and last learning rate of means, covariance, colour, opacity (the seed, "Implementation and training details").
RATES = ((0.00075, 0.000075), (0.1, 0.001), (0.01, 0.001), (0.025, 0.0025))
COLOUR, OPACITY = 0.5, 0.623
#: UltraGauss: the range of the first entries of L, of the square roots on its diagonal; and beta.
FACTOR, BETA = (4.0, 5.0), 1e-3
#: Rows of l.
ROOTS = [3, 6, 8]
SSIM_WEIGHT = 0.3
GRADIENT_THRESHOLD, SIZE_THRESHOLD, SPLIT_FACTOR, OPACITY_THRESHOLD = 0.01, 0.1, 1.6, 0.4
REPORT_EVERY = 50


@dataclass(kw_only=True)
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


class Triangular(FieldOptimiser):
    """Gaussians (11, N) of the frame with the factor L of UltraGauss: rows 3, 6, 8 are l, 4, 5, 7 lie below the diagonal.

    L^T is the kernels' upper triangular factor.
    """

    def __init__(self, parameters: torch.Tensor) -> None:
        super().__init__(parameters, diagonal_mode=PLAIN, amplitude_mode=UNIT)

    def drawn(self) -> torch.Tensor:
        gaussians = self.parameters.clone()
        for row in ROOTS:
            gaussians[row].square_().add_(BETA)
        return gaussians

    def chain(self, gradient: torch.Tensor) -> torch.Tensor:
        for row in ROOTS:
            gradient[row].mul_(self.parameters[row]).mul_(2)
        return gradient

    def changed(self, kept: torch.Tensor, *added: torch.Tensor) -> Triangular:
        """Those Gaussians (N,) that are kept, with Adam's state, and new ones (11, M)."""
        fresh = Triangular(torch.cat([self.parameters[:, kept], *added], 1))
        survivors = int(kept.sum())
        fresh.first[:, :survivors] = self.first[:, kept]
        fresh.second[:, :survivors] = self.second[:, kept]
        fresh.iterations = self.iterations
        return fresh


class Frame:
    """The mid-slice's axes, centred in it, in which half the longest edge of the box around all slices is 1.

    Attributes:
        to_ras: (4, 4) from the frame to RAS mm; a rotation times `unit`.
        unit: mm.
        low, high: (3,) corners of the box.
    """

    def __init__(self, stacks: Sequence[SliceStack]) -> None:
        plane = stacks[0].plane(len(stacks[0].pixels) // 2)
        axes = np.stack([plane.i_axis, np.cross(plane.normal, plane.i_axis), plane.normal], axis=1)
        corners = np.concatenate([p.corners() for stack in stacks for p in stack.planes()]) - plane.center
        ends = corners @ axes
        self.unit = float(np.ptp(ends, axis=0).max() / 2)
        self.low, self.high = ends.min(axis=0) / self.unit, ends.max(axis=0) / self.unit
        self.to_ras = np.eye(4)
        self.to_ras[:3, :3], self.to_ras[:3, 3] = axes * self.unit, plane.center
        self.to_ras_inverse = np.linalg.inv(self.to_ras)

    def planes(self, batch: PlaneBatch) -> PlaneBatch:
        """Thin planes, moved from RAS mm into the frame."""
        frames = batch.frames.double().cpu().numpy().reshape(-1, 4, 3)
        moved = frames @ self.to_ras_inverse[:3, :3].T
        moved[:, 0] += self.to_ras_inverse[:3, 3]
        moved[:, 3] *= self.unit  # normals stay unit vectors
        packed = torch.from_numpy(moved.reshape(-1, 12).astype(np.float32)).to(batch.frames.device)
        return PlaneBatch(packed, batch.shapes, batch.offsets, batch.weights)

    def gaussians(self, drawn: torch.Tensor) -> torch.Tensor:
        """Gaussians (11, N) of the frame in RAS mm."""
        matrix = torch.from_numpy(self.to_ras).to(drawn.device)
        inverse = torch.from_numpy(self.to_ras_inverse[:3, :3]).to(drawn.device)
        moved = drawn.clone()
        moved[:3] = (matrix[:3, :3] @ drawn[:3].double() + matrix[:3, 3:]).float()
        factors = _upper(drawn[3:9].double()) @ inverse
        moved[3:9] = upper_factor(factors.transpose(1, 2) @ factors)
        return moved


class PaperFit:
    """The preset `paper`; `run` yields progress, `field` is the field so far."""

    def __init__(self, problem: Problem, refine: bool = False, **options: int) -> None:
        self.problem = problem
        self.options = PaperOptions(**options)
        self.generator = torch.Generator().manual_seed(problem.seed)
        self.frame = Frame(problem.stacks)
        self.optimiser: Triangular | None = None
        if refine:
            problem.report["notes"] = [
                "refinement of slice poses belongs to the preset 'fast'; the recipe has none"
            ]

    def field(self) -> GaussianField | None:
        return None if self.optimiser is None else self.problem.field(self.frame.gaussians(self.optimiser.drawn()))

    def run(self) -> Iterator[Progress]:
        problem, options = self.problem, self.options
        optimiser = self.optimiser = Triangular(self._initialise().to(problem.device))
        batch, target = slice_targets(
            problem.stacks, problem.low, problem.high, problem.device, profile=False
        )
        batch = self.frame.planes(batch)
        targets = torch.split(target, batch.sizes)
        total = options.epochs * len(batch)
        gradient = PositionalGradient(optimiser)
        recent = 0.0
        for iteration in range(total):
            if iteration % len(batch) == 0:
                order = torch.randperm(len(batch), generator=self.generator)
            n = int(order[iteration % len(batch)])
            loss = optimiser.step(_single(batch, n), targets[n], None, _rates(iteration / total), SSIM_WEIGHT)
            gradient.add(optimiser)
            recent = loss if iteration == 0 else recent + 0.05 * (loss - recent)
            done = iteration + 1
            if (
                done >= options.densify_from
                and (done - options.densify_from) % options.densify_every == 0
                and done < total
            ):
                optimiser = self._densify(gradient.mean())
                gradient = PositionalGradient(optimiser)
            if done % REPORT_EVERY == 0 and done < total:
                yield problem.progress("fitting", done / total, recent)
        seen = shown(optimiser.drawn(), batch)
        self.optimiser = optimiser.changed(seen)
        problem.report.update(
            epochs=options.epochs,
            iterations=total,
            loss=recent,
            gaussians_without_slice=int((~seen).sum()),
        )
        yield problem.progress("fitting", 1.0, recent)

    def _initialise(self) -> torch.Tensor:
        """Parameters (11, N) as `Triangular` has them."""
        frame, count = self.frame, self.options.gaussians
        low, high = torch.from_numpy(frame.low)[:, None], torch.from_numpy(frame.high)[:, None]
        parameters = torch.zeros(11, count, dtype=torch.float32)
        parameters[:3] = (low + torch.rand(3, count, generator=self.generator, dtype=torch.float32) * (high - low)).float()
        factors = torch.rand(6, count, generator=self.generator, dtype=torch.float32)
        parameters[3:9] = FACTOR[0] + factors * (FACTOR[1] - FACTOR[0])
        parameters[9], parameters[10] = COLOUR, OPACITY
        return parameters

    def _densify(self, gradient: torch.Tensor) -> Triangular:
        """Split, clone and prune (the paper's heuristics after 3D Gaussian Splatting); `gradient`: positional, (N,)."""
        assert self.optimiser is not None
        old = self.optimiser
        p = old.parameters
        keep = p[10] >= OPACITY_THRESHOLD
        grow = (gradient > GRADIENT_THRESHOLD) & keep
        room = max(self.options.densify_most - int(keep.sum()), 0)
        if int(grow.sum()) > room:
            limit = torch.sort(gradient * grow, descending=True).values[room]
            grow &= gradient > limit
        split = grow & (_largest_deviation(old.drawn()[3:9]) > SIZE_THRESHOLD)
        clone = grow & ~split
        halves = []
        for _ in range(2):
            half = old.drawn()[:, split]
            # Each half is drawn from the Gaussian it replaces, as 3DGS does.
            noise = torch.randn(3, half.shape[1], generator=self.generator, dtype=torch.float32).to(p.device)
            half[0:3] += _solve_upper(half[3:9], noise)
            half[3:9] *= SPLIT_FACTOR
            half[ROOTS] = (half[ROOTS] - BETA).sqrt()
            halves.append(half)
        self.optimiser = old.changed(keep & ~split, p[:, clone], *halves)
        return self.optimiser


def shown(gaussians: torch.Tensor, batch: PlaneBatch) -> torch.Tensor:
    """Which Gaussians (11, N) have a part in any pixel of the planes: (N,) bool."""
    image, samples, density = batch.render(gaussians)
    return batch.render_backward(torch.ones_like(image), samples, density, gaussians)[9] != 0


class PositionalGradient:
    """The positional gradient of every Gaussian, mean over the steps that drew it."""

    def __init__(self, optimiser: Triangular) -> None:
        self.sum = torch.zeros_like(optimiser.parameters[0])
        self.steps = torch.zeros_like(self.sum)

    def add(self, optimiser: Triangular) -> None:
        """Take the optimiser's last step into account."""
        x, y, z = optimiser.gradient[:3]  # torch's norm over a short first axis is ten times slower
        self.sum += torch.sqrt(x * x + y * y + z * z)
        self.steps += optimiser.gradient[9] != 0

    def mean(self) -> torch.Tensor:
        """(N,), 1 over units of the frame; 0 where no step drew the Gaussian."""
        return self.sum / self.steps.clamp(min=1)


def _rates(progress: float) -> Rates:
    means, covariance, colour, opacity = (first * (last / first) ** progress for first, last in RATES)
    return Rates(means, covariance, covariance, colour, opacity)


def _single(batch: PlaneBatch, n: int) -> PlaneBatch:
    part = slice(n, n + 1)
    return PlaneBatch(batch.frames[part], batch.shapes[part], batch.offsets[part], batch.weights[part])


def _upper(factors: torch.Tensor) -> torch.Tensor:
    """(6, N) packed factors as matrices (N, 3, 3)."""
    m = torch.zeros(factors.shape[1], 3, 3, dtype=factors.dtype, device=factors.device)
    for row, (a, b) in zip(factors, ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), strict=True):
        m[:, a, b] = row
    return m


def _solve_upper(factors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """x of M x = values for each column: (6, N) factors, (3, N)."""
    m00, m01, m02, m11, m12, m22 = factors
    z = values[2] / m22
    y = (values[1] - m12 * z) / m11
    return torch.stack([(values[0] - m01 * y - m02 * z) / m00, y, z])


def _largest_deviation(factors: torch.Tensor) -> torch.Tensor:
    """Largest standard deviation (N,) of packed factors (6, N), in units of the frame."""
    m = _upper(factors)
    values = torch.linalg.eigvalsh(m.transpose(1, 2) @ m)
    return 1 / values[:, 0].clamp(min=1e-8).sqrt()
