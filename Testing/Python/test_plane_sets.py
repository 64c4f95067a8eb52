"""Planes made from lines, axes, planes and shapes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from fit_scenes import painted

import GaussianMRILib as gm
from GaussianMRILib.cli import main
from GaussianMRILib.geometry import (
    ImagePlane,
    best_fit_plane,
    orthogonal_planes,
    plane_angles,
    planes_along,
    radial_planes,
)
from GaussianMRILib.geometry.markups import read_line_markup

START, END = np.array([3.0, -20.0, 11.0]), np.array([-9.0, 4.0, 47.0])  # 44.9 mm apart
AXIS = (END - START) / np.linalg.norm(END - START)


def angle(a, b):
    """Degrees between two lines."""
    return np.rad2deg(np.arccos(min(1.0, abs(float(np.dot(a, b))))))


def test_planes_along_a_line_start_at_its_start_and_end_before_its_end():
    planes = planes_along(START, END, 6.0, size=(40, 30), spacing=0.4, thickness=3.0)
    assert len(planes) == 8  # at 0, 6, ..., 42 mm
    for k, plane in enumerate(planes):
        assert np.allclose(plane.center, START + 6.0 * k * AXIS, atol=1e-9) and plane.normal @ AXIS > 1 - 1e-12
        assert plane.shape == (75, 100) and plane.thickness == 3.0 and np.allclose(plane.spacing, 0.4)
    hanging = ImagePlane.from_normal(START, AXIS)
    assert np.allclose(planes[0].i_axis, hanging.i_axis) and np.allclose(planes[0].j_axis, hanging.j_axis)
    whole = planes_along(START, START + 12 * AXIS, 4.0)
    assert len(whole) == 4 and np.allclose(whole[-1].center, START + 12 * AXIS)  # the end itself belongs to it


@pytest.mark.parametrize("ends", [(START, END), ([-30, 0.5, 1.0], [30, 1.0, -2.0]), ([0, 0, 5], [1, 40, 5])])
def test_radial_planes_hold_the_axis_and_are_evenly_turned(ends):
    start, end = np.array(ends, float)
    axis = (end - start) / np.linalg.norm(end - start)
    planes = radial_planes(start, end, 6, size=(50, 30), spacing=0.5)
    for k, plane in enumerate(planes):
        assert abs(plane.normal @ axis) < 1e-12 and np.allclose(plane.center, (start + end) / 2)
        assert abs((start - plane.center) @ plane.normal) < 1e-9
        assert angle(plane.normal, planes[0].normal) == pytest.approx(min(30 * k, 180 - 30 * k), abs=1e-6)
        assert sorted(plane.shape) == [60, 100]
        down = abs(plane.j_axis @ axis) > 0.5
        assert abs((plane.j_axis if down else plane.i_axis) @ axis) > 1 - 1e-12
        assert plane.shape[0 if down else 1] == 60  # 30 mm along the axis, in an upright image
    wanted = np.array([0, 1, 0]) if abs(axis[0]) > 0.8 else np.array([1, 0, 0])
    assert planes[0].normal @ (wanted - (wanted @ axis) * axis) == pytest.approx(0, abs=1e-9)
    # One turn of 30 degrees about the axis makes the next plane of each.
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(np.pi / 6) * cross + (1 - np.cos(np.pi / 6)) * cross @ cross
    for one, other in itertools.pairwise(planes):
        assert abs((turn @ one.normal) @ other.normal) > 1 - 1e-12


def test_orthogonal_planes_are_perpendicular_to_the_plane_and_to_each_other():
    plane = ImagePlane.from_normal((4, -8, 15), (0.3, 0.5, 0.8), spacing=(0.4, 0.6), shape=(100, 220), thickness=2.0)
    one, other = orthogonal_planes(plane)
    for normal, made in ((plane.i_axis, one), (plane.j_axis, other)):
        assert angle(made.normal, normal) == pytest.approx(0, abs=1e-5)
        assert np.allclose(made.center, plane.center) and made.thickness == 2.0
        assert made.shape == (220, 220) and np.allclose(made.spacing, 0.4)  # 88 mm wide, 60 high
    assert max(abs(one.normal @ other.normal), abs(one.normal @ plane.normal), abs(other.normal @ plane.normal)) < 1e-12


def test_angles_are_those_to_the_patients_planes():
    tilted = ImagePlane.from_normal((0, 0, 0), (0, -np.sin(np.deg2rad(25)), np.cos(np.deg2rad(25))))
    assert np.allclose(plane_angles(tilted), (25, 90, 65))
    assert np.allclose(plane_angles(ImagePlane.from_normal((1, 2, 3), (-1, 0, 0))), (90, 0, 90))
    assert np.allclose(plane_angles(ImagePlane.from_normal((1, 2, 3), (1, 1, 1))), np.rad2deg(np.arccos(3**-0.5)))


def ring(count, spread, radii=(20.0, 12.0)):
    """Points of an ellipse about START with its normal along AXIS, most of them on one side where `spread` is small."""
    u = np.cross(AXIS, [1, 0, 0])
    u /= np.linalg.norm(u)
    t = 2 * np.pi * np.linspace(0, 1, count, endpoint=False) ** spread
    return START + radii[0] * np.cos(t)[:, None] * u + radii[1] * np.sin(t)[:, None] * np.cross(AXIS, u)


def test_a_plane_is_fitted_to_points_a_curve_and_a_surface():
    for spread in (1, 2):  # points that lie closer to each other in one place do not move a curve's or surface's plane
        points = ring(300, spread)
        curve = np.stack([points, np.roll(points, -1, axis=0)], axis=1)
        surface = np.stack([points, np.roll(points, -1, axis=0), np.broadcast_to(START, points.shape)], axis=1)
        for simplices in (points[:, None], curve, surface):
            plane = best_fit_plane(simplices, margin=5.0, spacing=0.5)
            assert angle(plane.normal, AXIS) < 1e-4 and abs((plane.center - START) @ AXIS) < 1e-9
            assert plane.normal[np.argmax(np.abs(plane.normal))] > 0
            inside = np.linalg.inv(plane.ijk_to_ras) @ np.c_[points, np.ones(len(points))].T
            reach = np.array([inside[:2].min(axis=1), inside[:2].max(axis=1)])
            wanted = np.array([[10, 10], np.array(plane.shape[::-1]) - 11]) - [[0.5], [-0.5]]
            assert np.abs(reach - wanted).max() < 1.1  # 5 mm of half a millimetre on each side
    # A flat box, unevenly meshed: its plane is that of the area, not of the corners.
    bumpy = np.concatenate([ring(200, 1)[:, None], (START + 3 * AXIS + np.zeros((100, 1, 3)))])
    assert abs((best_fit_plane(bumpy).center - START) @ AXIS) == pytest.approx(1.0, abs=1e-6)


def test_moments_are_integrals():
    """A triangle and a piece of a curve against dense samples of them: anisotropy decides which way the plane lies."""
    rng = np.random.default_rng(3)
    triangles = rng.normal(0, [9, 5, 2], (2, 3, 3))
    corner = np.sort(rng.random((60000, 2)), axis=1)
    shares = np.stack([corner[:, 0], corner[:, 1] - corner[:, 0], 1 - corner[:, 1]], axis=1)
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    picked = [shares[: int(60000 * area / areas.max())] @ triangle for area, triangle in zip(areas, triangles, strict=True)]
    dense = best_fit_plane(np.concatenate(picked)[:, None])
    assert angle(best_fit_plane(triangles).normal, dense.normal) < 0.6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planes_along(START, START, 5), "at one place"),
        (lambda: planes_along(START, END, 0), "step between planes"),
        (lambda: planes_along(START, END, 0.01), "makes 4490 planes on 44.9 mm"),
        (lambda: radial_planes(START, END, 0), "1 to 999 planes about an axis, got 0"),
        (lambda: radial_planes(START, [0, np.nan, 0], 4), "two points"),
        (lambda: best_fit_plane(np.linspace(START, END, 9)[:, None]), "on one line"),
        (lambda: best_fit_plane(np.zeros((4, 3, 3))), "without extent"),
        (lambda: best_fit_plane(ring(9, 1)[:, None], margin=-1), "must not be negative"),
    ],
)
def test_what_makes_no_planes_is_refused(call, message):
    with pytest.raises(gm.GaussianMRIError, match=message):
        call()


def line_file(path, system="LPS", kind="Line", points=((1.0, 2.0, -9.0), (-2.0, -1.0, 9.0))):
    sign = [-1, -1, 1] if system == "LPS" else [1, 1, 1]
    listed = [{"position": (np.array(p) * sign).tolist(), "positionStatus": "defined"} for p in points]
    listed.append({"position": [0, 0, 0], "positionStatus": "undefined"})
    path.write_text(json.dumps({"markups": [{"type": kind, "coordinateSystem": system, "controlPoints": listed}]}))
    return str(path)


def test_lines_of_markups_files(tmp_path):
    for system in ("LPS", "RAS"):
        for kind in ("Line", "Fiducial"):
            ends = read_line_markup(line_file(tmp_path / "line.mrk.json", system, kind))
            assert np.array_equal(ends, [(1, 2, -9), (-2, -1, 9)])
    for points in (((1, 2, 3),), ((1, 2, 3), (4, 5, 1e9)), ((1, 2, 3), (1, 2, 3))):
        with pytest.raises(gm.GaussianMRIError, match=r"line\.mrk\.json"):
            read_line_markup(line_file(tmp_path / "line.mrk.json", points=points))


def test_the_command_makes_planes_across_and_about_a_line_and_slabs(tmp_path):
    """A field whose value is the height along the line, 500 at its middle: planes across the line are even."""
    start, end = np.array([[1.0, 2.0, -9.0], [-2.0, -1.0, 9.0]])
    axis, middle = (end - start) / np.linalg.norm(end - start), (start + end) / 2
    field = painted(lambda points: 0.5 + 0.02 * ((points - middle) @ axis))
    field.save(tmp_path / "field.npz")
    line = line_file(tmp_path / "line.mrk.json")
    out = tmp_path / "across.nrrd"

    def run(*words):
        done = CliRunner().invoke(main, ["resample", str(tmp_path / "field.npz"), "--line", line, *map(str, words)])
        assert not done.exit_code, done.output
        return done.output

    run("--step", 3, "--size", 20, 16, "--spacing", 0.5, "-o", out)
    (stack,) = gm.read_stacks([out])
    assert stack.shape == (7, 16, 20)  # 18.5 mm, every 3 mm
    for k in range(7):
        value = 500 + 20 * (3 * k - np.linalg.norm(end - start) / 2)
        assert np.abs(stack.pixels[k] - value).max() < 1.5
    slab = ("--step", 100, "--size", 8, 8, "--thickness", 6, "-o", out)
    for projection, away in (("mean", 0), ("max", 3), ("min", -3)):
        run(*slab, "--projection", projection)
        (one,) = gm.read_stacks([out])
        expected = 500 + 20 * (away - np.linalg.norm(end - start) / 2)
        assert np.abs(one.pixels - expected).max() < 3
    run("--radial", 3, "--size", 20, 16, "--spacing", 0.5, "-o", tmp_path / "radial.nrrd")
    names = sorted(path.name for path in tmp_path.glob("radial*"))
    assert names == ["radial-000.0deg.nrrd", "radial-060.0deg.nrrd", "radial-120.0deg.nrrd"]
    for name in names:
        (plane,) = gm.read_stacks([tmp_path / name])
        assert np.ptp(plane.pixels[0].mean(axis=1)) == pytest.approx(20 * 7.5, abs=5)  # rows along the axis
        assert np.ptp(plane.pixels[0].mean(axis=0)) < 3


def test_the_command_says_which_options_belong_together(tmp_path):
    for words, message in (
        (["--line", "x", "--plane", "y"], "Give either --plane, or --line"),
        (["--line", "x"], "--line needs either --step"),
        (["--line", "x", "--step", "1", "--radial", "3"], "--line needs either --step"),
        (["--plane", "x", "--radial", "3"], "--radial needs --line"),
        (["--plane", "x", "--projection", "max"], "--projection needs --thickness"),
        (["--plane", "x", "--roi", *"123456"], "--axes and --roi are those of a volume"),
        (["--isotropic", "1", "--line", "x"], "leave the options of planes out"),
    ):
        done = CliRunner().invoke(main, ["resample", "f.npz", *words, "-o", str(tmp_path / "o.nrrd")])
        assert done.exit_code == 2 and message in done.output, done.output
