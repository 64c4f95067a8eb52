"""Classical resampling methods that the Gaussians are measured against."""

from .resampling import Resampler
from .spline import LinearInterpolator, SplineInterpolator, linear_interpolation, spline_interpolation
from .tikhonov import Grid, SuperResolution, isotropic_grid, solve, superresolution
from .voxel import VoxelInterpolator, voxel_interpolation

__all__ = [
    "Grid",
    "LinearInterpolator",
    "Resampler",
    "SplineInterpolator",
    "SuperResolution",
    "VoxelInterpolator",
    "isotropic_grid",
    "linear_interpolation",
    "solve",
    "spline_interpolation",
    "superresolution",
    "voxel_interpolation",
]
