"""The CUDA path tracer: on the host emulation, and on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from cuda_support import scalar_against_emulation
from trace_scenes import affine, blob, plain

from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.looks import Light
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.native.paths import operators  # noqa: F401  registers them
from GaussianMRILib.native.paths.arguments import SCENE, SUMS, TraceScene
from GaussianMRILib.native.support.backend import kernels


def arguments(tracer: PathTracer, size: tuple[int, int], clip: ClipPlane) -> tuple[torch.Tensor, ...]:
    volume = tracer._volume
    return (volume.scene(tracer.camera(azimuth=25, elevation=15, size=size), [clip], tracer.look), *volume.tensors())


def shiny(gradient_opacity: object = ()) -> PathTracer:
    import dataclasses

    look = plain(
        0.6,
        (0.9, 0.5, 0.3),
        surface=0.1,
        reflectance=0.1,
        anisotropy=0.3,
        lights=(Light(30, 40), Light(-90, 0)),
    )
    transfer = dataclasses.replace(look.transfer, gradient_opacity=gradient_opacity)
    volume = blob()
    return PathTracer(volume, affine(shape=volume.shape), dataclasses.replace(look, transfer=transfer))


@pytest.mark.parametrize("gradients", [(), [[0, 0.2], [0.1, 1]]], ids=["plain", "gradients"])
def test_emulated_kernel_equals_the_processors(gradients: object) -> None:
    """The same source, so the same image but for paths that rounding leads elsewhere."""
    tracer = shiny(gradients)
    scene = arguments(tracer, (37, 21), ClipPlane.from_point(tracer.centre, (0.3, 1, 0.2)))
    ours, theirs = torch.zeros(21, 37, SUMS), torch.zeros(21, 37, SUMS)
    with scalar_against_emulation() as paths:
        torch.ops.gaussianmri.trace_(ours, *scene, 5, 3, 16)
        paths.trace_(theirs, TraceScene(*scene, 5, 3, 9))
        paths.trace_(theirs, TraceScene(*scene, 5, 12, 7))
    same = (ours - theirs).abs().amax(dim=-1) <= 1e-3 * ours.abs().amax(dim=-1) + 1e-5
    assert paths.launcher.launched == ["gm_trace"] * 2 and float(ours[..., 3].sum()) > 800
    assert float(same.float().mean()) > 0.9
    assert float((ours - theirs).sum(dim=(0, 1)).abs().max()) < 0.02 * float(ours[..., :3].sum())


@pytest.fixture
def gpu(needs_kernels: None) -> Callable[[PathTracer], PathTracer]:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return lambda tracer: PathTracer(blob(), affine(shape=(20, 24, 28)), tracer.look, device="cuda")


@pytest.mark.gpu
def test_gpu_equals_the_processor(gpu: Callable[[PathTracer], PathTracer]) -> None:
    tracer = shiny()
    other = gpu(tracer)
    clip = ClipPlane.from_point(tracer.centre, (0.3, 1, 0.2))
    camera = tracer.camera(azimuth=25, elevation=15, size=(130, 90))
    ours, theirs, again = (t.render(camera, clips=[clip], samples=256, seed=4) for t in (tracer, other, other))
    assert np.array_equal(theirs.image, again.image)
    inside = ours.alpha > 0.9
    assert inside.sum() > 500
    assert abs(ours.radiance[inside].mean() / theirs.radiance[inside].mean() - 1) < 0.005
    assert np.abs(ours.radiance - theirs.radiance)[inside].mean() < 3 * ours.noise[inside].mean()
    assert np.abs(ours.depth - theirs.depth)[inside].mean() < 0.1


def test_operator_refuses_what_does_not_fit() -> None:
    tracer = shiny()
    scene, *volume = arguments(tracer, (8, 6), ClipPlane((0, 0, 1), 100.0))
    sums = torch.zeros(6, 8, SUMS)
    trace = torch.ops.gaussianmri.trace_
    with pytest.raises(ValueError, match="sums must have the shape"):
        trace(torch.zeros(8, 6, SUMS), scene, *volume, 0, 0, 1)
    with pytest.raises(ValueError, match=r"values must be torch\.uint16"):
        trace(sums, scene, volume[0].to(torch.int32), *volume[1:], 0, 0, 1)
    with pytest.raises(ValueError, match="seed"):
        trace(sums, scene, *volume, -1, 0, 1)
    with pytest.raises(ValueError, match="table must have"):
        trace(sums, scene, *volume[:4], volume[4][:-1], 0, 0, 1)
    if kernels() is not None:
        broken = scene.clone()
        broken[list(SCENE.names).index("planes") + 4] = 3  # size and cells are three words each
        with pytest.raises(ValueError, match="clip planes"):
            trace(sums, broken, *volume, 0, 0, 1)
    torch.library.opcheck(
        trace, (sums, scene, *volume, 0, 0, 1), test_utils=("test_schema", "test_faketensor")
    )
