"""The widgets of CTK that modules use, over PySide6, with CTK's properties and signals."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


def stored(kind: Any, name: str, default: Any, changed: str | None = None) -> Any:
    """A property that is a value of its own; `changed` names a method called after a change."""

    def write(self: Any, value: Any) -> None:
        if value != getattr(self, "_" + name, default):
            setattr(self, "_" + name, value)
            if changed:
                getattr(self, changed)()

    return Property(kind, lambda self: getattr(self, "_" + name, default), write)


def inner(kind: Any, part: str, getter: str, setter: str) -> Any:
    """A property of a widget within."""
    return Property(
        kind,
        lambda self: getattr(getattr(self, part), getter)(),
        lambda self, value: getattr(getattr(self, part), setter)(value),
    )


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A section of a panel with a header; its contents are hidden while it is collapsed."""

    API = ("setCollapsed",)
    contentsCollapsed = Signal(bool)

    def __init__(self, *args: Any) -> None:
        text = args[0] if args and isinstance(args[0], str) else ""
        super().__init__(next((a for a in args if isinstance(a, QtWidgets.QWidget)), None))
        self._collapsed, self._hidden, self._flat = False, [], False
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._header(), 0, 0)
        self.toggled.connect(lambda on: self._collapse(not on))

    def _header(self) -> int:
        return self.fontMetrics().height() + 10

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        if collapsed:
            self._hide_contents()
        else:
            for child in self._hidden:
                child.setVisible(True)
            self._hidden = []
        policy = QtWidgets.QSizePolicy.Policy
        self.setSizePolicy(policy.Preferred, policy.Maximum if collapsed else policy.Preferred)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _hide_contents(self) -> None:
        for child in self.findChildren(
            QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        ):
            if not child.isHidden() and not child.isWindow():
                child.setVisible(False)
                self._hidden.append(child)

    collapsed = Property(bool, lambda self: self._collapsed, _collapse, notify=contentsCollapsed)
    collapsedHeight = stored(int, "collapsed_height", 14)
    flat = stored(bool, "flat", False)
    contentsFrameShape = stored(int, "frame_shape", 6)
    contentsFrameShadow = stored(int, "frame_shadow", 32)
    contentsLineWidth = stored(int, "line_width", 1)
    contentsMidLineWidth = stored(int, "mid_line_width", 0)

    def setCollapsed(self, collapsed: bool) -> None:
        self._collapse(collapsed)

    def event(self, event: QtCore.QEvent) -> bool:
        kinds = (QtCore.QEvent.Type.LayoutRequest, QtCore.QEvent.Type.ChildPolished, QtCore.QEvent.Type.Show)
        if event.type() in kinds and self._collapsed:
            self._hide_contents()  # contents that came while it was collapsed
        return super().event(event)

    def hitButton(self, point: QtCore.QPoint) -> bool:
        return point.y() < self._header()

    def sizeHint(self) -> QtCore.QSize:
        header = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._header())
        if self._collapsed or self.layout() is None:
            return header
        return self.layout().totalSizeHint().expandedTo(header)

    def minimumSizeHint(self) -> QtCore.QSize:
        if self._collapsed or self.layout() is None:
            return QtCore.QSize(60, self._header())
        return self.layout().totalMinimumSize().expandedTo(QtCore.QSize(60, self._header()))

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        palette, height = self.palette(), self._header()
        painter.setPen(palette.color(QtGui.QPalette.ColorRole.Mid))
        if not self._collapsed:
            painter.drawRect(self.rect().adjusted(0, height // 2, -1, -1))
        painter.setBrush(palette.color(QtGui.QPalette.ColorRole.Button))
        painter.drawRoundedRect(0, 0, self.width() - 1, height - 2, 3, 3)
        option = QtWidgets.QStyleOption()
        option.initFrom(self)
        option.rect = QtCore.QRect(7, (height - 13) // 2, 12, 12)
        arrow = QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowRight
        if not self._collapsed:
            arrow = QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowDown
        self.style().drawPrimitive(arrow, option, painter, self)
        group = QtGui.QPalette.ColorGroup.Normal if self.isEnabled() else QtGui.QPalette.ColorGroup.Disabled
        painter.setPen(palette.color(group, QtGui.QPalette.ColorRole.ButtonText))
        place = QtCore.QRect(26, 0, self.width() - 30, height - 2)
        painter.drawText(
            place, QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft, self.text()
        )


class _DoubleSpinBox(QtWidgets.QDoubleSpinBox):
    def __init__(self) -> None:
        super().__init__()
        self.setMaximum(99.99)


class ctkDoubleSpinBox(QtWidgets.QWidget):
    """A spin box of doubles."""

    API = (
        "setRange",
        "stepUp",
        "stepDown",
        "setValueIfDifferent",
        "setValueAlways",
        "text",
        "spinBox",
        "lineEdit",
    )
    SIGNALS: ClassVar = {
        "valueChanged(double)": "valueChanged",
        "valueChanged(QString)": "textChanged_",
        "editingFinished()": "editingFinished",
        "decimalsChanged(int)": "decimalsChanged",
    }
    valueChanged, textChanged_, editingFinished, decimalsChanged = (
        Signal(float),
        Signal(str),
        Signal(),
        Signal(int),
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(next((a for a in args if isinstance(a, QtWidgets.QWidget)), None))
        self._spin = _DoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self.valueChanged)
        self._spin.textChanged.connect(self.textChanged_)
        self._spin.editingFinished.connect(self.editingFinished)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Fixed)

    value = inner(float, "_spin", "value", "setValue")
    minimum = inner(float, "_spin", "minimum", "setMinimum")
    maximum = inner(float, "_spin", "maximum", "setMaximum")
    singleStep = inner(float, "_spin", "singleStep", "setSingleStep")
    prefix = inner(str, "_spin", "prefix", "setPrefix")
    suffix = inner(str, "_spin", "suffix", "setSuffix")
    readOnly = inner(bool, "_spin", "isReadOnly", "setReadOnly")
    cleanText = Property(str, lambda self: self._spin.cleanText())
    decimalsOption = stored(int, "decimals_option", 0)
    sizeHintPolicy = stored(int, "size_hint_policy", 0)

    def _set_decimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    decimals = Property(int, lambda self: self._spin.decimals(), _set_decimals)

    def setRange(self, low: float, high: float) -> None:
        self._spin.setRange(low, high)

    def stepUp(self) -> None:
        self._spin.stepUp()

    def stepDown(self) -> None:
        self._spin.stepDown()

    def setValueIfDifferent(self, value: float) -> None:
        self._spin.setValue(value)

    setValueAlways = setValueIfDifferent

    def text(self) -> str:
        return self._spin.text()

    def spinBox(self) -> QtWidgets.QDoubleSpinBox:
        return self._spin

    def lineEdit(self) -> QtWidgets.QLineEdit:
        return self._spin.lineEdit()


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box of one double."""

    API = ("setRange", "reset", "spinBox")
    valueChanged, valueIsChanging, decimalsChanged = Signal(float), Signal(float), Signal(int)
    SIGNALS: ClassVar = {
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "decimalsChanged(int)": "decimalsChanged",
    }
    STEPS = 10_000

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = ctkDoubleSpinBox()
        self._spin = self._box.spinBox()
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, self.STEPS)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._spin.setMaximum(99)
        self._spin.valueChanged.connect(self._changed)
        self._slider.valueChanged.connect(self._slid)
        self._slider.sliderReleased.connect(self._released)

    def _changed(self, value: float) -> None:
        self._place()
        if not self.tracking:
            self.valueIsChanging.emit(value)
        if not self._slider.isSliderDown() or self.tracking:
            self.valueChanged.emit(value)

    def _released(self) -> None:
        if not self.tracking:
            self.valueChanged.emit(self._spin.value())

    def _place(self) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(
            round((self._spin.value() - low) / (high - low) * self.STEPS) if high > low else 0
        )
        self._slider.blockSignals(False)

    def _slid(self, position: int) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        step = self._spin.singleStep() or 1.0
        self._spin.setValue(low + round((high - low) * position / self.STEPS / step) * step)

    def _set_minimum(self, value: float) -> None:
        self._spin.setMinimum(value)
        self._place()

    def _set_maximum(self, value: float) -> None:
        self._spin.setMaximum(value)
        self._place()

    def setRange(self, low: float, high: float) -> None:
        self._spin.setRange(low, high)
        self._place()

    def reset(self) -> None:
        self._spin.setValue(0.0)

    def spinBox(self) -> ctkDoubleSpinBox:
        return self._box

    value = inner(float, "_spin", "value", "setValue")
    minimum = Property(float, lambda self: self._spin.minimum(), _set_minimum)
    maximum = Property(float, lambda self: self._spin.maximum(), _set_maximum)
    singleStep = inner(float, "_spin", "singleStep", "setSingleStep")
    decimals = inner(int, "_spin", "decimals", "setDecimals")
    prefix = inner(str, "_spin", "prefix", "setPrefix")
    suffix = inner(str, "_spin", "suffix", "setSuffix")
    pageStep = stored(float, "page_step", 10.0)
    tickInterval = stored(float, "tick_interval", 0.0)
    tracking = stored(bool, "tracking", True)
    spinBoxVisible = Property(
        bool, lambda self: not self._box.isHidden(), lambda self, visible: self._box.setVisible(visible)
    )
    popupSlider = stored(bool, "popup_slider", False)
    invertedAppearance = inner(bool, "_slider", "invertedAppearance", "setInvertedAppearance")
    invertedControls = inner(bool, "_slider", "invertedControls", "setInvertedControls")


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    defaultText = stored(str, "default_text", "", "update")
    forceDefault = stored(bool, "force_default", False)
    elideMode = stored(int, "elide_mode", 3)
    scrollWheelEffect = stored(int, "scroll_wheel_effect", 1)

    def _user_data(self) -> str:
        return str(self.currentData() or "")

    def _set_user_data(self, data: str) -> None:
        self.setCurrentIndex(self.findData(data))

    currentUserDataAsString = Property(str, _user_data, _set_user_data)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        # Qt's own placeholder would change which item is chosen first.
        painter, option = QtWidgets.QStylePainter(self), QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        if self.currentIndex() < 0 or self.forceDefault:
            option.currentText = self.defaultText
        painter.drawComplexControl(QtWidgets.QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_ComboBoxLabel, option)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path with a history and a button that opens a file dialog.

    As in CTK: without `filters` the dialog asks for a file; a text that is no path (empty, or none of the name filters)
    emits no currentPathChanged; the path of the last dialog is where the next one begins.
    """

    API = ("browse", "retrieveHistory", "addCurrentPathToHistory", "comboBox", "setCurrentFileExtension")
    Dirs, Files, Drives, Readable, Writable, Executable = 1, 2, 4, 16, 32, 64
    Hidden, NoDotAndDotDot, NoDot, NoDotDot = 256, 0x1000, 0x2000, 0x4000
    currentPathChanged, validInputChanged = Signal(str), Signal(bool)

    def __init__(self, *args: Any) -> None:
        super().__init__(next((a for a in args if isinstance(a, QtWidgets.QWidget)), None))
        self._combo = QtWidgets.QComboBox()
        self._combo.setEditable(True)
        self._combo.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._button = QtWidgets.QToolButton()
        self._button.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        layout.addWidget(self._button)
        self._valid = False
        self._set_validator()
        self._combo.lineEdit().textChanged.connect(self._text_changed)
        self._button.clicked.connect(lambda: self.browse())

    def _set_validator(self) -> None:
        endings = re.findall(r"\*\.(\w+)", " ".join(getattr(self, "_name_filters", [])))
        pattern = "|".join(rf".*\.{ending}?" for ending in endings) or ".+"
        expression = QtCore.QRegularExpression(f"({pattern})")
        self._combo.lineEdit().setValidator(QtGui.QRegularExpressionValidator(expression, self))

    def _text_changed(self, text: str) -> None:
        before, self._valid = self._valid, self._combo.lineEdit().hasAcceptableInput()
        if self._valid:
            self.currentPathChanged.emit(text)
        if self._valid != before:
            self.validInputChanged.emit(self._valid)

    def browse(self) -> None:
        from .dialogs import ask_path

        if not self.filters & self.Files:
            path = ask_path("Select a directory...", "Folder")
        elif self.filters & self.Writable:
            path = ask_path("Select a file to save ", "Save", ";;".join(self.nameFilters))
        else:
            path = ask_path("Open a file", "Open", ";;".join(self.nameFilters))
        if path:
            self._combo.lineEdit().setText(path)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    def addCurrentPathToHistory(self) -> None:
        if self._combo.findText(self._combo.currentText()) < 0:
            self._combo.addItem(self._combo.currentText())

    def retrieveHistory(self) -> None:
        """The host keeps no history between tests."""

    def setCurrentFileExtension(self, extension: str) -> None:
        self._combo.lineEdit().setText(str(self._combo.currentText()).rsplit(".", 1)[0] + extension)

    currentPath = Property(
        str, lambda self: self._combo.lineEdit().text(), lambda self, path: self._combo.lineEdit().setText(path)
    )
    label = stored(str, "label", "")
    filters = stored(int, "filters", 7 | 16 | 64 | 0x1000)
    options = stored(int, "options", 0)
    settingKey = stored(str, "setting_key", "")
    nameFilters = stored("QStringList", "name_filters", [], "_set_validator")
    minimumContentsLength = stored(int, "minimum_contents_length", 0)
    sizeAdjustPolicy = stored(int, "size_adjust_policy", 1)
    showHistoryButton = stored(bool, "show_history_button", True)
    showBrowseButton = Property(
        bool, lambda self: not self._button.isHidden(), lambda self, visible: self._button.setVisible(visible)
    )


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that can be told not to come again."""

    dontShowAgain = stored(bool, "dont_show_again", False)
    dontShowAgainVisible = stored(bool, "dont_show_again_visible", False)
    dontShowAgainSettingsKey = stored(str, "dont_show_again_settings_key", "")


WIDGETS = {
    cls.__name__: cls
    for cls in (
        ctkCollapsibleButton,
        ctkComboBox,
        ctkDoubleSpinBox,
        ctkMessageBox,
        ctkPathLineEdit,
        ctkSliderWidget,
    )
}
