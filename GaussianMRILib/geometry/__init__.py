"""Where things are: 4x4 `ijk_to_ras` matrices in millimetres, RAS, and the planes images are made on."""

from __future__ import annotations

from .affine import LPS_RAS, check_affine, inside_hull, slice_poses, transform_points, trilinear, unit_vector
from .curve import Curve
from .hulls import hull_corners, row_spans
from .plane import ImagePlane, as_planes
from .plane_sets import (
    PlaneAngles,
    best_fit_plane,
    orthogonal_planes,
    plane_angles,
    planes_along,
    radial_planes,
)
from .profile import PROFILE_EDGE_MM, slice_profile
from .slab import PROJECTIONS, check_projection, slab_image

__all__ = [
    "LPS_RAS",
    "PROFILE_EDGE_MM",
    "PROJECTIONS",
    "Curve",
    "ImagePlane",
    "PlaneAngles",
    "as_planes",
    "best_fit_plane",
    "check_affine",
    "check_projection",
    "hull_corners",
    "inside_hull",
    "orthogonal_planes",
    "plane_angles",
    "planes_along",
    "radial_planes",
    "row_spans",
    "slab_image",
    "slice_poses",
    "slice_profile",
    "transform_points",
    "trilinear",
    "unit_vector",
]
