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

Several acquisitions are registered (`registration.py`) and fused on one lattice (`fusion.py`); both only as far as slices
that were left out agree (`left_out.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import GaussianMRIError
from ..gaussians import GaussianField, GaussianLattice
from ..priors.consistency import default_factor
from ..priors.network_prior import intensity_range, noise_level
from ..priors.volume import PriorVolume
from ..stacks import SliceStack
from .fusion import METHODS, Choice, Fuser, angled, overlay_of
from .guess import Guesser
from .lattice import lattice_error, lattice_of_volume
from .left_out import AS_GOOD_DB, Verdict, judge
from .memory import check_memory
from .parts import Part
from .probe import LARGEST_BLEND, Probe
from .problem import Problem, Progress
from .registration import Registration, register_stacks
from .steered import Effort, SteeredFit

#: Shares of a fit's time: registration and left-out slices of several acquisitions, each alone, and fusing them.
JUDGED, ALONE = 0.3, 0.75
#: Colours are kept in steps of this share of the noise, at least a 65536th of the range of intensities.
STEPS_PER_NOISE = 8

log = logging.getLogger("GaussianMRI")


@dataclass
class FastOptions:
    """Options of the preset.

    Attributes:
        prior: "auto", "network", "ridge" or "spline": how the first guess is made.
        gaussians: steered Gaussians of each acquisition; default: see `steered.Effort`.
        passes: over all slices; default: see `steered.Effort`.
        blend: weight of the steered field, 0 to 1; default: from left-out slices.
        register: whether several acquisitions are moved onto each other where left-out slices agree.
        fusion: how several acquisitions are put together: "auto" (by left-out slices), or one of `fusion.METHODS`.
        pitch: mm between the Gaussians of several acquisitions; default: the smallest pixel.
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
        if self.options.fusion not in ("auto", *METHODS):
            raise GaussianMRIError(
                f"There is no fusion '{self.options.fusion}'; choose one of auto, {', '.join(METHODS)}."
            )
        self.refine = refine
        self.lattice: GaussianLattice | None = None
        self._steered: torch.Tensor | None = None

    def field(self) -> GaussianField | None:
        if self.lattice is not None:
            return self.problem.field(torch.zeros(11, 0), self.lattice)
        return None if self._steered is None else self.problem.field(self._steered)

    def run(self) -> Iterator[Progress]:
        problem = self.problem
        needed = check_memory(problem.stacks, self.options.pitch)
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
        several = len(problem.stacks) > 1
        choice = Choice("mean")
        if several:
            # The stack with the most pixels keeps its place and its intensities.
            anchor = int(np.argmax([stack.pixels.size for stack in problem.stacks]))
            problem.low, problem.high = intensity_range(problem.stacks[anchor].pixels)
            choice = yield from self._judge(anchor)
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
        if several or len(parts[0].groups) > 1:
            yield problem.progress("fusing", last)
            overlay = overlay_of(parts, anchor if several else 0, self.options.pitch)

            def fusing(share: float) -> None:
                problem.progress("fusing", last + (0.99 - last) * share)

            if several:
                self.lattice = Fuser(parts, overlay, fusing).fuse(choice)
            else:
                self.lattice = angled(parts[0], overlay, fusing)
        else:
            self.lattice = parts[0].lattices[0]
        noise = noise_level((problem.stacks[0].pixels - problem.low) / (problem.high - problem.low))
        problem.report["noise"] = round(noise, 5)
        self.lattice = self.lattice.rounded(max(noise / STEPS_PER_NOISE, 2.0**-16))
        self._steered = None
        problem.report["lattice_pitch_mm"] = [round(float(v), 4) for v in self.lattice.pitch]
        yield problem.progress("done", 1.0)

    # ---- several acquisitions

    def _judge(self, anchor: int) -> Generator[Progress, None, Choice]:
        """Register, and choose the way to fuse by left-out slices; the report says what was found."""
        problem, options = self.problem, self.options
        as_scanned = problem.stacks
        registration: Registration | None = None
        if options.register and not self.refine:
            yield problem.progress("registering", 0.01)
            registration = register_stacks(
                as_scanned, progress=lambda share: problem.progress("registering", 0.01 + 0.07 * share)
            )
        moved = registration is not None and any(
            block["accepted"] for stack in registration.report["stacks"] for block in stack["blocks"]
        )
        if registration is not None and moved:
            yield problem.progress("checking the registration with left-out slices", 0.08)
            if not self._registration_helps(as_scanned, registration.stacks, anchor):
                moved = False
                for stack in registration.report["stacks"]:
                    for block in stack["blocks"]:
                        if block["accepted"]:
                            block.update(accepted=False, note="left-out slices do not agree: " + block["note"])
            else:
                problem.stacks = registration.stacks
        if registration is not None:
            problem.report["registration"] = registration.report
            problem.report["motions"] = [
                [motion.tolist() if moved else np.eye(4).tolist() for motion in motions] for motions in registration.motions
            ]
        if options.fusion != "auto":
            return Choice(options.fusion)
        yield problem.progress("comparing ways to fuse on left-out slices", 0.12)
        verdict = judge(
            problem.stacks, lambda part: self._guessed(part, options.prior), anchor, moved=self.refine,
            progress=lambda share: problem.progress(
                "comparing ways to fuse on left-out slices", 0.12 + (JUDGED - 0.12) * share
            ),
        )  # fmt: skip
        problem.report["fusion"] = described(verdict, problem.stacks)
        log.info("%s", problem.report["fusion"]["note"])
        return verdict.choice if verdict is not None else Choice("mean")

    def _registration_helps(
        self, as_scanned: list[SliceStack], moved: list[SliceStack], anchor: int
    ) -> bool:
        """Whether the mean of the parts, each by its spline, predicts left-out slices better where they were moved."""
        scores = [
            judge(stacks, lambda part: self._guessed(part, "spline"), anchor, methods=("mean",))
            for stacks in (as_scanned, moved)
        ]
        if scores[0] is None or scores[1] is None:
            return True
        return bool(scores[1].psnr[Choice("mean")] >= scores[0].psnr[Choice("mean")] - AS_GOOD_DB)

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
        inside = replace(problem, low=part.low, high=part.high)
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
                steered = SteeredFit(inside, effort)
                for done, loss in steered.run([block], guess, own):
                    self._steered = steered.parameters
                    fraction = between(0.5 + 0.4 * (number + done) / effort.rounds)
                    yield problem.progress("fitting to slices", fraction, loss)
                guess = steered.blended(guesser, guess, blend)
            yield problem.progress("solving the field", between(0.9))
            part.lattices.append(self._lattice(guess, block, part))
            error = lattice_error(part.lattices[-1], guess, part.low, part.high)
            problem.report["lattice_rms_error"] = error
            first += block.pixels.size

    def _lattice(self, volume: PriorVolume, block: SliceStack, part: Part) -> GaussianLattice:
        lattice = lattice_of_volume(volume, part.low, part.high, 2 if default_factor(block) > 2 else 1)
        return lattice.to(self.problem.device)

    def _blend(self) -> float:
        """The weight of the steered field that helps on left-out slices; the report gets the errors on them."""
        problem, options = self.problem, self.options
        if options.blend is not None:
            return options.blend
        stack = max((block for stack in problem.stacks for block in self._blocks(stack)), key=lambda s: s.pixels.size)
        probe = Probe.of(stack)
        if probe is None:
            problem.report["held_out"] = None
            return LARGEST_BLEND
        effort = Effort.of([stack], options.gaussians, options.passes)
        low, high = (problem.low, problem.high) if len(problem.stacks) == 1 else intensity_range(stack.pixels)
        part = Part.of(probe.rest, low, high)
        guesser = self._guesser(probe.rest, options.prior, part)
        guess = guesser.guess()
        inside = replace(problem, low=low, high=high)
        steered = SteeredFit(inside, replace(effort, passes=(effort.passes + 1) // 2))
        for _ in steered.run([probe.rest], guess):
            problem.progress("probing with left-out slices", problem.latest.fraction if problem.latest else 0.0)
        blended = steered.blended(guesser, guess, 1.0)
        blend, problem.report["held_out"] = probe.judge(guess, blended, low, high)
        problem.held_out_psnr = problem.report["held_out"]["psnr_db"]
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


def described(verdict: Verdict | None, stacks: list[SliceStack]) -> dict[str, Any]:
    """A verdict for the report: JSON types, with a sentence for people."""
    together = " + ".join(stack.name for stack in stacks)
    if verdict is None:
        return {
            "method": "mean",
            "note": f"{together}: the mean of the parts; no place that they share has slices to leave out, so nothing "
            "says whether that helps",
        }
    parts = [Part.of(stack) for stack in stacks]
    label = {choice: choice.label(parts) for choice in verdict.psnr}
    alone = {label[c]: value for c, value in verdict.psnr.items() if c.part is not None}
    best = verdict.psnr[verdict.choice]
    numbers = "; ".join(f"{name} {value:.1f}" for name, value in alone.items())
    if verdict.choice.part is None:
        note = f"{together}: {best:.1f} dB on {verdict.slices} left-out slices; {numbers}"
    else:
        note = (
            f"fusing {together} does not help on {verdict.slices} left-out slices; {label[verdict.choice]} is used where "
            f"it is: {numbers}"
        )
    return {
        "method": verdict.choice.method,
        "part": None if verdict.choice.part is None else stacks[verdict.choice.part].name,
        "left_out_slices": verdict.slices,
        "psnr_db": {label[choice]: round(value, 3) for choice, value in verdict.psnr.items()},
        "psnr_db_by_part": {
            label[choice]: [round(value, 3) for value in values] for choice, values in verdict.by_part.items()
        },
        "note": note,
    }
