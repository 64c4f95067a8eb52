"""A stand-in for the Slicer application: real MRML, Qt without a screen, and a module's own file, .ui and panel."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import numpy as np
import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from . import dialogs, parameters, scripted, ui_files, widgets_ctk, widgets_mrml
from .application_objects import (
    CLASSES,
    KNOWN,
    qSlicerApplication,
    qSlicerCommandOptions,
    qSlicerCoreIOManager,
    qSlicerLoadableModule,
    qSlicerMainWindow,
    qSlicerModuleManager,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
)
from .layouts import qSlicerLayoutManager
from .qt_style import lookup, unwrap, wrap, wrapper_class
from .scene import Host
from .services import Packages, SampleData, Torch

#: Classes of Slicer that files of Slicer's own name, and that the host has only by name: making one raises.
NAMED_ONLY = {
    "ctk": (
        "ctkCheckBox ctkCheckablePushButton ctkColorPickerButton ctkDirectoryButton ctkDoubleRangeSlider "
        "ctkDoubleSlider ctkRangeWidget ctkCheckableComboBox ctkPushButton ctkFittedTextBrowser"
    ).split(),
    "slicer": "qMRMLRangeWidget qMRMLSliderWidget qMRMLSpinBox qSlicerWidget qMRMLCollapsibleButton".split(),
}


def _absent(name: str) -> type:
    def refuse(self: object, *_: object) -> None:
        raise NotImplementedError(f"the host has no {name}")

    return type(name, (), {"__init__": refuse})


class Application(Host):
    """Slicer with one scene, until `quit`.

    Args:
        folder: an empty folder for temporary files, settings and caches.
        slicer_python: a folder with files of Slicer's own Python package (`slicer/ScriptedLoadableModule.py`,
            `slicer/parameterNodeWrapper/`, `slicer/i18n.py`, ...), which are then used in place of the host's.

    Attributes:
        messages: message boxes and dialogs that were shown.
        answers: answers that questions get, first one first; a question without one raises.
        errors: tracebacks of exceptions in slots, timers and observers that the user was not shown.
        packages, torch, sample_data: the services of those names.
    """

    def __init__(self, folder: Path, slicer_python: Path | None = None) -> None:
        self._undo: list[Callable[[], None]] = []
        self.folder, self.entered = Path(folder), ""
        dialogs.current = dialogs.Conversation()
        dialogs.install()
        self.messages, self.answers = dialogs.current.messages, dialogs.current.answers
        self.errors: list[str] = []
        self.packages, self.torch, self.sample_data = Packages(), Torch(), SampleData()
        self._swap(sys, "excepthook", self._excepthook)
        super().__init__(self.folder)
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        QtCore.QSettings.setPath(
            QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(self.folder)
        )
        self._qt = QtWidgets.QApplication.instance() or qSlicerApplication(
            ["Slicer", "-platform", "offscreen"]
        )
        QtCore.qInstallMessageHandler(_qt_message)
        self._qt.setOrganizationName("host")
        self._qt.setApplicationName("Slicer")
        self.settings = QtCore.QSettings()
        self._qt.state = self
        self._qt.setStyle("Fusion")
        self.module_manager, self.io_manager = qSlicerModuleManager(), qSlicerCoreIOManager()
        self.command_options = qSlicerCommandOptions()
        self.app = wrap(self._qt)
        self.layout_manager = qSlicerLayoutManager(self)
        self.window = qSlicerMainWindow(self, self.layout_manager.viewport())
        self._install_modules(slicer_python)
        self.window.show()
        self.process()

    # Slicer's Python

    def _swap(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until the application quits."""
        had, before = hasattr(owner, name), getattr(owner, name, None)
        setattr(owner, name, value)

        def back() -> None:
            if had:
                setattr(owner, name, before)
            elif hasattr(owner, name):
                delattr(owner, name)

        self._undo.append(back)

    def _module(self, module: ModuleType) -> None:
        """Make a Python module importable until the application quits."""
        name, before = module.__name__, sys.modules.get(module.__name__)
        sys.modules[name] = module
        self._undo.append(
            lambda: sys.modules.__setitem__(name, before) if before else sys.modules.pop(name, None)
        )
        if name.startswith("slicer."):
            self._swap(slicer, name.partition(".")[2], module)

    def _offer(self, module: ModuleType, there: bool) -> None:
        """Make a Python module importable, or take it away."""
        name = module.__name__
        if there:
            self._module(module)
            return
        sys.modules.pop(name, None)
        if name.startswith("slicer."):
            delattr(slicer, name.partition(".")[2])

    def _install_modules(self, slicer_python: Path | None) -> None:
        for name, own in (("qt", {"QUiLoader": _UiLoader}), ("ctk", {})):
            self._module(_QtModule(name, own))
        for name, cls in {**widgets_mrml.WIDGETS, **CLASSES}.items():
            self._swap(slicer, name, wrapper_class(cls))
        for name in NAMED_ONLY["slicer"]:
            self._swap(slicer, name, _absent(name))
        self._swap(lookup("QTimer", {}), "singleShot", staticmethod(_single_shot))
        self._swap(slicer, "mrmlScene", self.scene)
        self._swap(slicer, "app", self.app)
        self._swap(slicer, "selfTests", {})
        self._swap(slicer, "dicomDatabase", None)
        self._swap(slicer.util, "delayDisplay", self._delay_display)
        self._swap(slicer.util, "loadUI", _load_ui)
        if hasattr(
            slicer.util, "_temporaryNormalCursor"
        ):  # slicer-core's; in Slicer 5.12 questions have the busy cursor
            self._swap(slicer.util, "_temporaryNormalCursor", nullcontext)
        self._module(ModuleType("slicer.modules"))
        self._module(ModuleType("slicer.moduleNames"))
        for name in ("Colors", "Markups", "Models", "SubjectHierarchy", "Transforms", "Volumes", "Segmentations",
                     "Tables", "CropVolume", "Units", "VolumeRendering"):  # fmt: skip
            logic = self.application.GetModuleLogic(name)
            if logic is not None:
                module = qSlicerLoadableModule(name, logic)
                self.module_manager.loaded[name] = module
                setattr(slicer.modules, name.lower(), wrap(module))
        made = {**scripted.modules(), **parameters.modules()}
        for module in made.values():
            self._module(module)
        self._module(self.sample_data.module())
        for service in (self.packages, self.torch):
            service.offer = partial(self._offer, service.module())
            service.offer(True)
        self._swap(slicer.util, "pip_install", self.packages.install)
        if slicer_python is not None:
            self._use_real(Path(slicer_python) / "slicer")

    def _use_real(self, folder: Path) -> None:
        """Put Slicer's own files in place of the host's, whichever the folder has."""
        for name in ("i18n", "parameterNodeWrapper", "ScriptedLoadableModule"):
            path = folder / name / "__init__.py" if (folder / name).is_dir() else folder / f"{name}.py"
            if not path.exists():
                continue
            full = f"slicer.{name}"
            search = [str(path.parent)] if path.name == "__init__.py" else None
            spec = importlib.util.spec_from_file_location(full, path, submodule_search_locations=search)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            before = set(sys.modules)
            self._module(module)
            spec.loader.exec_module(module)
            for made in set(sys.modules) - before:
                self._undo.append(lambda made=made: sys.modules.pop(made, None))

    def _excepthook(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(text)
        # slicer.util.tryWithErrorDisplay raises again what it has shown, for the console.
        if not any(m.icon == "Critical" and str(error) in m.text for m in self.messages):
            self.errors.append(text)

    def _delay_display(self, message: str, autoCloseMsec: int = 1000, parent: Any = None, **_: Any) -> None:
        self.messages.append(dialogs.Message(message, icon="Delay"))
        self._qt.processEvents()

    # Modules

    def load_module(self, path: Path) -> Any:
        """Load a scripted module, as Slicer's factory does, and make its Module object.

        Returns:
            What `slicer.modules.<name>` is.

        Raises:
            LookupError: the file has no class of its own name, or the module depends on one that Slicer lacks.
        """
        path = Path(path).resolve()
        name, folder = path.stem, str(path.parent)
        # What modules share lies in the module's folder or, in a checkout, in packages beside it.
        packages = [str(found.parent) for found in path.parents[1].glob("*/__init__.py")]
        own = tuple(each + os.sep for each in (folder, *packages))
        before, paths = set(sys.modules), list(sys.path)
        sys.path.insert(0, folder)
        self._undo.append(lambda: sys.path.__setitem__(slice(None), paths))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        python = importlib.util.module_from_spec(spec)
        sys.modules[name] = python

        def forget() -> None:
            for loaded in set(sys.modules) - before:
                source = getattr(sys.modules[loaded], "__file__", None) or ""
                if source.startswith(own):
                    del sys.modules[loaded]

        self._undo.append(forget)
        spec.loader.exec_module(python)
        if not hasattr(python, name):
            raise LookupError(f"class {name} was not found in file {path}")
        module = qSlicerScriptedLoadableModule(path, lambda: self._make_widget(python, name))
        self.module_manager.loaded[name] = module
        wrapped = wrap(module)
        instance = getattr(python, name)(wrapped)
        unknown = set(wrapped.dependencies) - KNOWN - set(self.module_manager.loaded)
        if unknown:
            raise LookupError(f"{name} depends on modules that Slicer does not have: {sorted(unknown)}")
        setattr(slicer.modules, name + "Instance", instance)
        setattr(slicer.modules, name.lower(), wrapped)
        setattr(slicer.moduleNames, name, name)
        return wrapped

    def _make_widget(self, python: ModuleType, name: str) -> Any:
        def make(parent: Any) -> Any:
            made = getattr(sys.modules.get(name, python), name + "Widget")(wrap(parent))
            setattr(slicer.modules, name + "Widget", made)
            return made

        panel = qSlicerScriptedLoadableModuleWidget(make)
        panel.build()
        return panel

    def select(self, name: str) -> Any:
        """Open a module, as its choice in Slicer's module list does; returns its widget object."""
        module = self.module_manager.loaded.get(name)
        if module is None:
            raise LookupError(f"there is no module {name!r}")
        panel = module.widgetRepresentation()
        if self.entered != name:
            if self.entered:
                self.module_manager.loaded[self.entered].widgetRepresentation().exit()
            self.entered = name
            self.window.show_panel(wrap(module).title, panel)
            panel.enter()
        return panel.self()

    def start(self) -> None:
        """Tell modules that start-up is complete: once, as Slicer does when its window is shown first."""
        if self.module_manager.started:
            raise RuntimeError("the application has started already")
        self.module_manager.started = True
        self._qt.startupCompleted.emit()

    def choose(self, combo: Any, text: str) -> None:
        """A click on an item of a list of nodes: a node's name, "Create new Plane", "Delete current Plane", ..."""
        unwrap(combo).choose(text)

    # Views

    def view(self, name: str = "Red") -> Any:
        """A slice view by its name, or the first 3D view of the layout by "3D"."""
        manager = self.layout_manager
        return (manager.shown_threed()[0] if name == "3D" else manager.sliceWidget(name)).viewWidget()

    def pixels(self, name: str = "Red") -> np.ndarray:
        """What a view shows: uint8 red, green and blue, [row, column, 3], the first row on top."""
        image = self.view(name).picture()
        flat = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        return flat[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()

    def screenshot(self, path: Path, widget: Any = None, size: tuple[int, int] = (1440, 900)) -> None:
        """Write a picture of the window with panel and views, or of one widget, as PNG."""
        self.window.resize(*size)
        self.process()
        shown = self.layout_manager.framed()
        for frame in shown:
            frame.describe()
            frame.viewWidget().draw(True)
        picture = (self.window if widget is None else unwrap(widget)).grab()
        for frame in shown:
            frame.viewWidget().draw(False)
        if not picture.save(str(path), "PNG"):
            raise OSError(f"the picture {path} was not written")

    # Scene

    def close_scene(self) -> None:
        """File > Close Scene."""
        self.close()

    def undo(self) -> None:
        """Edit > Undo."""
        self.scene.Undo()

    # Time

    def process(self) -> None:
        """Handle every event that waits."""
        self._qt.processEvents()

    def wait(self, seconds: float = 10.0, until: Callable[[], Any] | None = None) -> None:
        """Run the event loop for some time, or until something is true.

        Raises:
            TimeoutError: it was not true within `seconds`.
        """
        end = time.monotonic() + seconds
        while True:
            self._qt.processEvents()
            if until is not None and until():
                return
            if time.monotonic() > end:
                if until is not None:
                    raise TimeoutError(f"not true after {seconds} s")
                return
            time.sleep(0.001)

    def quit(self) -> None:
        """Close the application: modules are cleaned up, the scene is emptied, Python is as it was before."""
        for name in list(self.module_manager.loaded):
            self.module_manager.moduleAboutToBeUnloaded.emit(name)
        self.scene.Clear(True)
        for module in self.module_manager.loaded.values():
            panel = getattr(module, "_panel", None)
            if panel is not None:
                panel.deleteLater()
        self.layout_manager.close()
        self.window.deleteLater()
        self._qt.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        self._qt.processEvents()
        self.app.disconnect("startupCompleted()")
        while self._undo:
            self._undo.pop()()


def _qt_message(kind: QtCore.QtMsgType, context: QtCore.QMessageLogContext, message: str) -> None:
    if "propagateSizeHints" not in message:  # said of every window without a screen
        sys.stderr.write(f"Qt: {message}\n")


def _load_ui(path: str) -> Any:
    """In place of slicer.util.loadUI."""
    if not Path(path).exists():
        raise RuntimeError(f"Could not load UI file: file not found {path}")
    return ui_files.load(path, {**widgets_ctk.WIDGETS, **widgets_mrml.WIDGETS})


def _single_shot(msec: int, receiver: Any, member: str | None = None) -> None:
    """qt.QTimer.singleShot as slicerqt.py makes it: the timer, and what it calls, live until the application ends."""
    import qt

    timer = qt.QTimer(slicer.app.moduleManager())
    timer.setSingleShot(True)
    timer.connect("timeout()", receiver, member)
    timer.start(msec)


class _UiLoader:
    """qt.QUiLoader, for code that loads a .ui file by itself."""

    def load(self, file: Any, parent: Any = None) -> Any:
        return _load_ui(file.fileName())


class _QtModule(ModuleType):
    """The module `qt` or `ctk`: names are looked up when they are used."""

    def __init__(self, name: str, own: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__["_own"] = own

    def __getattr__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        if self.__name__ == "qt":
            return lookup(name, {})
        if name in widgets_ctk.WIDGETS:
            return wrapper_class(widgets_ctk.WIDGETS[name])
        if name in NAMED_ONLY["ctk"]:
            self._own[name] = _absent(name)
            return self._own[name]
        raise AttributeError(f"module 'ctk' has no attribute '{name}'")
