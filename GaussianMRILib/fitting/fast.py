"""The default preset: seconds on a laptop, better than any interpolation.

Each acquisition is fitted alone:

1. A guess of the anatomy between the slices: the prior network (ridge filters without its weights), made consistent
   with the slices (`guess.py`).
2. Steered Gaussians, as many as there are cells of half the distance between slices, fitted to the slices through
   their profile from that guess for a few passes: more of either improves the slices and harms what lies between.
3. Guess and steered field err differently, so their blend is better than both; made to agree with the slices again, it
   takes from the field only what the slices leave open, and not the noise that the field has learned from them. Its
   weight is the least-squares one on slices that a small probe left out; a field that does not help there gets 0.
4. A lattice of Gaussians is solved for the blend: the field that is returned holds it by itself.

Several acquisitions are registered, brought to one scale and fused on one lattice (`several.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import GaussianMRIError
from ..gaussians import GaussianField, GaussianLattice
from ..gaussians.views import SeriesView
from ..geometry.affine import check_spacing
from ..stacks import SliceStack
from ..volumes import Volume, default_factor, intensity_range, noise_level
from .fusion import FUSIONS, STEERED, Choice, Fuser, angled, overlay_of
from .guess import Guesser
from .lattice import lattice_error, lattice_of_volume
from .memory import check_memory
from .parts import Part
from .probe import LARGEST_BLEND, Probe
from .problem import Problem, Progress
from .several import Decision, Several
from .steered import Effort, SteeredFit
from .views import series_views

#: Shares of a fit's time: registration and left-out slices of several acquisitions, each alone, and fusing them.
JUDGED, ALONE = 0.3, 0.75
#: Colours are kept in steps of this share of the noise, at least a 65536th of the range of intensities.
STEPS_PER_NOISE = 8

log = logging.getLogger("GaussianMRI")


@dataclass(kw_only=True)
class FastOptions:
    """Options of the preset.

    Attributes:
        prior: "auto", "network", "ridge" or "spline": how the first guess is made.
        gaussians: steered Gaussians of each acquisition; default: see `steered.Effort`.
        passes: over all slices; default: see `steered.Effort`.
        blend: weight of the steered field, 0 to 1; default: from left-out slices.
        register: whether several acquisitions are moved onto each other where left-out slices agree.
        fusion: how several acquisitions are put together: "auto" (by left-out slices), one of
            `fusion.FUSIONS`, or "steered".
        pitch: mm between the Gaussians of several acquisitions; default: see `parts.covering_lattice`.
    """

    prior: str = "auto"
    gaussians: int | None = None
    passes: int | None = None
    blend: float | None = None
    register: bool = True
    fusion: str = "auto"
    pitch: float | None = None


class FastFit:
    """The preset `fast`; `run` yields progress, `field` is the field so far."""

    def __init__(self, problem: Problem, refine: bool = False, **options: object) -> None:
        self.problem = problem
        self.options = FastOptions(**options)  # type: ignore[arg-type]
        if self.options.fusion not in ("auto", *FUSIONS, STEERED):
            raise GaussianMRIError(
                f"There is no fusion '{self.options.fusion}'; choose one of auto, {', '.join((*FUSIONS, STEERED))}."
            )
        if self.options.pitch is not None:
            check_spacing(self.options.pitch, "pitch of the Gaussians")
        self.refine = refine
        self.lattice: GaussianLattice | None = None
        self.views: tuple[SeriesView, ...] = ()
        self._steered: torch.Tensor | None = None

    def field(self) -> GaussianField | None:
        if self.lattice is not None:
            return self.problem.field(self.lattice.nodes.new_zeros(11, 0), self.lattice, self.views)
        return None if self._steered is None else self.problem.field(self._steered)

    def run(self) -> Iterator[Progress]:
        problem = self.problem
        needed = check_memory(problem.stacks, self.options.pitch, problem.device)
        log.info("The fit takes up to %.1f GB of memory.", needed / 1e9)
        problem.report["memory_gb"] = round(needed / 1e9, 2)
        weights = None
        if self.refine:
            from .refine import refine_stacks

            yield problem.progress("aligning slices", 0.0)
            problem.stacks, weights, problem.report["refinement"] = refine_stacks(
                problem.stacks,
                problem.low,
                problem.high,
                lambda share: problem.progress("aligning slices", 0.08 * share),
            )
            if note := problem.report["refinement"].get("note"):
                problem.warn(f"refine: {note}")
        several = len(problem.stacks) > 1
        decision, anchor = Decision(Choice("mean")), 0
        if several:
            # The stack with the most pixels keeps its place and its intensities.
            anchor = int(np.argmax([stack.pixels.size for stack in problem.stacks]))
            problem.low, problem.high = intensity_range(problem.stacks[anchor].pixels)
            together = Several(
                problem, anchor, self._guessed, prior=self.options.prior, moved=self.refine, end=JUDGED
            )
            decision = yield from together.decide(self.options.register, self.options.fusion)
        yield problem.progress("probing with left-out slices", JUDGED if several else 0.02)
        blend = self._blend()
        parts = [Part.of(stack, moved=self.refine) for stack in problem.stacks]
        if not several:
            parts[0].low, parts[0].high = problem.low, problem.high
        total, done = sum(part.pixels for part in parts), 0
        first, last = (JUDGED + 0.03, ALONE) if several else (0.1, 0.95)
        for part, weight in zip(parts, self._split(weights), strict=True):
            here = (first + (last - first) * done / total, first + (last - first) * (done + part.pixels) / total)
            yield from self._alone(part, blend, here, weight)
            done += part.pixels
        problem.report.update(blend=round(blend, 4))

        def fusing(share: float) -> None:
            problem.progress("fusing", last + (0.99 - last) * share)

        if several or len(parts[0].groups) > 1:
            yield problem.progress("fusing", last)
            overlay = overlay_of(parts, anchor, self.options.pitch, decision.shading)
            if decision.shading:
                ranges = {part.name: part.scale.range for part in parts if part.scale.knots is not None}
                problem.report["shading"]["gain"] = ranges

            if several:
                fused = Fuser(parts, overlay, fusing, problem.seed).fuse(decision.choice)
            else:
                fused = angled(parts[0], overlay, fusing)
            del overlay
        else:
            fused = parts[0].lattices[0]
            if self.options.pitch is not None:
                problem.warn("pitch: it is unused, since a series alone keeps the lattice of its own pixels")
        noise = noise_level((problem.stacks[0].pixels - problem.low) / (problem.high - problem.low))
        problem.report["noise"] = round(noise, 5)
        step = max(noise / STEPS_PER_NOISE, 2.0**-16)
        if decision.shares:
            self.views = series_views(
                parts, decision.shares, fused, step, lambda: fusing(1.0), on_slices=decision.on_slices
            )
        self.lattice = fused.rounded(step)
        self._steered = None
        problem.report["lattice_pitch_mm"] = [round(float(v), 4) for v in self.lattice.pitch]
        yield problem.progress("done", 1.0)

    # ---- one acquisition

    def _guessed(self, part: Part, prior: str) -> None:
        """The part's lattices from its first guess."""
        for block in part.blocks:
            guesser = self._guesser(block, prior, part)
            part.lattices.append(self._lattice(guesser.guess(), block, part))

    def _alone(
        self, part: Part, blend: float, here: tuple[float, float], weights: torch.Tensor | None
    ) -> Iterator[Progress]:
        """The part's lattices from guess and steered Gaussians; `here` are fractions of the whole fit."""
        problem, options = self.problem, self.options
        start, span, first = here[0], (here[1] - here[0]) / part.pixels, 0
        for block in part.blocks:
            a = start + span * first
            b = a + span * block.pixels.size

            def between(share: float, a: float = a, b: float = b) -> float:
                return a + (b - a) * share

            yield problem.progress("guessing between slices", a)
            effort = Effort.of([block], options.gaussians, options.passes)
            guesser = self._guesser(block, options.prior, part, effort.turns, (between(0.0), between(0.5)))
            guess = guesser.guess()
            problem.report["prior"] = guesser.kind
            own = None if weights is None else weights[first : first + block.pixels.size]
            for number in range(effort.rounds if blend > 0 and len(block.pixels) > 2 else 0):
                yield problem.progress("placing Gaussians", between(0.5 + 0.4 * number / effort.rounds))
                steered = SteeredFit(effort, part.low, part.high, problem.device, problem.seed)
                for done, loss in steered.run([block], guess, own):
                    self._steered = steered.parameters
                    fraction = between(0.5 + 0.4 * (number + done) / effort.rounds)
                    yield problem.progress("fitting to slices", fraction, loss)
                guess = guesser.agree(steered.blended(guess, blend))
            yield problem.progress("solving the field", between(0.9))
            part.lattices.append(self._lattice(guess, block, part))
            error = lattice_error(part.lattices[-1], guess, part.low, part.high)
            problem.report["lattice_rms_error"] = error
            first += block.pixels.size

    def _lattice(self, volume: Volume, block: SliceStack, part: Part) -> GaussianLattice:
        lattice = lattice_of_volume(volume, part.low, part.high, 2 if default_factor(block) > 2 else 1)
        return lattice.to(self.problem.device)

    def _blend(self) -> float:
        """The weight of the steered field that helps on left-out slices; the report gets the errors on them."""
        problem, options = self.problem, self.options
        if options.blend is not None:
            return options.blend
        blocks = [(block, whole.name) for whole in problem.stacks for block in self._blocks(whole)]
        stack, name = max(blocks, key=lambda pair: pair[0].pixels.size)
        probe = Probe.of(stack)
        if probe is None:
            problem.report["held_out"] = None
            return LARGEST_BLEND
        effort = Effort.of([stack], options.gaussians, options.passes)
        low, high = (problem.low, problem.high) if len(problem.stacks) == 1 else intensity_range(stack.pixels)
        part = Part.of(probe.rest, low, high)
        guesser = self._guesser(probe.rest, options.prior, part)
        guess = guesser.guess()
        half = replace(effort, passes=(effort.passes + 1) // 2)
        steered = SteeredFit(half, low, high, problem.device, problem.seed)
        for _ in steered.run([probe.rest], guess):
            problem.progress("probing with left-out slices", problem.latest.fraction if problem.latest else 0.0)
        blended = guesser.agree(steered.blended(guess, 1.0))
        blend, held_out = probe.judge(guess, blended, low, high)
        problem.report["held_out"] = {"stack": name, **held_out}
        return blend

    def _blocks(self, stack: SliceStack) -> list[SliceStack]:
        return (Part.of(stack, 0.0, 1.0, self.refine).blocks or stack.blocks()) if self.refine else stack.blocks()

    def _split(self, weights: torch.Tensor | None) -> list[torch.Tensor | None]:
        """Weights of all pixels, one tensor a stack."""
        if weights is None:
            return [None] * len(self.problem.stacks)
        return list(weights.split([stack.pixels.size for stack in self.problem.stacks]))

    def _guesser(
        self, block: SliceStack, prior: str, part: Part, turns: int = 1, here: tuple[float, float] | None = None
    ) -> Guesser:
        """Its progress runs between two fractions of the fit; without them it only hears a cancel."""
        problem = self.problem

        def report(share: float) -> None:
            now = problem.latest
            if here is not None:
                problem.progress("guessing between slices", here[0] + (here[1] - here[0]) * share)
            elif now is not None:
                problem.progress(now.stage, now.fraction, now.loss)

        return Guesser(block, prior, part.low, part.high, problem.device, problem.seed, turns, report)
