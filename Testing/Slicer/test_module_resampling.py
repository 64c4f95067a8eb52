"""The Gaussian MRI Resampling module as a user works with it, on real MRML and with the real panel file."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
import vtk
from module_panel import MODULE, fitted, nodes_of_previews, previews, quick
from mrml_scenes import POINT, centre_of_brightness, oblique_plane_node, put_under_warp

from GaussianMRILib import mrml
from GaussianMRILib.mrml.fields import changes_since_fit
from GaussianMRILib.mrml.scene import as_array
from GaussianMRILib.mrml.views import composite_of, keep_view

# ---- the module's file


def test_the_module_file_imports_nothing_that_slicer_does_not_have_at_hand() -> None:
    allowed = {"enum", "os", "pathlib", "sys", "time", "typing", "unittest", "ctk", "qt", "vtk", "slicer"}
    for path in [MODULE, *MODULE.parents[1].glob("GaussianMRIPanelLib/*.py"), *MODULE.parent.glob("*Lib/*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in allowed | {"GaussianMRIResamplingLib", "GaussianMRIPanelLib"}, (
                    f"{path.name} imports {name} at file scope"
                )


def test_opening_the_panel_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from host.application import Application\n"
        "app = Application(pathlib.Path(sys.argv[2]))\n"
        "app.load_module(pathlib.Path(sys.argv[3]))\n"
        "app.select('GaussianMRIResampling')\n"
        "heavy = {'torch', 'scipy', 'SimpleITK', 'pydicom', 'lpips', 'ninja'} & set(sys.modules)\n"
        "print('loaded:', sorted(heavy))\n"
        "app.quit()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path), str(MODULE)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},  # this checkout, not what is installed
    )
    assert "loaded: []" in done.stdout, done.stdout + done.stderr


def test_every_parameter_of_the_panel_has_a_widget(panel: Any) -> None:
    parameters = panel._parameterNode
    connected = {widget.property("SlicerParameterName") for widget in vars(panel.ui).values()} - {None, ""}
    by_hand = {"inputVolumes", "outputPlanes", "curveAlong"}
    assert connected == set(parameters.allParameters) - by_hand


def test_the_sample_data_are_registered_at_start_up(app: Any, panel: Any) -> None:
    app.start()
    source = app.sample_data.source("SyntheticLumbarSpine")
    assert Path(source.thumbnailFileName).is_file() and source.customDownloader is not None


def test_a_module_that_is_loaded_later_does_what_others_do_at_start_up(app: Any) -> None:
    """From the Extension Wizard or a script: start-up is told of once."""
    app.start()
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    keep_view(red)  # a scene was loaded that was saved while a preview ran
    app.load_module(MODULE)
    assert app.sample_data.source("SyntheticLumbarSpine").customDownloader is not None
    assert red.GetAttribute("GaussianMRI.ViewBefore") is None
    keep_view(red)
    app.scene.InvokeEvent(app.scene.EndImportEvent)
    assert red.GetAttribute("GaussianMRI.ViewBefore") is None
    app.load_module(MODULE.parents[1] / "GaussianMRIGrading" / "GaussianMRIGrading.py")
    plane = app.scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "plane")
    watch = slicer.modules.GaussianMRIGradingInstance.watch
    assert watch._watcher is not None
    app.scene.RemoveNode(plane)
    watch.stop()


# ---- fit and preview


def test_apply_fits_and_a_slice_view_follows_the_plane(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert panel.ui.applyButton.enabled and not panel.ui.resampleButton.enabled
    fitted(app, panel, monkeypatch)
    plane = panel._parameterNode.plane
    assert plane is not None and plane.GetIsPlaneValid()
    assert len(previews(panel)) == 1
    preview = previews(panel)[0]
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    assert composite_of(view).GetBackgroundVolumeID() == preview.volume.GetID()
    plane.SetCenter(*np.add(POINT, [0.4, 0, 0.3]))
    app.wait(
        1, until=lambda: np.allclose(as_array(view.GetSliceToRAS())[:3, 3], plane.GetCenter(), atol=1e-6)
    )
    np.testing.assert_allclose(as_array(view.GetSliceToRAS())[:3, 3], plane.GetCenter(), atol=1e-6)
    assert "lies outside the scan" in panel.ui.previewLabel.text
    assert "dB PSNR" in panel.ui.statusLabel.text or "Gaussians" in panel.ui.statusLabel.text
    assert not app.messages


def test_the_preview_shows_the_point_where_it_was_put(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logic = slicer.modules.gaussianmriresampling.widgetRepresentation().self().logic
    assert logic is panel.logic
    field = logic.fit([scan])
    panel._parameterNode.plane = oblique_plane_node(slicer.mrmlScene)
    panel._parameterNode.spacing = 0.5
    panel._parameterNode.field = field
    volume = previews(panel)[0].volume
    column, row = centre_of_brightness(slicer.util.arrayFromVolume(volume)[0])
    stored = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(stored)
    matrix = as_array(stored)
    found = matrix[:3, 0] * column + matrix[:3, 1] * row + matrix[:3, 3]
    # The volume is as deep as the scan; the point is on the plane.
    normal = np.array(panel._parameterNode.plane.GetNormal())
    off = found - POINT
    assert np.linalg.norm(off - (off @ normal) * normal) < 0.1


def test_preview_off_gives_the_view_back(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    composite_of(view).SetBackgroundVolumeID(scan.GetID())
    fitted(app, panel, monkeypatch)
    assert nodes_of_previews()
    panel.ui.previewCheckBox.checked = False
    assert not nodes_of_previews()
    assert composite_of(view).GetBackgroundVolumeID() == scan.GetID()
    panel.ui.previewCheckBox.checked = True
    assert len(nodes_of_previews()) == 1


def test_three_views_side_by_side_and_back(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    layout = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    before = layout.GetViewArrangement()
    panel.ui.compareCheckBox.checked = True
    assert len(previews(panel)) == 3 and layout.GetViewArrangement() != before
    shown = {
        composite_of(slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")).GetBackgroundVolumeID()
        for name in ("Red", "Yellow", "Green")
    }
    assert shown == {preview.volume.GetID() for preview in previews(panel)}
    images = [slicer.util.arrayFromVolume(preview.volume) for preview in previews(panel)]
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[1], images[2])
    panel.ui.compareCheckBox.checked = False
    assert len(previews(panel)) == 1 and layout.GetViewArrangement() == before


def test_overlay_and_its_opacity(app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(app, panel, monkeypatch)
    panel.ui.overlaySelector.currentText = "Distance to the nearest slice"
    preview = previews(panel)[0]
    composite = composite_of(slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed"))
    assert composite.GetForegroundVolumeID() == preview.overlay_volume.GetID()
    shown = slicer.util.arrayFromVolume(preview.overlay_volume)
    assert 0 < shown.max() <= 1.6  # half of 3 mm and rounding
    panel.ui.overlayOpacitySlider.value = 0.75
    assert composite.GetForegroundOpacity() == 0.75 and previews(panel)[0] is preview


# ---- what goes wrong


def test_cancel_leaves_the_scene_as_it_was(app: Any, panel: Any, scan: Any) -> None:
    before = app.ids()
    panel.ui.applyButton.click()
    assert panel.fitController.running and panel.ui.cancelButton.enabled
    app.wait(5, until=lambda: bool(panel.ui.statusLabel.text))  # a scan as small is fitted within moments
    assert panel.ui.statusLabel.text
    panel.ui.cancelButton.click()
    assert not panel.fitController.running
    app.wait(0.2)
    assert app.ids() == before and panel.ui.applyButton.enabled
    assert not panel.ui.fitButtons.visible and not app.messages


def test_finish_now_keeps_the_field_as_it_stands(app: Any, panel: Any, scan: Any) -> None:
    panel.ui.presetSelector.currentText = "As published (minutes to hours)"
    panel.ui.applyButton.click()
    app.wait(
        60,
        until=lambda: (
            panel.fitController._job.progress is not None
            and panel.fitController._job.progress.loss is not None
        ),
    )
    panel.ui.finishButton.click()
    app.wait(60, until=lambda: not panel.fitController.running)
    assert mrml.is_field(panel._parameterNode.field)


def test_the_volume_is_deleted_while_it_is_fitted(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(panel, monkeypatch)
    panel.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(scan)
    app.wait(60, until=lambda: not panel.fitController.running)
    assert panel._parameterNode.field is None
    assert "removed" in panel.ui.statusLabel.text and not panel.ui.applyButton.enabled


def test_the_volume_changes_while_it_is_fitted(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(panel, monkeypatch)
    panel.ui.applyButton.click()
    put_under_warp(app.scene, scan)
    app.wait(60, until=lambda: not panel.fitController.running)
    field = panel._parameterNode.field
    assert mrml.is_field(field) and not app.messages
    assert changes_since_fit(field) == ["'scan' was changed"]
    scan.SetAndObserveTransformNodeID(None)
    assert changes_since_fit(field) == []
    pixels = slicer.util.arrayFromVolume(scan)

    import qt

    def change() -> None:
        pixels[2, 3, 4] += 1
        slicer.util.arrayFromVolumeModified(scan)

    qt.QTimer.singleShot(0, change)
    assert changes_since_fit(panel.logic.fit([scan])) == ["'scan' was changed"]


def test_the_scene_is_closed_while_a_fit_runs(app: Any, panel: Any, scan: Any) -> None:
    panel.ui.applyButton.click()
    app.wait(0.1)
    app.close_scene()
    assert not panel.fitController.running
    app.wait(0.3)
    assert not any(mrml.is_field(node) for node in app.nodes()) and panel._parameterNode is not None


def test_the_plane_is_deleted_while_it_is_followed(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    slicer.mrmlScene.RemoveNode(panel._parameterNode.plane)
    app.wait(0.1)
    assert not previews(panel) and not nodes_of_previews()
    panel._parameterNode.plane = oblique_plane_node(slicer.mrmlScene)
    assert len(previews(panel)) == 1


def test_the_field_is_deleted_while_its_plane_is_followed(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slicer.mrmlScene.RemoveNode(fitted(app, panel, monkeypatch))
    app.wait(0.1)
    assert not previews(panel) and not nodes_of_previews()
    assert not panel.ui.resampleButton.enabled


def test_bad_input_is_told_and_changes_nothing(app: Any, panel: Any, scan: Any) -> None:
    slicer.util.updateVolumeFromArray(scan, np.zeros((4, 8, 8), np.float32))
    before = app.ids()
    with pytest.raises(Exception, match="nothing to fit"):
        panel.onApply()
    assert app.ids() == before and len(app.messages) == 1
    assert not panel.fitController.running


def test_declined_packages_leave_the_scene_unchanged(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from GaussianMRILib.mrml import dependencies

    monkeypatch.setattr(dependencies, "_torch_version", lambda: (0,))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    before = app.ids()
    with pytest.raises(Exception, match="PyTorch"):
        panel.onApply()
    assert app.ids() == before and "Extensions Manager" in app.messages[-1].text


# ---- save, reload, undo, other modules


def test_a_saved_scene_comes_back_with_its_field_plane_and_preview(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fitted(app, panel, monkeypatch)
    panel._parameterNode.spacing = 0.8
    panel.ui.resampleButton.click()
    result = slicer.util.arrayFromVolume(panel._results[0]).copy()
    image = slicer.util.arrayFromVolume(previews(panel)[0].volume).copy()
    name = panel._results[0].GetName()
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    assert not previews(panel) and not panel.ui.resampleButton.enabled
    app.load(tmp_path / "scene.mrb")
    app.wait(0.1)
    assert panel._parameterNode.spacing == 0.8
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.util.getNode(name)), result)
    assert len(previews(panel)) == 1
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(previews(panel)[0].volume), image)


def test_undo_while_previewing(app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(app, panel, monkeypatch)
    slicer.mrmlScene.SetUndoOn()
    panel.ui.splineCheckBox.checked = True
    panel.ui.resampleButton.click()
    names = [node.GetName() for node in panel._results]
    assert len(names) == 2
    slicer.mrmlScene.Undo()
    app.wait(0.1)
    assert not any(slicer.mrmlScene.GetFirstNodeByName(name) for name in names)
    panel.updateButtons()
    assert not panel.ui.exportButton.enabled
    slicer.mrmlScene.SetUndoOff()


def test_leaving_and_returning_to_the_module(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    composite_of(view).SetBackgroundVolumeID(scan.GetID())
    before = as_array(view.GetSliceToRAS()), tuple(view.GetFieldOfView())
    fitted(app, panel, monkeypatch)
    plane = panel._parameterNode.plane
    representation = slicer.modules.gaussianmriresampling.widgetRepresentation()
    representation.exit()
    assert not nodes_of_previews() and composite_of(view).GetBackgroundVolumeID() == scan.GetID()
    np.testing.assert_array_equal(as_array(view.GetSliceToRAS()), before[0])
    assert tuple(view.GetFieldOfView()) == before[1]
    plane.SetCenter(*POINT)  # as from the Markups module
    app.wait(0.1)
    np.testing.assert_array_equal(as_array(view.GetSliceToRAS()), before[0])
    representation.enter()
    assert len(previews(panel)) == 1
    np.testing.assert_allclose(as_array(view.GetSliceToRAS())[:3, 3], POINT, atol=1e-6)
    panel.cleanup()
    assert not nodes_of_previews()


OTHER_MODULE = """
import slicer, qt
from slicer.ScriptedLoadableModule import *
class Other(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Other"
        parent.categories = ["Tests"]
class OtherWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
"""


def test_another_module_is_opened_while_a_fit_runs(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Other.py").write_text(OTHER_MODULE)
    app.load_module(tmp_path / "Other.py")
    quick(panel, monkeypatch)
    panel.ui.applyButton.click()
    app.select("Other")
    app.wait(60, until=lambda: not panel.fitController.running)
    assert not previews(panel)  # the views are the other module's
    app.select(MODULE.stem)
    assert mrml.is_field(panel._parameterNode.field) and len(previews(panel)) == 1
    app.select("Other")
    app.close_scene()
    assert panel._parameterNode is None and not previews(panel)
    app.select(MODULE.stem)
    assert panel._parameterNode is not None and not panel.ui.applyButton.enabled


@pytest.mark.slow
def test_the_modules_own_self_test(app: Any, panel: Any) -> None:
    sys.modules["GaussianMRIResampling"].GaussianMRIResamplingTest().runTest()
