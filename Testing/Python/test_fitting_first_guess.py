"""The field that can be looked at while a fit goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_scenes import SAGITTAL, intensity, scan
from test_fitting_fast import error, oblique_plane

import GaussianMRILib as gm
from GaussianMRILib.fitting import first_guess as module
from GaussianMRILib.fitting.problem import Problem

QUICK = {"prior": "spline", "passes": 2, "blend": 0.5}


def guess_of(*stacks):
    return module.first_guess(Problem.pose(list(stacks), "fast", 0, "cpu", None))


def test_it_is_there_while_the_fit_goes_on_and_changes_nothing_of_it(tmp_path):
    stack = scan()
    fitter = gm.Fitter(stack, first_guess=True, **QUICK)
    assert fitter.first_guess is None
    seen = [fitter.first_guess for progress in fitter if progress.fraction < 1]
    assert seen[0] is None and len(seen) > 4 and all(guess is seen[1] for guess in seen[1:])
    assert fitter.first_guess is None
    plane = oblique_plane()
    assert error(seen[1].render(plane), plane) < 1.02 * error(gm.spline_interpolation(stack, plane), plane)
    acquired = stack.plane(5)
    assert np.sqrt(np.nanmean((seen[1].render(acquired) - stack.pixels[5]) ** 2)) < 8  # noise of 4, of 900
    with pytest.raises(gm.GaussianMRIError, match="not rounded"):
        seen[1].save(tmp_path / "guess.npz")
    assert torch.equal(fitter.field.lattice.nodes, gm.fit(stack, **QUICK).lattice.nodes)


def test_nobody_who_did_not_ask_for_it_waits_for_it(monkeypatch):
    monkeypatch.setattr(module, "first_guess", lambda problem: pytest.fail("was made"))
    fitter = gm.Fitter(scan(), **QUICK)
    assert [fitter.first_guess for _ in fitter][-1] is None


def test_a_large_scan_is_looked_at_with_larger_pixels_in_place(monkeypatch):
    stack = scan(side=(97, 110), pixel=0.5)
    fine = guess_of(stack)
    monkeypatch.setattr(module, "MOST_CUBES", 40_000)
    coarse = guess_of(stack)
    assert len(coarse) < len(fine) / 8 and coarse.lattice.pitch[0] == pytest.approx(1.5)
    plane = stack.plane(5)
    sharp, blurred = fine.render(plane), coarse.render(plane)
    np.testing.assert_array_equal(np.isfinite(blurred), np.isfinite(sharp))

    def away(pixels):
        return np.sqrt(np.nanmean((coarse.render(plane_moved(plane, pixels)) - sharp) ** 2))

    assert away(0) < min(away(-0.5), away(0.5)) and away(0) < 15  # of 900


def plane_moved(plane, pixels):
    matrix = plane.ijk_to_ras.copy()
    matrix[:3, 3] += pixels * (matrix[:3, 0] + matrix[:3, 1])
    return replace(plane, ijk_to_ras=matrix)


def test_several_acquisitions_are_their_mean_in_the_scale_of_the_largest():
    axial, sagittal = scan(), scan(axes=SAGITTAL, slices=11, side=(44, 48), seed=1)
    darker = replace(sagittal, pixels=0.5 * sagittal.pixels + 40)
    plane = oblique_plane()
    guess = guess_of(axial, darker)
    both, alone = error(guess.render(plane), plane), error(guess_of(axial).render(plane), plane)
    assert both < 0.85 * alone
    there = np.isfinite(guess.render(plane))
    assert np.ptp(intensity(plane.points())[there]) > 500  # the error is of a plane that shows something


def test_slices_that_are_nowhere_parallel_have_none(monkeypatch):
    stack = scan(slices=2)
    angle = 0.3
    turned = stack.ijk_to_ras.copy()
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    turned[1, :3, :3] = turn @ turned[1, :3, :3]
    assert guess_of(replace(stack, ijk_to_ras=turned)) is None


def test_a_cancel_is_heard_while_it_is_made(monkeypatch):
    fitter = gm.Fitter(scan(), first_guess=True, **QUICK)
    whole = module.spline_volume

    def cancelled(block):
        fitter.cancel()
        return whole(block)

    monkeypatch.setattr(module, "spline_volume", cancelled)
    with pytest.raises(gm.GaussianMRIError, match="cancelled"):
        list(fitter)
    assert fitter.first_guess is None
