"""Segmentations that go along onto planes and into volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import bright_point, plane_node, put_under, rotation, volume_node  # noqa: E402
from test_mrml_segments import CENTER, MOVE, disc, paint, segmentation  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.geometry import ImagePlane  # noqa: E402
from GaussianMRILib.mrml.labels import LabelsJob  # noqa: E402
from GaussianMRILib.mrml.segments import mask_of_segment  # noqa: E402

RADII = np.array([20.0, 14.0, 7.0])
TURN = rotation([1, 0.3, 0.2], 25)


def spine(scene: Any) -> Any:
    """Two segments that overlap, one that is empty, with colours."""
    node = segmentation(scene)
    paint(node, "L4-L5", disc(TURN, tuple(RADII)))
    paint(node, "core", lambda x: (x**2).sum(-1) < 25)
    node.GetSegmentation().AddEmptySegment("blank", "blank", [0, 0, 1])
    node.GetSegmentation().GetSegment("L4-L5").SetColor(0.2, 0.4, 0.9)
    node.GetSegmentation().GetSegment("L4-L5").SetName("disc L4-L5")
    return node


def isotropic(scene: Any, center: np.ndarray, step: float = 0.7, half: float = 24.0) -> Any:
    count = int(2 * half / step)
    plane = ImagePlane.from_axes(center, (-1, 0, 0), (0, -1, 0), spacing=(step, step), shape=(count, count))
    return mrml.volume_from_images([np.zeros((count, count), np.float32)] * count, plane.stack(count, step), scene=scene)


@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("boundaries", ["smooth", "nearest"])
def test_segments_in_an_isotropic_volume(scene: Any, transformed: bool, boundaries: str) -> None:
    node, center = spine(scene), CENTER
    if transformed:
        put_under(scene, node, MOVE)
        center = MOVE[:3, :3] @ CENTER + MOVE[:3, 3]
    volume = isotropic(scene, center)
    made = mrml.resample_labels(node, volume, boundaries=boundaries)
    given, found = node.GetSegmentation(), made.GetSegmentation()
    names = [given.GetNthSegmentID(n) for n in range(3)]
    assert [found.GetNthSegmentID(n) for n in range(found.GetNumberOfSegments())] == names
    for name in names:
        assert found.GetSegment(name).GetName() == given.GetSegment(name).GetName()
        assert found.GetSegment(name).GetColor() == given.GetSegment(name).GetColor()
    mask, affine = mask_of_segment(made, "L4-L5")
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 0.7)
    truth = 4 / 3 * np.pi * RADII.prod()
    assert mask.sum() * 0.343 == pytest.approx(truth, rel=0.04)
    places = np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    assert np.linalg.norm(places.mean(axis=0) - center) < 0.25
    # The other one lies within it, and both are whole.
    core, _ = mask_of_segment(made, "core")
    assert core.sum() * 0.343 == pytest.approx(4 / 3 * np.pi * 125, rel=0.13)
    assert made.GetNodeReference("GaussianMRI.Segmentation") is node
    assert mask.shape[::-1] == volume.GetImageData().GetDimensions()


@pytest.mark.parametrize("onto", ["plane", "volume"])
def test_a_segment_on_an_oblique_plane_has_its_cross_section(scene: Any, onto: str) -> None:
    """A plane across the ellipsoid's second axis, 3 mm off the middle: an ellipse of pi a c (1 - (3 / 14)^2)."""
    node = spine(scene)
    place = CENTER + 3 * TURN[:, 1]
    target = plane_node(scene, place, TURN[:, 0], TURN[:, 2], (60, 30))
    if onto == "volume":
        target = mrml.resample(bright_point(scene, CENTER), target, method="voxel", spacing=0.5)
    made = mrml.resample_labels(node, target, spacing=0.5)
    mask, affine = mask_of_segment(made, "L4-L5")
    assert mask.shape[0] == 1
    wanted = np.pi * RADII[0] * RADII[2] * (1 - (3 / RADII[1]) ** 2)
    assert mask.sum() * 0.25 == pytest.approx(wanted, rel=0.04)
    places = np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    assert np.abs((places - place) @ TURN[:, 1]).max() < 1e-4  # on the plane
    along = (places - place) @ TURN[:, [0, 2]]
    assert np.allclose(np.abs(along).max(axis=0), RADII[[0, 2]] * np.sqrt(1 - (3 / 14) ** 2), atol=1.2)


def test_segments_that_share_a_label_map_stay_apart_and_survive_saving(scene: Any, tmp_path: Path) -> None:
    node = segmentation(scene)
    paint(node, "left", lambda x: np.abs(x - [8, 0, 0]).max(axis=-1) < 6)
    paint(node, "right", lambda x: np.abs(np.add(x, [8, 0, 0])).max(axis=-1) < 6)
    node.GetSegmentation().CollapseBinaryLabelmaps(True)
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    made = mrml.resample_labels(node, isotropic(scene, CENTER))
    assert made.GetSegmentation().GetNumberOfLayers() == 1
    middles = {}
    for name in ("left", "right"):
        mask, affine = mask_of_segment(made, name)
        assert mask.sum() * 0.343 == pytest.approx(12**3, rel=0.08)
        middles[name] = (np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]).mean(axis=0)
    assert np.allclose(middles["left"] - middles["right"], [16, 0, 0], atol=0.5)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "made.seg.nrrd"))
    assert storage.WriteData(made)
    again = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "again")
    assert storage.ReadData(again)
    for name in ("left", "right"):
        mask, affine = mask_of_segment(again, name)
        middle = (np.argwhere(mask)[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]).mean(axis=0)
        assert np.allclose(middle, middles[name], atol=1e-3)
    # The same file by the command's reader.
    from GaussianMRILib.labels import read_labels

    labels = read_labels(tmp_path / "made.seg.nrrd")
    assert {entry["Name"] for entry in labels.segments.values()} == {"left", "right"}
    assert (labels.voxels > 0).sum() == sum(mask_of_segment(made, name)[0].sum() for name in ("left", "right"))


def test_what_has_no_labels_is_refused_and_changes_nothing(scene: Any) -> None:
    node, volume = spine(scene), bright_point(scene)
    empty = segmentation(scene, "empty")
    empty.GetSegmentation().AddEmptySegment("blank", "blank")
    shear = np.eye(4)
    shear[1, 2] = 0.4
    tilted = volume_node(scene, np.zeros((5, 8, 8), "f4"), shear, "tilted")
    before = scene.GetNumberOfNodes()
    for call, message in (
        (lambda: mrml.resample_labels(empty, volume), "'empty'.* has nothing in its segments"),
        (lambda: mrml.resample_labels(volume, volume), "segmentation is needed, got 'scan'"),
        (lambda: mrml.resample_labels(node, node), "go onto a volume, a plane or a slice view, got 'spine'"),
        (lambda: mrml.resample_labels(node, tilted), "slices of 'tilted'.* isotropic volume"),
        (lambda: mrml.resample_labels(node, volume, boundaries="soft"), "no 'soft' boundaries"),
        (lambda: mrml.resample_labels(node, volume, progress=lambda part: False), "was cancelled"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert scene.GetNumberOfNodes() == before
    job, given = LabelsJob(node, volume), node.GetSegmentation()
    ids = [*given.GetSegmentIDs()]
    job.run()
    given.AddSegment(slicer.vtkSegment(), "painted meanwhile")
    given.RemoveSegment(ids[0])
    assert [*job.node().GetSegmentation().GetSegmentIDs()] == ids  # as when the work began
    job = LabelsJob(node, volume)
    job.start()
    scene.RemoveNode(node)
    job.wait(60)
    with pytest.raises(GaussianMRIError, match="removed while it was resampled"):
        job.node()
