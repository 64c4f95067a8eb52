"""What a derived DICOM series has to repeat of the series it was made from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..files import reading
from .dicom_frames import Frame, lookup, read_header
from .kinds import component_of, origin_of

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

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


def source_of(frames: Sequence[Frame], kind: Mapping[str, str]) -> dict[str, Any]:
    """Provenance of a stack made of `frames`, as values that JSON can hold.

    `attributes` is a data set in the DICOM JSON model (patient and study included: treat it like the scan
    itself); `contrast` is what `check_same_contrast` compares, and `kind`, which tells it from other stacks of its series
    (see `kinds_within_series`); `computed_from` are the SOP instances that the images say they were made of; the lists
    named `slice_*` have one entry per slice.
    """
    with reading(frames[0].path, "a readable DICOM image"):
        facts = _facts(frames, kind)
    return facts


def _facts(frames: Sequence[Frame], kind: Mapping[str, str]) -> dict[str, Any]:
    header = read_header(frames[0].path)
    return {
        "format": "DICOM",
        "series_uid": frames[0].series_uid,
        "class_uid": frames[0].class_uid,
        "attributes": _repeated(header),
        "contrast": _contrast(frames[0], header),
        "kind": dict(kind),
        "computed_from": sorted({uid for f in frames for uid in f.sources} - {""}),
        "slice_instance_uids": [f.instance_uid for f in frames],
        "slice_frame_numbers": [f.index + 1 for f in frames],
        "slice_instance_numbers": [f.instance_number for f in frames],
    }


def _check_values(element: DataElement) -> None:
    """Refuse values that their VR does not allow, such as an age of "42"; a UID is what the source has, however odd."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if element.VR not in ("UI", "SQ", "PN"):
        for value in element.value if element.VM > 1 else [element.value]:
            if value is not None:
                validate_value(element.VR, str(value) if element.VR in ("DS", "IS") else value, RAISE)


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
                _check_values(single[keyword])
            except Exception:  # an attribute the vendor filled with nonsense is not worth the series
                continue
            kept[keyword] = header[keyword]
        attributes: dict[str, Any] = kept.to_json_dict()
    return attributes


#: Storage classes that are another file format of the same images.
_CLASSES = {
    **dict.fromkeys(("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"), "MR image"),
    **dict.fromkeys(("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"), "CT image"),
    **dict.fromkeys(
        ("1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.128.1", "1.2.840.10008.5.1.4.1.1.130"), "PET image"
    ),
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    **{f"1.2.840.10008.5.1.4.1.1.7.{n}": "secondary capture" for n in (1, 2, 3, 4)},
}


def _contrast(frame: Frame, header: Dataset) -> dict[str, Any]:
    """What the header says of the contrast, times in ms; what it does not say is None."""
    find = lookup(header, frame.index)
    agent = find("ContrastBolusAgent") or find("ContrastBolusAgentSequence")
    return {
        **contrast_of(find, header, frame.contrast, frame.modality),
        "class": _CLASSES.get(frame.class_uid, frame.class_uid) or None,
        "contrast_agent": None
        if frame.modality not in ("MR", "CT")
        else bool(agent) and str(agent).strip().upper() not in ("NO", "NONE", "N", "0"),
    }


def contrast_of(
    find: Callable[..., Any], header: Mapping[str, Any] | Dataset, said: Mapping[str, Any], modality: str
) -> dict[str, Any]:
    """`_contrast` but for what only DICOM files say.

    Args:
        find: a function (keyword, functional group) to the value of an attribute, None where it is absent.
        header: attributes by keyword.
        said: see `Frame.contrast`.
    """
    b_value = said.get("b-value")
    return {
        "modality": modality or None,
        "echo_time": positive(said.get("echo time")),
        "repetition_time": positive(find("RepetitionTime", "MRTimingAndRelatedParametersSequence")),
        "inversion_time": positive(said.get("inversion time")),
        "scanning_sequence": _scanning_sequence(find),
        "sequence": _sequence_family(find("SequenceName") or find("PulseSequenceName")),
        "component": component_of(said) or _as_acquired(said.get("image type")),
        "fat_suppression": _fat_suppression(find, header),
        "magnetisation_transfer": _magnetisation_transfer(find),
        "origin": origin_of(said),
        "b_value": b_value if isinstance(b_value, float) else None,
    }


def _as_acquired(image_type: Any) -> str | None:
    """A component for images that were not computed from others, and say nothing further; see `agreement`."""
    return "original" if str(image_type).upper().startswith("ORIGINAL") else None


def _scanning_sequence(find: Callable[..., Any]) -> str | None:
    """Scanning Sequence, sorted, "IR/SE"; enhanced files say it in three attributes. "RM", research mode, says nothing."""
    values = _texts(find("ScanningSequence"))
    if not values:
        spelled = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["GR", "SE"]}
        values = list(spelled.get(str(find("EchoPulseSequence")).upper(), []))
        if values and str(find("InversionRecovery", "MRModifierSequence")).upper() == "YES":
            values.append("IR")
        if values and str(find("EchoPlanarPulseSequence")).upper() == "YES":
            values.append("EP")
    return "/".join(sorted({*values} - {"RM"})) or None


def _fat_suppression(find: Callable[..., Any], header: Mapping[str, Any] | Dataset) -> bool | None:
    """Whether fat was suppressed by its frequency, or water alone excited; None where that is not said.

    Enhanced files say it in words, others by FS or WE among the Scan Options. Scanners that have no option to list write
    that attribute empty, as the standard asks for it to be there; from files without it somebody has taken it. OTHER may be
    anything.
    """
    said = _texts(find("SpectrallySelectedSuppression"))
    excited = _texts(find("SpectrallySelectedExcitation", "MRModifierSequence"))
    options = {*_texts(header.get("ScanOptions"))}
    if "WATER" in excited or any("FAT" in text for text in said) or options & {"FS", "WE"}:
        return True
    return False if said or ("ScanOptions" in header and "OTHER" not in options) else None


def _magnetisation_transfer(find: Callable[..., Any]) -> bool | None:
    """Whether magnetisation was transferred, of enhanced files or by the Sequence Variant; None where that is not said."""
    said = _texts(find("MagnetizationTransfer", "MRImagingModifierSequence"))
    variants = _texts(find("SequenceVariant"))
    if not said and not variants:
        return None
    return "MTC" in variants or any(text != "NONE" for text in said)


def positive(value: Any) -> float | None:
    """A number above 0; vendors write 0 where a time does not apply."""
    try:
        number = float(value)
    except (ArithmeticError, TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return [text for v in several if (text := str(v).strip().upper())]


def _sequence_family(name: Any) -> str | None:
    """The kind of a sequence: "tse" of "*tse2d1_15" and "*tseR2d1rs18", whose numbers change from series to series."""
    match = re.match(r"\W*([a-z]+|[A-Z]+)", str(name or ""))
    return match.group(1).lower() if match else None
