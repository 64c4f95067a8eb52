"""Where things are: 4x4 `ijk_to_ras` matrices in millimetres, RAS, and the planes images are made on."""

from __future__ import annotations

from .affine import LPS_RAS, check_affine, inside_hull, slice_poses, transform_points, trilinear, unit_vector
from .curve import Curve
from .hulls import hull_corners, row_spans
from .plane import ImagePlane
from .profile import PROFILE_EDGE_MM, slice_profile

__all__ = [
    "LPS_RAS",
    "PROFILE_EDGE_MM",
    "Curve",
    "ImagePlane",
    "check_affine",
    "hull_corners",
    "inside_hull",
    "row_spans",
    "slice_poses",
    "slice_profile",
    "transform_points",
    "trilinear",
    "unit_vector",
]
