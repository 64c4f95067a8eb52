"""Images on planes as volume nodes: geometry from end to end."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import (  # noqa: E402
    POINT,
    bright_point,
    centre_of_brightness,
    oblique_plane_node,
    plane_node,
    put_under,
    random_field,
    rigid,
)
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.mrml.scene import as_array  # noqa: E402

MOVE = rigid([0.2, 1, 0.4], 33, [7.5, -3.25, 11])
TINY = {"prior": "spline", "passes": 2, "blend": 0.5}

TENTH = 0.09  # mm: a tenth of a pixel, which is the volume's smaller one, 0.9 mm


def place_of(node: Any) -> np.ndarray:
    """RAS of the bright point in a resampled node, straight from its pixels and its matrix."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    pixels = slicer.util.arrayFromVolume(node)
    assert pixels.shape[0] == 1
    return (as_array(matrix) @ [*centre_of_brightness(pixels[0]), 0, 1])[:3]


@pytest.mark.parametrize("method", mrml.RESAMPLERS)
@pytest.mark.parametrize("transform", [None, "above", "hardened"])
def test_a_bright_point_is_where_it_was_put(scene: Any, method: str, transform: str | None) -> None:
    volume, point = bright_point(scene), POINT
    if transform is not None:
        put_under(scene, volume, MOVE, harden=transform == "hardened")
        point = MOVE[:3, :3] @ POINT + MOVE[:3, 3]
    source = mrml.fit([volume], **TINY) if method == "gaussians" else volume
    result = mrml.resample(source, oblique_plane_node(scene, point), method=method)
    assert np.linalg.norm(place_of(result) - point) < TENTH
    assert result.GetAttribute("GaussianMRI.Method") == method
    assert result.GetAttribute("GaussianMRI.OutsideFraction") == "0.000000"


def test_a_moved_plane_sees_the_same_place(scene: Any) -> None:
    volume, plane = bright_point(scene), oblique_plane_node(scene, np.linalg.inv(MOVE)[:3] @ [*POINT, 1])
    put_under(scene, plane, MOVE)
    result = mrml.resample(volume, plane, method="spline")
    assert np.linalg.norm(place_of(result) - POINT) < TENTH


@pytest.mark.parametrize("method", ["gaussians", "spline"])
@pytest.mark.parametrize("transform", [None, "above", "hardened"])
def test_slicers_slice_view_shows_it_there_too(
    scene: Any, host: Any, method: str, transform: str | None
) -> None:
    volume, point = bright_point(scene), POINT
    if transform is not None:
        put_under(scene, volume, MOVE, harden=transform == "hardened")
        point = MOVE[:3, :3] @ POINT + MOVE[:3, 3]
    source = mrml.fit([volume], **TINY) if method == "gaussians" else volume
    plane = oblique_plane_node(scene, point)
    result = mrml.resample(source, plane, method=method)
    image = mrml.plane_from_node(plane)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(host.application)
    logic.SetMRMLScene(scene)
    view = logic.AddSliceNode("Red")
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(result.GetID())
    view.SetDimensions(240, 180, 1)
    view.SetFieldOfView(24, 18, 1)
    view.SetSliceToRASByNTP(*image.normal, *image.i_axis, *image.center, 0)
    reslice = logic.GetBackgroundLayer().GetReslice()
    reslice.Update()
    shown = vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).reshape(180, 240)
    x, y = centre_of_brightness(shown)
    seen = np.array(view.GetXYToRAS().MultiplyPoint((x, y, 0, 1)))[:3]
    assert np.linalg.norm(seen - place_of(result)) < 0.03  # what Slicer's linear interpolation adds
    assert np.linalg.norm(seen - point) < TENTH


def test_pixels_and_places_are_those_of_the_field(scene: Any) -> None:
    field = random_field()
    node = mrml.field_to_model(field, scene=scene)
    plane = oblique_plane_node(scene, size=(24, 60))  # beyond the slab
    result = mrml.resample(node, plane, count=3, step=1.5, thickness=2, background=-5)
    middle = mrml.plane_from_node(plane, spacing=0.7, thickness=2)  # the field's slices have pixels of 0.7 mm
    expected = np.stack(field.render_many(middle.stack(3, 1.5)))
    outside = np.isnan(expected)
    assert 0.2 < outside.mean() < 0.9
    pixels = slicer.util.arrayFromVolume(result)
    assert np.array_equal(pixels, np.where(outside, np.float32(-5), expected))
    stack = mrml.stack_from_volume(result)
    for got, wanted in zip(stack.planes(), middle.stack(3, 1.5), strict=True):
        assert np.allclose(got.ijk_to_ras, wanted.ijk_to_ras, atol=1e-9)
    shares = json.loads(result.GetAttribute("GaussianMRI.OutsideFractions"))
    assert np.allclose(shares, outside.mean(axis=(1, 2)), atol=1e-6)
    assert float(result.GetAttribute("GaussianMRI.Background")) == -5
    assert stack.frame_of_reference == "1.2.3"


def test_a_plane_outside_the_scan_is_empty(scene: Any) -> None:
    node = mrml.field_to_model(random_field(), scene=scene)
    result = mrml.resample(node, oblique_plane_node(scene, POINT + 300))
    assert result.GetAttribute("GaussianMRI.OutsideFraction") == "1.000000"
    assert not slicer.util.arrayFromVolume(result).any()


@pytest.mark.parametrize("method", mrml.RESAMPLERS)
def test_empty_pixels_look_the_same_by_every_method(scene: Any, method: str) -> None:
    volume, plane = bright_point(scene), oblique_plane_node(scene, size=(60, 60))
    slicer.util.arrayFromVolume(volume)[:] -= 50  # interpolation overshoots below 0 here, the scan does not
    volume.Modified()
    result = mrml.resample(mrml.fit([volume], **TINY), plane, method=method)
    assert 0.1 < float(result.GetAttribute("GaussianMRI.OutsideFraction")) < 0.9
    assert float(result.GetAttribute("GaussianMRI.Background")) == 0
    assert slicer.util.arrayFromVolume(result)[0, 0, 0] == 0


def test_display_place_and_references_are_the_sources(scene: Any) -> None:
    volume = bright_point(scene)
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(321, 123)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeInvertedGrey")
    display.SetInterpolate(0)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, volume)
    node = mrml.field_to_model(random_field(), volumes=[volume])
    planes = [oblique_plane_node(scene), plane_node(scene, POINT, [-1, 0, 0], [0, -1, 0])]
    results = mrml.resample(node, planes)
    for result, plane in zip(results, planes, strict=True):
        shown = result.GetDisplayNode()
        assert (shown.GetWindow(), shown.GetLevel(), shown.GetInterpolate()) == (321, 123, 0)
        assert (
            shown.GetColorNodeID() == "vtkMRMLColorTableNodeInvertedGrey" and not shown.GetAutoWindowLevel()
        )
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
        assert result.GetNodeReference("GaussianMRI.Field") is node
        assert result.GetNodeReference("GaussianMRI.Plane") is plane
        assert result.GetNodeReference("GaussianMRI.Source") is volume
    assert [result.GetName() for result in results] == ["oblique gaussians", "oblique gaussians_1"]
    assert mrml.resample(node, planes[0], method="voxel").GetNodeReference("GaussianMRI.Source") is volume


def test_a_failure_leaves_the_scene_alone(scene: Any, host: Any) -> None:
    volume, plane = bright_point(scene), oblique_plane_node(scene)
    unplaced = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "later")
    node = mrml.field_to_model(random_field(), scene=scene)
    before = host.ids()
    for call, message in (
        (lambda: mrml.resample(node, plane, method="magic"), "no method 'magic'"),
        (lambda: mrml.resample(volume, plane), "fit the volume first"),
        (lambda: mrml.resample(node, plane, method="voxel"), "needs the volume itself"),
        (lambda: mrml.resample(plane, plane), "field is needed, got 'oblique'"),
        (lambda: mrml.resample(node, [plane, unplaced]), "'later' is not placed"),
        (lambda: mrml.resample(node, []), "no plane"),
        (lambda: mrml.resample(node, plane, count=0), "at least one plane"),
        (lambda: mrml.resample(node, plane, count=2, step=0.0), "step between planes"),
        (lambda: mrml.resample(random_field(), mrml.plane_from_node(plane)), "no scene to work in"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert host.ids() == before


def test_a_field_without_a_node_and_a_plane_without_a_node_do(scene: Any) -> None:
    plane = mrml.plane_from_node(oblique_plane_node(scene), spacing=1.0)
    result = mrml.resample(random_field(), plane, scene=scene)
    assert slicer.util.arrayFromVolume(result).shape == (1, *plane.shape)
    assert result.GetNumberOfNodeReferences("GaussianMRI.Field") == 0
