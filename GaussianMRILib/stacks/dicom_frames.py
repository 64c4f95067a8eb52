"""What the header of a DICOM file says about each image in it, single-frame or enhanced multi-frame."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry.affine import LARGEST_SPACING_MM, LPS_RAS

if TYPE_CHECKING:
    from pydicom import Dataset

#: What tells images at one position apart, in the order in which it is tried: (label, keywords, functional
#: group).
_CONTRASTS = (
    ("echo", ("EchoNumbers",), ""),
    ("echo time", ("EffectiveEchoTime", "EchoTime"), "MREchoSequence"),
    ("b-value", ("DiffusionBValue",), "MRDiffusionSequence"),
    ("time point", ("TemporalPositionIndex", "TemporalPositionIdentifier"), "FrameContentSequence"),
    ("image type", ("FrameType", "ImageType"), "MRImageFrameTypeSequence"),
    ("complex component", ("ComplexImageComponent",), "MRImageFrameTypeSequence"),
    ("inversion time", ("InversionTime", "InversionTimes"), "MRModifierSequence"),
    ("flip angle", ("FlipAngle",), "MRTimingAndRelatedParametersSequence"),
    ("trigger time", ("NominalCardiacTriggerDelayTime", "TriggerTime"), "CardiacSynchronizationSequence"),
    ("acquisition", ("FrameAcquisitionNumber", "AcquisitionNumber"), "FrameContentSequence"),
)


class NotAnImage(Exception):
    """The file is in order but holds nothing that can be placed in space; the message says why."""


@dataclass
class Frame:
    """One image in space as its header describes it; geometry in RAS mm."""

    path: Path
    index: int  # frame number within the file, from 0
    shape: tuple[int, int]  # rows, columns
    ijk_to_ras: NDArray[np.float64]  # (4, 4), column 2 the unit normal i x j
    thickness: float | None  # Slice Thickness, mm
    spacing_between: float | None  # Spacing Between Slices, mm; vendors differ in what they mean by it
    slope: float
    intercept: float
    inverted: bool  # MONOCHROME1
    full_scale: float  # smallest + largest stored value, for the inversion
    instance_uid: str
    class_uid: str
    series_uid: str
    series_number: int
    instance_number: int
    description: str
    frame_of_reference: str | None
    localizer: bool
    modality: str
    contrast: dict[str, Any] = field(default_factory=dict)

    @property
    def position(self) -> NDArray[np.float64]:
        """Image Position, RAS mm."""
        return self.ijk_to_ras[:3, 3]

    @property
    def orientation(self) -> NDArray[np.float64]:
        """Unit i and j axes (6,), RAS."""
        axes = self.ijk_to_ras[:3, :2]
        unit: NDArray[np.float64] = (axes / np.linalg.norm(axes, axis=0)).T.ravel()
        return unit


def looks_like_dicom(path: Path) -> bool:
    """Whether `path` starts like a DICOM file, with or without the preamble."""
    try:
        with path.open("rb") as file:
            start = file.read(140)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return True
    # Old files start with the data set itself: group 0002 or 0008, and a plausible element.
    return start[:2] in (b"\x02\x00", b"\x08\x00") and len(start) >= 132 and start[3:4] == b"\x00"


def read_header(path: Path) -> Dataset:
    """Header of a DICOM file, pixel data left out.

    Raises:
        GaussianMRIError: not a DICOM file, or damaged.
    """
    import pydicom

    if not path.is_file():
        raise GaussianMRIError(f"{path} does not exist. Check the path.")
    if not looks_like_dicom(path):
        raise GaussianMRIError(
            f"{path} is not a DICOM file, whatever its name. Give DICOM, NIfTI, NRRD or MHA files."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except Exception as error:  # damaged files raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise GaussianMRIError(f"{path} is damaged: {reason}. Copy the file again.") from error


def frames(path: Path, header: Dataset) -> list[Frame]:
    """The images in a DICOM file.

    Raises:
        NotAnImage: the file is no grey image with a position in space (reports, contours, photographs,
            mosaics).
        GaussianMRIError: it is one, but its geometry is absurd.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(_frames(path, header))


def _frames(path: Path, header: Dataset) -> Iterator[Frame]:
    if "Rows" not in header or "Columns" not in header:
        raise NotAnImage(f"no image ({header.get('Modality', 'no modality')})")
    if int(header.get("SamplesPerPixel", 1) or 1) != 1:
        raise NotAnImage("a colour image")
    photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotAnImage(f"photometric interpretation {photometric}")
    image_type = [str(v).upper() for v in header.get("ImageType", []) or []]
    if "MOSAIC" in image_type:
        raise NotAnImage("a Siemens mosaic, many slices tiled in one image; convert it to single slices")
    shape = (int(header.Rows), int(header.Columns))
    bits = int(header.get("BitsStored", 16) or 16)
    full_scale = -1.0 if int(header.get("PixelRepresentation", 0) or 0) else float(2**bits - 1)
    shared = _item(header, "SharedFunctionalGroupsSequence")
    count = int(_number(header.get("NumberOfFrames"), 1, path, "NumberOfFrames"))
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or [None]
    if count > 1 and per_frame == [None]:
        raise NotAnImage(f"{count} frames without a position for each")
    if count != len(per_frame):
        raise GaussianMRIError(
            f"{path} says that it has {count} frames and describes {len(per_frame)}. Copy the file again."
        )
    for index, own in enumerate(per_frame):
        find = _Lookup(header, shared, own)
        contrast = {
            label: value
            for label, keywords, group in _CONTRASTS
            if (value := next((v for k in keywords if (v := find(k, group)) is not None), None)) is not None
        }
        yield Frame(
            path=path,
            index=index,
            shape=shape,
            ijk_to_ras=_pose(path, find),
            thickness=_length(find("SliceThickness", "PixelMeasuresSequence"), path, "SliceThickness"),
            spacing_between=_length(
                find("SpacingBetweenSlices", "PixelMeasuresSequence"), path, "SpacingBetweenSlices"
            ),
            slope=_number(
                find("RescaleSlope", "PixelValueTransformationSequence"), 1.0, path, "RescaleSlope"
            ),
            intercept=_number(
                find("RescaleIntercept", "PixelValueTransformationSequence"), 0.0, path, "RescaleIntercept"
            ),
            # Computed tomography keeps its Hounsfield units however it is displayed.
            inverted=photometric == "MONOCHROME1" and header.get("Modality") != "CT",
            full_scale=full_scale,
            instance_uid=str(header.get("SOPInstanceUID", "")),
            class_uid=str(header.get("SOPClassUID", "")),
            series_uid=str(header.get("SeriesInstanceUID", "")),
            series_number=int(_number(header.get("SeriesNumber"), 0, path, "SeriesNumber")),
            instance_number=int(_number(header.get("InstanceNumber"), 0, path, "InstanceNumber")),
            description=str(header.get("SeriesDescription", "") or "").strip(),
            frame_of_reference=str(header.get("FrameOfReferenceUID", "") or "") or None,
            localizer="LOCALIZER" in image_type,
            modality=str(header.get("Modality", "") or ""),
            contrast={k: _comparable(v) for k, v in contrast.items()},
        )


def lookup(header: Dataset, index: int) -> Callable[..., Any]:
    """A function (keyword, functional group) to the value of an attribute for frame `index` of a file, or None."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    own = per_frame[index] if per_frame and index < len(per_frame) else None
    return _Lookup(header, _item(header, "SharedFunctionalGroupsSequence"), own)


def _item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None


class _Lookup:
    """Value of an attribute for one frame: its own functional group, the shared one, then the file's top
    level."""

    def __init__(self, header: Dataset, shared: Dataset | None, own: Dataset | None) -> None:
        self.header, self.shared, self.own = header, shared, own

    def __call__(self, keyword: str, group: str = "") -> Any:
        for source in (_item(self.own, group), _item(self.shared, group), self.header):
            value = source.get(keyword) if source is not None else None
            if value is not None and value != "":
                return value
        return None


def _pose(path: Path, find: _Lookup) -> NDArray[np.float64]:
    """ijk_to_ras of one image (DICOM PS3.3 C.7.6.2.1.1)."""
    position = find("ImagePositionPatient", "PlanePositionSequence")
    orientation = find("ImageOrientationPatient", "PlaneOrientationSequence")
    spacing = find("PixelSpacing", "PixelMeasuresSequence")
    if position is None or orientation is None:
        raise NotAnImage("no position and orientation in the patient")
    if spacing is None:
        raise NotAnImage("no pixel spacing")
    position = _vector(position, 3, path, "ImagePositionPatient")
    axes = _vector(orientation, 6, path, "ImageOrientationPatient").reshape(2, 3)
    between_rows, between_columns = _vector(spacing, 2, path, "PixelSpacing")
    if not (0 < between_rows <= LARGEST_SPACING_MM and 0 < between_columns <= LARGEST_SPACING_MM):
        raise GaussianMRIError(
            f"{path} has a PixelSpacing of {between_rows:g} x {between_columns:g} mm, which no image has. "
            "Correct the header or leave the series out."
        )
    lengths = np.linalg.norm(axes, axis=1)
    if np.any(np.abs(lengths - 1) > 0.01) or abs(axes[0] @ axes[1]) > 2e-3:
        raise GaussianMRIError(
            f"{path} has an ImageOrientationPatient that is not two perpendicular unit vectors: "
            f"{axes.ravel().tolist()}. Correct the header or leave the series out."
        )
    axes /= lengths[:, None]
    matrix = np.eye(4)
    matrix[:3, 0] = axes[0] * between_columns
    matrix[:3, 1] = axes[1] * between_rows
    matrix[:3, 2] = np.cross(axes[0], axes[1]) / np.linalg.norm(np.cross(axes[0], axes[1]))
    matrix[:3, 3] = position
    return LPS_RAS @ matrix


def _vector(value: Any, count: int, path: Path, keyword: str) -> NDArray[np.float64]:
    try:
        vector = np.asarray([float(v) for v in value], dtype=np.float64)
    except (TypeError, ValueError):
        vector = np.asarray([np.nan])
    if vector.shape != (count,) or not np.all(np.isfinite(vector)):
        raise GaussianMRIError(f"{path} has a {keyword} that is not {count} numbers. Correct the header.")
    return vector


def _number(value: Any, default: float, path: Path, keyword: str) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise GaussianMRIError(f"{path} has a {keyword} that is not a number. Correct the header.")
    return number


def _length(value: Any, path: Path, keyword: str) -> float | None:
    """A length in mm; None when absent or 0, which several vendors write for unknown."""
    length = _number(value, 0.0, path, keyword)
    if length > LARGEST_SPACING_MM:
        raise GaussianMRIError(
            f"{path} has a {keyword} of {length:g} mm, which no scan has. Correct the header."
        )
    return length if length > 0 else None


def _comparable(value: Any) -> Any:
    """A value that can be compared, sorted and put in a set: numbers rounded, lists as text."""
    try:
        return round(float(value), 4)
    except (TypeError, ValueError):
        return (
            "\\".join(str(v) for v in value)
            if hasattr(value, "__iter__") and not isinstance(value, str)
            else str(value)
        )
