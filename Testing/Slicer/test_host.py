"""The host runs a module as Slicer does: its file, panel, parameter node, life cycle, services."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)

import slicer

MODULE = """
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin


class Scaler(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Scaler")
        parent.categories = ["Examples"]
        parent.dependencies = ["Volumes"]
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Scaler", sampleName="Ramp", uris="", fileNames="", nodeNames="Ramp",
        customDownloader=lambda source: ScalerLogic().ramp(source.nodeNames),
    )


@parameterNodeWrapper
class ScalerParameterNode:
    volume: vtkMRMLScalarVolumeNode
    others: list[vtkMRMLScalarVolumeNode]
    factor: Annotated[float, WithinRange(0, 10)] = 2.0
    mode: Annotated[str, Choice(["multiply", "divide"])] = "multiply"
    inPlace: bool = False
    note: str = "none"


class ScalerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.calls.append("setup")
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Scaler.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ScalerLogic()
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartBatchProcessEvent, self.onStartFilling)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndBatchProcessEvent, self.onFilled)
        self.setParameterNode(self.logic.getParameterNode())

    def enter(self):
        self.calls.append("enter")
        self.setParameterNode(self.logic.getParameterNode())

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def onStartFilling(self, caller, event):
        self.setParameterNode(None)

    def onFilled(self, caller, event):
        if self.parent.isEntered:
            self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNode = node
        if node:
            self._parameterNodeGuiTag = node.connectGui(self.ui)

    def onApply(self):
        p = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("Not scaled."), waitCursor=True):
            self.logic.scale(p.volume, p.factor if p.mode == "multiply" else 1 / p.factor)


class ScalerLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return ScalerParameterNode(super().getParameterNode())

    def ramp(self, name):
        import numpy as np

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, np.arange(24.0).reshape(2, 3, 4))
        return node

    def scale(self, node, factor):
        if node is None:
            raise ValueError("there is no volume")
        slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node) * factor)


class ScalerTest(ScriptedLoadableModuleTest):
    def runTest(self):
        slicer.mrmlScene.Clear()
        node = ScalerLogic().ramp("test")
        ScalerLogic().scale(node, 3)
        self.assertEqual(slicer.util.arrayFromVolume(node).max(), 69)
        self.delayDisplay("passed")
"""

WIDGETS = [
    ("qMRMLNodeComboBox", "selector", "volume", ""),
    ("ctkSliderWidget", "factorSlider", "factor", ""),
    ("QComboBox", "modeSelector", "mode", ""),
    ("QCheckBox", "inPlaceCheckBox", "inPlace", ""),
    ("QLineEdit", "noteEdit", "note", ""),
    ("QPushButton", "applyButton", "", ""),
]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The folder of the module, as in a checkout."""
    rows = "".join(
        f'<item><widget class="{cls}" name="{name}">'
        + (
            f'<property name="SlicerParameterName" stdset="0"><string>{parameter}</string></property>'
            if parameter
            else ""
        )
        + (
            '<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>'
            '<property name="noneEnabled"><bool>true</bool></property>'
            if cls == "qMRMLNodeComboBox"
            else ""
        )
        + "</widget></item>"
        for cls, name, parameter, _ in WIDGETS
    )
    ui = f"""<ui version="4.0"><widget class="qMRMLWidget" name="Scaler"><layout class="QVBoxLayout">{rows}</layout>
        </widget><customwidgets><customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>x.h</header>
        <container>1</container></customwidget></customwidgets><connections><connection><sender>Scaler</sender>
        <signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>selector</receiver>
        <slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""
    folder = tmp_path / "Scaler"
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Resources" / "UI" / "Scaler.ui").write_text(ui)
    (folder / "Scaler.py").write_text(MODULE)
    return folder / "Scaler.py"


@pytest.fixture
def panel(app: Any, module: Path) -> Any:
    app.load_module(module)
    app.start()
    return app.select("Scaler")


def test_life_cycle(app: Any, panel: Any, module: Path) -> None:
    assert panel.calls == ["setup", "enter"] and panel.parent.isEntered
    loaded = slicer.modules.scaler
    assert (loaded.title, loaded.name, loaded.categories) == ("Scaler", "Scaler", ("Examples",))
    assert loaded.path == str(module) and panel.resourcePath("UI").endswith("Scaler/Resources/UI")
    assert loaded.widgetRepresentation().self() is panel is slicer.modules.ScalerWidget
    assert slicer.util.getModuleLogic("Scaler") is panel.logic
    app.select("Scaler")
    assert panel.calls == ["setup", "enter"]
    app.module_manager.moduleAboutToBeUnloaded.emit("Other")
    app.module_manager.moduleAboutToBeUnloaded.emit("Scaler")
    assert panel.calls == ["setup", "enter", "cleanup"]


def test_another_module_is_opened(app: Any, panel: Any, module: Path) -> None:
    other = module.parent / "Second.py"
    other.write_text(
        textwrap.dedent("""
        from slicer.ScriptedLoadableModule import *
        class Second(ScriptedLoadableModule): pass
        class SecondWidget(ScriptedLoadableModuleWidget): pass
    """)
    )
    app.load_module(other)
    slicer.util.selectModule("Second")
    assert panel.calls == ["setup", "enter", "exit"] and not panel.parent.isEntered
    slicer.util.selectModule(slicer.modules.scaler)
    assert panel.calls == ["setup", "enter", "exit", "enter"]


def test_parameters_and_widgets_follow_each_other(app: Any, panel: Any) -> None:
    parameters, ui = panel._parameterNode, panel.ui
    assert (ui.factorSlider.maximum, ui.factorSlider.value, ui.modeSelector.currentText) == (
        10,
        2,
        "multiply",
    )
    ui.factorSlider.value, ui.modeSelector.currentIndex, ui.inPlaceCheckBox.checked = 4.5, 1, True
    ui.noteEdit.text = "b"
    assert (parameters.factor, parameters.mode, parameters.inPlace, parameters.note) == (
        4.5,
        "divide",
        True,
        "b",
    )
    assert parameters.parameterNode.GetParameter("inPlace") == "True"
    parameters.factor, parameters.mode = 3, "multiply"
    assert (ui.factorSlider.value, ui.modeSelector.currentText) == (3, "multiply")
    node = panel.logic.ramp("r")
    ui.selector.setCurrentNode(node)
    assert parameters.volume is node and parameters.parameterNode.GetNodeReferenceID("volume") == node.GetID()
    slicer.mrmlScene.RemoveNode(node)
    assert parameters.volume is None and ui.selector.currentNode() is None


def test_parameters_refuse_wrong_values(app: Any, panel: Any) -> None:
    parameters = panel._parameterNode
    for name, value, error in (
        ("factor", 11, ValueError), ("factor", "1", TypeError), ("mode", "add", ValueError), ("inPlace", 1, TypeError),
        ("volume", slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode"), TypeError), ("note", None, ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            setattr(parameters, name, value)
    assert (parameters.factor, parameters.mode, parameters.volume) == (2, "multiply", None)
    with pytest.raises(AttributeError):
        _ = parameters.fator
    parameters.fator = 1  # passes: an attribute of the wrapper that nothing else knows
    assert not parameters.parameterNode.HasParameter("fator")


def test_a_chosen_node_is_kept_until_the_parameter_node_is_changed(app: Any, panel: Any) -> None:
    """Slicer 5.12: NodeSerializer.supportsCaching."""
    parameters = panel._parameterNode
    parameters.volume = chosen = panel.logic.ramp("a")
    node = parameters.parameterNode
    node.SetDisableModifiedEvent(1)
    node.SetNodeReferenceID("volume", None)
    node.SetDisableModifiedEvent(0)
    assert parameters.volume is chosen
    node.Modified()
    assert parameters.volume is None


def test_lists_of_nodes(app: Any, panel: Any) -> None:
    parameters = panel._parameterNode
    nodes = [panel.logic.ramp(name) for name in "abc"]
    parameters.others = nodes
    parameters.others.append(nodes[0])
    assert parameters.others == [*nodes, nodes[0]] and not isinstance(parameters.others, list)
    del parameters.others[0]
    assert parameters.others == [*nodes[1:], nodes[0]] and len(parameters.others) == 3
    slicer.mrmlScene.RemoveNode(nodes[1])
    assert parameters.others[0] is None
    with pytest.raises(TypeError):
        parameters.others = [slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")]


def test_apply_and_its_error(app: Any, panel: Any) -> None:
    node = panel.logic.ramp("r")
    panel._parameterNode.volume = node
    panel.ui.applyButton.click()
    assert slicer.util.arrayFromVolume(node).max() == 46 and not app.messages
    panel._parameterNode.volume = None
    panel.ui.applyButton.click()
    assert app.messages[-1].text.startswith("Not scaled.") and "there is no volume" in app.messages[-1].text


def test_a_saved_scene_brings_its_parameters_back(app: Any, panel: Any, tmp_path: Path) -> None:
    node = panel.logic.ramp("r")
    panel._parameterNode.volume, panel._parameterNode.factor = node, 7
    panel._parameterNode.others = [node]
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    assert panel._parameterNode.volume is None and panel._parameterNode.factor == 2
    app.load(tmp_path / "scene.mrb")
    parameters = panel.logic.getParameterNode()
    assert parameters.factor == 7 and parameters.volume.GetName() == "r"
    assert [n.GetName() for n in parameters.others] == ["r"] and panel.ui.factorSlider.value == 7
    assert panel.logic.getAllParameterNodes() == [parameters.parameterNode]


def test_sample_data_and_self_test(app: Any, panel: Any) -> None:
    assert app.sample_data.click("Ramp").GetName() == "Ramp"
    slicer.selfTests["Scaler"]()
    assert [m.text for m in app.messages] == ["passed"]


def test_packages_and_torch(app: Any, panel: Any) -> None:
    from PyTorchUtils import PyTorchUtilsLogic

    packaging = importlib.import_module("slicer.packaging")
    app.packages.missing = {"highdicom"}
    app.answers += [False, True]
    assert not packaging.pip_check("highdicom>=0.2")
    with pytest.raises(RuntimeError, match="declined"):
        packaging.pip_ensure(["numpy", "highdicom>=0.2"], requester="Scaler")
    packaging.pip_ensure(["numpy", "highdicom>=0.2"], requester="Scaler")
    assert app.packages.installed == ["highdicom>=0.2"] and packaging.pip_check("highdicom")
    app.packages.missing, app.packages.offline = {"x"}, True
    with pytest.raises(subprocess.CalledProcessError):
        slicer.util.pip_install("x")
    app.torch.installed = False
    app.answers.append(False)
    assert (
        PyTorchUtilsLogic().installTorch(askConfirmation=True) is None
        and not PyTorchUtilsLogic.torchInstalled()
    )


def test_an_older_slicer_without_packaging_and_without_the_pytorch_extension(app: Any) -> None:
    app.packages.absent = True
    app.torch.extension = False
    with pytest.raises(ImportError):
        importlib.import_module("slicer.packaging")
    with pytest.raises(ImportError):
        importlib.import_module("PyTorchUtils")
    assert not hasattr(slicer, "packaging")
    slicer.util.pip_install("highdicom>=0.2")
    assert app.packages.installed == ["highdicom>=0.2"]


def test_modules_that_slicer_would_not_load(app: Any, tmp_path: Path) -> None:
    header = "from slicer.ScriptedLoadableModule import *\n"
    (tmp_path / "Other.py").write_text(header + "class Another(ScriptedLoadableModule): pass\n")
    with pytest.raises(LookupError, match="class Other"):
        app.load_module(tmp_path / "Other.py")
    (tmp_path / "Needy.py").write_text(
        header + "class Needy(ScriptedLoadableModule):\n"
        "    def __init__(self, parent):\n"
        "        ScriptedLoadableModule.__init__(self, parent)\n"
        "        parent.dependencies = ['Volume']\n"
    )
    with pytest.raises(LookupError, match="Volume"):
        app.load_module(tmp_path / "Needy.py")
    (tmp_path / "Typo.py").write_text(
        header + "class Typo(ScriptedLoadableModule):\n"
        "    def __init__(self, parent):\n"
        "        ScriptedLoadableModule.__init__(self, parent)\n"
        "        parent.tittle = 'x'\n"
    )
    with pytest.raises(AttributeError, match="tittle"):
        app.load_module(tmp_path / "Typo.py")


def test_nothing_is_left_behind(tmp_path: Path, module: Path) -> None:
    from host.application import Application

    before = (set(vars(slicer)), set(vars(slicer.util)), set(sys.modules), list(sys.path), sys.excepthook)
    made = Application(tmp_path)
    made.load_module(module)
    made.select("Scaler")
    made.quit()
    after = (set(vars(slicer)), set(vars(slicer.util)), set(sys.modules), list(sys.path), sys.excepthook)
    assert after[0] == before[0] and after[1] == before[1] and after[3:] == before[3:]
    left = {
        name
        for name in after[2] - before[2]
        if name.split(".")[0] in ("slicer", "qt", "ctk", "Scaler", "SampleData")
    }
    assert not left
