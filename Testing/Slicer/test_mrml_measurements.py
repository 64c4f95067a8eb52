"""Lengths, angles and areas of markups that are drawn on a resampled image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import plane_node, rotation, volume_node  # noqa: E402

from GaussianMRILib import mrml  # noqa: E402
from GaussianMRILib.mrml.scene import as_array, ijk_to_ras  # noqa: E402

CENTER = np.array([12.3, -31.7, 25.4])
TURN = rotation([2, -1, 0.4], 31)  # the cylinders' frame: they run along its third column
DISC, ROD = 9.0, 5.0  # mm, radii of a wide and a narrow cylinder
APART = np.array([-6.0, 17.0])  # mm, from one axis to the other, in the frame
EDGE = 0.7  # mm, softness of the outlines


def phantom(scene: Any) -> Any:
    """Two tilted parallel cylinders, of 900 on 100, in axial slices of 3 mm with pixels of 0.9 x 1.1 mm."""
    shape, spacing = (26, 74, 88), np.array([0.9, 1.1, 3.0])
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)
    affine[:3, 3] = np.add(CENTER, [1.2, -2.1, 0.7]) - spacing * (np.array(shape[::-1]) - 1) / 2
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([i, j, k], axis=-1) * spacing + affine[:3, 3]
    pixels = np.zeros(shape)
    for shift in np.linspace(-1.5, 1.5, 9)[:-1] + 1.5 / 8:  # a slice is the mean over its thickness
        local = (np.add(places, [0, 0, shift]) - CENTER) @ TURN[:, :2]
        for radius, middle in ((DISC, np.zeros(2)), (ROD, APART)):
            away = np.linalg.norm(local - middle, axis=-1)
            pixels += 100 / (1 + np.exp(np.clip((away - radius) / EDGE * 4, -50, 50)))
    return volume_node(scene, (100 + pixels).astype("f4"), affine)


@pytest.fixture
def image(scene: Any) -> Any:
    """The phantom on the plane across the cylinders, resampled from its fit."""
    field = mrml.fit([phantom(scene)], prior="spline", passes=2, blend=0.5)
    plane = plane_node(scene, CENTER + TURN @ [*APART / 2, 0], TURN[:, 0], TURN[:, 1], (56, 48))
    return mrml.resample(field, plane, spacing=0.6)


def outline(node: Any, middle: np.ndarray, radius: float, rays: int = 48) -> np.ndarray:
    """(rays, 3) RAS mm, where a person would draw: half-way from bright to dark along rays from a middle, in the pixels."""
    from scipy.ndimage import map_coordinates

    pixels, inverse = slicer.util.arrayFromVolume(node)[0], np.linalg.inv(ijk_to_ras(node))
    lengths = np.arange(radius - 3, radius + 3, 0.02)
    points = []
    for angle in 2 * np.pi * np.arange(rays) / rays:
        direction = TURN[:, :2] @ [np.cos(angle), np.sin(angle)]
        way = middle + lengths[:, None] * direction
        i, j, k = inverse[:3, :3] @ way.T + inverse[:3, 3:]
        assert np.abs(k).max() < 1e-6  # on the image
        values = map_coordinates(pixels, [j, i], order=1)
        edge = (values[:20].mean() + values[-20:].mean()) / 2
        points.append(way[np.argmax(values < edge)])
    return np.array(points)


def markup(scene: Any, kind: str, points: Any) -> Any:
    node = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", "drawn")
    for point in points:
        node.AddControlPoint(vtk.vtkVector3d(*map(float, point)))
    return node


def measured(node: Any, name: str) -> float:
    measurement = node.GetMeasurement(name)
    measurement.SetEnabled(True)
    node.UpdateAllMeasurements()
    return float(measurement.GetValue())


def test_areas_lengths_and_angles_on_a_tilted_plane_are_right(scene: Any, image: Any) -> None:
    """Slicer's own measurements of what is drawn on the image's pixels: areas to 2 %, lengths to half a pixel of 0.6 mm."""
    other = CENTER + TURN[:, :2] @ APART
    wide, narrow = outline(image, CENTER, DISC), outline(image, other, ROD)
    for drawn, radius in ((wide, DISC), (narrow, ROD)):
        assert measured(markup(scene, "ClosedCurve", drawn), "area") == pytest.approx(np.pi * radius**2, rel=0.02)  # mm2
    across = markup(scene, "Line", [wide[0], wide[24]])
    assert measured(across, "length") == pytest.approx(2 * DISC, abs=0.3)
    between = markup(scene, "Line", [wide.mean(axis=0), narrow.mean(axis=0)])
    assert measured(between, "length") == pytest.approx(np.linalg.norm(APART), abs=0.3)
    corner = markup(scene, "Angle", [wide[0], wide.mean(axis=0), narrow.mean(axis=0)])
    expected = np.rad2deg(np.arccos(APART[0] / np.linalg.norm(APART)))
    assert measured(corner, "angle") == pytest.approx(expected, abs=1.0)
    # As many pixels of 0.36 mm2 are brighter than half, and they are where the wide cylinder is.
    pixels = slicer.util.arrayFromVolume(image)[0]
    half = (np.percentile(pixels, 2) + np.percentile(pixels, 99)) / 2
    rows, columns = np.nonzero(pixels > half)
    places = np.stack([columns, rows, 0 * rows], axis=1) @ ijk_to_ras(image)[:3, :3].T + ijk_to_ras(image)[:3, 3]
    near = np.linalg.norm((places - CENTER) @ TURN[:, :2], axis=1) < DISC + 3
    assert near.sum() * 0.36 == pytest.approx(np.pi * DISC**2, rel=0.03)


def test_a_box_drawn_on_the_image_holds_what_it_encloses(scene: Any, image: Any) -> None:
    """A ROI of 12 x 8 x 4 mm, turned as the image is: as many pixels have their middle in it as its face is large."""
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "drawn")
    roi.SetSize(12.0, 8.0, 4.0)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = TURN, CENTER
    roi.SetAndObserveObjectToNodeMatrix(vtk_matrix(matrix))
    to_world = as_array(roi.GetObjectToWorldMatrix())
    affine = ijk_to_ras(image)
    rows, columns = np.indices(slicer.util.arrayFromVolume(image)[0].shape)
    places = np.stack([columns, rows, 0 * rows, np.ones_like(rows)], axis=-1) @ affine.T
    inside = np.all(np.abs((places @ np.linalg.inv(to_world).T)[..., :3]) <= np.array([6, 4, 2]), axis=-1)
    assert inside.sum() * 0.36 == pytest.approx(96, rel=0.08)
    assert slicer.util.arrayFromVolume(image)[0][inside].mean() == pytest.approx(900, abs=15)  # all in the cylinder


def vtk_matrix(array: np.ndarray) -> Any:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(array.ravel().tolist())
    return matrix


def test_the_spacing_and_place_of_results_survive_saving(host: Any, scene: Any, image: Any, tmp_path: Path) -> None:
    """Into a .mrb and back: the same pixels, millimetres and pose, also of a slab and of an isotropic volume."""
    field = image.GetNodeReference("GaussianMRI.Field")
    plane = image.GetNodeReference("GaussianMRI.Plane")
    slab = mrml.resample(field, plane, spacing=(0.5, 0.8), thickness=5.0, projection="max")
    volume = mrml.isotropic_volume(field, spacing=1.7)
    kept = {
        node.GetName(): (ijk_to_ras(node), node.GetSpacing(), slicer.util.arrayFromVolume(node).copy())
        for node in (image, slab, volume)
    }
    assert len(kept) == 3
    # A single plane is as deep as it is thick, or as its pixels are wide.
    assert np.allclose([image.GetSpacing(), slab.GetSpacing(), volume.GetSpacing()], [[0.6] * 3, [0.5, 0.8, 5.0], [1.7] * 3])
    host.save(tmp_path / "results.mrb")
    host.close()
    host.load(tmp_path / "results.mrb")
    for name, (matrix, spacing, pixels) in kept.items():
        node = scene.GetFirstNodeByName(name)
        assert np.allclose(ijk_to_ras(node), matrix, atol=1e-6) and np.allclose(node.GetSpacing(), spacing, atol=1e-6)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), pixels)
