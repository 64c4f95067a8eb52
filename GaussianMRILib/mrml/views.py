"""Slice views turned to planes: an image upright on the screen, as its rows and columns are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImagePlane
from .scene import PREFIX, as_array, as_matrix, numbers, stored
from .volumes import planes_of_volume

_LAYERS = ("Background", "Foreground", "Label")
#: Attribute of a slice view, and beginning of roles of its composite node, with what it showed before a preview.
_VIEW_BEFORE, _BEFORE_ROLE = PREFIX + "ViewBefore", PREFIX + "Before"
#: Slicer's own, where what a view showed before is damaged; mode 0 is automatic.
_PLAIN: dict[str, Any] = {"in_3d": False, "mode": 0, "spacing": (1.0, 1.0, 1.0), "opacity": 0.0}


def nodes_of(scene: Any, class_name: str) -> list[Any]:
    """The nodes of a class, in the scene's order."""
    return [scene.GetNthNodeByClass(n, class_name) for n in range(scene.GetNumberOfNodesByClass(class_name))]


def composite_of(slice_node: Any) -> Any:
    """vtkMRMLSliceCompositeNode of a slice view, which says what it shows; None for a view that has none."""
    scene = slice_node.GetScene()
    composites = nodes_of(scene, "vtkMRMLSliceCompositeNode") if scene else []
    name = slice_node.GetLayoutName()
    return next((node for node in composites if node.GetLayoutName() == name), None)


def facing(plane: ImagePlane, slice_node: Any = None) -> NDArray[np.float64]:
    """SliceToRAS (4, 4) of a view that shows a plane: rows to the right, columns down, its middle in the middle.

    Args:
        slice_node: a view whose matrix is returned where it hangs so already: Slicer's own axial and sagittal views have
            left-handed ones, by which it knows their orientations.
    """
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 3] = plane.i_axis, -plane.j_axis, plane.center
    if slice_node is not None:
        present = as_array(slice_node.GetSliceToRAS())
        if np.allclose(present[:3, [0, 1, 3]], matrix[:3, [0, 1, 3]], rtol=0, atol=1e-6):
            return present
    return right_handed(matrix)


def right_handed(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) with the first two axes and the place of a matrix, and the third axis that follows from them."""
    result = matrix.copy()
    result[:3, 2] = np.cross(matrix[:3, 0], matrix[:3, 1])
    return result


def face_plane(slice_node: Any, plane: ImagePlane, fit: bool = True) -> None:
    """Turn a slice view to a plane, as `facing` says.

    Args:
        slice_node: vtkMRMLSliceNode.
        fit: also choose the field of view so that the whole plane is seen.
    """
    matrix = facing(plane, slice_node)
    modifying = slice_node.StartModify()
    slice_node.GetSliceToRAS().DeepCopy(as_matrix(matrix))
    slice_node.UpdateMatrices()
    if fit:
        width, height = (max(pixels, 1) for pixels in slice_node.GetDimensions()[:2])
        scale = 1.02 * max(
            plane.shape[1] * plane.spacing[0] / width, plane.shape[0] * plane.spacing[1] / height
        )
        slice_node.SetFieldOfView(width * scale, height * scale, slice_node.GetFieldOfView()[2])
    slice_node.EndModify(modifying)


def show_volume(slice_node: Any, volume_node: Any) -> None:
    """Show a volume's middle slice, alone and as it was rendered, in a slice view."""
    planes = planes_of_volume(volume_node)
    composite = composite_of(slice_node)
    composite.SetForegroundVolumeID(None)
    composite.SetLabelVolumeID(None)
    composite.SetBackgroundVolumeID(volume_node.GetID())
    face_plane(slice_node, planes[len(planes) // 2])


def keep_view(slice_node: Any) -> None:
    """Write down in the scene what a slice view shows and how, for `give_view_back`.

    Where that is written down already, as by a preview that another one follows, it stays.
    """
    if slice_node.GetAttribute(_VIEW_BEFORE) is not None:
        return
    composite = composite_of(slice_node)
    state = {
        "matrix": as_array(slice_node.GetSliceToRAS()).ravel().tolist(),
        "field": slice_node.GetFieldOfView(),
        "in_3d": slice_node.GetSliceVisible(),
        "mode": slice_node.GetSliceSpacingMode(),
        "spacing": slice_node.GetPrescribedSliceSpacing(),
        "opacity": composite.GetForegroundOpacity(),
    }
    for layer in _LAYERS:  # references, since volumes have other IDs in another scene
        composite.SetNodeReferenceID(_BEFORE_ROLE + layer, _layer(composite, layer))
    slice_node.SetAttribute(_VIEW_BEFORE, json.dumps(state))


def give_view_back(slice_node: Any, replaced: Sequence[str | None]) -> None:
    """Turn a view back to what `keep_view` wrote down, and put back the volumes of the layers that show one of `replaced`,
    which are IDs or None.

    What somebody has chosen meanwhile stays; volumes that are gone meanwhile are not shown. Where what was written down is
    damaged, the view has Slicer's defaults. A view that shows another
    preview is that one's, which gives it back in its turn, and one that shows a resampled image stays turned to it.
    """
    composite, scene = composite_of(slice_node), slice_node.GetScene()
    if composite is None:
        return  # it shows nothing
    shown = _layer(composite, "Background")
    chosen = shown not in replaced
    node = scene.GetNodeByID(shown) if shown and chosen else None
    if slice_node.GetAttribute(_VIEW_BEFORE) is None or is_preview(node):
        return
    before = stored(slice_node, _VIEW_BEFORE, _view_before, _PLAIN)
    slice_node.RemoveAttribute(_VIEW_BEFORE)
    modifying = slice_node.StartModify()
    if node is None or node.GetAttribute(PREFIX + "Method") is None:
        if before is _PLAIN:
            slice_node.SetOrientationToDefault()
        else:
            slice_node.GetSliceToRAS().DeepCopy(before["matrix"])
            slice_node.UpdateMatrices()
            slice_node.SetFieldOfView(*before["field"])
    slice_node.SetSliceVisible(before["in_3d"])
    slice_node.SetSliceSpacingMode(before["mode"])
    slice_node.SetPrescribedSliceSpacing(*before["spacing"])
    slice_node.EndModify(modifying)
    for layer in _LAYERS:
        showing, kept = _layer(composite, layer), composite.GetNodeReference(_BEFORE_ROLE + layer)
        composite.RemoveNodeReferenceIDs(_BEFORE_ROLE + layer)
        # Over somebody's own image an overlay of before would be a surprise.
        if showing in replaced and not (chosen and showing is None):
            getattr(composite, f"Set{layer}VolumeID")(kept.GetID() if kept is not None and not chosen else None)
    composite.SetForegroundOpacity(before["opacity"])


def _view_before(text: str) -> dict[str, Any]:
    """What `keep_view` wrote down."""
    state = json.loads(text)
    matrix = numbers(state["matrix"], 16)
    if abs(np.linalg.det(np.reshape(matrix, (4, 4)))) < 1e-6 or state["mode"] not in (0, 1):
        raise ValueError("no view is like this")
    return {
        "matrix": matrix,
        "field": numbers(state["field"], 3),
        "in_3d": bool(state["in_3d"]),
        "mode": int(state["mode"]),
        "spacing": numbers(state["spacing"], 3),
        "opacity": numbers([state["opacity"]], 1)[0],
    }


def is_preview(node: Any) -> bool:
    """Whether a node is the image of a running preview."""
    return node is not None and node.GetAttribute(PREFIX + "Kind") == "preview"


def _layer(composite: Any, layer: str) -> str | None:
    """ID of a layer's volume, None without one."""
    return getattr(composite, f"Get{layer}VolumeID")() or None
