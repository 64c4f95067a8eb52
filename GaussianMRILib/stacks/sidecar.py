"""The JSON file that dcm2niix (and BIDS) puts beside a NIfTI file, with what its DICOM headers said: times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import printable, read_json
from ..geometry.affine import LARGEST_SPACING_MM, SMALLEST_SPACING_MM
from .dicom_source import contrast_of, positive
from .kinds import JOINED

_TEXTS = ("Modality", "SequenceName", "PulseSequenceName")
_TIMES = ("EchoTime", "RepetitionTime", "InversionTime")
#: Attributes of several values, which dcm2niix joins by "_".
_LISTS = ("ScanningSequence", "SequenceVariant", "ScanOptions", "ImageType")


def _sidecar(path: Path) -> Path:
    stem = path.name.lower().removesuffix(".gz").removesuffix(".nii")
    return path.with_name(f"{path.name[: len(stem)]}.json")


def read_sidecar(path: Path) -> dict[str, Any]:
    """What the JSON file beside a NIfTI file says; nothing where there is none, or one about something else, or damaged."""
    beside = _sidecar(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")) or not beside.is_file():
        return {}
    try:
        told = read_json(beside)
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def sidecar_thickness(told: Mapping[str, Any]) -> float | None:
    """The slice thickness, mm; None where it is not said."""
    thickness = _number(told.get("SliceThickness")) or 0.0
    return thickness if SMALLEST_SPACING_MM <= thickness <= LARGEST_SPACING_MM else None


def sidecar_source(path: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """`SliceStack.source` with what is said of the contrast (see `agreement.check_same_contrast`); {} where nothing is.

    `path` is that of the NIfTI file.

    dcm2niix leaves out what is empty: no scan options and no contrast agent are unknown, not none.
    """
    header: dict[str, Any] = {name: printable(told[name]).strip("_ ") for name in _TEXTS if isinstance(told.get(name), str)}
    header |= {name: 1000 * time for name in _TIMES if (time := _number(told.get(name))) is not None}
    for name in _LISTS:
        given = told.get(name)
        values = given.replace("\\", "_").split("_") if isinstance(given, str) else given if isinstance(given, list) else []
        header[name] = [printable(value) for value in values if isinstance(value, str) and value]
    header["ImageType"] = _rejoined(header["ImageType"])
    if str(told.get("Manufacturer")).upper().startswith("GE"):
        header.pop("PulseSequenceName", None)  # of a private attribute, which nobody compares where DICOM files are read
    header = {name: value for name, value in header.items() if value}
    if isinstance(told.get("MTState"), bool):
        header["MagnetizationTransfer"] = "ON" if told["MTState"] else "NONE"
    if not header:
        return {}
    said = {
        "image type": "\\".join(header.get("ImageType", ())),
        "echo time": header.get("EchoTime"),
        "inversion time": header.get("InversionTime"),
    }
    contrast = contrast_of(lambda name, _group="": header.get(name), header, said, header.get("Modality", ""))
    agent = any(isinstance(told.get(name), str) for name in ("ContrastBolusAgent", "ContrastBolusIngredient"))
    contrast |= {"origin": contrast["origin"] if said["image type"] else None, "contrast_agent": True if agent else None}
    return {"contrast": contrast, "sidecar": _sidecar(path).name}


def _rejoined(image_type: list[str]) -> list[str]:
    """Values of Image Type that dcm2niix took apart at their own "_", such as IN_PHASE.

    Of every image with PHASE in one it adds that the image is one of phase, at the end.
    """
    text = "\\".join(["", *image_type, ""]).upper()
    for value in JOINED:
        text = text.replace("\\{}\\".format(value.replace("_", "\\")), f"\\{value}\\")
    if any(f"\\{value}\\" in text for value in ("IN_PHASE", "OUT_PHASE", "OPP_PHASE")):
        text = text.replace("\\PHASE\\", "\\")
    return [value for value in text.split("\\") if value]


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) else positive(value)


__all__ = ["read_sidecar", "sidecar_source", "sidecar_thickness"]
