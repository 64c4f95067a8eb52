"""The benchmark of real studies: what it leaves out, where it puts it, and how it scores."""

from __future__ import annotations

import numpy as np
import pytest

from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import SliceStack
from Testing.Benchmarks.studies import summary_of
from Testing.Benchmarks.studies_places import found_plane, motions_of_slices, placed
from Testing.Benchmarks.studies_rows import CASES, Held, Study, leave_out, score


def _stack(slices: int, tilt: float = 0.0, start: float = 0.0, name: str = "a") -> SliceStack:
    c, s = np.cos(tilt), np.sin(tilt)
    poses = np.tile(np.eye(4), (slices, 1, 1))
    poses[:, :3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    poses[:, :3, 3] = poses[0, :3, 2] * (start + 4.0 * np.arange(slices))[:, None]
    pixels = np.random.default_rng(slices).random((slices, 12, 10))
    return SliceStack.from_array(pixels, poses, thickness=4.0, name=name)


def _blocks() -> SliceStack:
    """Five parallel slices and three tilted ones, in one stack."""
    one, other = _stack(5), _stack(3, 0.3, 30.0)
    return SliceStack.from_array(
        np.concatenate([one.pixels, other.pixels]), np.concatenate([one.ijk_to_ras, other.ijk_to_ras]), thickness=4.0
    )


def _study(stacks: list[SliceStack]) -> Study:
    return Study("s", CASES["prostate_a"], stacks, np.array([[-1e3, 4.5], [-1e3, 1e3], [-1e3, 1e3]]), None)


def test_every_second_slice_of_each_block_is_left_out_and_its_neighbours_are_known() -> None:
    study = _study([_blocks(), _stack(4)])
    rest, held = leave_out(study, 0, whole=False)
    assert [len(stack.pixels) for stack in rest] == [5, 4]  # 0, 2, 4 and 5, 7 of the first one remain
    assert [one.beside for one in held] == [(0, 1), (1, 2), (3, 4)]
    assert np.array_equal(held[2].pixels, study.stacks[0].pixels[6])
    assert held[0].valid.sum() == 12 * 5  # columns 0 to 4 lie inside the box
    rest, held = leave_out(study, 1, whole=True)
    assert len(rest) == 1 and len(held) == 4


def test_left_out_planes_move_with_the_slices_beside_them() -> None:
    stack = _stack(5)
    rest, held = leave_out(_study([stack]), 0, whole=False)
    angle = 0.1
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = 1.0, -2.0, 3.0
    motions = motions_of_slices(rest[0], motion @ rest[0].ijk_to_ras)
    for one, plane in zip(held, placed(held, motions), strict=True):
        assert plane.ijk_to_ras == pytest.approx(motion @ one.plane.ijk_to_ras, abs=1e-9)
    motions[1] = motion @ motion  # neighbours with two motions: the mean of their shifts at the plane's middle
    centre = np.r_[held[0].plane.center, 1]
    expected = (motion @ centre + motion @ motion @ centre)[:3] / 2
    assert placed(held, motions)[0].center == pytest.approx(expected, abs=1e-9)


def test_scores_know_no_scale_but_noise_and_blur() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((40, 40)).cumsum(0).cumsum(1).astype(np.float32) % 7
    valid = np.ones(truth.shape, bool)
    valid[:, :5] = False
    same = score(3.0 * truth - 20, truth, valid, 1.0)
    assert same["psnr"] > 60 and same["ncc"] == pytest.approx(1) and same["local"] == pytest.approx(1, abs=1e-3)
    noise = rng.normal(0, 0.5, truth.shape)
    noisy = score(truth + noise, truth, valid, 1.0)
    u, v = (truth + noise)[valid], truth[valid]
    r = np.corrcoef(u, v)[0, 1]
    expected = 10 * np.log10(np.percentile(v, 99.5) ** 2 / (v.var() * (1 - r**2)))
    assert noisy["psnr"] == pytest.approx(expected, abs=1e-4) and noisy["ncc"] == pytest.approx(r)
    assert noisy["local"] < 0.995


def test_summary_compares_with_the_best_single_and_names_the_worst_row() -> None:
    def row(label: str, fused: float, best: float) -> dict[str, object]:
        scores = {"fused": fused, "a alone": best, "mean": 20.0, "Tikhonov": 19.0, "spline": 18.0}
        return {
            "label": label, "best_single": "a alone",
            "scores": {key: {"psnr": v, "ncc": v / 100, "local": v / 100} for key, v in scores.items()},
        }  # fmt: skip

    found = summary_of([row("x", 21.0, 20.0), row("y", 20.0, 20.5), {"label": "z", "not_available": "no"}])
    assert found["rows"] == 2
    assert found["best single"]["psnr"] == {"mean": 0.25, "won": 1, "worst": -0.5, "worst_row": "y"}
    assert found["mean"]["psnr"]["mean"] == 0.5


def test_a_slice_that_moved_on_its_own_is_found() -> None:
    """Six numbers of an image that is known everywhere: 1.2, -.8 and 2.1 mm, and up to 3 degrees."""
    from scipy.spatial.transform import Rotation

    def render(plane: ImagePlane) -> np.ndarray:
        x, y, z = np.moveaxis(plane.points(), -1, 0)
        return np.sin(x / 5) + np.cos(y / 6 + z / 9) + np.sin((x - 2 * z) / 11)

    start = ImagePlane.from_normal((2, 3, 4), (0.1, 0.2, 1), spacing=(1, 1), shape=(40, 44), thickness=3.0)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(np.deg2rad([3, -2, 1])).as_matrix()
    motion[:3, 3] = [1.2, -0.8, 2.1]
    pixels = 100 * render(start.transformed(motion)) + 20
    held = Held(start, pixels.astype(np.float32), np.ones(pixels.shape, bool), (0, 1))
    found = found_plane(render, held, start)
    true = start.transformed(motion)
    ends = np.array([[0, 0, 0, 1], [43, 0, 0, 1], [0, 39, 0, 1], [43, 39, 0, 1.0]])
    away = (ends @ (found.ijk_to_ras - true.ijk_to_ras).T)[:, :3]
    assert np.linalg.norm(away, axis=1).max() < 0.3
