"""Where a NIfTI or NRRD file says that it lies, read from its header: libraries differ in what they make of it."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError

Affine = NDArray[np.float64]

_NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
#: qform and sform that take a corner of the volume apart by less than this part of a voxel say the same.
_SAME_PLACE = 0.25
#: Axes of the anatomical spaces of NRRD in RAS; those with time have the same three first.
_NRRD_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_NRRD_SUFFIXES, _META_SUFFIXES = (".nrrd", ".nhdr"), (".mha", ".mhd")
LARGEST_HEADER = 1 << 20  # bytes of a header of text
_UNITS = {
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0, "um": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "\u00b5m": 1e-3,
    "\u03bcm": 1e-3, "cm": 10.0, "centimeter": 10.0, "m": 1e3, "meter": 1e3,
}  # fmt: skip
_NO_SPACING = "no spacing in its header: 1 mm was taken"


def header_file(path: Path) -> Path:
    """The file with the header of a volume: of an .img the .hdr beside it, in whichever case."""
    if path.suffix.lower() != ".img":
        return path
    upper = path.with_suffix(".HDR")
    return upper if upper.is_file() else path.with_suffix(".hdr")


def voxel_file(path: Path) -> Path | None:
    """The file with the voxels of a volume: of an .hdr the .img beside it, in whichever case and packed or not.

    None where that is missing.
    """
    if path.suffix.lower() not in (".hdr", ".img"):
        return path
    return next((p for p in (path.with_suffix(s) for s in (".img", ".IMG", ".img.gz")) if p.is_file()), None)


def check_nifti_files(path: Path) -> None:
    """Refuse a NIfTI or Analyze file whose name says something else than its content, or whose other half is missing.

    Raises:
        GaussianMRIError: says what is wrong and what to do.
    """
    name = path.name.lower()
    suffix = path.name[-7:] if name.endswith(".nii.gz") else path.suffix
    if suffix not in (suffix.lower(), suffix.upper()):
        right = path.name.removesuffix(suffix) + suffix.lower()
        raise GaussianMRIError(f"{path} ends in {suffix}, which is not read; rename it to {right}.")
    if name.endswith((".hdr", ".img")):
        others = (".img", ".img.gz", ".IMG") if name.endswith(".hdr") else (".hdr", ".hdr.gz", ".HDR")
        with path.open("rb") as file:
            single = name.endswith(".hdr") and file.read(348)[344:347] == b"n+1"
        if not single and not any(path.with_suffix(other).is_file() for other in others):
            what = "data" if name.endswith(".hdr") else "header"
            missing = path.with_suffix(others[0]).name
            raise GaussianMRIError(f"{path} is one of two files: its {what} file {missing} is missing. Copy both.")
        return
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed and not name.endswith(".gz"):
        raise GaussianMRIError(f"{path} is compressed by gzip, and its name does not say so; rename it to {path.name}.gz.")
    if not packed and name.endswith(".gz"):
        with path.open("rb") as file:
            plain = _byte_order(file.read(348)) is not None
        if plain:
            raise GaussianMRIError(f"{path} is not compressed; rename it to {path.name[:-3]}.")


def nifti_orientation(path: Path) -> tuple[Affine | None, list[str]]:
    """The pose that the header of a NIfTI file gives the volume, and remarks on it.

    Raises:
        GaussianMRIError: the only pose is a qform that is not finite, of which ITK makes one at the origin.

    Returns:
        ijk to RAS (4, 4), mm: the sform, else the qform where the sform is there and cannot be one; None where the
        reading library has to say (a qform alone, no orientation, an Analyze file).
    """
    if not path.name.lower().endswith(_NIFTI_SUFFIXES):
        return None, []
    source = header_file(path)
    try:
        with source.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(source, "rb") as file:
            data = file.read(348)
    except (OSError, EOFError, zlib.error):
        return None, []
    order = _byte_order(data)
    if order is None:
        return None, []
    if data[344:347] not in (b"n+1", b"ni1"):
        return None, ["an Analyze file, which knows neither orientation nor place: left and right may be exchanged"]
    codes = struct.unpack_from(order + "hh", data, 252)
    scale = {1: 1000.0, 3: 0.001}.get(data[123] & 7, 1.0)
    qform = _qform(data, order, scale) if codes[0] > 0 else None
    if codes[1] <= 0:
        if qform is not None and not np.isfinite(qform).all():
            raise GaussianMRIError(f"{path} has a qform that is not finite. Correct the header, or set its sform.")
        if qform is None:
            return None, ["no orientation in its header (qform and sform are unset): left and right may be exchanged"]
        return None, []
    sform = np.eye(4)
    sform[:3] = np.reshape(struct.unpack_from(order + "12f", data, 280), (3, 4)) * scale
    if qform is None or not np.isfinite(sform).all() or not np.isfinite(qform).all():
        return sform, []
    if not sform[:3, :3].any(axis=0).all():
        return qform, ["its sform has an axis without length; the qform was used"]
    size = np.maximum(np.array(struct.unpack_from(order + "3h", data, 42), float), 1) - 1
    corners = np.array([[*(size * corner), 1] for corner in np.ndindex(2, 2, 2)])
    away = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    if away <= _SAME_PLACE * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
        return sform, []
    units = [matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0).clip(1e-12) for matrix in (sform, qform)]
    angle = float(np.degrees(np.arccos(np.clip((units[0] * units[1]).sum(axis=0), -1, 1))).max())
    return sform, [
        f"its qform and sform differ by {angle:.1f} degrees and up to {away:.1f} mm; the sform was used, masks and labels "
        "of other programs may lie by the qform"
    ]


def _byte_order(data: bytes) -> str | None:
    """Of the header of a NIfTI-1 or Analyze file; None of other bytes."""
    if len(data) < 348:
        return None
    return next((order for order in "<>" if struct.unpack(order + "i", data[:4])[0] == 348), None)


def _qform(data: bytes, order: str, scale: float) -> Affine:
    """Method 2 of nifti1.h: a quaternion, an offset and pixdim."""
    from scipy.spatial.transform import Rotation

    b, c, d, *offset = struct.unpack_from(order + "6f", data, 256)
    pixdim = struct.unpack_from(order + "4f", data, 76)
    length = np.sqrt(b * b + c * c + d * d)
    if length > 1:  # half a turn, and a rounding
        b, c, d = b / length, c / length, d / length
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = Rotation.from_quat([b, c, d, a]).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(pixdim[1:]) * [1, 1, -1 if pixdim[0] < 0 else 1] * scale
    affine[:3, 3] = np.array(offset) * scale
    return affine


def nrrd_affine(path: Path) -> Affine | None:
    """ijk to RAS (4, 4), mm, by the header of an NRRD file in an anatomical space; None of others.

    SimpleITK before 2.5.6 turns left-anterior-superior the wrong way round. An axis that is none in space, of a list of one
    volume, is left out.
    """
    if not path.name.lower().endswith(_NRRD_SUFFIXES):
        return None
    fields = _fields(path, ":")
    signs = _anatomical(fields)
    if signs is None:
        return None
    try:
        axes = [_vector(part) for part in re.findall(r"\([^)]*", fields["space directions"].replace(" ", ""))]
        origin = _vector(fields["space origin"].replace(" ", "").rstrip(")"))
    except (KeyError, ValueError):
        return None
    if len(axes) != 3 or any(len(vector) != 3 for vector in (*axes, origin)):
        return None
    affine = np.eye(4)
    affine[:3] = np.column_stack([*axes, origin]) * np.array(signs, float)[:, None]
    return affine if np.isfinite(affine).all() else None


def unit_mm(path: Path) -> float:
    """Millimetres in a unit of the geometry of a MetaImage or NRRD file, which ITK takes for millimetres whatever it is."""
    name = path.name.lower()
    if name.endswith(_META_SUFFIXES):
        units = {_fields(path, "=").get("distanceunits", "")}
    elif name.endswith(_NRRD_SUFFIXES):
        fields = _fields(path, ":")
        units = set(re.findall(r'"([^"]*)"', fields.get("space units", "") or fields.get("units", "")))
    else:
        return 1.0
    known = {_UNITS[unit.strip().lower()] for unit in units if unit.strip().lower() in _UNITS}
    if len(known) > 1:
        raise GaussianMRIError(f"{path} has several units of length ({', '.join(sorted(units))}); save it in mm.")
    return known.pop() if known else 1.0


def geometry_notes(path: Path) -> list[str]:
    """Remarks on what the header of a volume file leaves open about its place."""
    name = path.name.lower()
    if name.endswith(_META_SUFFIXES):
        known = _fields(path, "=")
        return [] if {"elementspacing", "elementsize"} & known.keys() else [_NO_SPACING]
    if not name.endswith(_NRRD_SUFFIXES):
        return nifti_orientation(path)[1]
    fields = _fields(path, ":")
    notes = []
    if "space directions" not in fields and "nan" in fields.get("spacings", "nan").lower():
        notes.append(_NO_SPACING)
    if _anatomical(fields) is None:
        notes.append("no anatomical space in its header, left-posterior-superior was taken: left and right may be exchanged")
    return notes


def _fields(path: Path, separator: str) -> dict[str, str]:
    """The fields of a header of text, their names in lower case."""
    with path.open("rb") as file:
        text = file.read(LARGEST_HEADER)
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or "elementdatafile" in fields:
            break
        key, found, value = _decoded(line).partition(separator)
        if found and not line.startswith(b"#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    return fields


def _decoded(raw: bytes) -> str:
    """UTF-8 or else Latin-1, in which a micrometre may be written."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _anatomical(fields: dict[str, str]) -> tuple[int, int, int] | None:
    """Signs of the axes of an NRRD file's space in RAS."""
    return _NRRD_SPACES.get(fields.get("space", "").lower().removesuffix("-time").removesuffix("t"))


def _vector(text: str) -> list[float]:
    return [float(number) for number in text.removeprefix("(").split(",")]


__all__ = [
    "check_nifti_files", "geometry_notes", "header_file", "nifti_orientation", "nrrd_affine", "unit_mm", "voxel_file",
]  # fmt: skip
