"""Studies of graded phantoms on disk as the RSNA 2024 lumbar spine data have them: DICOM, tables of grades, discs."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.cohort import CohortReport, CohortRow, run_cohort
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.grading.disc import DiscGeometry
from GaussianMRILib.grading.labels import LEVELS, STENOSES
from GaussianMRILib.grading.rsna_tables import AXIAL, RSNA_CONDITIONS, SAGITTAL_T1, SAGITTAL_T2
from GaussianMRILib.phantom.dicom import Study, write_series
from GaussianMRILib.phantom.frame import rotation
from GaussianMRILib.phantom.scanner import Scan, acquire
from GaussianMRILib.phantom.tissues import T1

from .graded import LEVEL, GradedPhantom

THICKNESS = 4.0  # mm, of every slice
ALIGNED_GAP, STRAIGHT_GAP, SAGITTAL_GAP = 0.4, 1.0, 0.6  # mm
PIXEL = 0.43  # mm
REGION = 110.0  # mm, width of the widest region of interest of these discs
SAGITTAL_PIXEL, SAGITTAL_FIELD, SAGITTAL_SLICES = 1.5, (64, 64), 13
NOISE = 0.75 / 12  # standard deviation where cerebrospinal fluid is 1 and fat 0.75: SNR 12 in fat
SAMPLES = 3  # across the slice thickness
ALIGNED_SLICES = 5
MISALIGNED = (
    2.0,
    1.0,
)  # degrees, standard deviation of a technician's angles about the left-right axis and the other
_HEIGHT = 12.0  # mm along the disc's normal from its back that straight slices cover
GRADED_LEVEL = "L5/S1"
#: Where a condition is marked: mm from the midline, v in mm, number of the series.
_MARKED = {
    "subarticular_stenosis": (10, -21, 1), "neural_foraminal_narrowing": (20, -17, 0), "spinal_canal_stenosis": (0, -23, 0),
}  # fmt: skip


def graded_scans(
    phantom: GradedPhantom, paired: bool = True, region: float = REGION, sagittal_t1: bool = False
) -> tuple[Scan, ...]:
    """The series of a study: sagittal, axial aligned with the L5-S1 disc, and, if `paired`, axial and straight; all T2.

    The straight slices lie at random heights, the aligned ones as exactly as a technician places them.

    Args:
        region: mm; the axial fields of view hold a region of interest of this width and half this height around the
            disc's back, and little else.
        sagittal_t1: the sagittal slices T1-weighted too, as the last series.
    """
    generator = np.random.default_rng([phantom.seed, 0x5CA])
    left, back = np.eye(3)[:2] * [[-1], [-1]]
    right, front, up = phantom.frame.axes(phantom.build.disc(LEVEL).s).T
    middle = phantom.frame.to_ras(0, -17, phantom.build.disc(LEVEL).s)
    about_left, about_back = generator.normal(0, MISALIGNED)
    turn = np.stack([-right, -front, up], axis=1) @ rotation(about_left, about_back, 0)
    shape = (int(np.ceil((region / 2 + 12) / PIXEL)), int(np.ceil((region + 12) / PIXEL)))
    pixels = (PIXEL, PIXEL)
    place = middle + up * generator.uniform(-1, 1)
    aligned = ImagePlane.from_axes(place, turn[:, 0], turn[:, 1], spacing=pixels, shape=shape, thickness=THICKNESS)
    spacing = THICKNESS + STRAIGHT_GAP
    tilt = np.arccos(up[2])
    height = (region / 4 + 1) * np.sin(tilt) + _HEIGHT * np.cos(tilt)
    place = middle + np.array([0, 0, generator.uniform(-0.5, 0.5) * spacing])
    straight = ImagePlane.from_axes(place, left, back, spacing=pixels, shape=shape, thickness=THICKNESS)
    count = int(np.ceil(2 * height / spacing)) + 1
    # Sagittal images show the front on the left, so their normal points to the patient's right.
    sagittal = ImagePlane.from_axes(
        phantom.frame.to_ras(generator.uniform(-1, 1), -12, phantom.build.disc(LEVEL).s),
        back,
        [0, 0, -1],
        spacing=(SAGITTAL_PIXEL, SAGITTAL_PIXEL),
        shape=SAGITTAL_FIELD,
        thickness=THICKNESS,
    ).stack(SAGITTAL_SLICES, THICKNESS + SAGITTAL_GAP)
    scans = [
        Scan("sagittal", tuple(sagittal), noise=NOISE, samples=SAMPLES),
        Scan("axial aligned", tuple(aligned.stack(ALIGNED_SLICES, THICKNESS + ALIGNED_GAP)), noise=NOISE, samples=SAMPLES),
        Scan("axial straight", tuple(straight.stack(count, spacing)), noise=NOISE, samples=SAMPLES),
    ]
    chosen = scans if paired else scans[:2]
    return (*chosen, replace(scans[0], contrast=T1)) if sagittal_t1 else tuple(chosen)


def true_disc(phantom: GradedPhantom, sagittal: Sequence[ImagePlane]) -> DiscGeometry:
    """The L5-S1 disc of a phantom, without its bulges, and where sagittal slices cross its border."""
    disc = phantom.build.disc(LEVEL)
    axes, center = phantom.frame.axes(disc.s), phantom.frame.to_ras(0, 0, disc.s)
    u = np.linspace(-1, 1, 2001) * (disc.half_width + 0.8)
    back, front = phantom.border(u)
    edges = [center + np.stack([u, v], axis=1) @ axes[:, :2].T for v in (back, front)]
    crossed = [[_crossing(edge, plane) for edge in edges] for plane in sagittal]
    pairs = np.array([pair for pair in crossed if pair[0] is not None and pair[1] is not None])
    if not len(pairs):
        raise GaussianMRIError("No sagittal slice crosses the phantom's disc.")
    spacing = float(np.linalg.norm(sagittal[1].center - sagittal[0].center))
    frame = np.eye(4)
    frame[:3, :3] = np.stack([-axes[:, 0], -axes[:, 1], axes[:, 2]], axis=1)
    frame[:3, 3] = center
    return DiscGeometry(
        frame,
        posterior=pairs[:, 0],
        anterior=pairs[:, 1],
        sagittal_depth=len(pairs) * spacing,
        level=GRADED_LEVEL,
        provenance="the phantom's true disc",
        series_depth=len(sagittal) * spacing,
        height=disc.height + 1.5,
    )


def _crossing(edge: NDArray[np.float64], plane: ImagePlane) -> NDArray[np.float64] | None:
    """Where a curve (N, 3) crosses a plane, (3,); None where it does not."""
    distance = (edge - plane.origin) @ plane.normal
    change = np.flatnonzero(np.sign(distance[1:]) != np.sign(distance[:-1]))
    if not len(change):
        return None
    k = int(change[0])
    t = distance[k] / (distance[k] - distance[k + 1])
    return np.asarray(edge[k] * (1 - t) + edge[k + 1] * t)


# ---- one study -----------------------------------------------------------------------------------------------


def write_rsna_study(
    folder: str | os.PathLike[str],
    study_id: str,
    phantom: GradedPhantom,
    paired: bool = True,
    region: float = REGION,
    sagittal_t1: bool = False,
) -> dict[str, Any]:
    """Write the images, `discs/{study}.json` and `phantoms/{study}.json` of one study.

    Args:
        folder: of the cohort; made if absent.
        study_id: a number, as in the data set.
        phantom: who is scanned.
        paired: with straight axial slices besides the aligned ones.
        region, sagittal_t1: see `graded_scans`.

    Returns:
        What the tables say of it: "series" (id, description), "points" (rows of the label coordinates), "facts".

    Raises:
        GaussianMRIError: the folder cannot be written.
    """
    from GaussianMRILib.grading.disc_sources import write_discs

    root = Path(folder)
    study = Study(f"graded phantom {study_id}", int(study_id))
    scans = graded_scans(phantom, paired, region, sagittal_t1)
    rising = bool(np.random.default_rng([phantom.seed, 0x215]).random() < 0.12)  # as often as in the data set
    series = [f"{study_id}{number}" for number in range(len(scans))]
    try:
        for name in ("train_images", "discs", "phantoms"):
            (root / name).mkdir(parents=True, exist_ok=True)
        target = root / "train_images" / study_id
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as temporary:
            for number, (scan, name) in enumerate(zip(scans, series, strict=True)):
                path = Path(temporary) / study_id / name
                path.mkdir(parents=True)
                images = acquire(phantom, scan, seed=number)
                write_series(
                    path, study, number + 1, scan.planes, images, scan.name, "{}.dcm", rising, contrast=scan.contrast
                )
            shutil.rmtree(target, ignore_errors=True)
            os.replace(Path(temporary) / study_id, target)
    except OSError as error:
        raise GaussianMRIError(
            f"Study {study_id} cannot be written to {root}: {error.strerror or error}. Free space, or choose another folder."
        ) from error
    write_discs(root / "discs" / f"{study_id}.json", {GRADED_LEVEL: true_disc(phantom, scans[0].planes)})
    facts = {"study_id": study_id, "paired": paired, "mirrored": phantom.mirrored, **phantom.facts()}
    kinds = [AXIAL if "axial" in scan.name else SAGITTAL_T1 if scan.contrast == T1 else SAGITTAL_T2 for scan in scans]
    record = {
        "facts": facts,
        "series": list(zip(series, kinds, strict=True)),
        "points": _points(phantom, study_id, series, scans, rising),
    }
    with atomic_write(root / "phantoms" / f"{study_id}.json") as temporary_file:
        temporary_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _points(
    phantom: GradedPhantom, study_id: str, series: Sequence[str], scans: Sequence[Scan], rising: bool
) -> list[list[Any]]:
    """Rows of the label coordinates: recesses on the aligned series, foramina and canal on the sagittal one."""
    s = phantom.build.disc(LEVEL).s
    rows: list[list[Any]] = []
    for task in STENOSES:
        beside, v, number = _MARKED[task.condition]
        place = phantom.frame.to_ras(-beside if task.side == "left" else beside, v, s)
        planes = scans[number].planes
        k = int(np.argmin([abs((place - plane.origin) @ plane.normal) for plane in planes]))
        offset = place - planes[k].origin
        x, y = (float(offset @ axis) for axis in (planes[k].i_axis, planes[k].j_axis))
        dx, dy = planes[k].spacing
        instance = k + 1 if rising else len(planes) - k
        rows.append([study_id, series[number], instance, task.title.title(), GRADED_LEVEL, x / dx, y / dy])
    return rows


# ---- a cohort ------------------------------------------------------------------------------------------------


def study_ids(studies: int, seed: int = 0) -> list[str]:
    """Ids of a cohort's studies; the id is also the seed of the phantom."""
    return [str(100_000_000 + 100_000 * seed + n) for n in range(studies)]


def write_rsna_cohort(
    folder: str | os.PathLike[str],
    studies: int,
    seed: int = 0,
    unpaired: int = 0,
    region: float = REGION,
    sagittal_t1: bool = False,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Callable[[int, int, CohortRow], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CohortReport:
    """Write a cohort of graded phantoms in the layout of the RSNA 2024 lumbar spine data; a run that was stopped goes on.

    Besides the data set's files there are `discs/{study}.json` with the true disc, `truth.csv` with what is true of every
    phantom, and `phantoms/` with the same by study.

    Args:
        folder: made if absent.
        studies: how many; one patient each.
        seed: of the cohort; cohorts of other seeds have other patients.
        unpaired: so many studies, the first ones, have no straight axial series.
        region, sagittal_t1: see `graded_scans`.
        executor, workers, progress, cancelled: see `run_cohort`.

    Raises:
        GaussianMRIError: the folder cannot be written, or holds a cohort made otherwise.
    """
    root = Path(folder)
    chosen = study_ids(studies, seed)
    settings: dict[str, Any] = {"phantom": "graded", "seed": seed, "unpaired": unpaired, "region": region}
    if sagittal_t1:  # a cohort from before there was one goes on
        settings["sagittal_t1"] = True
    report = run_cohort(
        {study: (study, number >= unpaired) for number, study in enumerate(chosen)},
        functools.partial(_write_study, str(root.absolute()), region, sagittal_t1),
        root,
        executor=executor,
        workers=workers,
        settings=settings,
        progress=progress,
        cancelled=cancelled,
    )
    _write_tables(root, [study for study in chosen if study in set(report.done)])
    return report


def _write_study(folder: str, region: float, sagittal_t1: bool, item: tuple[str, bool]) -> None:
    study_id, paired = item
    write_rsna_study(folder, study_id, GradedPhantom(int(study_id)), paired, region, sagittal_t1)


def _write_tables(root: Path, studies: Sequence[str]) -> None:
    records = [json.loads((root / "phantoms" / f"{s}.json").read_text(encoding="utf-8")) for s in studies]
    columns = [f"{c}_{level.lower().replace('/', '_')}" for c in RSNA_CONDITIONS for level in LEVELS]
    graded = {task.name: task.column(GRADED_LEVEL) for task in STENOSES}
    grades: list[Mapping[str, Any]] = [
        {"study_id": r["facts"]["study_id"], **{graded[name]: r["facts"][name] for name in graded}}
        for r in records
    ]
    _write_csv(root / "train.csv", ["study_id", *columns], grades)
    names = ["study_id", "series_id", "series_description"]
    series = [
        dict(zip(names, (r["facts"]["study_id"], *s), strict=True)) for r in records for s in r["series"]
    ]
    _write_csv(root / "train_series_descriptions.csv", names, series)
    names = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    points = [dict(zip(names, point, strict=True)) for r in records for point in r["points"]]
    _write_csv(root / "train_label_coordinates.csv", names, points)
    if records:
        _write_csv(root / "truth.csv", list(records[0]["facts"]), [r["facts"] for r in records])


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
