"""A first look at a scan, within a second or two, while its fit goes on.

Splines through the slices with their profile, as a field that renders like the fit's: a lattice of Gaussians. Several blocks
or acquisitions are the mean of theirs, in the scale of the largest one. Large scans are looked at with larger pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..gaussians import GaussianField
from ..stacks import SliceStack
from ..volumes import default_factor, spline_volume
from .fusion import overlay_of
from .lattice import lattice_of_volume
from .parts import Part, interpolating
from .problem import Problem

#: Cubes as long as a pixel in what was scanned, at most; pixels are made larger where there are more. Several blocks
#: cost as much with fewer.
MOST_CUBES, MOST_CUBES_OF_SEVERAL = 10_000_000, 3_000_000


def first_guess(problem: Problem) -> GaussianField | None:
    """What splines show of a problem's slices where they were acquired: nothing is registered, refined or left out.

    The field is on the CPU, whatever the fit's device, and cannot be saved: its colours are not rounded.

    Returns:
        None where no two slices are parallel.
    """
    stacks = problem.stacks
    alone = len(stacks) == 1 and len(stacks[0].blocks()) == 1
    scanned = sum(stack.pixels.size * float(np.prod(stack.pixel_spacing)) * stack.spacing for stack in stacks)
    most = MOST_CUBES if alone else MOST_CUBES_OF_SEVERAL
    pitch = max(min(min(stack.pixel_spacing) for stack in stacks), (scanned / most) ** (1 / 3))
    parts = [Part.of(_coarser(stack, pitch)) for stack in stacks]
    for part in parts:
        part.lattices = [
            lattice_of_volume(spline_volume(block), part.low, part.high, 2 if default_factor(block) > 2 else 1)
            for block in part.blocks
        ]
    anchor = int(np.argmax([stack.pixels.size for stack in stacks]))
    if not any(part.blocks for part in parts):
        return None
    if alone:
        lattice = parts[0].lattices[0]
    else:
        overlay = overlay_of(parts, anchor, pitch, levels=False)
        lattice = interpolating(overlay.lattice, overlay.mean(), iterations=1)
    low, high = parts[anchor].low, parts[anchor].high
    return replace(problem.field(lattice.nodes.new_zeros(11, 0), lattice), offset=low, scale=high - low)


def _coarser(stack: SliceStack, pitch: float) -> SliceStack:
    """A stack whose pixels are squares of its pixels, about as large as a pitch (mm); borders are repeated to whole ones."""
    size = max(1, round(pitch / min(stack.pixel_spacing)))
    if size == 1:
        return stack
    count, *sides = stack.shape
    pixels = np.pad(stack.pixels, [(0, 0), *[(0, -side % size) for side in sides]], mode="edge")
    rows, columns = (side // size for side in pixels.shape[1:])
    poses = stack.ijk_to_ras.copy()
    poses[:, :3, 3] += (size - 1) / 2 * (poses[:, :3, 0] + poses[:, :3, 1])
    poses[:, :3, :2] *= size
    means = pixels.reshape(count, rows, size, columns, size).mean(axis=(2, 4))
    return replace(stack, pixels=np.ascontiguousarray(means, np.float32), ijk_to_ras=poses)
