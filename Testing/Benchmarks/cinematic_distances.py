"""What near and uncut views bring a cinematic model: `python -m Testing.Benchmarks.cinematic_distances`, ten minutes.

Two models of the head CT learn from as many pictures: all of one distance and cut, or as the defaults have it. Both are
scored on held-out views of that distance, of half of it, and of the whole volume. Pictures and splats are those of the
quality "quick", a third of the pictures and iterations: what near views bring depends on how large pixels and splats are.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from .cinematic import HEAD, head_volume

ITERATIONS = 2_000


def run(folder: Path, splats: int | None) -> None:
    """Makes the data sets, trains and prints the scores, dB."""
    import torch

    from GaussianMRILib.cinematic.dataset import make_dataset
    from GaussianMRILib.cinematic.dataset_views import DatasetOptions
    from GaussianMRILib.cinematic.evaluate import evaluate_model
    from GaussianMRILib.cinematic.looks import find_look
    from GaussianMRILib.cinematic.options import TrainOptions
    from GaussianMRILib.cinematic.train import Trainer
    from GaussianMRILib.metrics import psnr

    torch.set_num_threads(1)
    mixed = DatasetOptions(train=100, test=0, samples=16)
    far = replace(mixed, nearest=None, uncut=0.0)
    # An uncut view of a test frame has as many samples as one to learn from.
    distant = replace(far, train=1, test=8, samples=64, test_samples=64, seed=9)
    half = replace(distant, zoom=2 * far.zoom)
    volume, look = head_volume(), find_look("CT soft tissue")
    made = []
    for name, options in (("far", far), ("mixed", mixed), ("the distance", distant), ("half of it", half)):
        dataset = make_dataset(folder / name, *volume, look=look, options=options)
        assert dataset is not None
        made.append(dataset)
    sets = {"one distance, cut": made[0], "several distances, a tenth uncut": made[1]}
    tests = made[2].test, made[3].test
    for name, frames in sets.items():
        trainer = Trainer(frames, options=TrainOptions.of_quality("quick").scaled(splats=splats, iterations=ITERATIONS))
        for _ in trainer:
            pass
        model = replace(trainer.model, face=None)
        scores = [float(np.mean(evaluate_model(model, test).psnr)) for test in tests]
        whole = [frame.uncut for frame in tests[0] if frame.uncut is not None]
        images = [model.render(frame.camera, None).image.clamp(0, 1).numpy() for frame in whole]
        scores.append(float(np.mean([psnr(i, f.image(), data_range=1.0) for i, f in zip(images, whole, strict=True)])))
        there, nearer, uncut = scores
        print(f"{name:34} the distance {there:.2f} dB, half of it {nearer:.2f} dB, uncut {uncut:.2f} dB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keeps the data sets; default: a temporary one")
    parser.add_argument("--splats", type=int, help="default: 16,000 that become 32,000, as 'quick' has it")
    options = parser.parse_args()
    if not HEAD.is_file():
        print(f"Not run, needs {HEAD.name} in ../shared/data.")
    elif options.folder is not None:
        run(options.folder, options.splats)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), options.splats)


if __name__ == "__main__":
    main()
