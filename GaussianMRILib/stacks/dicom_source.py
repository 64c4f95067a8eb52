"""What a derived DICOM series has to repeat of the series it was made from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .dicom_frames import Frame, read_header

if TYPE_CHECKING:
    from pydicom import Dataset

#: Patient, Study, Frame of Reference and acquisition attributes (DICOM PS3.3 C.7.1, C.7.2, C.7.4.1, C.8.3.1).
REPEATED_KEYWORDS = (
    "TimezoneOffsetFromUTC", "PatientName", "PatientID", "IssuerOfPatientID",
    "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight",
    "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID", "StudyID", "StudyDate",
    "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "Modality",
    "BodyPartExamined", "Laterality", "PatientPosition", "ProtocolName", "AnatomicRegionSequence",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "Manufacturer", "ManufacturerModelName",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName",
    "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "EchoTrainLength",
    "MagneticFieldStrength", "ImagingFrequency", "ImagedNucleus", "NumberOfAverages", "KVP",
    "RescaleType",
)  # fmt: skip


def source_of(frames: Sequence[Frame]) -> dict[str, Any]:
    """Provenance of a stack made of `frames`, as values that JSON can hold.

    `attributes` is a data set in the DICOM JSON model (patient and study included: treat it like the scan
    itself); the lists named `slice_*` have one entry per slice.
    """
    return {
        "format": "DICOM",
        "series_uid": frames[0].series_uid,
        "class_uid": frames[0].class_uid,
        "attributes": _repeated(read_header(frames[0].path)),
        "slice_instance_uids": [f.instance_uid for f in frames],
        "slice_frame_numbers": [f.index + 1 for f in frames],
        "slice_instance_numbers": [f.instance_number for f in frames],
    }


def _repeated(header: Dataset) -> dict[str, Any]:
    import pydicom

    kept = pydicom.Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in REPEATED_KEYWORDS:
            if keyword not in header:
                continue
            try:
                single = pydicom.Dataset()
                single[keyword] = header[keyword]
                single.to_json_dict()
            except Exception:  # an attribute the vendor filled with nonsense is not worth the series
                continue
            kept[keyword] = header[keyword]
        attributes: dict[str, Any] = kept.to_json_dict()
    return attributes
