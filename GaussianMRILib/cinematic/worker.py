"""Makes a model of a volume from first to last: `python -m GaussianMRILib.cinematic.worker [--attached] job.json`.

For programs that run it as a process of its own and read its progress: each line of output that is a JSON object has
`stage` ("pictures" or "training"), `fraction` (0 to 1 of the whole), `text` (a line for people) and, of pictures, `picture`
(the newest file). Stopped at any moment, the same job goes on from what is there; a training of another quality or length
begins anew beside it. With --attached it stops, with all kept, when its standard input ends: the program that started it
has called it off or crashed. Exit status 0: done; 1: a problem, which the last line of output names; 2: wrong usage; 130:
called off.

The job is a JSON object: `volume` (.npz with `pixels` and `ijk_to_ras`), `look` (as `Look.to_dict`), `folder`, `model`
(.ply), and optionally `roi` (lowest and highest corner, RAS mm), `frames`, `size` (pixels), `planes`, `quality`
(`TrainOptions.of_quality`), `iterations`, `device`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..durations import duration, time_left
from ..errors import GaussianMRIError
from ..interruption import end_of_input_terminates, termination_interrupts

#: Rendering's part of the whole, for the bar.
PICTURES = 0.3


def run(job: dict[str, Any]) -> None:
    """Do a job; prints its progress.

    Raises:
        GaussianMRIError: see `choose_device`, `make_dataset`, `Trainer` and `save_model`; or the description is incomplete.
    """
    from ..device import choose_device
    from .dataset import make_dataset
    from .dataset_views import DatasetOptions
    from .looks import Look
    from .model_files import save_model
    from .options import TrainOptions
    from .train import Trainer

    try:
        folder, model = Path(job["folder"]), Path(job["model"])
        look = Look.from_dict(job["look"])
        with np.load(job["volume"]) as stored:
            pixels, matrix = stored["pixels"], stored["ijk_to_ras"]
    except (KeyError, TypeError, OSError, ValueError) as error:
        raise GaussianMRIError(f"The job is incomplete: {error!r}.") from error
    frames, device = int(job.get("frames", 330)), str(job.get("device", "auto"))
    test = max(1, round(frames / 10))
    options = DatasetOptions(
        train=max(1, frames - test),
        test=test,
        size=int(job.get("size", 256)),
        planes=str(job.get("planes", "any")),
    )
    tracing, began, first = choose_device(device), time.monotonic(), 0

    def estimated(seconds: float, there: int) -> None:
        nonlocal began, first
        began, first = time.monotonic(), there
        if seconds > 60:
            report("pictures", 0.0, f"the pictures take about {duration(seconds)}, and the training comes then")

    def rendered(done: int, total: int, path: Path) -> None:
        left = time_left(time.monotonic() - began, (done - first) / max(1, total - first))
        report("pictures", PICTURES * done / total, f"picture {done} of {total}{left}", picture=str(path))

    dataset = make_dataset(
        folder / "dataset",
        pixels,
        matrix,
        look=look,
        options=options,
        roi=job.get("roi"),
        device=tracing,
        estimated=estimated,
        progress=rendered,
    )
    assert dataset is not None
    quality = str(job.get("quality", "quick"))
    training = TrainOptions.of_quality(quality).scaled(splats=None, iterations=job.get("iterations"))
    state = folder / f"checkpoint-{quality}-{training.iterations}.pt"
    trainer = Trainer(dataset, options=training, checkpoint=state, device=device)
    for now in trainer:
        left = time_left(now.elapsed, now.fraction)
        text = f"{now.stage}: iteration {now.iteration} of {now.iterations}{left}, {now.splats} splats, loss {now.loss:.4f}"
        report("training", PICTURES + (1 - PICTURES) * now.fraction, text)
    save_model(model, trainer.model)
    state.unlink(missing_ok=True)


def report(stage: str, fraction: float, text: str, **more: Any) -> None:
    """Print a line of progress."""
    print(json.dumps({"stage": stage, "fraction": round(fraction, 4), "text": text, **more}), flush=True)


def main(arguments: list[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    attached = given[:1] == ["--attached"]
    if len(given) != 1 + attached:
        print("usage: python -m GaussianMRILib.cinematic.worker [--attached] job.json", file=sys.stderr)
        return 2
    termination_interrupts()
    if attached:
        end_of_input_terminates()
    try:
        run(json.loads(Path(given[-1]).read_text(encoding="utf-8")))
    except (GaussianMRIError, OSError, ValueError) as error:
        print(error, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
