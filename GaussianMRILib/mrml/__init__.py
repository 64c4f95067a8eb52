"""The bridge to 3D Slicer: scene nodes in, scene nodes out.

Needs the `slicer` and `vtk` packages of Slicer (or of slicer-core). Nodes are typed `Any`: their classes exist in
Slicer only. Importing this room costs nothing else; torch is imported when something is fitted or rendered.

Example:
    >>> from GaussianMRILib import mrml                                  # doctest: +SKIP
    >>> field = mrml.fit([volumeNode])                                   # doctest: +SKIP
    >>> volume = mrml.resample(field, planeNode)                         # doctest: +SKIP
"""

from __future__ import annotations

from .fields import field_from_model, field_to_model, is_field
from .fitting import box_from_roi, fit, fitter_from_nodes
from .planes import plane_from_node, plane_from_points, plane_from_slice_node, plane_to_node
from .resampling import METHODS, resample, resampler
from .volumes import copy_display, stack_from_volume, volume_from_images

__all__ = [
    "METHODS",
    "box_from_roi",
    "copy_display",
    "field_from_model",
    "field_to_model",
    "fit",
    "fitter_from_nodes",
    "is_field",
    "plane_from_node",
    "plane_from_points",
    "plane_from_slice_node",
    "plane_to_node",
    "resample",
    "resampler",
    "stack_from_volume",
    "volume_from_images",
]
