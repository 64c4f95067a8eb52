"""Slice consistency and self-learned filters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.priors.ridge import RidgeSettings, ridge_prior
from GaussianMRILib.stacks import SliceStack, slice_columns
from GaussianMRILib.volumes import (
    Volume,
    default_factor,
    enforce,
    slice_operator,
    upsample,
    volume_operator,
)

SHEAR = np.array([[0.9, 0, 0.5, -10], [0, 0.9, -0.3, 4], [0, 0, 4.0, 7], [0, 0, 0, 1]])


def stack_at(positions, pixels, thickness=3.0, affine=SHEAR) -> SliceStack:
    """Slices whose origins lie at `positions` times column 2's direction per mm of normal."""
    poses = np.repeat(affine[None], len(positions), axis=0)
    step = affine[:3, 2] / affine[2, 2]
    poses[:, :3, 3] += np.asarray(positions)[:, None] * step
    return SliceStack.from_array(pixels, poses, thickness=thickness)


def noise(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_slice_operator_is_a_mean_around_each_slice() -> None:
    z, positions = np.arange(0, 40, 0.5), np.array([6.0, 13.0, 15.5, 30.0])
    operator = slice_operator(z, positions, [4, 2, 4, 5])
    np.testing.assert_allclose(operator.sum(axis=1), 1)
    np.testing.assert_allclose(operator @ z, positions, atol=1e-9)  # a ramp is measured where the slice is
    box = operator[0][(z > 4.6) & (z < 7.4)]
    np.testing.assert_allclose(box, 0.5 / 4, rtol=0.02)  # flat inside ...
    assert operator[0][np.abs(z - 6) > 2.9].max() < 1e-3  # ... and nothing beyond the edge
    sharp = slice_operator(np.arange(8.0), [1.5, 5.5], 4.0, edge_mm=0)
    np.testing.assert_allclose(sharp, np.kron(np.eye(2), np.full(4, 0.25)), atol=1e-6)
    with pytest.raises(GaussianMRIError, match="outside"):
        slice_operator(z, [90.0], 4)


def test_columns_are_found_where_there_are_any() -> None:
    regular = SliceStack.from_array(noise((5, 8, 9)), SHEAR)
    columns = slice_columns(regular)
    np.testing.assert_allclose(columns.positions, np.arange(5) * 4)
    np.testing.assert_allclose(columns.volume_affine(0, 4), SHEAR, atol=1e-9)
    irregular = stack_at([0, 3, 11], noise((3, 8, 9)))
    np.testing.assert_allclose(slice_columns(irregular).positions, [0, 3, 11])
    turned = regular.ijk_to_ras.copy()
    turned[2, :3, :3] = turned[2, :3, :3] @ np.array([[1, 0, 0], [0, 0.99, -0.1], [0, 0.1, 0.99]])
    shifted = regular.ijk_to_ras.copy()
    shifted[3, 0, 3] += 0.5
    for poses in (turned, shifted):
        stack = replace(regular, ijk_to_ras=poses)
        assert slice_columns(stack) is None
        with pytest.raises(GaussianMRIError, match="not parallel"):
            upsample(stack)


@pytest.mark.parametrize("positions", [np.arange(13) * 4.0, np.cumsum([0, 4, 3, 5, 3, 4, 4, 5, 3, 4, 3.0])])
def test_upsampling_reproduces_a_ramp_at_the_right_place(positions) -> None:
    """What is linear in space must come out linear, at every factor and spacing, sheared or not."""
    gradient = np.array([0.2, -0.1, 0.7])
    stack = stack_at(positions, np.zeros((len(positions), 30, 32)))
    points = np.stack([plane.points() for plane in stack.planes()])
    stack = replace(stack, pixels=(points @ gradient).astype(np.float32))
    for factor in (1, 3, 4):
        volume = upsample(stack, factor=factor)
        center = stack.plane(len(positions) // 2).center  # where the ends of the spline do not reach
        plane = ImagePlane.from_normal(center, (0.2, 0.3, 1), spacing=(0.5, 0.5), shape=(5, 6))
        tolerance = 1e-3 if factor > 1 else 0.02
        np.testing.assert_allclose(volume.sample(plane), plane.points() @ gradient, atol=tolerance)
        consistent = enforce(volume, stack)
        np.testing.assert_allclose(consistent.sample(plane), plane.points() @ gradient, atol=0.02)


def test_regular_stack_gets_whole_sub_slices() -> None:
    stack = SliceStack.from_array(noise((5, 8, 9)), np.diag([1, 1, 4, 1.0]))
    volume = upsample(stack)
    assert default_factor(stack) == 4 and volume.pixels.shape == (20, 8, 9)
    z, operator = volume_operator(volume, stack)
    np.testing.assert_allclose(z, np.arange(20) - 1.5)
    assert operator.shape == (5, 20)
    with pytest.raises(GaussianMRIError, match="at least 1"):
        upsample(stack, factor=0)


@pytest.mark.parametrize("positions", [np.arange(6) * 3.0, np.array([0, 3, 9, 14, 16, 21.0])])
def test_enforce_is_the_least_squares_solution(positions) -> None:
    stack = stack_at(positions, noise((6, 3, 4)), thickness=[3, 3, 4, 3, 2, 3])
    start = upsample(stack, factor=3)
    start = replace(start, pixels=start.pixels + noise(start.pixels.shape, 1))
    _, operator = volume_operator(start, stack)
    strength = 0.3
    weight = np.sqrt(strength * np.mean((operator**2).sum(axis=1)))
    system = np.vstack([operator, weight * np.eye(operator.shape[1])])
    x0 = start.pixels.reshape(len(start.pixels), -1).astype(float)
    right = np.vstack([stack.pixels.reshape(6, -1), weight * x0])
    expected = np.linalg.lstsq(system, right, rcond=None)[0]
    result = enforce(start, stack, strength=strength).pixels.reshape(expected.shape)
    np.testing.assert_allclose(result, expected, atol=1e-4)
    exact = enforce(start, stack, strength=0.0).pixels.reshape(expected.shape)
    np.testing.assert_allclose(operator @ exact, stack.pixels.reshape(6, -1), atol=1e-3)


def test_positions_rounded_by_a_header_still_have_columns() -> None:
    stack = SliceStack.from_array(noise((6, 8, 9)), SHEAR)
    rounded = stack.ijk_to_ras.copy()
    rounded[:, 0, 3] += np.random.default_rng(0).uniform(-0.04, 0.04, 6)
    stack = replace(stack, ijk_to_ras=rounded)
    assert stack.grid() is None and slice_columns(stack) is not None
    assert slice_columns(stack, tolerance=0.01) is None


def test_a_volume_elsewhere_is_refused() -> None:
    stack = SliceStack.from_array(noise((5, 8, 9)), SHEAR)
    volume = upsample(stack)
    moved = volume.ijk_to_ras.copy()
    moved[0, 3] += 0.1
    for wrong in (replace(volume, ijk_to_ras=moved), replace(volume, pixels=volume.pixels[:, 1:])):
        with pytest.raises(GaussianMRIError, match="columns"):
            enforce(wrong, stack)


def test_volume_is_empty_outside_its_hull_and_thick_planes_are_means() -> None:
    affine = np.diag([1, 1, 1, 1.0])
    ramp = np.broadcast_to(np.arange(12.0)[:, None, None] ** 2, (12, 10, 10)).astype(np.float32)
    volume = Volume(ramp, affine)
    plane = ImagePlane.from_axes((4.5, 4.5, 6), (1, 0, 0), (0, 1, 0), spacing=(1, 1), shape=(14, 10))
    image = volume.sample(plane)
    assert np.isnan(image[:2]).all() and np.isnan(image[-2:]).all() and np.isfinite(image[2:-2]).all()
    thick = volume.sample(replace(plane, thickness=4.0))
    # The mean of z^2 over 4 mm is z^2 + 16/12; five midpoints have 16/12 * (1 - 1/25).
    np.testing.assert_allclose(thick[5, 5] - image[5, 5], 16 / 12 * 24 / 25, rtol=0.02)
    half = np.array([[0.0, 1.0, 0.0, -4.2]])
    union = Volume(ramp, affine, hull=(half, -half + [[0, 0, 0, 2.4]])).sample(plane)
    assert np.isfinite(union[:, 3][[2, 6, 9]]).all()  # y = 0, 4 in the first; 7 in the second
    with pytest.raises(GaussianMRIError, match="slices, rows, columns"):
        Volume(np.zeros((3, 3), np.float32), affine)


def blobs(seed: int = 0, size: int = 48) -> np.ndarray:
    """Sharp-edged random shapes, the same statistics along every axis."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size, size)), 3)
    return gaussian_filter((field > 0.6 * field.std()).astype(float) + (field < -field.std()) * 0.5, 0.6)


def acquired(truth: np.ndarray, seed: int = 1) -> SliceStack:
    slices = truth.reshape(-1, 4, *truth.shape[1:]).mean(axis=1)
    slices = slices + 0.01 * np.random.default_rng(seed).normal(size=slices.shape)
    affine = np.diag([1, 1, 4, 1.0])
    affine[2, 3] = 1.5
    return SliceStack.from_array(slices, affine, thickness=4)


def test_self_learned_filters_see_between_slices() -> None:
    truth = blobs()
    stack = acquired(truth)

    def error(volume: Volume) -> float:
        np.testing.assert_allclose(volume.ijk_to_ras, np.eye(4), atol=1e-9)
        return float(np.sqrt(np.mean((volume.pixels - truth)[4:-4] ** 2)))

    cubic, profile = error(upsample(stack)), error(enforce(upsample(stack), stack))
    ridge = error(ridge_prior(stack))
    assert profile < 0.97 * cubic and ridge < 0.9 * profile


def test_ridge_is_deterministic_and_does_not_depend_on_units() -> None:
    stack = acquired(blobs(2))
    settings = RidgeSettings(samples=5000)
    first = ridge_prior(stack, settings=settings, seed=5).pixels
    np.testing.assert_array_equal(first, ridge_prior(stack, settings=settings, seed=5).pixels)
    scaled = ridge_prior(replace(stack, pixels=stack.pixels * 1000), settings=settings, seed=5).pixels
    np.testing.assert_allclose(scaled, 1000 * first, rtol=0, atol=0.5)


def test_ridge_of_unequal_pixels_keeps_its_place() -> None:
    truth = blobs(3)
    stack = acquired(truth[:, :, ::2])
    affine = np.diag([2, 1, 4, 1.0])
    volume = ridge_prior(SliceStack.from_array(stack.pixels, affine, thickness=4), factor=3)
    assert volume.pixels.shape == (36, 48, 24)
    shrunk = volume.pixels.reshape(12, 3, 48, 24).mean(axis=1)
    assert np.sqrt(np.mean((shrunk - stack.pixels) ** 2)) < 0.05 * stack.pixels.std()


def test_ridge_says_what_it_cannot_do() -> None:
    with pytest.raises(GaussianMRIError, match="need 3"):
        ridge_prior(SliceStack.from_array(noise((2, 20, 20)), np.diag([1, 1, 4, 1.0])))
    with pytest.raises(GaussianMRIError, match="equally spaced"):
        ridge_prior(stack_at([0, 4, 9, 12], noise((4, 20, 20))))
    flat = SliceStack.from_array(np.ones((4, 20, 20)), np.diag([1, 1, 4, 1.0]))
    np.testing.assert_allclose(ridge_prior(flat).pixels, 1, atol=1e-4)
