"""slicer.ScriptedLoadableModule and slicer.i18n, as Slicer's developer guide documents them."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

PARAMETER_CLASS = "vtkMRMLScriptedModuleNode"


class ScriptedLoadableModule:
    """Base of a module: its metadata are set on `parent`."""

    def __init__(self, parent: Any) -> None:
        import qt
        import slicer

        self.parent = parent
        self.moduleName = type(self).__name__
        for ending in (".svg", ".png"):
            icon = Path(self.resourcePath("Icons")) / (self.moduleName + ending)
            if icon.is_file():
                parent.icon = qt.QIcon(str(icon))
                break
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        """Absolute path of a file in the module's Resources folder."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        """A sentence with a link to the online documentation."""
        return f'<p>For more information, see the <a href="{docPage or self.moduleName}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **named: Any) -> None:
        """Run the module's own test case."""
        case = getattr(sys.modules[type(self).__module__], self.moduleName + "Test")()
        case.messageDelay = msec
        case.runTest(**named)


class ScriptedLoadableModuleWidget:
    """Base of a module's panel: `parent` is the panel, `layout` its layout."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        import qt
        import slicer

        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        if parent is None:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect(
            "moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded
        )

    def resourcePath(self, filename: str) -> str:
        """Absolute path of a file in the module's Resources folder."""
        import slicer

        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Make the panel."""

    def cleanup(self) -> None:
        """Called before the module goes."""

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        import slicer

        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect(
                "moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded
            )


class ScriptedLoadableModuleLogic:
    """Base of a module's logic, with its parameter node in the scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getAllParameterNodes(self) -> list[Any]:
        """Every parameter node of the module."""
        import slicer

        nodes = slicer.util.getNodesByClass(PARAMETER_CLASS)
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def getParameterNode(self) -> Any:
        """The module's parameter node; made where there is none."""
        import slicer

        if self.isSingletonParameterNode:
            found = slicer.mrmlScene.GetSingletonNode(self.moduleName, PARAMETER_CLASS)
            if found is not None:
                found.SetAttribute("ModuleName", self.moduleName)  # a closed scene leaves the node without it
        else:
            found = next(iter(self.getAllParameterNodes()), None)
        return found or slicer.mrmlScene.AddNode(self.createParameterNode())

    def createParameterNode(self) -> Any:
        """A new parameter node, not yet in the scene."""
        import slicer

        made = slicer.vtkMRMLScriptedModuleNode()
        made.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        made.SetAttribute("ModuleName", self.moduleName)
        if self.isSingletonParameterNode:
            made.SetSingletonTag(self.moduleName)
        return made


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's own test."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.messageDelay = 100
        super().__init__(*(args or ("runTest",)), **named)

    def runTest(self) -> None:
        """Replaced by the module's test."""

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """Show a message for a while."""
        import slicer

        slicer.util.delayDisplay(message, self.messageDelay)

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        """Screenshots are off, as they are by default in Slicer."""
        self.delayDisplay(description)


def modules() -> dict[str, ModuleType]:
    """The Python modules that Slicer has and slicer-core lacks, by name."""
    base, texts = ModuleType("slicer.ScriptedLoadableModule"), ModuleType("slicer.i18n")
    names = ("", "Widget", "Logic", "Test")
    base.__all__ = ["ScriptedLoadableModule" + name for name in names]
    for name in base.__all__:
        setattr(base, name, globals()[name])
    texts.tr = lambda text: text
    texts.translate = lambda context, text: text
    texts.getContext = lambda path: Path(path).stem
    return {base.__name__: base, texts.__name__: texts}
