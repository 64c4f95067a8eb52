"""Steps of brightness where one series ends inside another, which figures of a box in the middle do not show.

On acquired slices, field minus slice (after a line through the intensities) is compared on both sides of the faces of each
other series: the difference of its means over strips of `STRIP_MM` on either side, in tiles of `TILE_MM` along the face. Its
root mean square over tiles, in percent of the slice's 99.5th percentile, is the step; the same between strips that lie
farther inside is what there is without an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.geometry import ImagePlane

STRIP_MM, TILE_MM = 4.0, 12.0
#: Pixels of a tile that each strip needs.
FEWEST = 12


def steps_of(field: Any, stacks: Sequence[Any], motions: Sequence[Sequence[NDArray[np.float64]]]) -> dict[str, float]:
    """Steps of a fitted study in percent of the brightness range.

    Args:
        field: fitted to the stacks.
        motions: (4, 4) of each slice of each stack.
    """
    at_ends: list[float] = []
    elsewhere: list[float] = []
    for number, stack in enumerate(stacks):
        for k in range(0, len(stack.pixels), 2):
            plane = stack.plane(k).transformed(motions[number][k])
            image, truth = field.render(plane).astype(float), stack.pixels[k].astype(float)
            valid = np.isfinite(image)
            if np.ptp(truth[valid]) <= 0 or np.ptp(image[valid]) <= 0:
                continue
            slope, offset = np.polyfit(image[valid], truth[valid], 1)
            wrong = np.where(valid, slope * image + offset - truth, np.nan) / np.percentile(truth[valid], 99.5)
            for other, theirs in enumerate(stacks):
                if other != number:
                    back = plane.transformed(np.linalg.inv(motions[other][len(theirs.pixels) // 2]))
                    depth = depth_inside(theirs, back)
                    at_ends += _steps(wrong, depth, plane.spacing, 0.0)
                    elsewhere += _steps(wrong, depth, plane.spacing, 2 * STRIP_MM)
    found = (100 * float(np.sqrt(np.mean(np.square(values)))) if values else float("nan") for values in (at_ends, elsewhere))
    return dict(zip(("step_percent", "elsewhere_percent"), (round(value, 2) for value in found), strict=True))


def depth_inside(stack: Any, plane: ImagePlane) -> NDArray[np.float64]:
    """(rows, columns): mm inside a stack's coverage, negative outside."""
    points = plane.points()
    depths = [-(points @ hull[:, :3].T + hull[:, 3]).max(axis=-1) for hull in stack.hulls()]
    return np.asarray(np.max(depths, axis=0))


def _steps(
    wrong: NDArray[np.float64], depth: NDArray[np.float64], spacing: tuple[float, float], middle: float
) -> list[float]:
    """Mean error between depths of middle and middle + strip, minus that on the other side, for each tile."""
    inner, outer = ((depth > low) & (depth < low + STRIP_MM) & np.isfinite(wrong) for low in (middle, middle - STRIP_MM))
    rows, columns = wrong.shape
    across, down = (max(1, round(TILE_MM / s)) for s in spacing)
    tile = (np.arange(rows)[:, None] // down) * (columns // across + 1) + np.arange(columns)[None, :] // across
    count = [np.bincount(tile[side], minlength=tile.max() + 1) for side in (inner, outer)]
    total = [np.bincount(tile[side], wrong[side], minlength=tile.max() + 1) for side in (inner, outer)]
    both = (count[0] >= FEWEST) & (count[1] >= FEWEST)
    return list(total[0][both] / count[0][both] - total[1][both] / count[1][both])
