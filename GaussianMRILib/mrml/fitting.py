"""Fits that begin and end in the scene."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points
from .dicom import stacks_of
from .fields import field_to_model
from .scene import as_array, as_list, described, in_scene, is_node, matrix_to_world, scene_of
from .volume_state import states_of

if TYPE_CHECKING:
    from ..fitting import Fitter

log = logging.getLogger("GaussianMRI")


def fit(
    volume_nodes: Any,
    *,
    preset: str = "fast",
    roi: Any = None,
    progress: Callable[[Any], object] | None = None,
    scene: Any = None,
    poses: str = "auto",
    **options: Any,
) -> Any:
    """Fit Gaussians to one or several scalar volume nodes.

    Args:
        volume_nodes: a vtkMRMLScalarVolumeNode or several, of one patient and position; also `SliceStack`s, such as
            those of `stacks_from_series`.
        preset: "fast" or "paper".
        roi: vtkMRMLMarkupsROINode to fit only what lies in it (see `box_from_roi`), or None.
        progress: called with a `Progress` after every step; when it returns False the fit stops and the field is
            taken as it stands.
        scene: of the result; default: that of the volumes.
        poses: of the slices of volumes that came from DICOM; see `stacks_from_volume`.
        **options: `seed`, `device`, `refine` and the preset's own, as in `GaussianMRILib.Fitter`.

    Returns:
        a new model node; it refers to the volumes that are still in the scene.

    Raises:
        GaussianMRIError: input that cannot be fitted; stopped before there was a field; all volumes were removed
            meanwhile, as when the scene is closed. The scene is then as it was.
    """
    nodes = _listed(volume_nodes)
    fitter = fitter_from_nodes(nodes, preset=preset, roi=roi, poses=poses, **options)
    listed = [node for node in nodes if in_scene(node)]
    states = states_of(listed)
    target = scene_of(*nodes, scene=scene)
    for report in fitter:
        if progress is not None and progress(report) is False:
            break
    field = fitter.field
    if listed and not any(in_scene(node) for node in listed):
        raise GaussianMRIError(
            "The volumes were removed from the scene while they were fitted; nothing is kept."
        )
    first = nodes[0].GetName() if is_node(nodes[0]) else nodes[0].name
    return field_to_model(field, scene=target, volumes=listed, states=states, name=f"{first} field")


def fitter_from_nodes(
    volume_nodes: Any, *, preset: str = "fast", roi: Any = None, poses: str = "auto", **options: Any
) -> Fitter:
    """The `Fitter` behind `fit`, for callers with an event loop of their own; it no longer needs the nodes.

    Example:
        >>> fitter = mrml.fitter_from_nodes([volumeNode])            # doctest: +SKIP
        >>> states = states_of([volumeNode])                         # doctest: +SKIP
        >>> for progress in fitter:                                  # doctest: +SKIP
        ...     slicer.app.processEvents()
        >>> model = mrml.field_to_model(fitter.field, volumes=[volumeNode], states=states)   # doctest: +SKIP
    """
    stacks = stacks_of(_listed(volume_nodes), poses)
    box = None if roi is None else box_from_roi(roi)
    from ..fitting import Fitter

    return Fitter(stacks, preset=preset, roi=box, **options)


def box_from_roi(roi_node: Any) -> NDArray[np.float64]:
    """The box ((R0, R1), (A0, A1), (S0, S1)), RAS mm, that encloses a ROI node, its transforms included.

    A fit's region is upright in RAS. A ROI that is turned is enclosed, so that more is fitted than was asked for,
    never less.

    Raises:
        GaussianMRIError: no ROI node, one that is not placed, or one under a non-linear transform.
    """
    to_world = roi_to_world(roi_node)
    axes = np.abs(to_world[:3, :3] / np.linalg.norm(to_world[:3, :3], axis=0))
    if np.any(axes.max(axis=0) < 1 - 1e-6):
        log.info("The ROI is turned against RAS; the upright box around it is fitted.")
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = transform_points(to_world, signs)
    return np.stack([corners.min(axis=0), corners.max(axis=0)], axis=1)


def roi_to_world(roi_node: Any) -> NDArray[np.float64]:
    """(4, 4): a cube of -1 to 1 to the box of a ROI node in RAS, mm, its transforms included.

    Raises:
        GaussianMRIError: no ROI node, one that is not placed, or one under a non-linear transform.
    """
    if not is_node(roi_node, "vtkMRMLMarkupsROINode"):
        raise GaussianMRIError(f"A markups ROI is needed, got {described(roi_node)}.")
    size = np.array(roi_node.GetSize())
    if roi_node.GetNumberOfDefinedControlPoints() < 1 or min(size) <= 0:
        raise GaussianMRIError(f"The ROI '{roi_node.GetName()}' is not placed yet; draw its box.")
    to_world: NDArray[np.float64] = (
        matrix_to_world(roi_node) @ as_array(roi_node.GetObjectToNodeMatrix()) @ np.diag([*size / 2, 1.0])
    )
    return to_world


def _listed(nodes: Any) -> list[Any]:
    listed = as_list(nodes)
    if not listed:
        raise GaussianMRIError("There is no volume to fit; give at least one scalar volume node.")
    return listed
