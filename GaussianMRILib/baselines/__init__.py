"""Classical resampling methods that the Gaussians are measured against."""

from .resampling import Resampler, parallel_groups
from .spline import LinearInterpolator, SplineInterpolator, linear_interpolation, spline_interpolation
from .voxel import VoxelInterpolator, voxel_interpolation

__all__ = [
    "LinearInterpolator",
    "Resampler",
    "SplineInterpolator",
    "VoxelInterpolator",
    "linear_interpolation",
    "parallel_groups",
    "spline_interpolation",
    "voxel_interpolation",
]
