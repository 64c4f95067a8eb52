"""Markups and segmentations go into the straight space of a curve and back, by a helix whose arc length is known."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import bright_point, put_under, rigid  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402
from GaussianMRILib.interruption import interruptible  # noqa: E402
from GaussianMRILib.mrml import along  # noqa: E402
from GaussianMRILib.mrml.along import AlongJob, straightened_before  # noqa: E402
from GaussianMRILib.mrml.segments import mask_of_segment  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "Python"))
from curve_scenes import arc, beside_arc, bright_points  # noqa: E402

#: mm: radius, rise a radian, and length of a turn and a half.
RADIUS, RISE = 15.0, 25.0
SPEED = float(np.hypot(RADIUS, RISE))
LENGTH = 3 * np.pi * SPEED
WIDTH = 40.0


def helix(s: Any, outward: float = 0.0) -> np.ndarray:
    """Places (N, 3), RAS mm, s mm along the helix, and so many mm away from its axis."""
    t = np.asarray(s) / SPEED
    radius = RADIUS + outward
    return np.stack([10 + radius * np.cos(t), -20 + radius * np.sin(t), RISE * t], axis=-1)


@pytest.fixture
def curve(scene: Any) -> Any:
    return markup(scene, "Curve", helix(np.linspace(0, LENGTH, 80)), "canal")


def markup(scene: Any, kind: str, points: Any, name: str) -> Any:
    node = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", name)
    for number, point in enumerate(points):
        node.AddControlPoint(vtk.vtkVector3d(*point), f"{name}-{number}")
    return node


def segmentation(scene: Any, center: Any, radius: float = 6.0, spacing: float = 0.5, half: float = 10.0) -> Any:
    """A ball."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "ball")
    node.CreateDefaultDisplayNodes()
    size = int(2 * half / spacing)
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    image.SetDimensions(size, size, size)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    for axis in range(3):
        matrix.SetElement(axis, axis, spacing)
        matrix.SetElement(axis, 3, center[axis] - spacing * (size - 1) / 2)
    image.SetImageToWorldMatrix(matrix)
    offsets = (np.indices((size, size, size)) - (size - 1) / 2) * spacing
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = ((offsets**2).sum(0) < radius**2).ravel()
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "ball", [0.2, 0.4, 0.6], "ball")
    return node


def middle(node: Any) -> tuple[np.ndarray, float]:
    """Centre (3,) of a segmentation's first segment, and its volume in mm^3."""
    mask, affine = mask_of_segment(node, node.GetSegmentation().GetNthSegmentID(0))
    places = np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    return places.mean(axis=0), len(places) * abs(np.linalg.det(affine[:3, :3]))


def positions(node: Any) -> np.ndarray:
    return slicer.util.arrayFromMarkupsControlPoints(node, world=True)


def straight_of(curve: Any, points: np.ndarray, **options: Any) -> np.ndarray:
    """Places in the straight space as across, aside and along, mm."""
    inverse = np.linalg.inv(mrml.curve_from_node(curve, **options).straight_to_ras)
    return points @ inverse[:3, :3].T + inverse[:3, 3]


def test_a_place_on_the_curve_ends_at_its_arc_length_and_comes_back(
    host: Any, scene: Any, curve: Any, view: Any, tmp_path: Path
) -> None:
    s = np.linspace(3, LENGTH - 3, 25)
    points = markup(scene, "Fiducial", helix(s), "nodes")
    points.CreateDefaultDisplayNodes()
    points.GetDisplayNode().SetSelectedColor(0.1, 0.9, 0.3)
    before = host.ids()
    (there,), remarks = mrml.take_along(points, curve, width=WIDTH, view=view)
    assert not remarks and there.GetName() == "nodes straightened" and there.GetParentTransformNode() is None
    straight = straight_of(curve, positions(there))
    assert np.abs(straight - np.c_[0 * s, 0 * s, s]).max() < 0.1
    assert there.GetNthControlPointLabel(7) == "nodes-7"
    assert there.GetDisplayNode().GetSelectedColor() == (0.1, 0.9, 0.3)
    assert tuple(there.GetDisplayNode().GetViewNodeIDs()) == (view.GetID(),)
    assert np.allclose(positions(points), helix(s)) and set(before) < set(host.ids())
    host.save(tmp_path / "s.mrb")  # no transform is needed after loading
    host.close()
    host.load(tmp_path / "s.mrb")
    there, curve = (scene.GetFirstNodeByName(name) for name in ("nodes straightened", "canal"))
    assert np.abs(straight_of(curve, positions(there)) - straight).max() < 1e-3
    (back,), remarks = mrml.take_along(there, curve, width=WIDTH, back=True)
    assert not remarks and np.linalg.norm(positions(back) - helix(s), axis=1).max() < 0.1
    assert tuple(back.GetDisplayNode().GetViewNodeIDs()) == ()


def test_places_beside_the_curve_and_under_a_transform(scene: Any, curve: Any) -> None:
    s, move = np.linspace(20, LENGTH - 20, 9), rigid([1, 2, 3], 30, [4, 5, 6])
    wanted = helix(s, 9.0)
    points = markup(scene, "Fiducial", (wanted - move[:3, 3]) @ move[:3, :3], "beside")
    put_under(scene, points, move)
    (there,), _ = mrml.take_along([points], curve, width=WIDTH, turn=30)
    straight = straight_of(curve, positions(there), turn=30)
    truth = mrml.curve_from_node(curve, turn=30)
    assert np.abs(positions(there) - truth.to_straight(wanted)).max() < 0.1
    # 9 mm from the axis outwards is 9 mm from the curve.
    assert np.abs(np.hypot(*straight.T[:2]) - 9).max() < 0.1 and np.abs(straight[:, 2] - s).max() < 0.3
    (back,), _ = mrml.take_along([there], curve, width=WIDTH, turn=30, back=True)
    assert np.linalg.norm(positions(back) - wanted, axis=1).max() < 0.1


def test_curves_and_lines_come_along_as_they_are_drawn(scene: Any, curve: Any) -> None:
    nerve = markup(scene, "Curve", helix(np.linspace(30, 200, 20), 5.0), "nerve")
    short = markup(scene, "Line", helix(np.array([100.0, 104.0])), "short")
    long = markup(scene, "Line", helix(np.array([60.0, 110.0]), -2.0), "long")
    made, remarks = mrml.take_along([nerve, short, long, curve], curve, width=WIDTH)
    assert [node.GetClassName() for node in made] == ["vtkMRMLMarkupsCurveNode"] + 2 * ["vtkMRMLMarkupsLineNode"] + [
        "vtkMRMLMarkupsCurveNode"
    ]
    assert len(remarks) == 1 and "the copy of 'long'" in remarks[0] and "beside the right place" in remarks[0]
    # The curve itself is straight and as long.
    assert abs(made[3].GetCurveLengthWorld() - LENGTH) < 0.5
    assert np.abs(straight_of(curve, positions(made[3]))[:, :2]).max() < 0.1
    back, _ = mrml.take_along(made[0], curve, width=WIDTH, back=True)
    drawn, again = (vtk_to_numpy(node.GetCurvePointsWorld().GetData()) for node in (nerve, back[0]))
    assert max(np.linalg.norm(drawn - place, axis=1).min() for place in again) < 0.6  # its own points are 0.85 mm apart


def test_a_segmentation_goes_and_comes_back(scene: Any, curve: Any) -> None:
    center = helix(90.0, 4.0)
    ball = segmentation(scene, center)
    made, remarks = mrml.take_along(ball, curve, width=WIDTH)
    assert not remarks
    segment = made[0].GetSegmentation().GetSegment("ball")
    assert np.allclose(segment.GetColor(), (0.2, 0.4, 0.6)) and segment.GetName() == "ball"
    there, size = middle(made[0])
    _, before = middle(ball)
    truth = mrml.curve_from_node(curve)
    inside = np.random.default_rng(3).uniform(-6, 6, (20_000, 3))
    inside = inside[np.linalg.norm(inside, axis=1) < 6] + center
    assert np.linalg.norm(there - truth.to_straight(inside).mean(axis=0)) < 0.1
    assert 0.8 < size / before < 1.1
    back, remarks = mrml.take_along(made[0], curve, width=WIDTH, back=True)
    place, size = middle(back[0])
    assert not remarks and np.linalg.norm(place - center) < 0.1 and abs(size / before - 1) < 0.03


def test_copying_a_segmentation_is_told_and_called_off(scene: Any, curve: Any) -> None:
    ball, told = segmentation(scene, helix(90.0)), []
    count = scene.GetNumberOfNodes()
    with pytest.raises(GaussianMRIError, match="copying was cancelled"):
        mrml.take_along(ball, curve, width=WIDTH, progress=lambda part: False)
    assert scene.GetNumberOfNodes() == count

    def called_off() -> None:
        raise GaussianMRIError("called off")

    way = along._Way(*along._space_of(curve, width=WIDTH), "canal", False)
    with interruptible(called_off), pytest.raises(GaussianMRIError, match="called off"):  # while points are moved
        way(helix(np.linspace(10, 20, 5)))
    (first,), _ = mrml.take_along(ball, curve, width=WIDTH, progress=told.append)
    assert told[0] == 0 and told == sorted(told)
    job = AlongJob(ball, curve, width=WIDTH)
    job.run()
    added = slicer.vtkSegment()
    ball.GetSegmentation().AddSegment(added, "painted meanwhile")
    ball.GetSegmentation().RemoveSegment("ball")
    ((copy,), remarks) = job.nodes()
    assert not remarks and [*copy.GetSegmentation().GetSegmentIDs()] == ["ball"]
    assert np.linalg.norm(middle(copy)[0] - middle(first)[0]) == 0
    scene.RemoveNode(ball)
    with pytest.raises(GaussianMRIError, match=r"'ball' .* was removed while it was copied"):
        job.nodes()


def test_what_lies_outside_is_told(scene: Any, curve: Any) -> None:
    inside, outside = helix(50.0), helix(50.0, 60.0)
    some = markup(scene, "Fiducial", [inside, outside, helix(70.0), helix(0.0) - [0, 0, 30]], "some")
    line = markup(scene, "Line", [inside, outside], "line")
    far = markup(scene, "Fiducial", [outside], "far")
    ball = segmentation(scene, helix(120.0, WIDTH / 2 - 2.0))
    made, remarks = mrml.take_along([some, line, far, ball], curve, width=WIDTH)
    assert [node.GetName() for node in made] == ["some straightened", "ball straightened"]
    assert made[0].GetNumberOfControlPoints() == 2 and made[0].GetNthControlPointLabel(1) == "some-2"
    expected = ("2 of 4 points of 'some'", "'line'.*a part of it", "'far'", "% of 'ball'")
    for remark, words in zip(remarks, expected, strict=True):
        assert re.search(words, remark) and "40 mm wide and 275 mm long" in remark
    local = straight_of(curve, np.array([middle(made[1])[0]]))
    assert np.abs(local[:, :2]).max() < WIDTH / 2
    plane = mrml.plane_to_node(ImagePlane(np.eye(4), (9, 9)), scene=scene, name="plane")
    for nodes, message in (
        ([far], "'far' .* lies outside"),
        ([], "choose markups or segmentations"),
        ([scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "none")], "'none' .* has no points"),
        ([scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")], "'empty' .* nothing in its segments"),
        ([plane], "are taken along, got 'plane'"),
        ([bright_point(scene)], "are taken along, got 'scan'"),
        ([markup(scene, "Line", [inside], "begun")], "'begun' .* has one point only"),
    ):
        count = scene.GetNumberOfNodes()
        with pytest.raises(GaussianMRIError, match=message):
            mrml.take_along(nodes, curve, width=WIDTH)
        assert scene.GetNumberOfNodes() == count
    ring = markup(scene, "ClosedCurve", [(40, 0, 0), (0, 40, 0), (-40, 0, 0), (0, -40, 0)], "ring")
    with pytest.raises(GaussianMRIError, match="would come back up to"):
        mrml.take_along(some, ring, width=30)
    _, remarks = mrml.take_along(some, curve, width=200)  # only within what is free of folds
    assert re.search("'canal', which is 4[0-9] mm wide", remarks[0])


def test_a_straightened_volume_knows_its_space_whatever_became_of_its_curve(scene: Any) -> None:
    node = markup(scene, "Curve", arc(9), "canal")
    options = {"turn": 20.0, "across": "left"}
    field = bright_points(beside_arc(np.array([14.0]), np.array([0.0]), np.array([0.0])))
    volume = mrml.straighten(field, node, width=36, spacing=1.0, **options)
    places = beside_arc(np.array([20.0, 50.0]), 4.0, -3.0)
    truth = mrml.curve_from_node(node, **options).to_straight(places)
    assert not straightened_before(node, width=36, **options)
    assert straightened_before(node, width=36) == [volume]
    node.SetNthControlPointPosition(4, *beside_arc(35.0, 5, 5))
    assert straightened_before(node, width=36, **options) == [volume]
    drawn = markup(scene, "Fiducial", truth, "drawn")
    (back,), _ = mrml.take_along(drawn, volume, back=True)
    assert np.linalg.norm(positions(back) - places, axis=1).max() < 0.1
    put_under(scene, volume, rigid([0, 0, 1], 0, [0, 0, 5]))
    for harden in (False, True):
        assert not harden or volume.HardenTransform()
        with pytest.raises(GaussianMRIError, match=r"'canal straightened' .* was moved since it was made"):
            mrml.take_along(drawn, volume, back=True)
    image, plane = np.zeros((9, 9), np.float32), ImagePlane(np.eye(4), (9, 9))
    mrml.volume_from_images([image], [plane], node=volume)  # another image in the same node
    assert volume.GetAttribute("GaussianMRI.StraightSpace") is None
    space = {"curve": mrml.curve_from_node(node).to_dict(), "width": 36}
    volume.SetAttribute("GaussianMRI.StraightSpace", json.dumps(space))
    volume.SetAndObserveImageData(None)  # as where its file is lost
    with pytest.raises(GaussianMRIError, match="has no voxels"):
        mrml.take_along(drawn, volume, back=True)
    for text in ("{", "[]", '{"curve": {"points": [[0, 0, 0]]}, "width": 3}', '{"curve": {}, "width": 36}'):
        volume.SetAttribute("GaussianMRI.StraightSpace", text)
        with pytest.raises(GaussianMRIError, match="says along which curve"):
            mrml.take_along(drawn, volume, back=True)


def test_one_undo_takes_the_copies_back(host: Any, scene: Any, curve: Any) -> None:
    points = markup(scene, "Fiducial", helix(np.array([50.0])), "nodes")
    ball = segmentation(scene, helix(90.0))
    scene.SetUndoOn()
    before = host.ids()
    mrml.take_along([points, ball], curve, width=WIDTH)
    scene.Undo()
    assert host.ids() == before
    scene.SetUndoOff()
