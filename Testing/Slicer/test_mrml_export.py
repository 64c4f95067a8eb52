"""Resampled volumes as derived DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import Database, bright_point, oblique_plane_node, plane_node, put_under, rigid  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml, read_stacks  # noqa: E402
from GaussianMRILib.phantom.dicom import Study, write_series  # noqa: E402

STUDY = Study("export test", 1)
MIDDLE = ImagePlane.from_normal((3, -4, 5), (0.3, -0.2, 1), spacing=(0.8, 0.9), shape=(24, 20), thickness=2.5)
MOVE = rigid([0.2, 1, 0.4], 5, [7.5, -3.25, 11])


@pytest.fixture
def volume(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A volume from the DICOM database, of unevenly spaced slices."""
    planes = [MIDDLE.offset(mm) for mm in (0.0, 2, 5, 7, 10, 12)]
    images = np.random.default_rng(1).uniform(0.2, 0.9, (6, *MIDDLE.shape))
    (tmp_path / "in").mkdir()
    write_series(tmp_path / "in", STUDY, 3, planes, images, "T2")
    database = Database(tmp_path / "in")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    return database.load(scene)


def small_planes(scene: Any) -> list[Any]:
    axes = MIDDLE.i_axis, MIDDLE.j_axis
    center = MIDDLE.offset(5).center
    return [
        plane_node(scene, center, *axes, (8, 6.4)),
        plane_node(scene, center + MIDDLE.normal, *axes, (6, 6)),
    ]


def test_series_stay_in_patient_study_and_frame(scene: Any, volume: Any, tmp_path: Path) -> None:
    planes = small_planes(scene)
    planes[1].SetName("L4/L5")
    nodes = mrml.resample(volume, planes, method="spline", count=3, step=1.5, thickness=3)
    folders = mrml.export_dicom(nodes, tmp_path / "out", description="Oblique")
    assert [folder.name for folder in folders] == ["oblique_spline", "L4_L5_spline"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(folders)
    for number, (node, folder) in enumerate(zip(nodes, folders, strict=True)):
        headers = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
        first = headers[0]
        assert len(headers) == 3 and first.StudyInstanceUID == STUDY.uid("study")
        assert first.PatientID == "PHANTOM-1" and first.FrameOfReferenceUID == STUDY.uid("frame of reference")
        assert first.SeriesDescription == f"Oblique {node.GetName()}" and first.SeriesNumber == 9001 + number
        assert first.SliceThickness == 3 and "cubic spline" in first.DerivationDescription
        assert len(first.SourceImageSequence) == 6
        (stack,) = read_stacks(folder)
        assert np.allclose(stack.grid(), mrml.stack_from_volume(node).grid(), atol=1e-4)
        assert np.allclose(stack.pixels, slicer.util.arrayFromVolume(node), atol=0.02)


def test_what_was_moved_is_not_in_the_frame(scene: Any, volume: Any, tmp_path: Path) -> None:
    put_under(scene, volume.GetParentTransformNode(), MOVE)
    (plane,) = small_planes(scene)[:1]
    put_under(scene, plane, MOVE)
    of_moved = mrml.resample(volume, plane, method="voxel")
    volume.GetParentTransformNode().SetAndObserveTransformNodeID(None)
    plane.SetAndObserveTransformNodeID(None)
    moved_later = mrml.resample(volume, plane, method="voxel")
    put_under(scene, moved_later, MOVE)
    folders = mrml.export_dicom([of_moved, moved_later], tmp_path / "out")
    frames = set()
    for folder in folders:
        header = pydicom.dcmread(next(folder.iterdir()))
        assert header.StudyInstanceUID == STUDY.uid("study")
        frames.add(header.FrameOfReferenceUID)
    assert STUDY.uid("frame of reference") not in frames
    # Both are at the same place.
    one, two = (read_stacks(folder)[0] for folder in folders)
    assert np.allclose(one.ijk_to_ras, two.ijk_to_ras, atol=1e-4)
    assert np.allclose(one.pixels, two.pixels, atol=0.02)


def test_without_files_it_is_an_anonymous_study(scene: Any, tmp_path: Path) -> None:
    node = mrml.resample(bright_point(scene), oblique_plane_node(scene), method="spline")
    (folder,) = mrml.export_dicom(node, tmp_path / "out")
    header = pydicom.dcmread(next(folder.iterdir()))
    assert header.PatientID == "ANONYMOUS" and "SourceImageSequence" not in header
    assert np.allclose(read_stacks(folder)[0].grid(), mrml.stack_from_volume(node).grid(), atol=1e-4)


def test_a_projection_says_that_it_is_one(scene: Any, tmp_path: Path) -> None:
    volume, plane = bright_point(scene), oblique_plane_node(scene)
    node = mrml.resample(volume, plane, method="spline", thickness=6.0, projection="max")
    (folder,) = mrml.export_dicom(node, tmp_path / "out")
    header = pydicom.dcmread(next(folder.iterdir()))
    assert list(header.ImageType) == ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]


def test_a_failed_export_leaves_nothing(scene: Any, volume: Any, tmp_path: Path) -> None:
    plane = small_planes(scene)[0]
    field = mrml.fit([volume], prior="spline", passes=2, blend=0.5)
    image, distance = mrml.resample(field, plane), mrml.resample(field, plane, method="distance")
    out = tmp_path / "out"
    for call, message in (
        (lambda: mrml.export_dicom([], out), "no volume to export"),
        (lambda: mrml.export_dicom([image, distance], out), "is no image made by resampling"),
        (lambda: mrml.export_dicom(volume, out), "Slicer's own DICOM export"),
        (lambda: mrml.export_dicom(image, tmp_path / "no" / "where"), "cannot be written"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert not out.exists()
    (first,) = mrml.export_dicom(image, out)
    uid = pydicom.dcmread(next(first.iterdir())).SeriesInstanceUID
    other = mrml.resample(field, plane, method="voxel")
    with pytest.raises(GaussianMRIError, match="exists and is not empty"):
        mrml.export_dicom([other, image], out)
    assert list(out.iterdir()) == [first]
    assert pydicom.dcmread(next(first.iterdir())).SeriesInstanceUID == uid
    mrml.export_dicom([other, image], out, overwrite=True)
    assert len(list(out.iterdir())) == 2
    assert pydicom.dcmread(next(first.iterdir())).SeriesInstanceUID != uid
