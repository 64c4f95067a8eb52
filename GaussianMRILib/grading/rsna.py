"""Reader of the RSNA 2024 lumbar spine data as its users have it on disk, and a check of such a copy.

Layout: `{part}_images/{study}/{series}/{instance}.dcm`, `{part}.csv` with a grade for each condition and level,
`{part}_series_descriptions.csv`, `{part}_label_coordinates.csv`; part is "train" or "test". The data are offered for
non-commercial use by the Radiological Society of North America and are not part of this library.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cohort import Outcome, run_cohort
from ..errors import GaussianMRIError
from ..geometry import transform_points
from ..stacks import SliceStack
from ..stacks.dicom_frames import read_header
from .labels import INPUT_TYPES, LEVELS, TASKS
from .rsna_series import RsnaSeries, is_synthetic, read_series
from .rsna_tables import AXIAL, DESCRIPTIONS, SAGITTAL_T1, SAGITTAL_T2, LabelPoint, RsnaTables

if TYPE_CHECKING:
    from .spine_labels import SpineLabels

Vector = NDArray[np.float64]
#: A level's points lie above those of the next level by at least this (mm).
_LEVEL_STEP_MM = 5.0
#: Marks of one condition at one level (in two series, say) further apart than this (mm) contradict each other.
_SAME_PLACE_MM = 10.0


@dataclass
class RsnaStudy:
    """One study, ready to use; what could not be trusted is left out and named in `problems`.

    Attributes:
        study_id: name of its folder.
        patient: Patient ID, else the study id. Not for messages.
        axial: stacks of parallel axial slices at even distances: slabs and series apart, in one frame of reference.
        sagittal_t2, sagittal_t1: None where there is none.
        grades: by column such as "left_subarticular_stenosis_l5_s1"; without blank ones.
        coordinates: (3,) RAS mm by condition and level, such as ("left_subarticular_stenosis", "L5/S1").
        coordinates_file: the table that has them.
        problems: sentences for people, without names of patients.
        synthetic: images of a computed phantom.
        labels: label map with the discs, of data that have one.
    """

    study_id: str
    patient: str
    axial: list[SliceStack] = field(default_factory=list)
    sagittal_t2: SliceStack | None = None
    sagittal_t1: SliceStack | None = None
    grades: dict[str, str] = field(default_factory=dict)
    coordinates: dict[tuple[str, str], Vector] = field(default_factory=dict)
    coordinates_file: str = ""
    problems: list[str] = field(default_factory=list)
    synthetic: bool = False
    labels: SpineLabels | None = None

    def grades_at(self, level: str) -> dict[str, str]:
        """Grades of one level by `Task.name`."""
        return _at(self.grades, level)


class RsnaDataset:
    """A copy of the data.

    Args:
        folder: with the CSV files and `{part}_images`.
        part: "train" or "test".

    Attributes:
        studies: ids of all studies that the tables or the folder have, sorted.
        tables: see `RsnaTables`.

    Raises:
        GaussianMRIError: no such layout there.

    Example:
        >>> data = RsnaDataset("rsna-2024-lumbar-spine-degenerative-classification")     # doctest: +SKIP
        >>> study = data.study(data.studies[0])                                           # doctest: +SKIP
        >>> [stack.name for stack in study.axial], study.problems                         # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str], part: str = "train") -> None:
        self.folder, self.part = Path(folder), part
        self.images = self.folder / f"{part}_images"
        if not self.images.is_dir():
            raise GaussianMRIError(
                f"{self.folder} has no {self.images.name}. Give the folder that holds it and the CSV files."
            )
        self.tables = RsnaTables.read(self.folder, part)
        there = {p.name for p in self.images.iterdir() if p.is_dir() and not p.name.startswith(".")}
        self.studies = sorted({*there, *self.tables.series, *self.tables.grades})

    def __len__(self) -> int:
        return len(self.studies)

    #: Kinds of images that can be made of a study.
    types = INPUT_TYPES

    @property
    def graded(self) -> bool:
        """Whether there is a table of grades at all."""
        return self.tables.graded

    @property
    def words(self) -> str:
        """What the data are, for models that are trained on them."""
        return f"RSNA 2024 lumbar spine, {self.part} part"

    def grades_at(self, study_id: str, level: str) -> dict[str, str]:
        """Grades of one level of a study by `Task.name`."""
        return _at(self.tables.grades.get(study_id, {}), level)

    def files_of(self, study_id: str) -> list[Path]:
        """Files and folders that have something of a study."""
        tables = ("", "_series_descriptions", "_label_coordinates")
        return [self.images / study_id, *(self.folder / f"{self.part}{name}.csv" for name in tables)]

    def identity(self, study_id: str) -> tuple[str, bool]:
        """Who a study is of (Patient ID of its first readable image, "" where it has none), and whether it is a phantom."""
        for path in sorted((self.images / study_id).glob("*/*")):
            if path.is_file() and not path.name.startswith("."):
                try:
                    header = read_header(path)
                except GaussianMRIError:
                    continue
                return str(header.get("PatientID", "") or "").strip(), is_synthetic(header)
        return "", False

    def study(self, study_id: str, series: Iterable[str] = DESCRIPTIONS) -> RsnaStudy:
        """Read a study.

        Args:
            series: descriptions of the series whose pixels are wanted; of the others only headers of marked images are read.

        Raises:
            GaussianMRIError: no such study, no folder of it, or images of several patients in it.
        """
        folder = self.images / study_id
        if study_id not in self.studies:
            raise GaussianMRIError(f"There is no study {study_id} in {self.folder}.")
        if not folder.is_dir():
            raise GaussianMRIError(f"Study {study_id} is in the tables, but there is no folder {folder}.")
        problems = list(self.tables.problems.get(study_id, []))
        described = self.tables.series.get(study_id, {})
        for name in sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in described):
            problems.append(f"series {name} is not described and is left out")
        if self.tables.graded and study_id not in self.tables.grades:
            problems.append(f"the study has no row in {self.part}.csv")
        marked = {point.series for point in self.tables.points.get(study_id, [])}
        wanted = set(series)
        read = {
            name: read_series(folder / name, description, description in wanted)
            for name, description in sorted(described.items())
            if description in wanted or name in marked
        }
        patients = {patient for each in read.values() for patient in each.patients}
        if len(patients) > 1:
            raise GaussianMRIError(
                f"Study {study_id} holds images of {len(patients)} patients; nobody knows whose grades these are. "
                "Copy it again."
            )
        if len({uid for each in read.values() for uid in each.studies}) > 1:
            problems.append("its series come from several DICOM studies")
        problems += [problem for each in read.values() for problem in each.problems]
        study = RsnaStudy(
            study_id,
            next(iter(patients), "") or study_id,
            grades=dict(self.tables.grades.get(study_id, {})),
            problems=problems,
            synthetic=any(each.synthetic for each in read.values()),
            coordinates_file=str(self.folder / f"{self.part}_label_coordinates.csv"),
        )
        usable = self._one_frame(read, described, study)
        self._take_stacks(usable, described, study)
        study.coordinates = self._coordinates(usable, study)
        return study

    def _one_frame(
        self, read: dict[str, RsnaSeries], described: dict[str, str], study: RsnaStudy
    ) -> dict[str, RsnaSeries]:
        """Series whose positions can be compared: those in the frame of the sagittal T2 series, else of most images."""
        images: Counter[str] = Counter()
        for name, each in read.items():  # any sagittal T2 image outweighs the others: discs are found there
            if each.frame_of_reference and not each.left_out:
                images[each.frame_of_reference] += len(each.images) + 10_000 * (
                    described[name] == SAGITTAL_T2
                )
        if len(images) < 2:
            return read
        chosen = images.most_common(1)[0][0]
        for name in [n for n, each in read.items() if (each.frame_of_reference or chosen) != chosen]:
            study.problems.append(
                f"series {name} ({described[name]}) is left out: its frame of reference is another one (patient moved)"
            )
            del read[name]
        return read

    @staticmethod
    def _take_stacks(read: dict[str, RsnaSeries], described: dict[str, str], study: RsnaStudy) -> None:
        by_kind: dict[str, list[list[SliceStack]]] = {kind: [] for kind in DESCRIPTIONS}
        for name, each in read.items():
            if each.stacks:
                by_kind[described[name]].append(each.stacks)
        study.axial = [stack for stacks in by_kind[AXIAL] for stack in stacks]
        for kind, attribute in ((SAGITTAL_T2, "sagittal_t2"), (SAGITTAL_T1, "sagittal_t1")):
            stacks = [stack for group in by_kind[kind] for stack in group]
            if stacks:
                largest = max(stacks, key=lambda stack: stack.shape[0])
                setattr(study, attribute, largest)
                if len(stacks) > 1:
                    study.problems.append(f"of {len(stacks)} stacks {kind} only {largest.name} is used")

    def _coordinates(self, read: dict[str, RsnaSeries], study: RsnaStudy) -> dict[tuple[str, str], Vector]:
        marks: dict[tuple[str, str], list[Vector]] = {}
        problems: list[str] = []
        for point in self.tables.points.get(study.study_id, []):
            place = _place(point, read, problems)
            if place is not None:
                marks.setdefault((point.condition, point.level), []).append(place)
        places: dict[tuple[str, str], Vector] = {}
        for key, found in sorted(marks.items()):
            if max(float(np.linalg.norm(place - found[0])) for place in found) > _SAME_PLACE_MM:
                problems.append(f"{_words(key)} is marked at several places; none is used")
            else:
                places[key] = np.mean(found, axis=0)
        for key in sorted(_swapped_sides(places) | _wrong_order(places)):
            problems.append(
                f"the mark of {_words(key)} contradicts another one (sides or levels exchanged) and is not used"
            )
            del places[key]
        study.problems += [f"{problem} ({Path(study.coordinates_file).name})" for problem in problems]
        return places


def _at(grades: Mapping[str, str], level: str) -> dict[str, str]:
    columns = {task.name: task.column(level) for task in TASKS}
    return {name: grades[column] for name, column in columns.items() if column in grades}


def _words(key: tuple[str, str]) -> str:
    """Such as "left subarticular stenosis L5/S1"."""
    return f"{key[0].replace('_', ' ')} {key[1]}"


def _place(point: LabelPoint, read: dict[str, RsnaSeries], problems: list[str]) -> Vector | None:
    """RAS (3,) mm of a mark; None, with a problem, where it cannot be."""
    what = f"the mark of {_words((point.condition, point.level))}"
    series = read.get(point.series)
    if series is None or series.left_out:
        problems.append(f"{what} is in series {point.series}, which is not used")
        return None
    image = series.images.get(point.instance)
    if image is None:
        problems.append(f"{what} is on image {point.instance} of series {point.series}, which is not there")
        return None
    rows, columns = image.shape
    if not (-0.5 <= point.x <= columns - 0.5 and -0.5 <= point.y <= rows - 0.5):
        problems.append(
            f"{what} at {point.x:.0f}, {point.y:.0f} lies outside its image of {columns} x {rows} pixels"
        )
        return None
    return transform_points(image.ijk_to_ras, [point.x, point.y, 0.0])


def _swapped_sides(places: dict[tuple[str, str], Vector]) -> set[tuple[str, str]]:
    """Marks of left and right whose positions say the opposite."""
    wrong: set[tuple[str, str]] = set()
    for (condition, level), place in places.items():
        other = (condition.replace("left_", "right_", 1), level)
        if condition.startswith("left_") and other in places and place[0] >= places[other][0]:
            wrong |= {(condition, level), other}
    return wrong


def _wrong_order(places: dict[tuple[str, str], Vector]) -> set[tuple[str, str]]:
    """Marks of one condition whose heights contradict the order of their levels."""
    wrong: set[tuple[str, str]] = set()
    for (condition, level), place in places.items():
        for lower in LEVELS[LEVELS.index(level) + 1 :]:
            other = places.get((condition, lower))
            if other is not None and place[2] - other[2] < _LEVEL_STEP_MM:
                wrong |= {(condition, level), (condition, lower)}
    return wrong


# ---- a check of a copy ---------------------------------------------------------------------------------------


def validate(
    folder: str | os.PathLike[str],
    part: str = "train",
    studies: Sequence[str] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Callable[[int, int, str], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[str]:
    """What is wrong in a copy of the data, a sentence each, beginning with the study's id; every image is read.

    Args:
        folder, part: see `RsnaDataset`.
        studies: only these.
        executor, workers, cancelled: see `run_cohort`.
        progress: called after each study with studies finished, studies in all, and the study's id.

    Raises:
        GaussianMRIError: no such layout, or no such study.
    """
    data = RsnaDataset(folder, part)
    chosen = data.studies if studies is None else list(studies)
    lines = [
        f"{study}: label coordinates of a study that is nowhere else"
        for study in data.tables.points
        if studies is None and study not in data.studies
    ]
    patients: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        report = run_cohort(
            chosen,
            functools.partial(_check, str(data.folder), part),
            scratch,
            executor=executor,
            workers=workers,
            receive=lambda study, patient: patients.setdefault(patient, []).append(study),
            progress=None if progress is None else lambda done, total, row: progress(done, total, row.item),
            cancelled=cancelled,
        )
    lines += [f"{row.item}: {line}" for row in report.rows.values() for line in row.lines]
    several = [sorted(ids) for ids in patients.values() if len(ids) > 1]
    if len(several) == 1 and len(several[0]) == len(chosen) > 2:
        lines.append(
            "All studies have the same Patient ID: no split by patient is possible. Give each its own."
        )
    else:
        lines += [
            f"{ids[0]}: the same patient as {', '.join(ids[1:])}; they go into one split" for ids in several
        ]
    return lines


def _check(folder: str, part: str, study_id: str) -> Outcome:
    """Read a study whole; its patient is the value, so that studies of one patient are found."""
    study = opened(folder, part).study(study_id)
    problems = list(study.problems)
    if not study.axial:
        problems.append("no axial series can be used")
    if study.sagittal_t2 is None:
        problems.append("no sagittal T2 series can be used")
    return Outcome(study.patient, lines=tuple(problems))


@functools.lru_cache(maxsize=1)
def opened(folder: str, part: str) -> RsnaDataset:
    """A data set whose tables are read once in each process."""
    return RsnaDataset(folder, part)
