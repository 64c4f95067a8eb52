"""Planes and affines: what a position means, and that it survives every way round."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane, check_affine, transform_points, trilinear, unit_vector

# Multiples of 0.01 mm: ITK, a judge in many of these tests, fails on matrices with denormal numbers.
numbers = st.integers(-20000, 20000).map(lambda n: n / 100)
degrees = st.integers(-1800, 1800).map(lambda n: n / 10)
vectors = st.tuples(numbers, numbers, numbers)
directions = vectors.filter(lambda v: np.linalg.norm(v) > 1e-2)
spacings = st.floats(0.05, 20)


def rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """(3, 3) rotation about `axis` by Rodrigues' formula."""
    x, y, z = unit_vector(axis)
    cross = np.asarray([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@st.composite
def planes(draw: st.DrawFn) -> ImagePlane:
    turn = rotation(draw(directions), draw(degrees))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    spacing = (draw(spacings), draw(spacings))
    return ImagePlane.from_axes(
        draw(vectors), turn[:, 0], turn[:, 1], spacing=spacing, shape=shape, thickness=draw(st.floats(0, 10))
    )


def rigid(axis: tuple[float, float, float], degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(axis, degrees)
    matrix[:3, 3] = shift
    return matrix


def test_axial_plane_has_the_pixels_where_they_are_by_hand() -> None:
    plane = ImagePlane.from_axes(
        (10, 20, 30), (-1, 0, 0), (0, -2, 0), spacing=(0.5, 2.0), shape=(3, 5), thickness=4
    )
    np.testing.assert_allclose(plane.origin, [11, 22, 30])
    np.testing.assert_allclose(plane.points()[2, 4], [9, 18, 30])
    np.testing.assert_allclose(plane.points()[0, 1], [10.5, 22, 30])
    np.testing.assert_allclose(plane.points()[1, 0], [11, 20, 30])
    np.testing.assert_allclose(plane.normal, [0, 0, 1])
    np.testing.assert_allclose(plane.corners()[0], [11.25, 23, 30])
    assert plane.spacing == (0.5, 2.0) and plane.thickness == 4.0 and plane.points().shape == (3, 5, 3)


@settings(max_examples=60, deadline=None)
@given(planes(), directions, degrees, vectors)
def test_points_move_with_a_rigid_motion_of_the_plane(plane, axis, angle, shift) -> None:
    motion = rigid(axis, angle, shift)
    moved = plane.transformed(motion)
    np.testing.assert_allclose(moved.points(), transform_points(motion, plane.points()), atol=1e-9)
    np.testing.assert_allclose(moved.center, transform_points(motion, plane.center), atol=1e-9)
    np.testing.assert_allclose(moved.normal, motion[:3, :3] @ plane.normal, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(planes())
def test_ras_round_trip_and_properties_agree(plane) -> None:
    rows, columns = plane.shape
    back = transform_points(np.linalg.inv(plane.ijk_to_ras), plane.points())
    i, j = np.meshgrid(np.arange(columns), np.arange(rows))
    np.testing.assert_allclose(back, np.stack([i, j, np.zeros_like(i)], axis=-1), atol=1e-6)
    np.testing.assert_allclose(plane.points().reshape(-1, 3).mean(axis=0), plane.center, atol=1e-9)
    again = ImagePlane.from_axes(
        plane.center, plane.i_axis, plane.j_axis, spacing=plane.spacing, shape=plane.shape, thickness=plane.thickness
    )
    np.testing.assert_allclose(again.ijk_to_ras, plane.ijk_to_ras, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(planes(), st.floats(-50, 50), st.integers(1, 7), st.floats(0.1, 9))
def test_offset_and_stack_walk_along_the_normal(plane, mm, count, step) -> None:
    np.testing.assert_allclose(plane.offset(mm).origin - plane.origin, mm * plane.normal, atol=1e-9)
    stacked = plane.stack(count, step)
    assert len(stacked) == count
    np.testing.assert_allclose(np.mean([p.center for p in stacked], axis=0), plane.center, atol=1e-8)
    for before, after in itertools.pairwise(stacked):
        np.testing.assert_allclose(after.origin - before.origin, step * plane.normal, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(directions, vectors)
def test_from_normal_keeps_the_normal_and_hangs_upright(normal, center) -> None:
    plane = ImagePlane.from_normal(center, normal, spacing=(0.7, 0.9), shape=(4, 6))
    unit = np.asarray(normal) / np.linalg.norm(normal)
    np.testing.assert_allclose(plane.normal, unit, atol=1e-9)
    np.testing.assert_allclose(plane.center, center, atol=1e-9)
    assert abs(plane.i_axis @ unit) < 1e-9 and abs(plane.j_axis @ unit) < 1e-9
    upward = np.asarray([0, 1, 0] if np.argmax(np.abs(unit)) == 2 else [0, 0, 1])
    assert plane.j_axis @ upward < 0


def test_from_normal_hangs_the_three_standard_planes_as_radiologists_do() -> None:
    axial = ImagePlane.from_normal((0, 0, 0), (0, 0, 1))
    np.testing.assert_allclose([axial.i_axis, axial.j_axis], [[-1, 0, 0], [0, -1, 0]], atol=1e-12)
    coronal = ImagePlane.from_normal((0, 0, 0), (0, 1, 0))
    np.testing.assert_allclose([coronal.i_axis, coronal.j_axis], [[-1, 0, 0], [0, 0, -1]], atol=1e-12)
    for sign in (1, -1):
        sagittal = ImagePlane.from_normal((0, 0, 0), (sign, 0, 0))
        np.testing.assert_allclose([sagittal.i_axis, sagittal.j_axis], [[0, -1, 0], [0, 0, -1]], atol=1e-12)
        np.testing.assert_allclose(sagittal.normal, [sign, 0, 0], atol=1e-12)
    tilted = ImagePlane.from_normal((0, 0, 0), (0, 0, 1), up=(1, 1, 5))
    np.testing.assert_allclose(tilted.j_axis, [-(0.5**0.5), -(0.5**0.5), 0], atol=1e-12)
    with pytest.raises(GaussianMRIError, match="parallel"):
        ImagePlane.from_normal((0, 0, 0), (0, 0, 1), up=(0, 0, 2))


def markup(system: str = "LPS", **changes: object) -> dict[str, object]:
    """A plane as Slicer 5 writes it: tilted 30 degrees about the left-right axis, 80 mm x 60 mm."""
    turn = rotation((1, 0, 0), 30)
    center = np.asarray([5.0, -7.0, 11.0])
    if system == "LPS":
        turn, center = np.diag([-1, -1, 1]) @ turn, center * [-1, -1, 1]
    plane: dict[str, object] = {
        "type": "Plane", "coordinateSystem": system, "coordinateUnits": "mm", "planeType": "pointNormal",
        "sizeMode": "auto", "center": center.tolist(), "normal": turn[:, 2].tolist(),
        "orientation": turn.ravel().tolist(), "size": [80.0, 60.0, 0.0],
        "planeBounds": [-40.0, 40.0, -30.0, 30.0],
        "controlPoints": [{"id": "1", "position": center.tolist(), "positionStatus": "defined"}],
    }  # fmt: skip
    plane.update(changes)
    return {"markups": [{"type": "Fiducial"}, {k: v for k, v in plane.items() if v is not None}]}


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_markups_plane_is_where_slicer_has_it(system: str, tmp_path: Path) -> None:
    path = tmp_path / "plane.mrk.json"
    path.write_text(json.dumps(markup(system)))
    plane = ImagePlane.from_markups(path, spacing=(1.0, 0.5), thickness=2.0)
    turn = rotation((1, 0, 0), 30)
    np.testing.assert_allclose(plane.center, [5, -7, 11], atol=1e-12)
    np.testing.assert_allclose(plane.normal, turn[:, 2], atol=1e-12)
    np.testing.assert_allclose(plane.i_axis, [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(plane.j_axis, -turn[:, 1], atol=1e-12)
    assert plane.shape == (120, 80) and plane.thickness == 2.0


def test_every_plane_of_a_set_keeps_its_name_and_place(tmp_path: Path) -> None:
    (first,), (second,), (third,) = (
        [m for m in markup(**changes)["markups"] if m["type"] == "Plane"]
        for changes in (
            {"name": "L4-L5"},
            {"name": "L5-S1", "center": [5.0, 7.0, 30.0], "size": [10.0, 20.0, 0.0]},
            {"system": "RAS"},
        )
    )
    path = tmp_path / "set.mrk.json"
    path.write_text(json.dumps({"markups": [first, {"type": "Line"}, second, third]}))
    found = ImagePlane.set_from_markups(path, spacing=(1.0, 1.0), thickness=3.0)
    assert [name for name, _ in found] == ["L4-L5", "L5-S1", ""]
    assert [plane.shape for _, plane in found] == [(60, 80), (20, 10), (60, 80)]
    np.testing.assert_allclose(found[1][1].center, [-5, -7, 30], atol=1e-12)
    np.testing.assert_allclose(found[2][1].ijk_to_ras, found[0][1].ijk_to_ras, atol=1e-12)
    alone = ImagePlane.from_markups(path, spacing=(1.0, 1.0))
    np.testing.assert_array_equal(alone.ijk_to_ras, found[0][1].ijk_to_ras)
    assert found[0][1].thickness == 3.0
    with pytest.raises(GaussianMRIError, match="incomplete"):
        ImagePlane.set_from_markups({"markups": [first, {"type": "Plane"}]})


def test_markups_shape_spacing_bounds_and_fallbacks() -> None:
    spread = ImagePlane.from_markups(markup(), shape=(30, 20))
    np.testing.assert_allclose(spread.spacing, (4.0, 2.0))
    shifted = ImagePlane.from_markups(markup(planeBounds=[0.0, 80.0, -30.0, 30.0]))
    np.testing.assert_allclose(shifted.center, [45, -7, 11], atol=1e-12)
    bare = ImagePlane.from_markups(markup(orientation=None, size=None))
    np.testing.assert_allclose(bare.normal, rotation((1, 0, 0), 30)[:, 2], atol=1e-12)
    assert bare.shape == (224, 224)
    points = [{"position": p} for p in ([-1.0, 0.0, 0.0], [-5.0, 0.0, 0.0], [-1.0, 0.0, 3.0])]
    three = ImagePlane.from_markups(markup(orientation=None, normal=None, center=None, controlPoints=points))
    np.testing.assert_allclose(np.abs(three.normal), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(three.center, [1, 0, 0], atol=1e-12)
    # A plane whose x axis points up is hung with x along the rows' direction, and its size goes with it.
    turned = np.stack([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], axis=1).astype(float)
    upright = ImagePlane.from_markups(markup("RAS", orientation=turned.ravel().tolist()), spacing=(1, 1))
    assert upright.shape == (80, 60)
    np.testing.assert_allclose(upright.j_axis, [0, 0, -1], atol=1e-12)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"markups": []}, "no plane"),
        ([], "no plane"),
        (markup(coordinateSystem="XYZ"), "coordinate system"),
        (markup(orientation=[1, 2, 3]), "incomplete"),
        (markup(orientation=[0] * 9), "no length"),
        (markup(center=[np.nan, 0, 0]), "not finite"),
        (markup(orientation=None, normal=None, controlPoints=[]), "incomplete"),
        (markup(coordinateUnits="um"), "um"),
    ],
)
def test_broken_markups_say_what_is_wrong(content, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.mrk.json"
    path.write_text(json.dumps(content))
    with pytest.raises(GaussianMRIError, match=reason):
        ImagePlane.from_markups(path)


def test_markups_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match="cannot be read"):
        ImagePlane.from_markups(tmp_path / "missing.mrk.json")
    (tmp_path / "text.mrk.json").write_text("this is no JSON")
    with pytest.raises(GaussianMRIError, match="not JSON"):
        ImagePlane.from_markups(tmp_path / "text.mrk.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"i_axis": (0, 0, 0)}, "no length"),
        ({"i_axis": (1, np.nan, 0)}, "finite"),
        ({"j_axis": (1, 1, 0)}, "not perpendicular"),
        ({"spacing": (0, 1)}, "spacing"),
        ({"spacing": (-1, 1)}, "spacing"),
        ({"spacing": (np.nan, 1)}, "spacing"),
        ({"spacing": (1, 2000)}, "spacing"),
        ({"shape": (0, 4)}, "pixels"),
        ({"thickness": -1}, "thickness"),
        ({"thickness": np.nan}, "thickness"),
        ({"center": (np.inf, 0, 0)}, "finite"),
        ({"center": (0, 0)}, "three numbers"),
    ],
)
def test_impossible_planes_are_refused(change, reason: str) -> None:
    arguments = {"center": (0, 0, 0), "i_axis": (1, 0, 0), "j_axis": (0, 1, 0)} | change
    with pytest.raises(GaussianMRIError, match=reason):
        ImagePlane.from_axes(**arguments)


def test_impossible_affines_are_refused() -> None:
    for matrix, reason in [
        (np.eye(3), r"\(4, 4\)"),
        (np.full((4, 4), np.nan), "finite"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.diag([0.0, 1.0, 1.0, 1.0]), "spacing"),
    ]:
        with pytest.raises(GaussianMRIError, match=reason):
            check_affine(matrix)
    with pytest.raises(GaussianMRIError, match="one"):
        ImagePlane(np.repeat(np.eye(4)[None], 2, axis=0), (2, 2))
    with pytest.raises(GaussianMRIError, match="at least one"):
        ImagePlane(np.eye(4), (2, 2)).stack(0, 1.0)


def test_a_plane_does_not_share_memory_with_its_caller() -> None:
    matrix = np.eye(4)
    plane = ImagePlane(matrix, (2, 2))
    matrix[0, 3] = 7
    assert plane.origin[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        plane.ijk_to_ras[0, 3] = 1


def test_trilinear_weights_reproduce_what_is_linear_and_stay_at_the_border_beyond() -> None:
    shape = (3, 4, 1)
    values = np.add.outer(np.add.outer(2.0 * np.arange(3), -0.5 * np.arange(4)), np.zeros(1))
    index = np.array([[0.3, 2.9, 0.0], [2.0, 3.0, 0.0], [1.5, 0.0, 4.0], [-3.0, 9.0, 0.0]])
    voxels, weights = trilinear(index, shape)
    assert voxels.shape == weights.shape == (8, 4)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose((values.ravel()[voxels] * weights).sum(axis=0), [0.6 - 1.45, 4 - 1.5, 3.0, -1.5])


def test_a_plane_thinner_than_a_micrometre_is_thin() -> None:
    thin, slab = (ImagePlane(np.eye(4), (2, 2), thickness=mm) for mm in (5e-324, 0.5))
    assert thin.thickness == 0 and slab.thickness == 0.5
    with pytest.raises(GaussianMRIError, match="thickness must be 0 to"):
        ImagePlane(np.eye(4), (2, 2), thickness=-1e-9)
