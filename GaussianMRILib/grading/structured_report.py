"""Grades of a disc as a DICOM Structured Report (TID 1500) in the patient's study."""

from __future__ import annotations

import functools
import math
import os
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..geometry.affine import LPS_RAS
from ..geometry.plane import ImagePlane
from ..version import __version__
from .labels import DISCLAIMER, GRADES, LEVELS, Task

if TYPE_CHECKING:
    from pydicom import Dataset

#: SNOMED CT body structures of the discs, by level, as pydicom's dictionary of codes has them.
DISC_CODES = {
    "L1/L2": ("80064006", "Intervertebral disc structure of first lumbar vertebra"),
    "L2/L3": ("67459009", "Intervertebral disc structure of second lumbar vertebra"),
    "L3/L4": ("62551000", "Intervertebral disc structure of third lumbar vertebra"),
    "L4/L5": ("84020006", "Intervertebral disc structure of fourth lumbar vertebra"),
    "L5/S1": ("715056000", "Structure of intervertebral disc of L5 and S1"),
}
#: Sides, in SNOMED CT.
SIDE_CODES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
#: What no public scheme has: the conditions as the RSNA 2024 lumbar data set names them, and the joint class Normal/Mild.
PRIVATE_SCHEME = "99GAUSSIANMRI"
_SEVERITY_CODES = {
    "Normal/Mild": ("NORMAL_MILD", PRIVATE_SCHEME, "Normal or mild"),
    "Moderate": ("6736007", "SCT", "Moderate"),
    "Severe": ("24484000", "SCT", "Severe"),
}
_CONDITION_CODES = {
    "subarticular_stenosis": "SUBARTICULAR",
    "neural_foraminal_narrowing": "FORAMINAL",
    "spinal_canal_stenosis": "CANAL",
    "disc_degeneration": "DEGENERATION",
}
_PROBABILITY_CODES = {"Normal/Mild": "P_NORMAL_MILD", "Moderate": "P_MODERATE", "Severe": "P_SEVERE"}
_TITLE = "Stenosis grades (research)"
#: The same in every report: the device is this program.
DEVICE_UID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'GaussianMRI').int}"
_SERIES_NUMBER = 9101  # far from those that scanners give
#: What highdicom reads of the evidence without asking whether it is there, with what the standard allows in its place.
_TYPE_2 = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
           "StudyTime")  # fmt: skip


@dataclass(frozen=True)
class ReportedGrade:
    """A grade as a report states it.

    Attributes:
        task: condition and side.
        probabilities: of `GRADES`, in order; they sum to 1.
        text: the label as people see it ("L5/S1 left subarticular: moderate 0.61").
        facts: what has to stand beside it: checkpoint, its training data, kind of input, and so on.
        calibrated: whether the probabilities are; others have concepts of their own.

    Raises:
        GaussianMRIError: what are no probabilities.
    """

    task: Task
    probabilities: tuple[float, ...]
    text: str
    facts: tuple[str, ...] = ()
    calibrated: bool = False

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, dtype=np.float64)
        if values.shape != (len(GRADES),) or not (values >= 0).all() or abs(values.sum() - 1) > 1e-3:
            raise GaussianMRIError(
                f"A grade needs {len(GRADES)} probabilities that sum to 1, got {self.probabilities} for {self.task.title}."
            )

    @property
    def grade(self) -> str:
        """The most probable of `GRADES`."""
        return GRADES[int(np.argmax(self.probabilities))]


def write_structured_report(
    path: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    level: str,
    plane: ImagePlane,
    point: ArrayLike,
    grades: Sequence[ReportedGrade],
) -> Path:
    """Write grades of one disc as a Comprehensive 3D SR with the measurement report of TID 1500 (DICOM PS3.16).

    The report stays in the patient, study and frame of reference of its images. It has one measurement group with
    the plane's outline (a closed polygon, SCOORD3D), and one for each grade with a 3D point, which is what viewers
    show best: finding, side, severity and the probabilities of all grades. It is marked UNVERIFIED and PRELIMINARY,
    and every group carries the grade's facts and "Research use only".

    Args:
        path: the file; an existing one is replaced.
        images: the DICOM files that were graded, of one series or several of one study.
        level: such as "L5/S1".
        plane: of the disc; its outer corners are reported.
        point: (3,) RAS mm, the reference point of the graded region.
        grades: at least one.

    Returns:
        The path.

    Raises:
        GaussianMRIError: highdicom is not installed; no grade; images without frame of reference, of several studies
            or frames; a file that cannot be read or written, or would not say what it was given.
    """
    check_highdicom()
    target = Path(path)
    if level not in LEVELS:
        raise GaussianMRIError(f"There is no level '{level}' to report; levels are {', '.join(LEVELS)}.")
    if not grades:
        raise GaussianMRIError("There is no grade to report; grade the disc first.")
    corners = plane.corners()[[0, 1, 3, 2, 0]]
    place = np.asarray(point, dtype=np.float64)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise GaussianMRIError(f"The point of a report is three numbers (RAS mm), got {place}.")
    from ..stacks.dicom_pixels import save_dicom

    with warnings.catch_warnings():
        # pydicom warns of odd values by quoting them, names included.
        warnings.simplefilter("ignore")
        evidence, frame = evidence_of([Path(image) for image in images])
        report = _report(evidence, frame, level, lps(corners), lps(place[None]), grades)
        with atomic_write(target) as temporary:
            save_dicom(report, temporary)
            _read_back(temporary, target, lps(corners), lps(place[None]), grades)
    return target


def check_highdicom() -> None:
    """Say before any work that reports cannot be written.

    Raises:
        GaussianMRIError: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401  imported here to say what is missing
    except ImportError as error:
        raise GaussianMRIError(
            "Structured reports need highdicom; install it: pip install highdicom (Slicer brings it)."
        ) from error


def lps(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (..., 3) in DICOM's axes."""
    return points @ LPS_RAS[:3, :3].T


def evidence_of(paths: Sequence[Path]) -> tuple[list[Dataset], str]:
    """Headers of the images, and the frame of reference that they share.

    Raises:
        GaussianMRIError: no image; none or several studies or frames of reference.
    """
    from ..stacks.dicom_frames import read_header

    headers = [read_header(path) for path in paths]
    if not headers:
        raise GaussianMRIError(
            "A structured report needs the DICOM images that were graded; give their files."
        )
    for keyword, what in (("StudyInstanceUID", "study"), ("FrameOfReferenceUID", "frame of reference")):
        found = {str(header.get(keyword) or "") for header in headers}
        if found == {""} or "" in found:
            raise GaussianMRIError(f"{paths[0]} names no {what}, so a report cannot refer to a place in it.")
        if len(found) > 1:
            raise GaussianMRIError(
                f"The {len(paths)} images (of {paths[0].parent}) are of {len(found)} different values of {what}; "
                "a report needs one."
            )
    for header in headers:
        # highdicom takes over the first image's character set, and knows fewer of them than images have: not an empty
        # first value, with which Japanese and Korean scanners begin theirs.
        header.decode()
        header.SpecificCharacterSet = "ISO_IR 192"
        for keyword in _TYPE_2:
            if keyword not in header:
                setattr(header, keyword, "")
    return headers, str(headers[0].FrameOfReferenceUID)


def _report(
    evidence: list[Dataset],
    frame: str,
    level: str,
    polygon: NDArray[np.float64],
    point: NDArray[np.float64],
    grades: Sequence[ReportedGrade],
) -> Dataset:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    disc, group = disc_code(level), functools.partial(roi_group, frame)
    plane = group(
        f"{level} disc plane", "POLYGON", polygon, disc,
        finding_sites=[sr.FindingSite(disc)],
        algorithm_id=sr.AlgorithmIdentification("GaussianMRI grading", __version__, [DISCLAIMER]),
    )  # fmt: skip
    groups = [plane]
    for grade in grades:
        side = coded(SIDE_CODES[grade.task.side][0], "SCT", SIDE_CODES[grade.task.side][1]) if grade.task.side else None
        condition = grade.task.condition
        suffix, word = ("_C", "calibrated") if grade.calibrated else ("", "uncalibrated")
        shown = [
            sr.Measurement(
                coded(_PROBABILITY_CODES[name] + suffix, PRIVATE_SCHEME, f"Probability of {name}, {word}"),
                round(float(value), 4),
                codes.UCUM.NoUnits,
            )
            for name, value in zip(GRADES, grade.probabilities, strict=True)
        ]
        severity = sr.QualitativeEvaluation(codes.SCT.Severity, coded(*_SEVERITY_CODES[grade.grade]))
        groups.append(
            group(
                grade.text, "POINT", point,
                coded(_CONDITION_CODES[condition], PRIVATE_SCHEME, condition.replace("_", " ").capitalize()),
                finding_sites=[sr.FindingSite(disc, laterality=side)],
                algorithm_id=sr.AlgorithmIdentification(
                    "GaussianMRI grading", __version__, [*grade.facts, DISCLAIMER]
                ),
                measurements=shown,
                qualitative_evaluations=[severity],
            )
        )  # fmt: skip
    return document(evidence, groups, _TITLE)


def roi_group(frame: str, text: str, kind: str, places: NDArray[np.float64], finding: Any, **more: Any) -> Any:
    """A measurement group of TID 1500 at a place, LPS mm, with a tracking identifier that people can read."""
    from highdicom import sr
    from pydicom.uid import generate_uid

    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(generate_uid(prefix=None), text),
        referenced_region=sr.ImageRegion3D(kind, places, frame),
        finding_type=finding,
        **more,
    )


def document(evidence: list[Dataset], groups: Sequence[Any], title: str) -> Dataset:
    """An unverified, preliminary Comprehensive 3D SR of measurement groups."""
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    observer = sr.ObserverContext(
        codes.DCM.Device,
        sr.DeviceObserverIdentifyingAttributes(
            DEVICE_UID, f"GaussianMRI {__version__}", manufacturer_name="GaussianMRI", model_name="GaussianMRI"
        ),
    )
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=observer),
        codes.LN.MRIUnspecifiedBodyRegion,
        groups,
    )
    report = sr.Comprehensive3DSR(
        evidence,
        content[0],
        series_instance_uid=generate_uid(prefix=None),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="GaussianMRI",
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=title,
        software_versions=__version__,
        manufacturer_model_name="GaussianMRI",
        device_serial_number="none",
    )
    report.SpecificCharacterSet = "ISO_IR 192"  # no argument of every highdicom
    return report


def disc_code(level: str) -> Any:
    """The SNOMED CT code of a disc."""
    return coded(DISC_CODES[level][0], "SCT", DISC_CODES[level][1])


def coded(value: str, scheme: str, meaning: str) -> Any:
    """A coded concept; its meaning is cut to what DICOM takes."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning[:64])


def _read_back(
    path: Path,
    target: Path,
    polygon: NDArray[np.float64],
    point: NDArray[np.float64],
    grades: Sequence[ReportedGrade],
) -> None:
    """Read the report as any other and compare: one in the wrong place would be worse than none."""
    from highdicom.sr import srread

    content: Any = srread(path).content
    groups = content.get_planar_roi_measurement_groups()
    said = [(group.tracking_identifier, group.roi.value) for group in groups]
    wanted = [polygon] + [point] * len(grades)
    wrong = len(said) != len(wanted) or any(
        was.shape != should.shape or not math.isclose(np.abs(was - should).max(), 0, abs_tol=1e-2)
        for (_, was), should in zip(said, wanted, strict=False)
    )
    if wrong or [text for text, _ in said[1:]] != [grade.text for grade in grades]:
        raise GaussianMRIError(
            f"The report for {target} did not survive being written. Check that the plane is of a sensible size."
        )
