"""CUDA rendering and its gradient, run on the host emulation, against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from cuda_support import (
    Miscounting,
    assert_backward_agrees,
    assert_forward_agrees,
    emulated,
    emulation_launcher,
    needs_compiler,
    random_scene,
)
from pretended_gpu import OnGpu
from seeds import chosen_seed

from GaussianMRILib.native.planes.arguments import PlaneScene
from GaussianMRILib.native.planes.cuda import CudaPlanes
from GaussianMRILib.native.support.operators import plain_arguments

pytestmark = needs_compiler


@pytest.mark.parametrize("samples", [1, 3])
def test_forward_matches_reference(samples: int) -> None:
    scene = random_scene(chosen_seed(), samples=samples)
    assert_forward_agrees(scene, emulated().render_planes(PlaneScene(*scene)))


@pytest.mark.parametrize("samples", [1, 3])
def test_backward_matches_autograd(samples: int) -> None:
    seed = chosen_seed()
    assert_backward_agrees(random_scene(seed, gaussians=61, samples=samples), emulated(), seed)


@pytest.mark.parametrize("shapes", [[(1, 1)], [(16, 16)], [(17, 15), (1, 33)], [(0, 5), (7, 3), (4, 0)]])
def test_unusual_sizes(shapes: list[tuple[int, int]]) -> None:
    seed = chosen_seed()
    scene = random_scene(seed, gaussians=40, shapes=shapes)
    assert_forward_agrees(scene, emulated().render_planes(PlaneScene(*scene)))
    assert_backward_agrees(scene, emulated(), seed)


def test_more_planes_than_lanes() -> None:
    """The backward kernel looks at 32 planes at a time; the 33rd and later ones count too."""
    seed = chosen_seed()
    scene = random_scene(seed, gaussians=9, shapes=[(6, 7)] * 35, samples=1)
    assert_forward_agrees(scene, emulated().render_planes(PlaneScene(*scene)))
    assert_backward_agrees(scene, emulated(), seed)


def test_many_gaussians_in_one_tile() -> None:
    """More entries than a block loads at once (256)."""
    scene = random_scene(chosen_seed(), gaussians=700, shapes=[(14, 13)], samples=1)
    scene.parameters[3:9] *= 0.5
    assert_forward_agrees(scene, emulated().render_planes(PlaneScene(*scene)))


@pytest.mark.parametrize(("gaussians", "shapes"), [(0, [(20, 20)]), (10, []), (0, [])])
def test_empty_input(gaussians: int, shapes: list[tuple[int, int]]) -> None:
    scene = random_scene(1, gaussians=gaussians, shapes=shapes)
    image, samples, density = emulated().render_planes(PlaneScene(*scene))
    assert torch.equal(image, torch.zeros(scene.total))
    assert torch.equal(density, torch.full((3, scene.total), scene.background))
    gradient = emulated().render_planes_backward(image, samples, density, PlaneScene(*scene))
    assert torch.equal(gradient, torch.zeros(11, gaussians))


def test_without_background_empty_pixels_are_zero() -> None:
    scene = random_scene(chosen_seed(), gaussians=3, shapes=[(30, 30)])
    scene = scene._replace(background=0.0)
    result = emulated().render_planes(PlaneScene(*scene))
    assert (result[2] == 0).any()
    assert_forward_agrees(scene, result)


def test_broken_gaussians_add_nothing() -> None:
    seed = chosen_seed()
    scene = random_scene(seed, gaussians=50)
    whole = scene.parameters.clone()
    broken = torch.arange(0, 33, 3)
    for row, column in enumerate(broken.tolist()):
        scene.parameters[row, column] = float("nan") if row % 2 else float("inf")
    scene.parameters[3, 40] = 0.0  # singular
    scene.parameters[10, 41] = -0.5
    scene.parameters[3, 42] = 1e30
    result = emulated().render_planes(PlaneScene(*scene))
    kept = torch.ones(50, dtype=torch.bool)
    kept[broken] = kept[40:43] = False
    rest = scene._replace(parameters=whole[:, kept].contiguous())
    for ours, expected in zip(result, emulated().render_planes(PlaneScene(*rest)), strict=True):
        assert torch.equal(ours, expected)
    gradient = emulated().render_planes_backward(torch.ones(scene.total), *result[1:], PlaneScene(*scene))
    assert torch.equal(gradient[:, ~kept], torch.zeros(11, int((~kept).sum())))
    assert (gradient[:, kept] != 0).any(dim=0).float().mean() > 0.5


def test_result_does_not_depend_on_order_or_memory() -> None:
    """Bit for bit equal for any order of threads and blocks, and however the work is cut into ranges."""
    scene = random_scene(chosen_seed(), gaussians=120, shapes=[(35, 40), (18, 21)])
    expected = emulated().render_planes(PlaneScene(*scene))
    grad = torch.randn(scene.total)
    gradient = emulated().render_planes_backward(grad, *expected[1:], PlaneScene(*scene))
    for operators in (emulated(seed=7), emulated(seed=8, max_units=97), emulated(max_entries=50)):
        for ours, theirs in zip(operators.render_planes(PlaneScene(*scene)), expected, strict=True):
            assert torch.equal(ours, theirs)
        again = operators.render_planes_backward(grad, *expected[1:], PlaneScene(*scene))
        assert torch.equal(again, gradient)
        assert operators.launcher.launched.count("gm_count_tiles") > (
            1 if operators.launcher.seed != 7 else 0
        )


def test_parameters_may_be_a_view() -> None:
    scene = random_scene(chosen_seed(), gaussians=60)
    expected = emulated().render_planes(PlaneScene(*scene))
    wide = torch.randn(11, 120)
    wide[:, ::2] = scene.parameters
    view = scene._replace(parameters=wide[:, ::2])
    assert torch.equal(emulated().render_planes(plain_arguments(PlaneScene(*view)))[0], expected[0])


@pytest.mark.parametrize("more", [-1, 2])
def test_kernels_that_round_apart_write_where_they_may(more: int) -> None:
    """The last visible Gaussian is counted with another number of tiles: the others stay what they are."""
    scene = random_scene(chosen_seed(), gaussians=20, shapes=[(35, 40)], samples=1)
    expected = emulated().render_planes(PlaneScene(*scene))
    launcher = Miscounting(emulation_launcher(), more)
    image, _, density = OnGpu(CudaPlanes(launcher)).render_planes(PlaneScene(*scene))
    if more > 0:
        assert torch.equal(image, expected[0])
    assert torch.isfinite(image).all() and (density <= expected[2]).all()
