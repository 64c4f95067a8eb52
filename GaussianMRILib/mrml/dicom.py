"""Volumes from Slicer's DICOM database: slices in their own poses, with what a derived series has to repeat."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points
from .scene import described
from .volumes import check_scalar, dicom_slices, placed, stack_from_volume, stretch

if TYPE_CHECKING:
    from ..stacks import SliceStack

log = logging.getLogger("GaussianMRI")

POSES = ("auto", "volume", "dicom")
#: Corners of slices closer than this (mm) are at one place.
SAME_PLACE_MM = 0.1


def stacks_from_volume(volume_node: Any, *, poses: str = "auto") -> list[SliceStack]:
    """The slices of a scalar volume node, with the poses that they have in its DICOM files where these are there.

    A volume node has one grid; slices that are unevenly spaced, at angles or of a tilted gantry are on it only
    roughly (Slicer then adds an acquisition transform, unless that is switched off). Pixels are those of the node, so
    that what was done to them counts. Linear transforms above the volume are applied.

    Args:
        volume_node: vtkMRMLScalarVolumeNode. Its pixels are copied, so the node may change afterwards.
        poses: "volume": of the node, as `stack_from_volume`. "dicom": of the files in Slicer's DICOM database.
            "auto": of the files if they are there and the node still lies where they do, else of the node.

    Returns:
        one stack. From DICOM it also knows the thickness of every slice, and patient and study for a derived series
        (`SliceStack.source`).

    Raises:
        GaussianMRIError: see `stack_from_volume`; with "dicom", also why the files do not do.
    """
    if poses not in POSES:
        raise GaussianMRIError(f"There are no poses '{poses}'; choose one of {', '.join(POSES)}.")
    check_scalar(volume_node)
    if poses == "volume" or (poses == "auto" and not dicom_slices(volume_node)):
        return [stack_from_volume(volume_node)]
    try:
        stack = _stack_from_files(volume_node)
    except GaussianMRIError as error:
        if poses == "dicom":
            raise
        log.info("Poses of the volume node are taken: %s", error)
        return [stack_from_volume(volume_node)]
    if stack is not None:
        return [stack]
    if poses == "dicom":
        raise GaussianMRIError(
            f"{described(volume_node)} does not lie where its DICOM files do: it was moved or resampled. Load it again, "
            "or use the poses of the volume."
        )
    log.info(
        "%s was moved or resampled since it was loaded; its own poses are taken.", described(volume_node)
    )
    # It may no longer be in the scanner's frame of reference.
    return [replace(stack_from_volume(volume_node), frame_of_reference=None)]


def stacks_from_series(series_uid: str) -> list[SliceStack]:
    """The stacks of a series in Slicer's DICOM database, straight from its files; nothing is loaded into the scene.

    Raises:
        GaussianMRIError: no database, no such series, or files that cannot be read.
    """
    from ..stacks import read_stacks

    files = list(_database().filesForSeries(series_uid))
    if not files:
        raise GaussianMRIError(
            f"Slicer's DICOM database has no series {series_uid}; import it in the DICOM module."
        )
    return read_stacks(files, localizers=True)


def stacks_of(sources: Sequence[Any], poses: str = "auto") -> list[SliceStack]:
    """The stacks of volume nodes, and those given as such."""
    from ..stacks import SliceStack

    found: list[SliceStack] = []
    for source in sources:
        found += [source] if isinstance(source, SliceStack) else stacks_from_volume(source, poses=poses)
    return found


def _database() -> Any:
    database = getattr(slicer, "dicomDatabase", None)
    if database is None:
        raise GaussianMRIError("There is no DICOM database here; Slicer's DICOM module has one.")
    return database


def dicom_source(volume_node: Any) -> dict[str, Any]:
    """What a series derived from a volume has to repeat (see `SliceStack.source`); {} where that is not known."""
    from ..stacks import read_stacks

    try:
        stacks = read_stacks(dicom_files(volume_node), localizers=True)
    except GaussianMRIError as error:
        log.info("The source of the derived series is not known: %s", error)
        return {}
    return _one_source(stacks)


def dicom_files(node: Any) -> list[str]:
    """The files of a volume's slices, in their order, in Slicer's DICOM database.

    Raises:
        GaussianMRIError: the volume did not come from DICOM, or its files are gone.
    """
    database, uids = _database(), dicom_slices(node)
    if not uids:
        raise GaussianMRIError(
            f"{described(node)} was not loaded from DICOM, or is no longer what was loaded."
        )
    files = [str(database.fileForInstance(uid) or "") for uid in uids]
    if not all(file and Path(file).is_file() for file in files):
        raise GaussianMRIError(
            f"The DICOM files of {described(node)} are not in Slicer's database; import them again."
        )
    return files


def _one_source(stacks: Sequence[SliceStack], order: Sequence[int] | None = None) -> dict[str, Any]:
    """The source of all slices of one series, in the given order."""
    source = dict(stacks[0].source)
    for key in [key for key in source if key.startswith("slice_")]:
        values = [value for stack in stacks for value in stack.source[key]]
        source[key] = values if order is None else [values[k] for k in order]
    return source


def _stack_from_files(node: Any) -> SliceStack | None:
    """A volume with the poses of its files; None where the volume lies elsewhere."""
    from ..stacks import SliceStack, read_stacks

    # Slices that are turned a little against each other come as several stacks; here they are one volume.
    stacks = read_stacks(dicom_files(node), localizers=True)
    pixels = slicer.util.arrayFromVolume(node)
    geometry, to_world = placed(node)
    order = _order(geometry, pixels.shape, dicom_slices(node), stacks)
    if order is None:
        return None
    stack = SliceStack(
        np.array(pixels, dtype=np.float32, order="C"),
        np.concatenate([stack.ijk_to_ras for stack in stacks])[order],
        np.concatenate([stack.slice_thickness for stack in stacks])[order],
        frame_of_reference=stacks[0].frame_of_reference,
        name=node.GetName() or "volume",
        source=_one_source(stacks, order),
        notes=stacks[0].notes,
    )
    return _moved(stack, to_world)


def _order(
    geometry: NDArray[np.float64], shape: tuple[int, ...], uids: list[str], stacks: Sequence[SliceStack]
) -> list[int] | None:
    """For every slice of a volume, its number among those of the stacks; None where they lie elsewhere."""
    count, rows, columns = shape
    if any(stack.shape[1:] != (rows, columns) for stack in stacks):
        return None
    found = {
        key: number
        for number, key in enumerate(
            key
            for s in stacks
            for key in zip(s.source["slice_instance_uids"], s.source["slice_frame_numbers"], strict=True)
        )
    }
    if len(uids) == count:
        orders = [[(uid, 1) for uid in uids]]
    else:  # one file with every frame; Slicer may have turned their order round
        frames = [(uids[0], frame) for frame in range(1, count + 1)]
        orders = [frames, frames[::-1]]
    here = _corners(geometry, shape)
    there = np.concatenate([_corners(stack.ijk_to_ras, stack.shape) for stack in stacks])
    for keys in orders:
        if sorted(keys) != sorted(found):
            continue
        order = [found[key] for key in keys]
        away = np.abs(here - there[order]).max(axis=(1, 2))
        # The grid of a volume whose slices are not regular reaches from the first to the last.
        if max(away if geometry.ndim == 3 else away[[0, -1]]) < SAME_PLACE_MM:
            return order
    return None


def _corners(geometry: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(K, 3, 3) RAS of three corner pixels of every slice, by one (4, 4) or by (K, 4, 4)."""
    count, rows, columns = shape
    ij = np.array([[0.0, 0.0, 0.0], [columns - 1.0, 0.0, 0.0], [0.0, rows - 1.0, 0.0]])
    if geometry.ndim == 3:
        return np.stack([transform_points(pose, ij) for pose in geometry])
    return np.stack([transform_points(geometry, np.add(ij, [0.0, 0.0, k])) for k in range(count)])


def _moved(stack: SliceStack, to_world: NDArray[np.float64]) -> SliceStack:
    """The stack after a linear transform; it then is no longer in its DICOM frame of reference."""
    if np.array_equal(to_world, np.eye(4)):
        return stack
    attributes = {tag: v for tag, v in stack.source["attributes"].items() if tag != "00200052"}
    return replace(
        stack,
        ijk_to_ras=to_world @ stack.ijk_to_ras,
        slice_thickness=stack.slice_thickness * stretch(stack.ijk_to_ras[0], to_world),
        frame_of_reference=None,
        source={**stack.source, "attributes": attributes, "placed": True},
    )
