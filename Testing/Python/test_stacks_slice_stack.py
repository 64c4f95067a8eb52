"""SliceStack: every slice keeps its own pose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_geometry import degrees, directions, rigid, vectors

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import transform_points
from GaussianMRILib.stacks import SliceStack, check_same_frame


def volume(shape=(4, 3, 5), spacing=(0.5, 0.75, 4.0), shear=(0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(3).normal(size=shape)
    matrix = np.diag([*spacing, 1.0])
    matrix[:2, 2] = shear
    matrix[:3, 3] = (10, -20, 30)
    return pixels, matrix


def test_regular_volume_by_hand() -> None:
    pixels, matrix = volume()
    stack = SliceStack.from_array(pixels, matrix)
    assert stack.shape == (4, 3, 5) and stack.pixels.dtype == np.float32
    np.testing.assert_allclose(stack.pixel_spacing, (0.5, 0.75))
    assert stack.spacing == 4.0 and stack.thickness == 4.0
    np.testing.assert_allclose(stack.positions, [30, 34, 38, 42])
    np.testing.assert_allclose(stack.ijk_to_ras[2, :3, 3], [10, -20, 38])
    np.testing.assert_allclose(stack.ijk_to_ras[:, :3, 2], [[0, 0, 1]] * 4)
    np.testing.assert_allclose(stack.grid(), matrix)
    assert SliceStack.from_array(pixels, matrix, thickness=3.0).plane(1).thickness == 3.0


def test_normal_points_towards_increasing_k_whatever_the_handedness() -> None:
    pixels, matrix = volume()
    matrix[2, 2] = -4.0
    down = SliceStack.from_array(pixels, matrix)
    np.testing.assert_allclose(down.ijk_to_ras[:, :3, 2], [[0, 0, -1]] * 4)
    np.testing.assert_allclose(down.positions, [-30, -26, -22, -18])
    np.testing.assert_allclose(down.grid(), matrix)
    # Poses given with normals on the wrong side are put right.
    poses = down.ijk_to_ras.copy()
    poses[:, :3, 2] *= -1
    np.testing.assert_allclose(SliceStack.from_array(pixels, poses).ijk_to_ras, down.ijk_to_ras)
    assert down.subset([0]).ijk_to_ras[0, 2, 2] == -1


def test_sheared_volume_keeps_step_thickness_and_normal_apart() -> None:
    pixels, matrix = volume(shear=(0.3, 1.2))
    stack = SliceStack.from_array(pixels, matrix)
    np.testing.assert_allclose(stack.normal, [0, 0, 1])
    assert stack.spacing == 4.0 and stack.thickness == 4.0
    np.testing.assert_allclose(stack.ijk_to_ras[3, :3, 3], [10.9, -16.4, 42])
    np.testing.assert_allclose(stack.grid(), matrix)


def test_irregular_stacks_have_no_grid() -> None:
    pixels, matrix = volume()
    regular = SliceStack.from_array(pixels, matrix)
    poses = regular.ijk_to_ras.copy()
    poses[2, 2, 3] += 0.015
    assert SliceStack.from_array(pixels, poses).grid() is not None
    poses[2, 2, 3] += 0.5
    gapped = SliceStack.from_array(pixels, poses)
    assert gapped.grid() is None
    np.testing.assert_allclose(gapped.positions, [30, 34, 38.515, 42])
    turned = regular.ijk_to_ras.copy()
    turned[1] = rigid((0, 0, 1), 2.0, (0, 0, 0)) @ turned[1]
    assert SliceStack.from_array(pixels, turned).grid() is None
    assert regular.subset([0, 2, 3]).grid() is None
    np.testing.assert_allclose(regular.subset([1, 3]).grid()[:3, 2], [0, 0, 8])
    single = regular.subset([2])
    np.testing.assert_allclose(single.grid()[:3, 2], [0, 0, 4])
    assert single.spacing == 4.0


@settings(max_examples=40, deadline=None)
@given(directions, degrees, vectors, st.floats(-2, 2), st.floats(-2, 2))
def test_everything_moves_with_a_rigid_motion(axis, angle, shift, shear_r, shear_a) -> None:
    motion = rigid(axis, angle, shift)
    pixels, matrix = volume(shear=(shear_r, shear_a))
    still, moved = SliceStack.from_array(pixels, matrix), SliceStack.from_array(pixels, motion @ matrix)
    np.testing.assert_allclose(moved.ijk_to_ras, motion @ still.ijk_to_ras, atol=1e-9)
    np.testing.assert_allclose(moved.grid(), motion @ still.grid(), atol=1e-9)
    np.testing.assert_allclose(np.diff(moved.positions), np.diff(still.positions), atol=1e-9)
    inside = still.plane(2).center
    assert np.all(moved.hull()[:, :3] @ transform_points(motion, inside) + moved.hull()[:, 3] < 0)


def test_hull_of_a_box_reaches_pixel_edges_and_half_the_thickness() -> None:
    pixels, matrix = volume()
    hull = SliceStack.from_array(pixels, matrix, thickness=3.0).hull()
    assert hull.shape == (6, 4)
    np.testing.assert_allclose(np.linalg.norm(hull[:, :3], axis=1), 1)
    low = np.asarray([10 - 0.25, -20 - 0.375, 30 - 1.5])
    high = np.asarray([10 + 4.5 * 0.5, -20 + 2.5 * 0.75, 42 + 1.5])
    for axis in range(3):
        unit = np.eye(3)[axis]
        (top,) = hull[np.isclose(hull[:, :3] @ unit, 1)]
        (bottom,) = hull[np.isclose(hull[:, :3] @ unit, -1)]
        np.testing.assert_allclose([-top[3], bottom[3]], [high[axis], low[axis]])


def test_hull_of_a_sheared_stack_holds_every_pixel_and_nothing_beside_it() -> None:
    pixels, matrix = volume(shear=(0.0, 2.0))
    stack = SliceStack.from_array(pixels, matrix)
    hull = stack.hull()
    points = np.concatenate([p.points().reshape(-1, 3) for p in stack.planes()])
    assert np.all(points @ hull[:, :3].T + hull[:, 3] < 0)
    # Below the last slice's shifted front edge the bounding box has room that the slices do not reach.
    outside = np.asarray([11, -19 + 6.0, 30])
    assert np.any(hull[:, :3] @ outside + hull[:, 3] > 1)
    assert stack.subset([1]).hull().shape == (6, 4)


def test_subset_takes_pixels_poses_thickness_and_provenance_along() -> None:
    pixels, matrix = volume()
    source = {"slice_uids": ["a", "b", "c", "d"], "other": [1, 2, 3, 4]}
    stack = SliceStack.from_array(
        pixels, matrix, thickness=[1, 2, 3, 4], source=source, frame_of_reference="1.2"
    )
    part = stack.subset(np.asarray([3, 1]))
    np.testing.assert_array_equal(part.pixels, stack.pixels[[3, 1]])
    np.testing.assert_allclose(part.positions * part.normal[2], [42, 34])
    assert part.slice_thickness.tolist() == [4, 2] and part.frame_of_reference == "1.2"
    assert part.source["slice_uids"] == ["d", "b"] and part.source["other"] == [1, 2, 3, 4]
    np.testing.assert_array_equal(
        stack.subset(np.asarray([True, False, True, False])).pixels, stack.pixels[::2]
    )
    with pytest.raises(GaussianMRIError, match="at least one"):
        stack.subset([])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pixels_kji": np.zeros((3, 4))}, r"\(slices, rows, columns\)"),
        ({"pixels_kji": np.zeros((0, 4, 4))}, r"\(slices, rows, columns\)"),
        ({"pixels_kji": np.zeros((4, 3, 5), dtype=complex)}, "real numbers"),
        ({"ijk_to_ras": np.repeat(np.eye(4)[None], 3, axis=0)}, "poses"),
        ({"ijk_to_ras": np.diag([1.0, 1.0, 0.0, 1.0])}, "spacing between slices"),
        ({"ijk_to_ras": np.diag([1.0, 1.0, 5000.0, 1.0])}, "spacing between slices"),
        ({"ijk_to_ras": np.diag([1.0, 1e-9, 0.0, 1.0]) * np.nan}, "finite"),
        ({"thickness": 0.0}, "thickness"),
        ({"thickness": -2.0}, "thickness"),
        ({"thickness": np.inf}, "thickness"),
    ],
)
def test_impossible_stacks_are_refused(change, reason: str) -> None:
    pixels, matrix = volume()
    with pytest.raises(GaussianMRIError, match=reason):
        SliceStack.from_array(**({"pixels_kji": pixels, "ijk_to_ras": matrix, "name": "knee"} | change))


def test_pixels_that_are_not_finite_name_the_slice() -> None:
    pixels, matrix = volume()
    pixels[2, 1, 1] = np.nan
    with pytest.raises(GaussianMRIError, match="knee: slice 2 "):
        SliceStack.from_array(pixels, matrix, name="knee")


def test_one_slice_needs_a_thickness_only_when_there_is_no_step() -> None:
    pixels, matrix = volume(shape=(1, 3, 5))
    assert SliceStack.from_array(pixels, matrix).thickness == 4.0
    with pytest.raises(GaussianMRIError, match="thickness"):
        SliceStack.from_array(pixels, matrix[None])
    assert SliceStack.from_array(pixels, matrix[None], thickness=2.5).spacing == 2.5


def test_frames_of_reference_must_agree() -> None:
    pixels, matrix = volume()
    axial = SliceStack.from_array(pixels, matrix, frame_of_reference="1.2.3", name="axial")
    sagittal = SliceStack.from_array(pixels, matrix, frame_of_reference="1.2.4", name="sagittal")
    nifti = SliceStack.from_array(pixels, matrix, name="nifti")
    check_same_frame([axial, nifti, axial])
    with pytest.raises(GaussianMRIError, match=r"axial.*sagittal"):
        check_same_frame([axial, nifti, sagittal])
