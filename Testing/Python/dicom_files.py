"""Small DICOM files made for tests; written with pydicom alone, so that they do not share code with the
library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def image(
    pixels: np.ndarray, position: Any, orientation: Any = (1, 0, 0, 0, 1, 0), **attributes: Any
) -> Dataset:
    """A minimal MR image of 16 bits at an Image Position (LPS); `attributes` set or (with None) remove
    tags."""
    dataset = Dataset()
    dataset.SOPClassUID = MR_IMAGE
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = (
        "1.2.3",
        "1.2.4",
        "1.2.5",
    )
    dataset.Modality, dataset.PatientName, dataset.PatientID = "MR", "SECRET^NAME", "SECRET-ID"
    dataset.SeriesDescription, dataset.SeriesNumber, dataset.InstanceNumber = "T2", 3, 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), list(orientation)
    dataset.PixelSpacing, dataset.SliceThickness = [0.75, 0.5], 3.0
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1 if pixels.dtype.kind == "i" else 0
    dataset.add_new("PixelData", "OW", np.ascontiguousarray(pixels).tobytes())
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if int(pydicom.__version__.split(".")[0]) >= 3:
        dataset.save_as(path, enforce_file_format=True)
    else:
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path, write_like_original=False)
    return path


def series(
    folder: Path, count: int = 4, step: float = 4.0, prefix: str = "a", seed: int = 1, **attributes: Any
) -> list[Path]:
    """`count` axial slices `step` mm apart; slice k is filled with 100 + k at the corners and noise, of that seed,
    elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for k in range(count):
        pixels = random.integers(0, 200, (6, 5)).astype(np.uint16)
        pixels[0, 0] = 100 + k
        dataset = image(pixels, (-10.0, -20.0, 30.0 + step * k), **({"InstanceNumber": k + 1} | attributes))
        paths.append(save(dataset, folder / f"{prefix}{k:02d}.dcm"))
    return paths


def enhanced(pixels: np.ndarray, frames: list[dict[str, Any]], **attributes: Any) -> Dataset:
    """An enhanced MR file; each entry of `frames` has position and may have orientation, echo_time,
    thickness."""
    dataset = image(pixels, (0, 0, 0), **attributes)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.NumberOfFrames = ENHANCED_MR, len(frames)
    shared = Dataset()
    measures, way = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 3.0
    way.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [way]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for content in frames:
        group, place, transform = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = list(content["position"])
        group.PlanePositionSequence = [place]
        transform.RescaleSlope, transform.RescaleIntercept = (
            content.get("slope", 1),
            content.get("intercept", 0),
        )
        group.PixelValueTransformationSequence = [transform]
        if "orientation" in content:
            own = Dataset()
            own.ImageOrientationPatient = list(content["orientation"])
            group.PlaneOrientationSequence = [own]
        if "echo_time" in content:
            echo = Dataset()
            echo.EffectiveEchoTime = content["echo_time"]
            group.MREchoSequence = [echo]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset
