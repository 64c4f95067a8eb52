"""The benchmark's disturbances: what they do to pixels and places, and how what a fit found is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from GaussianMRILib.evaluation import simulate_stack
from GaussianMRILib.stacks import SliceStack
from GaussianMRILib.volumes import Volume
from Testing.Benchmarks import disturbances
from Testing.Benchmarks.disturbances import CASES, Disturbance, corners, disturbed, found, motion, shading

#: R, A, S mm of the outer edges of `_flat`.
LOW, HIGH = np.array([-20.0, -40.0, 0.0]), np.array([20.0, 40.0, 60.0])


def _flat(value: float = 1.0) -> SliceStack:
    """Ten sagittal slices of 4 mm, 60 rows of 80 columns, of one intensity."""
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 4], [1, 0, 0], [0, 1, 0]]
    affine[:3, 3] = LOW + np.array([2.0, 0.5, 0.5])
    return SliceStack.from_array(np.full((10, 60, 80), value, np.float32), affine, thickness=4.0)


def test_nothing_disturbed_is_what_the_protocol_simulates() -> None:
    scan = Volume(np.random.default_rng(0).random((20, 24, 28)).astype(np.float32), np.eye(4))
    clean, expected = (simulate_stack(scan, direction="sagittal", seed=1, **noise) for noise in ({"noise": 0}, {}))
    same = disturbed(clean, CASES["none"], seed=1)
    assert same.pixels == pytest.approx(expected.pixels, abs=1e-6)
    assert np.array_equal(same.ijk_to_ras, expected.ijk_to_ras)


def test_gain_offset_and_shading_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbances, "NOISE", 0.0)
    clean = _flat()
    assert disturbed(clean, Disturbance(gain=0.5)).pixels == pytest.approx(0.5)
    assert disturbed(clean, Disturbance(gain=2.0, offset=0.1)).pixels == pytest.approx(2.2)
    shaded = disturbed(clean, Disturbance(shading=0.3)).pixels
    # Slice 5 (R 2 mm), row 30 (S 30.5 mm), columns 40 and 70 (A .5 and 30.5 mm), in shares of half the field of view,
    # which in R goes from slice centre to slice centre.
    for column, anterior in ((40, 0.5), (70, 30.5)):
        share = 0.2 * 2 / 18 + 0.5 * anterior / 40 - 0.3 * 0.5 / 30
        assert shaded[5, 30, column] == pytest.approx(1 + 0.3 * np.sin(0.75 * np.pi * share), abs=1e-5)
    assert shaded.min() == pytest.approx(0.7, abs=1e-3) and shaded.max() == pytest.approx(1.3, abs=1e-3)
    assert np.abs(np.diff(shading(clean), axis=2)).max() < 0.05  # smooth
    assert 0.1 < (shaded - 1).std() < 0.3


def test_noise_is_a_multiple_of_the_protocols_and_is_not_shaded() -> None:
    clean = _flat()
    for noise in (1.0, 2.0):
        noisy = disturbed(clean, Disturbance(noise=noise)).pixels
        assert (noisy - 1).std() == pytest.approx(noise * 0.01, rel=0.02)
    how = Disturbance(gain=2.0, noise=2.0, shading=0.3)
    rest = disturbed(clean, how).pixels - 2 * (1 + 0.3 * shading(clean))
    for dark in (True, False):
        assert rest[(shading(clean) < 0) == dark].std() == pytest.approx(0.04, rel=0.03)
    assert not np.array_equal(disturbed(clean, how, seed=1).pixels, disturbed(clean, how).pixels)


@pytest.mark.parametrize("name", CASES)
def test_the_place_is_wrong_by_what_is_said(name: str) -> None:
    clean, how = _flat(), CASES[name]
    moved = disturbed(clean, how)
    shift = corners(moved).mean(axis=0) - corners(clean).mean(axis=0)
    assert shift == pytest.approx(how.shift_mm * np.array([2, -1, 2]) / 3, abs=1e-9)
    turn = moved.ijk_to_ras[0, :3, :3] @ np.linalg.inv(clean.ijk_to_ras[0, :3, :3])
    assert np.degrees(Rotation.from_matrix(turn).magnitude()) == pytest.approx(how.turn_degrees, abs=1e-6)


def test_what_is_left_of_a_motion() -> None:
    clean, how = _flat(), Disturbance(shift_mm=4.0)
    given = motion(clean, how)
    back, unmoved = np.linalg.inv(given), np.eye(4)
    half = back.copy()
    half[:3, 3] /= 2

    def told(second: np.ndarray, how: Disturbance = how, first: np.ndarray = unmoved) -> dict:
        blocks = [[{"accepted": False, "note": ""}], [{"accepted": True, "note": "gain"}]]
        report = {
            "motions": [[first.tolist()], [second.tolist()]],
            "registration": {"stacks": [{"blocks": line} for line in blocks]},
            "fusion": {"method": "half", "part": None},
        }
        return json.loads(json.dumps(found(report, clean, how)))

    assert told(back)["left_mm"] == pytest.approx(0, abs=1e-9) and told(back)["given_mm"] == pytest.approx(4)
    assert [told(half)[key] for key in ("left_mm", "left_at_middle_mm")] == pytest.approx([2, 2])
    assert told(unmoved, first=given)["left_mm"] == pytest.approx(0, abs=1e-9)
    assert told(half)["accepted"] and told(half)["fused_by"] == "half"
    turned = told(unmoved, Disturbance(turn_degrees=4.0))
    assert turned["left_at_middle_mm"] == pytest.approx(0, abs=1e-9)
    farthest = np.radians(4) * np.linalg.norm(HIGH - LOW) / 2
    assert 1 < turned["left_mm"] < farthest and turned["left_mm"] == pytest.approx(turned["given_mm"])


def test_more_noise_is_compared_with_more_noise_too() -> None:
    views = ("thin", "thick")
    psnr = {
        "none": 30.0,
        "gain 2": 29.9,
        "noise x 2": 29.5,
        "all, 3 mm, 3 degrees": 29.25,
        "axial alone": 26.0,
    }
    rows: dict[str, dict[str, Any]] = {
        label: {view: {"psnr": value} for view in views} for label, value in psnr.items()
    }

    def thin(label: str) -> dict[str, float]:
        lost = disturbances.against(label, rows, dict.fromkeys(views))
        return {other: by_view["thin"] for other, by_view in lost.items()}

    assert thin("none") == {"none": 0.0}
    assert thin("gain 2") == {"none": pytest.approx(-0.1)} and thin("noise x 2") == {"none": -0.5}
    assert thin("all, 3 mm, 3 degrees") == {"none": -0.75, "noise x 2": -0.25}
    assert thin("axial alone") == {"none": -4.0}
    rows["none"] = {"not_available": "no memory"}
    assert thin("all, 3 mm, 3 degrees") == {"noise x 2": -0.25}


def test_a_disturbed_stack_is_the_given_one_otherwise() -> None:
    clean = replace(_flat(), name="a", frame_of_reference="1.2.3")
    moved = disturbed(clean, CASES["all, 3 mm, 3 degrees"])
    assert (moved.name, moved.frame_of_reference, moved.shape) == ("a", "1.2.3", clean.shape)
    assert np.array_equal(moved.slice_thickness, clean.slice_thickness)
