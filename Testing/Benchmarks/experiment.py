"""Does resampling help grading? The experiment on phantoms, reduced: `python -m Testing.Benchmarks.experiment`.

The same as `python -m GaussianMRILib experiment phantom --reduced`, an hour and a half on one processor core; interrupted,
it goes on where it was. Its report is in the folder, its figures in `results/`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .stored import RESULTS, store

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="minutes, few patients: to see that it runs, not to judge"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "out" / "experiment", help="everything it makes"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "experiment.json", help="file for the figures")
    arguments = parser.parse_args()

    from Testing.Experiment.options import ExperimentOptions
    from Testing.Experiment.run import run_experiment

    sizes = {"train": 12, "validation": 6, "test": 10} if arguments.quick else {}
    folder = arguments.folder / ("quick" if arguments.quick else "reduced")
    report = run_experiment(
        folder,
        ExperimentOptions.reduced(**sizes),
        progress=lambda state: print(
            f"{state.title}: {state.done} of {state.total} {state.line}", flush=True
        ),
    )
    assert report is not None
    print(report.read_text(encoding="utf-8"))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    store(arguments.json, results)


if __name__ == "__main__":
    main()
