"""Stored pixel values of a DICOM file, whatever its transfer syntax."""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import unpacked
from .itk import quiet_itk

if TYPE_CHECKING:
    from pydicom import Dataset

#: What a decoder needs to know of an image, and nothing else.
_PIXEL_KEYWORDS = (
    "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelData",
)  # fmt: skip

#: Transfer syntax of files that are packed as a whole, and bytes that one may become.
_DEFLATED, _LARGEST_DEFLATED = b"1.2.840.10008.1.2.1.99", 2 << 30
#: Transfer syntaxes in which the pixels lie in the file as they are.
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


@dataclass(frozen=True)
class Layout:
    """Where uncompressed pixels lie in a file, so that they can be read without parsing it again.

    Attributes:
        offset: of the first pixel, bytes.
        frames, rows, columns: how many there are.
        dtype: of a pixel as it is stored, with its byte order.
        bits_stored, high_bit: which of its bits mean something.
    """

    offset: int
    frames: int
    rows: int
    columns: int
    dtype: str
    bits_stored: int
    high_bit: int


def check_deflated(path: Path, file: BinaryIO) -> None:
    """Refuse a deflated file that would become too large: pydicom unpacks all of it before it looks at anything.

    Raises:
        GaussianMRIError: see above.
    """
    start = file.read(1024)
    file.seek(0)
    if _DEFLATED not in start:
        return
    begin = 132 if start[128:132] == b"DICM" else 0
    if start[begin : begin + 4] != b"\x02\0\0\0":  # the element with that length, at whose end the rest begins
        raise ValueError("its file meta information has no length")
    begin += 12 + int(struct.unpack_from("<I", start, begin + 8)[0])
    found = 0
    for piece in unpacked(path, begin, "deflate"):
        found += len(piece)
        if found > _LARGEST_DEFLATED:
            raise GaussianMRIError(
                f"{path} would be unpacked to more than {_LARGEST_DEFLATED / 2**30:g} GB, which no image has. Copy it again."
            )


def layout_of(header: Dataset, file: BinaryIO) -> Layout | None:
    """The layout of the pixels of a file that was read up to them; None where pydicom has to read them."""
    offset = file.tell()
    start = file.read(12)
    order = {b"\xe0\x7f\x10\x00": "<", b"\x7f\xe0\x00\x10": ">"}.get(start[:4])
    if order is None or len(start) < 12 or str(_syntax(header) or _NATIVE[0]) not in _NATIVE:
        return None
    explicit = start[4:6] in (b"OB", b"OW")
    length = struct.unpack_from(order + "I", start, 8 if explicit else 4)[0]
    try:
        frames, rows, columns, allocated, stored, high, signed = (
            int(header.get(keyword, default) or 0)
            for keyword, default in (
                ("NumberOfFrames", 1), ("Rows", 0), ("Columns", 0), ("BitsAllocated", 0), ("BitsStored", 0),
                ("HighBit", 0), ("PixelRepresentation", 0),
            )
        )  # fmt: skip
    except (TypeError, ValueError):
        return None
    frames = max(frames, 1)
    plain = allocated in (8, 16, 32) and 0 < stored <= high + 1 <= allocated and int(header.get("SamplesPerPixel", 1)) == 1
    if (
        not plain
        or (order == ">" and allocated == 8)  # two pixels to a word, swapped
        or not frames * rows * columns * allocated // 8 <= length < 0xFFFFFFFF
    ):
        return None
    dtype = f"{order}{'i' if signed else 'u'}{allocated // 8}"
    return Layout(offset + (12 if explicit else 8), frames, rows, columns, dtype, stored, high)


def raw_frame(path: Path, layout: Layout, index: int) -> NDArray[Any]:
    """Frame `index` (rows, columns) as it lies in the file, meaningless bits included; see `meaningful`.

    Raises:
        GaussianMRIError: the file ends before it, or cannot be read.
    """
    dtype = np.dtype(layout.dtype)
    size = layout.rows * layout.columns * dtype.itemsize
    try:
        with path.open("rb") as file:
            file.seek(layout.offset + index * size)
            content = file.read(size)
    except OSError as error:
        raise GaussianMRIError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) < size:
        raise GaussianMRIError(f"{path} is truncated: its pixels are not all there. Copy it again.")
    values = np.frombuffer(content, dtype).reshape(layout.rows, layout.columns)
    return values.astype(dtype.newbyteorder("="), copy=False)


def meaningful(values: NDArray[Any], bits_stored: int, high_bit: int) -> NDArray[Any]:
    """Stored values without the bits around them, which may hold anything (DICOM PS3.5 8.1.1); signs are carried on."""
    if values.dtype.kind not in "iu":
        return values
    above = 8 * values.dtype.itemsize - 1 - high_bit
    below = high_bit + 1 - bits_stored
    if above < 0 or below < 0 or above == below == 0:
        return values
    cleaned: NDArray[Any] = (values << above) >> (above + below)
    return cleaned


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
    # A decoder has moved the bits that mean something to the lowest places.
    bits = int(dataset.get("BitsStored", 16) or 16)
    return meaningful(values, bits, bits - 1)


def _read_up_to_pixels(path: Path) -> Dataset:
    """The data set including its pixel data; what some writers leave behind that can take longer to parse."""
    from pydicom.filereader import read_partial

    past_pixels = False

    def stop(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal past_pixels
        done = past_pixels
        past_pixels = tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)
        return done

    with path.open("rb") as file:
        return read_partial(file, stop_when=stop, force=True)


def _syntax(dataset: Dataset) -> Any:
    """The UID of the transfer syntax; None where the file does not say it."""
    meta: Any = getattr(dataset, "file_meta", {})
    return meta.TransferSyntaxUID if "TransferSyntaxUID" in meta else None


def _is_compressed(dataset: Dataset) -> bool:
    syntax = _syntax(dataset)
    if syntax is None:
        return False
    try:
        return bool(syntax.is_compressed)
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
