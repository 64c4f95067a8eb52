"""Resampled volumes of the scene as derived DICOM series."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..errors import GaussianMRIError
from ..files import file_name
from ..geometry import ImagePlane
from .dicom import dicom_source
from .resampling import RESAMPLERS, SOURCE_ROLE
from .scene import PREFIX, as_list, described, matrix_to_world
from .volumes import check_scalar, planes_of_volume

_HOW = {
    "gaussians": "from 3D Gaussians fitted to the source slices",
    "voxel": "by interpolation between the nearest source voxels",
    "spline": "by cubic spline interpolation of the source slices",
}
_FRAME_TAG = "00200052"


def export_dicom(
    volume_nodes: Any,
    folder: str | os.PathLike[str],
    *,
    description: str = "GaussianMRI",
    overwrite: bool = False,
) -> list[Path]:
    """Write volumes made by `resample` as derived DICOM series, each in a folder of its own, named after the node.

    A series stays in patient, study and frame of reference of the volume that it was made from, if that came from
    Slicer's DICOM database and its files are still there; else it is a new study of an anonymous patient. See
    `GaussianMRILib.writers.write_dicom_series`.

    Args:
        volume_nodes: vtkMRMLScalarVolumeNode or several.
        folder: holds the series; it is made if need be, its parent must exist.
        description: SeriesDescription, to which the node's name is added.
        overwrite: replace series of an earlier export.

    Returns:
        the series' folders, in order.

    Raises:
        GaussianMRIError: no volume, one that `resample` did not make or a map, one under a transform that is not
            linear, or what cannot be written. Nothing new is left then.
    """
    from ..writers import SERIES_NUMBER, write_dicom_series

    nodes = as_list(volume_nodes)
    if not nodes:
        raise GaussianMRIError("There is no volume to export; resample a plane first.")
    images = [_images(node) for node in nodes]
    target = Path(folder)
    names: list[str] = []
    for number, node in enumerate(nodes, 1):
        name = file_name(node.GetName() or "", "series")
        names.append(f"{name}_{number}" if name in names else name)
    made: list[Path] = []
    try:
        if not target.exists():
            target.mkdir()
            made.append(target)
        for number, (node, name, (pixels, planes, how)) in enumerate(zip(nodes, names, images, strict=True)):
            series = target / name
            new = not series.exists()
            write_dicom_series(
                series,
                pixels,
                planes,
                source=_sources(node),
                description=f"{description} {node.GetName()}",
                derivation=f"Resampled on oblique planes {how}",
                projection=node.GetAttribute(PREFIX + "Projection") or "mean",
                overwrite=overwrite,
                number=SERIES_NUMBER + number,
            )
            if new:
                made.append(series)
    except BaseException as error:
        for path in reversed(made):
            shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise GaussianMRIError(f"{target} cannot be written: {reason}. Choose another folder.") from error
        raise
    return [target / name for name in names]


def is_image(node: Any) -> bool:
    """Whether a volume is an image made by resampling, which `export_dicom` writes; a map is none."""
    return node.GetAttribute(PREFIX + "Method") in _HOW


def _images(node: Any) -> tuple[Any, list[ImagePlane], str]:
    """Pixels, planes and origin of a resampled volume."""
    check_scalar(node)
    how = _HOW.get(node.GetAttribute(PREFIX + "Method") or "")
    if how is None:
        raise GaussianMRIError(
            f"{described(node)} is no image made by resampling ({', '.join(RESAMPLERS)}); export those. For other volumes "
            "Slicer's own DICOM export is there."
        )
    return slicer.util.arrayFromVolume(node), planes_of_volume(node), how


def _sources(node: Any) -> list[dict[str, Any]]:
    """Provenance of the volumes that an image was made from; with the frame of reference only if it lies in that."""
    moved = not np.array_equal(matrix_to_world(node), np.eye(4))
    frame = None if moved else node.GetAttribute(PREFIX + "FrameOfReference")
    found = []
    for number in range(node.GetNumberOfNodeReferences(SOURCE_ROLE)):
        volume = node.GetNthNodeReference(SOURCE_ROLE, number)
        source = {} if volume is None else dicom_source(volume)
        if source:
            own = source["attributes"].get(_FRAME_TAG, {}).get("Value") or [None]
            if own[0] != frame:
                source["attributes"] = {
                    tag: value for tag, value in source["attributes"].items() if tag != _FRAME_TAG
                }
            found.append(source)
    return found
