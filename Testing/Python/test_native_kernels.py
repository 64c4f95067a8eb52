"""The CPU kernels against the reference in double precision, on scenes drawn anew in every run (the seed is
printed)."""

from __future__ import annotations

import pytest
import torch
from native_scenes import random_scene
from ssim_bounds import ssim_bounds

from GaussianMRILib import native
from GaussianMRILib.native.planes import reference
from GaussianMRILib.native.planes.arguments import AdamStep, PlaneScene

pytestmark = pytest.mark.usefixtures("needs_kernels")


def agreed(image: torch.Tensor, truth: torch.Tensor, flips: int = 5) -> torch.Tensor:
    """Pixels where both are the same, as 0 or 1: at the very edge of a Gaussian rounding decides on which
    side of the cut a pixel falls, and on empty background that is all of its value. More than a handful would
    be an error."""
    same = (image - truth).abs() < 2e-5
    assert int((~same).sum()) <= flips
    return same.float()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_image_and_gradient_match_the_reference(simd: str, seed: int) -> None:
    scene = random_scene(seed, gaussians=700, shapes=[(37, 53), (41, 9)])
    image, samples, density = native.render_planes(*scene)
    true_image, true_samples, true_density = reference.render_planes(PlaneScene(*scene.in_double()))
    for s in range(3):
        agreed(samples[s], true_samples[s])
    assert relative(density, true_density) < 1e-3
    upstream = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed)) * agreed(
        image, true_image
    )
    gradient = native.render_planes_backward(upstream, samples, density, *scene)
    truth = reference.render_planes_backward(upstream.double(), true_samples, true_density, PlaneScene(*scene.in_double()))
    for row in range(11):
        assert relative(gradient[row], truth[row]) < 1e-3, f"row {row}"


@pytest.mark.parametrize("cut", [2.0, 14.0, 30.0, 60.0])
def test_other_cuts(cut: float, seed: int) -> None:
    scene = random_scene(seed, gaussians=200, shapes=[(30, 31)], cut=cut)
    image, samples, density = native.render_planes(*scene)
    truth = reference.render_planes(PlaneScene(*scene.in_double()))
    assert relative(density, truth[2]) < 1e-3
    upstream = agreed(image, truth[0])
    gradient = native.render_planes_backward(upstream, samples, density, *scene)
    expected = reference.render_planes_backward(upstream.double(), *truth[1:], PlaneScene(*scene.in_double()))
    assert relative(gradient, expected) < 1e-3


def test_gradient_against_finite_differences(seed: int) -> None:
    """With the cut far out, where the image is smooth, without help from the reference."""
    scene = random_scene(seed, gaussians=60, shapes=[(16, 17)], cut=60.0, background=1e-2)
    parameters = scene.parameters
    upstream = torch.randn(16 * 17, generator=torch.Generator().manual_seed(seed))
    _, samples, density = native.render_planes(*scene)
    gradient = native.render_planes_backward(upstream, samples, density, *scene)
    direction = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(seed + 1)) * 1e-3
    ahead = native.render_planes(*scene._replace(parameters=parameters + direction))[0]
    behind = native.render_planes(*scene._replace(parameters=parameters - direction))[0]
    slope = float(((ahead.double() - behind.double()) * upstream).sum() / 2)
    expected = float((gradient.double() * direction).sum())
    scale = float((gradient.double() * direction).abs().sum())
    assert scale > 0 and abs(slope - expected) < 5e-3 * scale


def test_autograd_equals_the_direct_gradient(seed: int) -> None:
    scene = random_scene(seed, gaussians=300, shapes=[(20, 24), (9, 5)])
    leaf = scene.parameters.clone().requires_grad_(True)
    image, samples, density = native.render_planes(*scene._replace(parameters=leaf))
    assert image.requires_grad and not samples.requires_grad and not density.requires_grad
    upstream = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    image.backward(upstream)
    assert torch.equal(leaf.grad, native.render_planes_backward(upstream, samples, density, *scene))


def test_results_do_not_depend_on_threads(simd: str, seed: int, threads) -> None:
    scene = random_scene(seed, gaussians=5000, shapes=[(50, 70), (33, 20), (64, 64)])
    target = torch.rand(50 * 70 + 33 * 20 + 64 * 64, generator=torch.Generator().manual_seed(seed))
    results = []
    for count in (1, 2, 5):
        threads(count)
        image, samples, density = native.render_planes(*scene)
        gradient = native.render_planes_backward(target, samples, density, *scene)
        results.append((image, samples, density, gradient, *native.ssim(image, target, scene.shapes)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_planes_together_equal_planes_alone(seed: int) -> None:
    scene = random_scene(seed, gaussians=800, shapes=[(12, 30), (25, 8), (0, 4), (1, 1)] * 8)
    together = native.render_planes(*scene)[0]
    alone = []
    for p in range(len(scene.shapes)):
        part = slice(p, p + 1)
        one = scene._replace(
            frames=scene.frames[part],
            shapes=scene.shapes[part],
            offsets=scene.offsets[part],
            weights=scene.weights[part],
        )
        alone.append(native.render_planes(*one)[0])
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 100), (100, 1), (3, 7), (17, 16), (16, 17), (2, 513), (300, 5)]
)
def test_unusual_sizes(simd: str, shape: tuple[int, int], seed: int) -> None:
    scene = random_scene(seed, gaussians=200, shapes=[shape])
    image, samples, density = native.render_planes(*scene)
    truth = reference.render_planes(PlaneScene(*scene.in_double()))
    upstream = agreed(image, truth[0])
    gradient = native.render_planes_backward(upstream, samples, density, *scene)
    expected = reference.render_planes_backward(upstream.double(), *truth[1:], PlaneScene(*scene.in_double()))
    assert (gradient - expected).norm() <= 1e-3 * expected.norm() + 1e-6
    target = truth[0].float() * 0.7
    mean, slope = native.ssim(image, target, scene.shapes)
    true_mean, true_slope = reference.ssim(image.double(), target.double(), scene.shapes)
    of_mean, of_slope = ssim_bounds(image.double().reshape(shape), target.double().reshape(shape))
    assert abs(float(mean - true_mean)) <= of_mean
    assert ((slope - true_slope).abs() <= of_slope.reshape(-1)).all()


def test_large_and_flat_gaussians(simd: str, seed: int) -> None:
    """Footprints wider than the image, and long thin ones, take other paths through the kernels."""
    scene = random_scene(seed, gaussians=60, shapes=[(70, 210)], spacing=0.25)
    stretch = torch.tensor([0.05, 1.0, 4.0]).repeat(20)
    parameters = scene.parameters.clone()
    parameters[3:6] *= stretch
    parameters[6:8] *= stretch.roll(1)
    scene = scene._replace(parameters=parameters)
    image, samples, density = native.render_planes(*scene)
    truth = reference.render_planes(PlaneScene(*scene.in_double()))
    upstream = agreed(image, truth[0], flips=15)
    gradient = native.render_planes_backward(upstream, samples, density, *scene)
    expected = reference.render_planes_backward(upstream.double(), *truth[1:], PlaneScene(*scene.in_double()))
    assert relative(gradient, expected) < 5e-3


def test_without_gaussians_or_planes() -> None:
    scene = random_scene(1, gaussians=0, shapes=[(4, 5)])
    image, samples, density = native.render_planes(*scene)
    assert torch.equal(image, torch.zeros(20)) and torch.equal(density, torch.full((3, 20), scene.background))
    assert native.render_planes_backward(image, samples, density, *scene).shape == (11, 0)
    empty = random_scene(1, gaussians=5, shapes=[])
    image, samples, density = native.render_planes(*empty)
    assert image.shape == (0,) and samples.shape == (3, 0)
    assert torch.equal(native.render_planes_backward(image, samples, density, *empty), torch.zeros(11, 5))
    bare = random_scene(1, gaussians=0, shapes=[(4, 5)], background=0.0)
    assert torch.equal(native.render_planes(*bare)[0], torch.zeros(20))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", range(11))
def test_a_broken_gaussian_is_left_out(row: int, value: float) -> None:
    scene = random_scene(7, gaussians=40, shapes=[(20, 20)])
    parameters = scene.parameters.clone()
    parameters[row, 11] = value
    broken = scene._replace(parameters=parameters)
    without = scene._replace(parameters=torch.cat([parameters[:, :11], parameters[:, 12:]], dim=1))
    image, samples, density = native.render_planes(*broken)
    expected = native.render_planes(*without)
    assert torch.equal(image, expected[0])
    gradient = native.render_planes_backward(torch.ones_like(image), samples, density, *broken)
    assert torch.equal(gradient[:, 11], torch.zeros(11))
    other = native.render_planes_backward(torch.ones_like(image), *expected[1:], *without)
    assert torch.equal(torch.cat([gradient[:, :11], gradient[:, 12:]], dim=1), other)


@pytest.mark.parametrize(("row", "value"), [(3, 0.0), (6, 0.0), (8, 0.0), (10, 0.0), (10, -1.0)])
def test_singular_and_weightless_gaussians_are_left_out(row: int, value: float) -> None:
    scene = random_scene(8, gaussians=1, shapes=[(20, 20)])
    parameters = scene.parameters.clone()
    parameters[row, 0] = value
    assert torch.equal(native.render_planes(*scene._replace(parameters=parameters))[0], torch.zeros(400))


def test_ssim_matches_the_reference(simd: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor([[40, 33], [0, 3], [5, 90], [224, 100]], dtype=torch.int32)
    total = int(shapes.prod(dim=1).sum())
    image, target = torch.rand(total, generator=generator), torch.rand(total, generator=generator)
    mean, gradient = native.ssim(image, target, shapes)
    true_mean, true_gradient = reference.ssim(image.double(), target.double(), shapes)
    full = torch.tensor([0, 2, 3])
    assert (mean - true_mean)[full].abs().max() < 1e-5 and mean[1].isnan()
    assert relative(gradient, true_gradient) < 1e-4
    same, flat = native.ssim(image, image, shapes)
    assert (same[full] - 1).abs().max() < 1e-5 and flat.abs().max() < 1e-4


def test_ssim_autograd(seed: int) -> None:
    shapes = torch.tensor([[12, 20], [30, 8]], dtype=torch.int32)
    generator = torch.Generator().manual_seed(seed)
    image, target = (torch.rand(480, generator=generator) for _ in range(2))
    image.requires_grad_(True)
    mean, gradient = native.ssim(image, target, shapes)
    (mean * torch.tensor([2.0, -3.0])).sum().backward()
    factor = torch.cat([torch.full((240,), 2.0), torch.full((240,), -3.0)])
    assert torch.allclose(image.grad, gradient.detach() * factor)


def test_adam_matches_the_reference_and_torch(simd: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(3, 1000, generator=generator) * 0.9 + 0.05
    rates, modes = torch.tensor([0.1, 0.05, 0.2]), torch.tensor([0, 1, 2], dtype=torch.int32)
    ours = [values.clone(), torch.zeros_like(values), torch.zeros_like(values)]
    truth = [x.double() for x in ours]
    plain = values[0].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([plain], lr=0.1)
    for step in range(1, 6):
        gradient = torch.randn(values.shape, generator=generator)
        native.adam_(ours[0], gradient, ours[1], ours[2], rates, modes, step)
        reference.adam_(AdamStep(
            truth[0], gradient.double(), *truth[1:], rates.double(), modes, step, 0.9, 0.999, 1e-8
        ))
        plain.grad = gradient[0].clone()
        optimiser.step()
    assert all((a - b).abs().max() < 2e-5 for a, b in zip(ours, truth, strict=True))
    assert (ours[0][0] - plain.detach()).abs().max() < 1e-5
    assert (ours[0][1] > 0).all() and ((ours[0][2] > 0) & (ours[0][2] < 1)).all()


def test_adam_leaves_entries_without_a_finite_gradient(simd: str) -> None:
    values = torch.full((3, 9), 0.5)
    before = values.clone()
    gradient = torch.tensor([float("nan"), float("inf"), 1.0]).repeat(3, 3)
    m, v = torch.zeros_like(values), torch.zeros_like(values)
    native.adam_(values, gradient, m, v, torch.full((3,), 0.1), torch.tensor([0, 1, 2], dtype=torch.int32), 1)
    finite = torch.isfinite(gradient)
    assert torch.equal(values[~finite], before[~finite]) and (m[~finite] == 0).all()
    assert (values[finite] < before[finite]).all()
