"""Whether what a study was made of is still the same, and what was made of it still there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..files import files_below
from .report import DONE, CohortRow


def fingerprint(paths: Iterable[Path]) -> str:
    """A name for files and what lies in folders, another one after any change: by their paths, sizes and times."""
    found = hashlib.sha256()
    for path in paths:
        for file in files_below(path) if path.is_dir() else [path]:
            with contextlib.suppress(OSError):  # what is not there has no line
                state = os.stat(file)
                found.update(os.fsencode(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n"))
    return found.hexdigest()[:16]


def is_done(row: CohortRow | None, inputs: str, folder: Path) -> bool:
    """Whether a row's study is done, of these inputs, and its files are there."""
    return (
        row is not None
        and row.outcome == DONE
        and row.inputs == inputs
        and all((folder / name).is_file() for name in row.files)
    )


def remove_outdated(before: CohortRow | None, rows: Mapping[str, CohortRow], folder: Path) -> None:
    """Remove files of an earlier run of a study that no row has any more, such as those of a plane that is gone."""
    root = os.path.realpath(folder)
    kept = {name for row in rows.values() for name in row.files}
    for name in set(before.files if before else ()) - kept:
        if Path(os.path.realpath(folder / name)).is_relative_to(root):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
