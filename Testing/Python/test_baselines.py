"""Interpolating baselines: exact cases, empty space, several stacks, slices at angles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from GaussianMRILib.baselines import (
    LinearInterpolator,
    SplineInterpolator,
    VoxelInterpolator,
    linear_interpolation,
    spline_interpolation,
    voxel_interpolation,
)
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane, inside_hull
from GaussianMRILib.stacks import SliceStack
from GaussianMRILib.volumes import ScatteredSlices

GRADIENT = np.array([0.02, -0.013, 0.031])
AFFINE = np.array([[1.1, 0, 0, -12], [0, 0.9, 0, -9], [0, 0, 4.0, -20], [0, 0, 0, 1]])


def ramp_stack(affine=AFFINE, shape=(11, 24, 22), thickness=None, **keywords) -> SliceStack:
    """Slices through a space whose intensity is linear in position."""
    stack = SliceStack.from_array(np.zeros(shape), affine, thickness=thickness, **keywords)
    points = np.stack([plane.points() for plane in stack.planes()])
    return replace(stack, pixels=(points @ GRADIENT).astype(np.float32))


def noise_stack(shape=(9, 20, 18), affine=AFFINE, seed=0) -> SliceStack:
    return SliceStack.from_array(np.random.default_rng(seed).normal(size=shape), affine)


def turn(angle: float, axis: int = 0) -> np.ndarray:
    """Rotation about a RAS axis by degrees, 4x4."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix = np.eye(4)
    a, b = [n for n in range(3) if n != axis]
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def oblique(stack: SliceStack, shape=(9, 9), thickness=0.0) -> ImagePlane:
    center = stack.plane(stack.shape[0] // 2).center
    return ImagePlane.from_normal(center, (0.3, -0.2, 1), spacing=(0.7, 0.7), shape=shape, thickness=thickness)


SHEARED = AFFINE + np.array([[0, 0, 1.2, 0], [0, 0, -0.8, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("affine", [AFFINE, SHEARED, turn(35, 1) @ AFFINE, AFFINE @ np.diag([-1, 1, -1, 1])])
@pytest.mark.parametrize("method", [LinearInterpolator, SplineInterpolator, VoxelInterpolator])
def test_a_ramp_stays_a_ramp(affine, method) -> None:
    stack = ramp_stack(affine)
    for thickness in (0.0, 3.0):
        plane = oblique(stack, thickness=thickness)
        # Nearest voxels are not symmetric around a point: voxel interpolation is off by a part of a voxel.
        tolerance = 0.02 if method is VoxelInterpolator else 2e-3
        np.testing.assert_allclose(method(stack).render(plane), plane.points() @ GRADIENT, atol=tolerance)


@settings(max_examples=10, deadline=None)
@given(
    angle=st.floats(-180, 180),
    axis=st.integers(0, 2),
    shift=st.tuples(*[st.floats(-500, 500)] * 3),
    seed=st.integers(0),
)
def test_moving_slices_and_planes_together_changes_nothing(angle, axis, shift, seed) -> None:
    motion = turn(angle, axis)
    motion[:3, 3] = shift
    stack = noise_stack(seed=seed)
    moved = replace(stack, ijk_to_ras=motion @ stack.ijk_to_ras)
    plane = oblique(stack, (7, 7))
    for method in (LinearInterpolator, SplineInterpolator):
        there = method(moved).render(plane.transformed(motion))
        np.testing.assert_allclose(there, method(stack).render(plane), atol=1e-3)


def test_slices_come_back_at_their_own_place() -> None:
    stack = noise_stack()
    for k in (0, 4, 8):
        plane = replace(stack.plane(k), thickness=0.0)
        np.testing.assert_allclose(linear_interpolation(stack, plane), stack.pixels[k], atol=1e-5)
        cubic = spline_interpolation(stack, plane, slice_profile=False)
        np.testing.assert_allclose(cubic, stack.pixels[k], atol=1e-4)


def test_slice_profile_makes_thick_planes_agree_with_the_slices() -> None:
    stack = noise_stack()
    plane = stack.plane(4)
    without = spline_interpolation(stack, plane, slice_profile=False) - stack.pixels[4]
    exact = SplineInterpolator(stack, strength=0.0).render(plane) - stack.pixels[4]
    assert np.std(exact) < 0.25 * np.std(without)


def test_voxel_interpolation_is_the_weighted_mean_of_the_nearest_voxels() -> None:
    stack = noise_stack((6, 9, 8), np.diag([1, 1, 1, 1.0]))  # isotropic already: voxels are the pixels
    plane = ImagePlane.from_normal((3.6, 3.9, 2.7), (0.4, -0.3, 1), spacing=(0.8, 0.8), shape=(3, 4))
    voxels = np.array(list(np.ndindex(6, 9, 8)))[:, ::-1]
    for k, power in ((1, 1.0), (4, 1.0), (8, 2.0)):
        expected = []
        for point in plane.points().reshape(-1, 3):
            distance = np.linalg.norm(voxels - point, axis=1)
            nearest = np.argsort(distance)[:k]
            expected.append(np.average(stack.pixels.ravel()[nearest], weights=distance[nearest] ** -power))
        image = voxel_interpolation(stack, plane, k=k, power=power)
        np.testing.assert_allclose(image.ravel(), expected, atol=1e-4)
    with pytest.raises(GaussianMRIError, match="k >= 1"):
        voxel_interpolation(stack, plane, k=0)


@pytest.mark.parametrize("method", [LinearInterpolator, SplineInterpolator, VoxelInterpolator])
def test_outside_the_slab_is_empty_and_inside_is_not(method) -> None:
    stack = ramp_stack(SHEARED)
    plane = oblique(stack, (70, 70))
    expected = inside_hull(stack.hull(), plane.points())
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(np.isfinite(method(stack).render(plane)), expected)
    assert np.isnan(method(stack).render(plane.offset(500))).all()


def test_several_stacks_are_averaged_where_both_are() -> None:
    first = ramp_stack()
    second = replace(first, pixels=first.pixels + 1, name="second")
    moved = first.ijk_to_ras.copy()
    moved[:, 0, 3] += 12
    second = replace(second, ijk_to_ras=moved)
    plane = oblique(first, (3, 60))
    alone = [linear_interpolation(stack, plane) for stack in (first, second)]
    both = linear_interpolation([first, second], plane)
    overlap = np.isfinite(alone[0]) & np.isfinite(alone[1])
    assert overlap.any() and (~overlap & np.isfinite(both)).any()
    np.testing.assert_allclose(both[overlap], (alone[0] + alone[1])[overlap] / 2, atol=1e-5)
    np.testing.assert_allclose(both[~overlap], np.where(np.isfinite(alone[0]), alone[0], alone[1])[~overlap])


def blocks(apart: float = 30.0) -> SliceStack:
    """Three blocks of four slices at three angles in one stack, as discs are acquired, `apart` mm from each other."""
    poses = []
    for n, angle in enumerate((-15, 0, 12)):
        for k in range(4):
            pose = AFFINE.copy()
            pose[2, 3] = 4 * k - 6
            poses.append(turn(angle) @ pose)
            poses[-1][2, 3] += apart * n
    stack = SliceStack.from_array(np.zeros((12, 24, 22)), np.array(poses), thickness=4)
    points = np.stack([plane.points() for plane in stack.planes()])
    return replace(stack, pixels=(points @ GRADIENT).astype(np.float32))


def test_angled_blocks_are_interpolated_block_by_block() -> None:
    stack = blocks()
    groups = stack.blocks()
    assert [group.shape[0] for group in groups] == [4, 4, 4]
    assert groups[0].blocks() == [groups[0]]
    middle = groups[0].plane(2)
    inside = ImagePlane.from_normal(middle.center, middle.normal, spacing=(0.7, 0.7), shape=(9, 9)).offset(-1.3)
    for method in (LinearInterpolator, SplineInterpolator, VoxelInterpolator):
        image = method(stack).render(inside)
        np.testing.assert_allclose(image, inside.points() @ GRADIENT, atol=0.02)
    across = ImagePlane.from_normal(stack.plane(6).center, (1, 0, 0), spacing=(1, 1), shape=(100, 10))
    image = LinearInterpolator(stack).render(across)
    # 18 mm between the slices of two blocks, 4 mm within a block: nothing was scanned there.
    expected = np.any([inside_hull(group.hull(), across.points()) for group in groups], axis=0)
    np.testing.assert_array_equal(np.isfinite(image), expected)
    assert (inside_hull(stack.hull(), across.points()) & ~expected).sum() > 100
    assert np.nanmax(np.abs(image - across.points() @ GRADIENT)) < 0.35  # of a range of 3


def test_the_wedge_between_neighbouring_blocks_is_filled() -> None:
    stack = blocks(apart=20.0)
    assert [len(block.pixels) for block in stack.blocks()] == [4, 4, 4] and len(stack.hulls()) == 1
    across = ImagePlane.from_normal(stack.plane(6).center, (1, 0, 0), spacing=(1, 1), shape=(100, 10))
    image = LinearInterpolator(stack).render(across)
    expected = inside_hull(stack.hull(), across.points())
    np.testing.assert_array_equal(np.isfinite(image), expected)
    assert (expected & ~np.any([inside_hull(b.hull(), across.points()) for b in stack.blocks()], 0)).sum() > 30
    assert np.nanmax(np.abs(image - across.points() @ GRADIENT)) < 0.35  # of a range of 3


def test_radial_slices_are_interpolated_between_the_two_nearest() -> None:
    axis = np.eye(4)
    axis[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])  # i = R, j = S, normal -A
    axis[:3, 3] = (-15, 0, -12)
    poses = np.stack([turn(angle, 2) @ axis for angle in np.arange(0, 180, 20)])
    stack = SliceStack.from_array(np.zeros((9, 25, 31)), poses, thickness=3)
    points = np.stack([plane.points() for plane in stack.planes()])
    stack = replace(stack, pixels=(points @ GRADIENT).astype(np.float32))
    plane = ImagePlane.from_normal((0, 0, 0), (0, 0, 1), spacing=(1, 1), shape=(15, 15))
    for method in (LinearInterpolator, SplineInterpolator):
        np.testing.assert_allclose(method(stack).render(plane), plane.points() @ GRADIENT, atol=0.02)
    on_slice = replace(stack.plane(3), thickness=0.0)
    np.testing.assert_allclose(ScatteredSlices(stack).values(on_slice.points()), stack.pixels[3], atol=1e-4)


def test_one_slice_is_a_slab() -> None:
    stack = noise_stack((1, 20, 18))
    for method in (LinearInterpolator, SplineInterpolator, VoxelInterpolator):
        image = method(stack).render(replace(stack.plane(0), thickness=0.0).offset(1.0))
        if method is not VoxelInterpolator:  # which blurs in-plane
            np.testing.assert_allclose(image, stack.pixels[0], atol=1e-3)
        assert np.corrcoef(image.ravel(), stack.pixels.ravel())[0, 1] > 0.8
        assert np.isnan(method(stack).render(stack.plane(0).offset(3.0))).all()


def test_misuse_is_named() -> None:
    with pytest.raises(GaussianMRIError, match="no stack"):
        LinearInterpolator([])
    frames = [replace(ramp_stack(), frame_of_reference=uid, name=uid) for uid in ("1.2", "1.3")]
    with pytest.raises(GaussianMRIError, match="frame"):
        SplineInterpolator(frames)
