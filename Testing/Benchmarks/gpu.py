#!/usr/bin/env python3
"""Time the CUDA kernels and a whole fit, beside what memory and arithmetic would allow at best.

    python Testing/Benchmarks/gpu.py [--json FILE] [--slices 20] [--gaussians 40000] [--passes 100]

The problem: 20 slices of 112 x 224 pixels of 1 mm, 4 mm apart, three samples of the slice profile each,
Gaussians of 1.6 mm on a jittered lattice. Kernel times are medians between CUDA events; "floor" is the larger
of compulsory bytes over the bandwidth of a device-to-device copy measured here, and operations over
--peak-tflops (float32, H100 SXM: 67). A fit is forward, SSIM + L1, backward and Adam over all slices in each
pass. `--emulate` runs a tiny problem on the host emulation of the kernels: it checks this program, its times
mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from GaussianMRILib import native  # noqa: E402
from GaussianMRILib.native.planes.arguments import AdamStep, Implementation, PlaneScene  # noqa: E402
from GaussianMRILib.native.planes.cuda import CudaPlanes  # noqa: E402

CUT, BACKGROUND = 7.814728, 0.01
# Operations for each pixel-Gaussian pair inside the ellipse, exponential and division counted as one.
FORWARD_OPERATIONS, BACKWARD_OPERATIONS = 16, 30


def problem(slices: int, rows: int, columns: int, gaussians: int, device: str) -> dict[str, torch.Tensor]:
    """Arguments of render_planes, and a smooth target image."""
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([columns, rows, 4.0 * slices])
    pitch = (float(box.prod()) / gaussians) ** (1 / 3)
    grid = torch.meshgrid(*[torch.arange(pitch / 2, float(side), pitch) for side in box], indexing="ij")
    means = torch.stack([axis.reshape(-1) for axis in grid])
    means = means + (torch.rand(means.shape, generator=generator) - 0.5) * 0.5 * pitch
    count = means.shape[1]
    factor = torch.tensor([1 / 1.6, 0, 0, 1 / 1.6, 0, 1 / 1.6])[:, None].expand(6, count)
    parameters = torch.cat([means, factor, torch.full((1, count), 0.5), torch.full((1, count), 0.6)])
    frame = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1.0])
    frames = frame.repeat(slices, 1)
    frames[:, 2] = 4.0 * torch.arange(slices) + 2.0
    y, x = torch.meshgrid(torch.arange(rows) / 9.0, torch.arange(columns) / 7.0, indexing="ij")
    target = torch.stack([0.5 + 0.4 * torch.sin(x + 0.3 * k) * torch.cos(y) for k in range(slices)]).reshape(
        -1
    )
    tensors = {
        "parameters": parameters,
        "frames": frames,
        "offsets": torch.tensor([-1.75, 0.0, 1.75]).repeat(slices, 1),
        "weights": torch.tensor([0.275, 0.45, 0.275]).repeat(slices, 1),
        "target": target,
    }
    moved = {name: tensor.to(device).contiguous() for name, tensor in tensors.items()}
    return {**moved, "shapes": torch.tensor([[rows, columns]] * slices, dtype=torch.int32)}


class Dispatched:
    """The operators as users reach them, through torch's dispatcher."""

    def render_planes(self, scene: PlaneScene) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return native.render_planes(*vars(scene).values())

    def render_planes_backward(
        self, grad_image: torch.Tensor, samples: torch.Tensor, density: torch.Tensor, scene: PlaneScene
    ) -> torch.Tensor:
        return native.render_planes_backward(grad_image, samples, density, *vars(scene).values())

    def ssim(self, image: torch.Tensor, target: torch.Tensor, shapes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return native.ssim(image, target, shapes)

    def adam_(self, step: AdamStep) -> None:
        native.adam_(*vars(step).values())


def fit(operators: Implementation, data: dict[str, torch.Tensor], passes: int) -> tuple[float, float]:
    """Loss (0.7 L1 + 0.3 (1 - SSIM)) before and after `passes` steps of Adam over all slices.

    `operators` are those of planes: a CudaPlanes, or Dispatched.
    """
    parameters, shapes, target = data["parameters"].clone(), data["shapes"], data["target"]
    planes = (data["frames"], shapes, data["offsets"], data["weights"], BACKGROUND, CUT)
    device = parameters.device
    rates = torch.tensor([0.02] * 3 + [0.01] * 6 + [0.02, 0.02], device=device)
    modes = torch.tensor([0] * 3 + [1, 0, 0, 1, 0, 1] + [0, 1], dtype=torch.int32, device=device)
    m, v = torch.zeros_like(parameters), torch.zeros_like(parameters)
    losses = []
    for step in range(1, passes + 1):
        image, samples, density = operators.render_planes(PlaneScene(parameters, *planes))
        similarity, similarity_gradient = operators.ssim(image, target, shapes)
        difference = image - target
        if step in (1, passes):
            losses.append(0.7 * difference.abs().mean() + 0.3 * (1 - similarity.mean()))
        grad = 0.7 / target.numel() * difference.sign() - 0.3 / len(shapes) * similarity_gradient
        gradient = operators.render_planes_backward(grad, samples, density, PlaneScene(parameters, *planes))
        operators.adam_(AdamStep(parameters, gradient, m, v, rates, modes, step))
    return float(losses[0]), float(losses[-1])


class Stopwatch:
    """Milliseconds of GPU time between CUDA events, or of wall clock for the emulation."""

    def __init__(self, device: str) -> None:
        self.gpu = device == "cuda"

    def now(self) -> Any:
        if not self.gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        if not self.gpu:
            return 1e3 * (end - start)
        end.synchronize()
        return float(start.elapsed_time(end))


class TimedLauncher:
    """A launcher that keeps the times of every kernel launched through it."""

    def __init__(self, inner: Any, watch: Stopwatch) -> None:
        self.inner, self.watch = inner, watch
        self.events: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def launch(
        self, kernel: str, grid: tuple[int, int], block: int, *arguments: torch.Tensor | float
    ) -> None:
        start = self.watch.now()
        self.inner.launch(kernel, grid, block, *arguments)
        self.events[kernel].append((start, self.watch.now()))

    def medians(self) -> dict[str, float]:
        return {
            name: statistics.median(self.watch.between(*pair) for pair in pairs)
            for name, pairs in self.events.items()
        }


def workload(data: dict[str, torch.Tensor]) -> dict[str, float]:
    """Pixels, visible Gaussian-parallel units, and pixel-Gaussian pairs (ellipses' areas, not clipped)."""
    p = data["parameters"].double()
    units = pairs = 0.0
    for frame, offsets in zip(data["frames"].double(), data["offsets"].double(), strict=True):
        n = frame[9:12]
        y0 = n[0] / p[3]
        y1 = (n[1] - p[4] * y0) / p[6]
        y2 = (n[2] - p[5] * y0 - p[7] * y1) / p[8]
        variance = y0**2 + y1**2 + y2**2
        area = torch.linalg.cross(frame[3:6], frame[6:9]).norm()
        root = (p[3] * p[6] * p[8]).abs() * variance.sqrt() * area
        for offset in offsets:
            rest = CUT - (n @ (p[:3] - frame[:3, None]) - offset) ** 2 / variance
            units += float((rest > 0).sum())
            pairs += float((math.pi * rest.clamp(min=0) / root).sum())
    total = float(data["shapes"].prod(dim=1).sum())
    return {"pixels": total, "units": units, "pairs": pairs}


def floors(data: dict[str, torch.Tensor], work: dict[str, float]) -> dict[str, tuple[float, float]]:
    """(bytes, operations) that each kernel cannot do without."""
    gaussians, samples = data["parameters"].shape[1], data["offsets"].shape[1]
    units = float(gaussians * data["offsets"].numel())
    pixels = work["pixels"]
    return {
        "gm_count_tiles": (units * 8 + gaussians * 44, 0.0),
        "gm_write_entries": (units * 8 + work["units"] * (32 + 8 * 2), 0.0),
        "gm_add_entries": (
            work["units"] * (32 + 12) + pixels * samples * 8,
            work["pairs"] * FORWARD_OPERATIONS,
        ),
        "gm_finish_pixels": (pixels * (samples * 16 + 4), 0.0),
        "gm_render_backward": (
            gaussians * 88 + pixels * (samples * 8 + 4),
            work["pairs"] * BACKWARD_OPERATIONS,
        ),
        "gm_ssim_maps": (pixels * 20, pixels * 11 * 2 * 10),
        "gm_ssim_gradient": (pixels * 24, pixels * 11 * 2 * 6),
        "gm_adam_step": (gaussians * 11 * 28.0, 0.0),
    }


def copy_bandwidth(watch: Stopwatch, size: int) -> float:
    """Bytes read and written per second by a device-to-device copy."""
    source = torch.zeros(size, dtype=torch.uint8, device="cuda" if watch.gpu else "cpu")
    target = torch.empty_like(source)
    times = []
    for _ in range(10):
        start = watch.now()
        target.copy_(source)
        times.append(watch.between(start, watch.now()))
    return 2e3 * size / statistics.median(times)


def main() -> int:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--gaussians", type=int, default=40_000)
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--peak-tflops", type=float, default=67.0, help="float32 peak for the floors")
    parser.add_argument(
        "--emulate", action="store_true", help="tiny problem on the host emulation, without a GPU"
    )
    options = parser.parse_args()
    if options.emulate:
        sys.path.insert(0, str(REPOSITORY / "Testing" / "Native" / "cuda_emulation"))
        from launcher import EmulationLauncher

        inner: Any = EmulationLauncher()
        device, options.passes, options.repeats = "cpu", 2, 1
        data = problem(2, 24, 40, 300, device)
        machine = "host emulation: times mean nothing"
    else:
        if not torch.cuda.is_available():
            print("This benchmark needs a CUDA GPU; torch finds none here.", file=sys.stderr)
            return 77
        from GaussianMRILib.native.support.cuda_launch import CudaLauncher

        inner, device = CudaLauncher(), "cuda"
        data = problem(options.slices, 112, 224, options.gaussians, device)
        machine = torch.cuda.get_device_name()
    watch = Stopwatch(device)
    plain = CudaPlanes(inner)
    fit(plain, data, 2)  # compiles, and warms the allocator
    bandwidth = copy_bandwidth(watch, 1 << 28 if watch.gpu else 1 << 20)

    timed = TimedLauncher(inner, watch)
    fit(CudaPlanes(timed), data, options.repeats)
    work, kernels = workload(data), timed.medians()
    least = floors(data, work)
    figures: dict[str, Any] = {
        "machine": machine,
        "torch": torch.__version__,
        "copy_GB_per_s": bandwidth / 1e9,
        "gaussians": data["parameters"].shape[1],
        **work,
        "kernels": {},
    }
    print(
        f"{machine}; copy {bandwidth / 1e9:.0f} GB/s; {figures['gaussians']} Gaussians, "
        f"{work['pixels']:.0f} pixels, {work['pairs'] / 1e6:.1f} M pixel-Gaussian pairs a pass"
    )
    for name, milliseconds in sorted(kernels.items(), key=lambda item: -item[1]):
        size, operations = least.get(name, (0.0, 0.0))
        floor = 1e3 * max(size / bandwidth, operations / (options.peak_tflops * 1e12))
        figures["kernels"][name] = {
            "ms": milliseconds,
            "floor_ms": floor,
            "bytes": size,
            "operations": operations,
        }
        print(f"{name:20} {milliseconds:8.4f} ms   floor {floor:8.4f} ms")

    operators = {}
    planes = (data["frames"], data["shapes"], data["offsets"], data["weights"], BACKGROUND, CUT)
    scene = PlaneScene(data["parameters"], *planes)
    image, samples, density = plain.render_planes(scene)
    calls = {
        "render_planes": lambda: plain.render_planes(scene),
        "render_planes_backward": lambda: plain.render_planes_backward(image, samples, density, scene),
        "ssim": lambda: plain.ssim(image, data["target"], data["shapes"]),
    }
    for name, call in calls.items():
        times = []
        for _ in range(options.repeats):
            start = watch.now()
            call()
            times.append(watch.between(start, watch.now()))
        operators[name] = statistics.median(times)
        print(f"{name:24} {operators[name]:8.4f} ms")
    started = time.perf_counter()
    before, after = fit(plain, data, options.passes)
    seconds = time.perf_counter() - started
    print(f"fit of {options.passes} passes: {seconds:.3f} s, loss {before:.4f} -> {after:.4f}")
    figures |= {
        "operators_ms": operators,
        "fit": {"passes": options.passes, "seconds": seconds, "loss": [before, after]},
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
