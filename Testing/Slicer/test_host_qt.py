"""The host's Qt: the style of PythonQt, .ui files and dialogs; what is misspelt raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)

import slicer

PANEL = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
 <widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="layout">
  <item><widget class="ctkCollapsibleButton" name="section">
   <property name="text"><string>Section</string></property>
   <property name="collapsed"><bool>{collapsed}</bool></property>
   <layout class="QFormLayout" name="form">
    <item row="0" column="0"><widget class="QLabel" name="label">
     <property name="text"><string>Volume:</string></property></widget></item>
    <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="selector">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="{none}"><bool>true</bool></property>
     <property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
   </layout></widget></item>
 </layout></widget>
 <customwidgets>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>x.h</header></customwidget>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>x.h</header>
   <container>1</container></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><header>x.h</header>
   <container>1</container></customwidget>
 </customwidgets>
 <connections><connection><sender>Panel</sender><signal>{signal}</signal>
  <receiver>selector</receiver><slot>{slot}</slot></connection></connections>
</ui>"""
GOOD = {
    "collapsed": "false",
    "none": "noneEnabled",
    "signal": "mrmlSceneChanged(vtkMRMLScene*)",
    "slot": "setMRMLScene(vtkMRMLScene*)",
}


@pytest.fixture
def qt(app: Any) -> Any:
    import qt

    return qt


def load(folder: Path, **changes: str) -> Any:
    path = folder / "Panel.ui"
    path.write_text(PANEL.format(**{**GOOD, **changes}), encoding="utf-8")
    return slicer.util.loadUI(str(path))


def test_properties_are_attributes(qt: Any) -> None:
    button = qt.QPushButton("Apply")
    assert (button.text, button.enabled, button.checked, button.className()) == (
        "Apply",
        True,
        False,
        "QPushButton",
    )
    button.enabled, button.toolTip, button.name = False, "Fit", "applyButton"
    button.setText("Fit")
    assert (button.enabled, button.toolTip, button.objectName, button.text) == (
        False,
        "Fit",
        "applyButton",
        "Fit",
    )
    spin = qt.QDoubleSpinBox()
    spin.maximum, spin.decimals, spin.value = 10, 1, 2.34
    assert spin.value == 2.3
    timer = qt.QTimer()
    timer.setInterval(20)
    timer.start()
    assert timer.active and timer.isActive() and timer.interval == 20


def test_wrappers_are_one_per_object_and_of_their_class(qt: Any) -> None:
    widget, button = qt.QWidget(), qt.QPushButton()
    layout = qt.QVBoxLayout(widget)
    layout.addWidget(button)
    assert widget.layout() is layout and layout.itemAt(0).widget() is button
    assert widget.findChildren(qt.QPushButton) == (button,)
    assert type(button) == qt.QPushButton and isinstance(button, qt.QWidget)  # noqa: E721
    widget.delete()
    with pytest.raises(ValueError, match="deleted"):
        button.text  # noqa: B018


@pytest.mark.parametrize("name", ["enabeld", "tooltip", "set_text", "isenabled", "_q2"])
def test_a_misspelt_attribute_raises_when_read_or_set(qt: Any, name: str) -> None:
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match=name):
        getattr(button, name)
    with pytest.raises(AttributeError, match=name):
        setattr(button, name, True)


def test_a_property_refuses_what_it_cannot_hold_or_may_not_be_set(qt: Any) -> None:
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3
    with pytest.raises(AttributeError, match="does not accept"):
        qt.QSpinBox().value = "many"
    with pytest.raises(AttributeError, match="does not accept"):
        qt.QLabel().text = None
    with pytest.raises(TypeError):
        qt.QPushButton().text()  # a property, not a method
    with pytest.raises(AttributeError):
        qt.QPushButtn  # noqa: B018


def test_signals_by_signature_and_by_name(qt: Any) -> None:
    button, got = qt.QPushButton(), []
    button.checkable = True

    def both(*args: Any) -> None:
        got.append(args)

    button.connect("clicked()", lambda: got.append("bare"))
    button.connect("toggled(bool)", both)
    button.clicked.connect(lambda checked: got.append(checked))
    button.click()
    assert sorted(map(str, got)) == ["(True,)", "True", "bare"]
    assert button.disconnect("toggled(bool)", both) and not button.disconnect("toggled(bool)", both)
    got.clear()
    button.click()
    assert sorted(map(str, got)) == ["False", "bare"]
    slider, spin = qt.QSlider(), qt.QSpinBox()
    slider.valueChanged.connect(spin.setValue)
    slider.value = 7
    assert spin.value == 7


@pytest.mark.parametrize("signal", ["clicked(int)", "clickd(bool)", "enabled(bool)"])
def test_a_misspelt_signal_raises(qt: Any, signal: str) -> None:
    with pytest.raises(ValueError, match="has no signal"):
        qt.QPushButton().connect(signal, print)
    with pytest.raises(AttributeError):
        qt.QPushButton().clickd.connect(print)


def test_combo_box_items_and_data(qt: Any) -> None:
    combo, chosen = qt.QComboBox(), []
    combo.connect("currentIndexChanged(int)", chosen.append)
    combo.addItem("CPU", "cpu")
    combo.addItem("GPU", "cuda")
    combo.currentIndex = 1
    assert (combo.currentText, combo.currentData, combo.itemData(0), combo.count) == ("GPU", "cuda", "cpu", 2)
    assert chosen == [0, 1]


def test_ctk_widgets(qt: Any) -> None:
    import ctk

    slider, got = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.decimals, slider.singleStep = -5, 5, 1, 0.5
    slider.connect("valueChanged(double)", got.append)
    slider.value = 2.26
    assert slider.value == 2.3 and got == [2.3]
    slider.setRange(0, 1)
    assert slider.value == 1 and got == [2.3, 1]
    with pytest.raises(AttributeError):
        slider.max = 4
    path = ctk.ctkPathLineEdit()
    path.currentPath = "scans/a.nrrd"
    assert path.currentPath == "scans/a.nrrd"
    with pytest.raises(NotImplementedError):
        ctk.ctkDirectoryButton()


def test_a_section_hides_its_contents_while_collapsed(qt: Any, tmp_path: Path) -> None:
    panel = load(tmp_path, collapsed="true")
    panel.show()
    ui = slicer.util.childWidgetVariables(panel)
    slicer.app.processEvents()
    assert ui.section.collapsed and not ui.label.visible
    heights, got = [ui.section.sizeHint.height()], []
    ui.section.connect("contentsCollapsed(bool)", got.append)
    ui.section.collapsed = False
    slicer.app.processEvents()
    assert ui.label.visible and ui.selector.visible and got == [False]
    heights.append(ui.section.sizeHint.height())
    assert heights[1] > heights[0] + 20
    panel.delete()


def test_a_ui_file_with_slicers_widgets_and_connections(qt: Any, tmp_path: Path) -> None:
    panel = load(tmp_path)
    selector = slicer.util.childWidgetVariables(panel).selector
    assert type(selector) == slicer.qMRMLNodeComboBox and not selector.enabled  # noqa: E721
    assert (
        selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
        and selector.property("SlicerParameterName") == "volume"
    )
    panel.setMRMLScene(slicer.mrmlScene)
    assert selector.mrmlScene() is slicer.mrmlScene and selector.enabled
    panel.delete()


@pytest.mark.parametrize(
    "change",
    [
        {"none": "noneEnable"},
        {"signal": "sceneChanged(vtkMRMLScene*)"},
        {"slot": "setMrmlScene(vtkMRMLScene*)"},
    ],
)
def test_a_ui_file_with_a_misspelt_property_signal_or_slot_raises(
    qt: Any, tmp_path: Path, change: dict[str, str]
) -> None:
    with pytest.raises((AttributeError, ValueError)):
        load(tmp_path, **change)


def test_messages_are_recorded_and_questions_answered(app: Any, qt: Any) -> None:
    slicer.util.errorDisplay("no contrast", detailedText="trace")
    slicer.util.infoDisplay("done")
    shown = [(m.text, m.icon) for m in app.messages]
    assert (
        shown == [("no contrast", "Critical"), ("done", "Information")] and app.messages[0].detail == "trace"
    )
    app.answers += [True, "Cancel", "Yes"]
    assert slicer.util.confirmOkCancelDisplay("go?") is True
    assert slicer.util.confirmOkCancelDisplay("go?") is False
    assert slicer.util.confirmYesNoDisplay("go?") is True
    with pytest.raises(LookupError, match="no answer is prepared"):
        slicer.util.confirmYesNoDisplay("go?")
    app.answers += ["/a/b.nrrd", "", ["/a", "/b"]]
    assert qt.QFileDialog.getSaveFileName(None, "Save") == "/a/b.nrrd"
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""
    assert qt.QFileDialog.getOpenFileNames(None, "Files") == ("/a", "/b")
    slicer.util.delayDisplay("wait")
    assert app.messages[-1].text == "wait"


def test_exceptions_in_slots_are_recorded(app: Any, qt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    qt.QTimer.singleShot(0, lambda: [][1])
    app.wait(2, until=lambda: len(app.errors) == 2)
    assert "ZeroDivisionError" in app.errors[0] and "IndexError" in app.errors[1]
    app.errors.clear()

    def told() -> None:
        with slicer.util.tryWithErrorDisplay("It failed."):
            raise RuntimeError("no memory")

    button.connect("clicked()", told)
    button.disconnect("clicked()")
    button.connect("clicked()", told)
    button.click()
    assert not app.errors and "no memory" in app.messages[-1].text
    capsys.readouterr()


def test_the_front_page_shows_the_middle_plane_of_the_demo(tmp_path: Path) -> None:
    from PIL import Image
    from screenshots import middle_row

    from GaussianMRILib.cli.comparison import comparison_picture

    rng = np.random.default_rng(0)
    truths = [rng.uniform(0, 1, (30, 40)).astype(np.float32) for _ in range(3)]
    for truth in truths:
        truth[:2] = 1.0  # one window for every plane
    comparison_picture(tmp_path / "three.png", truths, [])
    comparison_picture(tmp_path / "one.png", truths[1:2], [])
    with Image.open(tmp_path / "one.png") as one:
        assert np.array_equal(np.asarray(middle_row(tmp_path / "three.png")), np.asarray(one))
