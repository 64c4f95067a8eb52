"""ClipGS in its own setting, scaled down for two processor cores: `python -m Testing.Benchmarks.cinematic_clipgs`.

As in the paper (MICCAI 2025, section 3.1): planes along z, a second step 33 / 7 times as long as the first, splats that
start at random in the scene's cube, 3DGS's densification, and hundreds of frames. Scaled down: pictures of 64 x 64 pixels,
2,000 splats (at most, in all methods), 4,000 iterations with all schedules in proportion, spherical harmonics of degree 2, a
network 64 wide. The last table has planes of any direction. A row is trained from several seeds on the same frames;
differences are between frames of one seed. The rate of the adjustment network is the best on a validation scene: other views
and planes. Data sets, models and figures are kept, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from GaussianMRILib.cinematic.options import LABELS, TrainOptions

from .cinematic import ROOT, SCENES
from .stored import RESULTS, store

SIZE, TRAIN, TEST, SPLATS, ITERATIONS = 64, 320, 40, 2_000, 4_000
METHODS = ("ht", "lt", "aam", "aam+ht", "aam+lt", "analytic", "face")
TITLES = {**LABELS, "face": "the same, cut faces of the volume"}
RATES = (3e-4, 1e-3, 3e-3)
VALIDATION_SEED = 100


@dataclass(frozen=True)
class Table:
    """Rows on one scan with planes of one kind, each from several seeds."""

    scene: str
    planes: str
    seeds: int


#: In the order of their weight: the paper's own setting first.
TABLES = (Table("head", "axial", 3), Table("heart", "axial", 1), Table("brain", "axial", 1), Table("head", "any", 3))


def frames_of(folder: Path, scene: str, planes: str, seed: int, small: bool) -> Any:
    """The data set of a scene, made at its first use."""
    from GaussianMRILib.cinematic.dataset import make_dataset
    from GaussianMRILib.cinematic.dataset_views import DatasetOptions
    from GaussianMRILib.cinematic.looks import find_look

    options = DatasetOptions(
        train=TRAIN, test=TEST, size=SIZE, test_samples=128, planes=planes, seed=seed, nearest=None, uncut=0.0
    )
    if small:
        options = replace(options, train=12, test=4, samples=4, test_samples=8)
    made = make_dataset(folder / "pictures", *SCENES[scene].volume(), look=find_look(SCENES[scene].look), options=options)
    assert made is not None
    return made


def options_of(method: str, seed: int, small: bool, **changes: Any) -> TrainOptions:
    """The paper's settings in the benchmark's size."""
    paper = TrainOptions.of_quality("seed", method=method, seed=seed, degree=2, width=64, **changes)
    return replace(paper, cap=paper.splats).scaled(splats=200 if small else SPLATS, iterations=60 if small else ITERATIONS)


def trained(path: Path, dataset: Any, options: TrainOptions) -> Any:
    """The model in `path`, trained at its first use; without the volume's faces."""
    from GaussianMRILib.cinematic.model_files import load_model, save_model
    from GaussianMRILib.cinematic.train import Trainer

    if not path.with_suffix(".json").is_file():
        trainer = Trainer(dataset, options=options, checkpoint=path.with_suffix(".ckpt"))
        for _ in trainer:
            pass
        save_model(path, replace(trainer.model, face=None))
        path.with_suffix(".ckpt").unlink()
    return load_model(path)


def validation(folder: Path, small: bool) -> list[dict[str, float]]:
    """Mean PSNR of ClipGS by the rate of its network, on the validation scene."""
    from GaussianMRILib.cinematic.evaluate import evaluate_model

    dataset = frames_of(folder, "head", "axial", VALIDATION_SEED, small)
    rows = []
    for rate in RATES:
        options = options_of("aam+lt", 0, small, adjustment_rate=rate)
        score = evaluate_model(trained(folder / f"rate_{rate:g}.ply", dataset, options), dataset.test)
        rows.append({"rate": rate, "psnr": score.to_dict()["psnr_mean"]})
        print(f"validation: rate {rate:g}, {rows[-1]['psnr']:.2f} dB", flush=True)
    return rows


def scores(folder: Path, dataset: Any, seed: int, small: bool) -> dict[str, Any]:
    """Scores of every method on the test frames, trained from one seed."""
    from GaussianMRILib.cinematic.evaluate import evaluate_model

    face, results = dataset.face(), {}
    for method in METHODS:
        name = "analytic" if method == "face" else method
        model = trained(folder / f"{name}_{seed}.ply", dataset, options_of(name, seed, small))
        model.face = face if method == "face" else None
        row = evaluate_model(model, dataset.test, face=face).to_dict()
        del row["seconds"], row["frames_per_second"]  # pictures this small say nothing of the speed
        results[method] = row
        print(f"  seed {seed}, {TITLES[method]}: {row['psnr_mean']:.2f} dB, {row['splats']} splats", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute: to see that it runs, not to judge")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "cinematic", help="data sets and models")
    parser.add_argument("--json", type=Path, default=RESULTS / "cinematic_clipgs.json", help="file for the figures")
    arguments = parser.parse_args()
    small = arguments.quick
    root = arguments.folder / ("clipgs-quick" if small else "clipgs")
    setting = {"size": SIZE, "train": TRAIN, "test": TEST, "splats": SPLATS, "iterations": ITERATIONS}
    results: dict[str, Any] = {"setting": setting, "titles": TITLES, "validation": [], "tables": []}

    def keep() -> None:
        store(arguments.json, results)

    for table in TABLES:
        scene = SCENES[table.scene]
        if not scene.file.is_file():
            print(f"{scene.title}: not run, needs {scene.file.name} in ../shared/data.")
            continue
        folder = root / f"{table.scene}_{table.planes}"
        dataset = frames_of(folder, table.scene, table.planes, 0, small)
        print(f"{scene.title}, {table.planes} planes: {len(dataset.frames)} frames", flush=True)
        runs: list[dict[str, Any]] = []
        results["tables"].append(
            {"title": scene.title, "look": scene.look, "planes": table.planes, "runs": runs}
        )
        for seed in range(table.seeds):
            runs.append(scores(folder, dataset, seed, small))
            keep()
    if SCENES["head"].file.is_file():
        results["validation"] = validation(root / "validation", small)
    keep()


if __name__ == "__main__":
    main()
