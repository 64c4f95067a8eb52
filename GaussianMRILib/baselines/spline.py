"""Linear and cubic spline interpolation of slices, with and without the slice profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImagePlane
from ..stacks import SliceStack
from ..volumes import Resampler, spline_volume

Stacks = SliceStack | Sequence[SliceStack]


class LinearInterpolator(Resampler):
    """Trilinear interpolation between slices, which are taken to be thin."""

    def __init__(self, stacks: Stacks) -> None:
        super().__init__(stacks, lambda stack: spline_volume(stack, order=1, slice_profile=False))


class SplineInterpolator(Resampler):
    """Cubic B-spline interpolation.

    Args:
        stacks: one or several.
        slice_profile: correct for the slices being averages over their thickness, x0 + A^T (A A^T + lambda
            I)^-1 (s - A x0), see `volumes.consistency`; needs no fit and less than a second.
        strength: lambda, relative to the mean diagonal of A A^T.
    """

    def __init__(self, stacks: Stacks, *, slice_profile: bool = True, strength: float = 0.1) -> None:
        super().__init__(stacks, lambda stack: spline_volume(stack, order=3, slice_profile=slice_profile, strength=strength))


def linear_interpolation(stacks: Stacks, plane: ImagePlane) -> NDArray[np.float32]:
    """`LinearInterpolator(stacks).render(plane)`, (rows, columns) float32, NaN outside."""
    return LinearInterpolator(stacks).render(plane)


def spline_interpolation(
    stacks: Stacks, plane: ImagePlane, *, slice_profile: bool = True
) -> NDArray[np.float32]:
    """`SplineInterpolator(stacks, slice_profile).render(plane)`, (rows, columns) float32, NaN outside."""
    return SplineInterpolator(stacks, slice_profile=slice_profile).render(plane)
