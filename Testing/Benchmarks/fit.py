"""Time and memory of a fit, and time of a rendered plane: `python -m Testing.Benchmarks.fit`.

Each fit runs in a process of its own, with two threads, so that peak memory is its own. Cases: the lumbar
phantom's axial slices cut to 20 x 112 x 224, the whole 55 x 512 x 384 brain series of the shared scans, and,
to see how time grows, the phantom at three numbers of slices and three sizes of slice.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from .stored import RESULTS, store

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
BRAIN = "mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz"
THREADS = 2
CASES = {
    # name: slices, rows, columns of the phantom
    "phantom 20 x 112 x 224": (20, 112, 224),
    "phantom 5 x 112 x 224": (5, 112, 224),
    "phantom 10 x 112 x 224": (10, 112, 224),
    "phantom 20 x 56 x 112": (20, 56, 112),
    "phantom 20 x 224 x 256": (20, 224, 256),
}
TARGETS = {"phantom 20 x 112 x 224": (8.0, 1024.0), "brain 55 x 512 x 384": (180.0, 4096.0)}


def _peak() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def fit_once(folder: Path, size: tuple[int, int, int] | None, device: str) -> dict[str, Any]:
    """Fit the slices in `folder`, cut to `size` around their middle; runs in a process of its own."""
    import numpy as np
    import torch

    torch.set_num_threads(THREADS)
    import GaussianMRILib as gm
    from GaussianMRILib import native
    from GaussianMRILib.fitting import fast  # noqa: F401  imports are not part of a fit

    stack = gm.read_stacks(folder)[0]
    if size is not None:
        first = [(have - want) // 2 for have, want in zip(stack.shape, size, strict=True)]
        k, j, i = (slice(at, at + want) for at, want in zip(first, size, strict=True))
        poses = stack.ijk_to_ras[k].copy()
        poses[:, :3, 3] += i.start * poses[:, :3, 0] + j.start * poses[:, :3, 1]
        stack = gm.SliceStack.from_array(stack.pixels[k, j, i], poses, thickness=stack.thickness)
    native.backend()  # loading the kernels is not part of a fit
    native.ssim(torch.zeros(64), torch.zeros(64), torch.tensor([[8, 8]], dtype=torch.int32))
    before = _peak()
    started = time.perf_counter()
    field = gm.fit([stack], seed=0, device=device)
    seconds = time.perf_counter() - started
    peak = _peak()

    middle = stack.plane(stack.shape[0] // 2)
    tilted = gm.ImagePlane.from_normal(
        middle.center, middle.normal + 0.3 * middle.j_axis, spacing=(0.5, 0.5), shape=(224, 224)
    )
    field.render(tilted)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        field.render(tilted)
        times.append(time.perf_counter() - started)
    return {
        "slices": list(stack.shape),
        "fit_s": round(seconds, 3),
        "memory_above_import_mb": round(peak - before),
        "peak_mb": round(peak),
        "gaussians": len(field),
        "render_224x224_ms": round(1000 * float(np.median(times)), 3),
        "held_out_psnr": (field.report.get("held_out") or {}).get("psnr_db"),
        "backend": native.backend().name,
    }


def _in_process(folder: Path, size: tuple[int, int, int] | None, device: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "Testing.Benchmarks.fit", "--folder", str(folder), "--device", device]
    if size is not None:
        command += ["--size", *map(str, size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The fit failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run(device: str = "cpu", quick: bool = False) -> dict[str, Any]:
    """Every case; the whole brain only where the shared scans are, and not with `quick`."""
    from GaussianMRILib.phantom import write_lumbar_phantom

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        axial = write_lumbar_phantom(Path(folder) / "phantom").axial
        for name, size in list(CASES.items())[: 1 if quick else None]:
            results[name] = _report(name, _in_process(axial, size, device))
        archive = SHARED_DATA / BRAIN
        if archive.is_file() and not quick:
            with tarfile.open(archive) as content:
                content.extractall(
                    Path(folder) / "brain", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
                )
            name = "brain 55 x 512 x 384"
            results[name] = _report(name, _in_process(Path(folder) / "brain", None, device))
    return results


def _report(name: str, result: dict[str, Any]) -> dict[str, Any]:
    line = f"{name:<24} {result['fit_s']:8.2f} s {result['memory_above_import_mb']:7} MB above import"
    line += f" {result['gaussians']:9} Gaussians {result['render_224x224_ms']:8.2f} ms a 224 x 224 plane"
    if name in TARGETS:
        seconds, memory = TARGETS[name]
        result["target"] = {"fit_s": seconds, "memory_above_import_mb": memory}
        result["reached"] = result["fit_s"] <= seconds and result["memory_above_import_mb"] <= memory
        line += f"   target {seconds:g} s, {memory:g} MB: {'reached' if result['reached'] else 'MISSED'}"
    print(line, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="the 20-slice case alone")
    parser.add_argument("--json", type=Path, default=RESULTS / "fit.json", help="file for the figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        print(json.dumps(fit_once(options.folder, options.size, options.device)))
        return
    results = run(options.device, options.quick)
    store(options.json, results)


if __name__ == "__main__":
    main()
