"""Volumes written slab by slab, so that they need not fit into memory."""

from __future__ import annotations

import contextlib
import gzip
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..geometry.affine import LPS_RAS

SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha")
#: The higher levels of zlib take several times as long and save some per cent of noisy float32 voxels.
_LEVEL = 1
_WRITTEN_AT_ONCE = 1 << 22  # voxels


@contextlib.contextmanager
def spooled(slabs: Iterable[tuple[int, NDArray[np.float32]]], shape: tuple[int, int, int]) -> Iterator[NDArray[np.float32]]:
    """All slabs as one array (slices, rows, columns) in a temporary file, which the block may read in parts.

    What a file has in place of NaN depends on the smallest value of the volume, so nothing can be written before
    everything is known.

    Args:
        slabs: index of the first slice and voxels (n, rows, columns) of each.
        shape: slices, rows, columns.
    """
    with tempfile.TemporaryFile(prefix="GaussianMRI-") as file:
        try:
            file.truncate(4 * int(np.prod(shape)))
            voxels = np.memmap(file, np.float32, "r+", shape=shape)
            for first, slab in slabs:
                voxels[first : first + len(slab)] = slab
        except OSError as error:
            raise GaussianMRIError(
                f"No room for {4e-9 * np.prod(shape):.1f} GB of voxels in the folder of temporary files "
                f"({error.strerror}). Use a larger spacing, or set TMPDIR to another folder."
            ) from error
        yield voxels


def fill_of(voxels: NDArray[np.float32]) -> float | None:
    """What files have where voxels (slices, rows, columns) are NaN, as `write_volume` chooses it: 0, or the smallest value
    if that is negative. None where all are NaN."""
    least = np.inf
    for part in _parts(voxels):
        finite = part[np.isfinite(part)]
        least = min(least, float(finite.min(initial=np.inf)))
    return min(0.0, least) if np.isfinite(least) else None


def write_grid(
    path: str | os.PathLike[str],
    voxels: NDArray[np.float32],
    ijk_to_ras: NDArray[np.float64],
    fill: float = 0.0,
) -> Path:
    """Write a volume of perpendicular axes as `write_volume` does, reading `voxels` in parts.

    Args:
        path: the suffix chooses the format: .nrrd (gzip), .nii.gz (gzip), .nii or .mha.
        voxels: (slices, rows, columns) float32, of any size, such as a memory map.
        ijk_to_ras: (4, 4), mm, right-handed with perpendicular axes.
        fill: value where voxels are NaN or infinite.

    Returns:
        The path written.

    Raises:
        GaussianMRIError: an unknown suffix, axes that are not perpendicular or are left-handed, a volume too large for the
            format, or the file cannot be written. An existing file is replaced only when the new one is complete.
    """
    target = Path(path)
    name = target.name.lower()
    if not name.endswith(SUFFIXES):
        raise GaussianMRIError(f"{target} has no suffix of a volume. Use one of {', '.join(SUFFIXES)}.")
    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    directions = ijk_to_ras[:3, :3] / spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-6) or np.linalg.det(directions) < 0:
        raise GaussianMRIError(f"The axes of the volume for {target} must be perpendicular and right-handed.")
    nifti = ".nii" in name
    if nifti and max(voxels.shape) > 32767:
        raise GaussianMRIError(f"NIfTI has at most 32767 voxels along an axis, {target} would have {max(voxels.shape)}.")
    lps = LPS_RAS @ ijk_to_ras
    header = (_nifti if nifti else _mha if name.endswith(".mha") else _nrrd)(voxels.shape, ijk_to_ras, lps)
    with atomic_write(target) as temporary, open(temporary, "wb") as file, contextlib.ExitStack() as closing:
        body: IO[bytes] = file
        if name.endswith(".nrrd"):
            file.write(header)  # of .nrrd, only the voxels are compressed
        if name.endswith((".nrrd", ".gz")):
            # No name and no time, so that the same volume is the same file.
            zipped = gzip.GzipFile("", "wb", _LEVEL, file, mtime=0)
            body = cast(IO[bytes], closing.enter_context(zipped))
        if not name.endswith(".nrrd"):
            body.write(header)
        for part in _parts(voxels):
            body.write(np.where(np.isfinite(part), part, np.float32(fill)).astype("<f4", copy=False).tobytes())
    return target


def _parts(voxels: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    depth = max(1, _WRITTEN_AT_ONCE // max(1, voxels[0].size))
    for first in range(0, len(voxels), depth):
        yield voxels[first : first + depth]


def _nrrd(shape: tuple[int, ...], _: NDArray[np.float64], lps: NDArray[np.float64]) -> bytes:
    def vector(values: NDArray[np.float64]) -> str:
        return "(" + ",".join(repr(float(v) + 0.0) for v in values) + ")"

    lines = [
        "NRRD0004", "type: float", "dimension: 3", "space: left-posterior-superior",
        "sizes: " + " ".join(str(n) for n in shape[::-1]),
        "space directions: " + " ".join(vector(lps[:3, axis]) for axis in range(3)),
        "kinds: domain domain domain", "endian: little", "encoding: gzip", "space origin: " + vector(lps[:3, 3]),
    ]  # fmt: skip
    return ("\n".join(lines) + "\n\n").encode()


def _mha(shape: tuple[int, ...], _: NDArray[np.float64], lps: NDArray[np.float64]) -> bytes:
    spacing = np.linalg.norm(lps[:3, :3], axis=0)

    def numbers(values: NDArray[np.float64]) -> str:
        return " ".join(repr(float(v) + 0.0) for v in values)

    lines = [
        "ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
        "CompressedData = False", f"TransformMatrix = {numbers((lps[:3, :3] / spacing).T.ravel())}",
        f"Offset = {numbers(lps[:3, 3])}", "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {numbers(spacing)}", "DimSize = " + " ".join(str(n) for n in shape[::-1]),
        "ElementType = MET_FLOAT", "ElementDataFile = LOCAL",
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


def _nifti(shape: tuple[int, ...], ijk_to_ras: NDArray[np.float64], _: NDArray[np.float64]) -> bytes:
    """A NIfTI-1 header with the pose in both of its forms (https://nifti.nimh.nih.gov/nifti-1, fields in its order)."""
    from scipy.spatial.transform import Rotation

    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    b, c, d, a = Rotation.from_matrix(ijk_to_ras[:3, :3] / spacing).as_quat()
    quaternion = np.array([b, c, d]) * (-1 if a < 0 else 1)
    header = struct.pack("<i36x8h", 348, 3, *shape[::-1], 1, 1, 1, 1)
    header += struct.pack("<14x2h2x8f", 16, 32, 1.0, *spacing, 0, 0, 0, 0)  # float32; right-handed
    header += struct.pack("<3fhBB4f8x", 352.0, 1.0, 0.0, 0, 0, 2, 0, 0, 0, 0)  # no scaling, mm
    header += b"GaussianMRI".ljust(80, b"\0") + bytes(24)
    header += struct.pack("<2h6f", 1, 1, *quaternion, *ijk_to_ras[:3, 3])
    header += struct.pack("<12f16x4s4x", *ijk_to_ras[:3].ravel(), b"n+1\0")
    assert len(header) == 352
    return header
