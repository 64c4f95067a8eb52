"""What became of every study of a cohort: a table that is read again when a run goes on."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from ..files import atomic_write, decimal, number, reading, table_rows

DONE, FAILED = "done", "failed"
_COLUMNS = ("item", "outcome", "seconds", "stacks", "files", "inputs", "problems")
_BETWEEN = " | "  # lines or stacks of one study in one cell; names of files may have it in them, and are JSON
_ENCODING = "utf-8-sig"  # with the mark by which spreadsheets know it; read with and without
_ERRORS = "surrogateescape"  # the name of a folder may be no UTF-8


@dataclass(frozen=True)
class CohortRow:
    """One study.

    Attributes:
        outcome: "done" or "failed".
        seconds: its time.
        lines: what its user should know.
        stacks: what was used.
        files: what was made, by names below the folder of the report.
        inputs: stands for what its files were made of, see `fingerprint`.
    """

    item: str
    outcome: str
    _: KW_ONLY
    seconds: float = 0.0
    lines: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    inputs: str = ""

    @property
    def text(self) -> str:
        """One line for people; "" where there is nothing to say."""
        if self.outcome == DONE and not self.lines:
            return ""
        return f"{self.item}: {'failed: ' if self.outcome == FAILED else ''}{_BETWEEN.join(self.lines)}"


@dataclass
class CohortReport:
    """Rows in the order of the studies; those that were there before a run keep their places.

    Attributes:
        path: the CSV file, columns item, outcome, seconds, stacks, files, inputs, problems.
        rows: also those of other runs into the folder.
        asked: studies of this run.
        cancelled: the run was stopped; the same call goes on with it.
        resumed: how many of them were done by an earlier run.
    """

    path: Path
    _: KW_ONLY
    rows: dict[str, CohortRow] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    cancelled: bool = False
    resumed: int = 0

    @property
    def done(self) -> list[str]:
        """Studies whose job ended well."""
        return [row.item for row in self.rows.values() if row.outcome == DONE]

    @property
    def failed(self) -> list[str]:
        """Studies whose job did not; the next run tries them again."""
        return [row.item for row in self.rows.values() if row.outcome == FAILED]

    @property
    def lines(self) -> list[str]:
        """A line for each study that failed or has something to say."""
        return [row.text for row in self.rows.values() if row.text]

    @property
    def summary(self) -> str:
        """Such as "12 studies: 10 done (3 with remarks), 2 failed; 4 kept from an earlier run"."""
        remarks = sum(bool(row.lines) for row in self.rows.values() if row.outcome == DONE)
        text = f"{len(self.rows)} studies: {len(self.done)} done ({remarks} with remarks), {len(self.failed)} failed"
        kept = f"; {self.resumed} kept from an earlier run" if self.resumed else ""
        return text + (", then cancelled" if self.cancelled else "") + kept

    def write(self) -> None:
        """Write the table, whole or not at all."""
        with atomic_write(self.path) as partial, open(partial, "w", newline="", encoding=_ENCODING, errors=_ERRORS) as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for row in self.rows.values():
                files = json.dumps(row.files, ensure_ascii=False) if row.files else ""
                cells = [_BETWEEN.join(row.stacks), files, row.inputs, _BETWEEN.join(row.lines)]
                writer.writerow([row.item, row.outcome, f"{row.seconds:.2f}", *cells])

    @classmethod
    def read(cls, path: Path) -> CohortReport:
        """The report of an earlier run; without rows where there is none.

        Raises:
            GaussianMRIError: the file is no such report.
        """
        report = cls(path)
        if not path.exists():
            return report
        hint = "Delete it to begin anew, or choose another folder."
        with reading(path, "a report of a cohort", hint):
            rows = table_rows(path.read_bytes(), _ERRORS)
            if tuple(rows.fieldnames or ()) != _COLUMNS:
                raise ValueError(f"it has not the columns {', '.join(_COLUMNS)}")
            for row in rows:
                item, outcome, seconds, stacks, files, inputs, problems = row.values()
                if outcome not in (DONE, FAILED):
                    raise ValueError(f"{outcome!r} is no outcome")
                report.rows[item] = CohortRow(
                    item, outcome, seconds=number(decimal(seconds), "seconds", 0), lines=_parts(problems),
                    stacks=_parts(stacks), files=_names(files), inputs=inputs,
                )  # fmt: skip
        return report


def with_row(rows: Mapping[str, CohortRow], row: CohortRow, studies: Sequence[str]) -> dict[str, CohortRow]:
    """The rows with one more or a newer one: in its place if it has one, else before the next of the run's studies."""
    if row.item in rows:
        return {**rows, row.item: row}
    later = set(studies[studies.index(row.item) + 1 :])
    items = list(rows.items())
    place = next((number for number, (item, _) in enumerate(items) if item in later), len(items))
    return dict([*items[:place], (row.item, row), *items[place:]])


def _names(cell: str) -> tuple[str, ...]:
    names = json.loads(cell) if cell else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{cell!r} is no list of files")
    return tuple(names)


def _parts(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(_BETWEEN)) if cell else ()
