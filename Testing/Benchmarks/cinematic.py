"""Cinematic models, from a CT to the tables of the ClipGS paper: `python -m Testing.Benchmarks.cinematic`.

The whole chain is run: a path-traced data set of the Visible Human head (shared scans), one training for each method, and
the scores on frames that no training has seen, path-traced with 256 samples and not denoised. The default is the preset
"quick" (256 x 256 pixels, 20,000 splats), about an hour on two processor cores; `--full` is the paper's setting (800 x 800
pixels, 1,000 frames, 100,000 splats, 40,000 iterations) and needs a CUDA GPU. All methods start from the same splats and
have the same number of iterations. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
HEAD = ROOT.parent / "shared" / "data" / "ct" / "visible_human_head_neck_ct_png.tar.xz"
LABELS = {
    "lt": "3DGS + LT",
    "aam": "3DGS + AAM",
    "aam+ht": "3DGS + AAM + HT",
    "aam+lt": "3DGS + AAM + LT (ClipGS)",
    "analytic": "3DGS + analytic cut",
}


def head_volume() -> tuple[Any, Any]:
    """Voxels (K, J, I), near to Hounsfield units, and ijk_to_ras; 1 mm, as nothing better is known of the scan."""
    import numpy as np
    from PIL import Image

    with tarfile.open(HEAD) as content:
        files = sorted((m for m in content if m.name.endswith(".png")), key=lambda member: member.name)
        slices = [np.asarray(Image.open(io.BytesIO(content.extractfile(m).read()))) for m in files]  # type: ignore[union-attr]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # columns run to the patient's left, rows to the back
    affine[:2, 3] = np.array(slices[0].shape[::-1]) / 2
    return np.stack(slices).astype(np.int16) * 16 - 1000, affine


def run(folder: Path, size: str, device: str, methods: list[str]) -> dict[str, Any]:
    """Data set, trainings and scores; `size` is "tiny", "quick" or "full"."""
    from GaussianMRILib.cinematic.dataset import DatasetOptions, make_dataset
    from GaussianMRILib.cinematic.evaluate import HEADER, ColourLpips, evaluate_model
    from GaussianMRILib.cinematic.model_files import load_model, model_bytes, save_model
    from GaussianMRILib.cinematic.options import TrainOptions
    from GaussianMRILib.cinematic.presets import find_preset
    from GaussianMRILib.cinematic.train import Trainer
    from GaussianMRILib.cli.app import table
    from GaussianMRILib.fitting.problem import choose_device

    frames = {
        "tiny": DatasetOptions(train=24, test=4, size=96, samples=16, test_samples=64),
        "quick": DatasetOptions(train=160, test=20, size=256, samples=64),
        "full": DatasetOptions(train=1000, test=100, size=800, samples=128),
    }[size]
    volume, affine = head_volume()
    started = time.perf_counter()
    target = choose_device(device)
    dataset = make_dataset(
        folder / size / "head", volume, affine, find_preset("CT soft tissue"), frames, device=target.type
    )
    assert dataset is not None
    seconds = time.perf_counter() - started
    print(
        f"data set: {len(dataset.frames)} frames of {frames.size}^2, {seconds:.0f} s in this run", flush=True
    )
    lpips = ColourLpips()
    results: dict[str, Any] = {"setting": size, "dataset": dataset.facts, "dataset_s": seconds, "methods": {}}
    rows = []
    for method in methods:
        options = TrainOptions.preset("default" if size == "full" else "quick", method=method)
        if size == "tiny":
            options = options.scaled(2000, 200)
        path = folder / size / f"{method}.ply"
        if not path.with_suffix(".json").is_file():
            trainer = Trainer(dataset, options, path.with_suffix(".ckpt"), target)
            for report in trainer:
                if report.iteration % 1000 == 0:
                    print(
                        f"  {method}: {report.iteration}, loss {report.loss:.4f}, {report.elapsed:.0f} s",
                        flush=True,
                    )
            save_model(path, trainer.model)
            path.with_suffix(".ckpt").unlink()
        model = load_model(path, target)
        score = evaluate_model(model, dataset.test, model_bytes(path), lpips)
        rows.append(score.row(LABELS[method]))
        results["methods"][method] = {"label": LABELS[method], **score.to_dict(), "facts": model.facts}
        print("  " + "  ".join(rows[-1]), flush=True)
    print(table(HEADER, rows), flush=True)
    if not lpips.available:
        print(f"LPIPS is not available: {lpips.reason}")
    results["lpips"] = lpips.reason or "available"
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="a minute: to see that it runs, not to judge")
    parser.add_argument("--full", action="store_true", help="the paper's setting, on a GPU")
    parser.add_argument("--methods", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "cinematic", help="data set and models")
    parser.add_argument("--json", type=Path, default=RESULTS / "cinematic.json", help="file for the figures")
    options = parser.parse_args()
    if not HEAD.is_file():
        print(f"Not run: needs {HEAD.name} in ../shared/data/ct.")
        return
    size = "tiny" if options.quick else "full" if options.full else "quick"
    results = run(options.folder, size, options.device, options.methods)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
