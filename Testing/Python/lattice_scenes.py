"""Random lattices and planes for the tests of the lattice's kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from native_scenes import oblique_frames
from torch import Tensor

from GaussianMRILib.native.lattice import reference
from GaussianMRILib.native.lattice.arguments import LatticePlanes

#: Scales of a smoothness prior, one for each axis.
SCALES = (1.0, 0.7, 2.0)


class LatticeScene(NamedTuple):
    """The arguments of `native.lattice_render`, in its order."""

    nodes: Tensor
    table: Tensor
    ras_to_node: Tensor
    frames: Tensor
    shapes: Tensor
    offsets: Tensor
    weights: Tensor
    background: float

    @property
    def bricks(self) -> int:
        return self.nodes.shape[0]

    @property
    def total(self) -> int:
        return sum(rows * columns for rows, columns in self.shapes.tolist())

    def in_double(self) -> LatticeScene:
        return LatticeScene(*(x.double() if x is self.nodes else x for x in self))  # type: ignore[arg-type]

    def adjoint(self, grad_image: Tensor) -> tuple:
        """The arguments of `native.lattice_render_backward`."""
        return (grad_image, *self[1:], self.bricks)

    def parted(self) -> tuple[Tensor, LatticePlanes]:
        """What an implementation's `lattice_render` takes."""
        return self.nodes, LatticePlanes(*self[1:])

    def parted_adjoint(self, grad_image: Tensor) -> tuple[Tensor, LatticePlanes, int]:
        """What an implementation's `lattice_render_backward` takes."""
        return grad_image, LatticePlanes(*self[1:]), self.bricks


def lattice_scene(
    seed: int,
    shapes: list[tuple[int, int]],
    bricks: tuple[int, int, int] = (3, 4, 5),
    missing: float = 0.2,
    samples: int = 3,
    away: float = 2.0,
    background: float = 1e-4,
) -> LatticeScene:
    """`bricks` cells (z, y, x) of which a share is missing, a sheared lattice of about a millimetre, and planes at any
    angle about `away` mm from its middle. The bricks are numbered at random, and one is not named."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64) * (high - low) + low

    cells = bricks[0] * bricks[1] * bricks[2]
    named = uniform(cells) >= missing
    count = int(named.sum()) + 1
    table = torch.full((cells,), -1, dtype=torch.int32)
    table[named] = torch.randperm(count, generator=generator).int()[: count - 1]
    pitch = torch.diag(uniform(3, low=0.8, high=1.3)) + uniform(3, 3, low=-0.1, high=0.1)
    middle = 4.0 * torch.tensor(bricks[::-1], dtype=torch.float64)
    centre = uniform(3, low=-100, high=100)
    to_node = torch.cat([pitch, (middle - pitch @ centre)[:, None]], dim=1)
    frames = oblique_frames(uniform, shapes, centre, away, step=1.1)
    weights = uniform(len(shapes), samples, low=0.1)
    return LatticeScene(
        uniform(count, 8, 8, 8).float(),
        table.reshape(bricks),
        to_node,
        frames,
        torch.tensor(shapes, dtype=torch.int32).reshape(-1, 2),
        uniform(len(shapes), samples, low=-2, high=2).float(),
        (weights / weights.sum(dim=1, keepdim=True)).float(),
        background,
    )


def empty_scenes() -> list[LatticeScene]:
    """Scenes without bricks, without cells and without pixels: images are empty or black."""
    whole = lattice_scene(3, [(5, 6)])
    nothing = whole._replace(nodes=torch.empty(0, 8, 8, 8), table=torch.full((2, 3, 4), -1, dtype=torch.int32))
    return [
        nothing,
        nothing._replace(table=torch.empty(0, 0, 0, dtype=torch.int32)),
        nothing._replace(background=0.0),
        whole._replace(table=torch.empty(0, 4, 5, dtype=torch.int32)),
        lattice_scene(3, []),
        lattice_scene(3, [(0, 7), (4, 0)]),
    ]


def clear_pixels(scene: LatticeScene, margin: float = 3e-5) -> Tensor:
    """Pixels (total) none of whose samples within the lattice lies within `margin` pitches of a plane of nodes: there
    the taps change, and rounding decides which four they are."""
    clear = torch.ones(scene.total, dtype=torch.bool)
    size = 8 * torch.tensor(scene.table.shape[::-1])
    for _, _, pixels, points in reference._samples(LatticePlanes(*scene[1:])):
        outside = ((points < -3) | (points > size + 3)).any(dim=1)
        clear[pixels] &= ((points - points.round()).abs() > margin).all(dim=1) | outside
    return clear


def assert_images_agree(scene: LatticeScene, result: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    """Image and density against the reference in float64; the nodes' values lie in 0..1."""
    expected = reference.lattice_render(*scene.in_double().parted())
    clear = clear_pixels(scene)
    assert scene.total < 100 or clear.float().mean() > 0.95
    for name, ours, theirs in zip(("image", "density"), result, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == torch.float32, name
        error = (ours.double() - theirs).abs()[clear]
        assert error.numel() == 0 or error.max() < tolerance * (1 if name == "image" else 4), f"{name} {error.max()}"


def assert_adjoint_agrees(scene: LatticeScene, run: object, seed: int, tolerance: float = 1e-5) -> None:
    """`run(grad_image, ...)` against the reference in float64, in pixels where taps are beyond doubt."""
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(scene.total, generator=generator) * clear_pixels(scene)
    ours = run(*scene.adjoint(grad))  # type: ignore[operator]
    theirs = reference.lattice_render_backward(*scene.parted_adjoint(grad.double()))
    assert ours.shape == theirs.shape == (scene.bricks, 8, 8, 8)
    if theirs.numel():
        # What is summed counts: of many terms with either sign little may be left.
        scale = float(reference.lattice_render_backward(*scene.parted_adjoint(grad.double().abs())).max()) + 1e-6
        assert float((ours.double() - theirs).abs().max()) < tolerance * scale


def assert_smooth_agrees(scene: LatticeScene, guide: Tensor, edge: float, ours: Tensor) -> None:
    """The smoothness prior's gradient at the scene's nodes against the reference in float64."""
    theirs = reference.lattice_smooth(scene.nodes.double(), guide.double(), scene.table, SCALES, edge)
    assert (ours - theirs).abs().max() < 3e-6 * theirs.abs().max()
