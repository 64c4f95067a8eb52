"""Planes and results of the Gaussian MRI Resampling module, through its panel."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
from module_panel import fitted, nodes_of_previews
from mrml_scenes import POINT, oblique_plane_node

from GaussianMRILib.mrml.scene import as_array
from GaussianMRILib.mrml.views import composite_of

# ---- what a fit says


def test_the_line_after_a_fit_is_of_all_that_was_fitted(app: Any, panel: Any) -> None:
    from GaussianMRIResamplingLib.fitController import describeField

    def said(**facts: Any) -> str:
        report = {"preset": "fast", "stacks": [{"name": "axial"}, {"name": "sagittal"}], **facts}
        return describeField(SimpleNamespace(report=report), ["axial", "sagittal"]).splitlines()[1]

    probed = {"stack": "axial", "slices": 1, "psnr_db": 19.8, "spline_psnr_db": 18.4}
    scores = {"joint": 26.6, "axial alone": 21.4, "sagittal alone": 20.3}
    fusion = {"method": "joint", "part": None, "left_out_slices": 8, "psnr_db": scores}
    together = "Good: left-out slices are predicted clearly better than by axial alone (26.6 dB PSNR, +5.2 dB)."
    assert said(held_out=probed, fusion=fusion) == together
    assert said(held_out=probed).endswith("better than by interpolation (19.8 dB PSNR of axial, fitted alone, +1.4 dB).")
    assert said(held_out=None).endswith("was not measured: there are too few slices to leave any out.")
    field = SimpleNamespace(report={"warnings": ["refine: nothing was moved"]})
    assert "\nWarning: refine: nothing was moved.\n" in describeField(field, ["axial"])


# ---- planes


def test_a_plane_from_a_slice_view(app: Any, panel: Any, scan: Any) -> None:
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
    view.JumpSliceByCentering(3, -20, 14)
    panel.ui.planeViewSelector.setCurrentNode(view)
    panel.ui.fromViewButton.click()
    plane = panel._parameterNode.plane
    pixel = view.GetFieldOfView()[0] / view.GetDimensions()[0]
    np.testing.assert_allclose(plane.GetCenter(), (3, -20, 14), atol=0.51 * pixel)
    assert abs(np.dot(plane.GetNormal(), as_array(view.GetSliceToRAS())[:3, 2])) == pytest.approx(1)
    assert plane.GetDisplayNode().GetHandlesInteractive()


def test_a_plane_from_three_points_that_exist_or_are_placed_next(app: Any, panel: Any) -> None:
    corners = [(0, 0, 0), (30, 0, 0), (0, 20, 10)]
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "L4-L5")
    for corner in corners:
        points.AddControlPoint(corner)
    panel._parameterNode.points = points
    panel.ui.fromPointsButton.click()
    first = panel._parameterNode.plane
    assert first.GetName() == "L4-L5 plane"
    panel._parameterNode.points = None
    panel.ui.fromPointsButton.click()
    placed = slicer.util.getNode("Plane points*")
    for corner in corners:
        assert panel._parameterNode.plane is first
        placed.AddControlPoint(corner)
    second = panel._parameterNode.plane
    assert second is not first
    np.testing.assert_allclose(second.GetNormal(), first.GetNormal(), atol=1e-9)
    np.testing.assert_allclose(second.GetCenter(), first.GetCenter(), atol=1e-9)


def test_points_that_are_not_placed_make_no_plane(app: Any, panel: Any) -> None:
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "disc")
    for corner in ((0, 0, 0), (10, 0, 50), (0, 30, 50), (-10, 0, 50)):
        points.AddControlPoint(corner)
    points.UnsetNthControlPointPosition(0)
    panel._parameterNode.points = points
    panel.ui.fromPointsButton.click()
    plane = panel._parameterNode.plane
    np.testing.assert_allclose(np.abs(plane.GetNormal()), (0, 0, 1), atol=1e-9)
    assert plane.GetCenter()[2] == pytest.approx(50)
    points.UnsetNthControlPointPosition(3)
    with pytest.raises(Exception, match="fewer than three"):
        panel.onPlaneFromPoints()


def test_fewer_than_three_points_are_told(app: Any, panel: Any) -> None:
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "two")
    points.AddControlPoint(0, 0, 0)
    panel._parameterNode.points = points
    with pytest.raises(Exception, match="fewer than three"):
        panel.onPlaneFromPoints()
    assert panel._parameterNode.plane is None


def test_plane_sets_are_saved_and_recalled(app: Any, panel: Any, tmp_path: Path) -> None:
    made = [oblique_plane_node(slicer.mrmlScene, np.add(POINT, [0, 0, 9 * n])) for n in range(3)]
    poses = [(tuple(node.GetCenter()), tuple(node.GetNormal())) for node in made]
    app.answers.append(str(tmp_path / "discs.mrk.json"))
    panel.updateButtons()
    panel.ui.savePlanesButton.click()
    app.close_scene()
    app.answers.append(str(tmp_path / "discs.mrk.json"))
    panel.ui.loadPlanesButton.click()
    loaded = slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode")
    assert len(loaded) == 3 and list(panel._parameterNode.outputPlanes) == loaded
    for node, (center, normal) in zip(loaded, poses, strict=True):
        np.testing.assert_allclose(node.GetCenter(), center, atol=1e-5)
        np.testing.assert_allclose(node.GetNormal(), normal, atol=1e-7)


# ---- results


def test_resample_several_planes_by_several_methods(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    planes = [oblique_plane_node(slicer.mrmlScene, np.add(POINT, [0, 0, 4 * n])) for n in range(2)]
    parameters = panel._parameterNode
    parameters.outputPlanes = planes
    assert list(panel.ui.outputPlanesSelector.checkedNodes()) == planes
    panel.ui.splineCheckBox.checked = True
    panel.ui.distanceCheckBox.checked = True
    parameters.count, parameters.step = 3, 1.5
    panel.ui.resampleButton.click()
    results = panel._results
    assert len(results) == 6
    assert [node.GetAttribute("GaussianMRI.Method") for node in results] == [
        "gaussians",
        "spline",
        "distance",
    ] * 2
    for node in results:
        assert slicer.util.arrayFromVolume(node).shape[0] == 3
        assert node.GetSpacing()[2] == pytest.approx(1.5)
    assert panel.ui.resultLabel.text.count("outside the scan") == 6
    assert results[0].GetDisplayNode().GetWindow() == scan.GetDisplayNode().GetWindow()


def test_results_side_by_side(app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(app, panel, monkeypatch)
    panel.ui.voxelCheckBox.checked = True
    panel.ui.sideBySideCheckBox.checked = True
    panel.ui.resampleButton.click()
    shown = [
        composite_of(slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")).GetBackgroundVolumeID()
        for name in ("Red", "Yellow")
    ]
    assert shown == [node.GetID() for node in panel._results]
    assert not panel._parameterNode.preview and not nodes_of_previews()


def test_report_and_dicom_export(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fitted(app, panel, monkeypatch)
    panel.ui.resampleButton.click()
    panel.ui.reportButton.click()
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert len(tables) == 1 and tables[0].GetNumberOfRows() > 0
    app.answers.append(str(tmp_path))
    panel.ui.exportButton.click()
    written = sorted(tmp_path.rglob("*.dcm"))
    assert len(written) == 1 and "1 DICOM series" in panel.ui.resultLabel.text


def test_a_map_beside_an_image_is_left_out_of_the_dicom_export(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fitted(app, panel, monkeypatch)
    panel.ui.distanceCheckBox.checked = True
    panel.ui.resampleButton.click()
    image, distances = panel._results
    app.answers.append(str(tmp_path))
    panel.ui.exportButton.click()
    assert [path.name for path in tmp_path.iterdir()] == [image.GetName().replace(" ", "_")]
    assert "1 DICOM series" in panel.ui.resultLabel.text and distances.GetName() in panel.ui.resultLabel.text
    panel.ui.gaussiansCheckBox.checked = False
    panel.ui.resampleButton.click()
    assert len(panel._results) == 1 and not panel.ui.exportButton.enabled


def test_voxels_that_changed_after_the_fit_are_told_beside_interpolations(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fitted(app, panel, monkeypatch)
    app.save(tmp_path / "scene.mrb")
    app.load(tmp_path / "scene.mrb")
    scan = slicer.util.getNode("scan")
    panel.ui.voxelCheckBox.checked = True
    panel.ui.resampleButton.click()
    assert "since the fit began" not in panel.ui.resultLabel.text
    pixels = slicer.util.arrayFromVolume(scan)
    pixels[:] = 1050 - pixels  # as another frame of a sequence
    slicer.util.arrayFromVolumeModified(scan)
    panel.ui.resampleButton.click()
    assert panel.ui.resultLabel.text.startswith("'scan' was changed since the fit began: interpolations show")
    panel.ui.voxelCheckBox.checked = False
    panel.ui.resampleButton.click()
    assert "since the fit began" not in panel.ui.resultLabel.text


def test_sample_data_and_results_need_no_main_window(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """slicer.app.layoutManager() is then None, and there are no slice views."""
    import sys

    from GaussianMRIResamplingLib import sideBySide

    monkeypatch.setattr("GaussianMRILib.mrml.sample.load_lumbar_phantom", lambda scene: [scan, oblique_plane_node(scene)])
    fitted(app, panel, monkeypatch)
    panel._parameterNode.sideBySide = True
    with monkeypatch.context() as without:
        without.setattr(app, "layout_manager", None)
        without.setattr(sideBySide, "sliceNodes", lambda: [None, None, None])
        assert sys.modules["GaussianMRIResampling"].loadLumbarPhantom()[0] is scan
        panel.ui.resampleButton.click()
        assert len(panel._results) == 1 and not app.messages
