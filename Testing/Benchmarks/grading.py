"""Time and memory of grading one disc: `python -m Testing.Benchmarks.grading`.

Four networks of full size (9 x 112 x 224 pixels, 16 views each) grade one input, as `gaussianmri grade predict` does.
Weights are random: time and memory do not depend on them. Below, what each measure is worth in encoding the slices of all
views by one network, and where the time of a training step goes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .stored import RESULTS, store

TARGET_S, TARGET_MB = 10.0, 2048
SHAPE = (9, 112, 224)


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(threads: int, repeats: int) -> dict[str, Any]:
    """Loading and grading by four networks."""
    import numpy as np
    import torch

    from GaussianMRILib.device import multiplies_bfloat16
    from GaussianMRILib.grading.labels import LATERAL_TASKS
    from GaussianMRILib.grading.model_card import ModelCard, load_grader, save_grader
    from GaussianMRILib.grading.network import GradingNetwork
    from GaussianMRILib.grading.predict import grade

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    mask = np.ones(SHAPE[0], bool)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for task in LATERAL_TASKS:
            card = ModelCard(task, SHAPE, SHAPE[1:])
            paths.append(save_grader(Path(folder) / f"{task.name}.pt", GradingNetwork(), card))
        started = time.perf_counter()
        graders = [load_grader(path) for path in paths]
        loading = time.perf_counter() - started
        size = paths[0].stat().st_size / 1e6
    results: dict[str, Any] = {
        "threads": threads,
        "shape": list(SHAPE),
        "views": 16,
        "networks": len(graders),
        "checkpoint_mb": round(size, 1),
        "load_s": round(loading, 2),
        "bfloat16_units": multiplies_bfloat16("cpu"),
    }
    for precision in ("float32", "bfloat16"):
        times, processor = [], time.process_time()
        for _ in range(repeats):
            started = time.perf_counter()
            found = grade(graders, (images, mask), precision=precision)
            times.append(time.perf_counter() - started)
        results[precision] = {
            "first_s": round(times[0], 2),
            "best_s": round(min(times), 2),
            "processor_s": round((time.process_time() - processor) / repeats, 2),
            "probabilities": [[round(p, 4) for p in each.probabilities] for each in found],
        }
        results["peak_mb"] = round(peak_mb())
        print(
            f"{precision:9} {min(times):6.2f} s (first {times[0]:.2f} s; {results[precision]['processor_s']:.1f} s of "
            f"processor time), peak memory {peak_mb():.0f} MB",
            flush=True,
        )
    automatic = "bfloat16" if results["bfloat16_units"] else "float32"
    results["used"] = automatic
    total = loading + results[automatic]["first_s"]
    print(
        f"loading {loading:.2f} s; with it, as used here ({automatic}): {total:.2f} s "
        f"(target {TARGET_S:g} s), {results['peak_mb']} MB (target {TARGET_MB} MB)",
        flush=True,
    )
    results["total_s"] = round(total, 2)
    results["within_target"] = total <= TARGET_S and results["peak_mb"] <= TARGET_MB
    return results


def measures(threads: int, repeats: int) -> list[dict[str, Any]]:
    """What each measure is worth: 15 x 9 slices (a flip along the slices needs no encoding) through one network."""
    import torch

    from GaussianMRILib.grading.network import GradingNetwork, for_inference, mixed_precision

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    trained = GradingNetwork().eval()
    folded = for_inference(trained)
    images, mask = torch.rand(15, *SHAPE), torch.ones(15, SHAPE[0], dtype=torch.bool)
    rows: list[dict[str, Any]] = []

    def row(
        name: str, network: Any, precision: str, batch: int | None, last: bool, grad: bool = False
    ) -> None:
        network.encoder.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        mode = torch.enable_grad if grad else torch.inference_mode
        best = float("inf")
        for _ in range(repeats):
            started = time.perf_counter()
            with mode(), mixed_precision(torch.device("cpu"), precision):
                network.encode(images, mask, batch)
            best = min(best, time.perf_counter() - started)
        rows.append({"measure": name, "seconds": round(best, 3)})
        print(f"{name:52} {best:6.2f} s  {rows[0]['seconds'] / best:5.2f}x", flush=True)

    row("as trained, float32, all slices at once", trained, "float32", None, False, grad=True)
    row("inference_mode", trained, "float32", None, False)
    row("  + 32 slices at a time", trained, "float32", 32, False)
    row("  + batch normalisation folded", folded, "float32", 32, False)
    row("  + channels_last", folded, "float32", 32, True)
    row("  + bfloat16, contiguous", folded, "bfloat16", 32, False)
    row("  + bfloat16, channels_last", folded, "bfloat16", 32, True)
    for batch in (9, 72, 135):
        row(f"  bfloat16, contiguous, {batch} slices at a time", folded, "bfloat16", batch, False)
    return rows


def training(threads: int, steps: int) -> list[dict[str, Any]]:
    """Seconds a step of 16 discs: forward, backward and AdamW."""
    import torch

    from GaussianMRILib.grading.network import GradingNetwork, mixed_precision

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = GradingNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rows = []
    for size in ((56, 112), SHAPE[1:]):
        images, mask = torch.rand(16, SHAPE[0], *size), torch.ones(16, SHAPE[0], dtype=torch.bool)
        for precision in ("float32", "bfloat16"):
            for last in (False, True):
                network.encoder.to(memory_format=torch.channels_last if last else torch.contiguous_format)
                best = float("inf")
                for _ in range(steps):
                    started = time.perf_counter()
                    with mixed_precision(torch.device("cpu"), precision):
                        logits = network(images, mask)
                    optimiser.zero_grad()
                    logits.float().logsumexp(1).sum().backward()
                    optimiser.step()
                    best = min(best, time.perf_counter() - started)
                layout = "channels_last" if last else "contiguous"
                name = f"training, 16 x 9 x {size[0]} x {size[1]}, {precision}, {layout}"
                rows.append({"measure": name, "seconds": round(best, 3)})
                print(f"{name:60} {best:6.2f} s a step", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only what users wait for, once")
    parser.add_argument("--json", type=Path, default=RESULTS / "grading.json", help="file for the figures")
    options = parser.parse_args()
    repeats = 1 if options.quick else options.repeats
    results = {"predict": measure(options.threads, repeats)}
    if not options.quick:
        results["measures"] = measures(options.threads, repeats)
        results["training"] = training(options.threads, 2)
    store(options.json, results)


if __name__ == "__main__":
    main()
