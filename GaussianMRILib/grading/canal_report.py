"""Measures of the canal as a DICOM Structured Report (TID 1500) in the patient's study."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GaussianMRIError
from ..files import atomic_write, files_below
from ..version import __version__
from .canal import CUTOFFS_TEXT, CanalMeasure
from .labels import DISCLAIMER
from .structured_report import (
    PRIVATE_SCHEME,
    check_highdicom,
    coded,
    disc_code,
    document,
    evidence_of,
    lps,
    roi_group,
)

if TYPE_CHECKING:
    from ..stacks import SliceStack

_TITLE = "Canal measures (research)"


def write_canal_report(
    path: str | os.PathLike[str], images: Sequence[str | os.PathLike[str]], measures: Sequence[CanalMeasure]
) -> Path:
    """Write measures of the canal as a Comprehensive 3D SR with the measurement report of TID 1500 (DICOM PS3.16).

    Each level that was measured is a measurement group at the middle of the canal's section (SCOORD3D): the area in mm2 and
    the anteroposterior diameter in mm (UCUM), the disc as the finding's site, the cut-offs of the literature as text. Levels
    without a number have no group. The report is marked UNVERIFIED and PRELIMINARY.

    Args:
        path: the file; an existing one is replaced.
        images: the DICOM files that were segmented, of one series or several of one study.
        measures: at least one with a number.

    Returns:
        The path.

    Raises:
        GaussianMRIError: highdicom is not installed; nothing was measured; images without frame of reference, of several
            studies or frames; a file that cannot be read or written, or would not say what it was given.
    """
    check_highdicom()
    target = Path(path)
    measured = [measure for measure in measures if measure.area is not None]
    if not measured:
        raise GaussianMRIError("The canal was measured at no level, so that there is nothing to report.")
    from ..stacks.dicom_pixels import save_dicom

    with warnings.catch_warnings():
        # pydicom warns of odd values by quoting them, names included.
        warnings.simplefilter("ignore")
        evidence, frame = evidence_of([Path(image) for image in images])
        report = document(evidence, [_group(measure, frame) for measure in measured], _TITLE)
        with atomic_write(target) as temporary:
            save_dicom(report, temporary)
            _read_back(temporary, target, measured)
    return target


def _group(measure: CanalMeasure, frame: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    numbers = [
        sr.Measurement(
            codes.SCT.Area, round(float(measure.area or 0), 2), codes.UCUM.SquareMillimeter,
            method=coded("DISC_PLANE", PRIVATE_SCHEME, "Mean of sections along the disc, 3 mm"),
        ),
        sr.Measurement(
            codes.SCT.Diameter, round(float(measure.diameter or 0), 2), codes.UCUM.Millimeter,
            method=coded("AP_MIDDLE", PRIVATE_SCHEME, "Front to back through the middle of the section"),
        ),
    ]  # fmt: skip
    facts = [f"Area within {measure.uncertainty:.0f} mm2 by the label map", *measure.notes, CUTOFFS_TEXT, DISCLAIMER]
    return roi_group(
        frame, f"{measure.level} canal", "POINT", lps(np.array([measure.center], np.float64)),
        codes.SCT.SpinalCanalStructure,
        finding_sites=[sr.FindingSite(disc_code(measure.level))],
        algorithm_id=sr.AlgorithmIdentification("GaussianMRI canal measures", __version__, facts),
        measurements=numbers,
    )  # fmt: skip


def _read_back(path: Path, target: Path, measured: Sequence[CanalMeasure]) -> None:
    """Read the report as any other and compare."""
    from highdicom.sr import srread

    content: Any = srread(path).content
    said = [
        (group.tracking_identifier, *(float(number.value) for number in group.get_measurements()))
        for group in content.get_planar_roi_measurement_groups()
    ]
    wanted = [(f"{m.level} canal", round(m.area or 0, 2), round(m.diameter or 0, 2)) for m in measured]
    if said != wanted:
        raise GaussianMRIError(f"The report for {target} did not survive being written; nothing is kept of it.")


def report_images(paths: Sequence[Path], stacks: Sequence[SliceStack]) -> list[Path]:
    """The DICOM files, among files and folders, that hold slices of some stacks."""
    from ..stacks.dicom_frames import looks_like_dicom, read_header

    wanted = {uid for stack in stacks for uid in stack.source.get("slice_instance_uids", ())}
    below = (file for path in paths for file in ([path] if path.is_file() else files_below(path)))
    files = [file for file in below if file.is_file()]
    return [file for file in files if looks_like_dicom(file) and read_header(file).get("SOPInstanceUID") in wanted]
