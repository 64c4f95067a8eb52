"""The quality protocol: fixed scans, slices, planes and scores, the same for every method."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from ..geometry import ImagePlane
from ..stacks import SliceStack
from ..volumes import Volume
from .simulate import load_isotropic, oblique_planes, simulate_stack, truth


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityCase:
    """Simulated stacks of one scan, the planes to resample and their true images.

    Attributes:
        stacks: what a method may see.
        planes: thin planes to render.
        thin, thick: true images of `planes`, (rows, columns) float32, NaN where not judged.
        thickness: of the thick truth, mm; `thick_planes` are the planes with that thickness.
    """

    name: str
    scan: Volume
    stacks: list[SliceStack]
    planes: list[ImagePlane]
    thin: list[np.ndarray]
    thick: list[np.ndarray]
    thickness: float = 4.0

    @property
    def thick_planes(self) -> list[ImagePlane]:
        return [dataclasses.replace(plane, thickness=self.thickness) for plane in self.planes]


def quality_case(
    name: str,
    shared_data: str | os.PathLike[str],
    *,
    directions: Sequence[str] = ("axial",),
    planes: int = 12,
    seed: int = 0,
) -> QualityCase:
    """The protocol on one shared scan: 4 mm slices, 1 % Rician noise, planes tilted 5 to 30 degrees.

    Args:
        name: 'lumbar_t2', 'brain_t1' or 'brain_t1_fine'.
        directions: one simulated stack each; planes are tilted against the first.
        planes: how many planes.
        seed: of noise and planes.
    """
    scan = load_isotropic(name, shared_data)
    stacks = [simulate_stack(scan, direction=direction, seed=seed + n) for n, direction in enumerate(directions)]
    chosen = oblique_planes(stacks[0], count=planes, seed=seed)
    return QualityCase(
        name=name,
        scan=scan,
        stacks=stacks,
        planes=chosen,
        thin=[truth(scan, plane, False, stacks=stacks) for plane in chosen],
        thick=[truth(scan, plane, True, stacks=stacks) for plane in chosen],
    )
