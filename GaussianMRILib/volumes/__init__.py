"""Voxels: their places and intensities, what the slices say of them, and how they are resampled."""

from __future__ import annotations

from .consistency import default_factor, enforce, slice_operator, spline_volume, upsample, volume_operator
from .grid import Grid, isotropic_grid
from .intensity import intensity_range, noise_level
from .resampling import Resampler, ScatteredSlices
from .solver import solve
from .volume import Volume, sample_thickness, thickness_offsets

__all__ = [
    "Grid",
    "Resampler",
    "ScatteredSlices",
    "Volume",
    "default_factor",
    "enforce",
    "intensity_range",
    "isotropic_grid",
    "noise_level",
    "sample_thickness",
    "slice_operator",
    "solve",
    "spline_volume",
    "thickness_offsets",
    "upsample",
    "volume_operator",
]
