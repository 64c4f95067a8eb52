"""Curved planar reformation in a scene: results, the transform there and back, and the view that follows a curve."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import bright_point, put_under, put_under_warp, rigid  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

from GaussianMRILib import Curve, GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.mrml import preview as preview_module  # noqa: E402
from GaussianMRILib.mrml.curve_preview import CurvePreview  # noqa: E402
from GaussianMRILib.mrml.scene import as_array, ijk_to_ras  # noqa: E402
from GaussianMRILib.mrml.views import composite_of  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "Python"))
from curve_scenes import LENGTH, arc, beside_arc, bright_points, middle_of  # noqa: E402

#: mm along the arc, to the back, to the right.
PLACES = np.array([[14.0, 0, 0], [40.3, 9.1, -7.2]])


@functools.cache
def field() -> Any:
    return bright_points(beside_arc(*PLACES.T))


def curve_node(scene: Any, points: Any = None, kind: str = "", name: str = "canal") -> Any:
    node = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}CurveNode", name)
    for point in arc(9) if points is None else points:
        node.AddControlPoint(vtk.vtkVector3d(*point))
    return node


def straight_points(curve: Curve, count: int = 300, half: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(8)
    local = np.c_[rng.uniform(-half, half, (count, 2)), rng.uniform(0, curve.length, count)]
    return local @ curve.straight_to_ras[:3, :3].T + curve.straight_to_ras[:3, 3]


# ---- the curve of a node


@pytest.mark.parametrize("kind", ["", "Closed"])
def test_the_curve_is_the_one_that_is_drawn_and_its_file_has_the_same(scene: Any, tmp_path: Path, kind: str) -> None:
    points = [(0, 0, 0), (5, 20, 30), (-5, 25, 45), (0, 0, 100), (10, -20, 130)]
    node = curve_node(scene, points, kind)
    drawn = vtk_to_numpy(node.GetCurvePointsWorld().GetData())
    curve = mrml.curve_from_node(node)
    assert 0 < curve.length / node.GetCurveLengthWorld() - 1 < 0.003  # Slicer's is that of the chords
    places = curve.frames(np.linspace(0, curve.length, 4000))[:, :3, 3]
    assert max(np.linalg.norm(places - point, axis=1).min() for point in drawn) < 0.05
    storage = slicer.vtkMRMLMarkupsJsonStorageNode()
    storage.SetFileName(str(tmp_path / "c.mrk.json"))
    assert storage.WriteData(node)
    saved = Curve.from_markups(tmp_path / "c.mrk.json")
    s = np.linspace(0, curve.length, 50)
    assert abs(saved.length - curve.length) < 1e-3 and np.abs(saved.frames(s) - curve.frames(s)).max() < 1e-3


def test_transforms_above_a_curve_are_applied(scene: Any) -> None:
    node, move = curve_node(scene), rigid([1, 2, 0.5], 20, [3, -4, 9])
    before = mrml.curve_from_node(node)
    put_under(scene, node, move)
    after = mrml.curve_from_node(node)
    s = np.linspace(0, before.length, 20)
    expected = before.frames(s)[:, :3, 3] @ move[:3, :3].T + move[:3, 3]
    assert np.abs(after.frames(s)[:, :3, 3] - expected).max() < 1e-4
    bent = curve_node(scene)
    put_under_warp(scene, bent)  # a curve may be bent further
    assert mrml.curve_from_node(bent).length != pytest.approx(before.length, abs=1e-6)


def test_what_is_no_curve_is_refused(scene: Any) -> None:
    for node, message in (
        (None, "markups curve is needed, got NoneType"),
        (bright_point(scene), "markups curve is needed, got 'scan'"),
        (curve_node(scene, [(0, 0, 0)]), "'canal' has fewer than two points"),
        (curve_node(scene, [(0, 0, 0), (0, 0, 0)]), "at least two points"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            mrml.curve_from_node(node)


# ---- results


def test_points_are_found_in_the_volume_and_the_image(host: Any, scene: Any) -> None:
    node = curve_node(scene)
    volume = mrml.straighten(field(), node, width=36, spacing=0.5)
    curve = mrml.curve_from_node(node)
    voxels, affine = slicer.util.arrayFromVolume(volume), ijk_to_ras(volume)
    assert np.linalg.det(affine[:3, :3]) > 0
    for place in PLACES:
        there = curve.to_straight(beside_arc(*place))
        wanted = np.linalg.solve(affine, [*there, 1])[:3]
        found = affine @ [*middle_of(voxels, wanted[::-1])[::-1], 1]
        assert np.linalg.norm(found[:3] - there) < 0.1
        # Slicer's spline through nine points of the arc is nearly the arc.
        local = np.linalg.inv(curve.straight_to_ras) @ [*there, 1]
        assert np.abs(local[:3] - place[[1, 2, 0]]).max() < 0.6
    image = mrml.straighten(field(), node, width=36, spacing=0.5, slab=12, projection="max")
    assert slicer.util.arrayFromVolume(image).shape == (1, round(curve.length / 0.5), 72)
    assert slicer.util.arrayFromVolume(image).max() > 250
    assert float(image.GetAttribute("GaussianMRI.SliceThickness")) == 12
    assert [v.GetName() for v in (volume, image)] == ["canal straightened", "canal image"]
    assert volume.GetAttribute("GaussianMRI.Method") == "straightened"
    assert volume.GetNodeReference("GaussianMRI.Curve") is node
    assert volume.GetAttribute("GaussianMRI.FrameOfReference") is None
    with pytest.raises(GaussianMRIError, match="is no image made by resampling"):
        mrml.export_dicom(volume, "somewhere")  # nobody was scanned in the straight space
    before = host.ids()
    again = mrml.straighten(field(), node, width=20, slab=0.0, node=volume)
    assert again is volume and host.ids() == before
    assert slicer.util.arrayFromVolume(volume).shape == (1, round(curve.length / 0.7), round(20 / 0.7))


def test_results_are_shown_and_listed_as_their_source(scene: Any) -> None:
    source = bright_point(scene)
    source.GetDisplayNode().SetAutoWindowLevel(False)
    source.GetDisplayNode().SetWindowLevel(123, 456)
    model = mrml.field_to_model(field(), scene=scene, volumes=[source])
    volume = mrml.straighten(model, curve_node(scene), slab=0.0)
    assert (volume.GetDisplayNode().GetWindow(), volume.GetDisplayNode().GetLevel()) == (123, 456)
    assert volume.GetNodeReference("GaussianMRI.Source") is source
    assert volume.GetNodeReference("GaussianMRI.Field") is model
    with pytest.raises(GaussianMRIError, match="choose another output volume"):
        mrml.straighten(model, curve_node(scene), slab=0.0, node=source)


def test_planes_across_a_curve(host: Any, scene: Any) -> None:
    node = curve_node(scene)
    curve = mrml.curve_from_node(node)
    scene.SetUndoOn()
    before = host.ids()
    planes = mrml.planes_along_curve(node, 12.0, width=30)
    assert len(planes) == int(curve.length / 12) + 1
    s = (curve.length - 12 * (len(planes) - 1)) / 2 + 12 * np.arange(len(planes))
    for at, plane, frame in zip(s, planes, curve.frames(s), strict=True):
        assert plane.GetName() == f"canal {at:.0f} mm" and tuple(plane.GetSize()) == (30, 30)
        assert np.abs(np.array(plane.GetCenterWorld()) - frame[:3, 3]).max() < 1e-5
        assert abs(np.array(plane.GetNormalWorld()) @ frame[:3, 2]) > 1 - 1e-9
    scene.Undo()
    assert host.ids() == before
    scene.SetUndoOff()


def test_what_does_not_work_leaves_the_scene_as_it_was(host: Any, scene: Any) -> None:
    node = curve_node(scene)
    outside = curve_node(scene, np.add(arc(9), [0, 500, 0]), name="outside")
    kink = curve_node(scene, [(0, 0, 0), (0, 0, 30), (0, 12, 60), (0, 40, 65), (0, 70, 65)], name="kink")
    ring = curve_node(scene, [(40, 0, 0), (0, 40, 0), (-40, 0, 0), (0, -40, 0)], "Closed", name="ring")
    before = host.ids()
    for call, message in (
        (lambda: mrml.straighten(field(), outside), "'outside' lies outside the scan"),
        (lambda: mrml.straighten(node, node), "Gaussian field is needed"),
        (lambda: mrml.straighten(field(), node, width=-3), "width across a curve"),
        (lambda: mrml.straighten(field(), node, slab=3, projection="median"), "no projection 'median'"),
        (lambda: mrml.planes_along_curve(node, -1.0), "step between planes"),
        (lambda: mrml.straightening_transform(kink, width=60), "no way back from the straight space of 'kink'.*60 x 60 mm"),
        (lambda: mrml.straightening_transform(ring, width=30), "would come back up to"),
        (lambda: mrml.straightening_transform(node, node=outside), "needs a grid transform node"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert host.ids() == before


# ---- there and back


def test_points_go_to_the_straight_space_and_back(host: Any, scene: Any, tmp_path: Path) -> None:
    node = curve_node(scene, arc(9) @ np.diag([1, 1, 1.3]))
    curve = mrml.curve_from_node(node, turn=25)
    straight = straight_points(curve)
    patient = curve.to_curved(straight)
    mrml.straightening_transform(node, width=40, turn=25)
    host.save(tmp_path / "s.mrb")
    host.close()
    host.load(tmp_path / "s.mrb")
    transform = scene.GetFirstNodeByName("canal to straight")
    assert transform.GetNodeReference("GaussianMRI.Curve").GetName() == "canal"
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    for point in patient:
        points.AddControlPoint(vtk.vtkVector3d(*point))
    points.SetAndObserveTransformNodeID(transform.GetID())
    assert points.HardenTransform()
    there = slicer.util.arrayFromMarkupsControlPoints(points)
    assert np.linalg.norm(there - straight, axis=1).max() < 0.05
    transform.Inverse()
    points.SetAndObserveTransformNodeID(transform.GetID())
    assert points.HardenTransform()
    back = slicer.util.arrayFromMarkupsControlPoints(points)
    assert np.linalg.norm(back - patient, axis=1).max() < 0.05


def test_a_segmentation_comes_to_lie_in_the_straightened_volume_and_goes_back(scene: Any) -> None:
    node = curve_node(scene)
    volume = mrml.straighten(field(), node, width=36, spacing=0.5)
    transform = mrml.straightening_transform(node, width=36)
    center, spacing = beside_arc(*PLACES[1]), 0.5
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "spots")
    segmentation.CreateDefaultDisplayNodes()
    image, shape = slicer.vtkOrientedImageData(), (40, 40, 40)
    image.SetDimensions(*shape)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    matrix = vtk.vtkMatrix4x4()
    for axis in range(3):
        matrix.SetElement(axis, axis, spacing)
        matrix.SetElement(axis, 3, center[axis] - spacing * 20.3)
    image.SetImageToWorldMatrix(matrix)
    k, j, i = np.indices(shape)
    ball = (np.stack([i, j, k], -1) - 20.3) ** 2
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = (ball.sum(-1) * spacing**2 < 6**2).ravel()
    segmentation.AddSegmentFromBinaryLabelmapRepresentation(image, "spot", [1, 0, 0], "spot")

    def middle() -> tuple[np.ndarray, float]:
        from GaussianMRILib.mrml.segments import mask_of_segment

        mask, affine = mask_of_segment(segmentation, "spot")
        places = np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
        return places.mean(axis=0), len(places) * abs(np.linalg.det(affine[:3, :3]))

    before, size = middle()
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert segmentation.HardenTransform()
    there, size_there = middle()
    affine = ijk_to_ras(volume)
    at = np.linalg.solve(affine, [*mrml.curve_from_node(node).to_straight(center), 1])[:3]
    bright = affine @ [*middle_of(slicer.util.arrayFromVolume(volume), at[::-1])[::-1], 1]
    # Off the curve lengths along it change, by a sixth here, and the middle of a ball of 6 mm moves by its share.
    assert np.linalg.norm(there - bright[:3]) < 0.25 and abs(size_there / size - 60 / (60 - 9.1)) < 0.05
    transform.Inverse()
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert segmentation.HardenTransform()
    back, size_back = middle()
    assert np.linalg.norm(back - before) < 0.1 and abs(size_back / size - 1) < 0.02


# ---- the view


def test_the_view_follows_the_curve(scene: Any, view: Any) -> None:
    node = curve_node(scene)
    preview = CurvePreview(field(), node, view, width=30, spacing=0.5, slab=4, projection="max")
    for change in (
        lambda: node.SetNthControlPointPosition(4, *(beside_arc(LENGTH / 2, 3, 2))),
        lambda: node.RemoveNthControlPoint(2),
        lambda: node.AddControlPoint(vtk.vtkVector3d(*beside_arc(LENGTH + 9, 0, 0))),
        lambda: put_under(scene, node, rigid([1, 0, 0], 4, [1, 0, 2])),
    ):
        change()
        straight = mrml.straight_field(field(), node, width=30, spacing=0.5)
        image, shown = straight.image(slab=4, projection="max"), slicer.util.arrayFromVolume(preview.volume)[0]
        inside = np.isfinite(image)
        assert preview.facts is not None and preview.facts.shape == shown.shape == image.shape
        assert inside.mean() > 0.3 and np.array_equal(shown[inside], image[inside])
        direction = as_array(view.GetSliceToRAS())
        assert np.allclose(direction[:3, 3], straight.plane.center, atol=1e-6)
        assert np.allclose(direction[:3, 0], straight.plane.i_axis) and np.allclose(direction[:3, 1], -straight.plane.j_axis)
    assert composite_of(view).GetBackgroundVolumeID() == preview.volume.GetID()
    preview.stop()
    assert not preview.running and preview.volume is None


def test_the_views_own_movements_go_aside_and_turns_are_undone(scene: Any, view: Any) -> None:
    node = curve_node(scene)
    preview = CurvePreview(field(), node, view, width=30, spacing=0.5)
    straight = mrml.straight_field(field(), node, width=30, spacing=0.5)
    matrix = view.GetSliceToRAS()
    for row in range(3):
        matrix.SetElement(row, 3, matrix.GetElement(row, 3) + 7.2 * straight.plane.normal[row])
    view.UpdateMatrices()
    assert abs(preview.aside - 7.2) < 1e-6
    expected = straight.render(straight.plane.offset(7.2))
    shown = slicer.util.arrayFromVolume(preview.volume)[0]
    assert np.array_equal(shown[np.isfinite(expected)], expected[np.isfinite(expected)])
    points = slicer.util.arrayFromMarkupsControlPoints(node)
    view.SetOrientation("Axial")
    direction = as_array(view.GetSliceToRAS())
    assert np.allclose(direction[:3, 0], straight.plane.i_axis, atol=1e-6)
    assert np.array_equal(points, slicer.util.arrayFromMarkupsControlPoints(node))
    for row in range(3):
        matrix.SetElement(row, 3, matrix.GetElement(row, 3) + 100 * straight.plane.normal[row])
    view.UpdateMatrices()
    assert abs(preview.aside) == 15  # no further than the volume
    preview.stop()


def test_changes_between_two_idle_moments_cost_one_update(scene: Any, view: Any) -> None:
    node, waiting, updates = curve_node(scene), [], []
    preview = CurvePreview(
        field(), node, view, schedule=waiting.append, changed=lambda: updates.append(1), width=30
    )
    for n in range(20):
        node.SetNthControlPointPosition(4, *beside_arc(LENGTH / 2, 0.1 * n, 0))
    assert len(waiting) == 1 and not updates
    waiting.pop()()
    assert len(updates) == 1
    preview.stop()


def test_a_bend_that_is_too_tight_is_told_and_a_curve_that_goes_ends_the_preview(host: Any, scene: Any, view: Any) -> None:
    node = curve_node(scene)
    preview = CurvePreview(field(), node, view, width=30)
    assert preview.folding == ""
    node.SetNthControlPointPosition(4, *beside_arc(LENGTH / 2, 14, 0))
    assert "too tightly for a width of 30 mm" in preview.folding
    while node.GetNumberOfControlPoints() > 1:
        node.RemoveNthControlPoint(0)
    assert preview.running and preview.problem is not None and "fewer than two points" in preview.problem
    scene.RemoveNode(node)
    assert not preview.running
    assert not [made for made in host.nodes() if made.GetAttribute("GaussianMRI.Kind") == "preview"]


def test_a_large_image_gets_larger_pixels(scene: Any, view: Any) -> None:
    preview = CurvePreview(field(), curve_node(scene), view, width=60, spacing=0.05)
    assert preview.facts is not None and preview.facts.shape[0] * preview.facts.shape[1] < 1.05 * 512 * 512
    assert preview.straight is not None and abs(preview.straight.width - 60) < 1e-9
    preview.stop()


def test_a_curve_that_is_dragged_has_larger_pixels_in_the_same_space(
    scene: Any, view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, resting = curve_node(scene), []
    preview = CurvePreview(field(), node, view, width=30, spacing=0.5, settle=resting.append)
    monkeypatch.setattr(preview_module, "LONGEST_MS", 1e-6)  # everything takes too long
    for aside in (1, 3):  # the first movement finds out how long it takes
        node.SetNthControlPointPosition(4, *beside_arc(LENGTH / 2, aside, 0))
    wanted = mrml.straight_field(field(), node, width=30, spacing=1.5)
    assert preview.facts.spacing == pytest.approx((1.5, 1.5)) and preview.facts.shape == wanted.plane.shape
    shown, image = slicer.util.arrayFromVolume(preview.volume)[0], wanted.image()
    np.testing.assert_allclose(shown[np.isfinite(image)], image[np.isfinite(image)], atol=1e-3)
    resting.pop()()
    assert preview.facts.spacing == (0.5, 0.5) and not resting
    preview.stop()
