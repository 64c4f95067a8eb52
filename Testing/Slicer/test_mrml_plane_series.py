"""Planes made from nodes, and what a table says of planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import lattice_field, plane_node, put_under, put_under_warp, rigid, rotation  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402

START, END = np.array([3.0, -20.0, 11.0]), np.array([-9.0, 4.0, 47.0])
MOVE = rigid([0.2, 1, 0.4], 33, [7.5, -3.25, 11])
TURN = rotation([1, 2, -1], 40)


def markup(scene: Any, kind: str, points: Any, name: str = "thing") -> Any:
    node = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", name)
    for point in points:
        node.AddControlPoint(vtk.vtkVector3d(*np.asarray(point, float)))
    return node


def moved(points: Any) -> np.ndarray:
    return np.asarray(points) @ MOVE[:3, :3].T + MOVE[:3, 3]


@pytest.mark.parametrize("kind", ["Line", "Fiducial"])
@pytest.mark.parametrize("transformed", [False, True])
def test_planes_along_and_about_a_line(scene: Any, kind: str, transformed: bool) -> None:
    node = markup(scene, kind, [START, END], "canal")
    start, end = START, END
    if transformed:
        put_under(scene, node, MOVE)
        start, end = moved([START, END])
    axis = (end - start) / np.linalg.norm(end - start)
    named = mrml.planes_from(node, "along", step=10.0, size=(60, 40), thickness=3)
    assert [name for name, _ in named] == [f"canal at {10 * k}.0 mm" for k in range(5)]
    for k, (_, plane) in enumerate(named):
        assert np.allclose(plane.center, start + 10 * k * axis, atol=1e-4) and abs(plane.normal @ axis) > 1 - 1e-9
        assert plane.thickness == 3 and plane.shape == (80, 120)
    about = mrml.planes_from(node, "radial", count=4)
    assert [name for name, _ in about] == ["canal at 0.0°", "canal at 45.0°", "canal at 90.0°", "canal at 135.0°"]
    for _, plane in about:
        assert abs(plane.normal @ axis) < 1e-9 and np.allclose(plane.center, (start + end) / 2, atol=1e-4)
    assert abs(about[0][1].normal @ about[2][1].normal) < 1e-9


def test_planes_parallel_and_perpendicular_to_a_plane_and_a_view(scene: Any) -> None:
    plane = plane_node(scene, START, TURN[:, 0], TURN[:, 1], (50, 30))
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    view.SetDimensions(200, 120, 1)
    view.SetFieldOfView(50, 30, 1)
    view.SetSliceToRASByNTP(*TURN[:, 2], *TURN[:, 0], *START, 0)
    for node in (plane, view):
        parallel = mrml.planes_from(node, "parallel", count=4, step=2.5)
        heights = [(p.center - START) @ parallel[0][1].normal for _, p in parallel]
        assert np.allclose(heights, (-3.75, -1.25, 1.25, 3.75), atol=1e-6)
        assert all(abs(p.normal @ TURN[:, 2]) > 1 - 1e-9 for _, p in parallel)
        assert parallel[0][0] == f"{node.GetName()} -3.8 mm"
        across = [p for _, p in mrml.planes_from(node, "orthogonal")]
        assert np.abs(np.array([p.normal for p in across]) @ TURN[:, 2]).max() < 1e-9
        assert abs(across[0].normal @ across[1].normal) < 1e-9
        assert all(np.allclose(p.center, START, atol=0.3) for p in across)


def disc_of(radius: float = 15.0) -> Any:
    """A flat disc across TURN's third column, meshed unevenly."""
    source = vtk.vtkDiskSource()
    source.SetInnerRadius(0)
    source.SetOuterRadius(radius)
    source.SetRadialResolution(3)
    source.SetCircumferentialResolution(40)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = TURN, START
    transform, filtered = vtk.vtkTransform(), vtk.vtkTransformPolyDataFilter()
    transform.SetMatrix(matrix.ravel().tolist())
    filtered.SetTransform(transform)
    filtered.SetInputConnection(source.GetOutputPort())
    filtered.Update()
    return filtered.GetOutput()


@pytest.mark.parametrize("transformed", [False, True])
def test_the_best_fit_of_a_model_a_curve_and_points(scene: Any, transformed: bool) -> None:
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "endplate")
    model.SetAndObserveMesh(disc_of())
    angles = 2 * np.pi * np.arange(9) / 9
    points = START + np.stack([15 * np.cos(angles), 15 * np.sin(angles)], 1) @ TURN[:, :2].T
    nodes = [model, markup(scene, "ClosedCurve", points), markup(scene, "Fiducial", points)]
    center, normal = START, TURN[:, 2]
    if transformed:
        for node in nodes:
            put_under(scene, node, MOVE)
        center, normal = moved(START), MOVE[:3, :3] @ normal
    for node in nodes:
        ((name, plane),) = mrml.planes_from(node, "fit", margin=5)
        assert name == f"{node.GetName()} fit" and abs(plane.normal @ normal) > 1 - 1e-6
        assert abs((plane.center - center) @ normal) < 1e-3 and np.linalg.norm(plane.center - center) < 1.0
        assert np.allclose(np.array(plane.shape) * 0.5, 40, atol=2)  # 30 mm and 5 mm around


def test_rows_of_a_table(scene: Any) -> None:
    tilt = np.deg2rad(25)
    plane = plane_node(scene, [1, 2, 3], [1, 0, 0], [0, np.cos(tilt), np.sin(tilt)])
    unplaced = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "later")
    one, other = mrml.plane_rows([plane, unplaced])
    assert one.name == plane.GetName() and np.allclose(one.angles, (25, 90, 65)) and np.allclose(one.center, (1, 2, 3))
    assert other.name == "later" and np.isnan([*other.angles, *other.center]).all()


def test_nodes_of_several_planes_are_undone_together(scene: Any) -> None:
    named = mrml.planes_from(markup(scene, "Line", [START, END], "canal"), "radial", count=3, size=(30, 20))
    scene.SetUndoOn()
    nodes = mrml.planes_to_nodes([p for _, p in named], [n for n, _ in named], scene=scene)
    assert [node.GetName() for node in nodes] == [n for n, _ in named]
    for node, (_, plane) in zip(nodes, named, strict=True):
        again = mrml.plane_from_node(node, spacing=plane.spacing)
        assert np.allclose(again.ijk_to_ras, plane.ijk_to_ras, atol=1e-6) and again.shape == plane.shape
    scene.Undo()
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsPlaneNode") == 0
    scene.SetUndoOff()


def test_what_makes_no_planes_is_refused_by_name(scene: Any) -> None:
    line, field = markup(scene, "Line", [START], "short"), mrml.field_to_model(lattice_field(), scene=scene)
    bent = markup(scene, "Line", [START, END], "bent")
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", "nothing")
    moved_model = scene.AddNewNodeByClass("vtkMRMLModelNode", "warped")
    moved_model.SetAndObserveMesh(disc_of())
    put_under_warp(scene, moved_model)
    for call, message in (
        (lambda: mrml.planes_from(line, "along"), "'short'.* has 1 points; a line .* needs two"),
        (lambda: mrml.planes_from(bent, "along", step=0), "'bent'.*step between planes"),
        (lambda: mrml.planes_from(bent, "spiral"), "no 'spiral' planes; choose one of along, radial"),
        (lambda: mrml.planes_from(bent, "parallel"), "MarkupsPlaneNode or SliceNode is needed, got 'bent'"),
        (lambda: mrml.planes_from(field, "fit"), "is a fit, which has no shape"),
        (lambda: mrml.planes_from(model, "fit"), "'nothing'.* is empty"),
        (lambda: mrml.planes_from(moved_model, "fit"), "'warped'.*'warp', which is not linear"),
        (lambda: mrml.planes_from(None, "fit"), "got NoneType"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
