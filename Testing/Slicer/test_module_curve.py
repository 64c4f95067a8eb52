"""What the Gaussian MRI Resampling module makes along a curve, through its panel."""

from __future__ import annotations

import sys
import time
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
from module_panel import nodes_of_previews
from mrml_scenes import bright_point, put_under, rigid
from test_mrml_along import segmentation

from GaussianMRILib import mrml
from GaussianMRILib.mrml.planes import frame_of
from GaussianMRILib.mrml.scene import as_array
from GaussianMRILib.mrml.views import composite_of, facing, right_handed
from GaussianMRILib.mrml.volumes import planes_of_volume

sys.path.append(str(Path(__file__).parents[1] / "Python"))
from curve_scenes import LENGTH, arc, beside_arc, bright_points

PLACES = np.array([[14.0, 0, 0], [40.3, 9.1, -7.2]])


def add_curve(points: Any, name: str = "canal") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", name)
    node.CreateDefaultDisplayNodes()
    for point in points:
        node.AddControlPoint(vtk.vtkVector3d(*point))
    return node


@pytest.fixture
def parameters(app: Any, panel: Any) -> Any:
    """The panel's parameters with a fit, its volume and a curve, 30 mm wide and with pixels of 0.5 mm."""
    volume = bright_point(slicer.mrmlScene)
    field = mrml.field_to_model(bright_points(beside_arc(*PLACES.T)), scene=slicer.mrmlScene, volumes=[volume])
    chosen = panel._parameterNode
    chosen.preview = False
    chosen.field, chosen.curveWidth, chosen.curveSpacing = field, 30.0, 0.5
    chosen.curve = add_curve(arc(9))
    return chosen


def expected(parameters: Any, **options: Any) -> Any:
    field = bright_points(beside_arc(*PLACES.T))
    return mrml.straight_field(field, parameters.curve, **{"width": 30, "spacing": 0.5, **options})


def shown() -> Any:
    (node,) = nodes_of_previews()
    return slicer.util.arrayFromVolume(node)[0]


def assert_shows(image: np.ndarray) -> None:
    inside = np.isfinite(image)
    assert shown().shape == image.shape and inside.any()
    np.testing.assert_allclose(shown()[inside], image[inside], atol=0.02)


def test_the_image_follows_the_points_and_the_options(app: Any, panel: Any, parameters: Any) -> None:
    green = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
    preview = panel.curveController.preview
    assert preview is not None and composite_of(green).GetBackgroundVolumeID() == preview.volume.GetID()
    assert_shows(expected(parameters).image())
    parameters.curve.SetNthControlPointPosition(4, *beside_arc(LENGTH / 2, 4, 3))
    app.wait(0.2)
    assert_shows(expected(parameters).image())
    assert f"{expected(parameters).curve.length:.0f} mm long" in panel.ui.curveLabel.text
    assert "of the image lies outside the scan" in panel.ui.curveLabel.text
    panel.ui.curveSlabSpinBox.value = 6.0
    panel.ui.curveProjectionSelector.currentText = "Maximum (brightest)"
    panel.ui.curveAcrossSelector.currentText = "Right to left (coronal)"
    panel.ui.curveKeepAcrossCheckBox.checked = True
    panel.ui.curveTurnSlider.value = 20
    app.wait(0.2)
    assert panel.curveController.preview is preview  # nothing flickers
    assert_shows(expected(parameters, across="left", fixed=True, turn=20).image(slab=6.0, projection="max"))
    panel.ui.curveWidthSpinBox.value = 20
    panel.ui.curveSpacingSpinBox.value = 0.8
    app.wait(0.2)
    made = expected(parameters, across="left", fixed=True, turn=20, width=20, spacing=0.8)
    assert_shows(made.image(slab=6.0, projection="max"))
    panel.ui.curveSlabSpinBox.value = 0.0  # the choice stays for the next slab
    app.wait(0.2)
    assert_shows(made.image())
    panel.ui.curvePreviewCheckBox.checked = False
    assert not nodes_of_previews() and not composite_of(green).GetBackgroundVolumeID()


def test_a_curve_is_placed_point_by_point(app: Any, panel: Any, parameters: Any) -> None:
    parameters.curve = add_curve([])
    panel.curveController.onCurveAddedByUser(parameters.curve)
    interaction = app.application.GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place and interaction.GetPlaceModePersistence()
    assert "Place two or more points" in panel.ui.curveLabel.text and not panel.ui.curveVolumeButton.enabled
    parameters.curve.AddControlPoint(vtk.vtkVector3d(*beside_arc(10, 0, 0)))
    assert panel.curveController.preview is None
    parameters.curve.AddControlPoint(vtk.vtkVector3d(*beside_arc(50, 0, 0)))
    assert panel.curveController.preview is not None and panel.ui.curveVolumeButton.enabled
    assert_shows(expected(parameters).image())
    parameters.curve.RemoveNthControlPoint(0)
    app.wait(0.1)
    assert "fewer than two points" in panel.ui.curveLabel.text


def test_image_and_volume_are_made_and_fill_the_chosen_volume(app: Any, panel: Any, parameters: Any) -> None:
    panel.ui.curveSlabSpinBox.value = 5.0
    panel.ui.curveImageButton.click()
    image = slicer.util.getNode("canal image")
    np.testing.assert_allclose(
        slicer.util.arrayFromVolume(image)[0], np.nan_to_num(expected(parameters).image(slab=5.0)), atol=0.02
    )
    assert "canal image: " in panel.ui.curveLabel.text
    before = slicer.mrmlScene.GetNumberOfNodes()
    panel._parameterNode.curveOutput = image
    panel.ui.curveVolumeButton.click()
    assert panel.curveController.running and panel.ui.curveVolumeButton.text == "Cancel"
    app.wait(30, until=lambda: not panel.curveController.running)
    voxels, _ = expected(parameters).volume()
    np.testing.assert_allclose(slicer.util.arrayFromVolume(image), np.nan_to_num(voxels), atol=0.02)
    assert slicer.mrmlScene.GetNumberOfNodes() == before and panel.ui.curveVolumeButton.text == "Make volume"
    assert not panel.ui.curveProgressBar.visible


def test_a_volume_is_cancelled_and_a_closed_scene_gets_none(
    app: Any, panel: Any, parameters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from GaussianMRILib.gaussians import volume

    monkeypatch.setattr(volume, "SLAB_PIXELS", 1)  # a slab for every slice, so that it takes a while
    parameters.curveSpacing = 0.1
    before = app.ids()
    panel.ui.curveVolumeButton.click()
    app.wait(0.1)
    panel.ui.curveVolumeButton.click()
    assert not panel.curveController.running and "Cancelled" in panel.ui.curveLabel.text
    app.wait(0.3)
    assert app.ids() == before
    panel.ui.curveVolumeButton.click()
    slicer.mrmlScene.RemoveNode(parameters.curve)
    parameters.curve = None
    app.close_scene()
    assert not panel.curveController.running
    app.wait(0.3)
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") and not app.messages


def test_planes_across_the_curve_are_checked_to_be_resampled(app: Any, panel: Any, parameters: Any) -> None:
    panel.ui.curveStepSpinBox.value = 20
    panel.ui.curvePlanesButton.click()
    planes = [node for node in parameters.outputPlanes if node]
    assert len(planes) == int(expected(parameters).curve.length / 20) + 1
    assert list(panel.ui.outputPlanesSelector.checkedNodes()) == planes and "4 planes" in panel.ui.curveLabel.text
    panel.ui.resampleButton.click()
    assert len(panel._results) == 4


def test_the_transform_is_made_and_one_without_a_way_back_is_told(app: Any, panel: Any, parameters: Any) -> None:
    parameters.curveTurn = 15.0
    panel.ui.curveTransformButton.click()
    transform = slicer.util.getNode("canal to straight")
    curve = expected(parameters, turn=15).curve
    there = np.zeros(3)
    transform.GetTransformToParent().TransformPoint(beside_arc(30.0, 5, 5), there)
    assert np.linalg.norm(there - curve.to_straight(beside_arc(30.0, 5, 5))) < 0.02
    assert "'canal to straight'" in panel.ui.curveLabel.text
    parameters.curveWidth = 300.0
    before = app.ids()
    with pytest.raises(Exception, match="no way back"):
        panel.curveController.onTransform()
    assert app.ids() == before and len(app.messages) == 1


def test_the_view_is_given_back_when_the_module_is_left_or_another_volume_is_chosen(
    app: Any, panel: Any, parameters: Any
) -> None:
    representation = slicer.modules.gaussianmriresampling.widgetRepresentation()
    representation.exit()
    assert not nodes_of_previews()
    representation.enter()
    assert len(nodes_of_previews()) == 1
    scan = slicer.util.getNode("scan")
    green = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
    composite_of(green).SetBackgroundVolumeID(scan.GetID())
    app.wait(0.2)
    assert not nodes_of_previews() and not parameters.curvePreview
    assert "Another volume was chosen" in panel.ui.curveLabel.text
    assert composite_of(green).GetBackgroundVolumeID() == scan.GetID()
    parameters.curvePreview = True
    assert len(nodes_of_previews()) == 1
    slicer.mrmlScene.RemoveNode(parameters.curve)
    app.wait(0.1)
    assert not nodes_of_previews() and not panel.ui.curveImageButton.enabled


def test_a_saved_scene_comes_back_with_its_curve(app: Any, panel: Any, parameters: Any, tmp_path: Path) -> None:
    image = shown().copy()
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    assert panel.curveController.preview is None and not panel.ui.curveImageButton.enabled
    app.load(tmp_path / "scene.mrb")
    app.wait(0.2)
    assert panel._parameterNode.curve.GetName() == "canal"
    np.testing.assert_array_equal(shown(), image)


@pytest.fixture
def both(app: Any, panel: Any, parameters: Any) -> Any:
    """The same with a plane as well, both previews running, and what the Green view shows without them."""
    parameters.curvePreview = False
    green = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
    composite_of(green).SetBackgroundVolumeID(slicer.util.getNode("scan").GetID())
    parameters.curvePreview = True
    parameters.plane = mrml.plane_to_node(expected(parameters).planes(10)[2][1], scene=slicer.mrmlScene)
    parameters.preview = True
    app.wait(0.1)
    assert len(nodes_of_previews()) == 2
    return parameters


def test_a_fit_under_a_transform_shows_and_makes_nothing(app: Any, panel: Any, both: Any) -> None:
    transform = put_under(slicer.mrmlScene, both.field, rigid([0, 0, 1], 0, [100, 0, 0]))
    app.wait(0.2)
    assert not nodes_of_previews()
    for label in (panel.ui.previewLabel, panel.ui.curveLabel):
        assert "under the transform 'moved'" in label.text
    before = app.ids()
    for call in (
        panel.onResample,
        panel.curveController.onImage,
        panel.curveController.onVolume,
        panel.sections[1]._start,
    ):
        with pytest.raises(Exception, match="under the transform 'moved'"):
            call()
    assert app.ids() == before and len(app.messages) == 4
    app.messages.clear()
    both.field.SetAndObserveTransformNodeID(None)
    app.wait(0.2)
    assert len(nodes_of_previews()) == 2 and "under the transform" not in panel.ui.previewLabel.text
    slicer.mrmlScene.RemoveNode(transform)


def view_of(name: str) -> tuple[Any, Any]:
    """Node of a slice view, and the volume that it shows."""
    view = slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}")
    return view, slicer.mrmlScene.GetNodeByID(composite_of(view).GetBackgroundVolumeID() or "")


def test_the_planes_preview_and_the_curves_may_want_one_view(app: Any, panel: Any, both: Any) -> None:
    """The one that came last has it."""
    before = frame_of(both.plane)
    both.curveView = both.previewView
    app.wait(0.3)
    assert panel.curveController.preview is not None and not panel.previewController.previews
    assert len(nodes_of_previews()) == 1 and not both.preview
    assert_shows(expected(both).image())
    assert "beside the curve" not in panel.ui.curveLabel.text
    assert "along the curve took the view" in panel.ui.previewLabel.text
    panel.ui.previewCheckBox.checked = True
    app.wait(0.3)
    assert panel.curveController.preview is None and not both.curvePreview and len(nodes_of_previews()) == 1
    assert "The plane's images took the view" in panel.ui.curveLabel.text
    np.testing.assert_allclose(frame_of(both.plane), before, atol=1e-9)


def test_side_by_side_takes_the_curves_view_and_no_plane_moves(app: Any, panel: Any, both: Any) -> None:
    before = frame_of(both.plane)
    panel.ui.compareCheckBox.checked = True
    app.wait(0.5)
    assert [view_of(name)[1].GetName() for name in ("Red", "Yellow", "Green")] == [
        "Gaussians, live",
        "Cubic spline, live",
        "Voxels, live",
    ]
    assert not both.curvePreview and "The plane's images took the view" in panel.ui.curveLabel.text
    plane = mrml.plane_from_node(both.plane)
    for name in ("Red", "Yellow", "Green"):
        np.testing.assert_allclose(right_handed(as_array(view_of(name)[0].GetSliceToRAS())), facing(plane), atol=1e-6)
    panel.ui.compareCheckBox.checked = False
    app.wait(0.3)
    green, volume = view_of("Green")
    assert volume.GetName() == "scan" and green.GetOrientationString() == "Coronal"
    np.testing.assert_allclose(frame_of(both.plane), before, atol=1e-9)


def test_results_side_by_side_take_the_curves_view(app: Any, panel: Any, both: Any) -> None:
    before = frame_of(both.plane)
    both.spline = both.voxel = both.sideBySide = True
    panel.ui.resampleButton.click()
    app.wait(0.5)
    for name, result in zip(("Red", "Yellow", "Green"), panel._results, strict=True):
        view, shown = view_of(name)
        assert shown is result
        np.testing.assert_allclose(as_array(view.GetSliceToRAS()), facing(planes_of_volume(result)[0]), atol=1e-6)
    assert not nodes_of_previews() and not both.curvePreview
    np.testing.assert_allclose(frame_of(both.plane), before, atol=1e-9)


def test_a_scene_saved_during_previews_opens_with_its_views_in_any_module(
    app: Any, panel: Any, both: Any, tmp_path: Path
) -> None:
    app.start()
    app.save(tmp_path / "scene.mrb")
    slicer.modules.gaussianmriresampling.widgetRepresentation().exit()
    app.close_scene()
    app.load(tmp_path / "scene.mrb")
    app.wait(0.2)
    green, volume = view_of("Green")
    assert volume.GetName() == "scan" and green.GetOrientationString() == "Coronal" and not nodes_of_previews()


def test_missing_packages_are_named_where_the_previews_would_be(
    app: Any, panel: Any, both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scene with a fit, opened in a Slicer that has no torch yet."""

    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(mrml, "resampler", missing)
    both.preview = both.curvePreview = False
    panel.previewController.forget()
    both.preview = both.curvePreview = True
    for label in (panel.ui.previewLabel, panel.ui.curveLabel):
        assert "The package torch is missing. Press 'Report'" in label.text
    assert not nodes_of_previews()


def add_points(places: Any, name: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for place in np.atleast_2d(places):
        node.AddControlPoint(vtk.vtkVector3d(*place))
    return node


def copy(app: Any, panel: Any, button: Any) -> None:
    """Press a button and wait."""
    button.click()
    app.wait(30, until=lambda: not panel.curveController.running)


def positions(node: Any) -> np.ndarray:
    return slicer.util.arrayFromMarkupsControlPoints(node)


def test_one_click_takes_checked_nodes_along_and_another_brings_them_back(
    app: Any, panel: Any, parameters: Any, tmp_path: Path
) -> None:
    import qt

    ui, places = panel.ui, beside_arc(np.array([20.0, 50.0]), 5.0, -4.0)
    points, far = add_points(places, "roots"), add_points([0, 500, 0], "far")
    assert not ui.curveAlongButton.enabled
    parameters.curveTurn = 15.0
    for node in (points, far):
        ui.curveAlongSelector.setCheckState(node, qt.Qt.Checked)
    assert [node for node in parameters.curveAlong] == [points, far] and ui.curveAlongButton.enabled
    copy(app, panel, ui.curveAlongButton)
    there = slicer.util.getNode("roots straightened")
    wanted = expected(parameters, turn=15).curve.to_straight(places)
    np.testing.assert_allclose(positions(there), wanted, atol=0.1)
    green = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
    assert tuple(there.GetDisplayNode().GetViewNodeIDs()) == (green.GetID(),)
    assert "Copied: roots straightened" in ui.curveLabel.text and "'far'" in ui.curveLabel.text
    assert "is not taken along" in ui.curveLabel.text
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    app.load(tmp_path / "scene.mrb")
    app.wait(0.2)
    parameters, there = panel._parameterNode, slicer.util.getNode("roots straightened")
    assert [node.GetName() for node in ui.curveAlongSelector.checkedNodes()] == ["roots", "far"]
    parameters.curveAlong = [there]
    copy(app, panel, ui.curveBackButton)
    back = slicer.util.getNode("roots straightened in the patient")
    np.testing.assert_allclose(positions(back), places, atol=0.1)
    assert back.GetDisplayNode().GetViewNodeIDs() == ()
    parameters.curveAlong = [slicer.util.getNode("far")]
    with pytest.raises(Exception, match=r"'far' .* is not taken along"):
        panel.curveController.onAlong()
    assert len(app.messages) == 1
    app.messages.clear()


def test_points_of_an_image_go_back_by_the_curve_as_it_was(app: Any, panel: Any, parameters: Any) -> None:
    ui, places = panel.ui, beside_arc(np.array([20.0, 50.0]), 5.0, -4.0)
    parameters.curveWidth = 16.0
    ui.curveImageButton.click()
    image = slicer.util.getNode("canal image")
    assert [node.GetName() for node in ui.curveSpaceSelector.nodes()] == ["canal image"]  # not the scan
    drawn = add_points(expected(parameters).curve.to_straight(places), "drawn")
    parameters.curveAlong = [drawn]
    copy(app, panel, ui.curveBackButton)
    assert "canal image" not in ui.curveLabel.text.split("Copied")[1]
    parameters.curve.SetNthControlPointPosition(4, *beside_arc(LENGTH / 2, 3, 2))
    app.wait(0.2)
    copy(app, panel, ui.curveBackButton)
    assert "as it is now" in ui.curveLabel.text and "canal image, made before it changed" in ui.curveLabel.text
    ui.curveSpaceSelector.setCurrentNode(image)
    copy(app, panel, ui.curveBackButton)
    assert "as it is now" not in ui.curveLabel.text
    made = [slicer.util.getNode(f"drawn in the patient{end}") for end in ("", "_1", "_2")]
    np.testing.assert_allclose(positions(made[2]), places, atol=0.1)
    assert np.linalg.norm(positions(made[1]) - places, axis=1).max() > 0.5
    parameters.curve = None
    assert ui.curveBackButton.enabled  # the image knows its own
    copy(app, panel, ui.curveBackButton)
    np.testing.assert_allclose(positions(slicer.util.getNode("drawn in the patient_3")), places, atol=0.1)


def test_copying_is_shown_and_cancelled(app: Any, panel: Any, parameters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a segmentation, which may be large; the button that began it ends it."""
    from GaussianMRILib.mrml import along

    ball = segmentation(slicer.mrmlScene, beside_arc(LENGTH / 2, 0, 0))
    parameters.curveAlong = [ball]
    ui, layer, percents = panel.ui, along._layer, []

    def slow(given: Any, way: Any, tell: Any) -> Any:
        def told(part: float) -> None:
            tell(part)
            time.sleep(0.02)

        return layer(given, way, told)

    monkeypatch.setattr(along, "_layer", slow)
    before = app.ids()
    ui.curveBackButton.click()
    assert panel.curveController.running and ui.curveBackButton.text == "Cancel"
    assert not ui.curveAlongButton.enabled and not ui.curveVolumeButton.enabled and ui.curveProgressBar.visible
    app.wait(0.2)
    ui.curveBackButton.click()
    assert not panel.curveController.running and "Cancelled" in ui.curveLabel.text
    app.wait(0.2)
    assert app.ids() == before and ui.curveBackButton.text == "Copy back to the patient"

    def done() -> bool:
        percents.append(ui.curveProgressBar.value)
        return not panel.curveController.running

    ui.curveAlongButton.click()
    assert ui.curveAlongButton.text == "Cancel" and not ui.curveBackButton.enabled
    app.wait(30, until=done)
    assert len(set(percents)) > 3 and percents == sorted(percents)
    assert "Copied: ball straightened" in ui.curveLabel.text and not ui.curveProgressBar.visible
    ui.curveAlongButton.click()
    app.close_scene()
    assert not panel.curveController.running
    app.wait(0.3)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode") and not app.messages
