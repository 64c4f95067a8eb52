"""The published recipe: its numbers, its densification, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fit_scenes import scan

import GaussianMRILib as gm
from GaussianMRILib.fitting.optimiser import UNIT, FieldOptimiser
from GaussianMRILib.fitting.paper import RATES, PaperFit, _largest_deviation
from GaussianMRILib.fitting.problem import Problem


@pytest.fixture(scope="module")
def stack():
    return scan(slices=6, side=(28, 32))


def start(stack, **options):
    fit = PaperFit(Problem.pose(stack, "paper", 0, "cpu", None), **options)
    return fit, *fit._initialise()


def test_start_is_the_papers(stack):
    fit, parameters, unit = start(stack)
    assert parameters.shape[1] == 100_000
    assert (parameters[9] == 0.5).all() and torch.allclose(parameters[10], torch.tensor(0.623))
    assert abs(float(torch.sigmoid(torch.tensor(0.5))) - 0.623) < 1e-3
    # uniformly random in the box of the first and last slice, and not beyond it
    index = np.linalg.inv(stack.grid()) @ np.vstack([parameters[:3].numpy(), np.ones(100_000)])
    for axis, (low, high) in enumerate([(-0.5, 31.5), (-0.5, 27.5), (0, 5)]):
        assert low - 1e-3 <= index[axis].min() < low + 0.02 and high - 0.02 < index[axis].max() <= high + 1e-3
        assert abs(index[axis].mean() - (low + high) / 2) < 0.01 * (high - low)
    assert unit == pytest.approx(16.0)
    rates = fit._rates(0.0, unit), fit._rates(1.0, unit)
    assert [r.means / unit for r in rates] == pytest.approx(RATES[0])
    assert [r.colours for r in rates] == pytest.approx((0.01, 0.001))
    assert [r.amplitudes for r in rates] == pytest.approx((0.025, 0.0025))


def test_split_clone_and_prune(stack):
    fit, parameters, unit = start(stack, gaussians=40)
    parameters[[3, 6, 8], :10] = 1 / (0.2 * unit)  # large: split
    parameters[[3, 6, 8], 10:] = 1 / (0.05 * unit)
    parameters[10, 20:25] = 0.3  # transparent: removed, whatever their gradient
    fit.optimiser = FieldOptimiser(parameters, UNIT)
    gradient = torch.zeros(40)
    gradient[5:15] = 0.02  # 5 large ones, 5 small ones
    gradient[20:25] = 1.0
    new = fit._densify(gradient, unit).parameters
    assert new.shape[1] == 40 - 5 - 5 + 5 + 10  # pruned, split away, cloned, halves
    sigma = _largest_deviation(new[3:9]) / unit
    assert int((sigma - 0.2 / 1.6).abs().lt(1e-4).sum()) == 10
    assert int((sigma - 0.2).abs().lt(1e-4).sum()) == 5
    assert (new[10] >= 0.4).all()
    clones = [int((new[:3].T == parameters[:3, n]).all(1).sum()) for n in range(10, 15)]
    assert clones == [2] * 5


def test_it_learns_the_slices_and_densifies_on_schedule(stack):
    fitter = gm.Fitter(
        stack, preset="paper", gaussians=3000, epochs=60, densify_from=100, densify_every=100, seed=2
    )
    losses, counts = [], set()
    for progress in fitter:
        losses.append(progress.loss)
        counts.add(len(fitter.field))
    assert losses[-1] < 0.4 * losses[0] and len(counts) > 1
    image, slice_ = fitter.field.render(gm.ImagePlane(stack.ijk_to_ras[2], stack.shape[1:])), stack.pixels[2]
    assert gm.psnr(image, slice_) > 25
    assert fitter.field.report["iterations"] == 360
