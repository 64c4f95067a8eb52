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
from ..files import printable
from ..geometry.affine import LARGEST_POSITION_MM, LARGEST_SPACING_MM, LPS_RAS, SMALLEST_SPACING_MM
from .dicom_pixels import Layout, check_deflated, layout_of
from .dicom_private import if_number, private_b_value, private_component, private_direction
from .dicom_times import times_of
from .modality import ModalityLut, Padding, modality_lut, padding

if TYPE_CHECKING:
    from pydicom import Dataset

#: What tells the images of a series apart, in the order in which it is tried: (label, keywords, functional group).
_CONTRASTS = (
    ("echo", ("EchoNumbers",), ""),
    ("echo time", ("EffectiveEchoTime", "EchoTime"), "MREchoSequence"),
    ("b-value", ("DiffusionBValue",), "MRDiffusionSequence"),
    ("stack", ("StackID",), "FrameContentSequence"),
    ("time point", ("TemporalPositionIndex", "TemporalPositionIdentifier"), "FrameContentSequence"),
    ("image type", ("FrameType", "ImageType"), "MRImageFrameTypeSequence"),
    ("complex component", ("ComplexImageComponent",), "MRImageFrameTypeSequence"),
    ("inversion time", ("InversionTime", "InversionTimes"), "MRModifierSequence"),
    ("flip angle", ("FlipAngle",), "MRTimingAndRelatedParametersSequence"),
    ("repetition time", ("RepetitionTime",), "MRTimingAndRelatedParametersSequence"),
    ("sequence", ("SequenceName", "PulseSequenceName"), ""),
    ("contrast agent", ("ContrastBolusAgent",), ""),
    ("trigger time", ("NominalCardiacTriggerDelayTime", "TriggerTime"), "CardiacSynchronizationSequence"),
    ("acquisition", ("FrameAcquisitionNumber", "AcquisitionNumber"), "FrameContentSequence"),
)
#: Storage classes of what has rows and columns, or stands beside images, and is none (DICOM PS3.4 B.5): the UID, or how
#: it begins, and what it is.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.4.2": "a spectrum",
    "1.2.840.10008.5.1.4.1.1.4.3": "a colour image",
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.66": "a segmentation, label map, registration or raw data",
    "1.2.840.10008.5.1.4.1.1.67": "a mapping of values",
    "1.2.840.10008.5.1.4.1.1.68.": "a surface",
    "1.2.840.10008.5.1.4.1.1.77.": "a photograph",
    "1.2.840.10008.5.1.4.1.1.88.": "a report",
    "1.2.840.10008.5.1.4.1.1.104.": "a document",
    "1.2.840.10008.5.1.4.1.1.481.": "an object of radiotherapy",
    "1.2.840.10008.5.1.4.34.": "an object of radiotherapy",
}
#: Modalities of the same, where a converter has changed the class.
_NO_MODALITIES = (
    "SEG", "SR", "PR", "KO", "REG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTIMAGE", "RTRECORD", "DOC", "AU", "ECG", "PLAN",
    "RWV", "FID", "SMR", "HC", "M3D", "STAIN",
)  # fmt: skip
#: Values of Image Type of pictures of a screen.
_SCREENS = ("SCREEN SAVE", "SCREENSHOT", "SCREEN_CAPTURE", "SCREEN CAPTURE", "SCREENSAVE")


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
    study_uid: str = ""
    patient: str = ""  # Patient ID, else the name as `same_name` has it; "" where neither is there
    slice_location: float | None = None  # mm along the normal; for people, and not always right
    sources: tuple[str, ...] = ()  # SOP instances that the image was computed from
    expected: int = 0  # Images in Acquisition, 0 where not said
    high_bit: int = 15  # of the stored value, as it lies in the file
    bits_stored: int = 16
    layout: Layout | None = None  # None: pydicom has to decode
    padding: Padding | None = None
    lut: ModalityLut | None = None
    times: tuple[str, ...] = ()  # by several attributes; see `times_of`
    dimensions: tuple[float, ...] = ()  # Dimension Index Values
    direction: tuple[float, ...] | None = None  # of the diffusion gradient
    contrast: dict[str, Any] = field(default_factory=dict)

    @property
    def position(self) -> NDArray[np.float64]:
        """Image Position, RAS mm."""
        return self.ijk_to_ras[:3, 3]

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Lengths of the steps along i and j, mm."""
        i, j = np.linalg.norm(self.ijk_to_ras[:3, :2], axis=0)
        return float(i), float(j)

    @property
    def orientation(self) -> NDArray[np.float64]:
        """Unit i and j axes (6,), RAS."""
        axes = self.ijk_to_ras[:3, :2]
        unit: NDArray[np.float64] = (axes / np.linalg.norm(axes, axis=0)).T.ravel()
        return unit


def is_archive(path: Path) -> bool:
    """Whether the name of `path` is one of a packed file, in which images may be."""
    return path.name.lower().endswith((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"))


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


def has_preamble(path: Path) -> bool:
    """Whether the content of `path` says DICOM, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Dataset:
    """Header of a DICOM file, pixel data left out.

    Raises:
        GaussianMRIError: not a DICOM file, or damaged.
    """
    return read_header_and_layout(path)[0]


def read_header_and_layout(path: Path) -> tuple[Dataset, Layout | None]:
    """`read_header`, and where the pixels lie if they are not compressed."""
    import pydicom

    if not path.is_file():
        raise GaussianMRIError(f"{path} does not exist. Check the path.")
    if not looks_like_dicom(path) and is_archive(path):
        raise GaussianMRIError(f"{path} is an archive. Unpack it and give its folder.")
    if not looks_like_dicom(path):
        raise GaussianMRIError(
            f"{path} is not a DICOM file, whatever its name. Give DICOM, NIfTI, NRRD or MHA files."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                check_deflated(path, file)
                header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
                return header, layout_of(header, file)
    except GaussianMRIError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise GaussianMRIError(f"{path} is damaged: {reason}. Copy the file again.") from error


def frames(path: Path, header: Dataset, layout: Layout | None = None) -> list[Frame]:
    """The images in a DICOM file, whose pixels have the layout that `read_header_and_layout` found.

    Raises:
        NotAnImage: the file is no grey image with a position in space (reports, contours, photographs,
            mosaics).
        GaussianMRIError: it is one, but its geometry is absurd.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(_frames(path, header, layout))
        except (NotAnImage, GaussianMRIError):
            raise
        except Exception as error:  # pydicom parses values when they are asked for, and they may be anything
            raise GaussianMRIError(f"{path} is damaged: {printable(error)[:200]}. Copy the file again.") from error


def _no_image(header: Dataset) -> str:
    """What a file is that is no image; "" of one that may be."""
    if "DirectoryRecordSequence" in header:
        return "an index of other files (DICOMDIR). Give the folder that it lies in"
    modality = printable(header.get("Modality", "") or "")
    uid = str(header.get("SOPClassUID", "") or "")
    for start, what in _NO_IMAGES.items():
        if uid == start or (uid.startswith(start) and (start.endswith(".") or uid[len(start)] == ".")):
            return f"{what} ({modality})" if modality else what
    if modality in _NO_MODALITIES:
        return f"no image ({modality})"
    if "Rows" not in header or "Columns" not in header:
        return f"no image ({modality or 'no modality'})"
    return ""


def _frames(path: Path, header: Dataset, layout: Layout | None) -> Iterator[Frame]:
    if what := _no_image(header):
        raise NotAnImage(what)
    if int(header.get("SamplesPerPixel", 1) or 1) != 1:
        raise NotAnImage("a colour image")
    photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotAnImage(f"photometric interpretation {printable(photometric)}")
    image_type = [str(v).upper() for v in header.get("ImageType", []) or []]
    if "MOSAIC" in image_type:
        raise NotAnImage("a Siemens mosaic, many slices tiled in one image; convert it to single slices")
    burned = str(header.get("BurnedInAnnotation", "")).upper() == "YES"
    if any(value in _SCREENS for value in image_type) or (burned and "ConversionType" in header):
        raise NotAnImage("a picture of a screen")
    shape = (int(header.Rows), int(header.Columns))
    if min(shape) < 1:
        raise GaussianMRIError(f"{path} has {shape[0]} x {shape[1]} pixels. Copy the file again.")
    bits = int(header.get("BitsStored", 16) or 16)
    signed = bool(int(header.get("PixelRepresentation", 0) or 0))
    full_scale = -1.0 if signed else float(2**bits - 1)
    lut, no_pixel = modality_lut(header, signed, path), padding(header)
    private = {"b-value": private_b_value(header), "complex component": private_component(header)}
    own_direction = None if private["b-value"] is None and "DiffusionBValue" not in header else private_direction(header)
    patient = str(header.get("PatientID", "") or "").strip() or same_name(header.get("PatientName", ""))
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
        for label, value in private.items():
            if value is not None:
                contrast.setdefault(label, value)
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
            description=printable(header.get("SeriesDescription", "") or ""),
            frame_of_reference=str(header.get("FrameOfReferenceUID", "") or "") or None,
            localizer="LOCALIZER" in image_type,
            modality=str(header.get("Modality", "") or ""),
            study_uid=str(header.get("StudyInstanceUID", "") or ""),
            patient=patient,
            slice_location=if_number(header.get("SliceLocation")),
            sources=tuple(
                str(item.get("ReferencedSOPInstanceUID", ""))
                for item in find("SourceImageSequence", "DerivationImageSequence") or ()
                if hasattr(item, "get")  # no text in the place of a sequence
            ),
            expected=int(if_number(header.get("ImagesInAcquisition")) or 0),
            high_bit=layout.high_bit if layout else bits - 1,
            bits_stored=bits,
            layout=layout,
            padding=no_pixel,
            lut=lut,
            times=times_of(find),
            dimensions=tuple(_finite(find("DimensionIndexValues", "FrameContentSequence"))),
            direction=_direction(find) or own_direction,
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
    if np.abs(position).max() > LARGEST_POSITION_MM:
        raise GaussianMRIError(
            f"{path} has an ImagePositionPatient of {' '.join(f'{v:g}' for v in position)} mm, where no scanner reaches. "
            "Correct the header or leave the series out."
        )
    axes = _vector(orientation, 6, path, "ImageOrientationPatient").reshape(2, 3)
    between_rows, between_columns = _vector(spacing, 2, path, "PixelSpacing")
    if not all(SMALLEST_SPACING_MM <= v <= LARGEST_SPACING_MM for v in (between_rows, between_columns)):
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


def _direction(find: _Lookup) -> tuple[float, ...] | None:
    """The diffusion gradient's direction, as enhanced files have it or at the top."""
    items = find("DiffusionGradientDirectionSequence", "MRDiffusionSequence")
    value = items[0].get("DiffusionGradientOrientation") if items else find("DiffusionGradientOrientation")
    numbers = tuple(_finite(value))
    return numbers if len(numbers) == 3 else None


def _finite(value: Any) -> list[float]:
    """The numbers of a value of several; none where one is no number."""
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return [] if if_number(value) is None else [float(value)]
    numbers = [if_number(v) for v in value]
    return [] if None in numbers else [n for n in numbers if n is not None]


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
    if length > 0 and not SMALLEST_SPACING_MM <= length <= LARGEST_SPACING_MM:
        raise GaussianMRIError(
            f"{path} has a {keyword} of {length:g} mm, which no scan has. Correct the header."
        )
    return length if length > 0 else None


def same_name(name: Any) -> str:
    """A person's name without what writers differ in: case, and the signs between and after its parts."""
    return " ".join(str(name or "").replace("^", " ").replace("=", " ").split()).casefold()


def _comparable(value: Any) -> Any:
    """A value that can be compared and sorted: a finite number, else text."""
    number = if_number(value)
    if number is not None:
        return number
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return "\\".join(printable(v) for v in value)
    return printable(value)
