"""The Qt objects that Slicer's application is made of: slicer.app, its modules, its main window."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .widgets_ctk import stored

#: Modules of Slicer that a module may name as dependencies.
KNOWN = {
    "Annotations", "Cameras", "Colors", "CropVolume", "DICOM", "Data", "Markups", "Models", "Plots", "Reformat",
    "SampleData", "SceneViews", "SegmentEditor", "SegmentStatistics", "Segmentations", "Sequences", "SubjectHierarchy",
    "Tables", "Terminologies", "Texts", "Transforms", "Units", "ViewControllers", "VolumeRendering", "Volumes",
}  # fmt: skip


class qSlicerModuleManager(QtCore.QObject):
    API = ("module", "modulesNames", "factoryManager", "loadedModuleNames")
    SIGNALS: ClassVar = {
        "moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded",
        "moduleLoaded(QString)": "moduleLoaded",
    }
    moduleAboutToBeUnloaded, moduleLoaded = Signal(str), Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[str, Any] = {}
        self.started = False

    def module(self, name: str) -> Any:
        return self.loaded.get(name)

    def modulesNames(self) -> list[str]:
        """Modules that are loaded: none while Slicer starts, since it makes all of them before it loads the first."""
        return list(self.loaded) if self.started else []

    loadedModuleNames = modulesNames

    def factoryManager(self) -> Any:
        return self


class qSlicerCoreIOManager(QtCore.QObject):
    """Reads and writes what tests need: scenes, volumes, markups, models, segmentations, transforms, tables."""

    API = ("fileType", "loadNodes", "saveNodes", "fileWriterFileType")
    ENDINGS: ClassVar = {
        ".mrb": "SceneFile", ".mrml": "SceneFile", ".mrk.json": "MarkupsFile", ".vtk": "ModelFile", ".vtp": "ModelFile",
        ".seg.nrrd": "SegmentationFile", ".tfm": "TransformFile", ".h5": "TransformFile", ".csv": "TableFile",
        ".tsv": "TableFile",
    }  # fmt: skip
    CLASSES: ClassVar = {
        "ModelFile": "vtkMRMLModelNode",
        "SegmentationFile": "vtkMRMLSegmentationNode",
        "TransformFile": "vtkMRMLTransformNode",
        "TableFile": "vtkMRMLTableNode",
    }

    def fileType(self, path: str) -> str:
        return next((kind for end, kind in self.ENDINGS.items() if str(path).endswith(end)), "VolumeFile")

    def fileWriterFileType(self, node: Any) -> str:
        return node.GetClassName()

    def loadNodes(
        self, kind: str, properties: dict[str, Any], nodes: Any = None, messages: Any = None
    ) -> bool:
        scene, path = slicer.mrmlScene, str(properties["fileName"])
        name = properties.get("name") or Path(path).name.split(".")[0]
        if kind == "SceneFile":
            if path.endswith(".mrb"):
                return bool(scene.ReadFromMRB(path, properties.get("clear", False)))
            scene.SetURL(path)
            return bool(scene.Import())
        if kind == "VolumeFile":
            node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name)
        elif kind == "MarkupsFile":
            node = scene.GetNodeByID(slicer.modules.markups.logic().LoadMarkups(path, name) or "")
        else:
            node = scene.AddNewNodeByClass(self.CLASSES[kind], name)
            node.AddDefaultStorageNode()
            node.GetStorageNode().SetFileName(path)
            if not node.GetStorageNode().ReadData(node):
                scene.RemoveNode(node)
                node = None
        if node is not None and nodes is not None:
            nodes.AddItem(node)
        return node is not None

    def saveNodes(self, kind: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if kind == "SceneFile":
            scene = slicer.mrmlScene
            for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
                if node.GetStorageNode() is None:  # as Slicer's save dialog does
                    node.AddDefaultStorageNode()
            return bool(scene.WriteToMRB(path))
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))


class qSlicerCommandOptions(QtCore.QObject):
    testingEnabled = stored(bool, "testing", False)
    noMainWindow = stored(bool, "no_main_window", False)


class qSlicerApplication(QtWidgets.QApplication):
    """slicer.app. One object per process; every test gives it a new state."""

    API = (
        "mrmlScene", "applicationLogic", "layoutManager", "moduleManager", "moduleLogic", "coreIOManager", "ioManager",
        "settings", "userSettings", "revisionUserSettings", "commandOptions", "testingEnabled", "dicomDatabase",
        "pauseRender", "resumeRender", "setRenderPaused", "startupEnvironment", "moduleDocumentationUrl", "mainWindow",
        "errorLogModel", "pythonConsole", "openNodeModule", "restart",
    )  # fmt: skip
    SIGNALS: ClassVar = {
        "startupCompleted()": "startupCompleted",
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "renderPaused(bool)": "renderPaused",
    }
    startupCompleted, mrmlSceneChanged, renderPaused = Signal(), Signal(object), Signal(bool)
    state: Any = None

    temporaryPath = Property(str, lambda self: str(self.state.folder))
    cachePath = Property(str, lambda self: str(self.state.folder))
    slicerHome = Property(str, lambda self: str(self.state.folder))
    extensionsInstallPath = Property(str, lambda self: str(self.state.folder))
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    revision = Property(str, lambda self: "")

    def mrmlScene(self) -> Any:
        return self.state.scene

    def applicationLogic(self) -> Any:
        return self.state.application

    def layoutManager(self) -> Any:
        return self.state.layout_manager

    def moduleManager(self) -> Any:
        return self.state.module_manager

    def moduleLogic(self, name: str) -> Any:
        return self.state.application.GetModuleLogic(name)

    def coreIOManager(self) -> Any:
        return self.state.io_manager

    ioManager = coreIOManager

    def settings(self) -> QtCore.QSettings:
        return self.state.settings

    userSettings = revisionUserSettings = settings

    def commandOptions(self) -> Any:
        return self.state.command_options

    def testingEnabled(self) -> bool:
        return bool(self.state.command_options.testingEnabled)

    def dicomDatabase(self) -> Any:
        return getattr(slicer, "dicomDatabase", None)

    def mainWindow(self) -> Any:
        return self.state.window

    def startupEnvironment(self) -> dict[str, str]:
        import os

        return dict(os.environ)

    def moduleDocumentationUrl(self, name: str) -> str:
        return self.documentationBaseUrl + name

    def pauseRender(self) -> None:
        self.renderPaused.emit(True)

    def resumeRender(self) -> None:
        self.renderPaused.emit(False)

    def setRenderPaused(self, paused: bool) -> None:
        self.renderPaused.emit(paused)

    def errorLogModel(self) -> None:
        return None

    def pythonConsole(self) -> None:
        return None

    def openNodeModule(self, node: Any) -> None:
        """Slicer shows the node's own module."""

    def restart(self) -> None:
        raise RuntimeError("the application would restart")


class qSlicerScriptedLoadableModule(QtCore.QObject):
    """What a module's `parent` is."""

    API = ("widgetRepresentation", "createNewWidgetRepresentation", "logic", "mrmlScene")
    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    associatedNodeTypes = stored("QStringList", "node_types", [])
    helpText = stored(str, "help", "")
    acknowledgementText = stored(str, "acknowledgement", "")
    icon = stored(QtGui.QIcon, "icon", QtGui.QIcon())
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    widgetRepresentationCreationEnabled = stored(bool, "widget_enabled", True)
    name = Property(str, lambda self: self._path.stem)
    path = Property(str, lambda self: str(self._path))
    isInstalled = Property(bool, lambda self: False)
    isBuiltIn = Property(bool, lambda self: False)

    def __init__(self, path: Path, make_widget: Any) -> None:
        super().__init__()
        self._path, self._make, self._panel = path, make_widget, None

    def widgetRepresentation(self) -> Any:
        if self._panel is None:
            self._panel = self._make()
            self._panel.setup()
        return self._panel

    def createNewWidgetRepresentation(self) -> Any:
        return self._make()

    def logic(self) -> Any:
        return None

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene


class qSlicerScriptedLoadableModuleWidget(QtWidgets.QWidget):
    """What a module's widget has as `parent`."""

    API = ("self", "setup", "enter", "exit", "reload", "mrmlScene", "setMRMLScene")
    SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = Signal(object)
    isEntered = Property(bool, lambda self: self._entered)

    def __init__(self, make: Any) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self._make, self._entered, self._python = make, False, None

    def build(self) -> None:
        self._python = self._make(self)

    def self(self) -> Any:
        return self._python

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)

    def setup(self) -> None:
        self._python.setup()

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()

    def reload(self) -> None:
        self.build()
        self.setup()


class qSlicerLoadableModule(QtCore.QObject):
    """A C++ module of Slicer: its logic."""

    API = ("logic", "widgetRepresentation")
    name = Property(str, lambda self: self._name)

    def __init__(self, name: str, logic: Any) -> None:
        super().__init__()
        self._name, self._logic = name, logic

    def logic(self) -> vtk.vtkObject:
        return self._logic

    def widgetRepresentation(self) -> None:
        return None


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    API = ("selectModule",)
    selectedModule = Property(str, lambda self: self._host.entered)

    def __init__(self, host: Any) -> None:
        super().__init__()
        self._host = host

    def selectModule(self, name: str) -> None:
        self._host.select(name)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The window: the module's panel at the left, the views at the right."""

    API = ("moduleSelector",)

    def __init__(self, host: Any, views: QtWidgets.QWidget) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("3D Slicer")
        self._selector = qSlicerModuleSelectorToolBar(host)
        self._selector.addWidget(QtWidgets.QLabel("Modules: "))
        self._title = QtWidgets.QComboBox()
        self._title.setMinimumWidth(240)
        self._selector.addWidget(self._title)
        self._selector.setMovable(False)
        self.addToolBar(self._selector)
        self._area = QtWidgets.QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        split = QtWidgets.QSplitter()
        split.addWidget(self._area)
        split.addWidget(views)
        split.setStretchFactor(1, 1)
        split.setSizes([470, 970])
        self.setCentralWidget(split)
        self.resize(1440, 900)

    def show_panel(self, title: str, panel: QtWidgets.QWidget) -> None:
        """Put a module's panel in place of the one that was there."""
        old = self._area.takeWidget()
        if old is not None:
            old.setParent(None)
        self._area.setWidget(panel)
        self._area.setMinimumWidth(max(420, panel.minimumSizeHint().width() + 16))
        self._title.clear()
        self._title.addItem(title)

    def moduleSelector(self) -> Any:
        return self._selector


CLASSES = {
    cls.__name__: cls
    for cls in (
        qSlicerApplication,
        qSlicerLoadableModule,
        qSlicerMainWindow,
        qSlicerModuleManager,
        qSlicerScriptedLoadableModule,
        qSlicerScriptedLoadableModuleWidget,
    )
}
