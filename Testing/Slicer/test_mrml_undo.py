"""Undo, where the scene's is on: one step takes back one action."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import (  # noqa: E402
    assert_same_field,
    bright_point,
    oblique_plane_node,
    plane_node,
    random_field,
)

from GaussianMRILib import ImagePlane, mrml  # noqa: E402

TINY = {"prior": "spline", "passes": 2, "blend": 0.5}


def test_one_undo_takes_back_one_fit_or_one_resampling(scene: Any, host: Any) -> None:
    scene.SetUndoOn()
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)  # Slicer always has one
    volume, planes = bright_point(scene), [oblique_plane_node(scene), oblique_plane_node(scene)]
    states = [host.ids()]
    node = mrml.fit([volume], **TINY)
    field = mrml.field_from_model(node)
    states.append(host.ids())
    images = mrml.resample(node, planes)
    states.append(host.ids())
    mrml.resample(volume, planes[0], method="voxel")
    states.append(host.ids())
    mrml.resample(node, planes[0], method="distance", count=3)
    assert scene.GetNumberOfUndoLevels() == 4
    pixels = slicer.util.arrayFromVolume(images[1]).copy()
    names = [image.GetName() for image in images]
    for wanted in reversed(states):
        scene.Undo()
        assert host.ids() == wanted
    for _ in states:
        scene.Redo()
    found = scene.GetFirstNodeByName("scan field")
    assert_same_field(mrml.field_from_model(found), field)
    again = scene.GetFirstNodeByName(names[1])
    assert np.array_equal(slicer.util.arrayFromVolume(again), pixels)
    assert again.GetDisplayNode() is not None
    assert again.GetNodeReference("GaussianMRI.Field") is found
    assert again.GetNodeReference("GaussianMRI.Source") is volume


def test_a_field_that_is_fitted_again_goes_back(scene: Any) -> None:
    scene.SetUndoOn()
    first, second = random_field(), random_field(20)
    node = mrml.field_to_model(first, scene=scene)
    mrml.field_to_model(second, node=node)
    assert_same_field(mrml.field_from_model(node), second)
    scene.Undo()
    assert_same_field(mrml.field_from_model(node), first)
    scene.Undo()
    assert scene.GetFirstNodeByName("Gaussian field") is None


def test_new_planes_go_back_and_foreign_nodes_stay(scene: Any, host: Any, tmp_path: Path) -> None:
    scene.SetUndoOn()
    theirs = plane_node(scene, (1, 2, 3), (1, 0, 0), (0, 1, 0))
    path = mrml.save_planes(tmp_path / "set.mrk.json", [theirs, theirs])
    before = host.ids()
    assert len(mrml.load_planes(path, scene=scene)) == 2
    scene.Undo()
    assert host.ids() == before
    mrml.plane_to_node(ImagePlane.from_normal((0, 0, 0), (0, 0, 1)), scene=scene)
    theirs.SetName("moved since")
    scene.Undo()
    assert host.ids() == before and theirs.GetName() == "moved since"


def test_without_undo_nothing_is_recorded(scene: Any) -> None:
    node = mrml.field_to_model(random_field(), scene=scene)
    mrml.resample(node, oblique_plane_node(scene))
    assert scene.GetNumberOfUndoLevels() == 0 and not node.GetUndoEnabled()
