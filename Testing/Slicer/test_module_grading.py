"""The Gaussian MRI Grading module as a user works with it, on real MRML and with the real panel file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip("monai", reason="needs MONAI, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
import vtk
from grading_scenes import CENTER, LEVEL, axial_planes, graded, images_of, spine, write_study
from mrml_scenes import plane_node

import GaussianMRILib as gm
from GaussianMRILib import mrml
from GaussianMRILib.grading.labels import DISCLAIMER

MODULE = Path(__file__).resolve().parents[2] / "GaussianMRI" / "GaussianMRIGrading" / "GaussianMRIGrading.py"


@pytest.fixture
def panel(app: Any) -> Any:
    """The module's widget, opened, in an application that has started."""
    app.load_module(MODULE)
    app.start()
    yield app.select(MODULE.stem)
    slicer.modules.GaussianMRIGradingInstance.watch.stop()


@pytest.fixture
def scan(app: Any, panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An axial volume from DICOM, left severe and right moderate, chosen in the panel, and the disc's points."""
    database = write_study(tmp_path / "study", 2, 1)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    volume = database.load(app.scene, name="axial")
    panel.initializeParameterNode()
    assert panel._parameterNode.inputVolumes == [volume]
    points = app.scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "disc")
    for y in (17.0, -17.0):
        points.AddControlPoint(vtk.vtkVector3d(*(np.add(CENTER, [0, y, 0]))))
    panel._parameterNode.line = points
    choose(panel, "discSource", "line")
    return volume


def choose(panel: Any, parameter: str, name: str) -> None:
    """Choose an item of a menu by its name for scripts."""
    kind = type(getattr(panel._parameterNode, parameter))
    getattr(panel.ui, f"{parameter}Selector").currentText = kind[name].label()
    assert getattr(panel._parameterNode, parameter).name == name


def finish(app: Any, panel: Any) -> None:
    app.wait(300, until=lambda: not panel.gradeController.running)


def grade(app: Any, panel: Any, checkpoints: Path) -> Any:
    """Press Grade and wait; the plane."""
    panel._parameterNode.checkpoints = str(checkpoints)
    panel.ui.gradeButton.click()
    finish(app, panel)
    assert not app.messages, app.messages
    return panel._parameterNode.gradedPlane


def planes(scene: Any) -> list[Any]:
    return slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode", scene)


def test_every_parameter_of_the_panel_has_a_widget(panel: Any) -> None:
    connected = {w.property("SlicerParameterName") for w in vars(panel.ui).values()} - {None, ""}
    assert connected == set(panel._parameterNode.allParameters) - {"inputVolumes", "checkpoints"}
    assert not panel.ui.gradeButton.enabled and not panel.ui.checkButton.enabled


def test_without_a_checkpoint_it_says_where_one_comes_from_and_grades_nothing(
    app: Any, panel: Any, scan: Any, tmp_path: Path
) -> None:
    ui = panel.ui
    assert "gaussianmri grade train" in ui.checkpointLabel.text
    assert not ui.gradeButton.enabled and "checkpoints" in ui.gradeButton.toolTip
    assert DISCLAIMER in ui.noticeLabel.text and ui.resultLabel.text == "No grade."
    (tmp_path / "empty").mkdir()
    ui.checkpointEdit.currentPath = str(tmp_path / "empty")
    assert "has no checkpoint" in ui.checkpointLabel.text and not ui.gradeButton.enabled
    ui.checkButton.click()  # the region can be looked at all the same
    finish(app, panel)
    assert not app.messages and not planes(app.scene) and panel.logic.table() is None
    assert "aligned with the disc (A)" in ui.statusLabel.text and "0%" in ui.statusLabel.text
    assert ui.pictureLabel.pixmap.width() == panel.PICTURE_WIDTH and ui.resultLabel.text == "No grade."


def test_grade_puts_labels_on_a_plane_and_shows_what_must_be_shown(
    app: Any, panel: Any, scan: Any, checkpoints: Path
) -> None:
    ui = panel.ui
    ui.checkpointEdit.currentPath = str(checkpoints)
    assert "left.pt, right.pt" in ui.checkpointLabel.text and ui.gradeButton.enabled
    ui.gradeButton.click()
    assert panel.gradeController.running and ui.cancelButton.enabled and not ui.gradeButton.enabled
    finish(app, panel)
    assert not app.messages, app.messages
    plane = panel._parameterNode.gradedPlane
    assert graded(mrml.grades_of(plane)) == {"left": "Severe", "right": "Moderate"}
    assert "L5/S1 left subarticular: severe" in plane.GetNthControlPointLabel(0)
    shown = ui.resultLabel.text
    for part in (DISCLAIMER, "SYNTHETIC: nine drawings", "Checkpoint: ", "Input type: A", "Outside the scan: 0%",
                 "not calibrated"):  # fmt: skip
        assert part in shown, part
    for digest in mrml.grades_of(plane)["grades"]:
        assert f"Checkpoint: {digest['checkpoint_sha256'][:16]}..." in shown
        assert digest["checkpoint_sha256"] in ui.resultLabel.toolTip
    assert ui.gradedSelector.currentNode() is plane
    assert ui.tableButton.enabled and ui.cropsButton.enabled and ui.reportButton.enabled
    ui.tableButton.click()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActiveTableID() == panel.logic.table().GetID()
    ui.cropsButton.click()
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == plane.GetNodeReferenceID("GaussianMRI.Crops")


def test_the_same_disc_again_replaces_and_another_input_stays_beside(
    app: Any, panel: Any, scan: Any, checkpoints: Path
) -> None:
    first = grade(app, panel, checkpoints)
    second = grade(app, panel, checkpoints)
    assert first.GetScene() is None and planes(app.scene) == [second]
    assert panel.logic.table().GetNumberOfRows() == 2
    choose(panel, "inputType", "R-VI")
    third = grade(app, panel, checkpoints)
    assert planes(app.scene) == [second, third] and panel.logic.table().GetNumberOfRows() == 4
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 3  # the scan and two sets of crops
    panel.ui.removeButton.click()
    assert planes(app.scene) == [second] and panel.logic.table().GetNumberOfRows() == 2
    assert panel._parameterNode.gradedPlane is None and panel.ui.resultLabel.text == "No grade."


def test_a_scene_that_is_added_keeps_its_grades_when_a_disc_is_graded_again(
    app: Any, panel: Any, scan: Any, checkpoints: Path, tmp_path: Path
) -> None:
    """Its nodes had the same IDs as those that are here."""
    mine = grade(app, panel, checkpoints)
    app.save(tmp_path / "other.mrb")
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "other.mrb"), False)  # Add Data
    app.process()
    (theirs,) = [node for node in planes(app.scene) if node is not mine]
    line = theirs.GetNodeReference("GaussianMRI.GradeOrigin")
    assert line is not mine.GetNodeReference("GaussianMRI.GradeOrigin") and line.GetName() == "disc"
    panel._parameterNode.line = mine.GetNodeReference("GaussianMRI.GradeOrigin")
    panel._parameterNode.inputVolumes = [scan]
    again = grade(app, panel, checkpoints)
    assert planes(app.scene) == [theirs, again] and mine.GetScene() is None
    assert graded(mrml.grades_of(theirs)) == {"left": "Severe", "right": "Moderate"}
    panel._parameterNode.line = line
    panel._parameterNode.inputVolumes = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
                                         if node is theirs.GetNodeReference("GaussianMRI.Source")]  # fmt: skip
    last = grade(app, panel, checkpoints)
    assert planes(app.scene) == [again, last]


def quick_fit(volume: Any, name: str) -> Any:
    """The model node of a fit of a few passes."""
    fitter = gm.Fitter(mrml.stacks_from_volume(volume), passes=2, prior="spline")
    for _ in fitter:
        pass
    return mrml.field_to_model(fitter.field, volumes=[volume], name=name)


def test_a_fit_of_another_volume_is_refused_and_the_record_names_the_fit(
    app: Any, panel: Any, scan: Any, checkpoints: Path
) -> None:
    """The other patient, whose disc is normal, lies in the same place."""
    sane = axial_planes()
    other = mrml.volume_from_images(list(images_of(spine(0, 0), sane) * 1000), sane, scene=app.scene, name="T1 of another")
    fits = {volume: quick_fit(volume, f"{volume.GetName()} field") for volume in (scan, other)}
    choose(panel, "inputType", "R-GS")
    panel._parameterNode.field = fits[scan]
    plane = grade(app, panel, checkpoints)
    assert graded(mrml.grades_of(plane)) == {"left": "Severe", "right": "Moderate"}
    assert mrml.grades_of(plane)["fit"] == {"name": "axial field", "volumes": ["axial"]}
    assert "Planes by the fit 'axial field' of axial." in panel.ui.resultLabel.text
    panel._parameterNode.field = fits[other]
    with pytest.raises(mrml.scene.GaussianMRIError, match=r"'T1 of another field'.* was fitted to 'T1 of another'"):
        panel.onGrade()
    app.messages.clear()
    assert not panel.gradeController.running and planes(app.scene) == [plane]
    panel._parameterNode.field = fits[scan]
    slicer.util.arrayFromVolume(scan)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(scan)
    with pytest.raises(mrml.scene.GaussianMRIError, match="'axial' was changed since the fit of 'axial field'"):
        panel.onGrade()
    app.messages.clear()
    panel._parameterNode.field = fits[other]
    choose(panel, "inputType", "acquired")  # which takes no fit
    assert mrml.grades_of(grade(app, panel, checkpoints))["fit"] is None
    choose(panel, "inputType", "R-GS")
    app.scene.RemoveNode(other)  # then nobody knows what it is a fit of
    with pytest.raises(mrml.scene.GaussianMRIError, match="not in the scene"):
        panel.onGrade()
    app.messages.clear()


def test_a_users_plane_gets_the_labels(app: Any, panel: Any, scan: Any, checkpoints: Path) -> None:
    node = plane_node(app.scene, CENTER, (-1, 0, 0), (0, 1, 0), (100, 50))
    choose(panel, "discSource", "plane")
    assert panel.ui.discPlaneSelector.visible and not panel.ui.lineSelector.visible
    panel._parameterNode.discPlane = node
    assert grade(app, panel, checkpoints) is node and planes(app.scene) == [node]
    np.testing.assert_allclose(node.GetCenter(), CENTER)
    node.SetCenter(np.add(CENTER, [0, 0, 2]))  # moved, and graded where it is now
    assert "STALE" in panel.ui.resultLabel.text
    assert grade(app, panel, checkpoints) is node and "STALE" not in panel.ui.resultLabel.text
    np.testing.assert_allclose(mrml.grades_of(node)["disc"]["frame"][2][3], CENTER[2] + 2, atol=1e-6)
    panel.ui.gradeButton.click()
    node.SetCenter(CENTER)  # moved while it is graded
    finish(app, panel)
    assert mrml.staleness(node) == "the plane was moved" and "STALE" in panel.ui.resultLabel.text


def test_a_segment_is_the_disc(app: Any, panel: Any, scan: Any, checkpoints: Path) -> None:
    from test_mrml_segments import paint, segmentation

    from GaussianMRILib.mrml.scene import as_matrix

    node = segmentation(app.scene)
    # The scene's helper paints around its own centre; a transform brings it to this spine's.
    paint(node, "L5-S1", lambda x: ((x / [25, 17, 5]) ** 2).sum(axis=-1) <= 1)
    found = mrml.disc_from_segment_node(node, "L5-S1", LEVEL)
    shift = np.eye(4)
    shift[:3, 3] = CENTER - found.center
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    transform.SetMatrixTransformToParent(as_matrix(shift))
    node.SetAndObserveTransformNodeID(transform.GetID())
    choose(panel, "discSource", "segment")
    panel.ui.segmentSelector.setCurrentNode(node)
    panel.ui.segmentSelector.setCurrentSegmentID("L5-S1")
    plane = grade(app, panel, checkpoints)
    # The region of an ellipsoid is another than the networks have learned, and what they make of its healthy side depends on
    # how torch trained them; what counts here is that it is this disc's.
    assert np.linalg.norm(np.array(plane.GetCenter()) - CENTER) < 25
    assert abs(np.dot(plane.GetNormal(), found.normal)) > np.cos(np.radians(3))
    grades = graded(mrml.grades_of(plane))
    assert set(grades) == {"left", "right"} and grades["left"] == "Severe"


def test_the_canal_of_a_segmentation(app: Any, panel: Any, scan: Any) -> None:
    from test_mrml_canal import node_of, spine_map, true_area, volume_of

    assert not panel.ui.measureButton.enabled
    labels = spine_map()
    node = node_of(app.scene, labels)
    panel._parameterNode.inputVolumes = [volume_of(app.scene, labels)]
    choose(panel, "discSource", "segment")
    panel.ui.segmentSelector.setCurrentNode(node)
    panel.ui.segmentSelector.setCurrentSegmentID("disc_L4_L5")
    assert panel.ui.measureButton.enabled
    panel.ui.measureButton.click()
    assert not panel.ui.measureButton.enabled and panel.ui.cancelButton.enabled
    app.wait(300, until=lambda: not panel.canalController.running)
    assert not app.messages, app.messages
    (table,) = [t for t in slicer.util.getNodesByClass("vtkMRMLTableNode") if "canal" in t.GetName()]
    area = table.GetTable().GetValueByName(3, "area").ToDouble()
    assert area == pytest.approx(true_area("L4/L5"), rel=0.05)
    assert panel.ui.statusLabel.text.startswith("Canal measured at 5 of 5 discs.") and panel.ui.measureButton.enabled
    panel.ui.measureButton.click()
    panel.ui.cancelButton.click()
    assert not panel.canalController.running and panel.ui.statusLabel.text.startswith("Cancelled")
    node.GetSegmentation().RemoveSegment("spinal_canal")
    panel.ui.measureButton.click()
    app.wait(300, until=lambda: not panel.canalController.running)
    assert "There is no spinal canal in TotalSpineSeg" in str(app.messages.pop())


def test_all_discs_of_a_segmentation_by_one_press(app: Any, panel: Any, checkpoints: Path) -> None:
    from test_mrml_canal import node_of, spine_map
    from test_mrml_study import sagittal_volume

    labels = spine_map()
    node = node_of(app.scene, labels)
    panel._parameterNode.sagittalVolume = sagittal_volume(app.scene, labels, "SAG T2")
    choose(panel, "discSource", "segment")
    panel.ui.segmentSelector.setCurrentNode(node)
    panel.ui.segmentSelector.setCurrentSegmentID("disc_L4_L5")
    assert not panel.ui.gradeAllButton.enabled, "there are no checkpoints yet"
    panel._parameterNode.checkpoints = str(checkpoints)
    assert panel.ui.gradeAllButton.enabled
    panel.ui.gradeAllButton.click()
    assert not panel.ui.gradeAllButton.enabled and panel.ui.cancelButton.enabled
    app.wait(300, until=lambda: not panel.studyController.running)
    assert not app.messages, app.messages
    (table,) = [t for t in slicer.util.getNodesByClass("vtkMRMLTableNode") if "grades" in t.GetName()]
    remarks = {table.GetTable().GetValueByName(row, "remarks").ToString() for row in range(25)}
    assert remarks == {"no network for it", "the study has no axial T2 series"}
    assert panel.ui.statusLabel.text.startswith("0 of 25 graded")


def test_a_moved_plane_is_stale_in_view_panel_and_table(
    app: Any, panel: Any, scan: Any, checkpoints: Path
) -> None:
    plane = grade(app, panel, checkpoints)
    plane.GetDisplayNode().SetTextScale(4.0)
    center = np.array(plane.GetCenter())
    valid = tuple(plane.GetDisplayNode().GetSelectedColor())
    plane.SetCenter(np.add(center, [0, 0, 1]))
    assert panel.ui.resultLabel.text.startswith("STALE: the plane was moved")
    assert panel.ui.resultLabel.styleSheet
    assert plane.GetNthControlPointLabel(0).startswith("STALE")
    assert tuple(plane.GetDisplayNode().GetSelectedColor()) != valid
    table = panel.logic.table()
    column = [table.GetTable().GetColumnName(n) for n in range(table.GetNumberOfColumns())].index("Status")
    assert table.GetCellText(0, column) == "stale: the plane was moved"
    plane.SetCenter(center)
    assert "STALE" not in panel.ui.resultLabel.text and not panel.ui.resultLabel.styleSheet
    pixels = slicer.util.arrayFromVolume(scan)
    pixels[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(scan)
    assert panel.ui.resultLabel.text.startswith("STALE: the graded volume was changed")


def test_labels_go_stale_where_the_panel_was_never_opened(
    app: Any, panel: Any, scan: Any, checkpoints: Path, tmp_path: Path
) -> None:
    grade(app, panel, checkpoints)
    app.save(tmp_path / "graded.mrb")
    app.close_scene()
    assert panel._parameterNode.gradedPlane is None and panel.ui.resultLabel.text == "No grade."
    app.load(tmp_path / "graded.mrb")
    app.process()
    (plane,) = planes(app.scene)
    assert panel._parameterNode.gradedPlane is plane and "STALE" not in panel.ui.resultLabel.text
    assert graded(mrml.grades_of(plane)) == {"left": "Severe", "right": "Moderate"}
    panel.cleanup()  # the panel is gone; the watch belongs to the application
    plane.SetCenter(*np.add(np.array(plane.GetCenter()), [0, 1, 0]))
    assert plane.GetNthControlPointLabel(0).startswith("STALE: L5/S1 left subarticular")


def test_cancel_leaves_the_scene_as_it_was(app: Any, panel: Any, scan: Any, checkpoints: Path) -> None:
    before = app.ids()
    choose(panel, "inputType", "R-GS")
    panel._parameterNode.checkpoints = str(checkpoints)
    panel.ui.gradeButton.click()
    app.wait(300, until=lambda: "fitting Gaussians" in panel.ui.statusLabel.text)
    thread = panel.gradeController._job._thread
    panel.ui.cancelButton.click()
    assert not panel.gradeController.running and "Cancelled" in panel.ui.statusLabel.text
    assert panel.ui.gradeButton.enabled and not panel.ui.cancelButton.enabled
    app.wait(300, until=lambda: not thread.is_alive())
    assert app.ids() == before and not app.messages


def test_what_fails_says_why_and_leaves_nothing(
    app: Any, panel: Any, scan: Any, checkpoints: Path, tmp_path: Path
) -> None:
    before = app.ids()
    broken = tmp_path / "broken.pt"
    broken.write_bytes((checkpoints / "left.pt").read_bytes()[:3000])
    panel._parameterNode.checkpoints = str(broken)
    with pytest.raises(mrml.scene.GaussianMRIError, match=r"broken\.pt"):
        panel.onGrade()
    assert "broken.pt" in app.messages.pop().text and not panel.gradeController.running
    panel._parameterNode.checkpoints = str(checkpoints)
    panel._parameterNode.level = "L1/L2"
    panel.ui.gradeButton.click()
    finish(app, panel)
    assert "cannot grade L1/L2" in app.messages.pop().text
    assert app.ids() == before and panel.ui.resultLabel.text == "No grade."


def test_a_scene_that_closes_ends_the_grading(app: Any, panel: Any, scan: Any, checkpoints: Path) -> None:
    panel._parameterNode.checkpoints = str(checkpoints)
    panel.ui.gradeButton.click()
    app.close_scene()
    assert not panel.gradeController.running and not planes(app.scene)
    app.wait(1.0)
    assert not planes(app.scene) and panel.logic.table() is None


def test_a_report_is_written(app: Any, panel: Any, scan: Any, checkpoints: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")
    import pydicom

    plane = grade(app, panel, checkpoints)
    app.answers.append(str(tmp_path / "grades.dcm"))
    panel.ui.reportButton.click()
    report = pydicom.dcmread(tmp_path / "grades.dcm")
    assert (report.Modality, report.VerificationFlag) == ("SR", "UNVERIFIED")
    assert "unverified" in panel.ui.statusLabel.text
    plane.SetCenter(*np.add(np.array(plane.GetCenter()), [0, 1, 0]))
    app.answers.append(str(tmp_path / "again.dcm"))
    with pytest.raises(mrml.scene.GaussianMRIError, match="stale"):
        panel.onReport()
    assert "stale" in app.messages.pop().text and not (tmp_path / "again.dcm").exists()


def test_from_the_console(app: Any, panel: Any, scan: Any, checkpoints: Path) -> None:
    logic, points = panel.logic, panel._parameterNode.line
    plane = logic.grade([scan], logic.discFromPoints(points, LEVEL), str(checkpoints))
    assert graded(mrml.grades_of(plane)) == {"left": "Severe", "right": "Moderate"}
    assert DISCLAIMER in logic.describe(plane)
    with pytest.raises(ValueError, match="gaussianmri grade train"):
        logic.grade([scan], logic.discFromPoints(points, LEVEL), "")


def test_points_are_placed_by_clicks(app: Any, panel: Any) -> None:
    app.choose(panel.ui.pointsSelector, "Create new Point List")
    node = panel._parameterNode.points
    assert node.IsA("vtkMRMLMarkupsFiducialNode") and node.GetMaximumNumberOfControlPoints() == 4
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert "front and back" in panel.ui.statusLabel.text


@pytest.mark.slow
def test_the_modules_own_self_test(app: Any, panel: Any) -> None:
    sys.modules["GaussianMRIGrading"].GaussianMRIGradingTest().runTest()


def test_crops_are_shown_without_a_main_window_too(app: Any, panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """slicer.app.layoutManager() is then None, and no view is turned."""
    crops = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "crops")
    plane = app.scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "plane")
    plane.SetNodeReferenceID("GaussianMRI.Crops", crops.GetID())
    with monkeypatch.context() as without:
        without.setattr(app, "layout_manager", None)
        assert panel.logic.showCrops(plane) is crops
