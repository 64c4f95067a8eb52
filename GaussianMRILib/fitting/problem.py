"""What every preset needs to know of a fit: the slices, their intensities, the device, where the field will hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..device import choose_device
from ..errors import GaussianMRIError
from ..gaussians import BACKGROUND, GaussianField, GaussianLattice, PlaneBatch
from ..gaussians.lattice import FULL_DENSITY
from ..gaussians.views import SeriesView
from ..stacks import (
    SliceStack,
    apart,
    as_stacks,
    check_depth,
    check_same_contrast,
    check_same_frame,
    check_same_patient,
    copies,
    hulls_of,
    in_one_frame,
)
from ..version import __version__
from ..volumes import intensity_range
from .quality import Quality

log = logging.getLogger("GaussianMRI")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report of a running fit.

    Attributes:
        stage: what is being done, for people ("prior", "fitting", ...).
        fraction: 0 to 1 of the whole fit.
        loss: training loss, or None before there is one.
        held_out_psnr: dB on left-out slices, see `quality.Quality`, or None where not measured (yet).
        elapsed: seconds since the fit began.
    """

    stage: str
    fraction: float
    loss: float | None
    held_out_psnr: float | None
    elapsed: float


@dataclass
class Problem:
    """A fit to be done.

    Attributes:
        stacks: cropped to the region of interest.
        low, high: intensities of normalised 0 and 1.
        device, seed: of the computation.
        report: facts that end up in the field.
        latest: the last progress, also from within a step.
        cancelled: set from any thread; the next `check` then raises.
    """

    stacks: list[SliceStack]
    low: float
    high: float
    device: torch.device
    seed: int
    report: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    latest: Progress | None = None
    cancelled: bool = False

    @classmethod
    def pose(
        cls,
        stacks: Sequence[SliceStack] | SliceStack,
        preset: str,
        seed: int,
        device: str | torch.device,
        roi: ArrayLike | None,
        *,
        same_frame: bool = False,
        any_contrast: bool = False,
    ) -> Problem:
        """Check the input and set up the problem.

        A stack without contrast (every pixel the same) and one whose slices are those of another are left out, and stacks
        that have no place in common are fitted all the same; the log and `report["warnings"]` say so.

        Args:
            stacks: one or several, of one patient and study, in one frame of reference, of one contrast.
            preset: for the report.
            seed: of everything random.
            device: "cpu", "cuda" or "auto" (CUDA when there is one).
            roi: None, or a box in RAS mm: ((R0, R1), (A0, A1), (S0, S1)).
            same_frame: trust the positions of stacks of one study whose frames of reference differ; the report then has
                "same_frame", a sentence on which.
            any_contrast: take stacks whose headers say that their contrasts differ.

        Raises:
            GaussianMRIError: no stacks, different patients, studies, frames of reference or contrasts, pixels without
                contrast, a box without pixels, no such device.
        """
        chosen = as_stacks(stacks)
        if not isinstance(seed, (int, np.integer)):
            raise GaussianMRIError(f"The seed must be a whole number, got {seed!r}.")
        if not chosen:
            raise GaussianMRIError("There are no stacks to fit; read_stacks() found none or none was chosen.")
        check_same_patient(chosen)
        trusted = check_same_frame(chosen, same_frame=same_frame)
        if trusted:
            log.info("The %s.", trusted)
            # From here on they are in one frame, which every later step would otherwise refuse.
            chosen = in_one_frame(chosen)
        if not any_contrast:
            check_same_contrast(chosen)
        chosen, warnings = _measured_once(chosen)
        if roi is not None:
            chosen = [
                part for part in (crop(stack, np.asarray(roi, float)) for stack in chosen) if part is not None
            ]
            if not chosen:
                raise GaussianMRIError(
                    f"The region of interest {np.asarray(roi).tolist()} (RAS mm) contains no acquired pixels."
                )
        chosen, odd = _usable(chosen)
        warnings += odd
        for warning in warnings:
            _log_warning(warning)
        if sum(len(stack.pixels) for stack in chosen) < 2:
            raise GaussianMRIError(
                "One slice cannot be fitted: nothing is known beside it. Give at least two slices."
            )
        check_depth(chosen)
        low, high = intensity_range(np.concatenate([stack.pixels.reshape(-1) for stack in chosen]))
        problem = cls(chosen, low, high, choose_device(device), int(seed))
        problem.report.update(
            preset=preset,
            seed=int(seed),
            version=__version__,
            device=str(problem.device),
            torch=torch.__version__,
            stacks=[
                {
                    "name": stack.name,
                    "shape": list(stack.shape),
                    "pixel_spacing_mm": [round(v, 4) for v in stack.pixel_spacing],
                    "spacing_mm": round(stack.spacing, 4),
                    "thickness_mm": round(stack.thickness, 4),
                    "notes": list(stack.notes),
                    "series": stack.series_digest,
                }
                for stack in chosen
            ],
        )
        if trusted:
            problem.report["same_frame"] = trusted
        if warnings:
            problem.report["warnings"] = warnings
        return problem

    def check(self) -> None:
        """Raises GaussianMRIError where the fit was cancelled."""
        if self.cancelled:
            raise GaussianMRIError("The fit was cancelled.")

    def warn(self, text: str) -> None:
        """A warning for the log and for `report["warnings"]`; `text` begins in lower case and has no full stop."""
        _log_warning(text)
        self.report.setdefault("warnings", []).append(text)

    def progress(self, stage: str, fraction: float, loss: float | None = None) -> Progress:
        """The state of the fit, which is also kept as `latest`.

        Raises:
            GaussianMRIError: the fit was cancelled.
        """
        self.check()
        elapsed, quality = time.perf_counter() - self.started, Quality.of(self.report)
        psnr = None if quality is None else quality.psnr
        self.latest = Progress(stage=stage, fraction=fraction, loss=loss, held_out_psnr=psnr, elapsed=elapsed)
        return self.latest

    def field(
        self,
        parameters: torch.Tensor,
        lattice: GaussianLattice | None = None,
        views: tuple[SeriesView, ...] = (),
    ) -> GaussianField:
        """The field of these parameters, which are copied: the fit may go on."""
        shapes = [stack.shape[1:] for stack in self.stacks for _ in stack.pixels]
        frames = [stack.frame_of_reference for stack in self.stacks if stack.frame_of_reference]
        if lattice is not None:
            support, count = FULL_DENSITY, len(lattice) + parameters.shape[1]
        else:
            plane = self.stacks[0].plane(len(self.stacks[0].pixels) // 2)
            batch = PlaneBatch.from_planes([plane], device=parameters.device, profile=False)
            with torch.no_grad():
                _, _, density = batch.render(parameters)
            support, count = max(float(density.median()) - BACKGROUND, BACKGROUND), parameters.shape[1]
        report = dict(
            self.report,
            support_median=support,
            gaussians=int(count),
            elapsed_s=round(time.perf_counter() - self.started, 3),
        )
        return GaussianField(
            parameters.detach().clone(),
            self.low,
            self.high - self.low,
            hulls_of(self.stacks),
            np.concatenate([stack.ijk_to_ras for stack in self.stacks]),
            np.array(shapes, np.int32),
            frames[0] if frames else None,
            report,
            lattice=lattice,
            views=views,
        )


def _measured_once(stacks: list[SliceStack]) -> tuple[list[SliceStack], list[str]]:
    """The stacks without copies of others, and warnings that name these.

    Slices that are left out of a stack would be predicted by their copies: fusing would seem to gain what it does not.
    """
    same = copies(stacks)
    warnings = [
        f"left out, because its slices are those of {stacks[original].name}: {stacks[n].name}"
        for n, original in same.items()
    ]
    return [stack for n, stack in enumerate(stacks) if n not in same], warnings


def _usable(stacks: list[SliceStack]) -> tuple[list[SliceStack], list[str]]:
    """The stacks that can be fitted, and warnings on what is odd about them."""
    warnings = []
    kept = [stack for stack in stacks if float(np.ptp(stack.pixels)) > 0]
    if kept and len(kept) < len(stacks):
        names = ", ".join(stack.name for stack in stacks if not any(stack is other for other in kept))
        warnings.append(f"left out, because every pixel has the same value: {names}")
    stacks = kept or stacks  # without any contrast the range of intensities says so
    groups = apart(stacks) if len(stacks) > 1 else []
    if len(groups) > 1:
        text = " | ".join(", ".join(stack.name for stack in group) for group in groups)
        warnings.append(
            f"these stacks show no place in common, so nothing is gained from fitting them together: {text}"
        )
    return stacks, warnings


def _log_warning(text: str) -> None:
    log.warning("%s.", text[0].upper() + text[1:])


def crop(stack: SliceStack, box: np.ndarray) -> SliceStack | None:
    """The rows, columns and slices of a stack that a box ((R0, R1), (A0, A1), (S0, S1)) in RAS mm touches; None if none."""
    if box.shape != (3, 2) or not np.isfinite(box).all():
        raise GaussianMRIError(
            f"A region of interest is ((R0, R1), (A0, A1), (S0, S1)) in RAS mm, got {box.tolist()}."
        )
    low, high = box.min(axis=1), box.max(axis=1)
    corners = np.array(
        [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
    )
    _, rows, columns = stack.shape
    inverse = np.linalg.inv(stack.ijk_to_ras)
    index = np.einsum("kab,cb->kca", inverse[:, :3, :3], corners) + inverse[:, None, :3, 3]
    first, last = index.min(axis=1), index.max(axis=1)  # (K, 3): i, j in pixels, distance in mm
    half = np.maximum(stack.slice_thickness, stack.spacing) / 2
    kept = np.flatnonzero((first[:, 2] <= half) & (last[:, 2] >= -half))
    if not len(kept):
        return None
    i0, j0 = np.floor(first[kept, :2].min(axis=0)).astype(int).clip(0)
    i1, j1 = np.minimum(np.ceil(last[kept, :2].max(axis=0)).astype(int) + 1, (columns, rows))
    if i1 - i0 < 2 or j1 - j0 < 2:
        return None
    return stack.subset(kept).window(slice(j0, j1), slice(i0, i1))
