"""Resampling methods by name: Gaussians, and what they are compared with. Importing this loads none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .baselines import SuperResolution
    from .stacks import SliceStack
    from .volumes import Resampler

METHODS = {
    "fast": "Gaussians, preset fast",
    "paper": "Gaussians, preset paper",
    "voxel": "voxel interpolation, k = 8",
    "linear": "linear interpolation",
    "cubic": "cubic B-spline",
    "spline": "cubic B-spline with slice profile",
    "superresolution": "Tikhonov super-resolution",
}
#: Those of `METHODS` that are presets of a fit.
GAUSSIANS = ("fast", "paper")


def classical(method: str, stacks: Sequence[SliceStack]) -> Resampler | SuperResolution:
    """One of `METHODS` that is not of `GAUSSIANS`, ready to render planes."""
    from . import baselines

    makers: dict[str, Callable[[Sequence[SliceStack]], Resampler | SuperResolution]] = {
        "voxel": baselines.VoxelInterpolator,
        "linear": baselines.LinearInterpolator,
        "cubic": lambda given: baselines.SplineInterpolator(given, slice_profile=False),
        "spline": baselines.SplineInterpolator,
        "superresolution": baselines.SuperResolution,
    }
    return makers[method](stacks)
