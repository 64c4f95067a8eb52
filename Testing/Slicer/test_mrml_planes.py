"""Planes of the scene as image planes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import (  # noqa: E402
    oblique_plane_node,
    plane_node,
    put_under,
    put_under_warp,
    rigid,
    rotation,
)

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402

MOVE = rigid([0.3, -1, 0.2], 51, [4, -9, 2.5])


def same(a: ImagePlane, b: ImagePlane) -> bool:
    return a.shape == b.shape and np.allclose(a.ijk_to_ras, b.ijk_to_ras, atol=1e-9)


def saved(node: Any, path: Path) -> Path:
    storage = node.CreateDefaultStorageNode()
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


@pytest.mark.parametrize("degrees", [0, 35, 80, 130, 200, 310])
@pytest.mark.parametrize("spacing", [None, 0.75, (0.4, 0.6)])
def test_a_plane_node_is_the_plane_of_its_file(
    scene: Any, tmp_path: Path, degrees: float, spacing: Any
) -> None:
    turn = rotation([1, -2, 0.5], degrees)
    node = plane_node(scene, (5, -7, 11), turn @ [1, 0, 0], turn @ [0, 1, 0], (31, 22))
    node.SetPlaneBounds(-10, 21, -15, 7)  # the middle is not at the origin of its axes
    pair = (spacing, spacing) if isinstance(spacing, float) else spacing
    from_file = ImagePlane.from_markups(saved(node, tmp_path / "plane.mrk.json"), spacing=pair, thickness=2)
    assert same(mrml.plane_from_node(node, spacing=spacing, thickness=2), from_file)
    assert from_file.thickness == 2


def test_a_new_image_plane_survives_the_way_through_a_node(scene: Any, tmp_path: Path) -> None:
    for normal in ((0.2, -0.5, 1), (1, 0.3, -0.2), (0.1, -1, 0.4), (-0.2, 0.3, -1)):
        plane = ImagePlane.from_normal((1, 2, 3), normal, spacing=(0.5, 0.8), shape=(40, 50))
        node = mrml.plane_to_node(plane, scene=scene)
        assert same(mrml.plane_from_node(node, spacing=plane.spacing), plane)
        path = saved(node, tmp_path / "again.mrk.json")
        assert same(ImagePlane.from_markups(path, spacing=plane.spacing), plane)


@pytest.mark.parametrize("harden", [False, True])
def test_transforms_move_the_plane(scene: Any, harden: bool) -> None:
    node = oblique_plane_node(scene)
    before = mrml.plane_from_node(node)
    put_under(scene, node, MOVE, harden)
    after = mrml.plane_from_node(node)
    assert np.allclose(after.normal, MOVE[:3, :3] @ before.normal)
    wanted = before.corners() @ MOVE[:3, :3].T + MOVE[:3, 3]
    distances = np.linalg.norm(after.corners()[:, None] - wanted[None], axis=-1)
    assert np.allclose(
        distances.min(axis=0), 0, atol=1e-9
    )  # in another order where the image hangs otherwise


def test_three_points_have_the_axes_of_slicers_three_point_plane(scene: Any) -> None:
    points = np.array(
        [[2.0, 20, -3], [3, -12, 9], [-17, 3, 2]]
    )  # anterior, posterior, lateral edge of a disc
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "disc")
    node.SetPlaneType(node.PlaneType3Points)
    for point in points:
        node.AddControlPointWorld(*point)
    theirs, ours = mrml.plane_from_node(node), mrml.plane_from_points(points, size=(40, 50), spacing=0.5)
    for axis in ("i_axis", "j_axis", "normal"):
        assert np.allclose(getattr(ours, axis), getattr(theirs, axis)), axis
    assert np.allclose((points - ours.center) @ ours.normal, 0)
    along = (points - ours.center) @ np.stack([ours.i_axis, ours.j_axis], axis=1)
    assert np.allclose(along.min(axis=0), -along.max(axis=0))  # the points are in the middle of the image
    assert sorted(ours.shape) == [80, 100]
    assert mrml.plane_from_points(points).shape == (224, 224)


@pytest.mark.parametrize("orientation", ["Axial", "Sagittal", "Coronal"])
def test_a_slice_view_is_hung_as_on_the_screen(scene: Any, orientation: str) -> None:
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    view.SetOrientation(orientation)
    view.SetDimensions(300, 200, 1)
    view.SetFieldOfView(150, 100, 1)
    view.SetSliceOffset(12.5)
    plane = mrml.plane_from_slice_node(view)
    assert plane.shape == (200, 300) and np.allclose(plane.spacing, 0.5)
    top_left = view.GetXYToRAS().MultiplyPoint((0, 199, 0, 1))[:3]
    assert np.allclose(plane.origin, top_left)
    usual = ImagePlane.from_normal(plane.center, plane.normal)
    assert np.allclose(plane.i_axis, usual.i_axis) and np.allclose(plane.j_axis, usual.j_axis)
    coarse = mrml.plane_from_slice_node(view, spacing=1.0, thickness=3)
    assert coarse.shape == (100, 150) and coarse.thickness == 3
    assert np.allclose(coarse.corners(), plane.corners())


def test_bad_planes_are_refused(scene: Any) -> None:
    unplaced = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "later")
    bent = oblique_plane_node(scene)
    put_under_warp(scene, bent)
    line = scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "ruler")
    for call, message in (
        (lambda: mrml.plane_from_node(unplaced), "'later' is not placed yet"),
        (lambda: mrml.plane_from_node(bent), "'warp', which is not linear"),
        (lambda: mrml.plane_from_node(line), "markups plane is needed, got 'ruler'"),
        (lambda: mrml.plane_from_slice_node(line), "slice view's node is needed, got 'ruler'"),
        (lambda: mrml.plane_from_points([[0, 0, 0], [1, 1, 1], [3, 3, 3]]), "on one line"),
        (lambda: mrml.plane_from_points([[0, 0, 0], [1, 1, 1]]), "three points"),
        (lambda: mrml.plane_from_node(oblique_plane_node(scene), spacing=-1), "spacing must be at least 0.001"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
