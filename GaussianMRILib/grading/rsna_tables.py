"""The tables of the RSNA 2024 lumbar spine data: grades, series and label coordinates, with what is wrong in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import GaussianMRIError
from ..files import decimal, reading, table_rows
from .labels import GRADES, LEVELS, STENOSES

AXIAL, SAGITTAL_T2, SAGITTAL_T1 = "Axial T2", "Sagittal T2/STIR", "Sagittal T1"
DESCRIPTIONS = (AXIAL, SAGITTAL_T2, SAGITTAL_T1)
#: Conditions as the columns of grades name them, in their order; coordinates have them as words with capitals.
RSNA_CONDITIONS = tuple(task.name for task in (STENOSES[0], *STENOSES[3:], *STENOSES[1:3]))
_COLUMNS = {f"{c}_{level.lower().replace('/', '_')}" for c in RSNA_CONDITIONS for level in LEVELS}


@dataclass(frozen=True)
class LabelPoint:
    """Where a reader marked a condition.

    Attributes:
        condition: such as "left_subarticular_stenosis".
        level: such as "L5/S1".
        series, instance: the series' folder and the DICOM Instance Number of the image.
        x, y: pixel column and row; 0, 0 is the centre of the first pixel.
    """

    condition: str
    level: str
    series: str
    instance: int
    x: float
    y: float


@dataclass
class RsnaTables:
    """What the CSV files of a copy of the data say, by study.

    Attributes:
        grades: grade by column such as "left_subarticular_stenosis_l5_s1"; blank ones are left out.
        series: description by series id.
        points: label coordinates.
        problems: what is wrong; a study's rows that contradict each other are not used.
        graded: whether there is a table of grades at all (the test part has none).
    """

    grades: dict[str, dict[str, str]] = field(default_factory=dict)
    series: dict[str, dict[str, str]] = field(default_factory=dict)
    points: dict[str, list[LabelPoint]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    graded: bool = False

    def note(self, study: str, problem: str, table: Path | None = None) -> None:
        """Keep a problem, once, with the table that has it."""
        problem = problem if table is None else f"{problem} ({table.name})"
        known = self.problems.setdefault(study, [])
        if problem not in known:
            known.append(problem)

    @classmethod
    def read(cls, folder: Path, part: str = "train") -> RsnaTables:
        """Read `{part}.csv`, `{part}_series_descriptions.csv` and `{part}_label_coordinates.csv`.

        Raises:
            GaussianMRIError: there are no series descriptions, or a table has not the columns of its kind.
        """
        tables = cls()
        descriptions = folder / f"{part}_series_descriptions.csv"
        if not descriptions.is_file():
            raise GaussianMRIError(
                f"{folder} has no {descriptions.name}. Give the folder that holds {part}_images and the CSV files of "
                "the RSNA 2024 lumbar spine data."
            )
        tables._read_series(descriptions)
        for name, read in (
            (f"{part}.csv", tables._read_grades),
            (f"{part}_label_coordinates.csv", tables._read_points),
        ):
            if (folder / name).is_file():
                read(folder / name)
        return tables

    def _read_series(self, path: Path) -> None:
        contradicted: set[tuple[str, str]] = set()
        for row in _rows(path, ("study_id", "series_id", "series_description")):
            study, series, description = row["study_id"], row["series_id"], row["series_description"]
            if description not in DESCRIPTIONS:
                self.note(
                    study, f"series {series} has the unknown description '{description}' and is left out", path
                )
                continue
            before = self.series.setdefault(study, {}).setdefault(series, description)
            if before != description:
                self.note(
                    study, f"series {series} is described as {before} and as {description}; it is left out", path
                )
                contradicted.add((study, series))
        for study, series in contradicted:
            del self.series[study][series]

    def _read_grades(self, path: Path) -> None:
        self.graded = True
        contradicted: set[tuple[str, str]] = set()
        for row in _rows(path, ("study_id",)):
            study = row["study_id"]
            columns = {name: grade for name, grade in row.items() if name in _COLUMNS}
            if not columns:
                raise GaussianMRIError(f"{path} has no column such as left_subarticular_stenosis_l5_s1.")
            if study in self.grades:
                self.note(study, f"{path.name} has the study more than once")
            known = self.grades.setdefault(study, {})
            for name, grade in columns.items():
                if grade and grade not in GRADES:
                    self.note(study, f"{name} has the unknown grade '{grade}' and counts as blank", path)
                elif grade and known.setdefault(name, grade) != grade:
                    self.note(study, f"{name} is {known[name]} and {grade}; it counts as blank", path)
                    contradicted.add((study, name))
        for study, name in contradicted:
            del self.grades[study][name]

    def _read_points(self, path: Path) -> None:
        for row in _rows(path, ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")):
            study = row["study_id"]
            condition = row["condition"].lower().replace(" ", "_")
            try:
                point = LabelPoint(
                    condition, row["level"], row["series_id"], int(row["instance_number"]),
                    decimal(row["x"]), decimal(row["y"]),
                )  # fmt: skip
            except ValueError:
                self.note(study, f"the coordinates of {row['condition']} {row['level']} are not numbers", path)
                continue
            if condition not in RSNA_CONDITIONS or point.level not in LEVELS:
                self.note(
                    study, f"coordinates of the unknown '{row['condition']} {row['level']}' are left out", path
                )
            elif not (math.isfinite(point.x) and math.isfinite(point.y)):
                self.note(study, f"the coordinates of {row['condition']} {row['level']} are not numbers", path)
            elif point in self.points.setdefault(study, []):
                self.note(study, f"the coordinates of {row['condition']} {row['level']} are there twice", path)
            else:
                self.points[study].append(point)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a table by column, blanks stripped.

    Raises:
        GaussianMRIError: it cannot be read, lacks a column, or a row is cut short.
    """
    with reading(path, "a table of the RSNA data", "Copy it again."):
        reader = table_rows(path.read_bytes())
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise GaussianMRIError(f"{path} has no column {missing[0]}; it is not the table of that name.")
        for row in reader:
            if None in row or None in row.values():
                raise GaussianMRIError(
                    f"{path}, line {reader.line_num}, has another number of cells than the header; copy it again."
                )
            if any("\x00" in value for value in row.values()):
                raise ValueError(f"line {reader.line_num} has a NUL")
            yield {name: value.strip() for name, value in row.items()}
