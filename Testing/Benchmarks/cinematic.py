"""Cinematic models, from a CT to the tables of the ClipGS paper: `python -m Testing.Benchmarks.cinematic`.

The whole chain is run: a path-traced data set, one training for each method, and the scores on frames that no training
has seen, path-traced with 256 samples and not denoised. The scans are shared ones: the Visible Human head, for five
methods; a cardiac CT angiography and a head MR, half the frames and iterations, for four. The default is the quality
"quick" (256 x 256 pixels), some forty minutes on two processor cores; `--full` is the paper's setting (800 x 800 pixels,
1,000 frames, 100,000 splats, 40,000 iterations) with all methods, and needs a CUDA GPU. All methods have the same number of
iterations. All but two start from the same 20,000 random splats: "default" is the quality's own training, "face" the same
splats behind the volume's own cut faces, as users see the model. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from GaussianMRILib.cinematic.options import LABELS as METHOD_LABELS

from .stored import RESULTS, store

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
HEAD = SHARED / "ct" / "visible_human_head_neck_ct_png.tar.xz"
HEART = SHARED / "ct" / "totalseg_cardiac_cta_1p5mm.nii.gz"
BRAIN = SHARED / "mr_dicom" / "studyforrest_t1_0p67mm.tar.xz"
LABELS = {name: METHOD_LABELS[name] for name in ("lt", "aam", "aam+ht", "aam+lt", "analytic")}
LABELS["default"] = "analytic cut, start in the volume"
LABELS["face"] = "the same, cut faces of the volume"
#: The paper's start and densification in the size of the quality "quick", for all but the last.
PAPER_START = {"start": "random", "splats": 20_000, "cap": 20_000, "opacity_reset": 3_000}


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


def heart_volume() -> tuple[Any, Any]:
    """The cardiac CT angiography (HU) and its ijk_to_ras."""
    return _volume_of(HEART)


def brain_volume() -> tuple[Any, Any]:
    """The head MR, read from its DICOM files, and its ijk_to_ras."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(BRAIN) as content:
            content.extractall(folder, filter="data")
        return _volume_of(Path(folder))


def _volume_of(path: Path) -> tuple[Any, Any]:
    import GaussianMRILib as gm
    from GaussianMRILib.cinematic.dataset import regular_volume

    return regular_volume(gm.read_stacks(path)[0])


@dataclass(frozen=True)
class Scene:
    """A scan, its look, and what is learned of it."""

    title: str
    file: Path
    volume: Callable[[], tuple[Any, Any]]
    look: str
    methods: tuple[str, ...]
    share: float  # of the frames and iterations


SCENES = {
    "head": Scene(
        "Visible Human head, CT", HEAD, head_volume, "CT soft tissue", ("lt", "aam+lt", "analytic", "default", "face"), 1.0
    ),
    "heart": Scene(
        "heart, CT angiography", HEART, heart_volume, "CT vessels", ("lt", "analytic", "default", "face"), 0.5
    ),
    "brain": Scene("head, T1 MR", BRAIN, brain_volume, "MR head", ("lt", "analytic", "default", "face"), 0.5),
}


def run(folder: Path, size: str, scene: Scene, device: str, methods: list[str]) -> dict[str, Any]:
    """Data set, trainings and scores of a scene; `size` is "tiny", "quick" or "full"."""
    from GaussianMRILib.cinematic.dataset import make_dataset
    from GaussianMRILib.cinematic.dataset_views import DatasetOptions
    from GaussianMRILib.cinematic.evaluate import HEADER, ColourLpips, evaluate_model
    from GaussianMRILib.cinematic.looks import find_look
    from GaussianMRILib.cinematic.model_files import load_model, model_bytes, save_model
    from GaussianMRILib.cinematic.options import TrainOptions
    from GaussianMRILib.cinematic.train import Trainer
    from GaussianMRILib.cli.app import table
    from GaussianMRILib.device import choose_device

    frames = {
        "tiny": DatasetOptions(train=24, test=4, size=96, samples=16, test_samples=64),
        "quick": DatasetOptions(train=160, test=20, size=256, samples=64),
        "full": DatasetOptions(train=1000, test=100, size=800, samples=128),
    }[size]
    # As in the paper, all cameras have one distance and every picture is cut.
    frames = replace(
        frames, train=round(frames.train * scene.share), test=round(frames.test * scene.share), nearest=None, uncut=0.0
    )
    volume, affine = scene.volume()
    started = time.perf_counter()
    target = choose_device(device)
    dataset = make_dataset(
        folder / "pictures", volume, affine, look=find_look(scene.look), options=frames, device=target.type
    )
    assert dataset is not None
    seconds = time.perf_counter() - started
    print(
        f"{scene.title}: {len(dataset.frames)} frames of {frames.size}^2, {seconds:.0f} s in this run",
        flush=True,
    )
    lpips = ColourLpips()
    results: dict[str, Any] = {
        "title": scene.title,
        "look": scene.look,
        "dataset": dataset.facts,
        "frames": [frames.train, frames.test],
        "methods": {},
    }
    rows = []
    for method in methods:
        changes = {} if method in ("default", "face") else {"method": method, **PAPER_START}
        if size == "full" and changes:
            changes |= {"densify": "3dgs", "splats": 100_000, "cap": 100_000}
        options = TrainOptions.of_quality("default" if size == "full" else "quick", **changes)
        if size == "tiny":
            options = options.scaled(splats=2000, iterations=200)
        elif scene.share < 1:
            options = options.scaled(iterations=round(options.iterations * scene.share))
        path = folder / f"{'default' if method == 'face' else method}.ply"
        if not path.with_suffix(".json").is_file():
            trainer = Trainer(dataset, options=options, checkpoint=path.with_suffix(".ckpt"), device=target)
            for report in trainer:
                if report.iteration % 1000 == 0:
                    print(
                        f"  {method}: {report.iteration}, loss {report.loss:.4f}, {report.elapsed:.0f} s",
                        flush=True,
                    )
            save_model(path, replace(trainer.model, face=None))
            path.with_suffix(".ckpt").unlink()
        model = load_model(path, device=target)
        if method == "face":
            model.face = dataset.face(device=target)
            path = save_model(folder / "face.ply", model)
        score = evaluate_model(model, dataset.test, face=dataset.face(), storage=model_bytes(path), lpips=lpips)
        rows.append(score.row(LABELS[method]))
        results["methods"][method] = {
            "label": LABELS[method],
            **score.to_dict(),
            "facts": model.facts,
        }
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
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--methods", nargs="+", choices=LABELS, help="default: those of the tables")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "out" / "cinematic", help="data sets and models"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "cinematic.json", help="file for the figures")
    options = parser.parse_args()
    size = "tiny" if options.quick else "full" if options.full else "quick"
    results: dict[str, Any] = {"setting": size, "scenes": {}}
    for name in options.scenes:
        scene = SCENES[name]
        if not scene.file.is_file():
            print(f"{scene.title}: not run, needs {scene.file.name} in ../shared/data.")
            continue
        methods = options.methods or list(LABELS if options.full else scene.methods)
        results["scenes"][name] = run(options.folder / size / name, size, scene, options.device, methods)
        store(options.json, results)


if __name__ == "__main__":
    main()
