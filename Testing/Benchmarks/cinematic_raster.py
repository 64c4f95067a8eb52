"""How fast splats are drawn, and how exactly: `python -m Testing.Benchmarks.cinematic_raster [--json PATH]`.

The scene is an ellipsoid of the size of a head, 100,000 splats with spherical harmonics of degree 3: 60 % in its
outer shell, 1.2 mm in the median, opacities around 1/2. It is seen from 54 cm and cut by an oblique plane near its
middle. Times of the clock are the median and the least of several pictures with all threads, everything included that
`rasterise` does; times of the processor are summed over the threads, so that other programs matter less. Gradients are
those of the tests' scenes, away from the limits where a splat is skipped, against the float64 reference. The light that
leaks is what is drawn where no ray reaches the kept side.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.rasterise import rasterise
from GaussianMRILib.cinematic.splats import Splats
from GaussianMRILib.native import backend
from GaussianMRILib.native.splats import operators as splat_operators

from .stored import store

PLANE = ClipPlane.from_point([5.0, 8.0, 10.0], [0.4, 0.8, 0.45])
EYE = (150.0, 500.0, 120.0)
TARGETS = {512: 25.0, 800: 12.0}  # frames a second with the cut on two cores


def head(count: int = 100_000, seed: int = 0, device: str = "cpu") -> Splats:
    """The scene."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    radius = torch.rand(count, generator=generator)
    shell = torch.rand(count, generator=generator) < 0.6
    radius = torch.where(shell, 1 - 0.06 * radius, radius ** (1 / 3))
    direction = torch.nn.functional.normalize(normal(count, 3), dim=1)
    means = direction * radius[:, None] * torch.tensor([75.0, 95.0, 110.0])
    log_scales = 0.4 * normal(count, 3) + float(np.log(1.2))
    sh = 0.1 * normal(count, 16, 3)
    sh[:, 0] += torch.rand(count, 3, generator=generator)
    return Splats(means, normal(count, 4), log_scales, sh, 2 * normal(count)).map(lambda t: t.to(device))


def head_faces() -> Any:
    """Cut faces of a ball of noisy soft tissue as large as the splats' head, voxels of 1 mm."""
    from GaussianMRILib.cinematic.cut_face import CutFace
    from GaussianMRILib.cinematic.looks import find_look
    from GaussianMRILib.cinematic.tracer import PathTracer

    side = np.arange(-110.0, 111.0)
    distance = np.sqrt(side[:, None, None] ** 2 + side[:, None] ** 2 + side**2)
    tissue = np.random.default_rng(0).normal(40, 30, distance.shape)
    matrix = np.eye(4)
    matrix[:3, 3] = side[0]
    return CutFace.of(
        PathTracer(
            np.where(distance < 100, tissue, -1000).astype(np.int16), matrix, find_look("CT soft tissue")
        )
    )


def faces_speed(repeats: int) -> dict[str, Any]:
    """Times of one picture of 512 x 512: the cut splats, and the cut faces of a volume before them."""
    from GaussianMRILib.cinematic.model import CinematicModel

    model = CinematicModel(head(), np.zeros(3), 120, face=head_faces())
    camera = Camera.look_at(EYE, [0, 0, 0], fov_degrees=28, size=512)
    median, least, processor = _seconds(lambda: model.render(camera, PLANE), repeats)
    return {
        "frames_per_second": 1 / median,
        "median_ms": 1e3 * median,
        "least_ms": 1e3 * least,
        "processor_ms": 1e3 * processor,
    }


def _seconds(work: Any, repeats: int) -> tuple[float, float, float]:
    """Median and least time of the clock, and least time of the processor."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return float(np.median(walls)), min(walls), min(processors)


def speed(size: int, cut: bool, device: str, repeats: int) -> dict[str, Any]:
    """Times of one picture and of its gradient."""
    splats = head(device=device)
    camera = Camera.look_at(EYE, [0, 0, 0], fov_degrees=28, size=size)
    clip = PLANE if cut else None
    with torch.no_grad():
        forward = _seconds(lambda: rasterise(splats, camera, clip=clip), repeats)
    leaves = splats.map(lambda t: t.clone().requires_grad_())
    values = list(leaves.tensors().values())

    def step() -> None:
        torch.autograd.grad(rasterise(leaves, camera, clip=clip)[0].sum(), values)

    both = _seconds(step, max(3, repeats // 3))
    names = ("median_ms", "least_ms", "processor_ms")
    return {
        "size": size,
        "cut": cut,
        "frames_per_second": 1 / forward[0],
        "forward": dict(zip(names, (1e3 * t for t in forward), strict=True)),
        "with_gradient": dict(zip(names, (1e3 * t for t in both), strict=True)),
    }


def gradient_errors(device: str) -> dict[str, float]:
    """Norm of the gradients' errors over their norm, by parameter: the largest of five random cut scenes."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
    from raster_scenes import NAMES, raster_scene

    errors = dict.fromkeys(NAMES, 0.0)
    for seed in range(5):
        scene = raster_scene(100 + seed, count=1000, size=(96, 96), cut=True)
        leaves = [t.to(device).requires_grad_() for t in (*scene.splats, scene.screen)]
        pictures = splat_operators.rasterise(*leaves, scene.camera, scene.width, scene.height)
        torch.autograd.backward(pictures[:3], tuple(g.to(device) for g in scene.gradients))
        for name, leaf, want in zip(NAMES, leaves, scene.reference_gradients(), strict=True):
            error = leaf.grad.cpu().double() - want
            errors[name] = max(errors[name], float(error.norm() / want.norm()))
    return errors


def leaking_light(device: str) -> dict[str, float]:
    """Sum of the image over the pixels whose rays lie wholly beyond the plane, which holds the eye."""
    splats = head(device=device)
    camera = Camera.look_at(EYE, [0, 0, 0], fov_degrees=28, size=256)
    plane = ClipPlane.from_point(camera.eye, np.cross([0.2, 0.1, 1.0], -camera.eye))
    beyond = torch.from_numpy(camera.rays() @ plane.normal > 0).to(device)
    kept = torch.from_numpy(plane.signed_distance(splats.means.cpu().numpy()) < 0).float().to(device)
    hard = rasterise(splats, camera, weights=kept)[0][beyond].sum()
    analytic = rasterise(splats, camera, clip=plane)[0][beyond].sum()
    return {"hard_truncation": float(hard), "analytic": float(analytic)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="a third of the repeats")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    print(f"{backend()}, {torch.get_num_threads()} threads, {options.device}")
    rows = []
    sizes = (512, 800) if options.device == "cpu" else (512, 800, 1600)
    for size in sizes:
        for cut in (False, True):
            repeats = max(3, options.repeats // 3) if options.quick else options.repeats
            row = speed(size, cut, options.device, repeats)
            rows.append(row)
            target = f"(target {TARGETS[size]:.0f})" if cut and size in TARGETS else ""
            print(
                f"{size}^2 {'cut  ' if cut else 'whole'} {row['frames_per_second']:6.1f} frames/s {target:12}"
                f" least {row['forward']['least_ms']:6.1f} ms, processor {row['forward']['processor_ms']:6.1f} ms;"
                f" with gradient {row['with_gradient']['median_ms']:6.1f} ms"
            )
    faces = None
    if options.device == "cpu":
        faces = faces_speed(5 if options.quick else 2 * options.repeats)
        print(
            f"512^2 cut, behind cut faces {faces['frames_per_second']:.1f} frames/s (target 40); "
            f"processor {faces['processor_ms']:.1f} ms"
        )
    errors, light = gradient_errors(options.device), leaking_light(options.device)
    print("gradients against float64:", ", ".join(f"{name} {value:.1e}" for name, value in errors.items()))
    print(
        f"light beyond the plane: hard truncation {light['hard_truncation']:.1f}, analytic {light['analytic']:.3g}"
    )
    if options.json:
        figures = {
            "threads": torch.get_num_threads(),
            "speed": rows,
            "cut_faces": faces,
            "gradient_errors": errors,
            "light": light,
        }
        store(options.json, figures)


if __name__ == "__main__":
    main()
