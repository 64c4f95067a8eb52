"""Grades of a whole study: every disc, every condition, and why one is missing."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GaussianMRIError
from ..files import atomic_write
from .crops import region_options
from .disc import DiscGeometry
from .inputs import AXIAL_KINDS, RESAMPLED, GradingInput, resampled_input, scaled_at, series_median
from .labels import GRADES, LEVELS, SAGITTAL_TYPES, STENOSES, Task
from .model_card import Grader
from .predict import Grade, grade
from .prepare import PrepareOptions, same_series, study_inputs
from .sagittal import check_shows_side
from .spine_labels import SpineLabels, check_on_scan
from .study_series import StudySeries, series_of_study, share_inside

if TYPE_CHECKING:
    from ..stacks import SliceStack

COLUMNS = (
    "level", "side", "condition", "grade", *(f"P {name.lower()}" for name in GRADES), "calibrated", "input type",
    "series", "outside the scan (%)", "network", "trained on", "checkpoint", "remarks",
)  # fmt: skip
_COVERED = 0.95  # share of the discs' voxels in a series that crosses them
NO_NETWORK = "no network for it"


@dataclass(frozen=True, eq=False)
class StudyGrade:
    """One condition at one level.

    Attributes:
        level, task: what is graded.
        grade: None where there is none.
        grader: the network; None where there is none for this condition.
        inputs: what it saw.
        remarks: why there is no grade, or what has to stand beside it.
    """

    level: str
    task: Task
    grade: Grade | None = None
    grader: Grader | None = None
    inputs: GradingInput | None = None
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For people: the grade, or that there is none."""
        title = self.task.title
        return self.grade.text if self.grade else f"{self.level} {title}: no grade ({'; '.join(self.remarks)})"

    @property
    def series(self) -> str:
        """Names of the series that the network was shown; "" where there is no grade."""
        return "" if self.inputs is None else ", ".join(dict.fromkeys(self.inputs.facts.get("stacks", ())))

    def cells(self) -> dict[str, str]:
        """A row of a table, by `COLUMNS`."""
        found = self.grade
        facts = dict.fromkeys(COLUMNS, "") | {
            "level": self.level, "side": self.task.side, "condition": self.task.condition.replace("_", " "),
            "network": "" if self.grader is None else self.grader.name, "remarks": "; ".join(self.remarks),
        }  # fmt: skip
        if found is None:
            return facts
        return facts | {
            "grade": found.label,
            **{f"P {name.lower()}": f"{p:.3f}" for name, p in zip(GRADES, found.probabilities, strict=True)},
            "calibrated": "yes" if found.calibration else "no",
            "input type": found.input_type,
            "series": self.series,
            "outside the scan (%)": "" if found.outside is None else f"{100 * found.outside:.0f}",
            "trained on": found.trained_on,
            "checkpoint": found.checkpoint,
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with all that has to be shown."""
        found = {"level": self.level, "condition": self.task.condition, "side": self.task.side, "grade": None}
        if self.grade is not None and self.inputs is not None:
            found = self.grade.to_dict() | {"input": self.inputs.facts}
        return found | {"remarks": list(self.remarks)}


@dataclass(frozen=True, eq=False)
class StudyGrades:
    """What `grade_study` found.

    Attributes:
        rows: by level, then condition; the five of `STENOSES` at least.
        remarks: on the study as a whole.
    """

    rows: tuple[StudyGrade, ...]
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that have to be shown with the grades, each once."""
        return tuple(dict.fromkeys(line for row in self.rows if row.grade for line in row.grade.notes))


@dataclass
class _Work:
    """What the rows of a study share."""

    series: StudySeries
    discs: Sequence[DiscGeometry]
    kind: str | None
    views: int
    device: str
    made: dict[tuple[Any, ...], GradingInput | str] = field(default_factory=dict)


def grade_study(
    graders: Sequence[Grader],
    stacks: Sequence[SliceStack],
    *,
    labels: SpineLabels | None = None,
    discs: Mapping[str, DiscGeometry] | None = None,
    levels: Iterable[str] = LEVELS,
    kind: str | None = None,
    views: int = 16,
    device: str = "cpu",
    progress: Callable[[float, str], object] | None = None,
) -> StudyGrades:
    """Grade every disc of a study for every condition that there is a network for.

    A network is shown what it was trained on: axial T2 slices, or a sagittal T1 or T2 series. A disc or series that is not
    there, or does not fit, is a row without a grade and with the reason.

    Args:
        graders: networks (`load_grader`), one or several for each condition.
        stacks: the series of the study, of one patient.
        labels: label map whose discs are graded; it has to lie on the scan.
        discs: by level, in place of those in `labels`, which then say where a level disagrees.
        levels: rows of the result.
        kind: what axial networks are shown, of `AXIAL_KINDS`; None: what each was trained on.
        views: see `grade`.
        device: for Gaussians.
        progress: called with the fraction done and what is going on; when it returns False the work stops.

    Raises:
        GaussianMRIError: neither labels nor discs, a label map off the scan or mirrored, several patients, or a stop.
    """
    if kind is not None and kind not in AXIAL_KINDS:
        raise GaussianMRIError(f"There is no kind of images '{kind}'; choose one of {', '.join(AXIAL_KINDS)}.")
    wanted = list(levels)
    if labels is not None:
        check_on_scan(labels.labels, stacks, labels.name)
    if discs is not None:
        ends = [(disc.posterior, disc.anterior) for level, disc in discs.items() if level in wanted]
        points = [some for both in ends for some in both]
        places = np.concatenate(points) if points else np.empty((0, 3))
    elif labels is not None:
        places = labels.disc_points(wanted)
    else:
        raise GaussianMRIError(
            "There are no discs; give a label map of TotalSpineSeg or SPINEPS, or a file of discs."
        )
    name = "" if labels is None else labels.name
    series = series_of_study(stacks, None if labels is None else labels.labels, name, discs=places)
    remarks = [*series.remarks, *(labels.anomalies() if labels is not None else ())]
    notes: dict[str, list[str]] = {}
    if discs is not None:
        known = dict(discs)
        absent = "there is no such disc in the file of discs"
        problems = {level: absent for level in wanted if level not in known}
        for level, disc in known.items():
            if labels is not None and (said := labels.says(disc)):
                problems[level] = said
    elif labels is not None:
        sagittal = [series.sagittal[kind] for kind in ("S-T2", "S-T1") if kind in series.sagittal]
        # Only slices from side to side of the discs say how wide they are.
        crossing = next((stack for stack in sagittal if share_inside(stack, places) >= _COVERED), None)
        # All of them, whatever is wanted: slices that end at one disc are scaled at another.
        known, problems = labels.discs(dict.fromkeys([*wanted, *LEVELS]), crossing)
        notes = {level: labels.remarks(level) for level in known}
    for level, disc in known.items():
        if "warning" in disc.facts:
            notes.setdefault(level, []).append(disc.facts["warning"])
    by_task: dict[Task, list[Grader]] = {task: [] for task in STENOSES}
    for grader in graders:
        by_task.setdefault(grader.card.task, []).append(grader)
    jobs: list[tuple[str, Task, Grader | None]] = []
    for level in wanted:
        for task, group in by_task.items():
            jobs += [(level, task, grader) for grader in group] or [(level, task, None)]
    work, rows, stopped = _Work(series, [*known.values()], kind, views, device), list[StudyGrade](), False

    def tell(part: float, stage: str) -> bool:
        nonlocal stopped
        stopped = progress is not None and progress((len(rows) + part) / len(jobs), stage) is False
        return not stopped

    for level, task, one in jobs:
        if one is None or level in problems:
            rows.append(StudyGrade(level, task, None, one, None, (problems.get(level, NO_NETWORK),)))
        else:
            try:
                rows.append(_row(work, known[level], one, notes.get(level, []), tell))
            except GaussianMRIError as error:
                if stopped:
                    raise
                rows.append(StudyGrade(level, task, None, one, None, (str(error),)))
        if not tell(0.0, f"{level} {task.title}"):
            raise GaussianMRIError("Grading was stopped.")
    return StudyGrades(tuple(rows), tuple(remarks))


def _row(
    work: _Work, disc: DiscGeometry, grader: Grader, notes: Sequence[str], tell: Callable[[float, str], bool]
) -> StudyGrade:
    card = grader.card
    kind = _kind(work, grader)
    if reason := work.series.lacking(kind):
        raise GaussianMRIError(reason)
    options = region_options(card.preprocessing)
    key = disc.level, kind, tuple(options.to_dict().values())
    if key not in work.made:
        try:
            work.made[key] = _input(work, disc, kind, options, tell)
        except GaussianMRIError as error:
            if not tell(0.0, ""):
                raise
            work.made[key] = str(error)
    inputs = work.made[key]
    if isinstance(inputs, str):
        raise GaussianMRIError(inputs)
    said = [*notes, *inputs.remarks]
    if kind in SAGITTAL_TYPES:
        check_shows_side(inputs, card.task)
    elif card.input_types and inputs.input_type not in card.input_types:
        said.append(f"shown {inputs.input_type}, trained on {', '.join(card.input_types)}")
    stage = f"{disc.level} {card.task.title}"
    (found,) = grade([grader], inputs, work.views, disc.level, progress=lambda part: tell(part, stage))
    return StudyGrade(disc.level, card.task, found, grader, inputs, tuple(said))


def _kind(work: _Work, grader: Grader) -> str:
    types = grader.card.input_types
    sagittal = [kind for kind in types if kind in SAGITTAL_TYPES]
    if sagittal:
        return next((kind for kind in sagittal if not work.series.lacking(kind)), sagittal[0])
    if work.kind is not None:
        return work.kind
    return "acquired" if not types or {"A", "N"} & set(types) else types[0]


def _input(
    work: _Work, disc: DiscGeometry, kind: str, options: Any, tell: Callable[[float, str], bool]
) -> GradingInput:
    if kind in RESAMPLED:
        # Another series has another scale, whose vertebrae say nothing of what is shown at the disc.
        nearest = min(work.series.axial, key=lambda slab: float(np.abs(slab.distances(disc.center)).min()))
        median, level = series_median(disc, same_series(nearest, work.series.axial), work.discs)
        images = resampled_input(
            disc, work.series.axial, kind, options, work.device,
            progress=lambda _part, stage: tell(0.0, f"{disc.level} {stage}"),
            cancelled=lambda: not tell(0.0, f"{disc.level} resampling"), median=median,
        )  # fmt: skip
        return scaled_at(images, level)
    types = ("A", "N") if kind == "acquired" else (kind,)
    made, problems = study_inputs(
        disc, work.series.axial, work.series.sagittal,
        options=PrepareOptions(types=types, region=options), others=work.discs,
    )  # fmt: skip
    if not made:
        raise GaussianMRIError("; ".join(dict.fromkeys(problems)))
    return next(iter(made.values()))


def write_grades(path: Path, grades: StudyGrades) -> None:
    """Write a CSV table: a row for each level and condition, with units and with what was missing.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row.cells() for row in grades.rows)
