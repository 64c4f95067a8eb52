"""What a scan says of its own fit: slices are left out of a small part of it and predicted from the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..baselines import SplineInterpolator
from ..geometry import ImagePlane
from ..metrics import psnr
from ..stacks import SliceStack
from ..volumes import Volume

#: The probe's gaps are twice as wide as the scan's, and there the blend helps more than it does in the scan: hence
#: the ceiling, the best weight on simulated scans. Less than the least is not worth its time.
LARGEST_BLEND, SMALLEST_BLEND = 0.6, 0.05


@dataclass(frozen=True)
class Probe:
    """A part of a scan in two: `rest` to fit, `left_out` to predict."""

    rest: SliceStack
    left_out: SliceStack

    @classmethod
    def of(cls, stack: SliceStack, side: int = 72, slices: int = 14) -> Probe | None:
        """The middle of a stack, at most `slices` of `side` x `side` pixels; None when it has too few or no contrast."""
        count, rows, columns = stack.shape
        if count < 7:
            return None
        first = max((count - slices) // 2, 0)
        part = stack.subset(np.arange(first, min(first + slices, count)))
        j, i = max((rows - side) // 2, 0), max((columns - side) // 2, 0)
        part = part.window(slice(j, min(j + side, rows)), slice(i, min(i + side, columns)))
        if not part.pixels.std() > 0:
            return None
        held = np.zeros(len(part.pixels), bool)
        held[2:-2:4] = True
        return cls(part.subset(~held), part.subset(held))

    def judge(
        self, guess: Volume, blended: Volume, low: float, high: float
    ) -> tuple[float, dict[str, object]]:
        """The weight of `blended` against `guess`, and the errors with it.

        Args:
            guess, blended: predictions from `rest`.
            low, high: intensities of normalised 0 and 1.

        Returns:
            The least-squares weight, 0 to `LARGEST_BLEND`, and facts for the report.
        """

        def predicted(sample: Callable[[ImagePlane], NDArray[np.float32]]) -> NDArray[np.float32]:
            images = [sample(plane) for plane in self.left_out.planes()]
            return (np.stack(images).ravel() - low) / (high - low)

        target = (self.left_out.pixels.ravel() - low) / (high - low)
        guessed, fitted = predicted(guess.sample), predicted(blended.sample)
        spline = predicted(SplineInterpolator(self.rest).render)
        valid = np.isfinite(guessed) & np.isfinite(spline)
        target, guessed, fitted, spline = target[valid], guessed[valid], fitted[valid], spline[valid]
        change = fitted - guessed
        power = float(change @ change)
        blend = float(np.clip((target - guessed) @ change / power, 0, LARGEST_BLEND)) if power > 0 else 0.0
        if blend < SMALLEST_BLEND:
            blend = 0.0
        result = guessed + blend * change
        return blend, {
            "slices": len(self.left_out.pixels),
            "psnr_db": round(_psnr(result, target), 3),
            "prior_psnr_db": round(_psnr(guessed, target), 3),
            "spline_psnr_db": round(_psnr(spline, target), 3),
            "rmse": round(float(np.sqrt(np.mean((result - target) ** 2)) * (high - low)), 4),
            "note": "each left-out slice lies in a gap of twice the spacing: errors between acquired slices are smaller",
        }


def _psnr(image: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    """dB at a data range of 1, at most 120: reports are JSON, which has no infinity."""
    return min(psnr(image, target, data_range=1.0), 120.0)
