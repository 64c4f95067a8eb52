"""Small copies of the RSNA layout for tests: series of the phantom's DICOM writer, and tables beside them."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.grading.disc import DiscGeometry, disc_frame
from GaussianMRILib.grading.labels import GRADES
from GaussianMRILib.grading.rsna_tables import AXIAL, RSNA_CONDITIONS, SAGITTAL_T2
from GaussianMRILib.phantom import Phantom, Scan, acquire
from GaussianMRILib.phantom.dicom import Study, write_series

LEVELS = ("l1_l2", "l2_l3", "l3_l4", "l4_l5", "l5_s1")
LEFT, BACK, DOWN, UP = (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (0.0, 0.0, 1.0)


def axial_planes(
    center: Sequence[float] = (0, 0, 0),
    count: int = 6,
    step: float = 4.0,
    tilt: float = 0.0,
    shape: tuple[int, int] = (20, 24),
    spacing: float = 2.0,
    thickness: float = 3.0,
) -> list[ImagePlane]:
    """Slices whose backs are turned down by `tilt` degrees (as those of L5/S1 are turned up: negative there)."""
    a = np.radians(tilt)
    plane = ImagePlane.from_axes(
        center, LEFT, (0, -np.cos(a), -np.sin(a)), spacing=(spacing, spacing), shape=shape, thickness=thickness
    )
    return plane.stack(count, step)


def sagittal_planes(
    center: Sequence[float] = (0, 0, 0), count: int = 5, step: float = 4.0, shape: tuple[int, int] = (60, 30)
) -> list[ImagePlane]:
    return ImagePlane.from_axes(center, BACK, DOWN, spacing=(2.0, 2.0), shape=shape, thickness=3.0).stack(count, step)


def values(planes: Sequence[ImagePlane]) -> np.ndarray:
    """Pixels that say where they are: 1 + (R + 2 A + 3 S) / 500, (slices, rows, columns)."""
    return np.stack([1 + plane.points() @ [1, 2, 3] / 500 for plane in planes]).astype(np.float32)


class Copy:
    """A copy of the data that grows by `series`, `grade` and `mark`; `save` writes the tables."""

    def __init__(self, folder: Path, part: str = "train") -> None:
        self.folder, self.part = folder, part
        self.images = folder / f"{part}_images"
        self.images.mkdir(parents=True)
        self.descriptions: list[list[str]] = []
        self.grades: list[list[str]] = []
        self.points: list[list[str]] = []

    def series(
        self,
        study: str,
        series: str,
        description: str = AXIAL,
        planes: Sequence[ImagePlane] | None = None,
        images: np.ndarray | None = None,
        upwards: bool = False,
        patient: str | None = None,
        change: Callable[[pydicom.Dataset], Any] | None = None,
    ) -> Path:
        """Write a series by the phantom's writer and describe it; Instance Numbers run downwards unless `upwards`."""
        planes = planes or (axial_planes() if description == AXIAL else sagittal_planes())
        folder = self.images / study / series
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + len(self.descriptions)
        write_series(
            folder,
            Study(f"test {study}", 0),
            number,
            planes,
            values(planes) if images is None else images,
            series,
        )
        count = len(list(folder.iterdir()))
        for path in sorted(folder.glob("IM*.dcm")):
            dataset = pydicom.dcmread(path)
            if upwards:
                dataset.InstanceNumber = count + 1 - int(dataset.InstanceNumber)
            dataset.PatientID = patient or f"patient {study}"
            if change is not None:
                change(dataset)
            path.unlink()
            dataset.save_as(folder / f"{int(dataset.InstanceNumber)}.dcm")
        self.descriptions.append([study, series, description])
        return folder

    def grade(self, study: str, **grades: str) -> None:
        """A row: `left_subarticular_stenosis_l5_s1="Severe"`; the rest is Normal/Mild."""
        names = [f"{condition}_{level}" for condition in RSNA_CONDITIONS for level in LEVELS]
        assert set(grades) <= set(names)
        self.grades.append([study, *(grades.get(name, GRADES[0]) for name in names)])

    def mark(
        self, study: str, series: str, instance: int, condition: str, level: str, x: float, y: float
    ) -> None:
        self.points.append([study, series, str(instance), condition, level, f"{x}", f"{y}"])

    def save(self) -> Path:
        names = [f"{condition}_{level}" for condition in RSNA_CONDITIONS for level in LEVELS]
        tables = {
            "_series_descriptions": [["study_id", "series_id", "series_description"], *self.descriptions],
            "_label_coordinates": [
                ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"],
                *self.points,
            ],
        }
        if self.grades:
            tables[""] = [["study_id", *names], *self.grades]
        for name, rows in tables.items():
            with (self.folder / f"{self.part}{name}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
        return self.folder


def rewrite(path: Path, change: Callable[[pydicom.Dataset], Any]) -> None:
    """Change a DICOM file in place."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


# ---- scans of the phantom ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def phantom() -> Phantom:
    return Phantom(3)


@functools.lru_cache(maxsize=1)
def scans() -> dict[str, tuple[list[ImagePlane], np.ndarray]]:
    """Coarse axial series of one phantom at L5-S1, aligned with the disc and straight, and a sagittal one."""
    body = phantom()
    middle = body.frame.to_ras(0, -12, 0)
    right, front, _ = body.frame.axes(0).T
    straight = axial_planes(middle, 11, 4.5, 0, (36, 60), 2.0, 4.0)
    aligned = ImagePlane.from_axes(middle, -right, -front, spacing=(2.0, 2.0), shape=(36, 60), thickness=4.0).stack(9, 4.5)
    sagittal = sagittal_planes(body.frame.to_ras(0, -12, 16), 11, 4.4, (56, 45))
    found = {}
    for name, planes in (("aligned", aligned), ("straight", straight), ("sagittal", sagittal)):
        found[name] = (planes, acquire(body, Scan(name, tuple(planes), samples=1)))
    return found


def true_disc() -> DiscGeometry:
    """The phantom's L5-S1 disc: half-axes 25 x 17 mm."""
    frame = phantom().frame
    right, _, up = frame.axes(0).T
    across = [-20.0, -10.0, 0.0, 10.0, 20.0]
    ends = [[frame.to_ras(u, v, 0) for u in across] for v in (-16.0, 16.0)]
    return DiscGeometry(
        disc_frame(frame.to_ras(0, 0, 0), up, -right), ends[0], ends[1], 50.0, "L5/S1", "phantom", height=9.0
    )


def pixel(planes: Sequence[ImagePlane], place: np.ndarray) -> tuple[int, float, float]:
    """Instance Number (of a series that runs downwards), column and row of the slice nearest to RAS `place`."""
    away = [abs(float((place - plane.origin) @ plane.normal)) for plane in planes]
    k = int(np.argmin(away))
    i, j, _ = (np.linalg.inv(planes[k].ijk_to_ras) @ [*place, 1])[:3]
    return len(planes) - k, float(i), float(j)


def phantom_study(
    copy: Copy, study: str, names: Sequence[str] = ("aligned", "straight", "sagittal"), **more: Any
) -> None:
    """A study of the phantom with its label coordinates: recesses at L5/S1, the canal there and at L4/L5."""
    kinds = {"aligned": AXIAL, "straight": AXIAL, "sagittal": SAGITTAL_T2}
    frame = phantom().frame
    for number, name in enumerate(names, 1):
        planes, images = scans()[name]
        copy.series(study, f"{study}{number}", kinds[name], planes, images, **more)
        marks = {
            ("Spinal Canal Stenosis", "L5/S1"): (0.0, -24.0, 0.0),
            ("Spinal Canal Stenosis", "L4/L5"): (0.0, -24.0, 37.0),
        }
        if name != "sagittal":
            sides = (("Left", -10.0), ("Right", 10.0))
            marks = {(f"{side} Subarticular Stenosis", "L5/S1"): (u, -20.0, 0.0) for side, u in sides}
        for (condition, level), place in marks.items():
            instance, x, y = pixel(planes, frame.to_ras(*place))
            copy.mark(study, f"{study}{number}", instance, condition, level, x, y)
