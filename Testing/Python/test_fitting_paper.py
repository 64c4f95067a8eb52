"""The published recipe: its numbers, its parameters and frame, its densification, and that it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fit_scenes import SAGITTAL, intensity, scan

import GaussianMRILib as gm
from GaussianMRILib import SliceStack
from GaussianMRILib.baselines import VoxelInterpolator
from GaussianMRILib.evaluation import oblique_planes
from GaussianMRILib.fitting.paper import (
    BETA,
    RATES,
    ROOTS,
    PaperFit,
    PositionalGradient,
    Triangular,
    _largest_deviation,
    _rates,
    _single,
    shown,
)
from GaussianMRILib.fitting.problem import Problem
from GaussianMRILib.fitting.targets import slice_targets
from GaussianMRILib.gaussians import PlaneBatch


@pytest.fixture(scope="module")
def stack():
    return scan(slices=6, side=(28, 32))


def start(stack, **options):
    fit = PaperFit(Problem.pose(stack, "paper", 0, "cpu", None), **options)
    return fit, fit._initialise()


def planes(fit: PaperFit) -> PlaneBatch:
    problem = fit.problem
    return slice_targets(problem.stacks, problem.low, problem.high, problem.device, profile=False)[0]


def test_start_is_the_papers(stack):
    fit, parameters = start(stack)
    assert parameters.shape[1] == 100_000
    assert (parameters[9] == 0.5).all() and torch.allclose(parameters[10], torch.tensor(0.623))
    assert abs(float(torch.sigmoid(torch.tensor(0.5))) - 0.623) < 1e-3
    # L and the square roots of its diagonal: U[4, 5)
    assert parameters[3:9].min() >= 4 and parameters[3:9].max() < 5
    torch.testing.assert_close(parameters[3:9].mean(1), torch.full((6,), 4.5), rtol=0, atol=5e-3)
    torch.testing.assert_close(parameters[3:9].std(1), torch.full((6,), 12**-0.5), rtol=0, atol=5e-3)
    drawn = Triangular(parameters).drawn()
    assert (drawn[ROOTS] == parameters[ROOTS] ** 2 + BETA).all() and (drawn[[4, 5, 7]] == parameters[[4, 5, 7]]).all()
    assert float(_largest_deviation(drawn[3:9]).median()) == pytest.approx(0.061, abs=0.003)
    # uniformly random in the box of the first and last slice, and not beyond it
    assert fit.frame.unit == pytest.approx(16.0)
    means = fit.frame.gaussians(drawn)[:3].numpy()
    index = np.linalg.inv(stack.grid()) @ np.vstack([means, np.ones(100_000)])
    for axis, (low, high) in enumerate([(-0.5, 31.5), (-0.5, 27.5), (0, 5)]):
        assert low - 1e-3 <= index[axis].min() < low + 0.02 and high - 0.02 < index[axis].max() <= high + 1e-3
        assert abs(index[axis].mean() - (low + high) / 2) < 0.01 * (high - low)
    rates = _rates(0.0), _rates(1.0)
    for name, expected in zip(("means", "diagonal", "colours", "amplitudes"), RATES, strict=True):
        assert [getattr(r, name) for r in rates] == pytest.approx(expected)
    assert [r.off_diagonal for r in rates] == pytest.approx((0.1, 0.001))


def test_gradient_is_that_of_the_square_roots(stack):
    fit, parameters = start(stack, gaussians=300)
    batch = fit.frame.planes(planes(fit))
    parameters[3, ::2] *= -1  # l may have either sign
    optimiser = Triangular(parameters.clone())
    drawn = optimiser.drawn()
    image, samples, density = batch.render(drawn)
    given = torch.from_numpy(np.random.default_rng(0).normal(size=len(image)).astype(np.float32))
    found = optimiser.chain(batch.render_backward(given, samples, density, drawn))
    leaf = parameters.clone().requires_grad_()
    rows = [leaf[n] ** 2 + BETA if n in ROOTS else leaf[n] for n in range(11)]
    (given * batch.render(torch.stack(rows))[0]).sum().backward()
    scale = leaf.grad.abs().amax(1, keepdim=True)
    torch.testing.assert_close(found / scale, leaf.grad / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", ["one", "two"])
def test_frame_shows_what_the_scan_shows(stack, order):
    other = scan(slices=5, side=(30, 26), axes=SAGITTAL)
    stacks = [stack] if order == "one" else [stack, other]
    fit, parameters = start(stacks, gaussians=2000)
    parameters[9] = torch.rand(2000, generator=torch.Generator().manual_seed(1))
    drawn, batch = Triangular(parameters).drawn(), planes(fit)
    here, there = fit.frame.planes(batch).render(drawn)[0], batch.render(fit.frame.gaussians(drawn))[0]
    assert here.std() > 0.05 and (here - there).abs().max() < 2e-3
    reach = np.abs(fit.frame.planes(batch).frames[:, :3].numpy()).max()
    assert 0.5 < reach < 2
    assert np.ptp(np.stack([fit.frame.low, fit.frame.high]), axis=0).max() == pytest.approx(2)


def test_units_change_nothing(stack):
    """The same numbers whether positions are in mm or in cm."""
    poses = stack.ijk_to_ras.copy()
    poses[:, :3, :2] /= 10
    poses[:, :3, 3] /= 10
    small = SliceStack.from_array(stack.pixels, poses, thickness=stack.slice_thickness / 10)
    assert small.spacing == pytest.approx(stack.spacing / 10)
    fields = [
        gm.fit(s, preset="paper", seed=3, gaussians=3000, epochs=20, densify_from=60, densify_every=30)
        for s in (stack, small)
    ]
    images = [f.render_many(s.planes()) for f, s in zip(fields, (stack, small), strict=True)]
    assert len(fields[0]) == len(fields[1]) and gm.psnr(images[1][3], stack.pixels[3]) > 19
    for a, b in zip(*images, strict=True):
        np.testing.assert_allclose(a, b, atol=0.01 * np.ptp(stack.pixels))
    assert fields[0].report["loss"] == pytest.approx(fields[1].report["loss"], rel=1e-2)


def test_split_clone_and_prune(stack):
    fit, parameters = start(stack, gaussians=40)
    parameters[[4, 5, 7]] = 0
    parameters[ROOTS, :10] = (1 / 0.2 - BETA) ** 0.5  # large: split
    parameters[ROOTS, 10:] = (1 / 0.05 - BETA) ** 0.5
    parameters[10, 20:25] = 0.3  # transparent: removed, whatever their gradient
    fit.optimiser = Triangular(parameters)
    gradient = torch.zeros(40)
    gradient[5:15] = 0.02  # 5 large ones, 5 small ones
    gradient[20:25] = 1.0
    new = fit._densify(gradient)
    assert new.parameters.shape[1] == 40 - 5 - 5 + 5 + 10  # pruned, split away, cloned, halves
    sigma = _largest_deviation(new.drawn()[3:9])
    assert int((sigma - 0.2 / 1.6).abs().lt(1e-4).sum()) == 10
    assert int((sigma - 0.2).abs().lt(1e-4).sum()) == 5
    assert (new.parameters[10] >= 0.4).all()
    clones = [int((new.parameters[:3].T == parameters[:3, n]).all(1).sum()) for n in range(10, 15)]
    assert clones == [2] * 5


def test_positional_gradient_is_a_mean_over_the_steps_that_drew(stack):
    fit, parameters = start(stack, gaussians=1000)
    optimiser = Triangular(parameters)
    problem = fit.problem
    batch, target = slice_targets(problem.stacks, problem.low, problem.high, problem.device, profile=False)
    batch, targets = fit.frame.planes(batch), torch.split(target, batch.sizes)
    gradient, norms, drew = PositionalGradient(optimiser), [], []
    for n in range(6):
        optimiser.step(_single(batch, n), targets[n], None, _rates(0.0), 0.3)
        gradient.add(optimiser)
        norms.append(optimiser.gradient[:3].double().norm(dim=0))
        drew.append(optimiser.gradient[9] != 0)
    count = torch.stack(drew).sum(0)
    assert count.unique().tolist() == [0, 1, 2]
    mean = torch.stack(norms).sum(0) / count.clamp(min=1)
    assert (mean[count == 0] == 0).all()
    torch.testing.assert_close(gradient.mean().double(), mean, rtol=1e-4, atol=1e-9)


def test_gaussians_without_a_slice_are_found(stack):
    fit, parameters = start(stack, gaussians=100)
    pitch = 4.0 / fit.frame.unit  # slices lie at multiples of it, the middle one at 0
    parameters[:2], parameters[[4, 5, 7]] = 0, 0
    parameters[ROOTS] = 50**0.5  # reaches 0.056 units, less than a quarter of the pitch
    parameters[2, :70], parameters[2, 70:] = pitch, pitch / 2
    seen = shown(Triangular(parameters).drawn(), fit.frame.planes(planes(fit)))
    assert seen[:70].all() and not seen[70:].any()


def test_it_learns_the_slices_and_densifies_on_schedule(stack):
    fitter = gm.Fitter(
        stack, preset="paper", gaussians=3000, epochs=60, densify_from=100, densify_every=100, seed=2
    )
    losses, counts = [], set()
    for progress in fitter:
        losses.append(progress.loss)
        counts.add(len(fitter.field))
    assert losses[-1] < 0.2 * losses[0] and len(counts) > 1
    image, slice_ = fitter.field.render(gm.ImagePlane(stack.ijk_to_ras[2], stack.shape[1:])), stack.pixels[2]
    assert gm.psnr(image, slice_) > 30
    assert fitter.field.report["iterations"] == 360


def test_shapes_are_learned_and_planes_between_slices_are_as_good_as_voxel_interpolation():
    """What was published: as near to the truth as voxel interpolation, from Gaussians of many shapes."""
    stack = scan(slices=12, side=(40, 44), pixel=1.2)
    fitter = gm.Fitter(stack, preset="paper", gaussians=8000, epochs=60, densify_from=600, seed=1)
    *_, last = fitter
    assert last.fraction == 1
    field, voxels = fitter.field, VoxelInterpolator(stack)
    found, baseline = [], []
    for view in oblique_planes(stack, count=6, seed=1):
        points = view.points()
        truth = np.where(stack.inside(points), intensity(points), np.nan)
        found.append(gm.psnr(field.render(view), truth))
        baseline.append(gm.psnr(voxels.render(view), truth))
    assert np.mean(found) > np.mean(baseline) + 0.5
    across = 1 / fitter._fit.optimiser.drawn()[8]  # standard deviation along the slices' normal, units of the frame
    low, high = torch.quantile(across, torch.tensor([0.1, 0.9])).tolist()
    assert high / low > 3
    # those that no slice shows are gone, and leave no holes
    assert 0 < field.report["gaussians_without_slice"] < 0.15 * 8000
    batch = fitter._fit.frame.planes(planes(fitter._fit))
    assert shown(fitter._fit.optimiser.drawn(), batch).all()
    between = dataclasses.replace(batch, frames=batch.frames + 0)
    between.frames[:, :3] += 2 / fitter._fit.frame.unit * between.frames[:, 9:12]
    density = between.render(fitter._fit.optimiser.drawn())[2]
    assert float(density[0, : -batch.sizes[-1]].min()) > 0.01
