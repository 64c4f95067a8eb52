"""What the intensities of slices say of themselves: their range, and their noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError


def intensity_range(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """Intensities taken as 0 and 1: the 0.1 and 99.9 percentiles; refuses an image without contrast."""
    sample = pixels.reshape(-1)
    sample = sample[:: max(1, sample.size // 500_000)]
    low, high = (float(v) for v in np.percentile(sample, (0.1, 99.9)))
    if not high > low:
        low, high = float(pixels.min()), float(pixels.max())
    if not high > low:
        raise GaussianMRIError(
            f"All pixels have the value {low:g}: there is nothing to fit. Check that this is the right series."
        )
    return low, high


def noise_level(slices: NDArray[np.float32]) -> float:
    """Standard deviation of white noise in (K, rows, columns), from the diagonal high pass of the brighter pixels."""
    blocks = slices[:, : slices.shape[1] // 2 * 2, : slices.shape[2] // 2 * 2]
    a, b, c, d = blocks[:, ::2, ::2], blocks[:, 1::2, ::2], blocks[:, ::2, 1::2], blocks[:, 1::2, 1::2]
    high_pass = (a - b - c + d) / 2
    bright = (a + b + c + d) / 4 > 0.1
    values = np.abs(high_pass[bright] if bright.sum() > 100 else high_pass)
    return float(np.median(values) / 0.6745) if values.size else 0.01
