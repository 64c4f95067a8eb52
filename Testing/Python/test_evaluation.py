"""The quality protocol: simulated slices, planes, truth, scores; and the classical ranking on real scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from GaussianMRILib.baselines import LinearInterpolator, SplineInterpolator, VoxelInterpolator
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.evaluation import (
    load_isotropic,
    oblique_planes,
    quality_case,
    score,
    simulate_stack,
    truth,
)
from GaussianMRILib.evaluation.simulate import resample_isotropic
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.metrics import psnr, ssim
from GaussianMRILib.priors.ridge import RidgeSettings, ridge_prior
from GaussianMRILib.volumes import Volume

# i points to the patient's left, j up, k forward: no axis is where an axial array has it.
AFFINE = np.array([[-1, 0, 0, 20], [0, 0, 1, -9], [0, 1, 0, 5], [0, 0, 0, 1.0]])
GRADIENT = np.array([0.011, -0.007, 0.02])


def scan(shape=(16, 25, 20), affine=AFFINE, ramp=False, seed=0) -> Volume:
    if not ramp:
        return Volume(np.random.default_rng(seed).random(shape).astype(np.float32), affine, name="noise")
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)[..., ::-1]
    points = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume((3 + points @ GRADIENT).astype(np.float32), affine, name="ramp")


@pytest.mark.parametrize(
    ("direction", "axis", "count"), [("axial", 1, 6), ("sagittal", 2, 5), ("coronal", 0, 4)]
)
def test_slices_are_means_of_four_voxels_at_their_place(direction: str, axis: int, count: int) -> None:
    source = scan()
    stack = simulate_stack(source, direction=direction, noise=0)
    voxels = np.moveaxis(source.pixels, axis, 0)[: 4 * count]
    means = voxels.reshape(count, 4, *voxels.shape[1:]).mean(axis=1)
    np.testing.assert_allclose(stack.pixels, means, atol=1e-6)
    assert stack.thickness == stack.spacing == 4.0
    ramp = simulate_stack(scan(ramp=True), direction=direction, noise=0)
    for k in range(count):
        np.testing.assert_allclose(ramp.pixels[k], 3 + ramp.plane(k).points() @ GRADIENT, atol=1e-5)


def test_gaps_overlaps_and_part_voxels() -> None:
    source = scan(ramp=True)
    for thickness, spacing in ((3.0, 5.0), (4.0, 2.0), (2.5, 2.5)):
        stack = simulate_stack(source, direction="axial", thickness=thickness, spacing=spacing, noise=0)
        assert stack.spacing == pytest.approx(spacing) and stack.thickness == thickness
        # A part of a voxel counts as that part of its constant value, which is off by a fraction of a voxel.
        tolerance = 1e-5 if thickness % 1 == 0 else 0.1 * np.abs(GRADIENT).max()
        for k in (0, len(stack.pixels) - 1):
            expected = 3 + stack.plane(k).points() @ GRADIENT
            np.testing.assert_allclose(stack.pixels[k], expected, atol=tolerance)


def test_noise_is_rician_and_seeded() -> None:
    dark = Volume(np.zeros((40, 40, 40), np.float32), np.eye(4))
    pixels = simulate_stack(dark, noise=0.02, seed=1).pixels
    assert pixels.mean() == pytest.approx(
        0.02 * np.sqrt(np.pi / 2), rel=0.02
    )  # Rayleigh where there is no signal
    bright = replace(dark, pixels=dark.pixels + 1)
    pixels = simulate_stack(bright, noise=0.02, seed=1).pixels
    assert pixels.std() == pytest.approx(0.02, rel=0.03) and pixels.mean() == pytest.approx(
        1 + 0.02**2 / 2, abs=5e-4
    )
    np.testing.assert_array_equal(pixels, simulate_stack(bright, noise=0.02, seed=1).pixels)
    assert (pixels != simulate_stack(bright, noise=0.02, seed=2).pixels).any()


def test_planes_are_tilted_as_asked_and_lie_in_the_slab() -> None:
    stack = simulate_stack(scan((40, 64, 60)), direction="axial")
    planes = oblique_planes(stack, count=9, tilt=(5, 30), seed=3)
    tilts = [np.degrees(np.arccos(abs(plane.normal @ stack.plane(0).normal))) for plane in planes]
    np.testing.assert_allclose(tilts, np.linspace(5, 30, 9), atol=1e-6)
    middle = stack.plane(8).center
    for plane in planes:
        assert (
            plane.shape == stack.shape[1:] and plane.spacing == pytest.approx((1, 1)) and plane.thickness == 0
        )
        assert abs((plane.center - middle) @ stack.plane(0).normal) < 20
    again = oblique_planes(stack, count=9, tilt=(5, 30), seed=3)
    np.testing.assert_array_equal(planes[4].ijk_to_ras, again[4].ijk_to_ras)


def test_truth_is_the_scan_thin_and_thick() -> None:
    source = scan((24, 30, 28))
    plane = ImagePlane(
        source.ijk_to_ras @ np.array([[1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 10], [0, 0, 0, 1.0]]), (9, 8)
    )
    np.testing.assert_allclose(truth(source, plane, False), source.pixels[10, 5:14, 4:12], atol=1e-4)
    smooth = scan((24, 30, 28), ramp=True)
    curved = replace(
        smooth, pixels=(np.arange(24.0)[:, None, None] ** 2 * np.ones((24, 30, 28))).astype(np.float32)
    )
    difference = truth(curved, plane, True, thickness=4.0) - truth(curved, plane, False)
    np.testing.assert_allclose(difference, 16 / 12, rtol=0.03)  # the mean of z^2 over 4 mm


def test_border_of_every_slab_is_not_judged() -> None:
    source = scan((24, 32, 28))
    stacks = [simulate_stack(source, direction=direction) for direction in ("axial", "sagittal")]
    plane = stacks[0].plane(3)
    one, both = truth(source, plane, False, stacks=stacks[:1]), truth(source, plane, False, stacks=stacks)
    assert np.isfinite(one[2:-2, 2:-2]).all() and np.isnan(one[:1]).all() and np.isnan(one[:, -1:]).all()
    assert np.isfinite(both).sum() <= np.isfinite(one).sum()
    outer = ImagePlane(plane.ijk_to_ras, (60, 60))
    outside = ~np.isfinite(source.at(outer.points()))
    assert outside.any() and np.isnan(truth(source, outer, False)[outside]).all()


def test_score_is_the_mean_over_planes_of_judged_pixels() -> None:
    generator = np.random.default_rng(0)
    truths = [generator.random((20, 22)).astype(np.float32) for _ in range(3)]
    images = [t + 0.05 * generator.normal(size=t.shape) for t in truths]
    truths[1][:5] = np.nan
    images[1][:3] = np.nan
    result = score(images, truths, lpips=lambda image, target: float(np.nanmean(np.abs(image - target))))
    masked = [np.where(np.isfinite(t), image, np.nan) for image, t in zip(images, truths, strict=True)]
    pairs = list(zip(masked, truths, strict=True))
    assert result.psnr == pytest.approx(np.mean([psnr(a, b, data_range=1) for a, b in pairs]))
    assert result.ssim == pytest.approx(np.mean([ssim(a, b, data_range=1) for a, b in pairs]))
    assert result.lpips == pytest.approx(np.mean([np.nanmean(np.abs(a - b)) for a, b in pairs]))
    assert score(images, truths).lpips is None
    images[0][4, 4] = np.nan
    with pytest.raises(GaussianMRIError, match="empty on 1 of"):
        score(images, truths)
    with pytest.raises(GaussianMRIError, match="one of each"):
        score(images[:2], truths)


def test_resampling_keeps_places_and_suppresses_what_would_alias() -> None:
    z, y, x = np.meshgrid(np.arange(60), np.arange(60), np.arange(60), indexing="ij")
    affine = np.diag([0.5, 0.6, 0.5, 1.0])
    affine[:3, 3] = (3, 4, 5)
    wave = np.sin(2 * np.pi * x * 0.5 / 12) + np.cos(2 * np.pi * y * 0.6 / 15)
    box = (slice(6, 20), slice(8, 26), slice(7, 21))
    pixels, placed = resample_isotropic(wave, affine, 1.0, box)
    assert pixels.shape == (14, 18, 14)
    np.testing.assert_allclose(np.diag(placed), 1)
    i, j = np.meshgrid(np.arange(14) + placed[0, 3] - 3, np.arange(18) + placed[1, 3] - 4)
    expected = np.sin(2 * np.pi * i / 12) + np.cos(2 * np.pi * j / 15)
    np.testing.assert_allclose(pixels[5], expected, atol=0.08)
    checkers = ((x + y + z) % 2).astype(float)
    assert resample_isotropic(checkers, np.diag([0.5, 0.5, 0.5, 1]), 1.0)[0].std() < 0.05 * checkers.std()


def test_misuse_is_named(tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match="no scan 'knee'"):
        load_isotropic("knee", tmp_path)
    with pytest.raises(GaussianMRIError, match="is not there"):
        load_isotropic("lumbar_t2", tmp_path)
    with pytest.raises(GaussianMRIError, match="direction"):
        simulate_stack(scan(), direction="oblique")
    with pytest.raises(GaussianMRIError, match="less than one"):
        simulate_stack(scan((4, 4, 4)), thickness=9)


def test_the_papers_size(shared_data: Path) -> None:
    source = load_isotropic("brain_t1_fine", shared_data)
    assert source.spacing == pytest.approx(2 / 3)
    stack = simulate_stack(source)
    assert stack.shape == (22, 112, 224) and stack.spacing == pytest.approx(4)


@pytest.mark.parametrize("name", ["lumbar_t2", pytest.param("brain_t1", marks=pytest.mark.slow)])
def test_classical_methods_rank_on_real_scans_as_they_should(shared_data: Path, name: str) -> None:
    case = quality_case(name, shared_data, planes=6)
    assert (
        case.scan.spacing == pytest.approx(1, abs=1e-3)
        and min(np.isfinite(t).sum() for t in case.thin) > 3000
    )
    prior = ridge_prior(case.stacks[0], settings=RidgeSettings(samples=40_000))
    methods = {
        "linear": LinearInterpolator(case.stacks).render,
        "cubic": SplineInterpolator(case.stacks, slice_profile=False).render,
        "profile": SplineInterpolator(case.stacks).render,
        "ridge": prior.sample,
    }
    if name == "lumbar_t2":  # the larger scan's million voxels take seconds
        methods["voxel"] = VoxelInterpolator(case.stacks).render
    thin = {name: score([render(p) for p in case.planes], case.thin) for name, render in methods.items()}
    thick = score([prior.sample(p) for p in case.thick_planes], case.thick)
    weak = [thin[method].psnr for method in ("linear", "voxel") if method in thin]
    assert thin["cubic"].psnr > max(weak) + 0.3
    assert thin["profile"].psnr > thin["cubic"].psnr + 0.1
    assert thin["ridge"].psnr > thin["profile"].psnr + 0.15
    assert thin["ridge"].ssim > thin["profile"].ssim > thin["cubic"].ssim > thin["linear"].ssim
    assert thick.psnr > thin["ridge"].psnr + 4
