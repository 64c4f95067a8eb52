"""The lattice's CUDA kernels in the host emulation, and on a GPU where there is one."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from cuda_support import emulated, emulation_launcher, needs_compiler
from lattice_scenes import (
    SCALES,
    LatticeScene,
    assert_adjoint_agrees,
    assert_images_agree,
    assert_smooth_agrees,
    empty_scenes,
    lattice_scene,
)
from pretended_gpu import pretended_gpus
from seeds import chosen_seed
from torch import Tensor

from GaussianMRILib import native
from GaussianMRILib.native.lattice.arguments import LatticePlanes
from GaussianMRILib.native.lattice.cuda import CudaLattice


def adjoint(lattice: Any, *arguments: object) -> Tensor:
    grad_image, *planes, bricks = arguments
    return lattice.lattice_render_backward(grad_image, LatticePlanes(*planes), bricks)  # type: ignore[arg-type]


@needs_compiler
def test_equals_the_reference() -> None:
    seed = chosen_seed()
    scene = lattice_scene(seed, [(19, 37), (33, 16), (0, 3), (1, 50), (40, 1)])
    lattice = emulated(kind=CudaLattice)
    assert_images_agree(scene, lattice.lattice_render(*scene.parted()))
    assert_adjoint_agrees(scene, partial(adjoint, lattice), seed)
    guide = torch.rand_like(scene.nodes)
    for edge in (0.0, 0.2):
        ours = lattice.lattice_smooth(scene.nodes, guide, scene.table, SCALES, edge)
        assert_smooth_agrees(scene, guide, edge, ours)


@needs_compiler
def test_order_of_threads_does_not_matter() -> None:
    seed = chosen_seed()
    scene = lattice_scene(seed, [(30, 31), (20, 9)], away=15.0)
    grad = torch.randn(scene.total)
    results = []
    for order in (0, 5):
        lattice = emulated(order, CudaLattice)
        results.append((*lattice.lattice_render(*scene.parted()), adjoint(lattice, *scene.adjoint(grad))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
def test_nothing_to_draw() -> None:
    lattice = emulated(kind=CudaLattice)
    for empty in empty_scenes():
        image, density = lattice.lattice_render(*empty.parted())
        assert image.shape == (empty.total,) and not image.any() and not density.any()
        assert not adjoint(lattice, *empty.adjoint(torch.ones(empty.total))).any()
        assert lattice.lattice_smooth(empty.nodes, empty.nodes, empty.table, SCALES, 0.1).shape == empty.nodes.shape


@needs_compiler
def test_torch_operators_reach_the_cuda_implementation() -> None:
    scene = lattice_scene(chosen_seed(), [(12, 13)], bricks=(2, 2, 2))
    launcher = emulation_launcher()
    with pretended_gpus(launcher):
        there = on_gpu(scene)
        nodes = there[0].requires_grad_(True)
        native.lattice_render(nodes, *there[1:])[0].sum().backward()
        native.lattice_smooth(nodes.detach(), nodes.detach(), there[1], SCALES, 0.1)
        assert nodes.grad is not None and nodes.grad.is_cuda and nodes.grad.any()
    assert launcher.launched == ["gm_lattice_render", "gm_lattice_render_backward", "gm_lattice_smooth"]


def on_gpu(scene: LatticeScene) -> list[Any]:
    stay = (scene.ras_to_node, scene.shapes)
    return [x.cuda() if isinstance(x, Tensor) and all(x is not s for s in stay) else x for x in scene]


@pytest.mark.gpu
def test_gpu_equals_the_reference() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    seed = chosen_seed()
    scene = lattice_scene(seed, [(120, 130), (77, 45)], bricks=(9, 10, 11))

    def run(grad: Tensor, *_: object) -> Tensor:
        return native.lattice_render_backward(grad.cuda(), *on_gpu(scene)[1:], scene.bricks).cpu()

    assert_images_agree(scene, tuple(x.cpu() for x in native.lattice_render(*on_gpu(scene))))
    assert_adjoint_agrees(scene, run, seed)
    moved = [x.cuda() for x in (scene.nodes, scene.nodes, scene.table)]
    assert_smooth_agrees(scene, scene.nodes, 0.1, native.lattice_smooth(*moved, SCALES, 0.1).cpu())
