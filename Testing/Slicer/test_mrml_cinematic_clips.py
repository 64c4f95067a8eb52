"""Clip nodes of the scene as planes that cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import vtk
from mrml_scenes import plane_node

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.mrml.cinematic_clips import clips_of_clip_node


def turned_box(scene: Any, inside_out: bool = False) -> Any:
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetCenter(0, 0, 0)
    roi.SetSize(24, 30, 18)
    matrix = vtk.vtkMatrix4x4()
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(40, 0.3, 1, 0.5)
    transform.Translate(4, -6, 2)
    matrix.DeepCopy(transform.GetMatrix())
    roi.SetAndObserveObjectToNodeMatrix(matrix)
    roi.SetInsideOut(inside_out)
    return roi


def kept_by(clips: Any, points: np.ndarray) -> np.ndarray:
    """Which points what `ClipPlane` says keeps."""
    plain = [clip.signed_distance(points) < 0 for clip in clips if not clip.joint]
    joint = [clip.signed_distance(points) < 0 for clip in clips if clip.joint]
    return np.all([*plain, np.any(joint, axis=0) if joint else np.ones(len(points), bool)], axis=0)


@pytest.mark.parametrize("union", [True, False])
@pytest.mark.parametrize("states", ["++  ", "+-  ", "-+ -", "- ++", "  - "])
def test_a_clip_node_keeps_what_slicer_s_clipping_keeps(app: Any, union: bool, states: str) -> None:
    """Two planes, a turned box and a slice view, each kept on one side or off: against the node's own function."""
    scene = app.scene
    node = scene.AddNewNodeByClass("vtkMRMLClipNode")
    node.SetClipType(node.ClipUnion if union else node.ClipIntersection)
    red = scene.GetNodeByID("vtkMRMLSliceNodeRed")
    first = plane_node(scene, (3, 2, 1), (1, 0.2, 0), (0, 1, 0.4))
    things = (first, plane_node(scene, (-5, 4, 2), (0, 1, 0.3), (0.2, 0, 1)), turned_box(scene), red)
    for thing, state in zip(things, states, strict=True):
        node.AddAndObserveClippingNodeID(thing.GetID())
        words = {"+": node.ClipPositiveSpace, "-": node.ClipNegativeSpace, " ": node.ClipOff}
        node.SetClippingNodeState(thing, words[state])
    points = np.random.default_rng(0).uniform(-30, 30, (4000, 3))
    function = node.GetImplicitFunctionWorld()
    expected = np.array([function.EvaluateFunction(point) > 0 for point in points])
    assert 20 < expected.sum() < 3980
    np.testing.assert_array_equal(kept_by(clips_of_clip_node(node), points), expected)


def test_what_a_clip_node_cannot_be_shown_of_is_told(app: Any) -> None:
    scene = app.scene
    node = scene.AddNewNodeByClass("vtkMRMLClipNode", "clip")
    assert clips_of_clip_node(node) == ()
    out, back = turned_box(scene), turned_box(scene, inside_out=True)
    node.AddAndObserveClippingNodeID(out.GetID())
    outside = clips_of_clip_node(node)
    assert len(outside) == 6 and all(clip.joint for clip in outside)
    node.SetClippingNodeState(out, node.ClipOff)
    node.AddAndObserveClippingNodeID(back.GetID())
    assert not any(clip.joint for clip in clips_of_clip_node(node))
    node.SetClippingNodeState(out, node.ClipPositiveSpace)
    node.SetClippingNodeState(back, node.ClipNegativeSpace)
    with pytest.raises(GaussianMRIError, match="2 boxes"):
        clips_of_clip_node(node)
    node.SetClipType(node.ClipIntersection)
    with pytest.raises(GaussianMRIError, match="Choose Union"):
        clips_of_clip_node(node)
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "surface")
    node.AddAndObserveClippingNodeID(model.GetID())
    with pytest.raises(GaussianMRIError, match="'surface'"):
        clips_of_clip_node(node)
    with pytest.raises(GaussianMRIError, match="clip node is needed"):
        clips_of_clip_node(model)
