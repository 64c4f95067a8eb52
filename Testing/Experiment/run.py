"""Which images are graded best: acquired slices, aligned or not, voxel interpolation, or Gaussians?

The experiment of "Rendering Novel Views of MRI using 3D Gaussian Splatting", sections 4 and 5, on phantoms whose grades are
known: a cohort with paired aligned and straight axial series, images of each disc of four types (A, N, R-VI, R-GS), image
quality against the aligned slices (its Table 1), networks trained on A, A + N, A + R-VI and A + R-GS, each tested on all
four types (its Table 2), and a report. Every step goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from GaussianMRILib.cohort import CohortReport, CohortRow, run_cohort
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write, number, read_json, reading
from GaussianMRILib.grading.crops import Case, CropSet, preprocessing
from GaussianMRILib.grading.inputs import GradingInput
from GaussianMRILib.grading.labels import STENOSES

from .options import ExperimentOptions
from .report import write_report
from .steps import PrepareInputs, ScoreImages, TrainNetwork

#: Input types that networks learn from, by the name of the training set.
TRAININGS: Mapping[str, tuple[str, ...]] = {
    "A": ("A",),
    "A+N": ("A", "N"),
    "A+R-VI": ("A", "R-VI"),
    "A+R-GS": ("A", "R-GS"),
}
STEPS = ("cohort", "inputs", "metrics", "networks", "report")
_TITLES = {
    "cohort": "Scanning phantoms",
    "inputs": "Resampling",
    "metrics": "Judging images",
    "networks": "Training networks",
    "report": "Writing the report",
}


@dataclass(frozen=True)
class ExperimentProgress:
    """How the experiment stands.

    Attributes:
        step: of `STEPS`.
        done, total: studies or networks of that step.
        remaining: seconds that the step still takes at the present pace; None at its start.
        line: what the last study or network had to say, "" for nothing.
    """

    step: str
    done: int
    total: int
    remaining: float | None = None
    line: str = ""

    @property
    def title(self) -> str:
        """For people."""
        return _TITLES[self.step]


Report = Callable[[ExperimentProgress], object]


def run_experiment(
    folder: str | os.PathLike[str],
    options: ExperimentOptions | None = None,
    until: str = STEPS[-1],
    workers: int | None = None,
    device: str = "cpu",
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path | None:
    """Run the experiment in a folder, or go on with the one that is there.

    Args:
        folder: made if absent; gets `cohort/`, `inputs/`, `metrics/`, `networks/` and the report.
        options: see there; `ExperimentOptions.reduced()` for about two hours on one core.
        until: the last step that is done, of `STEPS`.
        workers: processes, one per core by default; on a GPU 1 trains the networks.
        device: of fits and trainings.
        progress: called after every study and network.
        cancelled: asked several times a second.

    Returns:
        The report (`report.md`; `report.html`, `results.json` and pictures lie beside it), or None when it stopped before.

    Raises:
        GaussianMRIError: the folder holds an experiment with other settings, a step failed for all of its studies or for a
            network, or a file cannot be written.
    """
    from .cohort import REGION, study_ids, write_rsna_cohort

    options = options or ExperimentOptions()
    steps = options.training.epoch_steps or options.epoch_steps
    options = replace(options, training=replace(options.training, seed=options.seed, epoch_steps=steps))
    if until not in STEPS:
        raise GaussianMRIError(f"There is no step '{until}'; steps are {', '.join(STEPS)}.")
    root = Path(folder).absolute()
    _claim(root, options)
    wanted = STEPS[: STEPS.index(until) + 1]
    run = _Run(root, wanted, workers, progress, cancelled)
    studies = study_ids(options.studies, options.seed)
    unpaired = options.unpaired("train") + options.unpaired("validation")

    def make_cohort() -> CohortReport:
        return write_rsna_cohort(
            root / "cohort", options.studies, options.seed, unpaired, options.region.width or REGION,
            workers=workers, progress=run.row("cohort"), cancelled=cancelled,
        )  # fmt: skip

    def make_inputs() -> CohortReport:
        crops = CropSet.create(
            root / "inputs",
            {
                "data": f"graded lumbar phantoms, seed {options.seed}",
                "synthetic": True,
                "preprocessing": preprocessing(options.region),
            },
        )
        splits = {study: options.split(number) for number, study in enumerate(studies)}

        def receive(study: str, inputs: list[tuple[Case, GradingInput]]) -> None:
            for case, images in inputs:
                crops.add(replace(case, split=splits[study]), images)

        work = PrepareInputs(str(root / "cohort"), options.region, dict(options.fit), device)
        return run_cohort(
            studies, work, root / "inputs", workers=workers, receive=receive,
            settings={"region": options.region.to_dict(), "fit": dict(options.fit)},
            progress=run.row("inputs"), cancelled=cancelled,
        )  # fmt: skip

    def judge_images() -> CohortReport:
        crops = CropSet.read(root / "inputs")
        tested = sorted({case.study_id for case in crops.chosen("test", ["R-VI", "R-GS"])})
        return run_cohort(
            tested, ScoreImages(str(root)), root / "metrics", workers=workers,
            progress=run.row("metrics"), cancelled=cancelled,
        )  # fmt: skip

    def train_networks() -> CohortReport:
        items = {
            f"{name}-{task.name}": (name, TRAININGS[name], task.name) for task in STENOSES for name in TRAININGS
        }
        work = TrainNetwork(str(root), options.training, options.views, device)
        return run_cohort(
            items, work, root / "networks", workers=workers if device == "cpu" else 1,
            settings=json.loads(json.dumps({"training": options.training.to_dict(), "views": options.views})),
            progress=run.row("networks"), cancelled=cancelled,
        )  # fmt: skip

    jobs = {"cohort": make_cohort, "inputs": make_inputs, "metrics": judge_images, "networks": train_networks}
    for step, job in jobs.items():
        if step in wanted and not run.step(step, job):
            return None
    if until != "report":
        return None

    run.tell(ExperimentProgress("report", 0, 1))
    return write_report(root, options, TRAININGS, run.times())


#: Settings that the images depend on; those of the networks are checked where these are trained.
_OF_IMAGES = ("train", "validation", "test", "paired", "seed", "region", "fit")


def _claim(root: Path, options: ExperimentOptions) -> None:
    """Make the folder, or check that its images were made with the same options; keep the present ones."""
    path = root / "experiment.json"
    wanted = json.loads(json.dumps(options.to_dict()))
    with reading(path, "the settings of an experiment", "Name another folder."):
        root.mkdir(parents=True, exist_ok=True)
        there = read_json(path) if path.exists() else wanted
        changed = [name for name in _OF_IMAGES if there.get(name) != wanted[name]]
    if changed:
        raise GaussianMRIError(
            f"{root} holds an experiment with other settings ({', '.join(changed)}; see {path.name}). Repeat them to go on "
            "with it, or name another folder."
        )
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


class _Run:
    """What the steps share: progress with the time left, the time that each took, and whether to go on."""

    def __init__(
        self,
        root: Path,
        steps: tuple[str, ...],
        workers: int | None,
        progress: Report | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.root, self.steps, self.workers = root, steps, workers
        self.progress, self.cancelled = progress, cancelled

    def tell(self, state: ExperimentProgress) -> None:
        if self.progress is not None:
            self.progress(state)

    def row(self, step: str) -> Callable[[int, int, CohortRow], None]:
        # The pace of the last ones: studies differ, those without straight slices are quick and come first.
        started = time.monotonic()
        latest: deque[tuple[float, int]] = deque(maxlen=20)

        def report(done: int, total: int, row: CohortRow) -> None:
            if not latest:
                latest.append((started, done - 1))  # an earlier run may have done some
            first, before = latest[0]
            latest.append((time.monotonic(), done))
            pace = (time.monotonic() - first) / (done - before)
            self.tell(ExperimentProgress(step, done, total, pace * (total - done), row.text))

        return report

    def step(self, name: str, job: Callable[[], CohortReport]) -> bool:
        """Do a step; False when it was cancelled."""
        started = time.monotonic()
        self.tell(ExperimentProgress(name, 0, 1))
        report = job()
        self._add_time(name, time.monotonic() - started)
        if report.cancelled:
            return False
        failed = report.failed
        if failed and (name == "networks" or not report.done):
            raise GaussianMRIError(
                f"{_TITLES[name]} failed for {len(failed)} of {len(report.rows)}, first for {report.rows[failed[0]].text}. "
                f"See {report.path}; the same command tries them again."
            )
        return True

    def _add_time(self, name: str, seconds: float) -> None:
        times = self.times()
        times[name] = times.get(name, 0.0) + seconds
        with atomic_write(self.root / "times.json") as temporary:
            temporary.write_text(json.dumps(times) + "\n", encoding="utf-8")

    def times(self) -> dict[str, float]:
        """Seconds of wall clock by step, of all runs together."""
        path = self.root / "times.json"
        if not path.exists():
            return {}
        with reading(path, "the times of an experiment", "Delete it."):
            found = {str(name): number(value, name, 0) for name, value in read_json(path).items()}
        return found
