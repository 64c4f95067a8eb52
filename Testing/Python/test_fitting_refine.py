"""Motion and intensity between stacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fit_scenes import SAGITTAL, scan
from registration_scenes import acquire
from scipy.spatial.transform import Rotation

import GaussianMRILib as gm
from GaussianMRILib.evaluation.simulate import load_isotropic
from GaussianMRILib.fitting.refine import refine_stacks, rigid, welsch


def brightened(stack, gains):
    return replace(stack, pixels=stack.pixels * gains[:, None, None].astype(np.float32))


def test_brightened_slices_come_back():
    axial = scan(slices=10, side=(40, 44), noise=2)
    sagittal = scan(slices=10, side=(40, 40), axes=SAGITTAL, noise=2, seed=1)
    gains = np.random.default_rng(5).uniform(0.85, 1.18, 10)
    _, weights, report = refine_stacks([axial, brightened(sagittal, gains)], 0.0, 900.0)
    left = np.array(report["intensity_scales"][1]) * gains
    assert left.std() < 0.6 * gains.std()
    assert (
        weights.shape == (axial.pixels.size + sagittal.pixels.size,)
        and 0 <= weights.min()
        and weights.max() <= 1
    )


def error_between(stacks, truths):
    """Mean distance of the slices' corners, mm, after the one rigid motion that all of them may have in common."""
    have, want = (
        np.concatenate([plane.corners() for stack in group for plane in stack.planes()])
        for group in (stacks, truths)
    )
    have, want = have - have.mean(axis=0), want - want.mean(axis=0)
    turn, _ = Rotation.align_vectors(want, have)
    return float(np.linalg.norm(turn.apply(have) - want, axis=1).mean())


@pytest.mark.data
@pytest.mark.slow
def test_every_slice_of_three_stacks_moved(shared_data):
    """Shifts and turns of 3 mm and 3 degrees (standard deviation, each axis) for every slice of three stacks."""
    lumbar = load_isotropic("lumbar_t2", shared_data)
    rng = np.random.default_rng(3)
    truths, given = [], []
    for axis, gain in ((2, 1.0), (0, 0.8), (1, 1.2)):
        truth = acquire(lumbar, axis, np.eye(4), rng, gain=gain, shading=0.2)
        poses = truth.ijk_to_ras.copy()
        for k in range(len(poses)):
            motion = np.r_[np.radians(rng.normal(0, 3, 3)), rng.normal(0, 3, 3)]
            poses[k] = rigid(motion, truth.plane(k).center) @ poses[k]
        truths.append(truth)
        given.append(replace(truth, ijk_to_ras=poses))
    seen = []
    found, _, report = refine_stacks(given, 0.0, 800.0, progress=seen.append)
    assert error_between(given, truths) > 5
    assert error_between(found, truths) < 1.8
    assert np.mean(np.concatenate(report["slice_ncc_after"])) > 0.75
    assert seen == sorted(seen) and seen[-1] == 1


def test_refined_fit_reports_and_one_stack_is_left_alone():
    stack = scan(slices=7, side=(20, 22))
    assert refine_stacks([stack], 0, 900)[0][0] is stack
    field = gm.fit(stack, refine=True)
    assert "nothing was moved" in field.report["refinement"]["note"]


def test_welsch_lets_outliers_go():
    residual = np.random.default_rng().normal(0, 1, 2000)
    residual[:20] = 30
    weight = welsch(residual)
    assert weight[:20].max() < 1e-6 and 0.8 < weight[20:].mean() <= 1
