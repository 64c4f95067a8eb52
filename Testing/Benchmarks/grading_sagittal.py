"""Foramina graded on sagittal T1 and on sagittal T2: `python -m Testing.Benchmarks.grading_sagittal`.

The patients of the reduced experiment (`Testing/Experiment`: graded phantoms, an eighth of their reported grades is
wrong) are scanned into the layout of the RSNA data with sagittal T2 and T1 series of the same slices, equally noisy in fat,
and `grade prepare` makes inputs of both. A network for each side learns from S-T1, another from S-T2, with the experiment's
settings; all are tested on the same held-out patients. Then, on S-T1 and with the smaller networks of `grading_tasks`, one
for both sides is compared with one for each. Interrupted, it goes on with the phantoms and networks that are done.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from GaussianMRILib.files import atomic_write
from GaussianMRILib.grading.augment import resize
from GaussianMRILib.grading.bootstrap import bootstrap, paired_bootstrap
from GaussianMRILib.grading.crops import Case, CropSet, labels_of
from GaussianMRILib.grading.labels import GRADES, LATERAL_TASKS, Task
from GaussianMRILib.grading.measures import MEASURES
from GaussianMRILib.grading.model_card import load_grader
from GaussianMRILib.grading.options import NetworkOptions
from GaussianMRILib.grading.predict import grade_cases
from GaussianMRILib.grading.prepare import PrepareOptions, prepare
from GaussianMRILib.grading.train import GradingTrainer
from Testing.Experiment import cohort
from Testing.Experiment.options import ExperimentOptions

from . import grading_tasks
from .stored import RESULTS, store

ROOT = Path(__file__).resolve().parents[2]
FORAMINA = [Task("neural_foraminal_narrowing", side) for side in ("left", "right")]
KINDS = ("S-T1", "S-T2")
#: Constants of `cohort`: sagittal pixels as clinics have them; the axial series is there because a study has one.
PIXELS = {"PIXEL": 1.72, "SAGITTAL_PIXEL": 0.8, "SAGITTAL_FIELD": (96, 96)}
#: Networks of `grading_tasks`.
SMALL: dict[str, Any] = {"widen": 0.125, "layers": 1, "feed_forward": 128}
#: Mean macro AUROC of validation of a network that has learned something, and how many seeds are tried for one.
LEARNED, TRIES = 0.65, 3
JUDGED = ("macro_auroc", "kappa_quadratic", "log_loss")
Floats = NDArray[np.float64]


def make_inputs(folder: Path, options: ExperimentOptions) -> CropSet:
    """Studies of phantoms in the layout of the RSNA data, and what `grade prepare` makes of their sagittal series."""
    for name, value in PIXELS.items():
        setattr(cohort, name, value)  # in this process, where all of it is done
    data = folder / "cohort"
    cohort.write_rsna_cohort(
        data, options.studies, options.seed, options.studies, options.region.width or cohort.REGION, True, workers=1
    )
    splits = {study: options.split(n) for n, study in enumerate(cohort.study_ids(options.studies, options.seed))}
    wanted = PrepareOptions(
        types=KINDS, levels=(cohort.GRADED_LEVEL,), region=options.region, discs=str(data / "discs")
    )
    crops, report = prepare(data, folder / "inputs", wanted, splits=splits, workers=1)
    if report.failed:
        raise RuntimeError(f"{len(report.failed)} studies failed, see {report.path}")
    return crops


def by_trainer(
    folder: Path, crops: CropSet, task: Task, kind: str, options: ExperimentOptions
) -> tuple[Floats, dict[str, Any]]:
    """Probabilities (n, 3) of the test cases by a network that `grade train` would make, and how long it learned.

    Patience can end a training that has not begun to learn. Such a network, by its validation, is trained again from the
    next seed; the test cases have no part in it.
    """
    taken: dict[str, Any] = {}
    for seed in range(options.seed, options.seed + TRIES):
        place = folder / "networks" / f"{kind}-{task.name}-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "taken.json").is_file():
            training = replace(options.training, input_types=(kind,), seed=seed)
            trainer = GradingTrainer(crops, task, training, place / "training.ckpt", log=place / "log.csv")
            for _ in trainer:
                pass
            trainer.export(place / "grader.pt")
            facts = {"seed": seed, "steps": trainer.step, "limit": trainer.steps, "converged": trainer.converged}
            facts |= {"validation_auroc": trainer.progress.best, "seconds": round(trainer.elapsed)}
            with atomic_write(place / "taken.json") as temporary:
                temporary.write_text(json.dumps(facts), encoding="utf-8")
        taken = json.loads((place / "taken.json").read_text(encoding="utf-8"))
        print(f"{place.name}: {taken}", flush=True)
        if (taken["validation_auroc"] or 0) >= LEARNED:
            break
    cases = crops.chosen("test", [kind], task=task)
    return grade_cases(load_grader(place / "grader.pt", task), crops, cases, options.views), taken


def tensors(crops: CropSet, split: str, kind: str) -> Any:
    """Images, masks and reported grades of `grading_tasks`, which has room for the true ones."""
    cases = crops.chosen(split, [kind])
    shown = [crops.images(case) for case in cases]
    images = torch.stack([resize(torch.from_numpy(i.astype(np.float32)), grading_tasks.SIZE) for i, _ in shown])
    labels = torch.tensor([labels_of(cases, task) for task in LATERAL_TASKS]).T
    return images, torch.stack([torch.from_numpy(mask) for _, mask in shown]), labels, labels


def by_loop(crops: CropSet, kind: str, steps: int, seed: int) -> dict[str, tuple[list[Floats], dict[str, Any]]]:
    """Probabilities of both sides, of one network for each and of one for both, by way, and how long they learned."""
    options = NetworkOptions(**SMALL)
    train, test = tensors(crops, "train", kind), tensors(crops, "test", kind)
    ways = {
        "one for each side": ([[task] for task in FORAMINA], steps),
        "one for both": ([FORAMINA], steps),
        "one for both, twice the steps": ([FORAMINA], steps * len(FORAMINA)),
    }
    found = {}
    for name, (groups, count) in ways.items():
        started, sides = time.process_time(), list[Floats]()
        for tasks in groups:
            network = grading_tasks.trained(tasks, train, count, seed, options, sagittal=True)
            p = grading_tasks.probabilities(network, tasks, test)
            sides += [p[:, n].astype(np.float64) for n in range(len(tasks))]
        found[name] = sides, {"steps": count, "cpu_seconds": round(time.process_time() - started)}
        print(f"{name}: {found[name][1]}", flush=True)
    return found


def true_grades(folder: Path, cases: Sequence[Case], task: Task) -> list[int]:
    with (folder / "cohort" / "truth.csv").open(newline="", encoding="utf-8") as file:
        known = {row["study_id"]: GRADES.index(row[f"{task.name}_true"]) for row in csv.DictReader(file)}
    return [known[case.study_id] for case in cases]


def judged(
    methods: dict[str, list[Floats]], labels: list[list[int]], truth: list[list[int]], patients: list[str], resamples: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measures of both sides together by method, with intervals, and their differences; patients are drawn with both."""
    both = {name: np.concatenate(sides) for name, sides in methods.items()}
    y, t, people = np.concatenate(labels), np.concatenate(truth), patients * len(FORAMINA)
    rows: dict[str, Any] = {name: {} for name in methods}
    differences: dict[str, Any] = {}
    for measure in JUDGED:
        found = paired_bootstrap(both, y, people, measure=MEASURES[measure], resamples=resamples)
        for name, interval in found.methods.items():
            rows[name][measure] = asdict(interval)
        for (first, second), interval in found.differences.items():
            differences.setdefault(f"{first} - {second}", {})[measure] = asdict(interval)
    for name, p in both.items():
        rows[name]["macro_auroc_true_grades"] = asdict(bootstrap(p, t, people, resamples=resamples))
        sides = zip(methods[name], labels, strict=True)
        rows[name]["sides"] = [asdict(bootstrap(side, own, patients, resamples=resamples)) for side, own in sides]
    return rows, differences


def save_example(path: Path, crops: CropSet) -> None:
    """A test patient with one severe foramen: right foramen, midline and left foramen in T1 and, below, in T2."""
    from PIL import Image

    cases = {(case.study_id, case.input_type): case for case in crops.chosen("test", KINDS)}
    study = next(
        name for (name, _), case in cases.items() if sorted(case.label(task) or 0 for task in FORAMINA) == [0, 2]
    )
    rows = [np.concatenate(list(crops.images(cases[study, kind])[0][[1, 4, 7]]), axis=1) for kind in KINDS]
    pixels = np.clip(np.concatenate(rows).astype(np.float32) / 0.55, 0, 1)
    Image.fromarray((255 * pixels).astype(np.uint8)).save(path)
    print(f"{path}: {study}, left {cases[study, 'S-T1'].grades[FORAMINA[0].name]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a minute, few patients: to see that it runs, not to judge")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "grading_sagittal", help="everything it makes")
    parser.add_argument("--steps", type=int, default=600, help="of the loop, one network for each side or both; 0 for none")
    parser.add_argument("--json", type=Path, default=RESULTS / "grading_sagittal.json", help="file for the figures")
    o = parser.parse_args()
    torch.set_num_threads(1)
    options = ExperimentOptions.reduced(**({"train": 12, "validation": 6, "test": 10} if o.quick else {}))
    # As often validated as the experiment, whose networks learn from more cases.
    changes: dict[str, Any] = {"epoch_steps": options.epoch_steps, **({"epochs": 1} if o.quick else {})}
    options = replace(options, training=replace(options.training, **changes))
    folder, steps = o.folder / ("quick" if o.quick else "whole"), 3 if o.quick else o.steps
    started = time.process_time()
    crops = make_inputs(folder, options)
    print(f"{len(crops)} inputs in {time.process_time() - started:.0f} s", flush=True)
    if not o.quick:
        save_example(folder / "grading_sagittal.png", crops)
    cases = crops.chosen("test", ["S-T1"])
    if [case.study_id for case in cases] != [case.study_id for case in crops.chosen("test", ["S-T2"])]:
        raise RuntimeError("S-T1 and S-T2 are not of the same people.")
    patients = [case.patient for case in cases]
    labels, truth = [labels_of(cases, t) for t in FORAMINA], [true_grades(folder, cases, t) for t in FORAMINA]
    networks = {kind: [by_trainer(folder, crops, task, kind, options) for task in FORAMINA] for kind in KINDS}
    rows, differences = judged(
        {kind: [p for p, _ in sides] for kind, sides in networks.items()}, labels, truth, patients, options.resamples
    )
    for kind, sides in networks.items():
        rows[kind]["training"] = [taken for _, taken in sides]
    ways = by_loop(crops, "S-T1", steps, options.seed) if steps else {}
    several, several_differences = {}, {}
    if ways:
        sides_by_way = {name: sides for name, (sides, _) in ways.items()}
        several, several_differences = judged(sides_by_way, labels, truth, patients, options.resamples)
    for name, (_, taken) in ways.items():
        several[name]["training"] = taken
    counts = np.bincount(np.concatenate(labels), minlength=len(GRADES)).tolist()
    results = {
        "synthetic": True, "options": options.to_dict(), "test_grades": counts, "kinds": rows,
        "kinds_differences": differences, "ways": several, "ways_differences": several_differences,
        "ways_size": list(grading_tasks.SIZE),
    }  # fmt: skip
    store(o.json, results)
    print(json.dumps({key: results[key] for key in ("kinds", "kinds_differences", "ways", "ways_differences")}, indent=1))


if __name__ == "__main__":
    main()
