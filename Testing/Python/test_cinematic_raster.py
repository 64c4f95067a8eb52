"""The rasteriser of splats on the CPU: against the float64 reference, against quadrature, and where it leaks light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from raster_scenes import NAMES, RasterScene, assert_gradients_agree, assert_pictures_agree, raster_scene
from torch import Tensor

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.rasterise import ScreenStatistics, rasterise
from GaussianMRILib.cinematic.splats import SH_C0, Splats
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.native.splats import operators as splat_operators
from GaussianMRILib.native.splats import reference
from GaussianMRILib.native.splats.arguments import SplatScene

CASES = [(0, 3, (75, 61), False), (1, 3, (75, 61), True), (2, 2, (16, 33), True), (3, 1, (1, 50), False),
         (4, 0, (70, 64), True)]  # fmt: skip


def draw(scene: RasterScene) -> tuple[Tensor, ...]:
    return splat_operators.rasterise(*scene.splats, scene.screen, scene.camera, scene.width, scene.height)


def gradients(scene: RasterScene) -> tuple[Tensor, ...]:
    leaves = [t.clone().requires_grad_() for t in (*scene.splats, scene.screen)]
    pictures = splat_operators.rasterise(*leaves, scene.camera, scene.width, scene.height)
    torch.autograd.backward(pictures[:3], scene.gradients)
    return tuple(leaf.grad for leaf in leaves)


@pytest.mark.parametrize(("seed", "degree", "size", "cut"), CASES)
def test_pictures_equal_the_reference(seed: int, degree: int, size: tuple[int, int], cut: bool) -> None:
    scene = raster_scene(seed, degree=degree, size=size, cut=cut)
    assert_pictures_agree(scene, draw(scene))


@pytest.mark.parametrize(("seed", "degree", "size", "cut"), CASES[:3] + CASES[4:])
def test_gradients_equal_the_reference(seed: int, degree: int, size: tuple[int, int], cut: bool) -> None:
    scene = raster_scene(seed, degree=degree, size=size, cut=cut)
    assert_gradients_agree(scene, gradients(scene))


def test_dense_splats_finish_pixels() -> None:
    """Enough splats that the limit of transmittance ends most pixels, in lists far longer than a batch."""
    scene = raster_scene(11, count=4000, degree=0, size=(40, 40), cut=True)
    assert_pictures_agree(scene, draw(scene))
    assert_gradients_agree(scene, gradients(scene), 4e-5)


def test_every_instruction_set_and_thread_count(simd: str, threads: Callable[[int], None]) -> None:
    scene = raster_scene(5, cut=True)
    assert_pictures_agree(scene, draw(scene))
    assert_gradients_agree(scene, gradients(scene))
    results = []
    for count in (1, 3):
        threads(count)
        results.append((*draw(scene), *gradients(scene)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("cut", [False, True])
def test_needles_specks_and_sheets(simd: str, cut: bool) -> None:
    """A pixel is missed nowhere, however long, thin, slanted, small or large the ellipses are."""
    scene = raster_scene(7, count=400, degree=0, size=(83, 70), cut=cut)
    generator = torch.Generator().manual_seed(8)
    scales = 0.05 * 10 ** (3 * torch.rand(400, 3, generator=generator))  # 0.05 to 50 mm
    means, quaternions, _, sh, opacities = scene.splats
    scene = replace(scene, splats=(means, quaternions, scales, sh, 0.02 + 0.3 * opacities))
    assert_pictures_agree(scene, draw(scene))


def one_splat(**changes: Tensor) -> Splats:
    given = {
        "means": torch.zeros(1, 3),
        "quaternions": torch.tensor([[1.0, 0, 0, 0]]),
        "log_scales": torch.full((1, 3), math.log(2.0)),
        "sh": torch.tensor([[[0.5, 0.0, -2.0]]]) / SH_C0,
        "logit_opacities": torch.tensor([0.0]),
    }
    return Splats(**(given | changes))


def test_one_splat_by_hand() -> None:
    """A sphere of 2 mm, opacity 1/2, 100 mm before a camera of 100 pixels per unit: sigma^2 = 4.3 square pixels, of which
    the splat's own are 4. Its light is that of those 4, or, where the filter is not to heed that, of 4.3."""
    pose = np.eye(4)
    pose[2, 3] = 100
    camera = Camera(pose, fx=100, fy=100, cx=8.5, cy=8.5, width=17, height=17)
    fainter = rasterise(one_splat(), camera)[1]
    assert fainter[8, 8].item() == pytest.approx(0.5 * 4 / 4.3)
    assert fainter[8, 11].item() == pytest.approx(0.5 * 4 / 4.3 * math.exp(-9 / (2 * 4.3)), rel=1e-5)
    image, alpha, depth = rasterise(one_splat(), camera, background=(0.0, 1.0, 0.5), antialiased=False)
    assert alpha[8, 8].item() == pytest.approx(0.5)
    assert alpha[8, 11].item() == pytest.approx(0.5 * math.exp(-9 / (2 * 4.3)), rel=1e-5)
    assert alpha[11, 8].item() == pytest.approx(alpha[8, 11].item(), rel=1e-6)
    assert image[8, 8].tolist() == pytest.approx(
        [0.5, 0.5 * 0.5 + 0.5, 0.25]
    )  # red 1, green 0.5, blue clamped at 0
    assert depth[8, 8].item() == pytest.approx(100) and depth[0, 0].item() == 0 and alpha[0, 0].item() == 0
    right = rasterise(one_splat(means=torch.tensor([[3.0, 0, 0]])), camera, antialiased=False)[1]
    assert right[8, 11].item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("cut", [False, True])
def test_without_antialiasing_as_3dgs(simd: str, cut: bool) -> None:
    """Files of earlier versions and of other programs look as they did."""
    scene = raster_scene(17, cut=cut, antialiased=False)
    assert_pictures_agree(scene, draw(scene))
    assert_gradients_agree(scene, gradients(scene))


@pytest.mark.parametrize(("antialiased", "most"), [(True, 0.05), (False, 4.0)])
def test_light_of_a_small_splat_at_any_distance(antialiased: bool, most: float) -> None:
    """A splat of half a pixel to one of five gives as much light to the square millimetre of the picture's plane."""
    light = []
    for distance in (100.0, 200.0, 1000.0):
        pose = np.eye(4)
        pose[2, 3] = distance
        camera = Camera(pose, fx=250, fy=250, cx=32, cy=32, width=64, height=64)
        splat = one_splat(logit_opacities=torch.tensor([6.0]))
        alpha = rasterise(splat, camera, antialiased=antialiased)[1]
        light.append(float(alpha.sum()) * (distance / 250) ** 2)
    assert max(light) / min(light) - 1 < most
    assert antialiased or max(light) / min(light) - 1 > 0.5


def cut_fractions(splats: Splats, camera: Camera, clip: ClipPlane) -> tuple[Tensor, Tensor]:
    """Alpha without and with the cut."""
    return rasterise(splats, camera)[1], rasterise(splats, camera, clip=clip)[1]


def mass_kept(splats: Splats, camera: Camera, clip: ClipPlane) -> np.ndarray:
    """Fraction (H, W) of the splat's mass along each pixel's ray before the plane, by quadrature of its density."""
    mean, covariance = splats.means[0].double().numpy(), splats.covariances[0].double().numpy()
    precision, rays = np.linalg.inv(covariance), camera.rays()
    distance = np.linalg.norm(mean - camera.eye)
    reach = 8 * np.sqrt(np.linalg.eigvalsh(covariance)[-1])
    t = np.linspace(distance - reach, distance + reach, 20001)
    fraction = np.empty(rays.shape[:2])
    for row, column in np.ndindex(fraction.shape):
        points = camera.eye + t[:, None] * rays[row, column] - mean
        exponent = -0.5 * np.einsum("ti,ij,tj->t", points, precision, points)
        density = np.exp(exponent - exponent.max())
        kept = clip.signed_distance(points + mean) < 0
        fraction[row, column] = density[kept].sum() / density.sum()
    return fraction


@pytest.mark.parametrize("seed", range(12))
def test_analytic_cut_equals_quadrature(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean = 10 * torch.randn(1, 3, generator=generator)
    splats = one_splat(
        means=mean,
        quaternions=torch.randn(1, 4, generator=generator),
        log_scales=torch.log(1 + 9 * torch.rand(1, 3, generator=generator)),
        logit_opacities=torch.tensor([4.0]),
    )
    eye = mean[0] + 80 * torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
    camera = Camera.look_at(eye.numpy(), mean[0].numpy(), up=[0.1, 0.3, 1], fov_degrees=50, size=24)
    shift = (torch.rand(3, generator=generator) * 2 - 1) * splats.scales[0].min()
    clip = ClipPlane.from_point((mean[0] + shift).numpy(), torch.randn(3, generator=generator).numpy())
    whole, cut = cut_fractions(splats, camera, clip)
    visible = (whole > 0.02) & (whole < 0.98) & (cut > 0)
    assert visible.sum() > 10
    expected = mass_kept(splats, camera, clip)
    error = (cut / whole)[visible].numpy() - expected[visible.numpy()]
    assert np.abs(error).max() < 1e-3
    # What is left out altogether had less than the smallest alpha left.
    lost = (whole > 0) & (cut == 0)
    assert (expected * whole.numpy())[lost.numpy()].max(initial=0) < 1 / 255 + 1e-3


def test_light_leaks_ten_times_less_than_from_hard_truncation() -> None:
    """With the eye on the plane each ray lies wholly on one side: what shines on the other has leaked."""
    generator = torch.Generator().manual_seed(0)
    splats = Splats(
        30 * torch.randn(2000, 3, generator=generator),
        torch.randn(2000, 4, generator=generator),
        0.5 * torch.randn(2000, 3, generator=generator) + 1,
        torch.rand(2000, 1, 3, generator=generator),
        2 * torch.randn(2000, generator=generator),
    )
    camera = Camera.look_at([0, 250, 0], [0, 0, 0], fov_degrees=40, size=96)
    clip = ClipPlane.from_point(camera.eye, [0.8, 0, 0.6])
    beyond = torch.from_numpy(camera.rays() @ clip.normal > 0)
    kept = torch.from_numpy(clip.signed_distance(splats.means.numpy()) < 0).float()
    hard = rasterise(splats, camera, weights=kept)[0][beyond].sum().item()
    analytic = rasterise(splats, camera, clip=clip)[0][beyond].sum().item()
    whole = rasterise(splats, camera)[0]
    assert hard > 50 and analytic < hard / 10
    inside = rasterise(splats, camera, clip=clip)[0][~beyond].sum()
    assert inside > 0.9 * whole[~beyond].sum()


def test_cut_in_the_whole_and_not_at_all() -> None:
    scene = raster_scene(7)
    splats = Splats(*scene.splats[:2], scene.splats[2].log(), scene.splats[3], torch.logit(scene.splats[4]))
    camera = Camera.look_at([0, 200, 0], [0, 0, 0], fov_degrees=30, size=(40, 30))
    free = rasterise(splats, camera)
    far = rasterise(splats, camera, clip=ClipPlane(np.array([0.0, 0, 1]), 1e4))
    assert all(torch.equal(a, b) for a, b in zip(free, far, strict=True))
    image, alpha, depth = rasterise(
        splats, camera, (0.25, 0.5, 0.75), clip=ClipPlane(np.array([0.0, 0, 1]), -1e4)
    )
    assert torch.equal(image, torch.tensor([0.25, 0.5, 0.75]).expand(30, 40, 3))
    assert not alpha.any() and not depth.any()


def test_weights_are_factors_of_the_opacity() -> None:
    scene = raster_scene(8, count=60)
    camera = Camera.look_at([0, 200, 0], [0, 0, 0], fov_degrees=30, size=32)
    splats = Splats(*scene.splats[:2], scene.splats[2].log(), scene.splats[3], torch.logit(scene.splats[4]))
    keep = torch.arange(60) % 3 > 0
    masked = rasterise(splats, camera, weights=keep.float())
    fewer = rasterise(splats.map(lambda t: t[keep]), camera)
    assert all(torch.equal(a, b) for a, b in zip(masked, fewer, strict=True))
    weights = torch.full((60,), 0.5, requires_grad=True)
    rasterise(splats, camera, weights=weights)[1].sum().backward()
    half = replace(splats, logit_opacities=torch.logit(splats.opacities / 2).requires_grad_())
    rasterise(half, camera)[1].sum().backward()
    o = splats.opacities
    assert weights.grad is not None and half.logit_opacities.grad is not None
    expected = half.logit_opacities.grad / (o / 2 * (1 - o / 2)) * o
    torch.testing.assert_close(weights.grad, expected, rtol=1e-3, atol=1e-3)


def test_statistics_for_densification() -> None:
    scene = raster_scene(9, count=50)
    splats = Splats(*scene.splats[:2], scene.splats[2].log(), scene.splats[3], torch.logit(scene.splats[4]))
    camera = Camera.look_at([0, 150, 0], [0, 0, 0], fov_degrees=40, size=(48, 24))
    statistics = ScreenStatistics()
    with pytest.raises(GaussianMRIError, match="backward"):
        _ = statistics.gradient_norms
    means = splats.means.clone().requires_grad_()
    image, _, _ = rasterise(replace(splats, means=means), camera, statistics=statistics)
    image[..., 0].sum().backward()
    assert statistics.radii is not None and statistics.offsets is not None
    seen = statistics.radii > 0
    assert seen.any() and not seen.all()
    assert not statistics.gradient_norms[~seen].any() and statistics.gradient_norms[seen].max() > 0
    grad = statistics.offsets.grad
    assert grad is not None
    torch.testing.assert_close(
        statistics.gradient_norms, torch.hypot(grad[:, 0] * 24, grad[:, 1] * 12), rtol=1e-5, atol=1e-7
    )


def test_splats_that_are_not_drawn() -> None:
    """NaN, infinity, no rotation, no extent, no opacity and behind the eye: nothing drawn, no gradient, no harm."""
    scene = raster_scene(10, count=16)
    means, quaternions, scales, sh, opacities = (t.clone() for t in scene.splats)
    means[0, 1], quaternions[1], scales[2, 0], scales[3, 1] = math.nan, 0, 0, -1
    opacities[4], opacities[5], means[6], scales[7, 2] = (
        math.nan,
        0.003,
        torch.tensor([600.0, 900, 300]),
        math.inf,
    )
    sh[8, 5, 1], sh[9, 0, 0], scales[10], means[11, 0] = math.nan, math.inf, 1e-9, -math.inf
    bad = replace(scene, splats=(means, quaternions, scales, sh, opacities))
    good = replace(scene, splats=tuple(t[12:] for t in scene.splats))
    for ours, theirs in zip(draw(bad)[:3], draw(good)[:3], strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(gradients(bad), gradients(good), strict=True):
        assert torch.equal(ours[12:], theirs) and not ours[:12].any()


def test_opacities_above_one_count_as_one() -> None:
    scene = raster_scene(16, count=30)
    over = replace(scene, splats=(*scene.splats[:4], scene.splats[4] * 0 + 2))
    one = replace(scene, splats=(*scene.splats[:4], scene.splats[4] * 0 + 1))
    assert all(torch.equal(a, b) for a, b in zip(draw(over), draw(one), strict=True))
    assert not gradients(over)[4].any() and gradients(one)[4].any()
    assert not over.reference_gradients()[4].any()


def test_no_splats() -> None:
    scene = raster_scene(12, count=40)
    empty = replace(scene, splats=tuple(t[:0] for t in scene.splats))
    image, alpha, depth, radii = draw(empty)
    assert torch.equal(image, scene.camera[23:26].expand_as(image)) and not alpha.any() and not depth.any()
    assert radii.shape == (0,) and [g.shape[0] for g in gradients(empty)] == [0] * 6


def test_float64_is_drawn_by_the_reference() -> None:
    scene = raster_scene(13, count=30, size=(20, 20), cut=True)
    leaves = [t.double()[:6].requires_grad_() for t in (*scene.splats, scene.screen)]

    def pictures(*values: Tensor) -> Tensor:
        image, alpha, depth, _ = reference.rasterise(SplatScene(*values, scene.camera.double(), 20, 20))
        return image.sum() + alpha.sum() + 0.01 * depth.sum()

    assert torch.autograd.gradcheck(pictures, leaves, eps=1e-7, atol=1e-3, rtol=1e-3)
    splats = Splats(
        *(t.double() for t in scene.splats[:2]), scene.splats[2].double().log(), scene.splats[3].double(),
        torch.logit(scene.splats[4].double()),
    )  # fmt: skip
    camera = Camera.look_at([0, 200, 0], [0, 0, 0], fov_degrees=30, size=32)
    double, single = rasterise(splats, camera), rasterise(splats.to(torch.float32), camera)
    assert double[0].dtype == torch.float64
    torch.testing.assert_close(single[0].double(), double[0], rtol=0, atol=1e-5)


def test_operator() -> None:
    scene = raster_scene(14, count=20, size=(17, 18))
    leaves = [t.clone().requires_grad_() for t in (*scene.splats, scene.screen)]
    arguments = (*leaves, scene.camera, 17, 18)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.gaussianmri.rasterise.default, arguments, test_utils=tests)
    given = (*(p.detach() for p in draw(scene)[:3]), *scene.gradients, *scene.splats, scene.camera, 17, 18)
    torch.library.opcheck(torch.ops.gaussianmri.rasterise_backward.default, given, test_utils=tests[::2])


@pytest.mark.parametrize("name", NAMES[:5])
def test_misuse_of_the_operator(name: str) -> None:
    scene = raster_scene(15, count=20, size=(17, 18))
    splats = list(scene.splats)
    splats[NAMES.index(name)] = splats[NAMES.index(name)][:-1] if name != "means" else splats[0][:, :2]
    with pytest.raises(ValueError, match=r"must have"):
        splat_operators.rasterise(*splats, scene.screen, scene.camera, 17, 18)
    with pytest.raises(ValueError, match="1 to 16384"):
        splat_operators.rasterise(*scene.splats, scene.screen, scene.camera, 0, 18)


def test_misuse() -> None:
    splats, camera = one_splat(), Camera.look_at([0, 100, 0], [0, 0, 0], size=8)
    with pytest.raises(GaussianMRIError, match="Weights"):
        rasterise(splats, camera, weights=torch.ones(2))
    with pytest.raises(GaussianMRIError, match="background"):
        rasterise(splats, camera, background=(math.nan, 0, 0))
    with pytest.raises(GaussianMRIError, match="sh has 2 coefficients"):
        one_splat(sh=torch.zeros(1, 2, 3))
    with pytest.raises(GaussianMRIError, match="quaternions has shape"):
        one_splat(quaternions=torch.zeros(1, 3))
    with pytest.raises(GaussianMRIError, match="float64"):
        one_splat(means=torch.zeros(1, 3).double())
