"""What a user sees of every panel: it fits beside the views of a small screen, and each control says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
from extension_index import MODULES
from host.qt_style import unwrap
from mrml_scenes import bright_point, oblique_plane_node
from PySide6 import QtGui, QtWidgets

FOLDER = Path(__file__).resolve().parents[2] / "GaussianMRI"
#: What Slicer leaves for a module's panel on a screen of 1280 x 800 pixels, and its vertical scroll bar.
PANEL, SCROLL_BAR = 500, 20
#: Usual sizes of Slicer's font, in points, on Windows and on Linux.
FONTS = (9, 11)
#: Things that a user works; labels, rows and sections are none.
CONTROLS = (
    "QComboBox", "QPushButton", "QCheckBox", "QRadioButton", "QToolButton", "QSpinBox", "QDoubleSpinBox", "QLineEdit",
    "QSlider", "QTableWidget", "QListWidget", "QTreeWidget", "QTextEdit", "QPlainTextEdit", "ctkSliderWidget",
    "ctkDoubleSpinBox", "ctkPathLineEdit", "ctkComboBox", "ctkRangeWidget", "ctkCoordinatesWidget",
    "qMRMLNodeComboBox", "qMRMLCheckableNodeComboBox", "qMRMLSegmentSelectorWidget", "qMRMLSliderWidget",
)  # fmt: skip
NUMBERS = ("QSpinBox", "QDoubleSpinBox", "ctkSliderWidget", "ctkDoubleSpinBox", "qMRMLSliderWidget", "ctkRangeWidget")
#: What a unit is called in a tooltip.
UNITS = {"mm": "mm|millimetre", "px": "pixel", "%": "%|per cent", "°": "°|degree", "s": "second", "mm²": "mm²"}
LONG = "T2_TSE_SAG_obere_LWS_mit_Kontrastmittel_nachverarbeitet_2026-01-31_Serie_00123456789"


def opened(app: Any, name: str) -> Any:
    app.load_module(FOLDER / name / f"{name}.py")
    return app.select(name)


def class_of(widget: Any) -> str:
    return str(unwrap(widget).metaObject().className())


def controls(panel: Any) -> dict[str, Any]:
    """The panel's controls by name, those within controls left out."""
    named = {name: widget for name, widget in vars(panel.ui).items() if class_of(widget) in CONTROLS}
    within = {unwrap(widget) for widget in named.values()}

    def is_part(widget: QtWidgets.QWidget) -> bool:
        above = widget.parentWidget()
        while above is not None:
            if above in within:
                return True
            above = above.parentWidget()
        return False

    return {name: widget for name, widget in named.items() if not is_part(unwrap(widget))}


def unfolded(panel: Any) -> QtWidgets.QWidget:
    """The panel with every section open and every row shown."""
    whole = unwrap(panel.parent)
    for widget in whole.findChildren(QtWidgets.QWidget):
        if widget.property("collapsed"):
            widget.setProperty("collapsed", False)
    for widget in vars(panel.ui).values():
        if isinstance(unwrap(widget), QtWidgets.QWidget):
            unwrap(widget).setVisible(True)
    return whole


def wide(whole: QtWidgets.QWidget) -> str:
    """The widest widgets and what they need, for messages."""
    found = sorted(
        ((w.minimumSizeHint().width(), w.objectName()) for w in whole.findChildren(QtWidgets.QWidget) if w.objectName()),
        reverse=True,
    )
    return str(found[:6])


@pytest.fixture(params=FONTS)
def font(app: Any, request: pytest.FixtureRequest) -> Any:
    before = QtWidgets.QApplication.font()
    QtWidgets.QApplication.setFont(QtGui.QFont(before.family(), request.param))
    yield request.param
    QtWidgets.QApplication.setFont(before)


@pytest.mark.parametrize("name", MODULES)
def test_a_panel_needs_no_horizontal_scrolling(app: Any, font: int, name: str) -> None:
    """With nodes whose names are as long as those of real series, too."""
    bright_point(slicer.mrmlScene).SetName(LONG)
    oblique_plane_node(slicer.mrmlScene).SetName(LONG)
    panel = opened(app, name)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", LONG)
    whole = unfolded(panel)
    for widget in vars(panel.ui).values():
        if class_of(widget) == "QLabel" and widget.wordWrap:  # these tell of nodes and files
            widget.text = LONG
    app.process()
    needed = whole.minimumSizeHint().width()
    assert needed + SCROLL_BAR <= PANEL, f"{name} needs {needed} pixels at {font} pt: {wide(whole)}"
    for key, widget in controls(panel).items():
        own = unwrap(widget).minimumSizeHint().width()
        assert own <= PANEL / 2, f"{key} alone needs {own} pixels at {font} pt"


@pytest.mark.parametrize("name", MODULES)
def test_every_control_has_a_tooltip_with_its_unit(app: Any, name: str) -> None:
    panel = opened(app, name)
    found = controls(panel)
    assert len(found) > 15
    for key, widget in found.items():
        text = str(widget.toolTip)
        assert len(text) > 15, f"{key} has no tooltip"
        if class_of(widget) in NUMBERS:
            unit = str(widget.suffix).strip()
            assert not unit or re.search(UNITS[unit], text), f"{key} is in {unit}, which its tooltip does not say: {text}"
