"""The panel's sections: planes of other things and their table, slabs, isotropic volumes, segmentations."""

from __future__ import annotations

import json
from dataclasses import replace
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
from module_panel import previews
from mrml_scenes import POINT, lattice_field, oblique_plane_node, plane_node, rotation
from test_mrml_segments import disc, paint, segmentation

from GaussianMRILib import mrml
from GaussianMRILib.mrml import isotropic
from GaussianMRILib.mrml.scene import as_array

START, END = np.add(POINT, [-3.0, 2.0, -9.0]), np.add(POINT, [2.0, -4.0, 9.0])


@pytest.fixture
def field(app: Any, panel: Any, scan: Any) -> Any:
    node = mrml.field_to_model(lattice_field(), scene=slicer.mrmlScene, volumes=[scan])
    panel._parameterNode.field = node
    return node


def line(points: Any = (START, END), kind: str = "Line") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", "canal")
    for point in points:
        node.AddControlPoint(vtk.vtkVector3d(*map(float, point)))
    return node


def cells(panel: Any) -> list[list[str]]:
    table = panel.ui.planesTable
    return [[table.item(row, column).text() for column in range(7)] for row in range(table.rowCount)]


def planes() -> list[Any]:
    return slicer.util.getNodesByClass("vtkMRMLMarkupsPlaneNode")


# ---- planes of other things


def test_make_planes_of_each_kind(app: Any, panel: Any, scan: Any) -> None:
    ui = panel.ui
    assert not ui.makeSetButton.enabled and "Choose what" in ui.makeSetButton.toolTip
    axis, square = line(), oblique_plane_node(slicer.mrmlScene)
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "surface")
    source = vtk.vtkDiskSource()
    source.Update()
    model.SetAndObserveMesh(source.GetOutput())
    for label, node, numbers, count in (
        ("Planes across a line, every few mm", axis, {"setStepSpinBox": 4.0, "setSizeSpinBox": 30.0}, 5),  # 19.7 mm
        ("Planes through a line, turned about it", axis, {"setCountSpinBox": 6, "setSizeSpinBox": 30.0}, 6),
        ("Planes parallel to a plane or view", square, {"setCountSpinBox": 3, "setStepSpinBox": 1.5}, 3),
        ("The two planes perpendicular to a plane or view", square, {}, 2),
        ("Best-fit plane of a model, curve or points", model, {}, 1),
    ):
        before = planes()
        ui.setKindSelector.currentText = label
        enabled = {name for name in ("setCountSpinBox", "setStepSpinBox", "setSizeSpinBox") if getattr(ui, name).enabled}
        assert enabled == set(numbers)
        offered = ui.setSourceSelector.nodes()
        assert node in offered and not ({axis, square, model} - {node}) & set(offered)
        ui.setSourceSelector.setCurrentNode(node)
        for name, value in numbers.items():
            getattr(ui, name).value = value
        assert ui.makeSetButton.enabled
        ui.makeSetButton.click()
        made = [plane for plane in planes() if plane not in before]
        assert len(made) == count, label
        assert panel._parameterNode.plane is made[0] and list(panel._parameterNode.outputPlanes) == made
    (fit,) = made
    np.testing.assert_allclose(np.abs(fit.GetNormalWorld()), [0, 0, 1], atol=1e-6)


def test_planes_across_a_line_are_resampled_as_they_lie(app: Any, panel: Any, field: Any) -> None:
    ui = panel.ui
    ui.setSourceSelector.setCurrentNode(line())
    ui.setStepSpinBox.value, ui.setSizeSpinBox.value = 6.0, 20.0
    ui.makeSetButton.click()
    ui.resampleButton.click()
    axis = (END - START) / np.linalg.norm(END - START)
    assert len(panel._results) == 4
    for k, node in enumerate(panel._results):
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        columns, rows, _ = node.GetImageData().GetDimensions()
        middle = (as_array(matrix) @ [(columns - 1) / 2, (rows - 1) / 2, 0, 1])[:3]
        np.testing.assert_allclose(middle, START + 6 * k * axis, atol=1e-3)


def test_a_source_that_does_not_do_is_told_and_changes_nothing(app: Any, panel: Any, scan: Any) -> None:
    panel.ui.setSourceSelector.setCurrentNode(line([START]))
    before = app.ids()
    with pytest.raises(Exception, match="1 points"):
        panel.sections[0].onMake()
    assert app.ids() == before and "No planes were made" in app.messages[-1].text


# ---- table


def test_the_table_follows_names_angles_and_places(app: Any, panel: Any, scan: Any) -> None:
    tilt = np.deg2rad(25)
    plane = plane_node(slicer.mrmlScene, [1, 2, 3], [1, 0, 0], [0, np.cos(tilt), np.sin(tilt)])
    app.wait(0.1)
    assert cells(panel) == [["oblique", "25.0", "90.0", "65.0", "1.0", "2.0", "3.0"]]
    plane.SetName("L5-S1")
    plane.SetCenter(4, 5, -6.25)
    app.wait(0.1)
    assert cells(panel)[0][0] == "L5-S1" and cells(panel)[0][4:] == ["4.0", "5.0", "-6.2"]
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "later")
    app.wait(0.1)
    assert cells(panel)[1] == ["later", "", "", "", "", "", ""]
    slicer.mrmlScene.RemoveNode(plane)
    app.wait(0.1)
    assert [row[0] for row in cells(panel)] == ["later"]


def test_names_and_places_are_typed_into_the_table(app: Any, panel: Any, scan: Any) -> None:
    node = oblique_plane_node(slicer.mrmlScene)
    app.wait(0.1)
    table, normal = panel.ui.planesTable, np.array(node.GetNormalWorld())
    table.item(0, 0).setText("disc")
    table.item(0, 5).setText("-40,5")
    app.wait(0.1)
    assert node.GetName() == "disc" and node.GetCenterWorld()[1] == pytest.approx(-40.5)
    np.testing.assert_allclose(node.GetNormalWorld(), normal, atol=1e-9)
    table.item(0, 5).setText("middle")
    table.item(0, 0).setText("  ")
    app.wait(0.1)
    assert cells(panel)[0][0] == "disc" and cells(panel)[0][5] == "-40.5"
    import qt

    for column, editable in enumerate((True, False, False, False, True, True, True)):
        assert bool(table.item(0, column).flags() & qt.Qt.ItemIsEditable) == editable


def test_show_jumps_to_a_plane_and_delete_takes_it_away(app: Any, panel: Any, field: Any) -> None:
    one, other = (oblique_plane_node(slicer.mrmlScene, np.add(POINT, [0, shift, 0])) for shift in (0, 6))
    panel._parameterNode.plane = one
    app.wait(0.1)
    ui = panel.ui
    assert not ui.showPlaneButton.enabled and not ui.deletePlanesButton.enabled
    ui.planesTable.selectRow(1)
    assert ui.showPlaneButton.enabled and ui.deletePlanesButton.enabled
    ui.showPlaneButton.click()
    app.wait(0.1)
    assert panel._parameterNode.plane is other and len(previews(panel)) == 1
    red, yellow = (slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in ("Red", "Yellow"))
    center, normal = np.array(other.GetCenterWorld()), np.array(other.GetNormalWorld())
    turned = as_array(red.GetSliceToRAS())
    assert abs(turned[:3, 2] @ normal) > 1 - 1e-6 and abs((turned[:3, 3] - center) @ normal) < 1e-3
    beside = as_array(yellow.GetSliceToRAS())
    assert abs((beside[:3, 3] - center) @ beside[:3, 2]) < 1e-3  # the sagittal view passes through its middle
    slicer.mrmlScene.SetUndoOn()
    ui.planesTable.selectRow(0)
    ui.deletePlanesButton.click()
    app.wait(0.1)
    assert planes() == [other] and [row[0] for row in cells(panel)] == [other.GetName()]
    slicer.mrmlScene.Undo()
    app.wait(0.1)
    assert len(planes()) == 2
    slicer.mrmlScene.SetUndoOff()


def test_the_table_is_saved_and_loaded(app: Any, panel: Any, scan: Any, tmp_path: Path) -> None:
    panel.ui.setSourceSelector.setCurrentNode(line())
    panel.ui.setKindSelector.currentText = "Planes through a line, turned about it"
    panel.ui.setCountSpinBox.value = 4
    panel.ui.makeSetButton.click()
    app.wait(0.1)
    before = cells(panel)
    panel.logic.savePlanes(str(tmp_path / "radial.mrk.json"))
    assert len(json.loads((tmp_path / "radial.mrk.json").read_text())["markups"]) == 4
    app.close_scene()
    app.wait(0.1)
    assert cells(panel) == []
    panel.logic.loadPlanes(str(tmp_path / "radial.mrk.json"))
    app.wait(0.1)
    assert cells(panel) == before


# ---- slabs


def test_slabs_live_and_resampled(app: Any, panel: Any, field: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    parameters.plane = oblique_plane_node(slicer.mrmlScene)
    assert not ui.projectionSelector.enabled
    ui.thicknessSpinBox.value = 6.0
    assert ui.projectionSelector.enabled
    images = {}
    for label in ("Mean", "Maximum (brightest)", "Minimum (darkest)"):
        ui.projectionSelector.currentText = label
        app.wait(0.1)
        (preview,) = previews(panel)
        name = label.split()[0]
        images[name] = slicer.util.arrayFromVolume(preview.volume)[0].copy()
        ui.resampleButton.click()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(panel._results[0])[0], images[name])
        projection = panel._results[0].GetAttribute("GaussianMRI.Projection")
        assert projection == {"Mean": None, "Maximum": "max", "Minimum": "min"}[name]
    plane = mrml.plane_from_node(
        parameters.plane, spacing=panel.previewController.field(field).lattice and 0.7, thickness=6.0
    )
    for name, projection in (("Maximum", "max"), ("Minimum", "min"), ("Mean", "mean")):
        expected = lattice_field().render(plane, projection=projection)
        inside = np.isfinite(expected)
        assert inside.mean() > 0.9 and np.abs(images[name][inside] - expected[inside]).max() < 1e-3
    ui.projectionSelector.currentText = "Maximum (brightest)"
    parameters.thickness = 0.0  # the choice stays for the next slab
    app.wait(0.1)
    ui.resampleButton.click()
    thin = lattice_field().render(replace(plane, thickness=0.0))
    inside, (result,) = np.isfinite(thin), panel._results
    assert np.abs(slicer.util.arrayFromVolume(result)[0][inside] - thin[inside]).max() < 1e-3
    assert result.GetAttribute("GaussianMRI.Projection") is None
    assert (images["Maximum"] >= images["Mean"] - 1e-3).all() and (images["Mean"] - images["Minimum"]).max() > 10


def test_slabs_of_interpolations(app: Any, panel: Any, scan: Any) -> None:
    """Beside the bright point a thin plane shows nothing, the brightest of a slab does, the darkest does not."""
    plane = oblique_plane_node(slicer.mrmlScene, POINT + 7 * rotation([2, -1, 3], 35)[:, 2])
    highest = {
        name: slicer.util.arrayFromVolume(
            mrml.resample(scan, plane, method="spline", spacing=1.0, thickness=thickness, projection=name)
        ).max()
        for name, thickness in (("mean", 0.0), ("max", 20.0), ("min", 20.0))
    }
    assert highest["max"] > 700 and highest["mean"] < 250 and highest["min"] < 60, highest


# ---- isotropic volume


def test_an_isotropic_volume_by_its_button(app: Any, panel: Any, field: Any, scan: Any) -> None:
    ui = panel.ui
    scan.GetDisplayNode().SetAutoWindowLevel(False)
    scan.GetDisplayNode().SetWindowLevel(444, 222)
    assert ui.isotropicButton.enabled and not ui.isotropicCancelButton.visible
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetCenter(*POINT)
    roi.SetSize(12, 10, 8)
    ui.isotropicSpacingSpinBox.value = 0.8
    ui.isotropicRegionSelector.setCurrentNode(roi)
    ui.isotropicAxesSelector.currentText = "Along the patient"
    ui.isotropicButton.click()
    assert panel.sections[1].running and not ui.isotropicButton.enabled
    app.wait(60, until=lambda: not panel.sections[1].running)
    made = slicer.mrmlScene.GetFirstNodeByName("scan isotropic")
    assert made is not None and np.allclose(made.GetSpacing(), 0.8)
    voxels, _ = lattice_field().volume(
        spacing=0.8, box=[[POINT[n] - size / 2, POINT[n] + size / 2] for n, size in enumerate((12, 10, 8))], axes="ras"
    )
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(made), voxels)
    assert made.GetDisplayNode().GetWindow() == 444 and made.GetDisplayNode().GetLevel() == 222
    slices, rows, columns = voxels.shape
    assert f"{columns} x {rows} x {slices} voxels of 0.80 mm" in ui.isotropicLabel.text
    assert ui.isotropicButton.enabled and not ui.isotropicCancelButton.visible
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    ui.isotropicOutputSelector.setCurrentNode(made)
    ui.isotropicSpacingSpinBox.value = 2.0
    ui.isotropicButton.click()
    app.wait(60, until=lambda: not panel.sections[1].running)
    assert np.allclose(made.GetSpacing(), 2.0)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count


def test_an_isotropic_volume_is_cancelled_closed_over_and_too_large(
    app: Any, panel: Any, field: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, before = panel.ui, app.ids()
    ui.isotropicSpacingSpinBox.value = 0.2
    ui.isotropicButton.click()
    assert panel.sections[1].running and ui.isotropicCancelButton.enabled
    ui.isotropicCancelButton.click()
    app.wait(0.1)
    assert app.ids() == before and "Cancelled" in ui.isotropicLabel.text and ui.isotropicButton.enabled
    ui.isotropicButton.click()
    app.close_scene()
    assert not panel.sections[1].running and ui.isotropicLabel.text == ""
    assert not ui.isotropicButton.enabled and "Fit a volume first" in ui.isotropicButton.toolTip
    panel._parameterNode.field = mrml.field_to_model(lattice_field(), scene=slicer.mrmlScene)
    monkeypatch.setattr(isotropic, "MOST_VOXELS", 1000)
    with pytest.raises(Exception, match="too much for the scene"):
        panel.sections[1]._start()
    assert "No volume was made" in app.messages[-1].text and not panel.sections[1].running


def test_the_console_makes_an_isotropic_volume(app: Any, panel: Any, field: Any) -> None:
    made = panel.logic.isotropicVolume(field, spacing=1.5)
    voxels, _ = lattice_field().volume(spacing=1.5)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(made), voxels)


# ---- segmentations


def test_a_segmentation_goes_along_onto_the_plane_and_into_a_volume(app: Any, panel: Any, field: Any) -> None:
    ui = panel.ui
    assert not ui.labelsButton.enabled and "Choose a segmentation" in ui.labelsButton.toolTip
    node = segmentation(slicer.mrmlScene)
    paint(node, "disc", lambda x: disc(np.eye(3), (9, 8, 5))(x - (POINT - [4.0, -12.0, 31.0])), (30, 90, 90))
    node.GetSegmentation().GetSegment("disc").SetColor(0.1, 0.9, 0.3)
    node.GetSegmentation().AddEmptySegment("none", "none")
    ui.segmentationSelector.setCurrentNode(node)
    assert not ui.labelsButton.enabled and "place a plane" in ui.labelsButton.toolTip
    panel._parameterNode.plane = plane_node(slicer.mrmlScene, POINT, [1, 0, 0], [0, 0, 1], (30, 24))
    panel._parameterNode.spacing = 0.5
    assert ui.labelsButton.enabled
    ui.labelsButton.click()
    app.wait(60, until=lambda: not panel.sections[2].running)
    assert ui.labelsLabel.text == "spine on oblique · segments: 1; not on the image: none"
    made = slicer.mrmlScene.GetFirstNodeByName("spine on oblique")
    mask, _ = mrml.segments.mask_of_segment(made, "disc")
    assert mask.shape == (1, 48, 60) and mask.sum() * 0.25 == pytest.approx(np.pi * 9 * 5, rel=0.05)
    assert np.allclose(made.GetSegmentation().GetSegment("disc").GetColor(), (0.1, 0.9, 0.3))
    volume = panel.logic.isotropicVolume(field, spacing=0.7)
    ui.labelsOntoSelector.setCurrentNode(volume)
    ui.boundariesSelector.currentText = "Nearest"
    ui.labelsButton.click()
    app.wait(60, until=lambda: not panel.sections[2].running)
    made = slicer.mrmlScene.GetFirstNodeByName("spine on scan isotropic")
    mask, _ = mrml.segments.mask_of_segment(made, "disc")
    assert mask.shape[::-1] == volume.GetImageData().GetDimensions()
    assert mask.sum() * 0.343 == pytest.approx(4 / 3 * np.pi * 9 * 8 * 5, rel=0.05)
    assert made.GetAttribute("GaussianMRI.Boundaries") == "nearest"


# ---- all controls


def test_every_control_has_a_tooltip_and_lengths_have_a_unit(app: Any, panel: Any) -> None:
    import ctk
    import qt

    kinds = (
        qt.QPushButton, qt.QComboBox, qt.QSpinBox, qt.QDoubleSpinBox, qt.QCheckBox, qt.QTableWidget, ctk.ctkSliderWidget,
        slicer.qMRMLNodeComboBox, slicer.qMRMLCheckableNodeComboBox,
    )  # fmt: skip
    controls = {name: widget for name, widget in vars(panel.ui).items() if type(widget) in kinds}
    assert len(controls) > 45
    assert [name for name, widget in controls.items() if not widget.toolTip] == []
    lengths = {name: widget for name, widget in controls.items() if type(widget) is qt.QDoubleSpinBox}
    assert [name for name, widget in lengths.items() if widget.suffix != " mm" or "mm" not in widget.toolTip] == []
