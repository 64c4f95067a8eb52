"""Nodes with a known truth for the tests on real MRML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import slicer
import torch
import vtk
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf
from vtkmodules.util.numpy_support import vtk_to_numpy

import GaussianMRILib as gm
from GaussianMRILib.gaussians import GaussianLattice
from GaussianMRILib.gaussians.files import lattices_of
from GaussianMRILib.gaussians.views import SeriesView
from GaussianMRILib.mrml.scene import as_array, as_matrix

POINT = np.array([12.3, -31.7, 25.4])  # RAS mm, on no voxel's centre
BLOB_MM = 3.0


def rotation(axis: ArrayLike, degrees: float) -> NDArray[np.float64]:
    """(3, 3) of a turn about an axis (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rigid(axis: ArrayLike, degrees: float, shift: ArrayLike) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(axis, degrees), shift
    return matrix


def oblique_affine(shape: tuple[int, int, int], center: ArrayLike) -> NDArray[np.float64]:
    """IJK to RAS of oblique, anisotropic, left-handed voxels (0.9 x 1.1 x 3 mm) around a centre."""
    affine = np.eye(4)
    affine[:3, :3] = rotation([1, 2, -1], 24) @ np.diag([0.9, 1.1, -3.0])
    affine[:3, 3] = np.asarray(center) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    assert np.linalg.det(affine[:3, :3]) < 0
    return affine


def volume_node(scene: Any, pixels: ArrayLike, ijk_to_ras: NDArray[np.float64], name: str = "scan") -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(as_matrix(ijk_to_ras))
    slicer.util.updateVolumeFromArray(node, np.asarray(pixels))
    node.CreateDefaultDisplayNodes()
    return node


def bright_point(scene: Any, point: ArrayLike = POINT, name: str = "scan") -> Any:
    """A volume node that is a round bright point on a dark ground; its middle is off the volume's."""
    shape = (13, 40, 44)
    affine = oblique_affine(shape, np.add(point, [2.2, -1.4, 3.1]))
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    away = places - np.asarray(point)
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    across = away @ normal
    beside = (away**2).sum(axis=-1) - across**2
    # A slice is the mean over its thickness, here the distance between slices.
    ends = [(across + end) / (np.sqrt(2) * BLOB_MM) for end in (1.5, -1.5)]
    mean = np.sqrt(np.pi / 2) * BLOB_MM / 3.0 * (erf(ends[0]) - erf(ends[1]))
    pixels = 50 + 1000 * np.exp(-beside / (2 * BLOB_MM**2)) * mean
    return volume_node(scene, pixels.astype("f4"), affine, name)


def put_under(scene: Any, node: Any, matrix: NDArray[np.float64], harden: bool = False) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(as_matrix(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    if harden:
        assert node.HardenTransform()
    return transform


def put_under_warp(scene: Any, node: Any) -> None:
    """A transform that is not linear."""
    warp = vtk.vtkThinPlateSplineTransform()
    for landmarks, shift in ((warp.SetSourceLandmarks, 0.0), (warp.SetTargetLandmarks, 3.0)):
        points = vtk.vtkPoints()
        for n, corner in enumerate(((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (50, 50, 50))):
            points.InsertNextPoint(*(np.array(corner) + shift * (n % 2)))
        landmarks(points)
    warp.SetBasisToR()
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    transform.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(transform.GetID())


def plane_node(scene: Any, center: ArrayLike, x: ArrayLike, y: ArrayLike, size: ArrayLike = (24, 18)) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "oblique")
    node.SetSizeMode(node.SizeModeAbsolute)
    node.SetCenter(np.asarray(center, float).tolist())
    node.SetAxes(*(np.asarray(v, float).tolist() for v in (x, y, np.cross(x, y))))
    node.SetSize(*size)
    return node


def oblique_plane_node(scene: Any, center: ArrayLike = POINT, size: ArrayLike = (24, 18)) -> Any:
    """A plane whose middle is a little off the given point, along the plane."""
    turn = rotation([2, -1, 3], 35)
    return plane_node(
        scene, np.asarray(center) + turn @ [1.3, -0.8, 0], turn @ [-1, 0, 0], turn @ [0, -1, 0], size
    )


def random_field(count: int = 300) -> gm.GaussianField:
    """Gaussians in a box around POINT, of the kinds of values that a fit makes."""
    rng = np.random.default_rng(7)
    parameters = np.zeros((11, count), np.float32)
    parameters[:3] = (POINT[:, None] + rng.uniform(-15, 15, (3, count))).astype("f4")
    parameters[3:9] = rng.normal(0, 0.02, (6, count))
    parameters[[3, 6, 8]] = rng.uniform(0.2, 0.5, (3, count))
    parameters[9:11] = rng.uniform(0.1, 1, (2, count))
    if count > 1:
        parameters[0, 0], parameters[1, 0], parameters[9, 1] = -0.0, 1e-42, np.float32(1) / 3
    hull = np.concatenate([np.eye(3), -np.eye(3)])
    hull = np.concatenate([hull, -15 - hull @ POINT[:, None]], axis=1)
    edge = np.array([0.6, 0.8, 0.0])
    cut = np.concatenate([hull, [[*edge, -12 - edge @ POINT]]])  # another number of half-spaces
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 2, 3] = [20.1, 1 / 3, 4e5]
    poses[:, :3, :2] *= 0.7
    report = {"preset": "fast", "held_out_psnr": 31.25, "text": 'ü "%20" \\ line\nend', "list": [1, None]}
    shapes = np.array([[40, 44], [40, 44], [39, 1]], np.int32)
    return gm.GaussianField(
        torch.from_numpy(parameters), 1 / 3, 987.654321, (hull, cut), poses, shapes, "1.2.3", report
    )


def lattice_field(plain: int = 0) -> gm.GaussianField:
    """`random_field`, of a lattice about POINT, of some plain Gaussians, and with two views."""
    field = random_field(plain)
    axes = rotation([1, 2, 3], 30) @ np.diag([0.9, 0.9, 0.45])
    lattice = GaussianLattice.covering(field.hulls[:1], axes)
    lattice = lattice.with_nodes(torch.randn(lattice.nodes.shape, generator=torch.Generator().manual_seed(0)))
    lattice = lattice.rounded(1 / 300)
    places = np.array([0.0, 50, 100])
    views = tuple(SeriesView(lattice.rounded(step), axes[:, 2] / 0.45, 0.4, places) for step in (1 / 200, 1 / 100))
    return replace(field, hulls=field.hulls[:1], lattice=lattice, views=views)


def assert_same_field(a: gm.GaussianField, b: gm.GaussianField) -> None:
    """Every number equal bit for bit (a negative zero counts as zero)."""
    positive = [np.asarray(f.parameters.numpy()) + np.float32(0) for f in (a, b)]
    assert positive[0].tobytes() == positive[1].tobytes()
    for one, other in [
        (a.slice_poses, b.slice_poses),
        (a.slice_shapes, b.slice_shapes),
        *zip(a.hulls, b.hulls, strict=True),
    ]:
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    for name in ("offset", "scale", "background", "cut", "frame_of_reference", "report"):
        assert getattr(a, name) == getattr(b, name), name
    lattices = [lattices_of(f) for f in (a, b)]
    assert list(lattices[0]) == list(lattices[1])
    for one, other in zip(*(own.values() for own in lattices), strict=True):
        assert torch.equal(one.nodes, other.nodes) and torch.equal(one.table, other.table)
        assert np.array_equal(one.node_to_ras, other.node_to_ras) and one.step == other.step
    for one, other in zip(a.views, b.views, strict=True):
        assert one.share == other.share and np.allclose(one.normal, other.normal, atol=1e-15)


def centre_of_brightness(image: NDArray[Any]) -> NDArray[np.float64]:
    """(column, row) of the middle of a bright point on a dark ground, in pixels."""
    above = np.clip(image - (image.min() + 0.25 * (image.max() - image.min())), 0, None)
    rows, columns = np.indices(image.shape)
    return np.array([(columns * above).sum(), (rows * above).sum()]) / above.sum()


class Database:
    """DICOM files as Slicer's database gives them out; put it into `slicer.dicomDatabase`."""

    def __init__(self, folder: Path) -> None:
        self.headers: dict[str, Any] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            self.headers[header.SOPInstanceUID] = header

    def fileForInstance(self, uid: str) -> str:
        return str(self.headers[uid].filename) if uid in self.headers else ""

    def filesForSeries(self, uid: str) -> list[str]:
        return [str(h.filename) for h in self.headers.values() if h.SeriesInstanceUID == uid]

    def instanceValue(self, uid: str, tag: str) -> str:
        element = self.headers[uid].get(tuple(int(part, 16) for part in tag.split(",")))
        return "" if element is None else str(element.value)

    def load(self, scene: Any, acquisition_transform: bool = True, name: str = "T2") -> Any:
        """Every file as one volume node, as the Scalar Volume plugin of Slicer's DICOM module makes it."""
        headers = sorted(self.headers.values(), key=_height)
        reader = slicer.vtkITKArchetypeImageSeriesScalarReader()
        reader.SetArchetype(str(headers[0].filename))
        for header in headers:
            reader.AddFileName(str(header.filename))
        reader.SetSingleFile(0)
        reader.SetOutputScalarTypeToNative()
        reader.SetDesiredCoordinateOrientationToNative()
        reader.SetUseNativeOriginOn()
        reader.SetDICOMImageIOApproachToGDCM()
        reader.Update()
        pixels = vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars())
        pixels = pixels.reshape(reader.GetOutput().GetDimensions()[::-1])
        affine = np.linalg.inv(as_array(reader.GetRasToIjkMatrix()))
        if np.linalg.det(affine[:3, :3]) < 0:  # Slicer wants them right-handed
            affine[:3, 3] += (len(pixels) - 1) * affine[:3, 2]
            affine[:3, 2] *= -1
            pixels, headers = pixels[::-1], headers[::-1]
        node = volume_node(scene, np.ascontiguousarray(pixels), affine, name)
        node.SetAttribute("DICOM.instanceUIDs", " ".join(h.SOPInstanceUID for h in headers))
        if acquisition_transform and len(headers) == len(pixels):
            _add_acquisition_transform(scene, node, headers)
        return node


def _height(header: Any) -> float:
    if "ImageOrientationPatient" not in header:
        return 0.0
    x, y = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3))
    return float(np.cross(x, y) @ [float(v) for v in header.ImagePositionPatient])


def _add_acquisition_transform(scene: Any, node: Any, headers: list[Any]) -> None:
    """A grid transform with one displacement for each corner of each slice, where a slice is off the volume's grid."""
    to_ras = np.array([-1.0, -1.0, 1.0])
    columns, rows, count = node.GetImageData().GetDimensions()
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine, displacements = as_array(matrix), np.zeros((count, 2, 2, 3))
    for k, header in enumerate(headers):
        down, right = (float(v) for v in header.PixelSpacing)
        x, y = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3)) * to_ras
        origin = np.array([float(v) for v in header.ImagePositionPatient]) * to_ras
        for row in (0, 1):
            for column in (0, 1):
                there = origin + column * columns * right * x + row * rows * down * y
                displacements[k, row, column] = there - (affine @ [column * columns, row * rows, k, 1])[:3]
    if np.abs(displacements).max() < 1e-3:
        return
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid = vtk.vtkImageData()
    grid.SetDimensions(2, 2, count)
    grid.SetOrigin(*affine[:3, 3])
    grid.SetSpacing(spacing[0] * columns, spacing[1] * rows, spacing[2])
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    vtk_to_numpy(grid.GetPointData().GetScalars())[:] = displacements.reshape(-1, 3)
    transform, directions = slicer.vtkOrientedGridTransform(), np.eye(4)
    directions[:3, :3] = affine[:3, :3] / spacing
    transform.SetGridDirectionMatrix(as_matrix(directions))
    transform.SetDisplacementGridData(grid)
    made = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", "acquisition transform")
    made.SetAndObserveTransformToParent(transform)
    node.SetAndObserveTransformNodeID(made.GetID())
