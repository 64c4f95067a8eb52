"""What the panels of the modules for Slicer share besides widgets."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import slicer

from .grading_state import GRADES_ATTRIBUTE
from .scene import PREFIX
from .views import nodes_of

log = logging.getLogger("GaussianMRI")


def default_volume(scene: Any) -> Any:
    """The volume to offer first: the one that the Red view shows, else the scene's first; None without any.

    Volumes that are hidden from lists, label maps, and what these modules have made themselves are not offered.
    """
    offered = [
        node
        for node in nodes_of(scene, "vtkMRMLScalarVolumeNode")
        if not node.GetHideFromEditors()
        and not node.IsA("vtkMRMLLabelMapVolumeNode")
        and node.GetAttribute(PREFIX + "Method") is None
        and node.GetAttribute(PREFIX + "Kind") is None
    ]
    composites = nodes_of(scene, "vtkMRMLSliceCompositeNode")
    red = {node.GetBackgroundVolumeID() for node in composites if node.GetLayoutName() == "Red"}
    return next((node for node in offered if node.GetID() in red), offered[0] if offered else None)


def default_plane(scene: Any) -> Any:
    """The plane to offer first, which will be dragged: the scene's first; None without any.

    Planes that are hidden from lists or not placed, those with grades, which moving would make stale, and those that these
    modules cut with are not offered.
    """
    return next(
        (
            node
            for node in nodes_of(scene, "vtkMRMLMarkupsPlaneNode")
            if not node.GetHideFromEditors()
            and node.GetIsPlaneValid()
            and node.GetAttribute(GRADES_ATTRIBUTE) is None
            and node.GetAttribute(PREFIX + "Kind") is None
        ),
        None,
    )


def kernel_notice() -> str:
    """A sentence for the first line of a panel where there are no compiled kernels; else empty."""
    from ..native.support.backend import why_slow

    reason = why_slow()
    if not reason:
        return ""
    return (
        f"Fits and images take hundreds of times longer here, because the compiled kernels are missing: {reason} "
        "Install the extension from Slicer's Extensions Manager, which brings them."
    )


def show_table(table_node: Any, application_logic: Any, layout_manager: Any) -> None:
    """Show a table beside the views.

    The layout comes first: it makes the table view that the choice of a table is handed on to.

    Args:
        application_logic, layout_manager: slicer.app's; the latter may be None, without a main window.
    """
    if layout_manager is not None:
        layout_manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
    application_logic.GetSelectionNode().SetActiveTableID(table_node.GetID())
    application_logic.PropagateTableSelection()


def forget_damaged(parameter_node: Any, infos: Iterable[Any]) -> None:
    """Unset the parameters that cannot be read, so that they get their defaults: Slicer's wrapper would raise, and the panel
    not open.

    Args:
        infos: `ParameterInfo` of each parameter, of `slicer.parameterNodeWrapper`.
    """
    modified = parameter_node.StartModify()  # a wrapper that is there already reads everything at each change
    for info in infos:
        name, serializer = info.basename, info.serializer
        try:
            if serializer.isIn(parameter_node, name):
                serializer.validate(serializer.read(parameter_node, name))
        except (ArithmeticError, TypeError, ValueError):
            log.warning("The parameter %s is damaged and has its default.", name)
            for part in parameter_node.GetParameterNames():
                if part == name or part.startswith(f"{name}."):  # of a list
                    parameter_node.UnsetParameter(part)
    parameter_node.EndModify(modified)
