"""Scenes, comparisons and the emulation launcher for the tests of the CUDA kernels."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import instruction_sets
import pytest
import torch
from native_scenes import Scene, oblique_frames
from pretended_gpu import OnGpu
from seeds import chosen_seed
from ssim_bounds import ssim_bounds

from GaussianMRILib.native.paths.cuda import CudaPaths
from GaussianMRILib.native.planes import reference
from GaussianMRILib.native.planes.arguments import PlaneScene
from GaussianMRILib.native.planes.cuda import CudaPlanes
from GaussianMRILib.native.support.backend import kernels

EMULATION = Path(__file__).resolve().parents[1] / "Native" / "cuda_emulation"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="the CUDA emulation needs g++")
CUT = 7.814728
BACKGROUND = 0.01


def emulation_launcher(seed: int = 0) -> Any:
    """A launcher on the host emulation; `seed` shuffles blocks and threads. RuntimeError: there is no compiler."""
    if str(EMULATION) not in sys.path:
        sys.path.insert(0, str(EMULATION))
    from launcher import EmulationLauncher

    return EmulationLauncher(seed=seed)


def emulated(seed: int = 0, kind: Any = CudaPlanes, **limits: int) -> OnGpu:
    """The CUDA operators of planes, or of another `kind`, on the host emulation; they take tensors of the processor."""
    return OnGpu(kind(emulation_launcher(seed), **limits))


class Miscounting:
    """A launcher whose kernels that count find another number of tiles, for the last one, than those that write.

    Args:
        more: tiles that are counted in addition.
    """

    COUNTED: ClassVar = {"gm_count_tiles": 4, "gm_splat_place_all": 9}  # kernels, and which argument of theirs is it
    WRITTEN: ClassVar = {"gm_write_entries": (6, 7), "gm_splat_scatter": (3, 4)}
    DEPTHS = 8  # of splats, by which they are in order

    def __init__(self, launcher: Any, more: int) -> None:
        self.launcher, self.more = launcher, more

    def launch(self, kernel: str, grid: tuple[int, int], block: int, *arguments: Any) -> None:
        given, nothing = list(arguments), torch.iinfo(torch.int32).min
        written = self.WRITTEN.get(kernel, ())
        for n in written:  # with room behind, where nobody may write
            given[n] = arguments[n].new_full((len(arguments[n]) + 64,), nothing)
        self.launcher.launch(kernel, grid, block, *given)
        for n in written:
            within = given[n][: len(arguments[n])]
            assert (given[n][len(within) :] == nothing).all(), f"{kernel} writes behind its entries"
            assert (within != nothing).all(), f"{kernel} leaves entries as they are"
            arguments[n].copy_(within)
        if kernel in self.COUNTED:
            counts = arguments[self.COUNTED[kernel]]
            visible = torch.nonzero(counts > 0)[:, 0]
            last = visible[-1] if kernel == "gm_count_tiles" else visible[arguments[self.DEPTHS][visible].argmax()]
            counts[last] += self.more


@contextmanager
def scalar_against_emulation() -> Iterator[OnGpu]:
    """The emulated path tracer while the processor's kernels are scalar, as the emulated ones are; else a skip."""
    if kernels() is None:
        pytest.skip("needs the compiled kernels")
    try:
        paths = emulated(chosen_seed(), CudaPaths)
    except RuntimeError as error:
        pytest.skip(str(error))
    with instruction_sets.using("scalar"):
        yield paths


def random_scene(
    seed: int, gaussians: int = 200, shapes: list[tuple[int, int]] | None = None, samples: int = 3
) -> Scene:
    """Gaussians with axes of 0.5 to 4 mm, any orientation, on oblique, sheared planes through their cloud."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low

    shapes = shapes if shapes is not None else [(19, 37), (33, 16), (1, 50), (40, 1)]
    centre = uniform(3, low=-150, high=150)
    means = centre[:, None] + uniform(3, gaussians, low=-9, high=9)
    rotation = torch.linalg.qr(uniform(gaussians, 3, 3, low=-1)).Q
    precision = rotation @ torch.diag_embed(uniform(gaussians, 3, low=0.5, high=4).pow(-2)) @ rotation.mT
    upper = torch.linalg.cholesky(precision).mT
    factors = torch.stack([upper[:, i, j] for i in range(3) for j in range(i, 3)])
    parameters = torch.cat([means, factors, uniform(1, gaussians), uniform(1, gaussians, low=0.1, high=2)])
    frames = oblique_frames(uniform, shapes, centre, away=3.0, step=0.9)
    weights = uniform(len(shapes), samples, low=0.1)
    return Scene(
        parameters.float(),
        frames,
        torch.tensor(shapes, dtype=torch.int32).reshape(-1, 2),
        uniform(len(shapes), samples, low=-2, high=2).float(),
        (weights / weights.sum(dim=1, keepdim=True)).float(),
        BACKGROUND,
        CUT,
    )


def clear_pixels(scene: Scene, margin: float = 5e-4) -> torch.Tensor:
    """Pixels (total) where no sample lies within `margin` of any Gaussian's edge q = cut.

    Weights jump to 0 at the edge, so there float32 and float64 may rightly disagree about a whole Gaussian.
    """
    p = scene.parameters.double()
    p = p[:, torch.isfinite(p).all(dim=0)]
    clear = []
    for plane, (rows, columns) in enumerate(scene.shapes.tolist()):
        frame = scene.frames[plane].double()
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        points = frame[:3] + column.reshape(-1, 1) * frame[3:6] + row.reshape(-1, 1) * frame[6:9]
        near = torch.zeros(rows * columns, dtype=torch.bool)
        for offset in scene.offsets[plane].double():
            x, y, z = ((points + offset * frame[9:])[:, None, :] - p[:3].T).unbind(dim=2)
            q = (p[3] * x + p[4] * y + p[5] * z) ** 2 + (p[6] * y + p[7] * z) ** 2 + (p[8] * z) ** 2
            near |= ((q - scene.cut).abs() < margin).any(dim=1)
        clear.append(~near)
    return torch.cat(clear) if clear else torch.empty(0, dtype=torch.bool)


def assert_forward_agrees(scene: Scene, result: tuple[torch.Tensor, ...], tolerance: float = 1e-4) -> None:
    """Image, samples and density against the float64 reference, away from edges."""
    expected = reference.render_planes(PlaneScene(*scene.in_double()))
    clear = clear_pixels(scene)
    assert scene.total < 100 or clear.float().mean() > 0.5
    for name, ours, theirs in zip(("image", "samples", "density"), result, expected, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == theirs.shape, name
        error = ((ours.cpu().double() - theirs).abs() / theirs.abs().clamp(min=1))[..., clear]
        assert torch.isfinite(ours).all() and (error.numel() == 0 or error.max() < tolerance), name


def assert_backward_agrees(scene: Scene, operators: Any, seed: int, device: str = "cpu") -> None:
    """Gradient against float64 autograd of the reference, to 1e-4 of the largest entry of its kind."""
    _, samples, density = reference.render_planes(PlaneScene(*scene.in_double()))
    grad = torch.randn(scene.total, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    grad = torch.where(clear_pixels(scene), grad, 0.0)
    expected = reference.render_planes_backward(grad, samples, density, PlaneScene(*scene.in_double()))
    ours = operators.render_planes_backward(
        grad.float().to(device), samples.float().to(device), density.float().to(device),
        PlaneScene(*scene.to(device)),
    )
    assert ours.shape == expected.shape and torch.isfinite(ours).all()
    if expected.numel():
        # One scale for each kind of parameter: how a gradient falls on x, y, z is the choice of axes.
        for kind in (slice(0, 3), slice(3, 9), slice(9, 10), slice(10, 11)):
            scale = float(expected[kind].abs().max().clamp(min=1e-6))
            error = float((ours[kind].cpu().double() - expected[kind]).abs().max()) / scale
            assert error < 1e-4, f"rows {kind}: relative error {error}"


def assert_ssim_agrees(
    image: torch.Tensor, target: torch.Tensor, shapes: torch.Tensor, result: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """SSIM and its gradient against the float64 reference; all arguments on the CPU."""
    mean, gradient = result
    expected_mean, expected_gradient = reference.ssim(image.double(), target.double(), shapes)
    sizes = shapes.prod(dim=1)
    assert mean.shape == sizes.shape and gradient.shape == image.shape
    assert torch.equal(torch.isnan(mean), sizes == 0)
    error = (gradient.double() - expected_gradient).abs()
    first = 0
    for plane, (shape, size) in enumerate(zip(shapes.tolist(), sizes.tolist(), strict=True)):
        part = slice(first, first + size)
        first += size
        if size:
            pair = (whole[part].double().reshape(shape) for whole in (image, target))
            of_mean, of_gradient = ssim_bounds(*pair)
            assert abs(float(mean[plane]) - float(expected_mean[plane])) <= of_mean
            assert (error[part] <= of_gradient.reshape(-1)).all()
