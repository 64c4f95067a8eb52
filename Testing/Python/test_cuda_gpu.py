"""The CUDA operators on a real GPU, against the float64 reference and the CPU kernels."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from cuda_support import (
    assert_backward_agrees,
    assert_forward_agrees,
    assert_ssim_agrees,
    random_scene,
)
from seeds import chosen_seed

from GaussianMRILib import native
from GaussianMRILib.native.planes import reference
from GaussianMRILib.native.planes.arguments import AdamStep, PlaneScene
from GaussianMRILib.native.planes.cuda import CudaPlanes
from GaussianMRILib.native.support import cuda_launch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Benchmarks"))
import gpu as benchmark

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; torch finds none here"),
]


@pytest.fixture(scope="module")
def operators() -> CudaPlanes:
    state = cuda_launch.status()
    assert state.available, state.reason
    return CudaPlanes(cuda_launch.launcher())


@pytest.mark.parametrize("shapes", [None, [(1, 1), (17, 15), (0, 4), (1, 300)], [(112, 224)]])
def test_forward_matches_reference(operators: CudaPlanes, shapes: list[tuple[int, int]] | None) -> None:
    scene = random_scene(chosen_seed(), shapes=shapes)
    result = operators.render_planes(PlaneScene(*scene.to("cuda")))
    assert_forward_agrees(scene, tuple(tensor.cpu() for tensor in result))


@pytest.mark.parametrize("shapes", [None, [(6, 7)] * 40])
def test_backward_matches_reference(operators: CudaPlanes, shapes: list[tuple[int, int]] | None) -> None:
    seed = chosen_seed()
    assert_backward_agrees(random_scene(seed, shapes=shapes), operators, seed, device="cuda")


def test_empty_input(operators: CudaPlanes) -> None:
    for gaussians, shapes in ((0, [(5, 6)]), (10, []), (0, [])):
        scene = random_scene(1, gaussians=gaussians, shapes=shapes).to("cuda")
        result = operators.render_planes(PlaneScene(*scene))
        assert torch.equal(result[0].cpu(), torch.zeros(scene.total))
        gradient = operators.render_planes_backward(*result, PlaneScene(*scene))
        assert gradient.shape == (11, gaussians)


def test_broken_gaussians_add_nothing(operators: CudaPlanes) -> None:
    scene = random_scene(chosen_seed()).to("cuda")
    scene.parameters[torch.arange(11), torch.arange(11)] = float("nan")
    result = operators.render_planes(PlaneScene(*scene))
    assert all(torch.isfinite(tensor).all() for tensor in result)
    gradient = operators.render_planes_backward(torch.ones_like(result[0]), *result[1:], PlaneScene(*scene))
    assert torch.isfinite(gradient).all() and not gradient[:, :11].any()


def test_ssim_and_adam_match_reference(operators: CudaPlanes) -> None:
    generator = torch.Generator().manual_seed(chosen_seed())
    shapes = torch.tensor([(112, 224), (1, 1), (33, 7)], dtype=torch.int32)
    total = int(shapes.prod(dim=1).sum())
    target = torch.rand(total, generator=generator)
    image = target + 0.1 * torch.randn(total, generator=generator)
    mean, gradient = operators.ssim(image.cuda(), target.cuda(), shapes)
    assert_ssim_agrees(image, target, shapes, (mean.cpu(), gradient.cpu()))

    modes = torch.tensor([0, 1, 2], dtype=torch.int32)
    rates = torch.tensor([0.02, 0.05, 0.1])
    values = [torch.rand(3, 999, generator=generator) * 0.9 + 0.05, torch.zeros(3, 999), torch.zeros(3, 999)]
    expected = [x.double() for x in values]
    ours = [x.cuda() for x in values]
    for step in range(1, 6):
        grad = torch.randn(3, 999, generator=generator)
        operators.adam_(AdamStep(ours[0], grad.cuda(), *ours[1:], rates.cuda(), modes.cuda(), step, 0.9, 0.999, 1e-8))
        reference.adam_(AdamStep(
            expected[0], grad.double(), *expected[1:], rates.double(), modes, step, 0.9, 0.999, 1e-8
        ))
    for result, truth in zip(ours, expected, strict=True):
        torch.testing.assert_close(result.cpu().double(), truth, atol=1e-5, rtol=1e-5)


def test_parity_with_the_cpu_on_a_whole_stack() -> None:
    """Image and gradient of 20 slices agree with the CPU to 1e-4, but for pixels on footprints' edges."""
    on_cpu = benchmark.problem(20, 112, 224, 40_000, "cpu")
    names = ("frames", "shapes", "offsets", "weights")
    images, gradients = [], []
    for device in ("cpu", "cuda"):
        planes = [on_cpu[name] if name == "shapes" else on_cpu[name].to(device) for name in names]
        parameters = on_cpu["parameters"].to(device).requires_grad_()
        image, _, _ = native.render_planes(parameters, *planes, 0.01)
        (image - on_cpu["target"].to(device)).square().sum().backward()
        images.append(image.detach().cpu())
        gradients.append(parameters.grad.cpu())
    assert ((images[0] - images[1]).abs() < 1e-4).float().mean() > 0.999
    scale = gradients[0].abs().amax(dim=1, keepdim=True)
    assert ((gradients[0] - gradients[1]).abs() < 1e-4 * scale).float().mean() > 0.99


def test_results_are_reproducible_bit_for_bit(operators: CudaPlanes) -> None:
    data = benchmark.problem(6, 112, 224, 20_000, "cuda")
    planes = (data["frames"], data["shapes"], data["offsets"], data["weights"], 0.01, 7.814728)
    expected = operators.render_planes(PlaneScene(data["parameters"], *planes))
    grad = torch.randn_like(expected[0])
    gradient = operators.render_planes_backward(grad, *expected[1:], PlaneScene(data["parameters"], *planes))
    frugal = CudaPlanes(operators.launcher, max_units=10_007, max_entries=5_000)
    for other in (operators, frugal):
        for ours, theirs in zip(other.render_planes(PlaneScene(data["parameters"], *planes)), expected, strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(
            other.render_planes_backward(grad, *expected[1:], PlaneScene(data["parameters"], *planes)), gradient
        )


def test_other_streams_and_threads(operators: CudaPlanes) -> None:
    """Kernels follow torch's current stream, also in a thread that never touched CUDA before."""
    scene = random_scene(chosen_seed(), gaussians=2000, shapes=[(112, 224)] * 4).to("cuda")
    expected = operators.render_planes(PlaneScene(*scene))
    torch.cuda.synchronize()
    results: list[torch.Tensor] = []

    def work() -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            results.append(operators.render_planes(PlaneScene(*scene))[0])
        stream.synchronize()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert torch.equal(results[0], expected[0])


def test_a_fit_of_20_slices_takes_at_most_a_second() -> None:
    data = benchmark.problem(20, 112, 224, 40_000, "cuda")
    benchmark.fit(benchmark.Dispatched(), data, 3)
    torch.cuda.synchronize()
    started = time.perf_counter()
    before, after = benchmark.fit(benchmark.Dispatched(), data, 100)
    seconds = time.perf_counter() - started
    print(f"{torch.cuda.get_device_name()}: 100 passes in {seconds:.3f} s, loss {before:.4f} -> {after:.4f}")
    assert after < 0.5 * before
    assert seconds <= 1.0
