"""Super-resolution of several stacks against dense algebra and known anatomy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from GaussianMRILib.baselines import SuperResolution, superresolution
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.evaluation import simulate_stack
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import SliceStack
from GaussianMRILib.volumes import Grid, Volume, isotropic_grid, solve
from GaussianMRILib.volumes.solver import acquisition_operator

TURNED = np.array([[0.8, -0.6, 0, 3], [0.6, 0.8, 0, -5], [0, 0, 1, 11], [0, 0, 0, 1.0]])


def scan(size: int = 32, seed: int = 0, affine=TURNED) -> Volume:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size, size)), 2.0)
    shapes = gaussian_filter((field > 0.5 * field.std()).astype(np.float32), 0.6)
    return Volume(shapes, affine, name="shapes")


def small_stacks() -> list[SliceStack]:
    source = scan(10)
    return [
        simulate_stack(source, direction=direction, thickness=3.0, spacing=3.0, seed=n)
        for n, direction in enumerate(("axial", "sagittal"))
    ]


def test_grid_is_isotropic_and_holds_every_pixel() -> None:
    stacks = small_stacks()
    grid = isotropic_grid(stacks)
    assert grid.spacing == pytest.approx((1, 1, 1))
    assert isotropic_grid(stacks, spacing=0.5).shape == tuple(2 * n for n in grid.shape)
    for stack in stacks:
        sums = np.asarray(acquisition_operator(stack, grid).sum(axis=1)).ravel()
        np.testing.assert_allclose(sums, 1, atol=1e-5)
    with pytest.raises(GaussianMRIError, match="voxels"):
        isotropic_grid(stacks, spacing=0.001)


def test_operator_measures_a_ramp_where_each_pixel_is() -> None:
    """An oblique stack inside an axis-aligned grid: exact poses, so a linear image is measured exactly."""
    gradient = np.array([0.3, -0.2, 0.5])
    affine = np.eye(4)
    affine[:3, 3] = -15
    grid = Grid(affine, (31, 31, 31))
    tilted = np.array([[0.96, 0, 0.84, -4], [0, 1, 0, -5], [-0.28, 0, 2.88, -4], [0, 0, 0, 1]])
    stack = SliceStack.from_array(np.zeros((4, 8, 9)), tilted, thickness=3)
    operator = acquisition_operator(stack, grid)
    measured = operator @ (grid.points() @ gradient).ravel()
    expected = np.concatenate([(plane.points() @ gradient).ravel() for plane in stack.planes()])
    np.testing.assert_allclose(measured, expected, atol=1e-4)


def test_solution_is_the_minimum_of_the_sum_of_squares() -> None:
    stacks = small_stacks()
    grid = isotropic_grid(stacks)
    operators = [acquisition_operator(stack, grid).toarray().astype(float) for stack in stacks]
    curvature = sum((a**2).sum(axis=0) for a in operators)
    curvature = curvature[curvature > 0].mean()
    number = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    differences = []
    for axis in range(3):
        low, high = (
            np.take(number, range(*ends), axis).ravel()
            for ends in ((0, grid.shape[axis] - 1), (1, grid.shape[axis]))
        )
        rows = np.zeros((len(low), number.size))
        rows[np.arange(len(low)), low], rows[np.arange(len(low)), high] = -1, 1
        differences.append(rows)
    gradient = np.concatenate(differences)
    prior = np.random.default_rng(4).random(grid.shape).astype(np.float32)
    for p, mu in ((None, 0.0), (prior, 0.7)):
        matrix = sum(a.T @ a for a in operators) + curvature * 0.1 * gradient.T @ gradient
        right = sum(a.T @ stack.pixels.ravel() for a, stack in zip(operators, stacks, strict=True))
        if p is not None:
            matrix += curvature * mu * np.eye(number.size)
            right = right + curvature * (0.1 * gradient.T @ gradient @ p.ravel() + mu * p.ravel())
        expected = np.linalg.solve(matrix, right).reshape(grid.shape)
        result = solve(stacks, grid, prior=p, smoothness=0.1, prior_weight=mu, iterations=500, tolerance=1e-6)
        np.testing.assert_allclose(result, expected, atol=2e-3)


def test_a_prior_that_agrees_with_the_slices_stays() -> None:
    stacks = small_stacks()
    grid = isotropic_grid(stacks)
    prior = np.random.default_rng(4).random(grid.shape).astype(np.float32)
    measured = [
        replace(s, pixels=(acquisition_operator(s, grid) @ prior.ravel()).reshape(s.shape)) for s in stacks
    ]
    np.testing.assert_allclose(solve(measured, grid, prior=prior), prior, atol=1e-4)


def test_two_directions_see_what_one_cannot() -> None:
    source = scan()
    stacks = [simulate_stack(source, direction=direction, seed=n) for n, direction in enumerate(("axial", "sagittal"))]
    plane = ImagePlane.from_normal(stacks[0].plane(4).center, (0.3, 0.5, 1), spacing=(1, 1), shape=(21, 21))
    truth = source.at(plane.points())

    def error(given: list[SliceStack]) -> float:
        return float(np.sqrt(np.nanmean((superresolution(given, plane) - truth) ** 2)))

    assert error(stacks) < 0.75 * min(error(stacks[:1]), error(stacks[1:]))


def test_outside_every_slab_is_empty() -> None:
    stacks = small_stacks()
    method = SuperResolution(stacks)
    plane = ImagePlane.from_normal(stacks[0].plane(1).center, (0, 0, 1), spacing=(1, 1), shape=(40, 40))
    image = method.render(plane)
    assert (
        np.isfinite(image[18:22, 18:22]).all() and np.isnan(image[0]).all() and np.isnan(image[:, -1]).all()
    )


def test_misuse_is_named() -> None:
    stacks = small_stacks()
    grid = isotropic_grid(stacks)
    with pytest.raises(GaussianMRIError, match="on the grid"):
        solve(stacks, grid, prior=np.zeros((2, 2, 2), np.float32))
    with pytest.raises(GaussianMRIError, match="smoothness"):
        solve(stacks, grid, smoothness=0)
    far = grid.ijk_to_ras.copy()
    far[:3, 3] += 1000
    with pytest.raises(GaussianMRIError, match="inside the grid"):
        solve(stacks, Grid(far, grid.shape))
    with pytest.raises(GaussianMRIError, match="no stack"):
        SuperResolution([])
