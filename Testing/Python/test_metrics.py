"""PSNR, SSIM and weight masks against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.metrics import (
    gaussian_weight_mask,
    gradient_energy,
    match_intensity,
    psnr,
    ssim,
    ssim_map,
)


def images(shape: tuple[int, int] = (24, 31), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.random(shape)
    return truth + 0.1 * generator.normal(size=shape), truth


def brute_force_ssim(x: np.ndarray, y: np.ndarray, data_range: float) -> np.ndarray:
    """Wang et al. 2004, one window at a time, with the weights of missing pixels dropped."""
    distance = np.arange(-5, 6)
    window = np.exp(-(distance[:, None] ** 2 + distance[None, :] ** 2) / (2 * 1.5**2))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    result = np.full(x.shape, np.nan)
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            if np.isnan(x[r, c]) or np.isnan(y[r, c]):
                continue
            weights, xs, ys = [], [], []
            for dr in distance:
                for dc in distance:
                    if 0 <= r + dr < x.shape[0] and 0 <= c + dc < x.shape[1]:
                        a, b = x[r + dr, c + dc], y[r + dr, c + dc]
                        if np.isfinite(a) and np.isfinite(b):
                            weights.append(window[dr + 5, dc + 5])
                            xs.append(a)
                            ys.append(b)
            w = np.array(weights) / np.sum(weights)
            xs, ys = np.array(xs), np.array(ys)
            mx, my = w @ xs, w @ ys
            vx, vy, cov = w @ (xs - mx) ** 2, w @ (ys - my) ** 2, w @ ((xs - mx) * (ys - my))
            result[r, c] = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return result


def test_psnr_of_a_constant_error_is_its_logarithm() -> None:
    truth = np.linspace(0, 1, 100).reshape(10, 10)
    assert psnr(truth + 0.01, truth, data_range=1.0) == pytest.approx(40.0)
    assert psnr(truth + 0.01, truth, data_range=255.0) == pytest.approx(40.0 + 20 * np.log10(255))
    assert psnr(truth, truth) == float("inf")


def test_psnr_takes_the_range_of_the_truth_and_ignores_nan() -> None:
    image, truth = images()
    image[0, :5], truth[3, 3], truth[10, 10] = np.nan, np.nan, 5.0
    valid = np.isfinite(image) & np.isfinite(truth)
    expected = 10 * np.log10(np.ptp(truth[valid]) ** 2 / np.mean((image - truth)[valid] ** 2))
    assert psnr(image, truth) == pytest.approx(expected)


def test_gradient_energy_is_that_of_differences_between_valid_neighbours() -> None:
    truth = np.array([[0.0, 1, 5], [2, 2, 2]])
    image = np.array([[0.0, 3, np.nan], [1, 1, 4]])
    # differences that both have: along rows 0-1, below 0-1, 1-2; along columns the first two
    assert gradient_energy(image, truth) == pytest.approx((9 + 0 + 9 + 1 + 4) / (1 + 0 + 0 + 4 + 1))
    assert gradient_energy(7 + truth / 2, truth) == pytest.approx(0.25)
    with pytest.raises(GaussianMRIError, match="the same everywhere"):
        gradient_energy(truth, np.ones((2, 3)))
    with pytest.raises(GaussianMRIError, match="no valid pixel"):
        gradient_energy(truth, np.full((2, 3), np.nan))


def test_weighted_psnr_counts_pixels_as_often_as_they_weigh() -> None:
    image, truth = images()
    weight = np.random.default_rng(1).integers(0, 4, truth.shape)
    repeated = np.repeat((image - truth).ravel() ** 2, weight.ravel())
    assert psnr(image, truth, weight=weight, data_range=1.0) == pytest.approx(10 * np.log10(1 / repeated.mean()))


def test_ssim_map_equals_one_window_at_a_time() -> None:
    image, truth = images((15, 18))
    image[:3, 4:9], truth[9, 9] = np.nan, np.nan
    np.testing.assert_allclose(ssim_map(image, truth, data_range=2.0), brute_force_ssim(image, truth, 2.0), atol=1e-9)


def test_ssim_is_the_weighted_mean_of_its_map() -> None:
    image, truth = images()
    image[:, :4] = np.nan
    values = ssim_map(image, truth, data_range=1.0)
    assert ssim(image, truth, data_range=1.0) == pytest.approx(np.nanmean(values))
    mask = gaussian_weight_mask(truth.shape, (12, 15), (3, 6))
    expected = np.nansum(values * mask) / mask[np.isfinite(values)].sum()
    assert ssim(image, truth, weight=mask, data_range=1.0) == pytest.approx(expected)
    assert ssim(truth, truth, data_range=1.0) == pytest.approx(1.0)


def test_what_lies_under_nan_does_not_matter() -> None:
    image, truth = images()
    truth[5:9, 5:9] = np.nan
    other = image.copy()
    other[5:9, 5:9] = 1e6
    assert psnr(image, truth, data_range=1.0) == psnr(other, truth, data_range=1.0)
    assert ssim(image, truth, data_range=1.0) == ssim(other, truth, data_range=1.0)


def test_weight_mask_is_an_anisotropic_gaussian() -> None:
    mask = gaussian_weight_mask((21, 31), (10, 15), (2.0, 5.0))
    assert mask.shape == (21, 31) and mask[10, 15] == 1.0
    assert mask[12, 15] == pytest.approx(np.exp(-0.5)) and mask[10, 20] == pytest.approx(np.exp(-0.5))
    assert mask[12, 20] == pytest.approx(np.exp(-1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: (a[:-1], b, None), "one shape"),
        (lambda a, b: (a, b, np.ones((2, 2))), "weight mask must have"),
        (lambda a, b: (a, b, -np.ones(b.shape)), "not negative"),
        (lambda a, b: (a * np.nan, b, None), "no valid pixel"),
        (lambda a, b: (a, b, np.zeros(b.shape)), "no valid pixel"),
        (lambda a, b: (a, b * 0 + 3, None), "data range must be positive"),
    ],
)
def test_misuse_is_named(change, message: str) -> None:
    image, truth, weight = change(*images())
    for metric in (psnr, ssim):
        with pytest.raises(GaussianMRIError, match=message):
            metric(image, truth, weight=weight)
    with pytest.raises(GaussianMRIError, match="sigmas"):
        gaussian_weight_mask((4, 4), (1, 1), (0, 1))


def test_matched_intensities_are_the_least_squares_ones() -> None:
    generator = np.random.default_rng(3)
    truths = [generator.random((9, 11)) for _ in range(3)]
    images = [(truth - 0.3) / -4 + 0.01 * generator.normal(size=truth.shape) for truth in truths]
    images[0][:4] = np.nan
    truths[1][:, 5:] = np.nan
    valid = np.isfinite(images) & np.isfinite(truths)
    slope, offset = np.polyfit(np.array(images)[valid], np.array(truths)[valid], 1)
    matched = match_intensity(images, truths)
    assert slope == pytest.approx(-4, abs=0.2) and matched[0].dtype == np.float32
    for image, got in zip(images, matched, strict=True):
        np.testing.assert_allclose(got, slope * image + offset, atol=1e-5)
    # A flat image tells nothing: it becomes the truth's mean.
    np.testing.assert_allclose(
        match_intensity([np.ones((2, 2))], [truths[2][:2, :2]])[0], truths[2][:2, :2].mean()
    )
    with pytest.raises(GaussianMRIError, match="no valid pixel in common"):
        match_intensity([np.full((2, 2), np.nan)], [np.ones((2, 2))])
