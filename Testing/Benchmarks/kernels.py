"""How fast the kernels are: rates per core, against the reference and scipy, and how they scale.

    python -m Testing.Benchmarks.kernels [--quick] [--json PATH]

The scene is a jittered lattice of Gaussians of 1.2-2 mm in a box of 112 x 224 x 80 mm, pixels of 1 mm unless
said otherwise. A pixel-Gaussian is a pixel inside the cut of a Gaussian. Times are the least of several runs:
of the processor for what runs on one thread, so that other programs matter less, else of the clock.

Rates are given twice. The whole call has everything from Python on: culling all Gaussians, projecting those that
the plane meets, drawing, and for the backward pass the dense gradient (11, N). Drawing is what one more sample at
the same place adds to a call: the footprints' places and bands, their pixels, and the output (forward), or the
input's quotients and the sums over pixels (backward); culling, projection and the gradient's rows happen once for
all samples of a plane and so drop out of the difference.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from GaussianMRILib import native
from GaussianMRILib.native.planes import reference
from GaussianMRILib.native.planes.arguments import AdamStep, PlaneScene
from GaussianMRILib.native.planes.cpu import CpuPlanes
from GaussianMRILib.native.support.backend import kernels

from .stored import store

BOX = (112.0, 224.0, 80.0)
PROFILE = ([-1.75, 0.0, 1.75], [0.275, 0.45, 0.275])  # a slice of 4 mm in three samples
Planes = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def lattice(count: int, seed: int = 0) -> torch.Tensor:
    """About `count` Gaussians (11, N) on a jittered lattice that fills the box."""
    generator = torch.Generator().manual_seed(seed)
    pitch = (math.prod(BOX) / count) ** (1 / 3)
    axes = [(torch.arange(n) + 0.5) * (size / n) for size in BOX for n in [max(1, round(size / pitch))]]
    means = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    n = means.shape[1]
    parameters = torch.zeros(11, n)
    parameters[0:3] = means + (torch.rand(3, n, generator=generator) - 0.5) * pitch
    for row in (3, 6, 8):
        parameters[row] = 1 / (1.2 + 0.8 * torch.rand(n, generator=generator))
    for row in (4, 5, 7):
        parameters[row] = 0.1 * torch.randn(n, generator=generator)
    parameters[9] = torch.rand(n, generator=generator)
    parameters[10] = 0.3 + 0.5 * torch.rand(n, generator=generator)
    return parameters


def planes(count: int, rows: int, columns: int, samples: int, tilt: float = 20.0) -> Planes:
    """`count` parallel planes over the whole box (frames, shapes, offsets, weights), tilted about the long
    axis."""
    angle = math.radians(tilt)
    u, n = [math.cos(angle), 0.0, math.sin(angle)], [math.sin(angle), 0.0, -math.cos(angle)]
    v = [0.0, BOX[1] / rows, 0.0]
    i_step = [x * BOX[0] / columns for x in u]
    frames = []
    for k in range(count):
        shift = (k - (count - 1) / 2) * (BOX[2] * 0.6 / max(count, 2))
        origin = [
            BOX[axis] / 2 - (columns / 2) * i_step[axis] - (rows / 2) * v[axis] + shift * n[axis]
            for axis in range(3)
        ]
        frames.append([*origin, *i_step, *v, *n])
    offsets, weights = PROFILE if samples == 3 else ([0.0], [1.0])
    shapes = torch.tensor([[rows, columns]] * count, dtype=torch.int32)
    return torch.tensor(frames), shapes, torch.tensor([offsets] * count), torch.tensor([weights] * count)


def least(runs: list[Callable[[], object]], clock: Callable[[], float], seconds: float) -> list[float]:
    """Least time of each run in seconds, over as many rounds as fit, at least three. The runs take turns, so that
    their times can be compared whatever else the machine does."""
    for run in runs:
        run()
    best, spent, rounds = [math.inf] * len(runs), 0.0, 0
    while rounds < 3 or spent < seconds * len(runs):
        for k, run in enumerate(runs):
            start = clock()
            run()
            taken = clock() - start
            best[k], spent = min(best[k], taken), spent + taken
        rounds += 1
    return best


def pixel_gaussians(parameters: torch.Tensor, scene: Planes) -> int:
    """Number of pixel-Gaussians, from the areas of the ellipses whose centres lie in the image.

    The plane cuts q < cut in an ellipse of area pi (cut - q0) / sqrt(det) pixels, where q0 = d^2 / (n^T Sigma
    n) and det is the determinant of the 2D conic.
    """
    frames, shapes, offsets, _ = (x.double() for x in scene)
    factors = reference._matrices(parameters.double())
    covariance = torch.linalg.inv(factors.mT @ factors)
    count = 0.0
    for frame, (rows, columns), shifts in zip(frames, shapes, offsets, strict=True):
        origin, u, v, n = frame.reshape(4, 3)
        toward = covariance @ n
        conic = torch.stack([factors @ u, factors @ v], dim=2)
        root = torch.linalg.det(conic.mT @ conic).sqrt()
        for shift in shifts:
            distance = (parameters[0:3].double().T - origin) @ n - shift
            rest = (native.CUT - distance**2 / (toward @ n)).clamp(min=0)
            centre = parameters[0:3].double().T - toward * (distance / (toward @ n))[:, None] - origin
            column, row = centre @ u / (u @ u), centre @ v / (v @ v)
            inside = (column > 0) & (column < columns) & (row > 0) & (row < rows)
            count += float((math.pi * rest / root)[inside].sum())
    return round(count)


class Timer:
    """Forward and backward times of scenes, which take turns."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, parameters: torch.Tensor, threads: int, *scenes: Planes) -> list[tuple[float, float]]:
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        forward: list[Callable[[], object]] = []
        backward: list[Callable[[], object]] = []
        for scene in scenes:
            arguments = (parameters, *scene, 1e-3, native.CUT)
            image, samples, density = native.render_planes(*arguments)
            forward.append(partial(native.render_planes, *arguments))
            backward.append(partial(native.render_planes_backward, image, samples, density, *arguments))
        times = [least(runs, clock, self.seconds) for runs in (forward, backward)]
        return list(zip(*times, strict=True))


def rates(timer: Timer, parameters: torch.Tensor) -> list[dict[str, Any]]:
    """G pixel-Gaussians per second on one core: of whole calls and of drawing."""
    library = kernels()
    assert library is not None
    best = library.simd
    more = 2  # samples that are added at the same place to tell drawing from the rest
    rows = []
    for pixel in (1.0, 0.5):
        scene = planes(1, round(BOX[1] / pixel), round(BOX[0] / pixel), 1)
        pairs = pixel_gaussians(parameters, scene)
        frames, shapes, *profile = scene
        offsets, weights = (x.expand(-1, 1 + more).contiguous() for x in profile)
        again = (frames, shapes, offsets, weights)
        for simd in dict.fromkeys(["avx2", best]):
            if not library.set_simd(simd):
                continue
            once, thrice = timer(parameters, 1, scene, again)
            drawing = [max(b - a, 1e-9) / more for a, b in zip(once, thrice, strict=True)]
            rows.append(
                {
                    "simd": simd,
                    "pixel_mm": pixel,
                    "pixel_gaussians": pairs,
                    "forward_ms": once[0] * 1e3,
                    "backward_ms": once[1] * 1e3,
                    "forward_drawing_ms": drawing[0] * 1e3,
                    "backward_drawing_ms": drawing[1] * 1e3,
                    "forward_rate": pairs / once[0] / 1e9,
                    "backward_rate": pairs / once[1] / 1e9,
                    "forward_rate_drawing": pairs / drawing[0] / 1e9,
                    "backward_rate_drawing": pairs / drawing[1] / 1e9,
                }
            )
        library.set_simd(best)
    print(
        "\nRates on one core, G pixel-Gaussians/s, of whole calls from Python (with culling of all Gaussians,\n"
        "projection, and the dense gradient) and of drawing (what one more sample at the same place adds)\n"
        "                        forward: call          drawing          backward: call         drawing"
    )
    for row in rows:
        columns = [
            f"{row[f'{way}{part}_ms']:6.2f} ms {row[f'{way}_rate{part}']:5.2f} G/s"
            for way in ("forward", "backward")
            for part in ("", "_drawing")
        ]
        print(f"  {row['simd']:7s} {row['pixel_mm']:3.1f} mm pixels  {'   '.join(columns)}")
    return rows


def against_scipy(timer: Timer, parameters: torch.Tensor) -> dict[str, float]:
    """One plane of 224 x 224 against scipy's cubic spline on a volume of 0.8 mm over the same box (both
    prepared)."""
    scene = planes(1, 224, 224, 1)
    one, two = (timer(parameters, threads, scene)[0][0] for threads in (1, 2))
    generator = np.random.default_rng(0)
    volume = ndimage.spline_filter(
        generator.random([round(s / 0.8) for s in BOX], dtype=np.float32), output=np.float32
    )
    frame = scene[0][0].numpy()
    column, row = np.meshgrid(np.arange(224), np.arange(224))
    points = frame[0:3] + column[..., None] * frame[3:6] + row[..., None] * frame[6:9]
    coordinates = np.moveaxis(points / 0.8 - 0.5, -1, 0)
    run = partial(ndimage.map_coordinates, volume, coordinates, order=3, prefilter=False)
    (spline,) = least([run], time.process_time, timer.seconds)
    print(
        f"\nPlane of 224 x 224 from {parameters.shape[1]} Gaussians: "
        f"{one * 1e3:.2f} ms on one core, {two * 1e3:.2f} ms on two threads; "
        f"scipy map_coordinates(order=3): {spline * 1e3:.2f} ms ({spline / one:.1f} times as long)"
    )
    return {
        "one_core_ms": one * 1e3,
        "two_threads_ms": two * 1e3,
        "scipy_ms": spline * 1e3,
        "ratio": spline / one,
    }


def against_reference(timer: Timer, count: int) -> dict[str, float]:
    """A pass of training over four slices, forward, similarity, backward and Adam, on one thread."""
    parameters, scene = lattice(count), planes(4, 224, 112, 3)
    torch.set_num_threads(1)
    target = torch.rand(4 * 224 * 112)
    rules = (torch.full((11,), 1e-4), torch.tensor([0, 0, 0, 1, 0, 0, 1, 0, 1, 2, 1], dtype=torch.int32))

    def one_pass(implementation: Any) -> None:
        arguments = PlaneScene(parameters, *scene, 1e-3, native.CUT)
        image, samples, density = implementation.render_planes(arguments)
        gradient = torch.sign(image - target) / len(target) - implementation.ssim(image, target, scene[1])[1]
        step = implementation.render_planes_backward(gradient, samples, density, arguments)
        state = [torch.zeros_like(parameters) for _ in range(2)]
        implementation.adam_(AdamStep(parameters.clone(), step, *state, *rules, 1))

    library = kernels()
    assert library is not None
    (fast,) = least([partial(one_pass, CpuPlanes(library))], time.process_time, timer.seconds)
    start = time.process_time()
    one_pass(reference)
    slow = time.process_time() - start
    print(
        f"\nOne pass of training, 4 slices of 224 x 112, {parameters.shape[1]} Gaussians: "
        f"{fast * 1e3:.1f} ms; pure-torch reference {slow * 1e3:.0f} ms, {slow / fast:.0f} times as long"
    )
    return {"native_ms": fast * 1e3, "reference_ms": slow * 1e3, "ratio": slow / fast}


def scaling(timer: Timer) -> list[dict[str, Any]]:
    """Forward and backward on one core, for three sizes each of slices, pixels and Gaussians."""
    rows = []
    for what, cases in {
        "slices": [(5, 112, 224, 50_000), (10, 112, 224, 50_000), (20, 112, 224, 50_000)],
        "pixels": [(5, 112, 224, 50_000), (5, 224, 448, 50_000), (5, 448, 896, 50_000)],
        "gaussians": [(5, 112, 224, 25_000), (5, 112, 224, 50_000), (5, 112, 224, 100_000)],
    }.items():
        for slices, columns, height, count in cases:
            parameters = lattice(count)
            ((forward, backward),) = timer(parameters, 1, planes(slices, height, columns, 3))
            rows.append(
                {
                    "what": what,
                    "slices": slices,
                    "pixels": height * columns,
                    "gaussians": parameters.shape[1],
                    "forward_ms": forward * 1e3,
                    "backward_ms": backward * 1e3,
                }
            )
    print(
        "\nScaling, one core, three samples per slice\n"
        "  varied     slices  pixels/slice  Gaussians  forward   backward"
    )
    for row in rows:
        print(
            f"  {row['what']:9s}  {row['slices']:6d}  {row['pixels']:12d}  {row['gaussians']:9d}  "
            f"{row['forward_ms']:6.1f} ms {row['backward_ms']:7.1f} ms"
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    options = parser.parse_args(argv)
    info = native.backend()
    if kernels() is None:
        print(f"There are no compiled kernels to measure: {info.reason}.")
        return 1
    threads = torch.get_num_threads()
    timer = Timer(0.1 if options.quick else 1.0)
    parameters = lattice(100_000)
    print(f"Backend {info.name}, {info.simd}")
    results = {
        "backend": info.name,
        "simd": info.simd,
        "rates": rates(timer, parameters),
        "scipy": against_scipy(timer, parameters),
        "reference": against_reference(timer, 20_000 if options.quick else 100_000),
        "scaling": scaling(timer),
    }
    torch.set_num_threads(threads)
    if options.json:
        store(options.json, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
