"""The lattice's operators on the CPU against the reference in double precision, on scenes drawn anew in every run (the
seed is printed)."""

from __future__ import annotations

import pytest
import torch
from instruction_sets import available, using
from lattice_scenes import (
    SCALES,
    LatticeScene,
    assert_adjoint_agrees,
    assert_images_agree,
    assert_smooth_agrees,
    clear_pixels,
    empty_scenes,
    lattice_scene,
)

from GaussianMRILib import native
from GaussianMRILib.native.lattice import operators, reference
from GaussianMRILib.native.lattice.arguments import LatticePlanes

pytestmark = pytest.mark.usefixtures("needs_kernels")


def test_image_and_adjoint_match_the_reference(simd: str, seed: int) -> None:
    scene = lattice_scene(seed, [(17, 23), (20, 9), (0, 5), (1, 61), (45, 1)])
    assert_images_agree(scene, native.lattice_render(*scene))
    assert_adjoint_agrees(scene, native.lattice_render_backward, seed)


def test_without_missing_bricks_and_background(seed: int) -> None:
    scene = lattice_scene(seed, [(40, 44)], bricks=(4, 4, 4), missing=0.0, samples=1, background=0.0)
    image, density = native.lattice_render(*scene)
    assert_images_agree(scene, (image, density))
    ones = scene._replace(nodes=torch.ones_like(scene.nodes))
    reached = density > 0
    assert reached.any() and (native.lattice_render(*ones)[0][reached] - 1).abs().max() < 1e-5


def test_values_by_hand() -> None:
    """One node of value 1 on a lattice of 1 mm, seen at known distances: the model's own formula."""
    nodes = torch.zeros(1, 8, 8, 8)
    nodes[0, 3, 4, 5] = 1.0
    table = torch.zeros(1, 1, 1, dtype=torch.int32)
    to_node = torch.eye(3, 4, dtype=torch.float64)
    frame = torch.tensor([[4.25, 4.5, 2.75, 1, 0, 0, 0, 1, 0, 0, 0, 1]])
    shapes = torch.tensor([[1, 1]], dtype=torch.int32)
    image, density = native.lattice_render(
        nodes, table, to_node, frame, shapes, torch.zeros(1, 1), torch.ones(1, 1), background=0.5
    )

    def e(d: float) -> torch.Tensor:
        return torch.exp(torch.tensor(-(d**2) / 0.72, dtype=torch.float64))

    sums = [sum(e(f + 1 - k) for k in range(4)) for f in (0.25, 0.5, 0.75)]
    mass = sums[0] * sums[1] * sums[2]
    assert float(density) == pytest.approx(float(mass), rel=3e-6)
    expected = e(0.75) * e(0.5) * e(0.25) / (mass + 0.5)
    assert float(image) == pytest.approx(float(expected), rel=3e-6)


def test_adjoint_is_exact(simd: str, seed: int) -> None:
    scene = lattice_scene(seed, [(30, 41), (33, 20)])
    grad = torch.randn(scene.total, generator=torch.Generator().manual_seed(seed))
    image = native.lattice_render(*scene)[0].double()
    gradient = native.lattice_render_backward(*scene.adjoint(grad)).double()
    size = float((grad.double().abs() * image.abs()).sum())
    assert abs(float(grad.double() @ image) - float((gradient * scene.nodes).sum())) < 1e-6 * size


def test_adjoint_of_the_reference_is_exact(seed: int) -> None:
    scene = lattice_scene(seed, [(20, 31), (13, 20)])
    grad = torch.randn(scene.total, generator=torch.Generator().manual_seed(seed))
    truth = reference.lattice_render(*scene.in_double().parted())[0]
    size = float((grad.double().abs() * truth.abs()).sum())
    transposed = reference.lattice_render_backward(*scene.parted_adjoint(grad.double()))
    assert abs(float(grad.double() @ truth) - float((transposed * scene.nodes).sum())) < 1e-12 * size


def test_reference_has_the_gradient_that_autograd_finds(seed: int) -> None:
    scene = lattice_scene(seed, [(7, 9)], bricks=(1, 2, 1), missing=0.0).in_double()
    nodes = scene.nodes.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x: reference.lattice_render(x, LatticePlanes(*scene[1:]))[0], (nodes,), fast_mode=True
    )
    grad = torch.randn(scene.total, dtype=torch.float64)
    (found,) = torch.autograd.grad(reference.lattice_render(nodes, LatticePlanes(*scene[1:]))[0], nodes, grad)
    torch.testing.assert_close(found, reference.lattice_render_backward(*scene.parted_adjoint(grad)))


def test_autograd_of_the_operators(seed: int) -> None:
    scene = lattice_scene(seed, [(20, 24)], bricks=(2, 2, 2))
    nodes = scene.nodes.clone().requires_grad_(True)
    image, density = native.lattice_render(nodes, *scene[1:])
    assert image.requires_grad and not density.requires_grad
    upstream = torch.randn(scene.total).requires_grad_(True)
    (gradient,) = torch.autograd.grad(image, nodes, upstream, create_graph=True)
    assert torch.equal(gradient, native.lattice_render_backward(*scene.adjoint(upstream.detach())))
    direction = torch.randn_like(nodes)
    (back,) = torch.autograd.grad(gradient, upstream, direction)
    assert torch.equal(back, native.lattice_render(direction, *scene[1:])[0])
    (pulled,) = torch.autograd.grad(
        native.lattice_smooth(nodes, scene.nodes, scene.table, (1, 2, 3), 0.1), nodes, direction
    )
    expected = native.lattice_smooth(direction, scene.nodes, scene.table, (1, 2, 3), 0.1)
    assert torch.equal(pulled, expected)


def test_results_do_not_depend_on_threads(simd: str, seed: int, threads) -> None:
    scene = lattice_scene(seed, [(64, 70), (33, 20), (70, 64)], bricks=(6, 7, 5))
    grad = torch.randn(scene.total, generator=torch.Generator().manual_seed(seed))
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        smooth = native.lattice_smooth(scene.nodes, scene.nodes, scene.table, (1, 1.5, 2), 0.2)
        adjoint = native.lattice_render_backward(*scene.adjoint(grad))
        results.append((*native.lattice_render(*scene), adjoint, smooth))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_instruction_sets_differ_in_the_last_digits_only(seed: int) -> None:
    scene = lattice_scene(seed, [(50, 50)])
    clear = clear_pixels(scene)
    images = []
    for name in available():
        with using(name):
            images.append(native.lattice_render(*scene)[0])
    assert all((image - images[0])[clear].abs().max() < 3e-6 for image in images)


@pytest.mark.parametrize("away", [25.0, 60.0, 1e5, 1e30])
def test_planes_partly_or_wholly_outside(away: float, seed: int) -> None:
    scene = lattice_scene(seed, [(14, 15)] * 3, away=away)
    image, density = native.lattice_render(*scene)
    assert_images_agree(scene, (image, density))
    assert (image[density == 0] == 0).all() and (away < 100 or not density.any())
    assert_adjoint_agrees(scene, native.lattice_render_backward, seed)


def test_steps_of_any_size(seed: int) -> None:
    """From many pixels in a pitch to pixels that step over the lattice, and steps beyond every integer."""
    for factor in (0.01, 30.0, 1e7, 1e15):
        scene = lattice_scene(seed, [(9, 20)])
        frames = scene.frames.double()
        frames[:, :3] += 9.5 * (1 - factor) * frames[:, 3:6] + 4 * (1 - factor) * frames[:, 6:9]
        frames[:, 3:9] *= factor
        scene = scene._replace(frames=frames.float())
        image, density = native.lattice_render(*scene)
        assert torch.isfinite(image).all() and torch.isfinite(density).all()
        if factor < 1e3:
            assert_images_agree(scene, (image, density))
            # Pixels lie up to 600 pitches away, where float32 places them to 4e-5 pitches: weights then err by 1e-4.
            assert_adjoint_agrees(scene, native.lattice_render_backward, seed, 1e-5 if factor < 1 else 2e-4)


def test_long_rows_stay_exact(seed: int) -> None:
    """Positions near the far end of a long lattice are as good as at its beginning."""
    scene = lattice_scene(seed, [(3, 2000)], bricks=(1, 1, 126), missing=0.1, samples=1, away=0.0)
    to_node = torch.tensor([[1.0, 0, 0, 0.31], [0, 1, 0, 3.4], [0, 0, 1, 3.3]], dtype=torch.float64)
    frames = torch.tensor([[0.0, 0, 0, 0.5, 0.0004, 0, -0.0004, 0.5, 0, 0, 0, 1]])
    frames[:, 3:6] *= 1.003
    scene = scene._replace(ras_to_node=to_node, frames=frames, offsets=torch.zeros(1, 1))
    assert_images_agree(scene, native.lattice_render(*scene))


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (3, 7), (17, 16), (16, 17), (2, 529)])
def test_unusual_sizes(shape: tuple[int, int], seed: int) -> None:
    scene = lattice_scene(seed, [shape], bricks=(2, 1, 3))
    assert_images_agree(scene, native.lattice_render(*scene))
    assert_adjoint_agrees(scene, native.lattice_render_backward, seed)


def test_planes_together_equal_planes_alone(seed: int) -> None:
    scene = lattice_scene(seed, [(12, 30), (25, 8), (0, 4), (1, 1)] * 3)
    alone = [
        native.lattice_render(*scene[:3], *(x[p : p + 1] for x in scene[3:7]), scene.background)[0]
        for p in range(len(scene.shapes))
    ]
    assert torch.equal(native.lattice_render(*scene)[0], torch.cat(alone))


@pytest.mark.parametrize("scene", empty_scenes())
def test_nothing_to_draw(scene: LatticeScene) -> None:
    image, density = native.lattice_render(*scene)
    assert image.shape == density.shape == (scene.total,) and not image.any() and not density.any()
    gradient = native.lattice_render_backward(*scene.adjoint(torch.ones(scene.total)))
    assert gradient.shape == (scene.bricks, 8, 8, 8) and not gradient.any()
    if scene.bricks == 0 or scene.table.numel() == 0:
        smooth = native.lattice_smooth(scene.nodes, scene.nodes, scene.table, (1, 1, 1), 0.1)
        assert smooth.shape == scene.nodes.shape and not smooth.any()


def test_nan_stays_local(simd: str, seed: int) -> None:
    scene = lattice_scene(seed, [(50, 50), (50, 50)], missing=0.1)
    brick = int(scene.table[scene.table >= 0][0])
    only = torch.zeros_like(scene.nodes)
    only[brick, 3, 6, 4] = 1.0
    nodes = torch.where(only > 0, float("nan"), scene.nodes)
    image, density = native.lattice_render(nodes, *scene[1:])
    seen = native.lattice_render(only, *scene[1:])[0] > 0
    assert torch.equal(image.isnan(), seen) and torch.isfinite(density).all()
    assert torch.equal(image[~seen], native.lattice_render(*scene)[0][~seen])
    smooth = native.lattice_smooth(nodes, scene.nodes, scene.table, (1, 1, 1), 0.1)
    assert int(smooth.isnan().sum()) == 7


@pytest.mark.parametrize("edge", [0.0, 0.05, 3.0])
def test_smooth_matches_the_reference(simd: str, edge: float, seed: int) -> None:
    scene = lattice_scene(seed, [])
    guide = torch.rand(scene.nodes.shape, generator=torch.Generator().manual_seed(seed))
    ours = native.lattice_smooth(scene.nodes, guide, scene.table, SCALES, edge)
    assert_smooth_agrees(scene, guide, edge, ours)
    unnamed = sorted({*range(scene.bricks)} - {*scene.table.reshape(-1).tolist()})
    assert len(unnamed) == 1 and not ours[unnamed].any()


def test_smooth_is_a_gradient(seed: int) -> None:
    """Of the prior that the docstring names, by autograd on a lattice without gaps."""
    scene = lattice_scene(seed, [], bricks=(2, 1, 2), missing=0.0)
    edge = 0.3
    nodes = scene.nodes.double().requires_grad_(True)
    dense = reference._dense(nodes, scene.table)[0]
    energy = sum(
        (edge * (((s * dense.diff(dim=axis)) ** 2 + edge**2).sqrt() - edge)).sum()
        for axis, s in zip((2, 1, 0), SCALES, strict=True)
    )
    (gradient,) = torch.autograd.grad(energy, nodes)
    ours = native.lattice_smooth(scene.nodes, scene.nodes, scene.table, SCALES, edge)
    assert (ours - gradient).abs().max() < 1e-5


def test_smooth_is_symmetric_and_flat_on_constants(seed: int) -> None:
    scene = lattice_scene(seed, [])
    a, b = torch.randn(2, *scene.nodes.shape)

    def smooth(x: torch.Tensor) -> torch.Tensor:
        return native.lattice_smooth(x, scene.nodes, scene.table, SCALES, 0.1)

    left, right = float((a.double() * smooth(b)).sum()), float((b.double() * smooth(a)).sum())
    assert abs(left - right) < 1e-5 * float((a * smooth(b)).abs().sum())
    assert float((a.double() * smooth(a)).sum()) > 0
    assert not smooth(torch.full_like(a, 3.7)).any()


def test_opcheck(seed: int) -> None:
    scene = lattice_scene(seed, [(6, 7), (4, 4)], bricks=(1, 2, 1), missing=0.0)
    ops = torch.ops.gaussianmri
    native.lattice_render(*scene)
    leaf = scene._replace(nodes=scene.nodes.clone().requires_grad_(True))
    torch.library.opcheck(ops.lattice_render, tuple(leaf))
    grad = torch.rand(scene.total, requires_grad=True)
    torch.library.opcheck(ops.lattice_render_backward, scene.adjoint(grad))
    torch.library.opcheck(ops.lattice_smooth, (leaf.nodes, scene.nodes, scene.table, [1.0, 2.0, 3.0], 0.1))


def test_misuse_is_an_error_that_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = lattice_scene(4, [(5, 6)])
    twice = scene.table.clone()
    twice[scene.table < 0] = int(scene.table.max())
    beyond, below = scene.table.clone(), scene.table.clone()
    beyond[0, 0, 0], below[0, 0, 0] = scene.bricks, -2
    tables = {
        "names a brick twice": {"table": twice},
        "names a brick that there is not": {"table": beyond},
        "brick that there is not": {"table": below},
    }
    wrong = {
        "nodes must have the shape": {"nodes": scene.nodes[:, :7]},
        "nodes must be torch.float32": {"nodes": scene.nodes.double()},
        "table must be torch.int32": {"table": scene.table.long()},
        "table must have the shape": {"table": scene.table[0]},
        "ras_to_node must have the shape": {"ras_to_node": torch.eye(4, dtype=torch.float64)},
        "ras_to_node must be torch.float64": {"ras_to_node": scene.ras_to_node.float()},
        "ras_to_node has a value that is not finite": {"ras_to_node": scene.ras_to_node * float("nan")},
        "frames must have the shape": {"frames": scene.frames[:, :11]},
        "shapes must be torch.int32": {"shapes": scene.shapes.long()},
        "weights must have the shape": {"weights": scene.weights[:, :2]},
        "at least one sample": {"offsets": scene.offsets[:, :0], "weights": scene.weights[:, :0]},
        "background must be 0 or more": {"background": -1.0},
        "normal is not a unit vector": {"frames": scene.frames * 2},
    }
    for message, change in {**wrong, **tables}.items():
        with pytest.raises(ValueError, match=message):
            native.lattice_render(*scene._replace(**change))
    with pytest.raises(ValueError, match="grad_image must have the shape"):
        native.lattice_render_backward(*scene.adjoint(torch.ones(7)))
    for arguments, message in (
        ((scene.nodes[1:], scene.table, (1, 1, 1), 0.1), "reference must have the shape"),
        ((scene.nodes, scene.table, (1, 1), 0.1), "three numbers"),
        ((scene.nodes, scene.table, (1, 1, 1), -0.1), "edge must be 0"),
        ((scene.nodes, scene.table, (1, 1, float("inf")), 0.1), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            native.lattice_smooth(scene.nodes, *arguments)
    monkeypatch.setattr(operators, "kernels", lambda: None)
    for message, change in tables.items():
        with pytest.raises(ValueError, match=message):
            native.lattice_render(*scene._replace(**change))


def test_without_compiled_kernels_the_reference_does_it(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    scene = lattice_scene(seed, [(9, 11)], bricks=(2, 2, 2))
    monkeypatch.setattr(operators, "kernels", lambda: None)
    assert_images_agree(scene, native.lattice_render(*scene))
    assert_adjoint_agrees(scene, native.lattice_render_backward, seed)
    smooth = native.lattice_smooth(scene.nodes, scene.nodes, scene.table, (1, 1, 1), 0.0)
    assert smooth.dtype == torch.float32 and smooth.any()
