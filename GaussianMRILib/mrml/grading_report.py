"""Grades of the scene as a DICOM Structured Report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import GaussianMRIError
from ..grading.labels import Task
from .dicom import dicom_files, stacks_from_volume
from .grading_state import grades_of, staleness, volumes_of_grades
from .planes import plane_from_node
from .scene import described


def export_structured_report(plane_node: Any, path: str | os.PathLike[str]) -> Path:
    """Write the grades on a plane as DICOM SR (TID 1500); see `GaussianMRILib.grading.structured_report`.

    Args:
        plane_node: markups plane with grades that still stand.
        path: the file; an existing one is replaced.

    Returns:
        The path.

    Raises:
        GaussianMRIError: no grades, stale ones; volumes that did not come from DICOM, whose files are gone, or that were
            moved out of their frame of reference; a file that cannot be written.
    """
    record = grades_of(plane_node)
    if record is None:
        raise GaussianMRIError(f"{described(plane_node)} has no grades to report; grade it first.")
    stale = staleness(plane_node)
    if stale:
        raise GaussianMRIError(f"The grades on {described(plane_node)} are stale: {stale}. Grade it again.")
    files: list[str] = []
    for volume in volumes_of_grades(plane_node):
        files += dict.fromkeys(dicom_files(volume))
        if stacks_from_volume(volume, poses="dicom")[0].frame_of_reference is None:
            raise GaussianMRIError(
                f"{described(volume)} was moved out of its DICOM frame of reference, in which a report has to say where "
                "the disc is. Take it out of its transform and grade again."
            )
    from ..grading.structured_report import ReportedGrade, write_structured_report

    grades = [
        ReportedGrade(
            Task(grade["condition"], grade["side"]),
            tuple(grade["probabilities"].values()),
            grade["text"],
            tuple(grade["notes"]),
            grade["calibrated"],
        )
        for grade in record["grades"]
    ]
    plane = plane_from_node(plane_node)
    return write_structured_report(path, files, record["level"], plane, record["reference_ras"], grades)
