"""The canal at every disc of a segmentation node, as a table in the scene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from test_mrml_segments import segmentation  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

from spine_scenes import CANAL, spine_map, true_area  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.geometry import ImagePlane, slice_poses  # noqa: E402
from GaussianMRILib.grading.canal import CUTOFFS_TEXT  # noqa: E402
from GaussianMRILib.grading.label_schemes import TOTALSPINESEG  # noqa: E402
from GaussianMRILib.grading.labels import LEVELS  # noqa: E402
from GaussianMRILib.mrml.canal import describe_measures  # noqa: E402
from GaussianMRILib.mrml.scene import as_matrix  # noqa: E402

NAMES = (
    {value: f"vertebrae_{name}" for name, value in TOTALSPINESEG.vertebrae.items()}
    | {value: f"disc_{name.replace('/', '_')}" for name, value in TOTALSPINESEG.discs.items()}
    | {2: "spinal_canal", 50: "sacrum", 100: "disc_L5_S"}
)


@pytest.fixture(scope="module")
def labels() -> Any:
    return spine_map()


def node_of(scene: Any, labels: Any, named: bool = True) -> Any:
    """Every label as a segment in a layer of its own, cut to what is in it."""
    node = segmentation(scene, "TotalSpineSeg")
    for value in np.unique(labels.voxels)[1:]:
        mask = labels.voxels == value
        edges = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
        low, high = (np.array([edge[end] for edge in edges]) for end in (0, -1))
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*np.stack([low, high], axis=1)[::-1].ravel().tolist())
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask[tuple(map(slice, low, high + 1))].ravel()
        image.SetImageToWorldMatrix(as_matrix(labels.ijk_to_ras))
        text = NAMES[int(value)] if named else f"Segment_{value}"
        node.AddSegmentFromBinaryLabelmapRepresentation(image, text, [1, 0, 0], text)
    return node


def volume_of(scene: Any, labels: Any, slices: slice = slice(None)) -> Any:
    poses = slice_poses(labels.ijk_to_ras, len(labels.voxels))[slices]
    planes = [ImagePlane(pose, labels.voxels.shape[1:], thickness=4.4) for pose in poses]
    return mrml.volume_from_images([np.zeros(labels.voxels.shape[1:], np.float32)] * len(planes), planes, scene=scene)


@pytest.mark.parametrize("named", [True, False])
def test_a_table_of_all_levels(scene: Any, labels: Any, named: bool) -> None:
    node = node_of(scene, labels, named)
    table = mrml.measure_canal(node, [volume_of(scene, labels)])
    columns = table.GetTable()
    assert columns.GetNumberOfRows() == len(LEVELS)
    for row, level in enumerate(LEVELS):
        assert columns.GetValueByName(row, "level").ToString() == level
        area, diameter = (columns.GetValueByName(row, name).ToDouble() for name in ("area", "AP diameter"))
        assert area == pytest.approx(true_area(level), rel=0.05)
        assert diameter == pytest.approx(2 * CANAL[level][1], abs=0.6)
        assert "slices 4.4 mm apart cross the canal" in columns.GetValueByName(row, "remarks").ToString()
    assert table.GetColumnUnitLabel("area") == "mm²" and table.GetColumnUnitLabel("AP diameter") == "mm"
    assert describe_measures(table).startswith("Canal measured at 5 of 5 discs.") and CUTOFFS_TEXT in table.GetDescription()
    assert table.GetNodeReference("GaussianMRI.Segmentation") is node


def test_a_volume_that_does_not_cover_the_canal(scene: Any, labels: Any) -> None:
    from GaussianMRILib.labels import LabelFile

    half = LabelFile(labels.voxels[:9], labels.ijk_to_ras)
    table = mrml.measure_canal(node_of(scene, half), [volume_of(scene, half)]).GetTable()
    assert np.isnan(table.GetValueByName(2, "area").ToDouble())
    assert "the canal is cut by the edge of the scan" in table.GetValueByName(2, "remarks").ToString()


def test_the_level_and_the_segments_name_disagree(scene: Any, labels: Any) -> None:
    node = node_of(scene, labels)
    assert mrml.disc_from_segment_node(node, "disc_L4_L5", "L4/L5").level == "L4/L5"
    with pytest.raises(GaussianMRIError, match=r"'disc_L4_L5' of .* is L4/L5 by its name, and L5/S1 is chosen"):
        mrml.disc_from_segment_node(node, "disc_L4_L5", "L5/S1")


def test_what_cannot_be_measured_leaves_the_scene(scene: Any, labels: Any) -> None:
    node = node_of(scene, labels)
    node.GetSegmentation().RemoveSegment("spinal_canal")
    before = scene.GetNumberOfNodes()
    with pytest.raises(GaussianMRIError, match="no spinal canal in TotalSpineSeg"):
        mrml.measure_canal(node)
    with pytest.raises(GaussianMRIError, match="cancelled"):
        mrml.measure_canal(node, progress=lambda part: False)
    with pytest.raises(GaussianMRIError, match="no segmentation"):
        mrml.measure_canal([])
    assert scene.GetNumberOfNodes() == before
