"""The Gaussian MRI Cinematic module as a user works with it, on real MRML and with the real panel file."""

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
from mrml_scenes import plane_node, volume_node
from test_mrml_cinematic import coloured

from GaussianMRILib.mrml.cinematic_clips import clip_of_node

MODULE = (
    Path(__file__).resolve().parents[2] / "GaussianMRI" / "GaussianMRICinematic" / "GaussianMRICinematic.py"
)


@pytest.fixture
def panel(app: Any) -> Any:
    """The module's widget, opened."""
    app.load_module(MODULE)
    return app.select(MODULE.stem)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A red ball above a blue one."""
    from GaussianMRILib.cinematic import save_model

    return save_model(tmp_path / "balls.ply", coloured({"red": (0.0, 0.0, 20.0), "blue": (0.0, 0.0, -20.0)}))


def from_the_front() -> None:
    camera = slicer.app.layoutManager().threeDWidget(0).threeDView().cameraNode().GetCamera()
    camera.SetPosition(0, 300, 0)
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)


def cameras() -> list[tuple[float, ...]]:
    """Where the cameras of all 3D views stand, shown or not."""
    manager = slicer.app.layoutManager()
    views = [manager.threeDWidget(n).threeDView() for n in range(manager.threeDViewCount)]
    return [view.cameraNode().GetCamera().GetPosition() for view in views]


def shown(renderer: Any) -> bool:
    return bool(renderer.GetTexturedBackground())


def head(scene: Any) -> Any:
    """A small volume: a bright ball with a denser one in it, 24 x 24 x 24 voxels of 4 mm."""
    k, j, i = np.indices((24, 24, 24)) - 11.5
    away = np.sqrt(i**2 + j**2 + k**2)
    pixels = np.where(away < 5, 900.0, np.where(away < 10, 300.0, -1000.0)).astype(np.float32)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -46
    return volume_node(scene, pixels, affine, "head")


def test_opening_the_panel_needs_no_torch(panel: Any) -> None:
    assert panel.ui.lookSelector.count > 2 and not panel.ui.applyButton.enabled
    names = panel.logic.lookNames()
    assert panel._parameterNode.look in names


def test_every_parameter_of_the_panel_has_a_widget(panel: Any) -> None:
    connected = {w.property("SlicerParameterName") for w in vars(panel.ui).values()} - {None, ""}
    assert connected == set(panel._parameterNode.allParameters) - {"look", "folder", "modelPath", "morePlanes"}


def test_a_model_is_shown_and_cut_by_the_plane_that_is_dragged(app: Any, panel: Any, model: Path) -> None:
    from_the_front()
    plane = plane_node(app.scene, (0, 0, 60), (1, 0, 0), (0, 1, 0))
    panel._parameterNode.plane = plane
    panel._parameterNode.modelPath = str(model)
    assert panel._view is not None and panel.ui.snapshotButton.enabled
    assert panel._view.picture()[..., 0].max() > 200
    plane.SetCenter(0, 0, 0)
    app.process()
    panel._view.refresh()
    assert panel._view.picture()[..., 0].max() < 60 < 200 < panel._view.picture()[..., 2].max()
    panel.ui.flipCheckBox.checked = True
    panel._view.refresh()
    assert panel._view.picture()[..., 2].max() < 60
    assert "splats" in panel.ui.viewLabel.text
    panel.ui.snapshotButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode")) == 1
    panel.ui.showCheckBox.checked = False
    assert panel._view is None and not panel.ui.snapshotButton.enabled


def test_a_model_without_a_plane_gets_one(app: Any, panel: Any, model: Path) -> None:
    panel._parameterNode.modelPath = str(model)
    plane = panel._parameterNode.plane
    assert plane is not None and plane.GetDisplayNode().GetHandlesInteractive()
    np.testing.assert_allclose(plane.GetCenter(), (0, 0, 0), atol=1e-6)
    assert panel._view.plane_node is plane


def test_a_saved_scene_shows_its_model_again(app: Any, panel: Any, model: Path, tmp_path: Path) -> None:
    panel._parameterNode.modelPath = str(model)
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    assert panel._view is None
    app.load(tmp_path / "scene.mrb")
    app.process()
    assert panel._parameterNode.modelPath == str(model) and panel._view is not None


def test_a_missing_or_damaged_model_is_told(app: Any, panel: Any, model: Path, tmp_path: Path) -> None:
    panel._parameterNode.modelPath = str(tmp_path / "none.ply")
    assert "There is no model" in panel.ui.viewLabel.text and panel._view is None
    model.write_bytes(model.read_bytes()[:-20])
    panel._parameterNode.modelPath = str(model)
    assert panel._view is None and panel.ui.viewLabel.text


def test_the_plane_is_deleted_while_it_cuts(app: Any, panel: Any, model: Path) -> None:
    panel._parameterNode.modelPath = str(model)
    app.scene.RemoveNode(panel._parameterNode.plane)
    app.process()
    panel._view.refresh()
    assert panel._view.picture()[..., 0].max() > 200


def test_start_makes_a_model_in_the_background_and_shows_it(app: Any, panel: Any, tmp_path: Path) -> None:
    volume = head(app.scene)
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.look = volume, "CT bone"
    parameters.folder = str(tmp_path / "work")
    parameters.frames, parameters.size = 12, 64
    make = panel.logic.modelJob
    panel.logic.modelJob = lambda *a, **k: make(*a, **k, iterations=40)
    panel.ui.applyButton.click()
    assert panel.jobController.running and panel.ui.cancelButton.enabled
    seen = set()
    app.wait(300, until=lambda: seen.add(panel.ui.statusLabel.text) or not panel.jobController.running)
    assert not app.messages, app.messages
    assert len(seen) > 2
    assert parameters.modelPath.endswith("model.ply") and Path(parameters.modelPath).is_file()
    assert panel._view is not None and panel._view.picture().max() > 0


@pytest.mark.slow
def test_cancel_ends_the_process_and_start_goes_on(app: Any, panel: Any, tmp_path: Path) -> None:
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.look = head(app.scene), "CT bone"
    parameters.folder = str(tmp_path / "work")
    parameters.frames, parameters.size = 400, 64
    panel.ui.applyButton.click()
    process = panel.jobController._job._process
    pictures = tmp_path / "work"
    app.wait(120, until=lambda: len(list(pictures.rglob("*.png"))) > 3)
    panel.ui.cancelButton.click()
    assert process.poll() is not None and not panel.jobController.running
    kept = len(list(pictures.rglob("*.png")))
    assert "goes on" in panel.ui.statusLabel.text and panel.ui.applyButton.enabled
    panel.ui.applyButton.click()
    app.wait(120, until=lambda: len(list(pictures.rglob("*.png"))) > kept + 2)
    panel.cleanup()
    assert not panel.jobController.running


def test_a_job_that_fails_says_why(app: Any, panel: Any, tmp_path: Path) -> None:
    volume = head(app.scene)
    slicer.util.updateVolumeFromArray(volume, np.full((8, 8, 8), -1000.0, np.float32))
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.look, parameters.folder = volume, "CT bone", str(tmp_path / "work")
    panel.ui.applyButton.click()
    app.wait(120, until=lambda: not panel.jobController.running)
    assert len(app.messages) == 1 and "nothing" in app.messages[0].text
    assert parameters.modelPath == ""


def test_the_look_of_volume_rendering_needs_a_display(app: Any, panel: Any, tmp_path: Path) -> None:
    parameters = panel._parameterNode
    parameters.inputVolume, parameters.look = head(app.scene), "Volume Rendering"
    parameters.folder = str(tmp_path / "work")
    with pytest.raises(ValueError, match="no look"):
        panel.onApply()
    assert not panel.jobController.running and len(app.messages) == 1


def test_a_volume_is_shown_at_once_without_a_model(app: Any, panel: Any) -> None:
    from_the_front()
    parameters = panel._parameterNode
    parameters.samples, parameters.pixels = 4, 100
    parameters.inputVolume = head(app.scene)
    app.wait(30, until=lambda: panel._view is not None)
    assert panel._view.model is None and panel._view.picture().max() > 60
    app.wait(120, until=lambda: "4 of 4 paths" in panel.ui.viewLabel.text)
    assert panel.ui.snapshotButton.enabled and panel.ui.addPlaneButton.enabled
    whole = panel._view.picture()
    # A denser look: the soft part of the ball is hidden. The same view goes on.
    view = panel._view
    panel.ui.lookSelector.setCurrentText("CT soft tissue")
    assert panel._view is view
    app.wait(120, until=lambda: "4 of 4 paths" in panel.ui.viewLabel.text)
    assert np.abs(view.picture().astype(float) - whole).mean() > 2
    panel.ui.addPlaneButton.click()
    np.testing.assert_allclose(parameters.plane.GetCenter(), (0, 0, 0), atol=4)
    panel.ui.addPlaneButton.click()
    assert len(parameters.morePlanes) == 1 and len(panel._view._clips()) == 2
    away = 200 if clip_of_node(parameters.plane).normal[1] < 0 else -200
    parameters.plane.SetCenter(0, away, 0)  # all of the ball lies on the side that goes
    panel._view.refresh()
    assert "nothing is left" in panel.ui.viewLabel.text
    parameters.flip = True
    panel._view.refresh()
    assert "nothing is left" not in panel.ui.viewLabel.text
    parameters.flip = False
    panel.ui.clipTypeSelector.setCurrentText(panel.ui.clipTypeSelector.itemText(1))
    assert parameters.clipType.name == "intersection" and [clip.joint for clip in panel._view._clips()] == [True, True]
    assert "nothing is left" not in panel.ui.viewLabel.text  # the first plane cuts all, but only where the second does, too
    node = app.scene.AddNewNodeByClass("vtkMRMLClipNode", "clip")
    node.AddAndObserveClippingNodeID(plane_node(app.scene, (0, 0, 100), (1, 0, 0), (0, 1, 0)).GetID())
    panel.ui.clipNodeSelector.setCurrentNode(node)
    assert panel._view.clip_node is node and len(panel._view._clips()) == 3
    panel._view.refresh()
    assert "nothing is left" in panel.ui.viewLabel.text  # the clip node keeps what is above 100 mm
    panel.ui.clipNodeSelector.setCurrentNode(None)
    panel.ui.showCheckBox.checked = False
    assert panel._view is None and not panel.ui.addPlaneButton.enabled and not panel._timer.active


def test_a_look_of_another_modality_is_said_and_the_table_left_out(app: Any, panel: Any) -> None:
    from_the_front()
    parameters = panel._parameterNode
    parameters.samples, parameters.pixels = 1, 64
    volume = head(app.scene)
    pixels = np.array(slicer.util.arrayFromVolume(volume))
    pixels[:, 23, :] = 400  # a plate below the head, one voxel thick
    slicer.util.updateVolumeFromArray(volume, pixels)
    parameters.inputVolume = volume
    app.wait(60, until=lambda: "1 of 1 paths" in panel.ui.viewLabel.text)
    assert "made for" not in panel.ui.viewLabel.text
    radius = panel._view.live.radius
    panel.ui.bodyOnlyCheckBox.checked = True
    app.wait(60, until=lambda: panel._view.live.radius < 0.9 * radius)
    panel.ui.lookSelector.setCurrentText("MR head")
    app.wait(60, until=lambda: "made for MR" in panel.ui.viewLabel.text)
    panel.ui.lookSelector.setCurrentText("CT bone")
    app.wait(60, until=lambda: "made for" not in panel.ui.viewLabel.text)


def test_what_changes_in_the_scene_changes_the_picture(app: Any, panel: Any) -> None:
    from_the_front()
    parameters = panel._parameterNode
    parameters.samples, parameters.pixels = 2, 80
    volume = head(app.scene)
    parameters.inputVolume = volume
    app.wait(60, until=lambda: "2 of 2 paths" in panel.ui.viewLabel.text)
    first = panel._view.live
    slicer.util.updateVolumeFromArray(volume, np.full((24, 24, 24), 700.0, np.float32))
    app.wait(60, until=lambda: "one value" in panel.ui.viewLabel.text)
    pixels = np.full((24, 24, 24), -1000.0, np.float32)
    pixels[12:] = 700
    slicer.util.updateVolumeFromArray(volume, pixels)
    app.wait(60, until=lambda: "2 of 2 paths" in panel.ui.viewLabel.text)
    assert panel._view.live is not first
    picture = panel._view.picture().sum(-1) > 60
    assert picture[: len(picture) // 2 - 2].any() and not picture[len(picture) // 2 + 6 :].any()
    app.scene.RemoveNode(volume)
    app.process()
    assert panel._view is None and not panel._timer.active


def test_a_volume_that_cannot_be_shown_is_told(app: Any, panel: Any) -> None:
    slicer.util.updateVolumeFromArray(volume := head(app.scene), np.full((8, 8, 8), 5.0, np.float32))
    panel._parameterNode.inputVolume = volume
    app.wait(30, until=lambda: "one value only" in panel.ui.viewLabel.text)
    assert panel._view is None and not app.messages


def test_the_view_is_given_back_on_leaving_the_module_and_with_the_scene(app: Any, panel: Any) -> None:
    from_the_front()
    before = app.pixels("3D").copy()
    panel._parameterNode.inputVolume = head(app.scene)
    app.wait(30, until=lambda: panel._view is not None)
    job = panel._view._job
    assert np.abs(app.pixels("3D").astype(float) - before).max() > 60
    panel.exit()
    np.testing.assert_allclose(app.pixels("3D"), before, atol=2)
    assert job.wait(5) and not panel._timer.active
    panel.enter()
    job = panel._view._job
    app.close_scene()
    assert panel._view is None and job.wait(5)


def test_the_picture_is_in_a_view_that_the_layout_shows(app: Any, panel: Any, model: Path) -> None:
    """Views of other layouts stay, and have no order. The picture goes along when its view leaves."""
    manager, layouts = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    manager.setLayout(layouts.SlicerLayoutDual3DView)
    manager.setLayout(layouts.SlicerLayoutFourUpView)
    first, second = (
        manager.viewWidget(node).threeDView().renderWindow().GetRenderers().GetFirstRenderer()
        for node in slicer.util.getNodesByClass("vtkMRMLViewNode")
    )
    hidden = cameras()[0]  # of the view that is not shown
    panel._parameterNode.inputVolume, panel._parameterNode.modelPath = head(app.scene), str(model)
    assert shown(first) and not shown(second) and cameras()[0] == hidden
    manager.setLayout(layouts.SlicerLayoutOneUpRedSliceView)
    assert panel._view is None and not shown(first) and "no 3D view" in panel.ui.viewLabel.text
    panel._parameterNode.pixels = 100  # whatever changes meanwhile
    assert panel._view is None and not app.messages
    manager.setLayout(layouts.SlicerLayoutDual3DView)
    assert shown(first) and not shown(second) and "no 3D view" not in panel.ui.viewLabel.text
    view = panel._view
    manager.setLayout(layouts.SlicerLayoutOneUp3DView)
    assert panel._view is view  # it is still shown
    panel.exit()
    assert not shown(first) and cameras()[0] == hidden


def test_without_a_main_window_the_panel_says_what_is_missing(
    app: Any, panel: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """slicer.app.layoutManager() is then None."""
    with monkeypatch.context() as without:
        without.setattr(app, "layout_manager", None)
        panel._parameterNode.inputVolume, panel._parameterNode.modelPath = head(app.scene), str(model)
        assert panel._view is None and "no 3D view" in panel.ui.viewLabel.text and not app.messages
        panel.exit()
        panel.cleanup()


def test_splats_move_and_the_volume_s_own_light_rests(app: Any, panel: Any, model: Path) -> None:
    from_the_front()
    parameters = panel._parameterNode
    parameters.samples, parameters.pixels = 8, 100
    parameters.plane = plane_node(app.scene, (0, 0, 200), (1, 0, 0), (0, 1, 0))
    parameters.inputVolume, parameters.modelPath = head(app.scene), str(model)
    app.wait(30, until=lambda: panel._view is not None and panel._view.live is not None)
    view = panel._view
    assert view.model is not None and view.live.model is view.model
    view.refresh()
    moving = view.picture().astype(float)
    assert (moving[..., 0] - moving[..., 1]).max() > 150  # the red ball
    app.wait(120, until=lambda: "8 of 8 paths" in panel.ui.viewLabel.text)
    assert "splats" in panel.ui.viewLabel.text
    resting = view.picture().astype(float)
    assert (resting[..., 0] - resting[..., 1]).max() < 125  # bone
    other = head(app.scene)
    matrix = slicer.util.arrayFromVTKMatrix(transform_of(other, 900.0))
    assert matrix[0, 3] == 900.0
    parameters.inputVolume = other
    app.wait(30, until=lambda: "another place" in panel.ui.viewLabel.text)
    assert panel._view is not None and panel._view.live is None
    assert panel._view.picture()[..., 0].max() > 200  # the model alone


def transform_of(node: Any, right: float) -> Any:
    """Move a node to the right by a transform, whose matrix is returned."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, right)
    transform = node.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return matrix


@pytest.mark.slow
def test_the_modules_own_self_test(app: Any, panel: Any) -> None:
    sys.modules["GaussianMRICinematic"].GaussianMRICinematicTest().runTest()
