"""Classical resampling methods that the Gaussians are measured against."""

from .spline import LinearInterpolator, SplineInterpolator, linear_interpolation, spline_interpolation
from .tikhonov import SuperResolution, superresolution
from .voxel import VoxelInterpolator, voxel_interpolation

__all__ = [
    "LinearInterpolator",
    "SplineInterpolator",
    "SuperResolution",
    "VoxelInterpolator",
    "linear_interpolation",
    "spline_interpolation",
    "superresolution",
    "voxel_interpolation",
]
