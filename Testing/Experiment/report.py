"""Report of the experiment: tables of image quality and of AUROC with intervals, what follows from them, plots."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.cohort import CohortReport
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write, read_json, reading, whole
from GaussianMRILib.grading.bootstrap import Interval, PairedBootstrap, paired_bootstrap
from GaussianMRILib.grading.calibration import calibration_error, reliability, reliability_plot
from GaussianMRILib.grading.crops import SPLITS, CropSet
from GaussianMRILib.grading.inputs import RESAMPLED
from GaussianMRILib.grading.labels import AXIAL_TYPES, DISCLAIMER, GRADES, STENOSES, Task

from .document import Document
from .options import ExperimentOptions
from .plots import auroc_figure, example_figure, save
from .steps import PREDICTIONS, SCORES, TAKEN

#: Columns of the paper's Table 2.
TESTED = ("N", "R-VI", "R-GS", "A")
#: Differences that the report judges.
COMPARED = (("R-GS", "R-VI"), ("R-GS", "N"), ("R-VI", "N"), ("A", "R-GS"))
#: What is graded, by condition: on each side where it has sides.
GRADED = {task.condition: [other for other in STENOSES if other.condition == task.condition] for task in STENOSES}
_TITLES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}


@dataclass(frozen=True)
class Predictions:
    """What one network said of the test cases that all types of input have.

    Attributes:
        studies: (n,) ids.
        labels: (n,) reported grades, numbers.
        probabilities: (n, 3) by input type.
    """

    studies: list[str]
    labels: NDArray[np.int64]
    probabilities: dict[str, NDArray[np.float64]]


def read_predictions(path: Path) -> Predictions:
    """The table that testing a network wrote.

    Raises:
        GaussianMRIError: it is missing or damaged, or no study has every type of input.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found: dict[str, dict[str, list[float]]] = {kind: {} for kind in AXIAL_TYPES}
        labels: dict[str, int] = {}
        for row in rows:
            found[row["input_type"]][row["study_id"]] = [float(row[grade]) for grade in GRADES]
            labels[row["study_id"]] = GRADES.index(row["label"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise GaussianMRIError(
            f"{path} cannot be read ({error}); delete its folder to make it again."
        ) from error
    studies = sorted(study for study in labels if all(study in found[kind] for kind in AXIAL_TYPES))
    if not studies:
        raise GaussianMRIError(f"{path}: no test study has inputs of all types.")
    probabilities = {kind: np.array([found[kind][study] for study in studies]) for kind in AXIAL_TYPES}
    return Predictions(studies, np.array([labels[study] for study in studies]), probabilities)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The cases of several networks, such as those of both sides."""
    return Predictions(
        [study for part in parts for study in part.studies],
        np.concatenate([part.labels for part in parts]),
        {kind: np.concatenate([part.probabilities[kind] for part in parts]) for kind in AXIAL_TYPES},
    )


def compared(predictions: Predictions, resamples: int, seed: int) -> PairedBootstrap:
    """AUROC by input type and their differences; both sides of a patient are drawn together."""
    methods = {kind: predictions.probabilities[kind] for kind in ("A", "R-GS", "R-VI", "N")}
    return paired_bootstrap(methods, predictions.labels, predictions.studies, resamples=resamples, seed=seed)


def write_report(
    root: Path, options: ExperimentOptions, trainings: Mapping[str, Sequence[str]], times: Mapping[str, float]
) -> Path:
    """Write `report.md`, `report.html`, `results.json` and the plots of a finished experiment.

    Args:
        root: folder of the experiment.
        options: of the experiment.
        trainings: input types by training set.
        times: seconds by step.

    Returns:
        The path of `report.md`.

    Raises:
        GaussianMRIError: a network or the image scores are missing, or a file cannot be written.
    """
    crops = CropSet.read(root / "inputs")
    networks = {
        (name, task): read_predictions(root / "networks" / f"{name}-{task.name}" / PREDICTIONS)
        for name in trainings
        for task in STENOSES
    }
    one = {key: compared(found, options.resamples, options.seed) for key, found in networks.items()}
    sides = {
        (name, condition): joined([networks[name, task] for task in tasks])
        for name in trainings
        for condition, tasks in GRADED.items()
    }
    taken = {key: _taken(root / "networks" / f"{key[0]}-{key[1].name}" / TAKEN) for key in networks}
    both = {key: compared(found, options.resamples, options.seed) for key, found in sides.items()}
    quality = _image_quality(root, options)
    truth = _true_grades(root)
    document = Document()
    _introduction(document, crops, options, times)
    _steps(document, taken)
    _failures(document, root)
    _table_1(document, quality)
    _table_2(document, one, both, sides)
    _conclusions(document, both, quality)
    _against_truth(document, networks, truth, trainings, options)
    for condition in GRADED:
        rows = {name: both[name, condition].methods for name in trainings}
        file = f"auroc_{condition}.png"
        both_sides = ", both sides" if len(GRADED[condition]) > 1 else ""
        title = f"SYNTHETIC: macro AUROC, {condition.replace('_', ' ')}{both_sides}"
        save(auroc_figure(title, rows, TESTED), root / file)
        document.picture(file, f"Macro AUROC with 95 % intervals, {condition.replace('_', ' ')}")
    _calibration(document, root, networks)
    examples = _examples(crops)
    if examples:
        save(example_figure(crops, examples), root / "examples.png")
        document.picture(
            "examples.png",
            "The middle slice of test cases as A, R-VI, R-GS and N; the patient's left is on the right",
        )
    document.text(DISCLAIMER)
    results = {
        "synthetic": True,
        "options": options.to_dict(),
        "seconds": dict(times),
        "training": {f"{name} {task.name}": found for (name, task), found in taken.items()},
        "images": {kind: {name: _json(v) for name, v in row.items()} for kind, row in quality.items()},
        "auroc": {f"{name} {task.name}": _bootstrap_json(found) for (name, task), found in one.items()},
        "auroc_both_sides": {
            f"{name} {condition}": _bootstrap_json(found) for (name, condition), found in both.items()
        },
    }
    texts = {
        "results.json": json.dumps(results, indent=1) + "\n",
        "report.html": document.html(),
        "report.md": document.markdown(),
    }
    for name, text in texts.items():
        with atomic_write(root / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return root / "report.md"


def _json(interval: Interval) -> dict[str, Any]:
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "resamples": interval.resamples,
    }


def _bootstrap_json(found: PairedBootstrap) -> dict[str, Any]:
    return {
        "auroc": {kind: _json(value) for kind, value in found.methods.items()},
        "difference": {f"{a} - {b}": _json(value) for (a, b), value in found.differences.items()},
    }


# ---- parts ---------------------------------------------------------------------------------------------------


def _introduction(
    document: Document, crops: CropSet, options: ExperimentOptions, times: Mapping[str, float]
) -> None:
    training = options.training
    document.heading("SYNTHETIC: grades from acquired and resampled planes of lumbar phantoms")
    document.text(
        "Computed phantoms with stenosis of known grade at L5-S1, scanned with slices aligned with the disc (A) and with "
        "straight ones (N); images on the aligned planes are resampled from the straight slices by voxel interpolation "
        "(R-VI) and by Gaussians (R-GS). Networks learn from A alone or with one of the others and are tested on all four. "
        "No image is of a patient, and no figure here says how well patients would be graded."
    )
    size = "as they are" if training.input_size is None else " x ".join(map(str, training.input_size))
    width = options.region.width
    region = "twice the depth of the disc's sagittal slices" if width is None else f"{width:g} mm"
    patience = "none ended early"
    if training.patience is not None:
        patience = f"ended after {training.patience} without a better network, counted from half of them"
    weights = "/".join(f"{weight:g}" for weight in training.class_weights)
    document.text(
        f"Settings: {options.train} training, {options.validation} validation and {options.test} test patients; "
        f"{options.paired:.0%} of the former two have straight slices too, of the test patients all. Region of interest: "
        f"{region} wide. Networks: inputs {size}, channels x {training.network.widen:g}, batch {training.batch}; at "
        f"most {training.epochs} epochs of {training.epoch_steps} steps, whatever the training set, {patience}; "
        f"learning rate {training.learning_rate:g}, falling as a cosine over all of them; class weights {weights}; chosen "
        f"by the best mean macro AUROC of {training.window} epochs of validation; {options.views} views in testing. Fit: "
        f"{dict(options.fit)}. Seed {options.seed}; {options.resamples} bootstrap resamples of patients, 95 % intervals. "
        "The phantom's parameters are in the documentation of Testing/Experiment/graded.py."
    )
    if times:
        spent = ", ".join(f"{step} {seconds / 60:.1f} min" for step, seconds in times.items())
        document.text(f"Time: {spent}; together {sum(times.values()) / 60:.1f} min.")
    rows = []
    for split in SPLITS:
        for kind in AXIAL_TYPES:
            cases = crops.chosen(split, [kind])
            row = [f"{split} {kind}", str(len(cases))]
            for condition in GRADED:
                count = Counter(c.label(task) for c in cases for task in GRADED[condition])
                row.append(" / ".join(str(count[n]) for n in range(len(GRADES))))
            rows.append(row)
    header = ["Cases", "studies", *(f"{c.replace('_', ' ')}: {' / '.join(GRADES)}" for c in GRADED)]
    document.table(header, rows)


def _taken(path: Path) -> dict[str, Any]:
    """How many steps a training took, how many it could have taken, and whether it ended by itself."""
    with reading(path, "the steps of a training", "Delete its folder to train again."):
        found = read_json(path)
        steps, limit = (whole(found[name], name, 1) for name in ("steps", "limit"))
        return {"steps": steps, "limit": limit, "converged": bool(found["converged"])}


def _steps(document: Document, taken: Mapping[tuple[str, Task], Mapping[str, Any]]) -> None:
    document.heading("Steps of the trainings")
    rows = [
        [
            f"{task.title}, trained on {name}",
            f"{row['steps']:,}",
            f"{row['limit']:,}",
            "itself" if row["converged"] else "the limit",
        ]
        for (name, task), row in sorted(taken.items(), key=lambda item: STENOSES.index(item[0][1]))
    ]
    document.table(["Network", "steps", "at most", "ended by"], rows)


def _failures(document: Document, root: Path) -> None:
    """Studies that are missing from what follows."""
    for step in ("cohort", "inputs", "metrics"):
        failed = CohortReport.read(root / step / "report.csv").failed
        if failed:
            document.text(f"Left out: {len(failed)} studies that failed, see {step}/report.csv.")


def _image_quality(root: Path, options: ExperimentOptions) -> dict[str, dict[str, Interval]]:
    """Mean by method and score over the test studies, and the differences, with bootstrap intervals."""
    paths = sorted(p for p in (root / "metrics").glob("*.json") if p.stem.isdigit())
    if not paths:
        raise GaussianMRIError(f"{root / 'metrics'} has no scores; run the experiment's step 'metrics'.")
    scores = []
    for path in paths:
        with reading(path, "the scores of a study", "Delete it to judge the study again."):
            row = read_json(path)
            np.array([[row[kind][name] for name in SCORES] for kind in RESAMPLED], dtype=np.float64)
            scores.append(row)
    generator = np.random.default_rng(options.seed)
    draws = generator.integers(0, len(scores), (options.resamples, len(scores)))
    found: dict[str, dict[str, Interval]] = {kind: {} for kind in (*RESAMPLED, "R-GS - R-VI")}
    for name in SCORES:
        values = {kind: np.array([row[kind][name] for row in scores], dtype=np.float64) for kind in RESAMPLED}
        values["R-GS - R-VI"] = values["R-GS"] - values["R-VI"]
        for kind, each in values.items():
            if not np.isfinite(each).all():
                found[kind][name] = Interval(None, None, None, 0.95, 0)
                continue
            low, high = np.quantile(each[draws].mean(axis=1), [0.025, 0.975])
            found[kind][name] = Interval(float(each.mean()), float(low), float(high), 0.95, options.resamples)
    return found


def _table_1(document: Document, quality: Mapping[str, Mapping[str, Interval]]) -> None:
    document.heading("Image quality (the paper's Table 1)")
    document.text(
        "Against the aligned slices, which have noise of their own, so that no method can reach high values; weighted by a "
        "Gaussian around the back of the disc; mean over slices, then over test patients."
    )
    rows = []
    for kind, row in quality.items():
        cells = [kind]
        for name in SCORES:
            digits = 2 if name == "psnr" else 4
            cells.append(_number(row[name], digits, "n/a"))
        rows.append(cells)
    document.table(["Method", *(_TITLES[name] for name in SCORES)], rows)
    if all(row["lpips"].value is None for row in quality.values()):
        document.text("LPIPS is not available: its weights are not on this computer.")


def _number(interval: Interval, digits: int, otherwise: str) -> str:
    if interval.value is None:
        return otherwise
    if interval.low is None or interval.high is None:
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _table_2(
    document: Document,
    one: Mapping[tuple[str, Task], PairedBootstrap],
    both: Mapping[tuple[str, str], PairedBootstrap],
    sides: Mapping[tuple[str, str], Predictions],
) -> None:
    document.heading("Macro AUROC (the paper's Table 2)")
    rows = [
        [
            f"{task.title}, trained on {name}",
            *(_number(found.methods[kind], 3, "undefined") for kind in TESTED),
        ]
        for (name, task), found in sorted(one.items(), key=lambda item: STENOSES.index(item[0][1]))
    ]
    document.table(["Condition and training set", *(f"tested on {kind}" for kind in TESTED)], rows)
    document.heading("Both sides together")
    document.text("Cases of the left and of the right networks; a patient's two sides are drawn together.")
    rows, differences = [], []
    for (name, condition), found in sorted(both.items(), key=lambda item: list(GRADED).index(item[0][1])):
        first = f"{condition.replace('_', ' ')}, trained on {name}"
        cases = str(len(sides[name, condition].labels))
        rows.append([first, cases, *(_number(found.methods[kind], 3, "undefined") for kind in TESTED)])
        differences.append([first, *(_number(found.differences[pair], 3, "undefined") for pair in COMPARED)])
    document.table(["Condition and training set", "cases", *(f"tested on {kind}" for kind in TESTED)], rows)
    document.text("Differences of AUROC on the same cases and resamples:")
    document.table(["Condition and training set", *(f"{a} - {b}" for a, b in COMPARED)], differences)


def _conclusions(
    document: Document,
    both: Mapping[tuple[str, str], PairedBootstrap],
    quality: Mapping[str, Mapping[str, Interval]],
) -> None:
    document.heading("What follows")
    for first, second in COMPARED[:3]:
        found = [each.differences[first, second] for each in both.values()]
        known = [each for each in found if each.value is not None]
        higher = sum(each.value > 0 for each in known if each.value is not None)
        clear = sum(each.low is not None and each.low > 0 for each in known)
        reverse = sum(each.high is not None and each.high < 0 for each in known)
        document.text(
            f"{first} against {second}: higher in {higher} of {len(known)} comparisons (conditions x training sets), with "
            f"an interval above 0 in {clear}, below 0 in {reverse}. "
            + _verdict(first, second, higher, clear, reverse, len(known))
        )
    difference = quality["R-GS - R-VI"]
    document.text(
        "Image quality, R-GS less R-VI: "
        + ", ".join(f"{_TITLES[name]} {_number(difference[name], 3, 'n/a')}" for name in SCORES)
        + "."
    )


def _verdict(first: str, second: str, higher: int, clear: int, reverse: int, total: int) -> str:
    if clear and not reverse and 2 * higher > total:
        return f"On these phantoms {first} is graded better than {second}."
    if reverse and not clear and 2 * higher < total:
        return f"On these phantoms {first} is graded WORSE than {second}."
    return f"On these phantoms {first} does not clearly differ from {second}."


def _true_grades(root: Path) -> dict[tuple[str, str], int]:
    with (root / "cohort" / "truth.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["study_id"], task.name): GRADES.index(row[f"{task.name}_true"]) for row in rows for task in STENOSES
    }


def _against_truth(
    document: Document,
    networks: Mapping[tuple[str, Task], Predictions],
    truth: Mapping[tuple[str, str], int],
    trainings: Mapping[str, Sequence[str]],
    options: ExperimentOptions,
) -> None:
    document.heading("Against the true grades")
    wrong = [
        int(label) != truth[study, task.name]
        for (name, task), found in networks.items()
        if name == next(iter(trainings))
        for study, label in zip(found.studies, found.labels, strict=True)
    ]
    document.text(
        f"Above, networks are judged by the reported grades, {np.mean(wrong):.1%} of which are wrong on purpose. Here the "
        "same probabilities are judged by the phantom's true grades, both sides together."
    )
    rows = []
    for condition in GRADED:
        for name in trainings:
            parts = []
            for task in GRADED[condition]:
                found = networks[name, task]
                labels = np.array([truth[study, task.name] for study in found.studies])
                parts.append(Predictions(found.studies, labels, found.probabilities))
            result = compared(joined(parts), options.resamples, options.seed)
            cells = [_number(result.methods[kind], 3, "undefined") for kind in TESTED]
            rows.append([f"{condition.replace('_', ' ')}, trained on {name}", *cells])
    document.table(["Condition and training set", *(f"tested on {kind}" for kind in TESTED)], rows)


def _calibration(document: Document, root: Path, networks: Mapping[tuple[str, Task], Predictions]) -> None:
    """Reliability of every input type, over all networks."""
    everything = joined(list(networks.values()))
    tables = {kind: reliability(everything.probabilities[kind], everything.labels) for kind in TESTED}
    document.heading("Calibration")
    document.text(
        "Probabilities are not calibrated. Expected calibration error over all networks: "
        + ", ".join(f"{kind} {calibration_error(table):.3f}" for kind, table in tables.items())
        + "."
    )
    reliability_plot(root / "calibration.png", "SYNTHETIC: reliability of the most probable grade", tables)
    document.picture("calibration.png", "Share of correct grades by probability")


def _examples(crops: CropSet) -> list[str]:
    """Up to four test studies: a severe canal, right recess and left foramen with little else, and only normal grades."""
    narrowed = {
        case.study_id: {name: grade for name, grade in case.grades.items() if grade != GRADES[0]}
        for case in crops.chosen("test", ["R-GS"])
    }
    found = []
    for name in (tasks[n % len(tasks)].name for n, tasks in enumerate(GRADED.values())):
        severe = [study for study, grades in narrowed.items() if grades.get(name) == GRADES[-1]]
        found += sorted(severe, key=lambda study: len(narrowed[study]))[:1]
    found += [study for study, grades in narrowed.items() if not grades][:1]
    return list(dict.fromkeys(found))
