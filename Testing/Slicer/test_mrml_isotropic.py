"""Isotropic volumes as nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import POINT, bright_point, lattice_field, put_under, random_field, rigid  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.mrml.isotropic import IsotropicJob  # noqa: E402
from GaussianMRILib.mrml.scene import ijk_to_ras  # noqa: E402


def field_of(scene: Any) -> tuple[Any, Any]:
    """A field's node and the volume that it is said to have been fitted to."""
    volume = bright_point(scene)
    return mrml.field_to_model(cut_field(), scene=scene, volumes=[volume]), volume


def cut_field() -> Any:
    """A cube with an edge cut off."""
    return replace(lattice_field(), hulls=random_field().hulls[1:])


def roi_node(scene: Any, center: Any = POINT, size: Any = (8, 10, 12)) -> Any:
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetCenter(*np.asarray(center, float))
    roi.SetSize(*map(float, size))
    return roi


def test_the_volume_has_the_fields_values_and_the_sources_display(scene: Any) -> None:
    node, volume = field_of(scene)
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(321, 123)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeWarm1")
    told: list[float] = []
    made = mrml.isotropic_volume(node, spacing=1.5, progress=told.append)
    voxels, matrix = cut_field().volume(spacing=1.5)
    pixels = slicer.util.arrayFromVolume(made)
    inside = np.isfinite(voxels)
    assert 0.2 < inside.mean() < 1 and np.array_equal(pixels[inside], voxels[inside])
    assert np.ptp(pixels[~inside]) == 0 and float(made.GetAttribute("GaussianMRI.OutsideFraction")) == pytest.approx(
        1 - inside.mean(), abs=1e-6
    )
    assert np.allclose(ijk_to_ras(made), matrix, atol=1e-9) and np.allclose(made.GetSpacing(), 1.5)
    shown = made.GetDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel(), shown.GetColorNodeID()) == (321, 123, "vtkMRMLColorTableNodeWarm1")
    assert made.GetClassName() == "vtkMRMLScalarVolumeNode" and made.GetName() == "scan isotropic"
    assert made.GetNodeReference("GaussianMRI.Source") is volume and made.GetNodeReference("GaussianMRI.Field") is node


def test_a_region_along_the_patient_and_a_volume_that_is_filled_again(scene: Any) -> None:
    node, _ = field_of(scene)
    roi = roi_node(scene)
    put_under(scene, roi, rigid([0, 0, 1], 0, [2, -1, 3]))
    made = mrml.isotropic_volume(node, spacing=0.5, roi=roi, axes="ras")
    affine = ijk_to_ras(made)
    assert np.allclose(affine[:3, :3], np.diag([-0.5, -0.5, 0.5]))
    columns, rows, slices = made.GetImageData().GetDimensions()
    ends = affine[:3, 3] + 0.5 * np.array([[0, 0, 0], [-(columns - 1), -(rows - 1), slices - 1]])
    low, high = ends.min(axis=0), ends.max(axis=0)
    box = np.add(POINT, [2, -1, 3]) + np.array([[-4, -5, -6], [4, 5, 6]])
    assert (low >= box[0] - 1e-6).all() and (high <= box[1] + 1e-6).all()
    assert (high - low > [7, 9, 11]).all()  # all of the box but less than a voxel at each side
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    again = mrml.isotropic_volume(node, spacing=2.0, node=made)
    assert again is made and scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count
    assert np.allclose(made.GetSpacing(), 2.0)


def test_undo_takes_it_back(scene: Any) -> None:
    node, _ = field_of(scene)
    scene.SetUndoOn()
    before = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    mrml.isotropic_volume(node, spacing=3.0)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before + 1
    scene.Undo()
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before
    scene.SetUndoOff()


def test_what_makes_no_volume_changes_nothing(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node, volume = field_of(scene)
    away = roi_node(scene, np.add(POINT, [200, 0, 0]))
    names = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
    for call, message in (
        (lambda: mrml.isotropic_volume(volume), "need a field"),
        (lambda: mrml.isotropic_volume(node, spacing=-1), "spacing of the voxels"),
        (lambda: mrml.isotropic_volume(node, spacing=0.02), r"voxels are \d+\.\d GB, too much|is too large"),
        (lambda: mrml.isotropic_volume(node, roi=away), "Nothing was scanned in the box"),
        (lambda: mrml.isotropic_volume(node, roi=volume), "ROI is needed"),
        (lambda: mrml.isotropic_volume(node, spacing=3.0, node=volume), "'scan' is what was scanned"),
        (lambda: mrml.isotropic_volume(node, spacing=0.4, progress=lambda part: False), "was cancelled"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())] == names


def test_a_cancelled_job_ends_between_slabs(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from GaussianMRILib.gaussians import volume as volumes

    monkeypatch.setattr(volumes, "SLAB_PIXELS", 1)  # a slab is a slice
    node, _ = field_of(scene)
    job = IsotropicJob(node, spacing=0.4)
    report = job.report

    def cancelled_at_once(fraction: float, stage: str) -> None:
        report(fraction, stage)
        job.cancel()

    monkeypatch.setattr(job, "report", cancelled_at_once)
    job.run()
    assert job.wait(10) and 0 < job.fraction < 0.5
