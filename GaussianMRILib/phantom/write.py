"""A phantom study on disk: axial and sagittal DICOM, the truth on the L5-S1 disc, its plane."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..geometry import ImagePlane
from .anatomy import Phantom
from .dicom import Study, write_series
from .scanner import Scan, acquire
from .tissues import T1

AXIAL_SPACING, AXIAL_THICKNESS = 4.5, 4.0  # mm
SAGITTAL_SPACING, SAGITTAL_THICKNESS = 4.4, 4.0  # mm


@dataclass(frozen=True, kw_only=True)
class PhantomFiles:
    """Where `write_lumbar_phantom` put what.

    `axial`, `sagittal` (T2), `truth` and `sagittal_t1` (None where it was not wanted) are folders of DICOM files,
        `plane` is a Slicer markups file of the L5-S1 disc.
    """

    folder: Path
    axial: Path
    sagittal: Path
    truth: Path
    plane: Path
    sagittal_t1: Path | None = None


def lumbar_scans(phantom: Phantom, *, noise: float = 0.02, sagittal_t1: bool = False) -> tuple[Scan, ...]:
    """The axial, sagittal and truth series of a phantom, T2-weighted, and the sagittal one T1-weighted if it is wanted.

    The axial slices are straight, not aligned with the discs, 4 mm thick and 4.5 mm apart; the sagittal ones
    4 mm thick and 4.4 mm apart. The truth is nine thin planes without noise, 2 mm apart, around the tilted
    L5-S1 disc.
    """
    middle = phantom.frame.to_ras(0, -24, 14)
    left, back, down = np.eye(3) * [[-1], [-1], [-1]]
    axial = ImagePlane.from_axes(
        middle, left, back, spacing=(0.7, 0.7), shape=(224, 256), thickness=AXIAL_THICKNESS
    ).stack(22, AXIAL_SPACING)
    # Sagittal images show the front on the left, so their normal points to the patient's right.
    sagittal = ImagePlane.from_axes(
        phantom.frame.to_ras(0, -22, 30),
        back,
        down,
        spacing=(0.75, 0.75),
        shape=(304, 240),
        thickness=SAGITTAL_THICKNESS,
    ).stack(13, SAGITTAL_SPACING)
    truth = phantom.disc_plane("L5-S1").stack(9, 2.0)
    scans = (
        Scan("axial", tuple(axial), noise=noise),
        Scan("sagittal", tuple(sagittal), noise=noise),
        Scan("truth", tuple(truth)),
    )
    return (*scans, replace(scans[1], contrast=T1)) if sagittal_t1 else scans


def write_lumbar_phantom(
    folder: str | os.PathLike[str], *, seed: int = 0, noise: float = 0.02, sagittal_t1: bool = False
) -> PhantomFiles:
    """Write a synthetic lumbar MRI study that the ordinary DICOM reader understands.

    Args:
        folder: made if absent; existing files of the same names are replaced.
        seed: the individual and the noise.
        noise: standard deviation relative to cerebrospinal fluid in T2.
        sagittal_t1: write a sagittal T1 series of the same slices too.

    Returns:
        the paths of the series and of the plane.

    Raises:
        GaussianMRIError: the folder cannot be written.
    """
    root = Path(folder)
    phantom = Phantom(seed)
    scans = lumbar_scans(phantom, noise=noise, sagittal_t1=sagittal_t1)
    files = PhantomFiles(
        folder=root,
        axial=root / "axial",
        sagittal=root / "sagittal",
        truth=root / "truth",
        plane=root / "L5-S1.mrk.json",
        sagittal_t1=root / "sagittal_t1" if sagittal_t1 else None,
    )
    study = Study(f"lumbar phantom {seed} {noise}", seed)
    try:
        places = [files.axial, files.sagittal, files.truth, *([files.sagittal_t1] if files.sagittal_t1 else [])]
        for number, (scan, path) in enumerate(zip(scans, places, strict=True), 1):
            path.mkdir(parents=True, exist_ok=True)
            images = acquire(phantom, scan, seed=number)
            write_series(path, study, number, scan.planes, images, scan.name, contrast=scan.contrast)
    except OSError as error:
        raise GaussianMRIError(
            f"The phantom cannot be written to {root}: {error.strerror or error}."
        ) from error
    _write_markups(files.plane, phantom.disc_plane("L5-S1"), "L5-S1")
    return files


def _write_markups(path: Path, plane: ImagePlane, name: str) -> None:
    """A plane as a Slicer markups file: its axes, its size, its centre as the one control point."""
    rows, columns = plane.shape
    size = [columns * plane.spacing[0], rows * plane.spacing[1]]
    base = np.eye(4)
    base[:3, :3] = np.stack([plane.i_axis, plane.j_axis, plane.normal], axis=1)
    base[:3, 3] = plane.center
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    markup = {
        "type": "Plane",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "labelFormat": "%N-%d",
        "planeType": "pointNormal",
        "sizeMode": "absolute",
        "autoScalingSizeFactor": 1.0,
        "center": (to_lps @ base)[:3, 3].tolist(),
        "normal": (to_lps @ base)[:3, 2].tolist(),
        "size": [*size, 0.0],
        "objectToBase": np.eye(4).ravel().tolist(),
        "baseToNode": (to_lps @ base).ravel().tolist(),
        "orientation": (to_lps @ base)[:3, :3].ravel().tolist(),
        "controlPoints": [
            {
                "id": "1",
                "label": name,
                "position": (to_lps @ base)[:3, 3].tolist(),
                "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
                "selected": True,
                "positionStatus": "defined",
            }
        ],
    }
    schema = (
        "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    )
    document = {"@schema": schema + "markups-schema-v1.0.3.json#", "markups": [markup]}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
