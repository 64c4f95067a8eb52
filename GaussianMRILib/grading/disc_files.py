"""Which file of a user has the discs of a study, and reading it, whatever its kind."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import GaussianMRIError
from ..files import reading
from ..stacks import SliceStack
from ..stacks.volumes import is_volume
from .disc import DiscGeometry
from .labels import LEVELS

#: What a study's file of discs may end in, in the order in which it is looked for.
SUFFIXES = (".json", ".csv", ".nii.gz", ".nii", ".nrrd", ".mha")


def find_disc_file(source: str | os.PathLike[str], study: str, images: Path | None = None) -> Path:
    """The file of one study.

    Args:
        source: a file; a name with `{study}` in it; a folder that has `{study}.json`, `{study}/discs.json` or files of the
            same names with another of `SUFFIXES`; or the name of a file in the study's own folder, such as "discs.json".
        study: id of the study.
        images: the study's own folder.

    Raises:
        GaussianMRIError: there is none.
    """
    text = os.fspath(source)
    if "{study}" in text:
        tried = [Path(text.replace("{study}", study))]
    elif Path(text).is_dir():
        names = [f"{study}{suffix}" for suffix in SUFFIXES] + [
            f"{study}/discs{suffix}" for suffix in SUFFIXES
        ]
        tried = [Path(text) / name for name in names]
    else:
        tried = [Path(text)] if images is None else [images / text, Path(text)]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        raise GaussianMRIError(
            f"There are no discs of study {study}: {tried[0]} is not there"
            + (", nor a file of another kind beside it." if len(tried) > 2 else ".")
        )
    return found


def whole_source(source: str | None) -> str | None:
    """The same source in whichever folder a process runs; the mere name of a file is one in each study's folder."""
    if source is None or not ("{study}" in source or Path(source).is_dir()):
        return source
    return os.path.abspath(source)


def disc_files(source: str | None, study: str, images: Path) -> list[Path]:
    """The file that the discs of a study are read from, by `find_disc_file`; none where there is none."""
    try:
        return [] if source is None else [find_disc_file(source, study, images)]
    except GaussianMRIError:
        return []


def check_disc_source(source: str | None, studies: int) -> None:
    """Refuse one file of discs for several studies: discs belong to one study.

    Raises:
        GaussianMRIError: `source` is such a file.
    """
    if source is not None and "{study}" not in source and studies > 1 and Path(source).is_file():
        raise GaussianMRIError(
            f"{source} is one file for {studies} studies; discs belong to one study. Give a folder, or a name with "
            "{study} in it."
        )


def read_disc_file(
    path: Path, sagittal: SliceStack | None, levels: Iterable[str] = LEVELS
) -> tuple[dict[str, DiscGeometry], list[str]]:
    """The discs in a file: of `write_discs`, SpineNet's exported detections, or a label map of TotalSpineSeg or SPINEPS.

    Args:
        sagittal: the series that SpineNet saw, or that crosses the discs of a label map.
        levels: those of interest; what a label map lacks of them is a problem.

    Returns:
        discs by level, and what is wrong with the others.

    Raises:
        GaussianMRIError: nothing in it can be read.
    """
    from .disc_sources import read_discs, read_vert_dicts

    wanted = list(levels)
    if is_volume(path):
        from .spine_labels import read_spine_labels

        discs, reasons = read_spine_labels(path).discs(wanted, sagittal)
        problems = [f"{level}: {reason}" for level, reason in reasons.items()]
        return discs, problems
    if path.suffix.lower() == ".json" and _is_ours(path):
        found = read_discs(path)
    else:
        if sagittal is None:
            raise GaussianMRIError(f"{path} has detections in a sagittal series, which this study lacks.")
        found = read_vert_dicts(path, sagittal)
    return {level: disc for level, disc in found.items() if level in wanted}, []


def _is_ours(path: Path) -> bool:
    with reading(path, "a file of discs"):
        found = '"sagittal_depth"' in path.read_text(encoding="utf-8")
    return found
