"""Curves with a moving frame, and the space in which they are straight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curve_scenes import CENTER, HALF_ANGLE, LENGTH, RADIUS, arc, beside_arc
from numpy.typing import NDArray

from GaussianMRILib import Curve, GaussianMRIError

A, B = 20.0, 12.0  # radius of a helix, and mm that it climbs in a radian


def helix(turns: float = 0.9) -> NDArray[np.float64]:
    t = np.linspace(0, 2 * np.pi * turns, 90)
    return np.stack([A * np.cos(t), A * np.sin(t), B * t], axis=1)


def test_an_arc_has_its_length_places_and_frames() -> None:
    curve = Curve(arc())
    assert abs(curve.length - LENGTH) < 1e-3
    s = np.linspace(0, LENGTH, 31)
    frames = curve.frames(s)
    assert np.abs(frames[:, :3, 3] - beside_arc(s, 0, 0)).max() < 1e-3
    angle = s / RADIUS - HALF_ANGLE
    tangents = np.stack([0 * angle, -np.sin(angle), np.cos(angle)], axis=1)
    inwards = np.stack([0 * angle, -np.cos(angle), -np.sin(angle)], axis=1)  # to the back
    assert np.abs(frames[:, :3, 2] - tangents).max() < 1e-3
    assert np.abs(frames[:, :3, 0] - inwards).max() < 1e-3
    assert np.allclose(np.linalg.det(frames[:, :3, :3]), 1)
    assert np.allclose(np.cross(frames[:, :3, 0], frames[:, :3, 1]), frames[:, :3, 2])


def test_beyond_its_ends_a_curve_goes_on_straight() -> None:
    curve = Curve(arc())
    ends = curve.frames([0, LENGTH])
    beyond = curve.frames([-7.0, LENGTH + 5])
    assert np.allclose(beyond[:, :3, :3], ends[:, :3, :3])
    assert np.allclose(beyond[0, :3, 3], ends[0, :3, 3] - 7 * ends[0, :3, 2])
    assert np.allclose(beyond[1, :3, 3], ends[1, :3, 3] + 5 * ends[1, :3, 2], atol=1e-4)


def test_the_frame_turns_as_little_as_possible() -> None:
    """About a helix the normal of its bend turns by torsion times length; against it the frame turns by just that."""
    curve = Curve(helix(), across=(1, 0, 0.2))
    s = np.linspace(3, curve.length - 3, 200)
    t = s / np.hypot(A, B)
    normal = np.stack([-np.cos(t), -np.sin(t), 0 * t], axis=1)
    frames = curve.frames(s)
    angle = np.unwrap(
        np.arctan2((normal * frames[:, :3, 1]).sum(1), (normal * frames[:, :3, 0]).sum(1))
    )
    torsion = B / (A**2 + B**2)
    assert np.abs(angle - angle[0] - torsion * (s - s[0])).max() < 2e-3


def test_a_direction_is_kept_along_the_whole_curve() -> None:
    wanted = np.array([0.0, 0.2, 1.0])
    curve = Curve(helix(), across=wanted, fixed=True)
    frames = curve.frames(np.linspace(0, curve.length, 100))
    best = wanted - (frames[:, :3, 2] @ wanted)[:, None] * frames[:, :3, 2]
    best /= np.linalg.norm(best, axis=1)[:, None]
    assert np.abs(best - frames[:, :3, 0]).max() < 1e-5


def test_a_turn_is_about_the_curve_and_right_handed() -> None:
    straight, turned = (Curve([(0, 0, 0), (0, 0, 50)], across=(1, 0, 0), turn=turn) for turn in (0.0, 30.0))
    across = turned.frames([20.0])[0, :3, 0]
    assert np.allclose(straight.frames([20.0])[0, :3, 0], [1, 0, 0])
    assert np.allclose(across, [np.sqrt(0.75), 0.5, 0])


def test_a_straight_curve_stays_in_place() -> None:
    rng = np.random.default_rng(4)
    curve = Curve(np.array([1.0, 2, 3]) + np.linspace(0, 1, 5)[:, None] * [10, 40, -70])
    points = rng.uniform(-60, 60, (500, 3))
    assert abs(curve.length - np.linalg.norm([10, 40, -70])) < 1e-9
    assert np.abs(curve.to_curved(points) - points).max() < 1e-6
    assert np.abs(curve.to_straight(points) - points).max() < 1e-6


def test_points_of_an_arc_go_to_the_straight_space_and_back() -> None:
    curve = Curve(arc())
    rng = np.random.default_rng(5)
    s, back, right = rng.uniform(0, LENGTH, 400), *rng.uniform(-25, 25, (2, 400))
    matrix = curve.straight_to_ras
    # The right is aside here: across (back) x aside = along (up).
    straight = (np.stack([back, right, s, np.ones(400)], axis=1) @ matrix.T)[:, :3]
    curved = beside_arc(s, back, right)
    assert np.abs(curve.to_curved(straight) - curved).max() < 2e-3
    assert np.abs(curve.to_straight(curved) - straight).max() < 5e-3
    assert np.allclose(matrix[:3, :3].T @ matrix[:3, :3], np.eye(3)) and np.linalg.det(matrix) > 0
    # About where it was: along the chord, through the mean place.
    assert np.allclose(matrix[:3, 2], [0, 0, 1], atol=1e-4) and np.allclose(matrix[:3, 0], [0, -1, 0], atol=1e-4)
    mean = np.add(CENTER, [0, RADIUS * np.sin(HALF_ANGLE) / HALF_ANGLE, 0])
    assert np.abs(matrix[:3, 3] + LENGTH / 2 * matrix[:3, 2] - mean).max() < 0.01


def test_a_ring_is_cut_open_where_it_begins() -> None:
    t = np.linspace(0, 2 * np.pi, 25)
    points = np.stack([40 * np.cos(t), 40 * np.sin(t), 0 * t], axis=1)
    points[-1] = points[0]
    curve = Curve(points)
    assert abs(curve.length - 80 * np.pi) < 0.02
    frames = curve.frames([0, curve.length])
    assert np.abs(frames[0] - frames[1]).max() < 1e-3
    assert np.allclose(frames[0, :3, 0], [0, 0, -1], atol=1e-6)  # it runs to the back somewhere, never to the feet
    middle = curve.to_curved(curve.straight_to_ras[:3, 3] + curve.length / 2 * curve.straight_to_ras[:3, 2])
    assert np.abs(middle - [-40, 0, 0]).max() < 0.01


def test_a_bend_that_is_too_tight_is_told_with_its_place() -> None:
    curve = Curve(arc())
    folded, _ = curve.tightest(25.0)
    assert abs(folded - 25 / RADIUS) < 5e-3
    assert curve.folding(100) == "" and curve.folding(0, aside=200) == ""  # it is bent across, not aside
    assert "100 % of that width" not in curve.folding(150) and "80 % of that width" in curve.folding(150)
    kink = Curve([(0, 0, 0), (0, 0, 30), (0, 12, 60), (0, 40, 65), (0, 70, 65)])
    folded, s = kink.tightest(20, aside=20)
    assert folded > 1 and 55 < s < 80 and kink.folding(40, aside=40).startswith(f"{s:.0f} mm from its beginning")


def test_a_point_beyond_the_centre_of_the_bend_is_nowhere_but_one_beside_it_is() -> None:
    curve = Curve(arc())
    near, s = beside_arc(30.0, 50.0, 0.0), curve.to_straight(beside_arc(30.0, 50.0, 0.0))
    assert np.abs(curve.to_curved(s) - near).max() < 1e-4


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        ([(0, 0, 0)], {}, "at least two points"),
        ([(0, 0, 0), (0, 0, 0)], {}, "at least two points"),
        ([(0, 0), (1, 1)], {}, r"points \(N, 3\)"),
        ([(0, 0, 0), (0, np.nan, 1)], {}, "finite and in RAS mm"),
        ([(0, 0, 0), (0, 0, 1e5)], {}, "longer than any patient"),
        ([(0, 0, 0), (0, 0, 50)], {"across": (0, 0, 2)}, "runs along its middle"),
        ([(0, 0, 0), (0, 0, 50)], {"across": (0, 0, 0)}, "has no length"),
        ([(0, 0, 0), (0, 0, 50)], {"turn": np.inf}, "number of degrees"),
        (arc(), {"across": (0, -np.sin(0.4), np.cos(0.4)), "fixed": True}, r"60 mm from its beginning the curve runs along"),
    ],
)
def test_what_makes_no_curve_is_refused(points: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GaussianMRIError, match=message):
        Curve(points, **options)


def markups(kind: str, points: Any, **more: Any) -> dict[str, Any]:
    listed = [{"position": list(map(float, p)), "positionStatus": "defined"} for p in points]
    return {"markups": [{"type": "Line", "controlPoints": []}, {"type": kind, "controlPoints": listed, **more}]}


def test_a_curve_of_a_markups_file_goes_through_its_points(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [5, 20, 30], [-5, 25, 45], [0, 0, 100.0]])
    path = tmp_path / "canal.mrk.json"
    path.write_text(json.dumps(markups("Curve", points * [-1, -1, 1], coordinateSystem="LPS")))
    for curve in (Curve.from_markups(path), Curve.from_markups(markups("Curve", points, coordinateSystem="RAS"))):
        places = curve.frames(np.linspace(0, curve.length, 2000))[:, :3, 3]
        away = np.linalg.norm(places[:, None] - points, axis=2).min(axis=0)
        assert away.max() < 0.05
        assert np.abs(places[[0, -1]] - points[[0, -1]]).max() < 1e-3
    ring = Curve.from_markups(markups("ClosedCurve", points, coordinateSystem="RAS"))
    assert np.abs(ring.frames([0.0])[0, :3, 3] - ring.frames([ring.length])[0, :3, 3]).max() < 1e-6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"markups": [{"type": "Plane"}]}, "has no curve markup"),
        (markups("Curve", [(0, 0, 0)]), "too few points"),
        (markups("ClosedCurve", [(0, 0, 0), (0, 0, 9)]), "too few points"),
        (markups("Curve", [(0, 0, 0), (0, 0, 1e9)]), "far from any scanner"),
        (markups("Curve", [(0, 0, 0), (0, 0, 9)], coordinateUnits="um"), "in um"),
        (markups("Curve", [(0, 0, 0), (0, 0, 9)], coordinateSystem="XYZ"), "unknown coordinate system"),
    ],
)
def test_a_file_without_a_usable_curve_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.mrk.json"
    path.write_text(json.dumps(content))
    with pytest.raises(GaussianMRIError, match=rf"c\.mrk\.json.*{message}"):
        Curve.from_markups(path)
