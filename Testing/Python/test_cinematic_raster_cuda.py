"""The CUDA kernels of the rasteriser, in the host emulation, and on a GPU where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cuda_support import Miscounting, emulated, emulation_launcher, needs_compiler
from pretended_gpu import OnGpu
from raster_scenes import RasterScene, assert_gradients_agree, assert_pictures_agree, raster_scene
from torch import Tensor

from GaussianMRILib.native.splats import operators as splat_operators
from GaussianMRILib.native.splats.arguments import Pictures, SplatScene
from GaussianMRILib.native.splats.cuda import CudaSplats


def run(splats: Any, scene: RasterScene) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    given = SplatScene(*scene.splats, scene.screen, scene.camera, scene.width, scene.height)
    pictures = splats.rasterise(given)
    return pictures, splats.rasterise_backward(Pictures(*pictures[:3]), Pictures(*scene.gradients), given)


@needs_compiler
@pytest.mark.parametrize(
    ("seed", "degree", "size", "cut"),
    [(21, 3, (75, 61), False), (22, 3, (33, 50), True), (23, 1, (1, 40), True)],
)
def test_equals_the_reference(seed: int, degree: int, size: tuple[int, int], cut: bool) -> None:
    scene = raster_scene(seed, degree=degree, size=size, cut=cut)
    pictures, gradients = run(emulated(kind=CudaSplats), scene)
    assert_pictures_agree(scene, pictures)
    assert_gradients_agree(scene, gradients)


@needs_compiler
def test_order_of_threads_does_not_matter() -> None:
    scene = raster_scene(24, count=1500, degree=0, size=(40, 24), cut=True)
    results = [run(emulated(seed, CudaSplats), scene) for seed in (0, 5)]
    for ours, theirs in zip(results[0], results[1], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert_pictures_agree(scene, results[0][0])
    assert_gradients_agree(scene, results[0][1], 3e-5)


@needs_compiler
def test_nothing_to_draw() -> None:
    scene = raster_scene(25, count=40, size=(20, 17))
    empty = replace(scene, splats=tuple(t[:0] for t in scene.splats))
    behind = replace(scene, splats=(scene.splats[0] + torch.tensor([600.0, 1200, 400]), *scene.splats[1:]))
    for nothing in (empty, behind):
        (image, alpha, _, radii), gradients = run(emulated(kind=CudaSplats), nothing)
        assert (
            torch.equal(image, scene.camera[23:26].expand_as(image)) and not alpha.any() and not radii.any()
        )
        assert not any(g.any() for g in gradients)


@needs_compiler
@pytest.mark.parametrize("more", [-1, 2])
def test_kernels_that_round_apart_write_where_they_may(more: int) -> None:
    scene = raster_scene(27, count=60, size=(40, 33), cut=True)
    pictures, gradients = run(emulated(kind=CudaSplats), scene)
    launcher = Miscounting(emulation_launcher(), more)
    ours, others = run(OnGpu(CudaSplats(launcher)), scene)
    if more > 0:
        assert all(torch.equal(a, b) for a, b in zip((*ours, *others), (*pictures, *gradients), strict=True))
    assert all(torch.isfinite(x).all() for x in (*ours, *others))


@pytest.mark.gpu
@pytest.mark.parametrize("cut", [False, True])
def test_gpu_equals_the_reference(cut: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    scene = raster_scene(26, count=2000, size=(120, 90), cut=cut)
    leaves = [t.cuda().requires_grad_() for t in (*scene.splats, scene.screen)]
    pictures = splat_operators.rasterise(*leaves, scene.camera, scene.width, scene.height)
    torch.autograd.backward(pictures[:3], tuple(g.cuda() for g in scene.gradients))
    assert_pictures_agree(scene, tuple(p.detach().cpu() for p in pictures))
    assert_gradients_agree(scene, tuple(leaf.grad.cpu() for leaf in leaves), 3e-5)
