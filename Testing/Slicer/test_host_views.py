"""The host's views: what real displayable managers draw without a screen."""

from __future__ import annotations

import ctypes.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)

import slicer

pytestmark = pytest.mark.skipif(
    sys.platform == "linux" and not ctypes.util.find_library("EGL"),
    reason="needs EGL to render without a screen (apt: libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri)",
)


@pytest.fixture
def volume(app: Any) -> Any:
    """A dark volume of 2 mm voxels with one bright voxel at RAS (-20, 14, 6)."""
    pixels = np.zeros((20, 30, 40), np.float32)
    pixels[13, 22, 5] = 100
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "dots")
    slicer.util.updateVolumeFromArray(node, pixels)
    node.SetSpacing(2, 2, 2)
    node.SetOrigin(-30, -30, -20)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetInterpolate(False)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevel(100, 50)
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def brightest(pixels: np.ndarray) -> np.ndarray:
    """Column and row, from the lower left, of the middle of the bright pixels."""
    rows, columns = np.nonzero(pixels.min(axis=2) > 200)
    return np.array([columns.mean(), pixels.shape[0] - 1 - rows.mean()])


@pytest.mark.parametrize("name", ["Red", "Green", "Yellow"])
def test_a_slice_view_shows_a_voxel_at_its_place(app: Any, volume: Any, name: str) -> None:
    place = (-20.0, 14.0, 6.0)
    widget = slicer.app.layoutManager().sliceWidget(name)
    widget.mrmlSliceNode().JumpSliceByCentering(*place)
    expected = widget.sliceView().convertRASToXYZ(place)[:2]
    found = brightest(app.pixels(name))
    assert np.linalg.norm(found - expected) < 1.5
    widget.mrmlSliceNode().JumpSliceByCentering(*(p + 7 for p in place))
    assert app.pixels(name).max() == 0  # dark everywhere else


def test_layouts(app: Any, volume: Any) -> None:
    manager = slicer.app.layoutManager()
    assert set(manager.sliceViewNames()) == {"Red", "Green", "Yellow"} and manager.threeDViewCount == 1
    changed: list[int] = []
    manager.connect("layoutChanged(int)", changed.append)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert manager.sliceViewNames() == ("Red",) and manager.layout == changed[0] == 6
    app.process()
    size = app.view("Red").size()
    assert size.width() > 700 and size.height() > 700
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetDimensions()[:2] == (
        size.width(),
        size.height(),
    )
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    app.process()
    assert (
        app.view("Red").size().width() < 700
        and slicer.app.applicationLogic().GetSliceLogics().GetNumberOfItems() == 3
    )
    assert manager.sliceWidget("Purple") is None
    with pytest.raises(AttributeError):
        manager.sliceWidgets("Red")


def test_a_plane_is_drawn_in_every_view(app: Any, volume: Any) -> None:
    before = {name: app.pixels(name) for name in ("Red", "Green", "Yellow", "3D")}
    plane = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "oblique")
    plane.CreateDefaultDisplayNodes()
    plane.GetDisplayNode().SetSelectedColor(0, 1, 0)
    plane.SetCenter([0, 0, 0])
    plane.SetNormal([0.2, 0.3, 1])
    plane.SetSize(40, 40)
    for name, old in before.items():
        new = app.pixels(name).astype(int)
        green = (new[:, :, 1] - new[:, :, 0] > 40) & (old.astype(int)[:, :, 1] - old[:, :, 0] <= 40)
        assert green.sum() > 100, name


def test_points_are_placed_by_clicks(app: Any, volume: Any) -> None:
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.CreateDefaultDisplayNodes()
    logic = slicer.modules.markups.logic()
    view = app.view("Red")
    view.forceRender()
    logic.SetActiveList(points)
    logic.StartPlaceMode(False)
    place = (4.0, -6.0, float(slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceOffset()))
    view.click(*view.convertRASToXYZ(place)[:2])
    assert points.GetNumberOfDefinedControlPoints() == 1
    np.testing.assert_allclose(points.GetNthControlPointPositionWorld(0), place, atol=0.5)


def test_a_picture_of_panel_and_views(app: Any, volume: Any, tmp_path: Path) -> None:
    app.screenshot(tmp_path / "window.png", size=(1000, 700))
    data = (tmp_path / "window.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (1000, 700)
    label = __import__("qt").QLabel("text")
    app.screenshot(tmp_path / "label.png", widget=label)
    assert (tmp_path / "label.png").stat().st_size < len(data) / 10


def test_a_closed_and_reloaded_scene_is_shown_again(app: Any, volume: Any, tmp_path: Path) -> None:
    node = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    node.JumpSliceByCentering(-20, 14, 6)
    before = app.pixels("Red")
    assert before.max() == 255
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    assert app.pixels("Red").max() == 0
    app.load(tmp_path / "scene.mrb")
    assert app.view("Red").mrmlSliceNode() is node
    np.testing.assert_array_equal(app.pixels("Red"), before)
