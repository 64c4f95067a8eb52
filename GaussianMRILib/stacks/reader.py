"""`read_stacks`: files and folders in, slice stacks out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import GaussianMRIError
from ..files import files_below, path_of
from ..geometry.affine import check_spacing
from .dicom import Progress, read_dicom
from .dicom_frames import has_preamble, is_archive, looks_like_dicom
from .left_out import LeftOut
from .slice_stack import SliceStack
from .volumes import is_label_map, is_volume, read_volume

logger = logging.getLogger("GaussianMRI")


def read_stacks(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    thickness: float | None = None,
    progress: Progress | None = None,
    localizers: bool = False,
) -> list[SliceStack]:
    """Read slice stacks from DICOM, NIfTI, NRRD or MetaImage.

    Folders are searched to the bottom, through links as well. A DICOM series becomes one stack per orientation, matrix,
    pixel spacing, and per echo, b-value, time point or other repeat of the same positions. Blocks of slices within 45
    degrees of each other that lie one after the other, as they are planned along a spine, are one stack
    (`SliceStack.blocks` has them apart again). Slices are sorted by
    their position along the normal and keep their exact poses, so gantry tilt, missing slices and varying
    spacing need no correction. Slice thickness is DICOM's SliceThickness, also in
    the JSON file that dcm2niix writes beside a NIfTI file, else the distance between slices.

    Args:
        path: a file, a folder, or several of them.
        thickness: slice thickness in mm, in place of what the files say; NIfTI, NRRD and MetaImage cannot
            say.
        progress: called with the fraction done (0 to 1) and what is going on.
        localizers: also return localiser (scout) images when there are others. They are known by their Image Type, or
            by planes at right angles to each other within one series.

    Returns:
        The stacks, ordered by series number, each with a name of its own. Their frames of reference may
        differ; see `check_same_frame`.

    What is found in a folder and cannot be used (reports, segmentations, damaged files ...) is left out, with a warning
    in the log. So are label maps and localisers beside images.

    Raises:
        GaussianMRIError: nothing there, nothing readable, or a file that was named is damaged or has an absurd
            geometry.
    """
    if thickness is not None:
        check_spacing(thickness, "slice thickness given")
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path) if isinstance(path, Iterable) else [path]
    for item in [path] if isinstance(path, bytes) else given:
        path_of(item)
    if not given:
        raise GaussianMRIError("No input was given. Give a DICOM folder or an image file.")
    if "" in given:  # which would be the current folder
        raise GaussianMRIError("A path is empty. Give a DICOM folder or an image file.")
    volumes: dict[Path, None] = {}
    images: dict[Path, None] = {}
    named = {item.absolute() for item in map(Path, given) if not item.is_dir()}
    left_out = LeftOut(named)
    for item in map(Path, given):
        if item.is_dir():
            _sort_folder(item, volumes, images, left_out)
        elif not item.exists():
            raise GaussianMRIError(f"{item} does not exist. Check the path.")
        elif not item.is_file():
            raise GaussianMRIError(f"{item} is neither a file nor a folder. Give DICOM, NIfTI, NRRD or MHA files.")
        elif is_volume(item) and not has_preamble(item):
            volumes[item.absolute()] = None
        else:
            images[item.absolute()] = None  # read_header says so when it is not DICOM
    where = ", ".join(str(item) for item in given)
    stacks = read_dicom(list(images), thickness, progress, localizers, left_out) if images else []
    maps: list[tuple[Path, SliceStack]] = []
    for number, file in enumerate(volumes):
        try:
            stack = read_volume(file, thickness)
        except GaussianMRIError as error:
            left_out.failed(file, error)
            continue
        if file not in named and is_label_map(stack.pixels):
            maps.append((file, stack))
        else:
            stacks.append(stack)
        if progress:
            progress((number + 1) / len(volumes), f"reading {file.name}")
    if stacks:
        for file, _ in maps:
            left_out.add(file, "a label map by its values; name the file to read it")
    else:
        stacks = [stack for _, stack in maps]
    for stack in stacks:
        if stack.source.get("format") != "DICOM":  # read_dicom logs those of its own
            for note in stack.notes:
                logger.warning("%s: %s.", stack.name, note)
    if not stacks:
        raise GaussianMRIError(_nothing(where, left_out))
    left_out.say()
    return stacks


def _nothing(where: str, left_out: LeftOut) -> str:
    sentences = left_out.sentences()
    if not sentences:
        return f"{where} holds no DICOM, NIfTI, NRRD or MetaImage file. Give the folder of a series."
    text = f"{where} holds no image that can be used: {'; '.join(sentences[:3])}."
    # What is damaged says itself what to do.
    return text if any(". " in sentence for sentence in sentences) else f"{text} Give the folder of an MR or CT series."


def _sort_folder(
    folder: Path, volumes: dict[Path, None], images: dict[Path, None], left_out: LeftOut
) -> None:
    """Sort what lies below a folder into volumes, DICOM files and others."""
    others: list[Path] = []
    for file in _images_below(folder, left_out):
        if has_preamble(file):
            images[file] = None
        elif is_volume(file):
            volumes[file] = None
        elif looks_like_dicom(file):
            images[file] = None
        else:
            others.append(file)
    beside = {(file.parent, _kind_of_name(file)) for file in images}
    for file in others:
        if is_archive(file):
            left_out.add(file, "an archive, which is not searched. Unpack it and give its folder")
        elif (file.parent, _kind_of_name(file)) in beside or _kind_of_name(file) in _DICOM_NAMES:
            left_out.add(file, "empty, or not DICOM, though it is named like an image; copy it again")
        else:
            logger.info("Left out %s: neither DICOM nor a volume.", file)


_DICOM_NAMES = (".dcm", ".dicom", ".ima")


def _kind_of_name(file: Path) -> str:
    """The suffix, in lower case; numbers count as one, as in IM.001 and 1.2.840.17."""
    suffix = file.suffix.lower()
    return "#" if suffix[1:].isdigit() else suffix


def _images_below(folder: Path, left_out: LeftOut) -> list[Path]:
    """Files in and below `folder`, in a fixed order; hidden ones and directories of other media left out."""
    found: list[Path] = []
    for file in files_below(folder):
        if file.is_file() and file.name.upper() != "DICOMDIR":  # to open a pipe or a device may take for ever
            found.append(file)
        elif not file.exists():
            left_out.add(file, "a link to what is not there; copy that here, or give its folder")
    # A detached header names its data file itself.
    headers = {f.with_suffix("") for f in found if f.suffix.lower() == ".hdr"}
    return [
        f
        for f in found
        if not (f.suffix.lower() == ".img" and f.with_suffix("") in headers) or has_preamble(f)
    ]
