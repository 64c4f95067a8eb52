"""Volume files (NIfTI, NRRD, MetaImage) as slice stacks, read with SimpleITK."""

from __future__ import annotations

import gzip
import logging
import os
import struct
import tempfile
import zlib
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import CHUNK, itk_name, reading
from ..geometry.affine import LPS_RAS, check_spacing
from .itk import quiet_itk
from .sidecar import read_sidecar, sidecar_source, sidecar_thickness
from .slice_stack import SliceStack
from .volume_checks import check_volume_header
from .volume_headers import (
    check_nifti_files,
    geometry_notes,
    header_file,
    nifti_orientation,
    nrrd_affine,
    unit_mm,
    voxel_file,
)

logger = logging.getLogger("GaussianMRI")

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img")
#: A remark.
LABELS = "its values look like labels, not like an image"
_NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
#: A volume counts as stacked along its coarsest axis when that is this much coarser than the next one.
_ANISOTROPY = 1.2
#: A slice thickness is that of a volume's slices if it is this part of their distance.
_THINNEST, _THICKEST = 0.25 - 1e-3, 2 + 1e-3  # spacings of NIfTI are rounded to float32
#: Labels are no more than this many whole numbers, and this part of neighbours off the background have the same one.
_MOST_LABELS, _SAME_LABEL = 256, 0.75


def is_volume(path: Path) -> bool:
    """Whether the name of `path` is one of a volume file."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def read_volume(path: Path, thickness: float | None = None) -> SliceStack:
    """One 3D volume as a stack of its slices.

    The slices are taken across the axis with the coarsest spacing, whichever place it has in the file: that
    is how they were acquired. An isotropic volume keeps the file's last axis. The file knows no slice
    thickness: it is `thickness` (mm), else what dcm2niix's JSON file beside says, else the distance between slices. That
    file also says the contrast (`SliceStack.source`).

    Raises:
        GaussianMRIError: not readable, not one 3D volume of real numbers, or without a usable geometry.
    """
    with quiet_itk() as sitk:
        pixels, affine = read_voxels(sitk, path)
    notes = geometry_notes(path)
    if is_label_map(pixels):
        notes.append(LABELS)
    pixels, affine = stacked_along_coarsest_axis(pixels, affine)
    name = path.name
    for suffix in sorted(VOLUME_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    beside = read_sidecar(path)
    if thickness is None and (told := sidecar_thickness(beside)) is not None:
        # What was resampled since then has slices of another thickness than its scan.
        if _THINNEST <= told / np.linalg.norm(affine[:3, 2]) <= _THICKEST:
            thickness = told
            logger.info("%s: slices %.4g mm thick, as the .json beside it says.", path, told)
    source = sidecar_source(path, beside)
    try:
        return SliceStack.from_array(pixels, affine, thickness=thickness, name=name, source=source, notes=notes, copy=False)
    except GaussianMRIError as error:
        raise GaussianMRIError(f"{path}: {error}") from error


def read_voxels(sitk: Any, path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Pixels [k, j, i] and ijk_to_ras of the file."""
    if path.name.lower().endswith(_NIFTI_SUFFIXES):
        check_nifti_files(path)
    parts = check_volume_header(path)
    if parts is None:
        pixels, affine = _read_file(sitk, path, path)
    else:
        with reading(path, "a readable volume"), parts.in_one_file(path.suffix.lower()) as whole:
            pixels, affine = _read_file(sitk, path, whole)
    affine[:3] *= unit_mm(path)
    return pixels, affine


def _read_file(sitk: Any, path: Path, file: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """`read_voxels` of `path`, whose voxels and header are in `file` for the library that reads them."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(file, path))
    if path.suffix.lower() in (".mha", ".mhd"):
        reader.SetImageIO("MetaImageIO")  # which ITK finds by a suffix in lower case only
    header = None
    if path.name.lower().endswith(_NIFTI_SUFFIXES):
        header = nifti_header(path)
    try:
        reader.ReadImageInformation()
        size, components = reader.GetSize(), reader.GetNumberOfComponents()
        if components != 1 or reader.GetPixelIDValue() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
            raise GaussianMRIError(
                f"{path} has {components} values in each voxel, as colours, complex numbers and sequences of volumes have; "
                "save the one that you want as a volume of one real number each."
            )
        if len(size) == 2:
            raise GaussianMRIError(f"{path} is a 2D image without a place in space; give a 3D volume.")
        if len(size) > 3 and np.prod(size[3:]) > 1:
            raise GaussianMRIError(
                f"{path} holds {int(np.prod(size[3:]))} volumes ({' x '.join(map(str, size))}). "
                "Save the one you want, for instance a single time point or b-value, as a 3D file."
            )
        if len(size) > 3:
            reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
        image = reader.Execute()
        pixels = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        if header is None or "orthonormal" not in str(error):
            reason = str(error).strip().splitlines()[-1].strip()
            raise GaussianMRIError(
                f"{path} cannot be read: {reason} Check that the file is complete."
            ) from error
        # ITK refuses a sheared volume altogether; its pixels are fine.
        pixels = _pixels_without_geometry(sitk, path, header)
        if header.affine is None:
            raise GaussianMRIError(f"{path} has no usable orientation; set its sform.") from error
        return pixels, header.affine
    affine = np.eye(4)
    affine[:3, :3] = (
        np.asarray(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3] * image.GetSpacing()[:3]
    )
    affine[:3, 3] = image.GetOrigin()[:3]
    affine = LPS_RAS @ affine
    if (by_header := nrrd_affine(path)) is not None:
        return pixels, by_header
    if header is not None:
        if not header.slope and header.intercept:
            pixels = pixels - header.intercept  # a slope of 0 means no scaling; ITK adds the intercept all the same
        if header.affine is not None:
            # The sform as it is: ITK swaps it for the qform, or rounds it to a rotation, when it has shear.
            affine = header.affine
        else:
            # ITK turns a spacing of 0 into 1.
            check_spacing(header.spacing, f"voxel spacing of {path}")
    return pixels, affine


def is_label_map(pixels: NDArray[np.float32]) -> bool:
    """Whether pixels (K, rows, columns) look like labels: few whole numbers in patches, never noise."""
    # One slice tells of most images that they are none.
    if len(np.unique(pixels[len(pixels) // 2])) > _MOST_LABELS or not np.array_equal(pixels, np.rint(pixels)):
        return False
    found, counts = np.unique(pixels, return_counts=True)
    if not 2 <= len(found) <= _MOST_LABELS:
        return False
    background = found[np.argmax(counts)]
    same = []
    for axis in range(pixels.ndim):
        if pixels.shape[axis] > 1:
            one, other = np.moveaxis(pixels, axis, 0)[:-1], np.moveaxis(pixels, axis, 0)[1:]
            inside = (one != background) & (other != background)
            same.append(float(np.mean(one[inside] == other[inside])) if inside.any() else 0.0)
    same.sort()  # across thick slices, the worst axis, even labels change
    return same[-2:][0] > _SAME_LABEL


def stacked_along_coarsest_axis(
    pixels: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same volume with its coarsest axis as k. Axes move round cyclically, which keeps the handedness."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axis = int(np.argmax(spacing))
    others = np.delete(spacing, axis)
    if axis == 2 or not spacing[axis] > _ANISOTROPY * others.max():
        return pixels, affine
    order = [(axis + 1) % 3, (axis + 2) % 3, axis]  # old axes that become i, j, k
    moved = np.transpose(pixels, [2 - order[2], 2 - order[1], 2 - order[0]])
    return np.ascontiguousarray(moved), affine[:, [*order, 3]]


class _NiftiHeader:
    """Geometry of a NIfTI-1 file, straight from its header (nifti1.h).

    Attributes:
        affine: (4, 4) the sform in mm, RAS; None when the file has none (see `nifti_orientation`).
        spacing: pixdim[1..3], mm.
        slope, intercept: from stored values to intensities; a slope of 0 says that there is nothing to do, as NaN does.
        codes: where the codes of qform and sform are in the header, and their struct format.
        analyze: it is the header of an Analyze file, which says no more than how voxels are stored.
        offset, length: where the voxels begin in their file, and how long it is at least.
        floats, bytes: their type in the file, None of whole numbers, and the length of one.
    """

    def __init__(self, data: bytes) -> None:
        order = "<" if struct.unpack("<i", data[:4])[0] == 348 else ">"
        if struct.unpack(order + "i", data[:4])[0] != 348:
            raise ValueError("no NIfTI-1 header")
        self.analyze = data[344:347] not in (b"n+1", b"ni1")
        scale = {1: 1000.0, 3: 0.001}.get(data[123] & 7, 1.0)
        self.spacing = np.asarray(struct.unpack_from(order + "3f", data, 80)) * scale
        slope, intercept = struct.unpack_from(order + "2f", data, 112)
        # Some programs write NaN for no scaling, and ITK takes what is not finite for 0.
        self.slope, self.intercept = (v if np.isfinite(v) else 0.0 for v in (slope, intercept))
        self.codes = (252, order + "hh")
        self.affine: NDArray[np.float64] | None = None
        dims = struct.unpack_from(order + "8h", data, 40)
        voxels = int(np.prod(dims[1 : 1 + min(max(dims[0], 0), 7)], dtype=np.int64))
        offset = struct.unpack_from(order + "f", data, 108)[0]
        kind, bits = struct.unpack_from(order + "2h", data, 70)
        self.offset, self.length = int(offset), int(offset) + voxels * bits // 8
        self.floats, self.bytes = {16: order + "f4", 64: order + "f8"}.get(kind), bits // 8


def nifti_header(path: Path) -> _NiftiHeader | None:
    """The header of a NIfTI file; None when it has none, because ITK says what is wrong and reads Analyze.

    Voxels that are NaN or infinite are said, of which the library that reads them makes zeros in silence.

    Raises:
        GaussianMRIError: the file is shorter than its header says, which ITK passes over in silence; or
            NIfTI-2.
    """
    try:
        with _opened(header_file(path)) as file:
            start = file.read(348)
        if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
            raise GaussianMRIError(f"{path} is a NIfTI-2 file. Save it as NIfTI-1, NRRD or MHA.")
        header = _NiftiHeader(start)
        voxels = voxel_file(path)
        assert voxels is not None  # as `check_volume_header` saw
        length = unknown = 0
        with _opened(voxels) as file:
            while chunk := file.read(min(max(header.offset - length, 0), CHUNK) or CHUNK):
                if header.floats and length >= header.offset:
                    count = max(0, min(len(chunk), header.length - length)) // header.bytes
                    there = np.frombuffer(chunk, header.floats, count)
                    unknown += int(np.count_nonzero(~np.isfinite(there)))
                length += len(chunk)
    except (ValueError, IndexError, struct.error):
        return None
    except (OSError, EOFError, zlib.error) as error:
        raise GaussianMRIError(
            f"{path} cannot be read: it is truncated or damaged. Copy it again."
        ) from error
    if length < header.length:
        raise GaussianMRIError(f"{voxels} is truncated: {length} of {header.length} bytes. Copy it again.")
    if unknown:
        logger.warning("%s: %d voxels are NaN or infinite, for which 0 is taken.", path, unknown)
    if header.analyze:
        return None
    header.affine = nifti_orientation(path)[0]
    return header


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    """A file, unpacked if its name says that it is packed."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb")


def _pixels_without_geometry(sitk: Any, path: Path, header: _NiftiHeader) -> NDArray[Any]:
    """Pixels [k, j, i] of a NIfTI file whose orientation ITK refuses: read from a copy without
    orientation."""
    if path.suffix.lower() in (".hdr", ".img"):
        raise GaussianMRIError(f"{path} is a sheared volume in two files; save it as one .nii file.")
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        content = bytearray(file.read())
    struct.pack_into(header.codes[1], content, header.codes[0], 0, 0)
    handle, name = tempfile.mkstemp(suffix=".nii")
    try:
        with os.fdopen(handle, "wb") as copy:
            copy.write(content)
        pixels: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(name))
    except RuntimeError as error:
        raise GaussianMRIError(f"{path} cannot be read; check that the file is complete.") from error
    finally:
        os.unlink(name)
    if pixels.ndim != 3:
        raise GaussianMRIError(f"{path} holds several volumes; save the one you want as a 3D file.")
    return pixels
