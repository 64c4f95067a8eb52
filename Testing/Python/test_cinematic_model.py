"""What a plane does to a model, and how splats come and go in training."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from cinematic_scenes import CENTER, RADIUS, ball_views, random_ball

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.adjustment import Adjustment, AdjustmentShape, positional_encoding
from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.densify import (
    AdaptiveControl,
    GrowingSplats,
    Relocation,
    Schedule,
    shared_opacity,
)
from GaussianMRILib.cinematic.model import CinematicModel, quaternions_of
from GaussianMRILib.cinematic.rasterise import rasterise
from GaussianMRILib.cinematic.splats import Splats, rotation_matrices
from GaussianMRILib.cinematic.visibility import hard_truncation, learnable_truncation

PLANE = ClipPlane.from_point(CENTER, (1.0, 2.0, -0.5))
RATES = dict.fromkeys(GrowingSplats.NAMES, 0.01)


def model(
    splats: Splats, visibility: str = "analytic", adjust: bool = False, seed: int = 0
) -> CinematicModel:
    """A model whose offsets and network do something."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randn(len(splats), generator=generator) * 0.1 if visibility == "learned" else None
    network = None
    if adjust:
        torch.manual_seed(seed)
        network = Adjustment(torch.from_numpy(CENTER), RADIUS, AdjustmentShape(2, 16, 3, 2))
        for head in network.heads.values():
            torch.nn.init.normal_(head[-1].weight, std=0.02)
    return CinematicModel(splats, CENTER, RADIUS, visibility=visibility, offsets=offsets, adjustment=network)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()) + 1e-12)


# ---- visibility --------------------------------------------------------------------------------------------------


def test_hard_truncation_keeps_the_side_below_the_plane() -> None:
    means = torch.tensor([[0.0, 0, 1], [0, 0, 3], [5, 5, 1.999]])
    assert hard_truncation(means, ClipPlane(np.array([0, 0, 2.0]), 2.0)).tolist() == [1, 0, 1]


def test_learnable_truncation_is_a_step_with_a_sigmoids_gradient() -> None:
    means = torch.tensor([[0.0, 0, 8], [0, 0, 12], [0, 0, 12], [0, 0, 8]], requires_grad=True)
    offsets = torch.tensor([0.0, 0.0, 0.2, -0.2], requires_grad=True)
    visible = learnable_truncation(means, offsets, ClipPlane(np.array([0, 0, 1.0]), 10.0), unit=20.0)
    assert visible.tolist() == [1, 0, 1, 0]
    visible.sum().backward()
    z = torch.tensor([0.1, -0.1, 0.1, -0.1])
    assert torch.allclose(offsets.grad, torch.sigmoid(z) * (1 - torch.sigmoid(z)), atol=1e-6)
    assert means.grad is None
    offsets.grad = None
    narrow = learnable_truncation(means, offsets, ClipPlane(np.array([0, 0, 1.0]), 10.0), unit=20.0, width=0.02)
    assert narrow.tolist() == visible.tolist()  # the width is the gradient's alone
    narrow.sum().backward()
    v = torch.sigmoid(z / 0.02)
    assert torch.allclose(offsets.grad, v * (1 - v) / 0.02, atol=1e-6)
    far = torch.zeros(1, requires_grad=True)
    plane = ClipPlane(np.array([0, 0, 1.0]), 10.0)
    learnable_truncation(torch.zeros(1, 3), far, plane, unit=20.0, width=0.02).sum().backward()
    assert float(far.grad) < 1e-8  # far from the plane nothing is in question


def test_the_scale_head_is_bounded() -> None:
    network = Adjustment(torch.zeros(3), 1.0, AdjustmentShape(2, 16, 3, 2, scale_bound=1.5))
    last = network.heads["scale"][-1]
    splats, plane = random_ball(20, 4), ClipPlane(np.array([0, 0, 1.0]), 0.0)
    for bias in (-40.0, 0.3, 40.0):
        with torch.no_grad():
            last.bias.fill_(bias)
            change = network(splats, plane).log_scales - splats.log_scales
        assert torch.allclose(change, torch.full_like(change, 1.5 * math.tanh(bias / 1.5)), atol=1e-5)
    assert Adjustment.from_config(network.config()).shape == network.shape
    before = {name: value for name, value in network.config().items() if name != "scale_bound"}
    unbounded = Adjustment.from_config(before)  # as models of versions without a bound were trained
    unbounded.load_state_dict(network.state_dict())
    with torch.no_grad():
        grown = unbounded(splats, plane).log_scales - splats.log_scales
    assert torch.allclose(grown, torch.full_like(grown, 40.0), rtol=1e-4)


@pytest.mark.parametrize(
    ("visibility", "adjust"), [*itertools.product(["learned", "hard", "none"], [False, True])]
)
def test_baked_splats_look_like_the_model_without_the_plane(visibility: str, adjust: bool) -> None:
    whole = model(random_ball(150, 1), visibility, adjust)
    for camera, plane in ball_views(3, 40, 2):
        expected = whole.render(camera, plane)
        image, alpha, _ = rasterise(whole.bake(plane), camera)
        assert torch.allclose(image, expected.image, atol=2e-5) and torch.allclose(
            alpha, expected.alpha, atol=2e-5
        )


def test_the_baked_analytic_cut_has_the_moments_of_what_is_left() -> None:
    splats = random_ball(20, 3).map(lambda t: t[:1])
    plane = ClipPlane.from_point(splats.means[0].numpy() + np.array([0.4, -0.3, 0.2]), (0.3, 1.0, 0.5))
    baked = model(splats).bake(plane)
    rng = np.random.default_rng(0)
    samples = rng.multivariate_normal(splats.means[0].numpy(), splats.covariances[0].numpy(), 400_000)
    kept = samples[plane.signed_distance(samples) < 0]
    scale = float(splats.scales.max())
    assert np.abs(baked.means[0].numpy() - kept.mean(axis=0)).max() < 0.01 * scale
    assert np.abs(baked.covariances[0].numpy() - np.cov(kept.T)).max() < 0.01 * scale**2
    mass = len(kept) / len(samples)
    assert float(baked.opacities[0]) == pytest.approx(float(splats.opacities[0]) * mass**0.75, rel=0.01)


def test_the_baked_analytic_cut_is_nearer_to_the_cut_than_hard_truncation() -> None:
    splats = random_ball(400, 4)
    analytic, hard = model(splats), model(splats, "hard")
    better = []
    for camera, plane in ball_views(6, 40, 5):
        truth = analytic.render(camera, plane).image
        baked = rasterise(analytic.bake(plane), camera)[0]
        better.append(psnr(baked, truth) - psnr(hard.render(camera, plane).image, truth))
    assert np.mean(better) > 5 and min(better) > 0


def test_a_plane_beyond_the_model_changes_nothing_and_one_before_it_removes_all() -> None:
    far = ClipPlane.from_point(CENTER + np.array([0, 0, 500.0]), (0, 0, 1))
    camera = ball_views(1, 32, 0)[0][0]
    for visibility in ("analytic", "learned", "hard"):
        m = model(random_ball(100, 6), visibility)
        assert torch.equal(m.render(camera, far).image, m.render(camera).image)
        nothing = m.render(camera, far.flipped(), background=(0.25, 0.5, 1.0))
        assert torch.allclose(nothing.image, torch.tensor([0.25, 0.5, 1.0]).expand(32, 32, 3), atol=1e-6)
        assert float(nothing.alpha.max()) == 0 and len(m.bake(far.flipped())) == 0


def test_a_model_refuses_what_does_not_fit() -> None:
    splats = random_ball(5, 0)
    with pytest.raises(GaussianMRIError, match="no visibility 'soft'"):
        CinematicModel(splats, CENTER, RADIUS, visibility="soft")
    with pytest.raises(GaussianMRIError, match="if, and only if"):
        CinematicModel(splats, CENTER, RADIUS, visibility="learned")
    with pytest.raises(GaussianMRIError, match="as many learned offsets"):
        CinematicModel(splats, CENTER, RADIUS, visibility="learned", offsets=torch.zeros(4))


def test_quaternions_of_rotations() -> None:
    quaternions = torch.nn.functional.normalize(torch.randn(200, 4, dtype=torch.float64), dim=1)
    again = quaternions_of(rotation_matrices(quaternions))
    assert torch.allclose((again * quaternions).sum(1).abs(), torch.ones(200, dtype=torch.float64), atol=1e-9)


# ---- the adjustment network --------------------------------------------------------------------------------------


def test_positional_encoding() -> None:
    code = positional_encoding(torch.tensor([[0.5, -1.0]]), 3)[0].tolist()
    angles = [0.5, -1, 1, -2, 2, -4]
    assert code == pytest.approx([0.5, -1, *map(math.sin, angles), *map(math.cos, angles)])


def test_an_untrained_network_changes_nothing() -> None:
    splats = random_ball(50, 0)
    changed = Adjustment(torch.from_numpy(CENTER), RADIUS)(splats, PLANE)
    assert torch.equal(changed.means, splats.means)
    assert torch.allclose(changed.covariances, splats.covariances, atol=1e-5)


def test_the_network_is_an_mlp_of_the_encoded_mean_and_plane() -> None:
    whole = model(random_ball(30, 1), "none", adjust=True)
    network = whole.adjustment
    assert network is not None
    network.requires_grad_(False)
    changed = network(whole.splats, PLANE)
    where = (whole.splats.means - torch.from_numpy(CENTER).float()) / RADIUS
    offset = (PLANE.offset - PLANE.normal @ CENTER) / RADIUS
    cut = torch.tensor([*PLANE.normal, offset], dtype=torch.float32).expand(30, 4)
    feature = network.body(torch.cat([positional_encoding(where, 3), positional_encoding(cut, 2)], dim=1))
    moved = whole.splats.means + RADIUS * network.heads["position"](feature)
    assert torch.allclose(changed.means, moved, atol=1e-4)
    assert torch.allclose(
        changed.log_scales, whole.splats.log_scales + network.heads["scale"](feature), atol=1e-5
    )
    turned = torch.nn.functional.normalize(whole.splats.quaternions, dim=1) + network.heads["rotation"](
        feature
    )
    assert torch.allclose(changed.quaternions, turned, atol=1e-5)
    other = network(whole.splats, ClipPlane(PLANE.normal, PLANE.offset + 10))
    assert float((other.means - changed.means).abs().max()) > 1e-3


# ---- densification -----------------------------------------------------------------------------------------------


def test_growing_splats_keep_the_moments_of_the_survivors() -> None:
    splats, target = random_ball(6, 0), random_ball(6, 1).means
    grown, plain = GrowingSplats(splats, RATES), GrowingSplats(splats, RATES)

    def step(growing: GrowingSplats, index: list[int]) -> None:
        growing.optimiser.zero_grad()
        ((growing.parameters["means"][: len(index)] - target[index]) ** 2).sum().backward()
        growing.optimiser.step()

    for _ in range(5):
        step(grown, list(range(6)))
        step(plain, list(range(6)))
    grown.append(grown.rows(torch.tensor([0, 3])))
    grown.select(torch.tensor([1, 3, 5, 6]))
    assert len(grown) == 4 and torch.equal(grown.parameters["means"][3], plain.parameters["means"][0])
    for _ in range(5):
        step(grown, [1, 3, 5])
        step(plain, list(range(6)))
    assert torch.equal(grown.parameters["means"][:3], plain.parameters["means"][[1, 3, 5]])
    grown.overwrite(torch.tensor([1]), {"means": torch.zeros(1, 3)})
    leaf = grown.parameters["means"]
    assert leaf[1].tolist() == [0, 0, 0]
    moments = grown.optimiser.state[leaf]["exp_avg"]
    assert float(moments[1].abs().max()) == 0 and float(moments[0].abs().max()) > 0


def test_adaptive_control_clones_splits_and_prunes() -> None:
    splats = random_ball(6, 0)
    splats.log_scales[:] = math.log(0.1)
    splats.log_scales[2:4] = math.log(5.0)  # larger than 1 % of the extent
    splats.logit_opacities[:] = 0
    splats.logit_opacities[5] = -8  # 0.0003: pruned
    growing = GrowingSplats(splats, RATES)
    control = AdaptiveControl(Schedule(start=0, stop=1000, every=10, reset=100), extent=100.0)
    gradients = torch.tensor([3e-4, 1e-4, 3e-4, 1e-4, 9e-4, 1e-4])
    for n in range(2):  # the last but one is seen once only: the mean counts, not the sum
        radii = torch.tensor([5, 5, 5, 5, 5 * n, 5])
        control.observe(6, None, gradients * (radii > 0), radii)
    control.step(10, growing, torch.Generator().manual_seed(0))
    # kept 0, 1, 3, 4; clones of 0 and 4; 2 in two
    assert len(growing) == 8
    leaves = growing.parameters
    assert torch.equal(leaves["means"][:4], splats.means[[0, 1, 3, 4]])
    assert torch.equal(leaves["means"][4:6], splats.means[[0, 4]])
    assert torch.allclose(leaves["log_scales"][6:], splats.log_scales[2] - math.log(1.6))
    distance = (leaves["means"].detach()[6:] - splats.means[2]).norm(dim=1)
    assert float(distance.min()) > 0 and float(distance.max()) < 25
    control.step(100, growing, torch.Generator().manual_seed(0))
    assert float(torch.sigmoid(leaves["logit_opacities"].detach()).max()) == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize(("least", "left"), [(0, [4, 5]), (4, [0, 2, 4, 5]), (6, [0, 1, 2, 3, 4, 5])])
def test_adaptive_control_keeps_the_least_transparent(least: int, left: list[int]) -> None:
    splats = random_ball(6, 0)
    splats.log_scales[:] = math.log(0.1)
    splats.logit_opacities[:] = torch.tensor([-6.0, -9.0, -7.0, -8.0, 0.0, 1.0])
    growing = GrowingSplats(splats, RATES)
    control = AdaptiveControl(Schedule(start=0, stop=1000, every=10), extent=100.0, least=least)
    control.observe(6, None, torch.zeros(6), torch.full((6,), 5))
    control.step(10, growing, torch.Generator().manual_seed(0))
    assert torch.equal(growing.parameters["means"], splats.means[left])


def test_adaptive_control_takes_the_steepest_below_its_cap() -> None:
    splats = random_ball(6, 0)
    splats.log_scales[:] = math.log(0.1)
    splats.logit_opacities[:] = 0
    growing = GrowingSplats(splats, RATES)
    control = AdaptiveControl(Schedule(start=0, stop=1000, every=10), extent=100.0, cap=8)
    control.observe(6, None, torch.tensor([3e-4, 9e-4, 5e-4, 4e-4, 1e-4, 0]), torch.full((6,), 4))
    control.step(10, growing, torch.Generator())
    assert torch.equal(growing.parameters["means"][6:], splats.means[[1, 2]])


def test_shared_opacity() -> None:
    number = torch.tensor([1, 2, 3, 7, 51])
    opacities = torch.tensor([0.3, 0.6, 0.9, 0.99, 0.5], dtype=torch.float64)
    each, factor = shared_opacity(opacities, number)
    assert torch.allclose(1 - (1 - each) ** number, opacities)
    for o, new, f, n in zip(opacities, each, factor, number, strict=True):
        total = sum(
            math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * float(new) ** (k + 1)
            for i in range(1, int(n) + 1)
            for k in range(i)
        )
        assert float(f) == pytest.approx(float(o) / total, rel=1e-9)
    assert float(factor[0]) == pytest.approx(1)


def test_relocation_moves_the_dead_and_hardly_changes_the_picture() -> None:
    splats = random_ball(60, 2)
    splats.logit_opacities[:40] = 1.0
    splats.logit_opacities[40:] = -7.0
    growing = GrowingSplats(splats, RATES)
    relocation = Relocation(Schedule(start=0, stop=1000, every=10), RADIUS, cap=62)
    camera = Camera.look_at(CENTER + np.array([0, 160, 0]), CENTER, size=48)
    before = rasterise(growing.splats(1), camera)[0].detach()
    relocation.step(10, growing, torch.Generator().manual_seed(0), means_rate=0.0)
    after = rasterise(growing.splats(1), camera)[0].detach()
    assert len(growing) == 62
    assert float(torch.sigmoid(growing.parameters["logit_opacities"].detach()).min()) > 0.005
    moved = growing.parameters["means"].detach()[40:, None]
    assert (moved == splats.means[:40]).all(dim=2).any(dim=1).all()
    assert psnr(after, before) > 35
    assert psnr(torch.zeros_like(before), before) < 16


def test_noise_moves_the_transparent_along_their_axes() -> None:
    splats = random_ball(2000, 3)
    splats.quaternions[:] = torch.tensor([1.0, 0, 0, 0])
    splats.log_scales[:] = torch.tensor([1.0, 0.5, 0.25]).log() + math.log(RADIUS * 0.01)
    splats.logit_opacities[:1000] = -9
    splats.logit_opacities[1000:] = 0
    growing = GrowingSplats(splats, RATES)
    Relocation(Schedule(), RADIUS, 2000).step(1, growing, torch.Generator().manual_seed(1), means_rate=1e-4)
    step = (growing.parameters["means"].detach() - splats.means)[:1000]
    assert float((growing.parameters["means"].detach() - splats.means)[1000:].abs().max()) == 0
    # sigma^2 of the splat (in units) x 5e5 x rate x unit x gate sigmoid(0.5 - 100 x opacity)
    gate = 1 / (1 + math.exp(100 / (1 + math.exp(9)) - 0.5))
    expected = torch.tensor([1.0, 0.25, 0.0625]) * 1e-4 * 5e5 * 1e-4 * RADIUS * gate
    assert torch.allclose(step.std(dim=0), expected, rtol=0.1)


def test_scales_and_opacities_are_computed_once_until_their_tensors_change() -> None:
    splats = Splats(
        torch.zeros(2, 3), torch.tensor([[1.0, 0, 0, 0]] * 2), torch.zeros(2, 3), torch.zeros(2, 1, 3), torch.zeros(2)
    )
    assert splats.scales is splats.scales and splats.opacities is splats.opacities
    splats.log_scales[0, 0] = 1.0
    splats.logit_opacities += 2.0
    assert float(splats.scales[0, 0]) == pytest.approx(np.e)
    assert float(splats.opacities[1]) == pytest.approx(0.8808, abs=1e-4)
    splats.logit_opacities = torch.zeros(2)
    assert float(splats.opacities[1]) == 0.5
    leaves = splats.map(lambda tensor: tensor.clone().requires_grad_())
    for _ in range(2):  # each with a graph of its own
        (leaves.scales.sum() + leaves.opacities.sum()).backward()
    assert leaves.log_scales.grad is not None and leaves.logit_opacities.grad is not None
