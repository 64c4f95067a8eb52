"""Stored pixel values of a DICOM file, whatever its transfer syntax."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .itk import quiet_itk

if TYPE_CHECKING:
    from pydicom import Dataset

#: What a decoder needs to know of an image, and nothing else.
_PIXEL_KEYWORDS = (
    "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelData",
)  # fmt: skip


def stored_values(path: Path) -> NDArray[Any]:
    """Stored values (frames, rows, columns) of the DICOM image `path`, before rescale slope and intercept.

    pydicom decodes, with whichever plug-ins are installed; GDCM inside SimpleITK decodes the compressed
    transfer syntaxes that pydicom cannot.

    Raises:
        GaussianMRIError: pixel data missing, truncated, damaged, or in a transfer syntax that nothing here
            decodes.
    """
    with warnings.catch_warnings():
        # pydicom warns of odd values by quoting them, names included.
        warnings.simplefilter("ignore")
        try:
            dataset = _read_up_to_pixels(path)
            compressed = _is_compressed(dataset)
        except Exception as error:  # damaged files raise nearly anything
            raise GaussianMRIError(f"{path} is damaged: {_reason(error)}. Copy the file again.") from error
        if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise GaussianMRIError(f"{path} has no pixel data; the file is truncated. Copy it again.")
        try:
            values: NDArray[Any] = dataset.pixel_array
        except Exception as error:
            if not compressed:
                raise GaussianMRIError(
                    f"The pixel data of {path} cannot be read: {_reason(error)}. "
                    "The file is truncated or damaged; copy it again."
                ) from error
            values = _decode_with_itk(path, dataset, error)
    shape = (int(dataset.get("NumberOfFrames", 1) or 1), int(dataset.Rows), int(dataset.Columns))
    if values.size != np.prod(shape):
        raise GaussianMRIError(
            f"{path} holds {values.shape} pixels where its header says {shape}; copy the file again."
        )
    values = values.reshape(shape)
    unused = int(dataset.get("BitsAllocated", 16)) - int(dataset.get("BitsStored", 16))
    if values.dtype.kind == "i" and unused > 0:
        # Signed values of fewer bits: the sign has to be carried into the unused bits.
        values = (values << unused) >> unused
    return values


def _read_up_to_pixels(path: Path) -> Dataset:
    """The data set including its pixel data; what some writers leave behind that can take longer to parse."""
    from pydicom.filereader import read_partial

    past_pixels = False

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal past_pixels
        done = past_pixels
        past_pixels = tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)
        return done

    with path.open("rb") as file:
        return read_partial(file, stop_when=stop, force=True)


def _is_compressed(dataset: Dataset) -> bool:
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
        return False
    try:
        return bool(dataset.file_meta.TransferSyntaxUID.is_compressed)
    except ValueError:  # a private syntax, or one newer than pydicom
        return True


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__


def _decode_with_itk(path: Path, dataset: Dataset, first_error: Exception) -> NDArray[Any]:
    """Decode through SimpleITK from a bare copy, so that it cannot rescale or reorient anything."""
    import pydicom
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    syntax = dataset.file_meta.TransferSyntaxUID
    bare = pydicom.Dataset()
    for keyword in _PIXEL_KEYWORDS:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.PhotometricInterpretation = "MONOCHROME2"
    bare.SOPClassUID = SecondaryCaptureImageStorage
    bare.SOPInstanceUID = generate_uid()
    bare["PixelData"].is_undefined_length = True
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    handle, name = tempfile.mkstemp(suffix=".dcm")
    os.close(handle)
    try:
        save_dicom(bare, Path(name))
        with quiet_itk() as sitk:
            return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(name)))
    except Exception as error:
        raise GaussianMRIError(
            f"The pixel data of {path} cannot be decoded ({syntax.name}): {_reason(first_error)}. Install "
            "pydicom's plug-ins (pip install pylibjpeg[all] pyjpegls), or convert the file to an "
            "uncompressed transfer syntax."
        ) from error
    finally:
        os.unlink(name)


def save_dicom(dataset: Dataset, path: Path) -> None:
    """Write `dataset` as a DICOM file with preamble, in the transfer syntax of its `file_meta`."""
    import pydicom

    if int(pydicom.__version__.split(".")[0]) >= 3:
        dataset.save_as(path, enforce_file_format=True)
        return
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.is_little_endian = syntax.is_little_endian
    dataset.is_implicit_VR = syntax.is_implicit_VR
    dataset.save_as(path, write_like_original=False)
