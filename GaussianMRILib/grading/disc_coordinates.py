"""Discs from the points with which the RSNA 2024 lumbar data set marks its grades."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points, unit_vector
from ..stacks import SliceStack, as_stacks
from .disc import (
    HALF_DEPTH,
    HALF_WIDTH,
    DiscGeometry,
    Vector,
    angle_degrees,
    disc_frame,
    left_across,
    level_name,
    series_depth,
)
from .labels import LATERAL, LEVELS, SIDES

logger = logging.getLogger("GaussianMRI")

CANAL = "spinal_canal_stenosis"
#: mm from the middle of the canal, which the canal points mark, forward to the back of the disc.
CANAL_TO_DISC = 7.0
#: mm: how far apart left and right points would have to be to count as much as the direction of the sagittal slices.
_SAGITTAL_WEIGHT = 40.0
_REACH = 12.0  # mm to either side of the middle of the disc: where end plates are straight
_HEIGHTS = (4.0, 17.0)  # mm between the end plates of a disc
_WEDGE = (-8.0, 24.0)  # degrees between them, positive when the disc is higher in front
_LARGEST_TURN = 30.0  # degrees that the image may turn the disc from the curve of the canal
_FAINTEST = 0.03  # share of the marrow's intensity by which the image changes per mm across true end plates
_NEARLY = 0.6  # share of the best pair's contrast with which a pair still is one of end plates


def disc_from_coordinates(
    points: Mapping[tuple[str, str], ArrayLike],
    stacks: SliceStack | Sequence[SliceStack],
    level: str,
    refine: bool = True,
) -> DiscGeometry:
    """Disc from label coordinates: its normal is perpendicular to the left-right line and along the canal.

    The left-right line is the sum of the lines between left and right points, each counting by its length, and of the
    direction across the sagittal slices. The direction of the canal is that of a parabola through the
    canal points of all levels. A sagittal image tells more: `refine` finds the two end plates on it, as the
    straight edges across which the image changes most, and takes their bisector. The width of the disc is assumed.

    Args:
        points: RAS mm, (3,) or (N, 3) for N marks of one place, by condition and level, such as
            ("left_subarticular_stenosis", "L5/S1") or ("spinal_canal_stenosis", "L4/L5").
        stacks: the sagittal series; other stacks are left out.
        level: such as "L5/S1".
        refine: look for the end plates; where there are none, the canal decides.

    Raises:
        GaussianMRIError: too few points, or left points on the patient's right.
    """
    level = level_name(level)
    stacks = as_stacks(stacks)
    sagittal = [stack for stack in stacks if stack.is_sagittal]
    marks = {
        (condition, level_name(where)): np.asarray(p, dtype=np.float64).reshape(-1, 3).mean(axis=0)
        for (condition, where), p in points.items()
    }
    middles = {where: middle for where in LEVELS if (middle := _middle(marks, where)) is not None}
    if level not in middles or len(middles) < 2:
        raise GaussianMRIError(
            f"There are canal points of {', '.join(middles) or 'no level'}; the plane of {level} needs that of this "
            "level and of at least one other. Give the disc in another way."
        )
    sideways = _left_right(marks, level)
    used = ["canal points"] + (["left-right line"] if sideways.any() else [])
    if sagittal:
        sideways = sideways + _SAGITTAL_WEIGHT * left_across(sagittal[0], middles[level])
    elif not sideways.any():
        sideways = np.array([-1.0, 0.0, 0.0])
    up = _along_canal(middles, level)
    across = unit_vector(sideways, what="left-right line")
    frame = disc_frame(middles[level], up - across * (up @ across), across)
    frame[:3, 3] -= frame[:3, 1] * ((CANAL_TO_DISC if (CANAL, level) in marks else 0.0) + HALF_DEPTH)
    facts: dict[str, Any] = {"levels": len(middles), "assumed_half_axes_mm": [HALF_WIDTH, HALF_DEPTH]}
    height = None
    plates = (
        [found for stack in sagittal if (found := end_plates(stack, frame)) is not None] if refine else []
    )
    if plates:
        best = max(plates, key=lambda found: found.contrast)
        turned = best.frame(frame)
        facts |= {
            "refined_degrees": round(angle_degrees(turned[:3, 2], frame[:3, 2]), 2),
            "end_plate_contrast": round(best.contrast, 4),
        }
        frame, height = turned, best.height
        used.append("end plates")
    elif refine:
        logger.warning(
            "%s: no end plates were found on a sagittal image; the canal decides the plane.", level
        )
        facts["warning"] = "no end plates were found on a sagittal image"
    back = frame[:3, 3] + HALF_DEPTH * frame[:3, 1]
    front = frame[:3, 3] - HALF_DEPTH * frame[:3, 1]
    return DiscGeometry(
        frame,
        back[None],
        front[None],
        2 * HALF_WIDTH,
        level,
        f"label coordinates ({', '.join(used)})",
        series_depth(sagittal[0]) if sagittal else None,
        height,
        facts,
    )


def _middle(marks: Mapping[tuple[str, str], Vector], level: str) -> Vector | None:
    """The canal point; in its place or for its lateral position the middle between the subarticular points."""
    sides = [marks.get((f"{side}_{LATERAL[0]}", level)) for side in SIDES]
    between = None if sides[0] is None or sides[1] is None else (sides[0] + sides[1]) / 2
    canal = marks.get((CANAL, level))
    if canal is None or between is None:
        return between if canal is None else canal
    return np.array([between[0], canal[1], canal[2]])


def _left_right(marks: Mapping[tuple[str, str], Vector], level: str) -> Vector:
    total = np.zeros(3)
    for condition in LATERAL:
        left, right = (marks.get((f"{side}_{condition}", level)) for side in SIDES)
        if left is not None and right is not None:
            if left[0] >= right[0]:
                raise GaussianMRIError(
                    f"The left {condition.replace('_', ' ')} of {level} is marked on the patient's right of the right "
                    "one. Left and right are exchanged; correct the coordinates or leave the study out."
                )
            total += left - right
    return total


def _along_canal(middles: Mapping[str, Vector], level: str) -> Vector:
    """Direction of the canal at a level, upwards: of a parabola through its points, a line where there are two."""
    places = np.array([-LEVELS.index(where) for where in middles], dtype=np.float64)
    curve = np.polynomial.polynomial.polyfit(
        places, np.array(list(middles.values())), min(2, len(places) - 1)
    )
    order = np.arange(1, len(curve))
    slope: Vector = (order[:, None] * curve[1:] * (-LEVELS.index(level)) ** (order[:, None] - 1)).sum(axis=0)
    return slope


# ---- end plates on a sagittal image ------------------------------------------------------------------------


class EndPlates(NamedTuple):
    """Two lines in the sagittal plane of a frame: degrees against its back axis and mm along its normal.

    `contrast` is the geometric mean of the changes of the image across them per mm, as shares of the marrow's intensity.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    contrast: float

    @property
    def height(self) -> float:
        """mm from marrow to marrow in the middle of the disc, the end plates included."""
        return self.upper[1] - self.lower[1]

    def frame(self, start: NDArray[np.float64]) -> NDArray[np.float64]:
        """`start` (4, 4) moved and turned to lie half way between them."""
        angle, offset = np.radians((self.lower[0] + self.upper[0]) / 2), (self.lower[1] + self.upper[1]) / 2
        back = np.cos(angle) * start[:3, 1] + np.sin(angle) * start[:3, 2]
        normal = np.cross(start[:3, 0], back)
        return disc_frame(start[:3, 3] + offset * start[:3, 2], normal, start[:3, 0])


def end_plates(sagittal: SliceStack, frame: NDArray[np.float64]) -> EndPlates | None:
    """The end plates of a disc near a frame (4, 4): where marrow turns dark below and dark turns marrow above.

    Returns:
        None where the slices do not show the place, or show no such edges.
    """
    patch = _patch(sagittal, frame)
    if patch is None:
        return None
    b, n, image = patch
    from scipy.ndimage import gaussian_filter1d, map_coordinates

    step = float(n[1] - n[0])
    # Marrow is the brightest thing that counts: a hydrated nucleus has stronger edges than the end plates.
    marrow = max(float(np.median(image[:, np.abs(n) > 10])), 1e-6)
    change = gaussian_filter1d(np.minimum(image, marrow), 0.8 / step, axis=1, order=1) / (step * marrow)
    angles, offsets = np.arange(-45.0, 46.0, 1.5), np.arange(-12.0, 12.25, 0.5)
    height = offsets[None, :, None] + np.tan(np.radians(angles))[:, None, None] * b
    rows = np.broadcast_to((b - b[0]) / (b[1] - b[0]), height.shape)
    edges = map_coordinates(change, [rows, (height - n[0]) / step], order=1, mode="nearest").mean(axis=-1)
    lower, upper = _candidates(-edges, angles, offsets), _candidates(edges, angles, offsets)
    pairs = [
        EndPlates(low[:2], high[:2], float(np.sqrt(low[2] * high[2])))
        for low in lower
        for high in upper
        if _HEIGHTS[0] <= high[1] - low[1] <= _HEIGHTS[1]
        and _WEDGE[0] <= low[0] - high[0] <= _WEDGE[1]
        and abs(low[0] + high[0]) / 2 <= _LARGEST_TURN
    ]
    best = max((pair.contrast for pair in pairs), default=0.0)
    if best < _FAINTEST:
        return None
    # The edges of the nucleus lie within the end plates: of pairs nearly as good, the one further apart.
    return max((pair for pair in pairs if pair.contrast >= _NEARLY * best), key=lambda pair: pair.height)


def _candidates(
    edges: NDArray[np.float64], angles: Vector, offsets: Vector
) -> list[tuple[float, float, float]]:
    """Angle, offset and strength of every line across which the image changes more than across its neighbours."""
    from scipy.ndimage import maximum_filter

    peaks = np.argwhere((edges == maximum_filter(edges, size=5, mode="nearest")) & (edges > _FAINTEST / 2))
    return [(*_peak(edges, (int(k), int(m)), angles, offsets), float(edges[k, m])) for k, m in peaks]


def _peak(
    edges: NDArray[np.float64], place: tuple[int, int], angles: Vector, offsets: Vector
) -> tuple[float, float]:
    """Angle and offset of the top of a parabola through an edge's neighbours in each direction."""
    result = []
    for axis, values in enumerate((angles, offsets)):
        line, k = np.take(edges, place[1 - axis], axis=1 - axis), place[axis]
        shift = 0.0
        if 0 < k < len(line) - 1:
            bend = line[k - 1] - 2 * line[k] + line[k + 1]
            if bend < 0:
                shift = float(np.clip((line[k - 1] - line[k + 1]) / (2 * bend), -0.5, 0.5))
        result.append(float(values[k] + shift * (values[1] - values[0])))
    return result[0], result[1]


def _patch(
    sagittal: SliceStack, frame: NDArray[np.float64]
) -> tuple[Vector, Vector, NDArray[np.float64]] | None:
    """Mean of the slices within 12 mm of the midline: backward and upward mm, and the image (backward, upward)."""
    from scipy.ndimage import map_coordinates

    b, n = np.arange(-_REACH, _REACH + 0.5, 1.0), np.arange(-28.0, 28.25, 0.5)
    lateral = -sagittal.distances(frame[:3, 3]) / (sagittal.ijk_to_ras[:, :3, 2] @ frame[:3, 0])
    chosen = np.flatnonzero(np.abs(lateral) <= _REACH)
    grid = np.stack(np.meshgrid([0.0], b, n, indexing="ij"), axis=-1)[0]
    images = []
    for k in chosen:
        points = transform_points(frame, grid + np.array([lateral[k], 0.0, 0.0]))
        column, row, _ = np.moveaxis(transform_points(np.linalg.inv(sagittal.ijk_to_ras[k]), points), -1, 0)
        images.append(map_coordinates(sagittal.pixels[k], [row, column], order=1, cval=np.nan))
    if not images or np.isnan(images).mean() > 0.2:
        return None
    return b, n, np.nan_to_num(np.mean(images, axis=0))
