"""The bridge to 3D Slicer: scene nodes in, scene nodes out.

Needs the `slicer` and `vtk` packages of Slicer (or of slicer-core). Nodes are typed `Any`: their classes exist in
Slicer only. Importing this room costs nothing else; torch is imported when something is fitted or rendered.

Example:
    >>> from GaussianMRILib import mrml                                  # doctest: +SKIP
    >>> field = mrml.fit([volumeNode])                                   # doctest: +SKIP
    >>> volume = mrml.resample(field, planeNode)                         # doctest: +SKIP
"""

from __future__ import annotations

from .along import take_along
from .canal import measure_canal
from .curves import curve_from_node, planes_along_curve, straight_field, straighten, straightening_transform
from .dicom import POSES, stacks_from_series, stacks_from_volume
from .export import export_dicom
from .fields import field_from_model, field_to_model, is_field
from .fitting import box_from_roi, fit, fitter_from_nodes
from .grading import grade_disc, grading_request
from .grading_discs import disc_from_plane_node, disc_from_points_node, disc_from_segment_node
from .grading_report import export_structured_report
from .grading_results import show_grades
from .grading_state import grades_of, staleness
from .grading_study import grade_study
from .grading_watch import GradeWatcher
from .inputs import input_warnings
from .isotropic import isotropic_volume
from .labels import resample_labels
from .maps import MAP_OUTSIDE, MAPS, PlaneFacts, map_image, plane_facts, show_map
from .plane_series import plane_rows, planes_from
from .plane_sets import load_planes, save_planes
from .planes import plane_from_node, plane_from_points, plane_from_slice_node, plane_to_node, planes_to_nodes
from .reporting import report, report_rows
from .resampling import RESAMPLERS, resample, resampler
from .segments import plane_from_segment
from .volumes import copy_display, stack_from_volume, volume_from_images

__all__ = [
    "MAPS",
    "MAP_OUTSIDE",
    "POSES",
    "RESAMPLERS",
    "GradeWatcher",
    "PlaneFacts",
    "box_from_roi",
    "copy_display",
    "curve_from_node",
    "disc_from_plane_node",
    "disc_from_points_node",
    "disc_from_segment_node",
    "export_dicom",
    "export_structured_report",
    "field_from_model",
    "field_to_model",
    "fit",
    "fitter_from_nodes",
    "grade_disc",
    "grade_study",
    "grades_of",
    "grading_request",
    "input_warnings",
    "is_field",
    "isotropic_volume",
    "load_planes",
    "map_image",
    "measure_canal",
    "plane_facts",
    "plane_from_node",
    "plane_from_points",
    "plane_from_segment",
    "plane_from_slice_node",
    "plane_rows",
    "plane_to_node",
    "planes_along_curve",
    "planes_from",
    "planes_to_nodes",
    "report",
    "report_rows",
    "resample",
    "resample_labels",
    "resampler",
    "save_planes",
    "show_grades",
    "show_map",
    "stack_from_volume",
    "stacks_from_series",
    "stacks_from_volume",
    "staleness",
    "straight_field",
    "straighten",
    "straightening_transform",
    "take_along",
    "volume_from_images",
]
