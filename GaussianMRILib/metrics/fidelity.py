"""Fidelity of a resampled image: PSNR and SSIM, optionally weighted, and sharpness; blind to NaN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import GaussianMRIError

WINDOW = 11  # pixels, Wang et al. 2004
WINDOW_SIGMA = 1.5  # pixels
K1, K2 = 0.01, 0.03


def psnr(
    image: np.ndarray, truth: np.ndarray, *, weight: np.ndarray | None = None, data_range: float | None = None
) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(range^2 / weighted mean squared error).

    Args:
        image, truth: arrays of one shape; pixels that are NaN in either are ignored.
        weight: non-negative, same shape; e.g. `gaussian_weight_mask`. Default: 1 everywhere.
        data_range: intensity range; default: maximum - minimum of the valid pixels of `truth`.

    Returns:
        dB; infinity for identical images.

    Raises:
        GaussianMRIError: shapes differ, or no valid pixel has weight.
    """
    image, truth, weights = _prepare(image, truth, weight)
    error = np.where(weights > 0, image - truth, 0.0)
    mse = float((weights * error**2).sum() / weights.sum())
    data_range = _range(truth, weights, data_range)
    return float("inf") if mse == 0 else float(10 * np.log10(data_range**2 / mse))


def ssim(
    image: np.ndarray, truth: np.ndarray, *, weight: np.ndarray | None = None, data_range: float | None = None
) -> float:
    """Weighted mean of `ssim_map` over the valid pixels; arguments and errors as for `psnr`."""
    _, _, weights = _prepare(image, truth, weight)
    values = ssim_map(image, truth, data_range=_range(np.asarray(truth, dtype=np.float64), weights, data_range))
    return float(np.where(weights > 0, weights * np.nan_to_num(values), 0.0).sum() / weights.sum())


def ssim_map(image: np.ndarray, truth: np.ndarray, *, data_range: float = 1.0) -> np.ndarray:
    """Structural similarity of each pixel (Wang et al. 2004, eq. 13), float64, NaN where either image is.

    An 11x11 Gaussian window of sigma 1.5 pixels, biased moments. Pixels that are NaN or outside the image
    drop out of the window and its other weights are renormalised, so neither borders nor masks invent
    structure.

    Args:
        image, truth: (rows, columns), one shape.
        data_range: intensity range that scales the two stabilising constants.
    """
    image, truth, weights = _prepare(image, truth, None)
    valid = weights > 0
    x, y = np.where(valid, image, 0.0), np.where(valid, truth, 0.0)
    inside = np.maximum(_blur(valid.astype(np.float64)), 1e-12)
    mean_x, mean_y = _blur(x) / inside, _blur(y) / inside
    var_x = _blur(x * x) / inside - mean_x**2
    var_y = _blur(y * y) / inside - mean_y**2
    covariance = _blur(x * y) / inside - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    values = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return np.where(valid, values, np.nan)


def gradient_energy(image: np.ndarray, truth: np.ndarray) -> float:
    """How sharp an image is: the sum of its squared differences between neighbours over that of the truth.

    1 is as sharp as the truth; interpolation blurs (less), noise and ripples add (more).

    Args:
        image, truth: (rows, columns), one shape; pixels that are NaN in either are ignored.

    Raises:
        GaussianMRIError: shapes differ, no valid pixel, or a truth without differences.
    """
    image, truth, weights = _prepare(image, truth, None)
    valid = weights > 0
    sums = []
    for values in (image, truth):
        known = np.where(valid, values, np.nan)
        sums.append(sum(float(np.nansum(np.diff(known, axis=axis) ** 2)) for axis in (0, 1)))
    if sums[1] == 0:
        raise GaussianMRIError("The true image is the same everywhere, so no sharpness can be compared with it.")
    return sums[0] / sums[1]


def match_intensity(images: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Images after the one scale and offset that bring all of them nearest to the truths (least squares).

    Two series of a patient differ in their units; this makes them comparable.

    Args:
        images, truths: as many of one, of the same shapes; pixels that are NaN in either are ignored.

    Returns:
        float32, NaN where the image is.

    Raises:
        GaussianMRIError: no valid pixel in common.
    """
    pairs = [np.isfinite(a) & np.isfinite(b) for a, b in zip(images, truths, strict=True)]
    x = np.concatenate([image[both] for image, both in zip(images, pairs, strict=True)]).astype(np.float64)
    y = np.concatenate([image[both] for image, both in zip(truths, pairs, strict=True)]).astype(np.float64)
    if not x.size:
        raise GaussianMRIError(
            "The images to compare have no valid pixel in common (all are NaN or weigh 0)."
        )
    spread = float(((x - x.mean()) ** 2).mean())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else 0.0
    offset = float(y.mean()) - slope * float(x.mean())
    return [(slope * image + offset).astype(np.float32) for image in images]


def gaussian_weight_mask(
    shape: tuple[int, int], center: tuple[float, float], sigmas: tuple[float, float]
) -> np.ndarray:
    """Anisotropic Gaussian pixel weights around a region of interest (the seed paper's figure 9), peak 1.

    Args:
        shape: (rows, columns).
        center: (row, column) of the peak, pixels.
        sigmas: standard deviations along rows and columns, pixels.
    """
    if min(sigmas) <= 0:
        raise GaussianMRIError(f"The sigmas of a weight mask must be positive, got {sigmas}.")
    row = (np.arange(shape[0])[:, None] - center[0]) / sigmas[0]
    column = (np.arange(shape[1])[None, :] - center[1]) / sigmas[1]
    return np.exp(-0.5 * (row**2 + column**2))


def _blur(array: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    offset = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-0.5 * (offset / WINDOW_SIGMA) ** 2)
    window /= window.sum()
    for axis in (0, 1):
        array = correlate1d(array, window, axis=axis, mode="constant")
    return array


def _prepare(
    image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 images and weights that are zero wherever an image is not finite."""
    image, truth = np.asarray(image, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if image.shape != truth.shape:
        raise GaussianMRIError(f"Images to compare must have one shape, got {image.shape} and {truth.shape}.")
    weights = np.ones(truth.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if weights.shape != truth.shape:
        raise GaussianMRIError(
            f"The weight mask must have the images' shape {truth.shape}, got {weights.shape}."
        )
    if not (weights >= 0).all():
        raise GaussianMRIError("A weight mask must be finite and not negative.")
    weights = np.where(np.isfinite(image) & np.isfinite(truth), weights, 0.0)
    if weights.sum() == 0:
        raise GaussianMRIError(
            "The images to compare have no valid pixel in common (all are NaN or weigh 0)."
        )
    return image, truth, weights


def _range(truth: np.ndarray, weights: np.ndarray, data_range: float | None) -> float:
    if data_range is None:
        valid = truth[weights > 0]
        data_range = float(valid.max() - valid.min())
    if not data_range > 0:
        raise GaussianMRIError(f"The data range must be positive, got {data_range}; pass data_range.")
    return data_range
