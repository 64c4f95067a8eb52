"""A folder of network inputs: a table of cases and, for each, the slices of its region of interest.

`cases.csv` has a row for every case, `images/<case>.npz` its slices, `crops.json` what holds for all of them, `patients.csv`
hashes that tell people apart across sets (`people`). The tables can be opened with anything, so that it is clear what a
network was trained and tested on.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, decimal, number, read_arrays, read_json, reading, table_rows
from .inputs import PREPROCESSING_VERSION
from .labels import GRADES, INPUT_TYPES, LEVELS, TASKS, Task
from .roi import RegionOptions

if TYPE_CHECKING:
    from .inputs import GradingInput

FORMAT = "GaussianMRI grading inputs"
VERSION = 1
_REGION = ("depth", "reference", "row", "width")  # the options that change how a region looks
SPLITS = ("train", "validation", "test")
_FIXED = ("case", "study_id", "patient", "level", "input_type", "split", "file", "outside", "synthetic")
COLUMNS = (*_FIXED, *(task.name for task in TASKS))


def preprocessing(
    region: RegionOptions | Mapping[str, Any] | None = None, version: int = PREPROCESSING_VERSION
) -> dict[str, Any]:
    """How images are cut out and scaled: what has to be the same for a network in training and in use."""
    given = region.to_dict() if isinstance(region, RegionOptions) else dict(region or {})
    options = {**RegionOptions().to_dict(), **given}
    return {"version": version, **{name: options[name] for name in _REGION}}


def region_options(known: Mapping[str, Any]) -> RegionOptions:
    """The reading of a region in what `preprocessing` gave: what a network was trained with, and refuses another than."""
    return RegionOptions(**{name: known[name] for name in _REGION if name in known})


def preprocessing_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same of one `GradingInput`, from its facts."""
    return preprocessing(facts.get("options"), facts.get("preprocessing", PREPROCESSING_VERSION))


@dataclass(frozen=True)
class Case:
    """One disc as one kind of image shows it: a row of `cases.csv`.

    Attributes:
        case_id: unique in its folder; letters, digits, ".", "_" and "-", as it names a file.
        study_id: of the scan.
        patient: who; all cases of a patient belong to one split.
        level: one of `LEVELS`.
        input_type: one of `INPUT_TYPES`.
        split: one of `SPLITS`, or "" while there is none.
        grades: grade (of `GRADES`) by `Task.name`; what nobody graded is left out.
        outside: share of the crop outside the scan, 0 to 1.
        synthetic: not of a human being.

    Raises:
        GaussianMRIError: a name that cannot name a file, or a level, type, split or grade that does not exist.
    """

    case_id: str
    study_id: str
    patient: str
    level: str
    input_type: str
    split: str = ""
    grades: Mapping[str, str] = field(default_factory=dict)
    outside: float = 0.0
    synthetic: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-][\w.-]*", self.case_id):
            raise GaussianMRIError(
                f"'{self.case_id}' cannot name a case; use letters, digits, '.', '_' and '-'."
            )
        known = ((self.level, LEVELS), (self.input_type, INPUT_TYPES), (self.split, (*SPLITS, "")))
        for value, allowed in known:
            if value not in allowed:
                raise GaussianMRIError(
                    f"Case {self.case_id}: '{value}' is none of {', '.join(filter(None, allowed))}."
                )
        for name, grade in self.grades.items():
            if grade not in GRADES or name not in COLUMNS[len(_FIXED) :]:
                raise GaussianMRIError(
                    f"Case {self.case_id}: '{grade}' of '{name}' is none of {', '.join(GRADES)} of a graded condition."
                )

    @property
    def file(self) -> str:
        """Where its slices are, relative to the folder."""
        return f"images/{self.case_id}.npz"

    def label(self, task: Task) -> int | None:
        """Number of its grade in `GRADES`, None where nobody graded it."""
        grade = self.grades.get(task.name)
        return None if grade is None else GRADES.index(grade)

    def row(self) -> list[str]:
        """Its cells in the order of `COLUMNS`."""
        values = {
            "case": self.case_id,
            "study_id": self.study_id,
            "patient": self.patient,
            "level": self.level,
            "input_type": self.input_type,
            "split": self.split,
            "file": self.file,
            "outside": f"{self.outside:.4f}",
            "synthetic": "yes" if self.synthetic else "no",
            **self.grades,
        }
        return [values.get(name, "") for name in COLUMNS]

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Case:
        """The inverse of `row`, from cells by column."""
        return cls(
            row["case"],
            row["study_id"],
            row["patient"],
            row["level"],
            row["input_type"],
            row["split"],
            {task.name: row[task.name] for task in TASKS if row.get(task.name)},
            decimal(row["outside"]),
            row["synthetic"] == "yes",
        )


class CropSet:
    """A folder of network inputs.

    Example:
        >>> crops = CropSet.create("crops", {"data": "RSNA 2024 lumbar spine, training part"})    # doctest: +SKIP
        >>> case = Case("7-L5S1-A", "7", "7", "L5/S1", "A", "train", {"left_subarticular_stenosis": "Moderate"})
        >>> crops.add(case, acquired_input(disc, stack, options))                                # doctest: +SKIP
        >>> images, mask = CropSet.read("crops").images(case)                                    # doctest: +SKIP

    Attributes:
        folder: where it is.
        facts: of the whole set: "data" says what it is (a sentence that models trained on it carry with them), "synthetic"
            whether it is, "preprocessing" how it was made (`preprocessing`); more is kept as it is.
        cases: by case id, so that what is learned does not depend on which process was the first to add its own.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], cases: Iterable[Case]) -> None:
        self.folder, self.facts = folder, facts
        self._cases = {case.case_id: case for case in cases}
        self._torn = False  # no row can be added to the table as it is

    # ---- making one

    @classmethod
    def create(cls, folder: str | os.PathLike[str], facts: Mapping[str, Any] | None = None) -> CropSet:
        """Make a set, or go on with the one that is in `folder`.

        Raises:
            GaussianMRIError: the set there was made with other facts, or the folder cannot be written.
        """
        target = Path(folder)
        mine = {"data": "", "synthetic": False, "preprocessing": preprocessing(), **(facts or {})}
        mine = json.loads(json.dumps(mine))  # as they are read again: tuples become lists
        if (target / "crops.json").exists():
            there = cls.read(target)
            changed = [name for name in {**there.facts, **mine} if there.facts.get(name) != mine.get(name)]
            if changed:
                raise GaussianMRIError(
                    f"{target} has inputs that were made otherwise ({', '.join(sorted(changed))}). Name another "
                    "folder, or delete that one."
                )
            return there
        try:
            (target / "images").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GaussianMRIError(f"{target} cannot be made: {error.strerror or error}.") from error
        created = cls(target, mine, [])
        created._write_table()
        header = {"format": FORMAT, "version": VERSION, "facts": mine}
        with atomic_write(target / "crops.json") as temporary:  # last: what has it is complete
            temporary.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
        return created

    def add(self, case: Case, inputs: GradingInput) -> Case:
        """Write the slices of a case and its row; what a kill leaves is a set without this case, or with it.

        Several processes may add to one folder. A case that is there already is replaced.

        Args:
            case: `outside` is taken from `inputs`.

        Returns:
            The case as it is in the table.

        Raises:
            GaussianMRIError: slices that are no (S, H, W) images of 0 to 1 with a mask (S,), that were made otherwise than
                those of the set, or a file that cannot be written.
        """
        made, wanted = preprocessing_of(inputs.facts), self.facts["preprocessing"]
        if made != wanted:
            raise GaussianMRIError(
                f"Case {case.case_id} was made by {made}, {self.folder} holds inputs made by {wanted}. "
                "Put it into a set of its own."
            )
        images, mask = np.asarray(inputs.images, np.float32), np.asarray(inputs.mask, bool)
        check_images(images, mask, f"Case {case.case_id}")
        case = replace(case, outside=float(inputs.outside))
        planes = [plane.ijk_to_ras for plane in inputs.planes]
        with atomic_write(self.folder / case.file) as temporary:
            np.savez_compressed(
                temporary,
                images=images.astype(np.float16),
                mask=mask,
                planes=np.array(planes, dtype=np.float64).reshape(-1, 4, 4),
                facts=np.array(json.dumps(inputs.facts, default=str)),
            )
        known = case.case_id in self._cases
        self._cases[case.case_id] = case
        if known or self._torn:
            self._write_table()
            return case
        # One write of one line at the end of the file: whole, also when others do the same at the same time.
        try:
            with open(self.folder / "cases.csv", "ab", buffering=0) as file:
                file.write(_lines([case.row()]).encode())
        except OSError as error:
            raise GaussianMRIError(
                f"{self.folder / 'cases.csv'} cannot be written: {error.strerror or error}. Free space."
            ) from error
        return case

    def drop(self, study: str, *, but: Collection[str] = ()) -> None:
        """Remove the cases of a study, but for some by their ids."""
        gone = [case for case in self._cases.values() if case.study_id == study and case.case_id not in but]
        for case in gone:
            del self._cases[case.case_id]
        if gone:
            self._write_table()
        for case in gone:
            (self.folder / case.file).unlink(missing_ok=True)

    def assign(self, splits: Mapping[str, str]) -> None:
        """Give every patient's cases a split: patient -> one of `SPLITS`; patients that are not named keep theirs."""
        for case in self.cases:
            self._cases[case.case_id] = replace(case, split=splits.get(case.patient, case.split))
        self._write_table()

    def _write_table(self) -> None:
        with atomic_write(self.folder / "cases.csv") as temporary:
            rows = [list(COLUMNS), *(case.row() for case in self.cases)]
            temporary.write_bytes(_lines(rows).encode())
        self._torn = False

    # ---- reading one

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> CropSet:
        """Read the table; slices are read when they are asked for.

        Raises:
            GaussianMRIError: no such set, one of a newer version, a damaged table, or a patient in two splits.
        """
        target = Path(folder)
        hint = "Make one with `gaussianmri grade prepare`."
        with reading(target / "crops.json", "the description of a folder of grading inputs", hint):
            header = read_json(target / "crops.json")
            if header["format"] != FORMAT:
                raise ValueError("another format")
            if number(header["version"], "version") > VERSION:
                raise GaussianMRIError(
                    f"{target} was written by a newer version ({header['version']}); update GaussianMRI."
                )
            facts = dict(header["facts"])
            number(facts["preprocessing"]["version"], "version of the preprocessing")
            region_options(facts["preprocessing"])
        with reading(target / "cases.csv", "a table of cases", hint):
            content = (target / "cases.csv").read_bytes()
        whole = content[: content.rfind(b"\n") + 1]  # a kill while the last row was written
        with reading(target / "cases.csv", "a table of cases"):
            cases = cls._parsed(target / "cases.csv", whole)
        read = cls(target, facts, cases)
        # Also a table that knew fewer conditions: the next row has more cells.
        read._torn = len(whole) < len(content) or not content.startswith(_lines([list(COLUMNS)]).encode())
        return read

    @staticmethod
    def _parsed(path: Path, content: bytes) -> list[Case]:
        rows = table_rows(content)
        names = tuple(rows.fieldnames or ())
        if names[: len(_FIXED)] != _FIXED or not set(names) <= set(COLUMNS):
            raise GaussianMRIError(f"{path} does not have the columns {', '.join(COLUMNS)}.")
        cases, splits = [], dict[str, str]()
        for row in rows:
            with reading(f"{path}, line {rows.line_num}", "a case"):
                case = Case.from_row(row)
            cases.append(case)
            if case.split and splits.setdefault(case.patient, case.split) != case.split:
                raise GaussianMRIError(
                    f"{path}: patient {case.patient} is in the splits {splits[case.patient]} and "
                    f"{case.split}; grades would be tested on who they were learned from."
                )
        return cases

    @property
    def cases(self) -> list[Case]:
        return sorted(self._cases.values(), key=lambda case: case.case_id)

    @property
    def patients(self) -> set[str]:
        """Who the cases are of, by the names that the table gives them."""
        return {case.patient for case in self._cases.values()}

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __contains__(self, case_id: str) -> bool:
        return case_id in self._cases

    def chosen(
        self,
        split: str | None = None,
        input_types: Iterable[str] | None = None,
        levels: Iterable[str] | None = None,
        task: Task | None = None,
    ) -> list[Case]:
        """Cases of a split, of input types, of levels, and with a grade for a task; None is no restriction."""
        types, places = set(input_types or INPUT_TYPES), set(levels or LEVELS)
        return [
            case
            for case in self.cases
            if split in (None, case.split)
            and case.input_type in types
            and case.level in places
            and (task is None or case.label(task) is not None)
        ]

    def images(self, case: Case) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Slices (S, H, W) of 0 to 1, inferior to superior, and which of them exist (S,).

        Raises:
            GaussianMRIError: the file is missing or damaged.
        """
        path = self.folder / case.file
        again = f"Prepare study {case.study_id} again."
        with reading(path, "a file of grading inputs", again, again):
            content = read_arrays(path)
            images, mask = content["images"], content["mask"]
            if images.dtype != np.float16 or mask.dtype != bool:
                raise ValueError(f"it has {images.dtype} images and a mask of {mask.dtype}")
            check_images(images.astype(np.float32), mask, "The images")
        return images, mask


def labels_of(cases: Iterable[Case], task: Task) -> list[int]:
    """Numbers of the grades of cases.

    Raises:
        GaussianMRIError: a case that nobody graded; leave it out with `CropSet.chosen`.
    """
    found = []
    for case in cases:
        label = case.label(task)
        if label is None:
            raise GaussianMRIError(f"Case {case.case_id} has no grade of {task.title}.")
        found.append(label)
    return found


def check_images(images: NDArray[np.float32], mask: NDArray[np.bool_], what: str) -> None:
    """Refuse what a network must not see: other shapes, no slice at all, NaN, values beyond 0 to 1.

    Args:
        images: (S, H, W).
        mask: (S,), which slices exist.
        what: named in the message.

    Raises:
        GaussianMRIError: see above.
    """
    if images.ndim != 3 or mask.shape != images.shape[:1] or not mask.any():
        raise GaussianMRIError(
            f"{what}: expected slices (S, H, W) and a mask (S,) with at least one slice, got {images.shape} and "
            f"{mask.shape} with {int(mask.sum())}."
        )
    low, high = float(images[mask].min()), float(images[mask].max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN too
        raise GaussianMRIError(f"{what}: intensities must be 0 to 1, they are {low:.3g} to {high:.3g}.")


def _lines(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
