"""What a user does around the panels: other scenes, other volumes, other modules, the mouse wheel."""

from __future__ import annotations

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
from extension_index import MODULES
from module_panel import MODULE, fitted, nodes_of_previews, previews, quick
from mrml_scenes import bright_point, oblique_plane_node

from GaussianMRILib import mrml
from GaussianMRILib.mrml.planes import frame_of
from GaussianMRILib.mrml.scene import as_array
from GaussianMRILib.mrml.views import composite_of, facing, right_handed


def red() -> Any:
    return slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")


def opened(app: Any, name: str) -> Any:
    app.load_module(MODULE.parents[1] / name / f"{name}.py")
    return app.select(name)


def shows_its_plane(app: Any, panel: Any) -> None:
    """View, plane, image and label agree."""
    app.wait(0.05)
    (preview,) = previews(panel)
    plane = mrml.plane_from_node(panel._parameterNode.plane, spacing=preview.facts.spacing)
    np.testing.assert_allclose(right_handed(as_array(red().GetSliceToRAS())), facing(plane), atol=1e-6)
    image = mrml.field_from_model(panel._parameterNode.field).render(plane)
    shown = slicer.util.arrayFromVolume(preview.volume)[0]
    inside = np.isfinite(image)
    np.testing.assert_allclose(shown[inside], image[inside], rtol=1e-4, atol=1e-2)
    assert f"{1 - inside.mean():.0%}" in panel.ui.previewLabel.text or not inside.any()
    pixels = app.pixels("Red").astype(float)
    assert (pixels.max() > 40) == bool(image[inside].max(initial=0) > 60)  # black only where the image is


# ---- other scenes


def test_a_scene_is_loaded_into_a_used_one(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In Slicer 5.12.3 five of five ended in a segmentation fault; here the lists of nodes refuse to be touched."""
    fitted(app, panel, monkeypatch)
    app.save(tmp_path / "scene.mrb")
    image = slicer.util.arrayFromVolume(previews(panel)[0].volume).copy()
    app.close_scene()
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)  # Add Data
    app.wait(0.1)
    assert len(previews(panel)) == 1 and mrml.is_field(panel._parameterNode.field)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(previews(panel)[0].volume), image)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)  # once more, over what is there
    app.wait(0.1)
    assert len(previews(panel)) == 1
    panel._parameterNode.spacing = 0.9
    assert panel.ui.spacingSpinBox.value == 0.9


@pytest.mark.parametrize("name", MODULES)
def test_parameters_that_change_while_the_scene_is_filled_touch_no_list(app: Any, name: str) -> None:
    panel = opened(app, name)
    bright_point(app.scene)
    for state in (app.scene.BatchProcessState, app.scene.ImportState):
        app.scene.StartState(state)
        assert panel._parameterNode is None
        node = bright_point(app.scene)
        parameters = panel.logic.getParameterNode()
        if name == "GaussianMRICinematic":
            parameters.inputVolume = node
        else:
            parameters.inputVolumes = [node]
        app.process()
        app.scene.EndState(state)
        chosen = panel._parameterNode.inputVolume if name == "GaussianMRICinematic" else None
        assert node in ([chosen] if chosen else list(panel.ui.inputSelector.checkedNodes()))
    app.close_scene()
    assert panel._parameterNode is not None


def test_a_fit_that_ends_while_the_scene_is_filled_is_kept_afterwards(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(panel, monkeypatch)
    panel.ui.applyButton.click()
    app.scene.StartState(app.scene.BatchProcessState)
    panel.fitController._job.wait(60)
    app.wait(0.2)
    assert panel.fitController.running and not any(mrml.is_field(node) for node in app.nodes())
    app.scene.EndState(app.scene.BatchProcessState)
    app.wait(60, until=lambda: not panel.fitController.running)
    assert mrml.is_field(panel._parameterNode.field) and len(previews(panel)) == 1


def test_what_is_odd_about_the_volumes_is_said_of_the_scene_that_is_open(
    app: Any, panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes of two scenes often have the same ID, and one scene takes the other's place in one batch."""
    monkeypatch.setattr(panel.logic, "inputWarnings", lambda nodes: " ".join(f"{n.GetName()} is odd." for n in nodes))
    for name in ("A", "B"):
        app.close_scene()
        node = bright_point(app.scene, name=name)
        app.save(tmp_path / f"{name}.mrb")
    panel.initializeParameterNode()
    assert panel.ui.inputWarningLabel.text == "B is odd."
    app.load(tmp_path / "A.mrb")
    assert [n.GetID() for n in panel._parameterNode.inputVolumes] == ["vtkMRMLScalarVolumeNode1"]
    assert panel.ui.inputWarningLabel.text == "A is odd."
    node = slicer.util.getNode("A")
    node.SetName("C")
    panel.onParametersChanged()
    assert panel.ui.inputWarningLabel.text == "C is odd."


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_scene_that_was_saved_side_by_side_opens_with_its_views(app: Any, panel: Any, tmp_path: Path, count: int) -> None:
    from GaussianMRIResamplingLib import sideBySide

    node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    number = sideBySide.FIRST_LAYOUT + count
    node.SetViewArrangement(number)  # as another application left it
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    app.start()
    app.load(tmp_path / "scene.mrb")
    names = [name for name in sideBySide.VIEWS if f'singletontag="{name}"' in node.GetCurrentLayoutDescription()]
    assert node.GetViewArrangement() == number and names == list(sideBySide.VIEWS[:count])


# ---- the view and the plane


def test_wheel_slider_and_orientation_move_the_plane(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    plane = panel._parameterNode.plane
    shows_its_plane(app, panel)
    before, normal = np.array(plane.GetCenterWorld()), np.array(plane.GetNormalWorld())
    app.view("Red").wheel(3)
    shows_its_plane(app, panel)
    moved = np.array(plane.GetCenterWorld()) - before
    assert abs(moved @ normal) == pytest.approx(3.0, abs=1e-6) and np.linalg.norm(moved) == pytest.approx(3.0, abs=1e-6)
    logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    bounds = [0.0] * 6
    logic.GetSliceBounds(bounds)  # the slider's range: as far as there are slices, wherever the plane is
    assert bounds[5] - bounds[4] > 25
    for step in (-2.5, 5.0):
        logic.SetSliceOffset(logic.GetSliceOffset() + step)
        shows_its_plane(app, panel)
    after = [0.0] * 6
    logic.GetSliceBounds(after)
    np.testing.assert_allclose(after[4:], bounds[4:], atol=1e-3)
    for orientation in ("Coronal", "Sagittal", "Axial"):
        red().SetOrientation(orientation)
        shows_its_plane(app, panel)
        axis = {"Axial": 2, "Coronal": 1, "Sagittal": 0}[orientation]
        assert abs(plane.GetNormalWorld()[axis]) == pytest.approx(1, abs=1e-6)
        assert red().GetOrientation() == orientation  # as the view's menu says
    plane.SetCenterWorld(*(before + 1))
    shows_its_plane(app, panel)


def test_views_that_tell_of_one_move_twice_move_the_plane_once(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linked views get each other's slice; each of three previews hears of it."""
    fitted(app, panel, monkeypatch)
    panel.ui.compareCheckBox.checked = True
    before = frame_of(panel._parameterNode.plane)
    matrix = as_array(red().GetSliceToRAS())
    matrix[:3, 3] += 2.0 * matrix[:3, 2]
    for name in ("Red", "Yellow", "Green"):
        node = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        node.GetSliceToRAS().DeepCopy(matrix.ravel().tolist())
        node.UpdateMatrices()
    app.wait(0.3)
    moved = frame_of(panel._parameterNode.plane)[:3, 3] - before[:3, 3]
    assert np.linalg.norm(moved) == pytest.approx(2.0, abs=1e-6)


def test_a_locked_plane_stays_and_the_view_comes_back(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    plane = panel._parameterNode.plane
    plane.SetLocked(True)
    before = frame_of(plane)
    app.view("Red").wheel(4)
    shows_its_plane(app, panel)
    np.testing.assert_allclose(frame_of(plane), before, atol=1e-9)


def test_another_volume_that_is_chosen_for_the_view_is_shown(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    composite_of(red()).SetBackgroundVolumeID(scan.GetID())
    before = as_array(red().GetSliceToRAS())
    fitted(app, panel, monkeypatch)
    other = bright_point(app.scene, name="other")
    composite_of(red()).SetBackgroundVolumeID(other.GetID())
    app.wait(0.1)
    assert not nodes_of_previews() and composite_of(red()).GetBackgroundVolumeID() == other.GetID()
    np.testing.assert_allclose(as_array(red().GetSliceToRAS()), before)
    assert not panel.ui.previewCheckBox.checked and "Another volume was chosen" in panel.ui.previewLabel.text
    panel.ui.previewCheckBox.checked = True
    assert len(previews(panel)) == 1
    app.wait(0.05)
    panel.exit()
    assert composite_of(red()).GetBackgroundVolumeID() == other.GetID()


def test_the_plane_is_an_outline_while_it_is_followed(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    display = panel._parameterNode.plane.GetDisplayNode()
    assert not display.GetFillVisibility() and display.GetOutlineVisibility()
    panel.ui.previewCheckBox.checked = False
    assert display.GetFillVisibility()


def test_changes_that_arrive_while_views_are_arranged_are_not_lost(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    other = oblique_plane_node(slicer.mrmlScene)
    import qt

    qt.QTimer.singleShot(0, lambda: setattr(panel._parameterNode, "plane", other))
    panel.ui.compareCheckBox.checked = True  # handles events while the layout changes
    app.wait(0.3)
    assert {preview._plane for preview in previews(panel)} == {other} and len(previews(panel)) == 3


def test_a_preview_that_fails_ends_and_says_why(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(previews(panel)[0]._renderer), "render_many", fail)
    for shift in range(5):
        panel._parameterNode.plane.SetCenterWorld(0, 0, shift)
        app.wait(0.05)
    assert len(calls) == 1 and not nodes_of_previews() and "out of memory" in panel.ui.previewLabel.text


# ---- what is offered, kept and said


def test_the_first_volume_offered_is_the_one_in_the_red_view(app: Any) -> None:
    hidden, first, shown = (bright_point(app.scene, name=name) for name in ("hidden", "first", "shown"))
    hidden.SetHideFromEditors(True)
    composite_of(red()).SetBackgroundVolumeID(shown.GetID())
    panel = opened(app, MODULES[0])
    assert list(panel._parameterNode.inputVolumes) == [shown]
    panel._parameterNode.inputVolumes = []
    composite_of(red()).SetBackgroundVolumeID(hidden.GetID())
    panel.initializeParameterNode()
    assert list(panel._parameterNode.inputVolumes) == [first]


def test_the_first_plane_offered_is_one_that_may_be_dragged(app: Any) -> None:
    cinematic = opened(app, "GaussianMRICinematic")
    cut = cinematic.logic.addPlane((0, 0, 0), 100)
    unplaced = app.scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "unplaced")
    hidden, graded, free = (oblique_plane_node(app.scene) for _ in range(3))
    hidden.SetHideFromEditors(True)
    graded.SetAttribute("GaussianMRI.Grades", "{}")
    panel = opened(app, MODULES[0])
    assert panel._parameterNode.plane is free
    app.scene.RemoveNode(free)
    panel._parameterNode.plane = None
    panel.initializeParameterNode()
    assert panel._parameterNode.plane is None and all(node.GetScene() for node in (cut, unplaced, hidden, graded))


def test_a_plane_that_was_not_placed_is_none_after_a_fit(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.choose(panel.ui.planeSelector, "Create new Plane")
    placed = panel._parameterNode.plane
    fitted(app, panel, monkeypatch)  # while the user is about to place it
    assert panel._parameterNode.plane is placed and not previews(panel) and not panel.ui.resampleButton.enabled
    assert panel.ui.outputPlanesHint.text == "None checked: the plane above, once there is one."
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # the user gives it up
    panel.ui.applyButton.click()
    app.wait(60, until=lambda: not panel.fitController.running)
    assert panel._parameterNode.plane.GetIsPlaneValid() and len(previews(panel)) == 1
    assert panel.ui.resampleButton.enabled
    shows_its_plane(app, panel)


def test_repeating_does_not_litter_the_scene(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = fitted(app, panel, monkeypatch)
    panel.ui.resampleButton.click()
    (result,) = panel._results
    panel.ui.outputSelector.setCurrentNode(result)
    panel._parameterNode.spacing = 0.6
    before = app.ids()
    panel.ui.resampleButton.click()
    assert panel._results == [result] and result.GetSpacing()[0] == pytest.approx(0.6)
    panel.ui.applyButton.click()
    app.wait(60, until=lambda: not panel.fitController.running)
    assert panel._parameterNode.field is field
    made = {name for name in app.ids() - before if app.scene.GetNodeByID(name) not in nodes_of_previews()}
    assert not [name for name in made if "VolumeNode" in name or "Model" in name]
    panel.ui.splineCheckBox.checked = True
    assert not panel.ui.outputSelector.enabled  # two images do not go into one volume
    panel.ui.resampleButton.click()
    assert len(panel._results) == 2 and result not in panel._results


def test_the_report_is_in_the_view_at_its_first_press(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(app, panel, monkeypatch)
    panel.ui.reportButton.click()
    view = slicer.app.layoutManager().tableWidget(0)
    assert view.mrmlTableViewNode().GetTableNode() is slicer.util.getNodesByClass("vtkMRMLTableNode")[-1]
    assert view.columnCount == 2 and view.rowCount > 5


def test_dialogs_begin_in_the_scenes_folder(app: Any, panel: Any, tmp_path: Path) -> None:
    oblique_plane_node(slicer.mrmlScene)
    panel.updateButtons()
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    app.answers.append("")
    panel.ui.savePlanesButton.click()
    assert app.messages[-1].detail.endswith(str(tmp_path / "planes.mrk.json"))


def test_after_a_fit_it_says_what_how_well_and_what_next(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert panel.ui.outputPlanesHint.text == "None checked: the plane above, once there is one."
    fitted(app, panel, monkeypatch)
    what, how, then = panel.ui.statusLabel.text.splitlines()
    assert what.startswith("Fitted: scan (") and how.split(":")[0] in ("Good", "Fair", "Weak") and "dB PSNR" in how
    assert then.startswith("Next: move the plane")
    assert panel.ui.outputPlanesHint.text == "None checked: the plane above, Plane."


def test_without_kernels_the_first_line_says_so(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from GaussianMRILib import GaussianMRIError
    from GaussianMRILib.native.support import build

    backend = sys.modules["GaussianMRILib.native.support.backend"]  # the package has a function of that name

    def refuse() -> str:
        raise GaussianMRIError("No C++ compiler was found.")

    monkeypatch.setattr(backend, "_chosen", None)
    monkeypatch.setattr(backend, "library_name", lambda: "none.so")
    monkeypatch.setattr(build, "_compiler", refuse)
    for name, label in zip(MODULES, ("researchLabel", "noticeLabel", "researchLabel"), strict=True):
        panel = opened(app, name)
        first, second = getattr(panel.ui, label).text.splitlines()[:2]
        assert "hundreds of times longer" in first and "No C++ compiler" in first
        assert "Extensions Manager" in first and "diagnosis" in second


def test_menus_have_peoples_words(app: Any) -> None:
    import qt

    for name in MODULES:
        panel = opened(app, name)
        for widget in vars(panel.ui).values():
            if isinstance(widget, qt.QComboBox) and widget.property("SlicerParameterName"):
                items = [widget.itemText(n) for n in range(widget.count)]
                assert all(text[0].isupper() for text in items), items


# ---- folders


def test_folders_are_picked_and_cleared(app: Any, tmp_path: Path) -> None:
    cinematic = opened(app, "GaussianMRICinematic")
    grading = opened(app, "GaussianMRIGrading")
    for panel, name, parameter, kind in (
        (grading, "checkpointEdit", "checkpoints", "Folder"),
        (cinematic, "folderEdit", "folder", "Folder"),
        (cinematic, "modelEdit", "modelPath", "Open"),
    ):
        app.select("GaussianMRICinematic" if panel is cinematic else "GaussianMRIGrading")
        edit = getattr(panel.ui, name)
        path = str(tmp_path / "model.ply") if kind == "Open" else str(tmp_path)
        app.answers.append(path)
        edit.browse()
        assert app.messages[-1].icon == kind and getattr(panel._parameterNode, parameter) == path
        edit.currentPath = ""
        assert getattr(panel._parameterNode, parameter) == ""
        setattr(panel._parameterNode, parameter, path)
        assert edit.currentPath == path
        setattr(panel._parameterNode, parameter, "")
        assert edit.currentPath == ""
    assert "*.ply" in app.messages[-1].detail


# ---- self-tests


@pytest.mark.parametrize("name", MODULES)
def test_without_torch_a_self_test_is_skipped_and_installs_nothing(
    app: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import unittest

    from GaussianMRILib.mrml import dependencies

    opened(app, name)
    monkeypatch.setattr(dependencies, "_torch_version", lambda: (0,))
    monkeypatch.setitem(sys.modules, "torch", None)
    slicer.selfTests[name]()
    assert app.messages[-1].text.startswith("Skipped: not installed: torch")
    case = getattr(sys.modules[name], f"{name}Test")
    done = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    assert len(done.skipped) == 1 and "torch" in done.skipped[0][1] and done.wasSuccessful()
    assert not app.packages.installed and not app.torch.requests
