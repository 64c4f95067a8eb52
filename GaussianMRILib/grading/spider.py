"""Reader of the SPIDER lumbar spine data (Zenodo 10159290, CC BY 4.0) as its users have it on disk.

Layout: `images/{patient}_t1.mha`, `_t2.mha` and `_t2_SPACE.mha`, `masks/` with the same names, `radiological_gradings.csv`
with a row for each patient and disc, `overview.csv`, which is not needed here. Source: van der Graaf et al., "Lumbar spine
segmentation in MR images: a dataset and a public benchmark", Scientific Data 11:264 (2024). Its gradings have no stenosis:
of each disc the Pfirrmann grade (1 to 5), which becomes the condition `disc_degeneration` here; the others are not used.
Vertebrae and discs are counted from below: number 1 is taken as L5, and as L5/S1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import GaussianMRIError
from ..files import decimal, reading, table_rows
from ..labels import read_labels
from ..stacks import SliceStack, read_stacks
from .label_schemes import SPIDER
from .labels import GRADES, LEVELS, SAGITTAL_TYPES, Task
from .rsna import RsnaStudy
from .rsna_tables import SAGITTAL_T1, SAGITTAL_T2
from .spine_labels import SpineLabels

TABLE = "radiological_gradings.csv"
_PATIENT, _DISC, _PFIRRMANN = "Patient", "IVD label", "Pfirrman grade"
_NAME = re.compile(r"(\d+)_(t1|t2|t2_SPACE)\.mha")
#: Pfirrmann 1 and 2 (bright nucleus), 3, 4 and 5 (dark or collapsed).
_GRADE_OF = {1: GRADES[0], 2: GRADES[0], 3: GRADES[1], 4: GRADES[2], 5: GRADES[2]}
_DEGENERATION = Task("disc_degeneration")
_SAME_PLACE_MM = 5.0


class SpiderDataset:
    """A copy of the data, read as an `RsnaDataset` is.

    Args:
        folder: with `images`, `masks` and the CSV files.

    Attributes:
        studies: numbers of the patients, sorted.
        problems: what is wrong in the table, by patient.

    Raises:
        GaussianMRIError: no such layout there, or a table that cannot be read.
    """

    types = SAGITTAL_TYPES
    graded = True
    words = "SPIDER lumbar spine (Zenodo 10159290, CC BY 4.0), Pfirrmann 1-2, 3, 4-5"

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        for name in ("images", "masks"):
            if not (self.folder / name).is_dir():
                raise GaussianMRIError(
                    f"{self.folder} has no {name}. Unpack images.zip and masks.zip of the SPIDER data beside {TABLE}."
                )
        self.files: dict[str, dict[str, Path]] = {}
        for path in sorted((self.folder / "images").iterdir()):
            if found := _NAME.fullmatch(path.name):
                self.files.setdefault(found[1], {})[found[2]] = path
        self.studies = sorted(self.files)
        self.problems: dict[str, list[str]] = {}
        self._grades = self._read_table()

    def __len__(self) -> int:
        return len(self.studies)

    def _read_table(self) -> dict[tuple[str, str], str]:
        path = self.folder / TABLE
        found: dict[tuple[str, str], int] = {}
        wrong = set()
        with reading(path, "the table of gradings of the SPIDER data", "Copy it again."):
            rows = table_rows(path.read_bytes())
            names = {(name or "").strip(): name for name in rows.fieldnames or ()}
            missing = [name for name in (_PATIENT, _DISC, _PFIRRMANN) if name not in names]
            if missing:
                raise GaussianMRIError(f"{path} has no column {missing[0]}; it is not the table of that name.")
            for row in rows:
                texts = [row[names[name]] for name in (_PATIENT, _DISC, _PFIRRMANN)]
                try:
                    patient, disc, grade = (_whole(text) for text in texts)
                except (TypeError, ValueError):
                    self._note(str(texts[0]).strip(), f"line {rows.line_num} of {TABLE} is not of whole numbers")
                    continue
                if not 1 <= disc <= len(LEVELS):
                    continue
                key = str(patient), LEVELS[-disc]
                if grade not in _GRADE_OF:
                    self._note(key[0], f"{key[1]}: Pfirrmann grade {grade} does not exist ({TABLE})")
                elif found.setdefault(key, grade) != grade:
                    self._note(key[0], f"{key[1]}: Pfirrmann grades {found[key]} and {grade}; none is used ({TABLE})")
                    wrong.add(key)
        return {key: _GRADE_OF[grade] for key, grade in found.items() if key not in wrong}

    def _note(self, patient: str, problem: str) -> None:
        self.problems.setdefault(patient, []).append(problem)

    def files_of(self, study_id: str) -> list[Path]:
        """Files that have something of a study."""
        images = list(self.files.get(study_id, {}).values())
        return [*images, *(self.folder / "masks" / path.name for path in images), self.folder / TABLE]

    def identity(self, study_id: str) -> tuple[str, bool]:
        """Who a study is of, whatever copy of the data it is in, and whether it is a phantom."""
        return f"SPIDER {study_id}", False

    def grades_at(self, study_id: str, level: str) -> dict[str, str]:
        """Grades of one level of a study by `Task.name`."""
        grade = self._grades.get((study_id, level))
        return {} if grade is None else {_DEGENERATION.name: grade}

    def study(self, study_id: str, series: Iterable[str] = (SAGITTAL_T1, SAGITTAL_T2)) -> RsnaStudy:
        """Read a study: its sagittal series (of T2 the two-dimensional one, where there is one) and the mask of T2.

        Args:
            series: descriptions of those that are wanted.

        Raises:
            GaussianMRIError: no such study, no T2 series, or files that cannot be read.
        """
        files = self.files.get(study_id, {})
        t2 = files.get("t2", files.get("t2_SPACE"))
        if t2 is None:
            raise GaussianMRIError(f"{self.folder / 'images'} has no T2 series of patient {study_id}.")
        grades = {_DEGENERATION.column(level): grade for (who, level), grade in self._grades.items() if who == study_id}
        study = RsnaStudy(study_id, study_id, grades=grades, problems=list(self.problems.get(study_id, [])))
        study.sagittal_t2, study.labels = _sagittal(t2), self._labels(t2)
        if SAGITTAL_T1 in series and "t1" in files:
            study.sagittal_t1 = _sagittal(files["t1"])
            if moved := _apart(study.labels, self._labels(files["t1"])):
                study.sagittal_t1 = None
                study.problems.append(f"the T1 series is left out: its discs lie up to {moved:.0f} mm from those of T2")
        return study

    def _labels(self, image: Path) -> SpineLabels:
        path = self.folder / "masks" / image.name
        return SpineLabels(read_labels(path), SPIDER, str(path))


def _whole(text: str) -> int:
    value = decimal(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)


def _sagittal(path: Path) -> SliceStack:
    (stack,) = read_stacks([path])
    if not stack.is_sagittal:
        raise GaussianMRIError(f"{path} is not sagittal; it is no series of the SPIDER data.")
    # Beyond the edge of the scan some files have -1000.
    return replace(stack, pixels=np.maximum(stack.pixels, 0), notes=())


def _apart(one: SpineLabels, other: SpineLabels) -> float:
    """mm between the discs of two masks, where they are further apart than anybody lies still; else 0."""
    both = [value for value in SPIDER.discs.values() if value in one.places and value in other.places]
    far = max((float(np.linalg.norm(one.places[v] - other.places[v])) for v in both), default=np.inf)
    return far if far > _SAME_PLACE_MM else 0.0
