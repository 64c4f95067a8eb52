"""`fit`, and the iterable behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from numpy.typing import ArrayLike

from ..errors import GaussianMRIError
from ..gaussians import GaussianField
from ..interruption import interruptible
from ..stacks import SliceStack
from .problem import Problem, Progress

PRESETS = ("fast", "paper")


class Fitter:
    """A fit as a loop: every step reports progress, and the field can be used whenever you stop.

    Example:
        >>> fitter = Fitter(stacks, preset="fast", seed=0)      # doctest: +SKIP
        >>> for progress in fitter:                             # doctest: +SKIP
        ...     print(f"{progress.stage} {progress.fraction:.0%}")
        >>> field = fitter.field                                # doctest: +SKIP

    Args:
        stacks: what `read_stacks` returned, or some of it; one frame of reference.
        preset: "fast" (steered Gaussians with a learned prior, seconds) or "paper" (the published recipe, minutes).
        seed: with the same seed and number of threads a CPU gives the same field, bit for bit; another number of
            threads, or a CPU with other instructions, changes the last digits only.
        device: "cpu", "cuda" or "auto".
        roi: box in RAS mm to fit, ((R0, R1), (A0, A1), (S0, S1)); default: everything.
        refine: correct slice-wise motion and intensity between slices (several stacks) before fitting.
        same_frame: trust the positions of stacks whose frames of reference differ, where they are of one study.
        any_contrast: take stacks whose DICOM headers say that they show different contrasts.
        first_guess: make the attribute of this name before all else.
        **options: of the preset: see `fitting.fast.FastOptions` and `fitting.paper.PaperOptions`.

    Attributes:
        first_guess: while the fit goes on, a GaussianField to look at: the slices interpolated by splines, nothing
            registered, of large scans with larger pixels. None before it is there, where it was not asked for, and from the
            fit's end on. It is no result, and cannot be saved.

    Raises:
        GaussianMRIError: input that cannot be fitted (see `Problem.pose`), an unknown preset or option.
    """

    def __init__(
        self,
        stacks: Sequence[SliceStack] | SliceStack,
        *,
        preset: str = "fast",
        seed: int = 0,
        device: str | torch.device = "cpu",
        roi: ArrayLike | None = None,
        refine: bool = False,
        same_frame: bool = False,
        any_contrast: bool = False,
        first_guess: bool = False,
        **options: object,
    ) -> None:
        if preset not in PRESETS:
            raise GaussianMRIError(f"There is no preset '{preset}'; choose one of {', '.join(PRESETS)}.")
        _check_options(preset, options)
        self.first_guess: GaussianField | None = None
        self._guesses = first_guess
        problem = Problem.pose(
            stacks, preset, seed, device, roi, same_frame=same_frame, any_contrast=any_contrast
        )
        try:
            if preset == "paper":
                from .paper import PaperFit

                self._fit: Any = PaperFit(problem, refine, **options)  # type: ignore[arg-type]
            else:
                from .fast import FastFit

                self._fit = FastFit(problem, refine, **options)
        except TypeError as error:
            raise GaussianMRIError(f"Preset '{preset}': {error}.") from error

    def __iter__(self) -> Iterator[Progress]:
        runs: Iterator[Progress] = self._run()
        while True:
            with interruptible(self._fit.problem.check):
                report = next(runs, None)
            if report is None:
                return
            yield report

    def _run(self) -> Iterator[Progress]:
        problem = self._fit.problem
        if self._guesses:
            from .first_guess import first_guess

            yield problem.progress("making a first guess", 0.0)
            self.first_guess = first_guess(problem)
        yield from self._fit.run()
        self.first_guess = None

    @property
    def progress(self) -> Progress | None:
        """The last progress, also from within a long step, for callers in another thread; None before the first."""
        latest: Progress | None = self._fit.problem.latest
        return latest

    def cancel(self) -> None:
        """End the fit, from any thread: within moments the loop raises `GaussianMRIError`."""
        self._fit.problem.cancelled = True

    @property
    def field(self) -> GaussianField:
        """The field as it stands.

        Raises:
            GaussianMRIError: the fit has not come far enough to have one.
        """
        field: GaussianField | None = self._fit.field()
        if field is None:
            raise GaussianMRIError("The fit was stopped before it had a field; let it run a moment longer.")
        return field


def _check_options(preset: str, options: Mapping[str, object]) -> None:
    """Refuse options that a preset has not, before anything is done."""
    if preset == "paper":
        from .paper import PaperOptions as Options
    else:
        from .fast import FastOptions as Options  # type: ignore[assignment]
    known = [field.name for field in fields(Options)]
    for name in options:
        if name not in known:
            raise GaussianMRIError(f"The preset '{preset}' has no option '{name}'; it has {', '.join(known)}.")


def fit(
    stacks: Sequence[SliceStack] | SliceStack,
    *,
    preset: str = "fast",
    seed: int = 0,
    device: str | torch.device = "cpu",
    roi: ArrayLike | None = None,
    refine: bool = False,
    progress: Callable[[Progress], object] | None = None,
    same_frame: bool = False,
    any_contrast: bool = False,
    **options: Any,
) -> GaussianField:
    """Fit 3D Gaussians to one or several stacks of slices; the arguments are those of `Fitter`.

    Args:
        progress: called after every step; when it returns False the fit stops and the field is returned as it stands.
    """
    fitter = Fitter(
        stacks,
        preset=preset,
        seed=seed,
        device=device,
        roi=roi,
        refine=refine,
        same_frame=same_frame,
        any_contrast=any_contrast,
        **options,
    )
    for report in fitter:
        if progress is not None and progress(report) is False:
            break
    return fitter.field
