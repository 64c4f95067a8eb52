"""Where discs come from: segments, label coordinates, points, planes, detections of SpineNet, files."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import GaussianMRIError
from ..files import atomic_write, read_json, reading, table_rows
from ..geometry import ImagePlane, transform_points
from ..stacks import SliceStack
from .disc import (
    HALF_DEPTH,
    HALF_WIDTH,
    DiscGeometry,
    Vector,
    bisector,
    disc_frame,
    left_across,
    level_name,
    plane_fit,
    series_depth,
)
from .disc_coordinates import disc_from_coordinates
from .disc_segment import disc_from_segment
from .labels import LEVELS

__all__ = [
    "disc_from_coordinates",
    "disc_from_plane",
    "disc_from_points",
    "disc_from_segment",
    "read_discs",
    "read_vert_dicts",
    "write_discs",
]
logger = logging.getLogger("GaussianMRI")

#: Corners of a vertebra in SpineNet's polygons, in their order: right is the image's, where the back is.
CORNERS = ("rt", "rb", "lb", "lt")


# ---- points, a line, a plane -------------------------------------------------------------------------------


def disc_from_points(
    anterior: ArrayLike,
    posterior: ArrayLike,
    left: ArrayLike | None = None,
    right: ArrayLike | None = None,
    level: str = "L5/S1",
    half_width: float = HALF_WIDTH,
) -> DiscGeometry:
    """Disc from fiducials: a line from its front to its back, and where there are, its left and right border.

    The normal is (P - A) x (L - R); without left and right the disc is taken to lie straight in the scanner.

    Args:
        anterior, posterior, left, right: (3,) RAS mm; left is the patient's.
        level: such as "L5/S1".
        half_width: mm, where left and right are not given.

    Raises:
        GaussianMRIError: points that lie the wrong way round or on one line, one of left and right alone.
    """
    named = {"anterior": anterior, "posterior": posterior, "left": left, "right": right}
    given = {name: np.asarray(p, dtype=np.float64) for name, p in named.items() if p is not None}
    for name, point in given.items():
        if point.shape != (3,) or not np.isfinite(point).all():
            raise GaussianMRIError(
                f"The {name} point must be three finite numbers (RAS mm), got {point.tolist()}."
            )
    front, back = given["anterior"], given["posterior"]
    if front[1] <= back[1]:
        raise GaussianMRIError("The anterior point lies behind the posterior one; exchange them.")
    if ("left" in given) != ("right" in given):
        raise GaussianMRIError("Give both the left and the right point of the disc, or neither.")
    sideways = np.array([-1.0, 0.0, 0.0])
    depth = 2 * float(half_width)
    if "left" in given:
        sideways = given["left"] - given["right"]
        if sideways[0] >= 0:
            raise GaussianMRIError(
                "The left point lies on the patient's right of the right one; exchange them."
            )
        depth = float(np.linalg.norm(sideways))
    frame = disc_frame((front + back) / 2, np.cross(back - front, sideways), sideways)
    provenance = (
        "points (anterior, posterior, left, right)" if "left" in given else "line (anterior, posterior)"
    )
    return DiscGeometry(frame, back[None], front[None], depth, level, provenance)


def disc_from_plane(
    plane: ImagePlane, level: str, half_width: float = HALF_WIDTH, half_depth: float = HALF_DEPTH
) -> DiscGeometry:
    """Disc from a plane through it, whose middle is the disc's; width and depth of the disc are assumed.

    Raises:
        GaussianMRIError: the plane is not across the body.
    """
    axis = max(plane.i_axis, plane.j_axis, key=lambda v: abs(v[0]))
    frame = disc_frame(plane.center, plane.normal, axis)
    back = frame[:3, 3] + half_depth * frame[:3, 1]
    front = frame[:3, 3] - half_depth * frame[:3, 1]
    facts = {"assumed_half_axes_mm": [float(half_width), float(half_depth)]}
    return DiscGeometry(frame, back[None], front[None], 2 * half_width, level, "plane", facts=facts)


# ---- SpineNet ----------------------------------------------------------------------------------------------


def read_vert_dicts(
    path: str | os.PathLike[str], sagittal: SliceStack, instance_numbers: Sequence[int] | None = None
) -> dict[str, DiscGeometry]:
    """Discs between the vertebrae that SpineNet found on a sagittal series, from its exported `vert_dicts`.

    SpineNet (Windsor et al., for non-commercial use, not part of this software) writes a CSV with the columns `polys`,
    `slice_nos` and `predicted_label`; a JSON list of the same is read as well. A polygon has the corners rt, rb, lb, lt
    (column, row), or names them. The back of L5/S1 lies between L5.rb and S1.rt.

    Args:
        path: the CSV or JSON file.
        sagittal: the series, with its slices in any order.
        instance_numbers: DICOM InstanceNumber of each slice of `sagittal`: SpineNet counts slices by them. By default
            what `sagittal.source["slice_instance_numbers"]` says.

    Returns:
        discs by level, where both vertebrae were found in at least two slices.

    Raises:
        GaussianMRIError: the file cannot be read or belongs to another series, or the order of slices is not known.
    """
    numbers = instance_numbers
    if numbers is None:
        numbers = sagittal.source.get("slice_instance_numbers")
    if numbers is None or len(numbers) != len(sagittal.pixels) or len(set(numbers)) != len(numbers):
        raise GaussianMRIError(
            f"{sagittal.name}: SpineNet counts slices by DICOM InstanceNumber, which is not known for every slice of "
            "this series. Read it from its DICOM files, or give `instance_numbers`."
        )
    order = np.argsort(np.asarray(numbers))
    discs = {}
    found = _read_vertebrae(Path(path), len(order))
    with reading(path, "an export of SpineNet's vert_dicts"):
        vertebrae = {
            name: {int(order[n]): _corners(polygon, sagittal, int(order[n])) for n, polygon in polygons.items()}
            for name, polygons in found.items()
        }
        for level in LEVELS:
            upper, lower = (vertebrae.get(name, {}) for name in level.split("/"))
            both = sorted(set(upper) & set(lower))
            if len(both) >= 2:
                disc = _between(level, [upper[k] for k in both], [lower[k] for k in both], sagittal)
                discs[level] = replace(disc, file=os.fspath(path))
            elif upper and lower:
                logger.warning("%s: %s is in %d slices of SpineNet's export; left out.", path, level, len(both))
    return discs


def _read_vertebrae(path: Path, slices: int) -> dict[str, dict[int, Any]]:
    """Polygons by vertebra and slice number."""
    with reading(path, "an export of SpineNet's vert_dicts", "It needs predicted_label, slice_nos and polys."):
        if path.suffix.lower() == ".csv":
            # Cells of the CSV are Python's own spelling of lists and arrays: their numbers are all that counts.
            rows = [
                {
                    "predicted_label": row["predicted_label"],
                    "slice_nos": _numbers(row["slice_nos"]).astype(int).tolist(),
                    "polys": _numbers(row["polys"]).reshape(-1, 4, 2).tolist(),
                }
                for row in table_rows(path.read_bytes())
            ]
        else:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            if isinstance(content, Mapping):
                content = content.get("vert_dicts", [dict(v, predicted_label=k) for k, v in content.items()])
            rows = list(content)
        result: dict[str, dict[int, Any]] = {}
        for row in rows:
            places, polygons = [int(n) for n in row["slice_nos"]], list(row["polys"])
            if len(places) != len(polygons):
                raise ValueError(f"{len(polygons)} polygons for {len(places)} slices")
            outside = [n for n in places if not 0 <= n < slices]
            if outside:
                raise GaussianMRIError(
                    f"{path} has slice {outside[0]}, counted from 0, and the series has {slices} slices. "
                    "It was made from another series."
                )
            result.setdefault(str(row["predicted_label"]).strip().upper(), {}).update(
                zip(places, polygons, strict=True)
            )
    return result


def _numbers(cell: str) -> Vector:
    if "..." in cell:
        raise ValueError("numbers were left out of the polygons with '...'")
    found = re.findall(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", cell)
    return np.asarray(found, dtype=np.float64)


def _corners(polygon: Any, sagittal: SliceStack, k: int) -> dict[str, Vector]:
    """RAS of the four corners of a vertebra in slice `k`, by name; r is the back whichever way the image hangs."""
    try:
        named = polygon if isinstance(polygon, Mapping) else dict(zip(CORNERS, polygon, strict=True))
        pixels = np.array([[*named[name], 0.0] for name in CORNERS], dtype=np.float64).reshape(4, 3)
    except (ValueError, KeyError, TypeError) as error:
        raise GaussianMRIError(
            f"A polygon of SpineNet has the corners {', '.join(CORNERS)} with column and row each ({error})."
        ) from error
    rt, rb, lb, lt = transform_points(sagittal.ijk_to_ras[k], pixels)
    if (rt + rb - lb - lt)[1] > 0:
        rt, rb, lb, lt = lt, lb, rb, rt
    if (rt + lt - rb - lb)[2] <= 0:
        raise GaussianMRIError(
            f"A vertebra in slice {k} of {sagittal.name} has its upper corners below its lower ones; the polygons are "
            f"not in the order {', '.join(CORNERS)} or belong to another series."
        )
    return {"rt": rt, "rb": rb, "lb": lb, "lt": lt}


def _between(
    level: str, upper: list[dict[str, Vector]], lower: list[dict[str, Vector]], sagittal: SliceStack
) -> DiscGeometry:
    """The disc between the lower corners of one vertebra and the upper ones of the next."""
    above = np.array([[v["lb"], v["rb"]] for v in upper])  # (M, front and back, 3)
    below = np.array([[v["lt"], v["rt"]] for v in lower])
    middle = (above + below) / 2
    center = middle.mean(axis=(0, 1))
    left = left_across(sagittal, center)
    frame = disc_frame(center, np.cross(left, (middle[:, 1] - middle[:, 0]).mean(axis=0)), left)
    wedge = None
    if len(middle) >= 3:
        faces = [(face.reshape(-1, 3) - center) @ frame[:3, :3] for face in (above, below)]
        normal, wedge = bisector(*(plane_fit(face[:, :2], face[:, 2], tolerance=1.0) for face in faces))
        frame = disc_frame(center, frame[:3, :3] @ normal, left)
    heights = np.linalg.norm(above - below, axis=2)
    lateral = middle.mean(axis=1) @ left
    facts = {"slices": len(middle), "wedge_degrees": None if wedge is None else round(wedge, 2)}
    return DiscGeometry(
        frame,
        middle[:, 1],
        middle[:, 0],
        float(np.ptp(lateral) + sagittal.spacing),
        level,
        "SpineNet detections",
        series_depth(sagittal),
        float(max(np.median(heights), 1.0)),
        facts,
    )


# ---- files -------------------------------------------------------------------------------------------------


def write_discs(path: str | os.PathLike[str], discs: Mapping[str, DiscGeometry]) -> Path:
    """Write discs by level as JSON, `{level: DiscGeometry.to_dict()}`.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    content = {level_name(level): disc.to_dict() for level, disc in discs.items()}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Path(path)


def read_discs(path: str | os.PathLike[str]) -> dict[str, DiscGeometry]:
    """The inverse of `write_discs`.

    Raises:
        GaussianMRIError: the file cannot be read, or is something else.
    """
    with reading(path, "a file of discs"):
        content = read_json(path)
        if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
            raise GaussianMRIError(f"{path} is no file of discs; expected an object with a disc for each level.")
        discs = {
            level_name(level): replace(DiscGeometry.from_dict(disc), file=os.fspath(path))
            for level, disc in content.items()
        }
    return discs
