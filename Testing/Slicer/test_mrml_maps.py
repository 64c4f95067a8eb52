"""Maps of distance and support as volume nodes, and numbers about a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import POINT, bright_point, oblique_plane_node, random_field  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402
from GaussianMRILib.mrml.scene import as_array  # noqa: E402

TINY = {"prior": "spline", "passes": 2, "blend": 0.5}


def geometry(node: Any) -> tuple[Any, ...]:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return (*node.GetImageData().GetDimensions(), *as_array(matrix).ravel())


def test_maps_lie_on_the_image(scene: Any) -> None:
    node = mrml.field_to_model(random_field(), scene=scene)
    plane = oblique_plane_node(scene, size=(24, 60))  # beyond the slab
    image, *maps = (mrml.resample(node, plane, method=method) for method in ("gaussians", *mrml.MAPS))
    field, wanted = mrml.field_from_model(node), mrml.plane_from_node(plane, spacing=0.7)
    empty = np.isnan(field.render(wanted))
    assert 0.2 < empty.mean() < 0.9
    for result, expected, unit in zip(
        maps, (field.distance_to_slices(wanted), field.support(wanted).clip(0, 1)), ("mm", "1"), strict=True
    ):
        assert geometry(result) == geometry(image)
        pixels = slicer.util.arrayFromVolume(result)[0]
        assert np.array_equal(pixels, np.where(empty, np.float32(-1), expected))
        assert result.GetAttribute("GaussianMRI.OutsideFraction") == f"{empty.mean():.6f}"
        assert result.GetAttribute("GaussianMRI.Units") == unit
        assert result.GetVoxelValueUnits().GetCodeValue() == unit
        assert result.GetNodeReference("GaussianMRI.Field") is node
        assert mrml.map_image(node, wanted, result.GetAttribute("GaussianMRI.Method")).shape == wanted.shape


def test_a_map_over_an_image_colours_the_scan_only(scene: Any, host: Any) -> None:
    volume = bright_point(scene)
    node = mrml.fit([volume], **TINY)
    plane = oblique_plane_node(scene, size=(60, 60))
    image, distance = mrml.resample(node, plane), mrml.resample(node, plane, method="distance")
    shown = distance.GetDisplayNode()
    assert shown.GetColorNodeID() == "vtkMRMLColorTableNodeWarm1"
    assert shown.GetWindowLevelMin() == 0
    assert shown.GetWindowLevelMax() == pytest.approx(slicer.util.arrayFromVolume(distance).max())
    assert 1 < shown.GetWindowLevelMax() <= 3  # slices are 3 mm apart and thick
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(host.application)
    logic.SetMRMLScene(scene)
    view = logic.AddSliceNode("Red")
    composite = logic.GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(image.GetID())
    composite.SetForegroundVolumeID(distance.GetID())
    composite.SetForegroundOpacity(1.0)
    across = mrml.plane_from_node(plane)
    view.SetDimensions(120, 100, 1)
    view.SetFieldOfView(60, 50, 1)
    view.SetSliceToRASByNTP(*across.normal, *across.i_axis, *across.center, 0)
    logic.UpdatePipeline()
    blend = logic.GetBlend()
    blend.Update()
    seen = vtk_to_numpy(blend.GetOutput().GetPointData().GetScalars()).reshape(100, 120, -1)
    coloured = np.ptp(seen[::-1, :, :3].astype(int), axis=2) > 60
    inside = np.isfinite(mrml.map_image(node, mrml.plane_from_slice_node(view), "distance"))
    assert 0.2 < inside.mean() < 0.8
    assert (coloured == inside).mean() > 0.98


def test_numbers_of_a_plane(scene: Any) -> None:
    volume = bright_point(scene)
    node = mrml.fit([volume], **TINY)
    stack = mrml.stack_from_volume(volume)
    on_slice, between = stack.plane(6), stack.plane(6).offset(1.5)
    facts = mrml.plane_facts(node, on_slice)
    assert facts.outside == 0 and facts.max_distance == pytest.approx(0, abs=1e-4)
    facts = mrml.plane_facts(node, between)
    assert (facts.mean_distance, facts.max_distance) == pytest.approx((1.5, 1.5), abs=1e-4)
    assert 0.3 < facts.mean_support <= 1
    half = ImagePlane.from_axes(
        stack.plane(6).corners()[1], stack.plane(6).i_axis, stack.plane(6).j_axis, spacing=(0.5, 0.5), shape=(20, 20)
    )
    assert mrml.plane_facts(node, half).outside == pytest.approx(0.75, abs=0.05)  # its middle is a corner
    nowhere = mrml.plane_facts(node, oblique_plane_node(scene, POINT + 300))
    assert nowhere.outside == 1 and np.isnan([nowhere.mean_distance, nowhere.mean_support]).all()
    plane = oblique_plane_node(scene)
    assert mrml.plane_facts(node, plane) == mrml.plane_facts(
        mrml.field_from_model(node), mrml.plane_from_node(plane, spacing=0.9)
    )


def test_maps_need_a_field(scene: Any, host: Any) -> None:
    volume, plane = bright_point(scene), oblique_plane_node(scene)
    before = host.ids()
    for call, message in (
        (lambda: mrml.resample(volume, plane, method="distance"), "need a field; fit the volume first"),
        (lambda: mrml.resample([volume], plane, method="support"), "need a field; fit the volume first"),
        (lambda: mrml.resampler(random_field(), method="support"), "no method 'support' to render with"),
        (lambda: mrml.map_image(random_field(), mrml.plane_from_node(plane), "depth"), "no map 'depth'"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert host.ids() == before
