"""Rendered planes as a derived DICOM series in the patient's study."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_folder, printable
from ..geometry.affine import LPS_RAS
from ..geometry.plane import ImagePlane
from ..geometry.slab import check_projection
from ..stacks.dicom_pixels import save_dicom
from ..stacks.slice_stack import SliceStack
from ..version import __version__
from .images import checked_images, default_window, filled

if TYPE_CHECKING:
    from pydicom import Dataset

_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
#: Of the first series of a study: far from those that scanners give.
SERIES_NUMBER = 9001
#: Values that spread at least this much are stored as they are, rounded; smaller ones are scaled up.
_ENOUGH_GREY_LEVELS = 1000.0

#: Stored value of pixels that show nothing.
PADDING = 0

#: What an image shows of the thickness of its plane: a code with its meaning, and how Image Type says it in MR and in CT.
_PROJECTIONS = {
    "mean": ("113072", "Multiplanar reformatting", "REFORMATTED", "REFORMATTED"),
    "max": ("113078", "Maximum intensity projection", "PROJECTION IMAGE", "MAX_IP"),
    "min": ("113079", "Minimum intensity projection", "PROJECTION IMAGE", "MIN_IP"),
}

#: Modalities of sources; what does not say its own, or was converted, is taken for MR.
_WRITTEN = {"MR", "CT", "OT", "", None}

Source = SliceStack | Mapping[str, Any]


def write_dicom_series(
    folder: str | os.PathLike[str],
    images: ArrayLike,
    planes: ImagePlane | Sequence[ImagePlane],
    *,
    source: Source | Sequence[Source] | None = None,
    description: str = "GaussianMRI",
    derivation: str = "Resampled on oblique planes from 3D Gaussians fitted to the source slices",
    fill: float | None = None,
    projection: str = "mean",
    overwrite: bool = False,
    number: int = SERIES_NUMBER,
) -> Path:
    """Write `images` of `planes` as a new series of derived MR images (CT images when the source is CT).

    Each image has its own Image Position and Orientation (Patient), so the planes need not be parallel. The
    series has new UIDs and stays in the patient, study and frame of reference of its source, whose images it
    refers to; from a source that was not DICOM it becomes a new study of an anonymous patient. ImageType is
    DERIVED\\SECONDARY\\REFORMATTED, or PROJECTION IMAGE in place of the last. Pixels are 16-bit; where values
    spread less than 1000, a RescaleSlope scales them.

    Args:
        folder: made for the series; its parent must exist. Files are named IM0001.dcm and so on.
        images: (K, rows, columns) or, for one plane, (rows, columns), in the units of the source.
        planes: the planes the images were made on, in order. A thin plane (thickness 0) is written with the
            smaller pixel spacing as SliceThickness.
        source: the stack or stacks that the images come from, or their `source` dictionaries.
        description: SeriesDescription.
        derivation: DerivationDescription, to which the program's name and version are added.
        fill: value where images are NaN or infinite; by default they have PixelPaddingValue, darker than all else.
        projection: "max" or "min" for images of the brightest or darkest value of the planes' thickness, which Image Type,
            Derivation Code and description then say, so that nobody takes them for slices.
        overwrite: replace `folder` if all that it holds is .dcm files.
        number: SeriesNumber, by which viewers sort series.

    Returns:
        The folder.

    Raises:
        GaussianMRIError: images and planes do not fit, a projection of thin planes, the sources lie in different
            frames of reference or are neither MR nor CT, the folder exists, or it cannot be written. Nothing is left
            half-written.
    """
    target = Path(folder)
    pixels, listed = checked_images(images, planes)
    check_projection(projection, planes=listed)
    window = default_window(pixels)
    empty = ~np.isfinite(pixels) & (fill is None)
    stored, slope, intercept = _stored(filled(pixels, fill), empty)
    sources = _sources(source)
    with warnings.catch_warnings(), _folder(target, overwrite) as temporary:
        # pydicom warns of odd values copied from the source by quoting them, names included.
        warnings.simplefilter("ignore")
        template = _template(sources, description, derivation, projection)
        template.SeriesNumber = number
        template.RescaleSlope, template.RescaleIntercept = _decimal(slope), _decimal(intercept)
        template.RescaleType = "HU" if template.Modality == "CT" else "US"
        template.WindowCenter = _decimal((window[0] + window[1]) / 2)
        template.WindowWidth = _decimal(window[1] - window[0])
        if window[1] - window[0] < 1:
            template.VOILUTFunction = "LINEAR_EXACT"  # the default has no narrower ones (PS3.3 C.11.2.1.2)
        steps = [float((b.center - a.center) @ a.normal) for a, b in itertools.pairwise(listed)]
        for k, plane in enumerate(listed):
            dataset = _instance(template, plane, stored[k], k + 1)
            if empty.any():
                dataset.add_new("PixelPaddingValue", "US", PADDING)
            if steps and np.ptp(steps) < 1e-3 and abs(steps[0]) > 1e-3:
                dataset.SpacingBetweenSlices = _decimal(abs(steps[0]))
            save_dicom(dataset, temporary / f"IM{k + 1:04d}.dcm")
        expected = np.where(empty, np.float32(intercept), filled(pixels, fill))
        _read_back(temporary, target, expected, listed, slope)
    return target


# ---- content


def _sources(source: Source | Sequence[Source] | None) -> list[Mapping[str, Any]]:
    """Provenance of the DICOM sources; empty when there is none."""
    given = [] if source is None else [source] if isinstance(source, (SliceStack, Mapping)) else list(source)
    found = [s.source if isinstance(s, SliceStack) else s for s in given]
    found = [s for s in found if s.get("format") == "DICOM"]
    modalities = {_json_value(s, "00080060") for s in found}
    for what, values in (
        ("lie in different frames of reference", {_json_value(s, "00200052") for s in found} - {None}),
        ("are of different studies", {_json_value(s, "0020000D") for s in found} - {None}),
        ("are of different modalities", modalities & {"MR", "CT"}),
    ):
        if len(values) > 1:
            raise GaussianMRIError(f"The sources of the DICOM series {what}; give one of them.")
    for modality in modalities - _WRITTEN:
        raise GaussianMRIError(
            f"Derived series are of MR and CT, and the source is {printable(modality)}. Write a volume (.nrrd, .nii.gz)."
        )
    return found


def _json_value(source: Mapping[str, Any], tag: str) -> Any:
    values = source["attributes"].get(tag, {}).get("Value") or [None]
    return values[0]


def _template(sources: list[Mapping[str, Any]], description: str, derivation: str, projection: str) -> Dataset:
    """All that the images of the series have in common."""
    import pydicom
    from pydicom.uid import generate_uid

    # A copy of the source's attributes, in the types they had.
    dataset = pydicom.Dataset.from_json(dict(sources[0]["attributes"])) if sources else pydicom.Dataset()
    now = datetime.datetime.now()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    maker, model = dataset.get("Manufacturer"), dataset.get("ManufacturerModelName")
    defaults: dict[str, str | None]
    computed_tomography = dataset.get("Modality") == "CT"
    if not sources:
        dataset.PatientName, dataset.PatientID = "Anonymous", "ANONYMOUS"
        dataset.StudyDate, dataset.StudyTime = date, time
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, generate_uid(prefix=None))
    # What a study does not say stays unsaid: archives refuse series that differ in it, or show them as another patient's.
    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
        "ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition",
    ):  # fmt: skip
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if computed_tomography:
        dataset.SOPClassUID = _CT_IMAGE
        defaults = {"KVP": None, "AcquisitionNumber": None}
    else:
        dataset.SOPClassUID, dataset.Modality = _MR_IMAGE, "MR"
        defaults = {
            "ScanningSequence": "RM", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "2D",
            "EchoTime": None, "RepetitionTime": None, "EchoTrainLength": None,
        }  # fmt: skip
    for keyword, value in defaults.items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)
    dataset.SpecificCharacterSet = "ISO_IR 192"  # whatever the source had; pydicom encodes anew
    code, meaning, in_mr, in_ct = _PROJECTIONS[projection]
    dataset.ImageType = ["DERIVED", "SECONDARY", *(["AXIAL", in_ct] if computed_tomography else [in_mr])]
    # Attributes that some values of others ask for, though nobody knows them (type 2C: empty; 1C: it says so).
    if not any(dataset.get(keyword) for keyword in ("Laterality", "BodyPartExamined", "AnatomicRegionSequence")):
        dataset.Laterality = ""
    if "IR" in np.atleast_1d(dataset.get("ScanningSequence") or "") and "InversionTime" not in dataset:
        dataset.InversionTime = None
    if dataset.get("PatientIdentityRemoved") == "YES" and not dataset.get("DeidentificationMethod"):
        dataset.DeidentificationMethod = "not stated by the source"
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.SeriesDescription = description[:64]
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = date
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = time
    dataset.Manufacturer = dataset.ManufacturerModelName = "GaussianMRI"
    dataset.SoftwareVersions = __version__
    if projection != "mean":
        derivation = f"{meaning} of slabs. {derivation}"
    dataset.DerivationDescription = (
        f"{derivation}. GaussianMRI {__version__}; for research, not for diagnosis."[:1024]
    )
    dataset.DerivationCodeSequence = [_code(code, meaning)]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    if sources:
        equipment = pydicom.Dataset()
        equipment.PurposeOfReferenceCodeSequence = [_code("109101", "Acquisition Equipment")]
        equipment.Manufacturer, equipment.ManufacturerModelName = maker or "unknown", model or ""
        dataset.ContributingEquipmentSequence = [equipment]
        dataset.SourceImageSequence = [image for s in sources for image in _references(s, purpose=True)]
        series = dict.fromkeys(s["series_uid"] for s in sources)  # of which a reader may have made several stacks
        dataset.ReferencedSeriesSequence = [
            _referenced_series([s for s in sources if s["series_uid"] == uid]) for uid in series
        ]
    return dataset


def _code(value: str, meaning: str) -> Dataset:
    import pydicom

    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _references(source: Mapping[str, Any], purpose: bool = False) -> list[Dataset]:
    """One reference per source file, with the frames used of a multi-frame one."""
    import pydicom

    used: dict[str, list[int]] = {}
    for uid, frame in zip(source["slice_instance_uids"], source["slice_frame_numbers"], strict=True):
        used.setdefault(uid, []).append(int(frame))
    items = []
    for uid, frames in used.items():
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source["class_uid"], uid
        if frames != [1]:
            item.ReferencedFrameNumber = frames
        if purpose:
            item.PurposeOfReferenceCodeSequence = [
                _code("121322", "Source image for image processing operation")
            ]
        items.append(item)
    return items


def _referenced_series(stacks: Sequence[Mapping[str, Any]]) -> Dataset:
    """The reference to one series, by its stacks."""
    import pydicom

    series = pydicom.Dataset()
    series.SeriesInstanceUID = stacks[0]["series_uid"]
    series.ReferencedInstanceSequence = [image for s in stacks for image in _references(s)]
    return series


def _stored(
    values: NDArray[np.float32], empty: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], float, float]:
    """16-bit values, slope and intercept, so that value = stored * slope + intercept; `PADDING` where empty."""
    shown = values[~empty] if not empty.all() else np.zeros(1, np.float32)
    low, high = float(shown.min()), float(shown.max())
    first = PADDING + 1 if empty.any() else 0
    if low >= 0 and high <= 65535 - first and high - low >= _ENOUGH_GREY_LEVELS:
        slope, intercept = 1.0, float(-first)
    else:
        # Only numbers that a decimal string can hold, so that readers compute with the same ones.
        intercept = float(_decimal(low))
        slope = float(_decimal((high - intercept) / (65535.0 - first) * (1 + 1e-9))) if high > low else 1.0
        if first:
            intercept = float(_decimal(intercept - slope))
    stored = np.clip(np.rint((values.astype(np.float64) - intercept) / slope), first, 65535)
    return np.where(empty, PADDING, stored).astype(np.uint16), slope, intercept


def _instance(template: Dataset, plane: ImagePlane, stored: NDArray[np.uint16], number: int) -> Dataset:
    """One image of the series."""
    import pydicom
    from pydicom.uid import UID, generate_uid

    dataset = pydicom.Dataset()
    dataset.update(template)
    lps = LPS_RAS @ plane.ijk_to_ras
    i_axis, j_axis = lps[:3, 0] / plane.spacing[0], lps[:3, 1] / plane.spacing[1]
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [_decimal(v) for v in lps[:3, 3]]
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*i_axis, *j_axis)]
    dataset.PixelSpacing = [_decimal(plane.spacing[1]), _decimal(plane.spacing[0])]
    dataset.SliceThickness = _decimal(plane.thickness or min(plane.spacing))
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.add_new("PixelData", "OW", np.ascontiguousarray(stored, "<u2").tobytes())
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = UID(_EXPLICIT_VR_LITTLE_ENDIAN)
    return dataset


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as exact as that allows (DICOM PS3.5 6.2)."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value) + 0.0)


# ---- files


@contextlib.contextmanager
def _folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block succeeds."""
    if target.exists():
        foreign = not target.is_dir() or any(
            f.suffix.lower() != ".dcm" or f.is_dir() for f in target.iterdir()
        )
        if foreign or (any(target.iterdir()) and not overwrite):
            raise GaussianMRIError(
                f"{target} exists and is not empty. Choose a new folder for the DICOM series."
            )
    with atomic_folder(target) as temporary:
        yield temporary


def _read_back(
    folder: Path, target: Path, values: NDArray[np.float32], planes: Sequence[ImagePlane], slope: float
) -> None:
    """Read the series as any other and compare: a derived image in the wrong place would be worse than
    none."""
    from ..stacks.dicom_frames import frames, read_header
    from ..stacks.dicom_pixels import stored_values

    for k, plane in enumerate(planes):
        path = folder / f"IM{k + 1:04d}.dcm"
        (frame,) = frames(path, read_header(path))
        pixels = stored_values(path)[0] * frame.slope + frame.intercept
        moved = np.abs(ImagePlane(frame.ijk_to_ras, frame.shape).corners() - plane.corners()).max()
        wrong = np.abs(pixels - values[k]).max()
        if not (moved < 1e-4 and wrong <= 0.51 * slope + 1e-6 * np.abs(values).max()):
            raise GaussianMRIError(
                f"Image {k + 1} for {target} did not survive being written (moved {moved:.2g} mm, changed by "
                f"{wrong:.2g}). Check that the planes and values are of a sensible size."
            )
