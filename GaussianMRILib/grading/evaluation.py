"""Networks judged on cases that they have not seen, of their own set and of other cohorts, and calibrated before that."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import all_or_none, atomic_write
from .augment import VIEWS
from .bootstrap import Interval, bootstrap, paired_bootstrap
from .calibration import (
    Bin,
    Calibration,
    calibration_error,
    choose_threshold,
    fit_temperature,
    reliability,
    reliability_plot,
    scaled,
)
from .crops import Case, CropSet, labels_of
from .labels import GRADES, INPUT_TYPES, NOT_CALIBRATED, Task
from .measures import MEASURES, checked_probabilities, class_aurocs, severe_measures, weighted_log_loss
from .model_card import Grader
from .people import check_other_people
from .predict import grade_cases

#: Measures in words, in the order in which they are shown.
TITLES = {
    "macro_auroc": "Macro AUROC",
    "kappa_linear": "Cohen's kappa, linear weights",
    "kappa_quadratic": "Cohen's kappa, quadratic weights",
    "balanced_accuracy": "Balanced accuracy",
    "severe_sensitivity": "Severe against the rest, sensitivity",
    "severe_specificity": "Severe against the rest, specificity",
    "log_loss": "Weighted log loss (RSNA 2024: 1, 2, 4)",
    "log_loss_uncalibrated": "Weighted log loss before calibration",
}
CSV_COLUMNS = (
    "model", "task", "cohort", "case", "patient", "level", "input_type", "calibrated", "grade", *GRADES,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Result:
    """One network on the images of one kind of one cohort.

    Attributes:
        model: its name, by which `evaluate` was given it.
        task: condition and side.
        cohort: name of the split, or the folder of another cohort.
        input_type: of `INPUT_TYPES`.
        sha256, trained_on: of the checkpoint.
        synthetic: the network or a case is not of human beings.
        calibration: of the checkpoint; None where the probabilities are not calibrated.
        cases: that were tested.
        probabilities: (n, 3) as `grade` gives them.
        aurocs: one-vs-rest, by grade.
        measures: by the names in `TITLES`; the severe ones only with a calibration, which has their threshold.
        bins: reliability.
        raw_bins: the same before the calibration; empty without one.
    """

    model: str
    task: Task
    cohort: str
    input_type: str
    sha256: str
    trained_on: str
    synthetic: bool
    calibration: Calibration | None
    cases: tuple[Case, ...]
    probabilities: NDArray[np.float64]
    aurocs: tuple[float | None, ...]
    measures: Mapping[str, Interval]
    bins: Sequence[Bin]
    raw_bins: Sequence[Bin]

    @property
    def patients(self) -> int:
        """How many people the cases are of."""
        return len({case.patient for case in self.cases})

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        raw = calibration_error(self.raw_bins) if self.raw_bins else None
        return {
            "model": self.model,
            "sha256": self.sha256,
            "trained_on": self.trained_on,
            "synthetic": self.synthetic,
            "task": self.task.name,
            "cohort": self.cohort,
            "input_type": self.input_type,
            "cases": len(self.cases),
            "patients": self.patients,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "auroc": dict(zip(GRADES, self.aurocs, strict=True)),
            **{name: asdict(interval) for name, interval in self.measures.items()},
            "calibration_error": calibration_error(self.bins),
            "calibration_error_uncalibrated": raw,
            "reliability": [asdict(row) for row in self.bins],
            "reliability_uncalibrated": [asdict(row) for row in self.raw_bins],
        }

    def rows(self) -> Iterator[list[str]]:
        """A row of `CSV_COLUMNS` for every case."""
        calibrated = "no" if self.calibration is None else "yes"
        for case, p in zip(self.cases, self.probabilities, strict=True):
            facts = [self.model, self.task.name, self.cohort, case.case_id, case.patient, case.level]
            grade = case.grades[self.task.name]
            yield [*facts, self.input_type, calibrated, grade, *(f"{value:.6f}" for value in p)]


@dataclass(frozen=True)
class Difference:
    """Measures of a network less those of another for the same task on the same cases, from the same resamples."""

    task: Task
    cohort: str
    input_type: str
    first: str
    second: str
    measures: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        facts = {"task": self.task.name, "cohort": self.cohort, "input_type": self.input_type}
        found = {name: asdict(interval) for name, interval in self.measures.items()}
        return {**facts, "first": self.first, "second": self.second, **found}


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        split, views, resamples, seed: as it was asked for.
        notes: lines that have to be read with the figures.
    """

    split: str
    views: int
    resamples: int
    seed: int
    results: tuple[Result, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "split": self.split,
            "views": self.views,
            "resamples": self.resamples,
            "seed": self.seed,
            "notes": list(self.notes),
            "results": [result.to_dict() for result in self.results],
            "differences": [difference.to_dict() for difference in self.differences],
        }


def evaluate(
    graders: Mapping[str, Grader],
    crops: CropSet,
    *,
    split: str = "test",
    external: Sequence[CropSet] = (),
    views: int = len(VIEWS),
    resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[float, str], object] | None = None,
) -> Evaluation:
    """Judge networks on a split of the set that they were trained on, and on all cases of other cohorts.

    Args:
        graders: by name.
        crops: the set that they were trained on.
        split: of its cases.
        external: cohorts of other patients, all of whose graded cases are tested, whatever their split.
        views: that are averaged, 1 to 16.
        resamples: of the bootstrap over patients.
        seed: of its draws.
        progress: called with the fraction done and what is; when it returns False the work stops.

    Raises:
        GaussianMRIError: no case to test on, a cohort with patients of the set, a case without a patient, a network that was
            not made for such images or was calibrated with another number of views, or a stop.
    """
    cohorts = [(split, crops, split), *((str(other.folder), other, None) for other in external)]
    unknown = [
        check_other_people(crops.folder, crops.patients, other.folder, other.patients) for other in external
    ]
    jobs = []
    for model, grader in graders.items():
        if grader.card.calibration is not None:
            grader.card.calibration.check_views(views)
        for name, where, part in cohorts:
            found = {kind: _cases(where, grader, part, [kind]) for kind in grader.card.sees}
            if part is None and not any(found.values()):
                raise GaussianMRIError(
                    f"{where.folder} has no case that {Path(model).name} can grade; see its cases.csv."
                )
            _check_patients(where, found)
            jobs += [(model, name, where, kind, cases) for kind, cases in found.items() if cases]
    if not jobs:
        names = ", ".join(Path(model).name for model in graders)
        raise GaussianMRIError(
            f"{crops.folder} has no case of the split {split} that {names} can grade; see its cases.csv."
        )
    whole, done, results = sum(len(job[-1]) for job in jobs), 0, []
    for model, name, where, kind, cases in jobs:
        tell = None
        if progress is not None:
            tell = functools.partial(_tell, progress, done / whole, len(cases) / whole, f"{Path(model).name}, {kind}")
        raw = grade_cases(graders[model], where, cases, views, progress=tell)
        done += len(cases)
        if progress is not None and progress(done / whole, f"{Path(model).name}, {kind}: intervals") is False:
            raise GaussianMRIError("The evaluation was stopped.")
        results.append(_judged(model, graders[model], name, kind, cases, raw, views, resamples, seed))
    notes = (*filter(None, unknown), *_notes(graders, crops, split))
    return Evaluation(split, views, resamples, seed, tuple(results), tuple(_differences(results, resamples, seed)), notes)


def write_evaluation(
    found: Evaluation,
    *,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    plot_file: Path | None = None,
) -> None:
    """Write those files that are named, all of them or none.

    Args:
        json_file: everything, see `Evaluation.to_dict`.
        csv_file: every case's probabilities, see `CSV_COLUMNS`.
        plot_file: reliability of the most probable grade, before and after calibration (.png, .svg, .pdf).

    Raises:
        GaussianMRIError: a file cannot be written.
    """
    with all_or_none():
        if json_file is not None:
            with atomic_write(json_file) as temporary:
                temporary.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        if csv_file is not None:
            with atomic_write(csv_file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                rows = (row for result in found.results for row in result.rows())
                csv.writer(file, lineterminator="\n").writerows([CSV_COLUMNS, *rows])
        if plot_file is not None:
            lines: dict[str, Sequence[Bin]] = {}
            for n, result in enumerate(found.results, 1):
                name = f"{n}. {Path(result.model).name}, {Path(result.cohort).name}, {result.input_type}"
                lines[name] = result.bins
                if result.raw_bins:
                    lines[f"{name}, before calibration"] = result.raw_bins
            mark = "SYNTHETIC: " if any(result.synthetic for result in found.results) else ""
            reliability_plot(plot_file, f"{mark}reliability of the most probable grade", lines)


def calibrate(
    grader: Grader,
    crops: CropSet,
    *,
    views: int = len(VIEWS),
    sensitivity: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Calibration:
    """Choose a network's temperature, and its threshold of severe, on the validation cases of the set it was trained on.

    Args:
        grader: a calibration that it has is not used.
        crops: its cases of the split "validation" are taken, of the input types and levels that the network knows.
        views: that are averaged, 1 to 16.
        sensitivity: see `choose_threshold`.
        progress: called with the fraction done; when it returns False the work stops.

    Raises:
        GaussianMRIError: no such cases, cases that do not determine them (`fit_temperature`, `choose_threshold`), or a stop.
    """
    card = grader.card
    cases = _cases(crops, grader, "validation", card.input_types)
    if not cases:
        raise GaussianMRIError(
            f"{crops.folder} has no validation case that {grader.name} can grade, and nothing is chosen on test cases. See "
            "its cases.csv."
        )
    raw, labels = grade_cases(grader, crops, cases, views, progress=progress), labels_of(cases, card.task)
    try:
        temperature = fit_temperature(raw, labels)
        p = scaled(raw, temperature)
        threshold, found, others = choose_threshold(p, labels, sensitivity=sensitivity)
    except GaussianMRIError as error:
        raise GaussianMRIError(f"{grader.name} cannot be calibrated on {crops.folder}: {error}") from error
    rule = "largest sum of sensitivity and specificity"
    if sensitivity is not None:
        rule = f"sensitivity of at least {sensitivity:g}"
    return Calibration(
        temperature,
        threshold,
        rule,
        views,
        {grade: labels.count(n) for n, grade in enumerate(GRADES)},
        len({case.patient for case in cases}),
        tuple(sorted({case.input_type for case in cases}, key=INPUT_TYPES.index)),
        tuple(sorted({case.level for case in cases})),
        str(crops.facts.get("data", "")),
        _digest(cases, card.task),
        found,
        others,
        calibration_error(reliability(p, labels)),
        calibration_error(reliability(raw, labels)),
    )


def _cases(crops: CropSet, grader: Grader, split: str | None, kinds: Sequence[str]) -> list[Case]:
    return crops.chosen(split, kinds, grader.card.levels or None, grader.card.task)


def _tell(progress: Callable[[float, str], object], before: float, share: float, what: str, part: float) -> object:
    return progress(before + share * part, what)


def _digest(cases: Sequence[Case], task: Task) -> str:
    """Of validation cases, whatever their order."""
    rows = sorted([case.case_id, case.patient, case.grades[task.name]] for case in cases)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _check_patients(crops: CropSet, found: Mapping[str, Sequence[Case]]) -> None:
    for case in (case for cases in found.values() for case in cases):
        if not case.patient:
            raise GaussianMRIError(
                f"{crops.folder / 'cases.csv'} does not say whose case {case.case_id} is, and intervals draw patients. Fill "
                "in its patient."
            )


def _judged(
    model: str,
    grader: Grader,
    cohort: str,
    kind: str,
    cases: Sequence[Case],
    raw: NDArray[np.float64],
    views: int,
    resamples: int,
    seed: int,
) -> Result:
    card, calibration = grader.card, grader.card.calibration
    p = raw if calibration is None else calibration.apply(raw, views)
    labels, patients = labels_of(cases, card.task), [case.patient for case in cases]
    checked_probabilities(p, labels)
    judge = functools.partial(bootstrap, labels=labels, patients=patients, resamples=resamples, seed=seed)
    functions = MEASURES | ({} if calibration is None else severe_measures(calibration.threshold))
    measures = {name: judge(p, measure=function) for name, function in functions.items()}
    if calibration is not None:
        measures["log_loss_uncalibrated"] = judge(raw, measure=weighted_log_loss)
    return Result(
        model,
        card.task,
        cohort,
        kind,
        grader.sha256,
        card.trained_on,
        card.synthetic or any(case.synthetic for case in cases),
        calibration,
        tuple(cases),
        p,
        class_aurocs(p, labels),
        {name: measures[name] for name in TITLES if name in measures},
        reliability(p, labels),
        [] if calibration is None else reliability(raw, labels),
    )


def _differences(results: Sequence[Result], resamples: int, seed: int) -> Iterator[Difference]:
    groups: dict[tuple[Task, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.task, result.cohort, result.input_type), []).append(result)
    for (task, cohort, kind), members in groups.items():
        cases = members[0].cases
        ids = [case.case_id for case in cases]
        if len(members) < 2 or any([case.case_id for case in other.cases] != ids for other in members):
            continue
        methods = {member.model: member.probabilities for member in members}
        labels, patients = labels_of(cases, task), [case.patient for case in cases]
        paired = {
            name: paired_bootstrap(methods, labels, patients, measure=measure, resamples=resamples, seed=seed)
            for name, measure in MEASURES.items()
        }
        for first, second in next(iter(paired.values())).differences:
            measures = {name: found.differences[first, second] for name, found in paired.items()}
            yield Difference(task, cohort, kind, first, second, measures)


def _notes(graders: Mapping[str, Grader], crops: CropSet, split: str) -> tuple[str, ...]:
    notes = []
    for model, grader in graders.items():
        name, calibration = Path(model).name, grader.card.calibration
        if calibration is None:
            notes.append(
                f"{name}: {NOT_CALIBRATED} It has no threshold of severe either; `gaussianmri grade calibrate` chooses both."
            )
            continue
        notes.append(
            f"{name}: {calibration.text} Severe is a probability of at least {calibration.threshold:.3f}, chosen there for "
            f"the {calibration.rule}."
        )
        validation = _cases(crops, grader, "validation", grader.card.input_types)
        if split == "validation":
            notes.append(f"{name}: its temperature and threshold were chosen on validation cases, which flatters it here.")
        elif _digest(validation, grader.card.task) != calibration.sha256:
            notes.append(
                f"{name}: {crops.folder} has other validation cases than it was calibrated on; whether those are among the "
                "tested ones is not known."
            )
    if split == "train":
        notes.append("Figures of the split train are of cases that were learned from.")
    return tuple(notes)
