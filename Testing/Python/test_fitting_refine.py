"""Motion and intensity between stacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fit_scenes import AXES, scan
from seeds import chosen_seed

import GaussianMRILib as gm
from GaussianMRILib.fitting.refine import refine_stacks, rigid, welsch


def corner_error(stack, truth):
    pairs = zip(stack.planes(), truth.planes(), strict=True)
    return np.mean([np.linalg.norm(a.corners() - b.corners(), axis=1).mean() for a, b in pairs])


def test_moved_and_brightened_slices_come_back():
    axial = scan(slices=10, side=(40, 44), noise=2)
    sagittal = scan(slices=10, side=(40, 40), axes=AXES[:, [1, 2, 0]], noise=2, seed=1)
    random = np.random.default_rng(5)
    poses, pixels = sagittal.ijk_to_ras.copy(), sagittal.pixels.copy()
    gains = random.uniform(0.85, 1.18, len(poses))
    for k in range(len(poses)):
        motion = np.r_[random.normal(0, 0.01, 3), random.normal(0, 1.2, 3)]
        poses[k] = rigid(motion, sagittal.plane(k).center) @ poses[k]
        pixels[k] *= gains[k]
    moved = replace(sagittal, ijk_to_ras=poses, pixels=pixels)
    (fixed_axial, fixed), weights, report = refine_stacks([axial, moved], 0.0, 900.0)
    before = corner_error(moved, sagittal)
    # Only the motion between the stacks can be seen, so the one that lay still moves a little as well.
    assert corner_error(fixed, sagittal) < 0.6 * before
    assert corner_error(fixed_axial, axial) < 0.5 * before
    left = np.array(report["intensity_scales"][1]) * gains
    assert left.std() < 0.5 * gains.std()
    assert (
        weights.shape == (axial.pixels.size + sagittal.pixels.size,)
        and 0 <= weights.min()
        and weights.max() <= 1
    )


def test_refined_fit_reports_and_one_stack_is_left_alone():
    stack = scan(slices=7, side=(20, 22))
    assert refine_stacks([stack], 0, 900)[0][0] is stack
    field = gm.fit(stack, refine=True)
    assert "nothing was moved" in field.report["refinement"]["note"]


def test_welsch_lets_outliers_go():
    residual = np.random.default_rng(chosen_seed()).normal(0, 1, 2000)
    residual[:20] = 30
    weight = welsch(residual)
    assert weight[:20].max() < 1e-6 and 0.8 < weight[20:].mean() <= 1
