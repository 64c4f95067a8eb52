"""`read_stacks`: files and folders in, slice stacks out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import GaussianMRIError
from ..geometry.affine import check_spacing
from .dicom import Progress, read_dicom
from .dicom_frames import looks_like_dicom
from .slice_stack import SliceStack
from .volumes import is_volume, read_volume

logger = logging.getLogger("GaussianMRI")


def read_stacks(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    thickness: float | None = None,
    progress: Progress | None = None,
    localizers: bool = False,
) -> list[SliceStack]:
    """Read slice stacks from DICOM, NIfTI, NRRD or MetaImage.

    Folders are searched to the bottom. A DICOM series becomes one stack per orientation, matrix, pixel
    spacing, and per echo, b-value, time point or other repeat of the same positions. Blocks of slices within 45
    degrees of each other that lie one after the other, as they are planned along a spine, are one stack
    (`SliceStack.blocks` has them apart again). Slices are sorted by
    their position along the normal and keep their exact poses, so gantry tilt, missing slices and varying
    spacing need no correction. Slice thickness is DICOM's SliceThickness, else the distance between slices.

    Args:
        path: a file, a folder, or several of them.
        thickness: slice thickness in mm, in place of what the files say; NIfTI, NRRD and MetaImage cannot
            say.
        progress: called with the fraction done (0 to 1) and what is going on.
        localizers: also return localiser (scout) images when there are others.

    Returns:
        The stacks, ordered by series number, each with a name of its own. Their frames of reference may
        differ; see `check_same_frame`.

    Raises:
        GaussianMRIError: nothing there, nothing readable, or a file that is damaged or has an absurd
            geometry.
    """
    if thickness is not None:
        check_spacing(thickness, "slice thickness given")
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not given:
        raise GaussianMRIError("No input was given. Give a DICOM folder or an image file.")
    volumes: dict[Path, None] = {}
    images: dict[Path, None] = {}
    for item in map(Path, given):
        if item.is_dir():
            for file in _files_below(item):
                if is_volume(file):
                    volumes[file] = None
                elif looks_like_dicom(file):
                    images[file] = None
                else:
                    logger.info("Left out %s: neither DICOM nor a volume.", file)
        elif not item.exists():
            raise GaussianMRIError(f"{item} does not exist. Check the path.")
        elif is_volume(item):
            volumes[item.absolute()] = None
        else:
            images[item.absolute()] = None  # read_header says so when it is not DICOM
    if not volumes and not images:
        where = ", ".join(str(item) for item in given)
        raise GaussianMRIError(
            f"{where} holds no DICOM, NIfTI, NRRD or MetaImage file. Give the folder of a series."
        )
    stacks = read_dicom(list(images), thickness, progress, localizers) if images else []
    for number, file in enumerate(volumes):
        stacks.append(read_volume(file, thickness))
        if progress:
            progress((number + 1) / len(volumes), f"reading {file.name}")
    return stacks


def _files_below(folder: Path) -> list[Path]:
    """Files in and below `folder`, in a fixed order; hidden ones and directories of other media left out."""
    found: list[Path] = []
    for root, folders, files in os.walk(folder.absolute()):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(root, f) for f in sorted(files) if not f.startswith(".") and f.upper() != "DICOMDIR"]
    # A detached header names its data file itself.
    headers = {f.with_suffix("") for f in found if f.suffix.lower() == ".hdr"}
    return [f for f in found if not (f.suffix.lower() == ".img" and f.with_suffix("") in headers)]
