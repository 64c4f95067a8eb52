"""What became of every study of a cohort: a table that is read again when a run goes on."""

from __future__ import annotations

import csv
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from ..files import atomic_write, number, reading

DONE, FAILED = "done", "failed"
_COLUMNS = ("item", "outcome", "seconds", "problems")
_BETWEEN = " | "  # lines of one study in one cell


@dataclass(frozen=True)
class CohortRow:
    """One study: `outcome` is "done" or "failed", `lines` what its user should know, `seconds` its time."""

    item: str
    outcome: str
    _: KW_ONLY
    seconds: float = 0.0
    lines: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for people; "" where there is nothing to say."""
        if self.outcome == DONE and not self.lines:
            return ""
        return f"{self.item}: {'failed: ' if self.outcome == FAILED else ''}{_BETWEEN.join(self.lines)}"


@dataclass
class CohortReport:
    """Rows in the order of the studies.

    Attributes:
        path: the CSV file, columns item, outcome, seconds, problems.
        cancelled: the run was stopped; the same call goes on with it.
        resumed: how many studies were done by an earlier run.
    """

    path: Path
    _: KW_ONLY
    rows: dict[str, CohortRow] = field(default_factory=dict)
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
        """Such as "12 studies: 10 done (3 with remarks), 2 failed"."""
        remarks = sum(bool(row.lines) for row in self.rows.values() if row.outcome == DONE)
        text = f"{len(self.rows)} studies: {len(self.done)} done ({remarks} with remarks), {len(self.failed)} failed"
        return text + (", then cancelled" if self.cancelled else "")

    def write(self) -> None:
        """Write the table, whole or not at all."""
        with atomic_write(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for row in self.rows.values():
                writer.writerow([row.item, row.outcome, f"{row.seconds:.2f}", _BETWEEN.join(row.lines)])

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
        with reading(path, "a report of a cohort", hint), path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
            if tuple(header) != _COLUMNS:
                raise ValueError(f"it has not the columns {', '.join(_COLUMNS)}")
            for item, outcome, seconds, problems in rows:
                if outcome not in (DONE, FAILED):
                    raise ValueError(f"{outcome!r} is no outcome")
                lines = tuple(problems.split(_BETWEEN)) if problems else ()
                report.rows[item] = CohortRow(item, outcome, seconds=number(float(seconds), "seconds", 0), lines=lines)
        return report
