"""One series folder of the RSNA layout: stacks of parallel slices, or the reason why it cannot be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..stacks import SliceStack, read_stacks
from ..stacks.dicom_frames import Frame, NotAnImage, frames, read_header
from .rsna_tables import AXIAL

if TYPE_CHECKING:
    from pydicom import Dataset

#: Slices of one slab lie on one line along its normal, to within this (mm).
_SAME_LINE_MM = 0.5
#: A distance between slices above this share of the usual one ends a slab.
_GAP = 1.5
#: Slices whose axes differ by less belong to one orientation (0.1 degrees), as for the reader.
_SAME_ORIENTATION = 2e-3
_ONE_DEGREE = 0.9998  # its cosine
#: Smallest cosine between a stack's normal and the axis that its description names: within 60 degrees of axial (a disc
#: at L5/S1 tilts by up to 45), within 45 of sagittal.
_AXIAL_COSINE, _SAGITTAL_COSINE = 0.5, 0.7


@dataclass
class RsnaSeries:
    """What is in a series' folder.

    Attributes:
        stacks: each of parallel slices at even distances, sorted by position; none where the series is left out.
        problems: what is wrong, a sentence each.
        images: every image in it, by DICOM Instance Number; a number that two different images have is left out.
        patients: values of Patient ID found, "" for none. Not for messages.
        studies: values of Study Instance UID found.
        synthetic: the images are of a computed phantom.
        left_out: it is not used at all.
    """

    stacks: list[SliceStack] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    images: dict[int, Frame] = field(default_factory=dict)
    patients: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    synthetic: bool = False
    left_out: bool = False

    @property
    def frame_of_reference(self) -> str | None:
        """Of its images; None where they have none."""
        return next((image.frame_of_reference for image in self.images.values()), None)


class _LeftOut(Exception):
    """The series is not used; the message says why."""


def read_series(folder: Path, description: str, pixels: bool = True) -> RsnaSeries:
    """Read the series in `folder`, `{instance}.dcm`.

    A series is used whole or not at all: with a damaged or missing file, or images of another series among its own,
    nobody knows which slice belongs where. Slabs at different angles, in different places, of different matrix sizes,
    or with a gap between them become stacks of their own, so that nothing is interpolated across a gap. Slices are
    sorted by position, never by Instance Number.

    Args:
        description: one of `DESCRIPTIONS`; images in another orientation are left out.
        pixels: False reads headers only, and no stacks.
    """
    series = RsnaSeries()
    try:
        files = _files(folder)
        images = list(_images(files, series))
        _check_one_series(images)
        images = _without_copies(images, series)
        if pixels:
            series.stacks = _stacks(images, folder.name, description, series)
    except _LeftOut as reason:
        series.problems.append(f"series {folder.name} ({description}) is left out: {reason}")
        series.stacks, series.left_out = [], True
    return series


def is_synthetic(header: Dataset) -> bool:
    """Whether an image says that it is of a computed phantom."""
    return str(header.get("StudyDescription", "") or "").upper().startswith("SYNTHETIC")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise _LeftOut("it is described, but its folder is not there")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not files:
        raise _LeftOut("its folder is empty")
    return files


def _images(files: list[Path], series: RsnaSeries) -> Iterator[Frame]:
    taken: Counter[int] = Counter()
    renamed = 0
    for path in files:
        try:
            header = read_header(path)
            found = frames(path, header)
        except NotAnImage as reason:
            raise _LeftOut(f"{path.name} is {reason}") from None
        except GaussianMRIError as error:
            raise _LeftOut(str(error)) from None
        series.patients.add(str(header.get("PatientID", "") or "").strip())
        series.studies.add(str(header.get("StudyInstanceUID", "") or ""))
        series.synthetic |= is_synthetic(header)
        renamed += path.stem.isdigit() and int(path.stem) != found[0].instance_number
        for image in found:
            if image.modality != "MR":
                raise _LeftOut(f"{path.name} is of modality '{image.modality}', not MR")
            taken[image.instance_number] += 1
            series.images[image.instance_number] = image
            yield image
    if renamed:
        series.problems.append(
            f"series {files[0].parent.name}: {renamed} of {len(files)} files are named by another number than their "
            "Instance Number, which counts"
        )
    for number, count in taken.items():
        if count > 1:
            del series.images[number]
            series.problems.append(
                f"series {files[0].parent.name}: {count} images have the Instance Number {number}; label coordinates on "
                "it are not used"
            )


def _check_one_series(images: list[Frame]) -> None:
    count = len({image.series_uid for image in images})
    if count > 1:
        raise _LeftOut(f"it mixes images of {count} series")
    if len({image.frame_of_reference for image in images}) > 1:
        raise _LeftOut("its images lie in different frames of reference")


def _without_copies(images: list[Frame], series: RsnaSeries) -> list[Frame]:
    """Each image once.

    Raises:
        _LeftOut: different images at one place (echoes, repeats): nothing says which one was graded.
    """
    places: dict[tuple[object, ...], Frame] = {}
    copies = 0
    for image in images:
        key = (image.shape, *image.ijk_to_ras.round(2).ravel().tolist())
        before = places.setdefault(key, image)
        if before is not image:
            if before.instance_uid != image.instance_uid:
                raise _LeftOut(
                    f"{before.path.name} and {image.path.name} are different images of one place (echoes or repeats)"
                )
            copies += 1
    if copies:
        series.problems.append(f"series {images[0].path.parent.name}: {copies} files are copies of others")
    return list(places.values())


# ---- stacks


def _stacks(images: list[Frame], name: str, description: str, series: RsnaSeries) -> list[SliceStack]:
    try:
        # Localisers in a described series are images like others, and are refused by their orientation.
        read = read_stacks([image.path for image in images], localizers=True)
    except GaussianMRIError as error:
        raise _LeftOut(str(error)) from None
    stacks = [part for stack in read for part in _orientations(stack)]
    count = sum(stack.shape[0] for stack in stacks)
    if count != len(images):
        raise _LeftOut(f"{len(images) - count} of its {len(images)} images cannot be placed in space")
    fitting = [stack for stack in stacks if _as_described(stack, description)]
    wrong = count - sum(stack.shape[0] for stack in fitting)
    if not fitting:
        raise _LeftOut("its images have another orientation")
    if wrong:
        series.problems.append(
            f"series {name}: {wrong} of {count} images are not {description.split()[0].lower()} and are left out"
        )
    seen = [stack.pixels.min(axis=(1, 2)) < stack.pixels.max(axis=(1, 2)) for stack in fitting]
    empty = int(sum((~each).sum() for each in seen))
    if empty:
        series.problems.append(
            f"series {name}: {empty} images are empty (one value everywhere) and count as missing"
        )
    fitting = [stack.subset(each) for stack, each in zip(fitting, seen, strict=True) if each.any()]
    if not fitting:
        raise _LeftOut("every image is empty")
    sizes = {stack.shape[1:] for stack in fitting}
    if len(sizes) > 1:
        text = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        series.problems.append(f"series {name} has images of several sizes ({text}), kept apart")
    found = [slab for stack in fitting for slab in slabs(stack)]
    for stack in fitting:
        series.problems += [f"series {name}: {note}" for note in stack.notes if "missing" in note]
    if len(found) == 1:
        return [replace(found[0], name=f"series {name}")]
    return [replace(slab, name=f"series {name}, slab {n}") for n, slab in enumerate(found, 1)]


def _orientations(stack: SliceStack) -> list[SliceStack]:
    """The slices of each orientation by themselves, in the order of acquisition: discs have angles of their own."""
    kept: list[list[int]] = []
    axes = stack.ijk_to_ras[:, :3, :2] / np.asarray(stack.pixel_spacing)
    for k, own in enumerate(axes):
        for same in kept:
            if np.abs(own - axes[same[0]]).max() < _SAME_ORIENTATION:
                same.append(k)
                break
        else:
            kept.append([k])
    numbers = stack.source["slice_instance_numbers"]
    kept.sort(key=lambda same: min(numbers[k] for k in same))
    return [stack] if len(kept) == 1 else [stack.subset(same) for same in kept]


def _as_described(stack: SliceStack, description: str) -> bool:
    normal = np.abs(stack.normal)
    if description == AXIAL:
        return bool(normal[2] >= _AXIAL_COSINE and normal[0] < _SAGITTAL_COSINE)
    return bool(normal[0] >= _SAGITTAL_COSINE)


def oriented_slabs(stack: SliceStack) -> list[SliceStack]:
    """Slabs of a series whose blocks of slices have angles of their own: slices of one orientation each, without gaps."""
    groups: list[list[int]] = []
    for k, normal in enumerate(stack.ijk_to_ras[:, :3, 2]):
        for group in groups:
            if abs(normal @ stack.ijk_to_ras[group[0], :3, 2]) > _ONE_DEGREE:
                group.append(k)
                break
        else:
            groups.append([k])
    return [slab for group in groups for slab in slabs(stack.subset(group))]


def slabs(stack: SliceStack) -> list[SliceStack]:
    """Split parallel slices into runs on one line along the normal, without gaps; from inferior or right upwards as given.

    Two blocks of slices with one angle, each centred on its own disc, come as one sorted stack: they differ by a step within
    the plane, by a gap, or by both, and may interleave. A sheared block, in which every slice is moved against the
    one before, stays whole.
    """
    normal = stack.normal
    origins = stack.ijk_to_ras[:, :3, 3]
    across = origins - (origins @ normal)[:, None] * normal
    lines: list[list[int]] = []
    for k, place in enumerate(across):
        for line in lines:
            if np.linalg.norm(place - across[line[-1]]) < _SAME_LINE_MM:
                line.append(k)
                break
        else:
            lines.append([k])
    if len(lines) > 1 and max(map(len, lines)) == 1:
        lines = [list(range(len(origins)))]
    return [stack.subset(run) for line in lines for run in _runs(line, stack.positions)]


def _runs(line: list[int], positions: NDArray[np.float64]) -> Iterator[list[int]]:
    """Cut where the distance is larger than usual; `positions` increase along `line`."""
    steps = np.diff(positions[line])
    cuts = np.flatnonzero(steps > _GAP * np.median(steps)) + 1 if len(steps) else np.zeros(0, dtype=int)
    for part in np.split(np.asarray(line), cuts):
        yield part.tolist()
