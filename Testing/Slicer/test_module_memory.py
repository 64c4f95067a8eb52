"""What the modules let go: Slicer is open for days, and what is held in it stays in memory."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
from module_panel import fitted, previews


def test_previews_and_fields_are_freed(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moves of the plane and of a curve, and other previews, leave no timer; a closed scene leaves no field."""
    fitted(app, panel, monkeypatch)
    parameters = panel._parameterNode
    curve = app.scene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "curve")
    for z in (-20, 0, 20):
        curve.AddControlPointWorld(0, 0, z)
    parameters.curve, parameters.curvePreview = curve, True
    field = panel.previewController.field(parameters.field)
    held = [weakref.ref(field), weakref.ref(previews(panel)[0]), weakref.ref(panel.curveController.preview)]
    for n in range(10):
        parameters.plane.SetCenter(0, 0, n)
        curve.SetNthControlPointPosition(1, n, 0, 0)
        app.process()
        if n % 5 == 0:
            parameters.spacing = 0.5 + 0.1 * n
            app.process()
    assert not [child for child in slicer.app.moduleManager().children() if child.className() == "QTimer"]
    del curve, parameters, field
    app.close_scene()
    app.process()
    gc.collect()
    assert [each() for each in held] == [None, None, None]


def test_parameters_are_read_by_one_wrapper_however_often_the_panel_is_opened(
    app: Any, panel: Any, scan: Any
) -> None:
    """A wrapper that stays alive reads every parameter anew at every change: the panel would become slower all day."""

    def alive() -> int:
        gc.collect()
        return sum(type(thing) is type(panel.parameters) for thing in gc.get_objects())

    before = alive()
    for _ in range(10):
        app.scene.StartState(app.scene.BatchProcessState)
        app.scene.EndState(app.scene.BatchProcessState)
    panel.exit()
    panel.enter()
    assert alive() <= before
    panel.parameters.thickness = 3.0
    app.process()
    assert panel.ui.projectionSelector.enabled  # it is still followed


def test_nodes_that_were_removed_are_freed(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planes that the user placed, and the field, are observed while they are there."""
    field = fitted(app, panel, monkeypatch)
    app.choose(panel.ui.planeSelector, "Create new Plane")
    plane = panel.parameters.plane
    app.process()
    held = [weakref.ref(field), weakref.ref(plane)]
    app.scene.RemoveNode(field)
    app.scene.RemoveNode(plane)
    del field, plane
    app.close_scene()
    app.process()
    gc.collect()
    assert [each() for each in held] == [None, None]
