"""The default preset: seconds on a laptop, better than any interpolation.

1. A guess of the anatomy between the slices: the prior network (ridge filters without its weights), made consistent
   with the slices; for several stacks or angled slices a joint volume (`guess.py`).
2. Steered Gaussians, as many as there are cells of half the distance between slices, fitted to the slices through
   their profile from that guess for a few passes: more of either improves the slices and harms what lies between.
3. Guess and steered field err differently, so their blend is better than both; made to agree with the slices again, it
   takes from the field only what the slices leave open, and not the noise that the field has learned from them. Its
   weight is the least-squares one on slices that a small probe left out; a field that does not help there gets 0.
4. A lattice of Gaussians is solved for the blend: the field that is returned holds it by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..gaussians import GaussianField
from ..priors.consistency import default_factor
from ..priors.network_prior import noise_level
from ..stacks import SliceStack
from .guess import Guesser
from .lattice import lattice_error, lattice_gaussians, solve_colours
from .probe import LARGEST_BLEND, LARGEST_LOOSE_BLEND, Probe
from .problem import Problem, Progress
from .steered import Effort, SteeredFit
from .targets import VolumePlanes


@dataclass
class FastOptions:
    """Options of the preset.

    Attributes:
        prior: "auto", "network", "ridge" or "spline": how the first guess is made.
        gaussians: steered Gaussians; default: see `steered.Effort`.
        passes: over all slices; default: see `steered.Effort`.
        blend: weight of the steered field, 0 to 1; default: from left-out slices.
        iterations: of the lattice's least squares; default: none on a uniform lattice, else one.
        most: Gaussians of the lattice; the pitch grows until they suffice.
    """

    prior: str = "auto"
    gaussians: int | None = None
    passes: int | None = None
    blend: float | None = None
    iterations: int | None = None
    most: int = 4_000_000


class FastFit:
    """The preset `fast`; `run` yields progress, `field` is the field so far."""

    def __init__(self, problem: Problem, refine: bool = False, **options: object) -> None:
        self.problem = problem
        self.options = FastOptions(**options)  # type: ignore[arg-type]
        self.refine = refine
        self.parameters: torch.Tensor | None = None

    def field(self) -> GaussianField | None:
        return None if self.parameters is None else self.problem.field(self.parameters)

    def run(self) -> Iterator[Progress]:
        problem, options = self.problem, self.options
        weights = None
        if self.refine:
            from .refine import refine_stacks

            yield problem.progress("aligning slices", 0.0)
            problem.stacks, weights, problem.report["refinement"] = refine_stacks(
                problem.stacks, problem.low, problem.high
            )
        effort = Effort.of(problem.stacks, options.gaussians, options.passes)
        blend = options.blend
        if blend is None:
            yield problem.progress("probing with left-out slices", 0.02)
            blend = self._probe(effort)
        yield problem.progress("guessing between slices", 0.15)
        guesser = self._guesser(problem.stacks, effort.turns, "guessing between slices", 0.15, 0.42)
        guess = guesser.guess()
        if not guesser.exact:
            blend = min(blend, LARGEST_LOOSE_BLEND)
        problem.report.update(prior=guesser.kind, blend=round(blend, 4))
        for number in range(effort.rounds if blend > 0 else 0):
            yield problem.progress("placing Gaussians", 0.42 + 0.33 * number / effort.rounds)
            steered = SteeredFit(problem, effort)
            for done, loss in steered.run(problem.stacks, guess, weights):
                self.parameters = steered.parameters
                fraction = 0.42 + 0.33 * (number + done) / effort.rounds
                yield problem.progress("fitting to slices", fraction, loss)
            guess = steered.blended(guesser, guess, blend)
        volume = VolumePlanes(guess, problem.low, problem.high, problem.device)
        yield problem.progress("blending", 0.75)
        tolerance = 0.15 * noise_level(problem.stacks[0].pixels / (problem.high - problem.low))
        problem.report["noise"] = round(tolerance / 0.15, 5)
        depths = (
            range(2, max(2, default_factor(problem.stacks[0]) // 2) + 1) if len(problem.stacks) == 1 else (1,)
        )
        parameters, pitch = lattice_gaussians(
            volume.voxels.cpu(), volume.steps, volume.origin, tolerance, options.most, depths
        )
        parameters = self.parameters = parameters.to(problem.device)
        yield problem.progress("solving the field", 0.85)
        # On one uniform lattice the colours are right as they are; between blocks of several sizes they need a step.
        uniform = bool((parameters[3] == parameters[3, 0]).all())
        iterations = options.iterations if options.iterations is not None else (0 if uniform else 1)
        if iterations > 0:
            for done, error in enumerate(solve_colours(parameters, volume, iterations), 1):
                yield problem.progress("solving the field", 0.85 + 0.14 * done / iterations, error)
        error = lattice_error(parameters, volume)
        problem.report.update(lattice_pitch_voxels=list(pitch), lattice_rms_error=error)
        yield problem.progress("done", 1.0, error)

    def _probe(self, effort: Effort) -> float:
        """The blend that helps on left-out slices; the report gets the errors on them."""
        problem = self.problem
        probe = Probe.of(max(problem.stacks, key=lambda stack: stack.pixels.size))
        if probe is None:
            problem.report["held_out"] = None
            return LARGEST_BLEND
        guesser = self._guesser([probe.rest], 1, "probing with left-out slices", 0.02, 0.1)
        guess = guesser.guess()
        steered = SteeredFit(problem, replace(effort, passes=(effort.passes + 1) // 2))
        for _ in steered.run([probe.rest], guess):
            pass
        blended = steered.blended(guesser, guess, 1.0)
        blend, problem.report["held_out"] = probe.judge(guess, blended, problem.low, problem.high)
        problem.held_out_psnr = problem.report["held_out"]["psnr_db"]
        return blend

    def _guesser(
        self, stacks: list[SliceStack], turns: int, stage: str, first: float, last: float
    ) -> Guesser:
        """Its progress runs from the first to the last fraction of the fit."""
        problem = self.problem
        return Guesser(
            stacks,
            self.options.prior,
            problem.low,
            problem.high,
            problem.device,
            problem.seed,
            turns,
            lambda share: problem.progress(stage, first + (last - first) * share),
        )
