"""Planes fitted to segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import oblique_affine, put_under, put_under_warp, rigid, rotation  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402
from GaussianMRILib.mrml.scene import as_matrix  # noqa: E402

CENTER = np.array([4.0, -12.0, 31.0])
MOVE = rigid([0.2, 1, 0.4], 33, [7.5, -3.25, 11])


def segmentation(scene: Any, name: str = "spine") -> Any:
    slicer.vtkSlicerSegmentationsModuleLogic().SetMRMLScene(scene)  # registers the kinds of representations
    return scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)


def paint(node: Any, segment: str, inside: Any, shape: tuple[int, int, int] = (30, 60, 64)) -> None:
    """A segment of voxels around CENTER, oblique, anisotropic and left-handed, where `inside(RAS - CENTER)`."""
    affine = oblique_affine(shape, CENTER)
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = inside(places - CENTER).ravel()
    image.SetImageToWorldMatrix(as_matrix(affine))
    node.AddSegmentFromBinaryLabelmapRepresentation(image, segment, [1, 0, 0], segment)


def disc(turn: np.ndarray, radii: tuple[float, float, float] = (20, 14, 5)) -> Any:
    """An ellipsoid with its axes along the columns of `turn`."""
    return lambda x: ((x @ turn / radii) ** 2).sum(axis=-1) <= 1


@pytest.mark.parametrize("degrees", [0, 17, 40, 75])
@pytest.mark.parametrize("transform", [None, "above", "hardened"])
def test_the_plane_of_a_disc(scene: Any, degrees: float, transform: str | None) -> None:
    turn = rotation([1, 0.3, 0.2], degrees)
    node = segmentation(scene)
    paint(node, "L4-L5", disc(turn))
    center = CENTER
    if transform is not None:
        put_under(scene, node, MOVE, harden=transform == "hardened")
        center, turn = MOVE[:3, :3] @ CENTER + MOVE[:3, 3], MOVE[:3, :3] @ turn
    plane = mrml.plane_from_segment(node, "L4-L5", spacing=0.8, thickness=4, margin=6)
    assert abs(plane.normal @ turn[:, 2]) > np.cos(np.deg2rad(1.0))
    assert plane.normal[np.argmax(np.abs(plane.normal))] > 0
    assert abs((center - plane.center) @ plane.normal) < 0.15
    assert np.linalg.norm(plane.center - center) < 0.8  # pixels
    assert plane.thickness == 4 and np.allclose(plane.spacing, 0.8)
    hanging = ImagePlane.from_normal(center, plane.normal)
    assert np.allclose(plane.i_axis, hanging.i_axis) and np.allclose(plane.j_axis, hanging.j_axis)
    for axis, pixels in ((plane.i_axis, plane.shape[1]), (plane.j_axis, plane.shape[0])):
        reach = np.linalg.norm((axis @ turn) * (20, 14, 5))  # of the ellipsoid along this axis
        assert 0.8 * pixels == pytest.approx(2 * (reach + 6), abs=3.5)  # voxels of up to 3 mm


def test_one_voxel_and_one_layer_have_a_plane(scene: Any) -> None:
    node = segmentation(scene)
    affine = oblique_affine((30, 60, 64), CENTER)
    index = np.linalg.inv(affine[:3, :3])
    paint(node, "one", lambda x: np.abs(x @ index.T - 0.5).max(axis=-1) < 0.6)
    paint(node, "layer", lambda x: (np.abs(x @ index.T - 0.5) < [9, 9, 0.6]).all(axis=-1))
    one, layer = mrml.plane_from_segment(node, "one"), mrml.plane_from_segment(node, "layer")
    # The thinnest side of the voxel is its shortest, 0.9 mm along i; of the layer it is k, 3 mm but one voxel.
    assert abs(one.normal @ affine[:3, 0] / 0.9) > 0.999
    assert abs(layer.normal @ affine[:3, 2] / 3.0) > 0.999
    sides = sorted(0.5 * np.array(layer.shape))
    # Turned by up to 24 degrees within the plane.
    assert np.allclose(sides, np.add([19 * 0.9, 19 * 1.1], 20), atol=4)


def test_segments_that_share_a_label_map_are_told_apart(scene: Any) -> None:
    node = segmentation(scene)
    paint(node, "axial", disc(np.eye(3)))
    paint(node, "far", lambda x: disc(rotation([0, 1, 0], 90), (8, 6, 2))(np.add(x, [0, 20, 0])))
    node.GetSegmentation().CollapseBinaryLabelmaps(True)
    far = mrml.plane_from_segment(node, "far")
    assert far.normal[0] > 0.99 and abs(far.center[1] - CENTER[1] + 20) < 1
    assert mrml.plane_from_segment(node, "axial").normal[2] > 0.99


def test_a_surface_has_a_plane_and_stays_a_surface(scene: Any) -> None:
    ball = vtk.vtkSphereSource()
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.SetRadius(1)
    flat = vtk.vtkTransformPolyDataFilter()
    transform = vtk.vtkTransform()
    transform.Translate(*CENTER)
    transform.RotateX(25)
    transform.Scale(15, 12, 4)
    flat.SetTransform(transform)
    flat.SetInputConnection(ball.GetOutputPort())
    flat.Update()
    node = segmentation(scene)
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segment = slicer.vtkSegment()
    segment.SetName("disc")
    segment.AddRepresentation("Closed surface", flat.GetOutput())
    assert node.GetSegmentation().AddSegment(segment, "disc")
    plane = mrml.plane_from_segment(node, "disc")
    assert plane.normal @ rotation([1, 0, 0], 25)[:, 2] > 0.999
    assert np.allclose(plane.center, CENTER, atol=0.6)
    assert segment.GetRepresentation("Binary labelmap") is None


def test_bad_segments_are_refused(scene: Any) -> None:
    node = segmentation(scene)
    node.GetSegmentation().AddEmptySegment("blank", "blank")
    paint(node, "nothing", lambda x: np.zeros(x.shape[:-1], bool))
    bent = segmentation(scene, "bent")
    paint(bent, "disc", disc(np.eye(3)))
    put_under_warp(scene, bent)
    for call, message in (
        (lambda: mrml.plane_from_segment(node, "L5"), "'spine'.* no segment 'L5'; it has blank, nothing"),
        (lambda: mrml.plane_from_segment(node, "blank"), "'blank' of 'spine'.* is empty"),
        (lambda: mrml.plane_from_segment(node, "nothing"), "'nothing' of 'spine'.* is empty"),
        (lambda: mrml.plane_from_segment(bent, "disc"), "'bent'.*'warp', which is not linear"),
        (lambda: mrml.plane_from_segment(None, "disc"), "segmentation is needed, got NoneType"),
        (lambda: mrml.plane_from_segment(bent, "disc", margin=-1), "must not be negative"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
