"""The default preset: seconds on a laptop, better than any interpolation.

1. A guess of the anatomy between the slices: the prior network (ridge filters without its weights), made consistent
   with the slices; for several stacks or angled slices a joint volume (`guess.py`).
2. Steered Gaussians, about one for four pixels, fitted to the slices through their profile from that guess for a
   few passes: training longer improves the slices and harms the planes between them.
3. Guess and steered field err differently, so their blend is better than both; made to agree with the slices again, it
   takes from the field only what the slices leave open, and not the noise that the field has learned from them. Its
   weight is the least-squares one on slices that a small probe left out; a field that does not help there gets 0.
4. A lattice of Gaussians is solved for the blend: the field that is returned holds it by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..baselines import SplineInterpolator
from ..gaussians import BACKGROUND, GaussianField
from ..metrics import psnr
from ..priors.consistency import default_factor
from ..priors.network_prior import noise_level
from ..priors.volume import PriorVolume
from ..stacks import SliceStack
from .guess import agree, make_guess
from .lattice import lattice_error, lattice_gaussians, solve_colours
from .optimiser import FieldOptimiser, Rates
from .problem import Problem, Progress
from .steering import steered_gaussians
from .targets import SlicePasses, VolumePlanes

#: Fitted pixels per pass; larger scans are visited on a coarser grid of pixels that moves from pass to pass.
PIXELS_PER_PASS = 1_500_000
#: Scans of at most so many pixels are fitted with twice the effort: they take no longer than larger ones.
SMALL_SCAN = 250_000
STEPS_PER_PASS = 6
SSIM_WEIGHT, SOFTNESS, WIDTH = 0.1, 0.02, 0.8
#: Rates at the start, in units of the mean distance between Gaussians where they are lengths; they fall to a tenth.
RATES = Rates(means=0.066, diagonal=0.039, off_diagonal=0.062, colours=0.02, amplitudes=0.039)
# The probe's gaps are twice as wide as the scan's, and there the field helps more than it does in the scan: hence the
# ceiling, the best weight on simulated scans.
LARGEST_BLEND, SMALLEST_BLEND = 0.65, 0.05
PLANES_PER_CHUNK = 32


@dataclass
class FastOptions:
    """Options of the preset.

    Attributes:
        prior: "auto", "network", "ridge" or "spline": how the first guess is made.
        gaussians: steered Gaussians; default: a quarter of the pixels (half of a small scan's), 20,000 to 400,000.
        passes: over all slices; default: 9, and 12 for small scans.
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
        blend = options.blend
        if blend is None:
            yield problem.progress("probing with left-out slices", 0.02)
            blend = self._probe()
        yield problem.progress("guessing between slices", 0.15)
        guess, kind = make_guess(
            problem.stacks, options.prior, problem.low, problem.high, problem.device, problem.seed
        )
        problem.report.update(prior=kind, blend=round(blend, 4))
        yield problem.progress("placing Gaussians", 0.4)
        if blend > 0:
            for done, loss in self._steer(problem.stacks, guess, self._passes(), weights):
                yield problem.progress("fitting to slices", 0.42 + 0.28 * done, loss)
        volume = VolumePlanes(
            self._blended(problem.stacks, guess, blend), problem.low, problem.high, problem.device
        )
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
        for done, error in enumerate(solve_colours(parameters, volume, iterations), 1):
            yield problem.progress("solving the field", 0.85 + 0.14 * done / iterations, error)
        error = lattice_error(parameters, volume)
        problem.report.update(lattice_pitch_voxels=list(pitch), lattice_rms_error=error)
        yield problem.progress("done", 1.0, error)

    # ---- the steps -----------------------------------------------------------------------------------------------

    def _passes(self) -> int:
        return self.options.passes or (12 if self.problem.pixels <= SMALL_SCAN else 9)

    def _steer(
        self, stacks: list[SliceStack], guess: PriorVolume, passes: int, weights: torch.Tensor | None = None
    ) -> Iterator[tuple[float, float]]:
        """Fit steered Gaussians to slices; leaves them in `self.parameters`, yields (fraction done, loss)."""
        problem = self.problem
        pixels = sum(stack.pixels.size for stack in stacks)
        small = self.problem.pixels <= SMALL_SCAN
        count = self.options.gaussians or int(np.clip(pixels // (2 if small else 4), 20_000, 400_000))
        start = steered_gaussians(guess, problem.low, problem.high, count, WIDTH, problem.seed)
        optimiser = FieldOptimiser(start.to(problem.device))
        self.parameters = optimiser.parameters
        distance = (abs(np.linalg.det(guess.ijk_to_ras[:3, :3])) * guess.pixels.size / start.shape[1]) ** (
            1 / 3
        )
        slices = SlicePasses(
            stacks,
            problem.low,
            problem.high,
            problem.device,
            PIXELS_PER_PASS,
            STEPS_PER_PASS,
            problem.seed,
            weights,
        )
        for n in range(passes):
            loss = 0.0
            for step, (batch, target, weight) in enumerate(slices.draw()):
                fall = 10 ** -((n + step / STEPS_PER_PASS) / passes)
                rates = Rates(
                    RATES.means * distance * fall,
                    RATES.diagonal * fall,
                    RATES.off_diagonal / distance * fall,
                    RATES.colours * fall,
                    RATES.amplitudes * fall,
                )
                similarity = SSIM_WEIGHT if slices.stride == 1 else 0.0
                loss += optimiser.step(batch, target, weight, rates, similarity, SOFTNESS) / STEPS_PER_PASS
            yield (n + 1) / passes, loss

    def _blended(self, stacks: list[SliceStack], guess: PriorVolume, blend: float) -> PriorVolume:
        """The guess with `blend` of the steered field mixed in, where the field has Gaussians and the slices say nothing."""
        problem = self.problem
        if blend <= 0 or self.parameters is None:
            return guess
        planes = VolumePlanes(guess, problem.low, problem.high, problem.device)
        pixels = guess.pixels.copy()
        for first in range(0, len(pixels), PLANES_PER_CHUNK):
            part = pixels[first : first + PLANES_PER_CHUNK]
            batch, target = planes.draw(0, range(first, first + len(part)))
            image, _, density = batch.render(self.parameters)
            difference = torch.where(density[0] > 100 * BACKGROUND, image - target, 0.0)
            part += (blend * (problem.high - problem.low)) * difference.reshape(part.shape).cpu().numpy()
        return agree(replace(guess, pixels=pixels), stacks)

    def _probe(self) -> float:
        """Leave slices out of a small part of the scan, fit the rest, and see what helps on them.

        Returns:
            The least-squares weight of the steered field. The report gets the errors on the left-out slices.
        """
        problem = self.problem
        part = probe_stack(max(problem.stacks, key=lambda stack: stack.pixels.size))
        if part is None:
            problem.report["held_out"] = None
            return LARGEST_BLEND
        held = np.zeros(len(part.pixels), bool)
        held[2:-2:4] = True
        rest, left_out = part.subset(~held), part.subset(held)
        guess, _ = make_guess(
            [rest], self.options.prior, problem.low, problem.high, problem.device, problem.seed
        )
        for _ in self._steer([rest], guess, max(self._passes() // 2, 1)):
            pass
        assert self.parameters is not None
        scale = problem.high - problem.low
        blended = self._blended([rest], guess, 1.0)
        self.parameters = None
        cubic = SplineInterpolator(rest)
        target = ((left_out.pixels - problem.low) / scale).ravel()
        guessed, fitted, spline = (
            (np.stack([sample(plane) for plane in left_out.planes()]).ravel() - problem.low) / scale
            for sample in (guess.sample, blended.sample, cubic.render)
        )
        valid = np.isfinite(guessed) & np.isfinite(spline)
        target, guessed, spline, fitted = target[valid], guessed[valid], spline[valid], fitted[valid]
        difference = fitted - guessed
        power = float(difference @ difference)
        blend = (
            float(np.clip((target - guessed) @ difference / power, 0.0, LARGEST_BLEND)) if power > 0 else 0.0
        )
        if blend < SMALLEST_BLEND:
            blend = 0.0
        problem.held_out_psnr = _psnr(guessed + blend * difference, target)
        problem.report["held_out"] = {
            "slices": int(held.sum()),
            "psnr_db": round(problem.held_out_psnr, 3),
            "prior_psnr_db": round(_psnr(guessed, target), 3),
            "spline_psnr_db": round(_psnr(spline, target), 3),
            "rmse": round(float(np.sqrt(np.mean((guessed + blend * difference - target) ** 2)) * scale), 4),
            "note": "each left-out slice lies in a gap of twice the spacing: errors between acquired slices are smaller",
        }
        return blend


def probe_stack(stack: SliceStack, side: int = 72, slices: int = 14) -> SliceStack | None:
    """The middle of a stack, at most `slices` of `side` x `side` pixels; None when it has too few."""
    count, rows, columns = stack.shape
    if count < 7:
        return None
    first = max((count - slices) // 2, 0)
    part = stack.subset(np.arange(first, min(first + slices, count)))
    j, i = max((rows - side) // 2, 0), max((columns - side) // 2, 0)
    part = part.window(slice(j, min(j + side, rows)), slice(i, min(i + side, columns)))
    return part if part.pixels.std() > 0 else None


def _psnr(image: np.ndarray, target: np.ndarray) -> float:
    """dB at a data range of 1, at most 120: reports are JSON, which has no infinity."""
    return min(psnr(image, target, data_range=1.0), 120.0)
