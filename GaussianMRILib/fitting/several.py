"""Several acquisitions: where they lie, how their intensities relate, and how they are put together.

Each step is taken only as far as slices that were left out agree (`left_out.py`), and the report says what was found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stacks import SliceStack
from .fusion import FUSIONS, STEERED, Choice
from .left_out import AS_GOOD_DB, Judge, Verdict
from .parts import Part
from .problem import Problem, Progress
from .registration import register_stacks

#: Shading has to gain so much on left-out slices: it is one more thing that can go wrong.
SHADING_GAIN_DB = 0.05

log = logging.getLogger("GaussianMRI")


@dataclass
class Decision:
    """What left-out slices say.

    Attributes:
        choice: how the parts are put together.
        shading: whether their gains vary over the body.
        shares: of each part on planes like its own slices; None: it is the body, and needs no view; empty: none has one.
        on_slices: whether these planes show the part alone where it has a slice.
    """

    choice: Choice
    shading: bool = False
    shares: tuple[float | None, ...] = ()
    on_slices: bool = True


class Several:
    """Decides for the acquisitions of a problem; registration moves its stacks.

    Args:
        problem: whose report gets "registration", "motions", "shading" and "fusion".
        anchor: number of the stack that keeps its place and its intensities.
        guessed: fills in the lattices of a part from a first guess by the prior that is named.
        prior: of the guesses between which the ways to fuse are told apart.
        moved: whether slices have been moved one by one already.
        end: the share of the whole fit at which this ends.
    """

    def __init__(
        self,
        problem: Problem,
        anchor: int,
        guessed: Callable[[Part, str], None],
        *,
        prior: str,
        moved: bool,
        end: float,
    ) -> None:
        self.problem, self.anchor, self.guessed = problem, anchor, guessed
        self.prior, self.moved, self.end = prior, moved, end

    def decide(self, register: bool, fusion: str) -> Generator[Progress, None, Decision]:
        """Register if asked, correct shading where it helps, and choose the way to fuse, `fusion` if it is not "auto"."""
        problem = self.problem
        judge = self._judge("spline") if not register or self.moved else (yield from self._register())
        yield problem.progress("comparing intensities on left-out slices", 0.1)
        shading = False
        if judge is not None:
            plain, shaded = self._mean_score(judge), self._mean_score(judge, shading=True)
            shading = shaded > plain + SHADING_GAIN_DB
            problem.report["shading"] = {
                "corrected": shading,
                "psnr_db": {"one gain": round(plain, 3), "smooth gain": round(shaded, 3)},
            }
        if fusion != "auto":
            return Decision(Choice(fusion), shading)
        stage, begin = "comparing ways to fuse on left-out slices", 0.12

        def report(share: float) -> Progress:
            return problem.progress(stage, begin + (self.end - begin) * share)

        yield report(0.0)
        judge = self._judge(self.prior)
        verdict = None
        if judge is not None:
            verdict = judge.verdict(FUSIONS, shading=shading, progress=lambda share: report(0.7 * share))
            if verdict.choice.method == "joint":
                yield report(0.7)
                more = judge.verdict((STEERED,), shading=shading, progress=lambda share: report(0.7 + 0.3 * share))
                verdict = verdict.with_more(more)
        problem.report["fusion"] = described(verdict, problem.stacks)
        log.info("%s", problem.report["fusion"]["note"])
        if verdict is None:
            return Decision(Choice("mean"), shading)
        shares = verdict.shares[verdict.choice]
        own = tuple(None if n == verdict.choice.part else shares.get(n, 0.0) for n in range(len(problem.stacks)))
        return Decision(verdict.choice, shading, own, verdict.on_slices)

    def _judge(self, prior: str, stacks: Sequence[SliceStack] | None = None) -> Judge | None:
        stacks = self.problem.stacks if stacks is None else stacks
        return Judge.of(stacks, lambda part: self.guessed(part, prior), self.anchor, self.moved)

    def _register(self) -> Generator[Progress, None, Judge | None]:
        """The judge of the stacks where they are then."""
        problem = self.problem
        yield problem.progress("registering", 0.01)
        registration = register_stacks(
            problem.stacks, progress=lambda share: problem.progress("registering", 0.01 + 0.07 * share)
        )
        blocks = [block for stack in registration.report["stacks"] for block in stack["blocks"]]
        moved = any(block["accepted"] for block in blocks)
        yield problem.progress("checking the registration with left-out slices", 0.08)
        judge = self._judge("spline")
        if moved:
            there = self._judge("spline", registration.stacks)
            if judge is None or there is None or self._mean_score(there) >= self._mean_score(judge) - AS_GOOD_DB:
                problem.stacks, judge = registration.stacks, there
            else:
                moved = False
                for block in blocks:
                    if block["accepted"]:
                        block.update(accepted=False, note="left-out slices do not agree: " + block["note"])
        problem.report["registration"] = registration.report
        problem.report["motions"] = [
            [motion.tolist() if moved else np.eye(4).tolist() for motion in motions] for motions in registration.motions
        ]
        return judge

    def _mean_score(self, judge: Judge, shading: bool = False) -> float:
        """How well the mean of the parts, each by its spline, predicts left-out slices, dB."""
        latest = self.problem.latest
        assert latest is not None
        verdict = judge.verdict(
            ("mean",),
            shading=shading,
            levels=False,  # they would hide shading where both show the body, and it matters beyond as well
            progress=lambda share: self.problem.progress(latest.stage, latest.fraction),  # so that a cancel is heard
        )
        return verdict.psnr[Choice("mean")]


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
    own = {stacks[n].name: round(share, 3) for n, share in verdict.shares.get(verdict.choice, {}).items()}
    if any(own.values()):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in own.items() if share)
        note += f". Planes that lie like a series' own slices show that series by itself: {shares}"
    return {
        "method": verdict.choice.method,
        "part": None if verdict.choice.part is None else stacks[verdict.choice.part].name,
        "left_out_slices": verdict.slices,
        "psnr_db": {label[choice]: round(value, 3) for choice, value in verdict.psnr.items()},
        "psnr_db_by_part": {
            label[choice]: [round(value, 3) for value in values] for choice, values in verdict.by_part.items()
        },
        "own_share": own,
        "note": note,
    }
