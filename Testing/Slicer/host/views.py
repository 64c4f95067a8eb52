"""Slice and 3D views: real view nodes, slice logics and displayable managers, rendered without a screen."""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property
from vtk.util.numpy_support import vtk_to_numpy

from .slice_bar import qMRMLSliceControllerWidget

SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager vtkMRMLModelSliceDisplayableManager vtkMRMLCrosshairDisplayableManager "
    "vtkMRMLRulerDisplayableManager vtkMRMLMarkupsDisplayableManager vtkMRMLSegmentationsDisplayableManager2D "
    "vtkMRMLColorLegendDisplayableManager"
).split()
THREED_MANAGERS = (
    "vtkMRMLCameraDisplayableManager vtkMRMLViewDisplayableManager vtkMRMLModelDisplayableManager "
    "vtkMRMLMarkupsDisplayableManager vtkMRMLSegmentationsDisplayableManager3D vtkMRMLColorLegendDisplayableManager"
).split()


class _View(QtWidgets.QWidget):
    """A render window with Slicer's displayable managers; nothing is rendered until it is asked for."""

    API = (
        "renderWindow",
        "interactor",
        "forceRender",
        "scheduleRender",
        "renderer",
        "displayableManagerByClassName",
    )
    FACTORY, MANAGERS, STYLE = "", (), ""

    def __init__(self, application: Any, node: Any) -> None:
        super().__init__()
        self._application, self._node = application, node
        self._window: Any = None
        self._drawn: QtGui.QImage | None = None
        self.setMinimumSize(80, 80)

    def _build(self) -> None:
        """Make the render window and its managers, once."""
        if self._window is not None:
            return
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(max(self.width(), 80), max(self.height(), 80))
        self._renderer = vtk.vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._decorate()
        factory = getattr(slicer, self.FACTORY).GetInstance()
        factory.SetMRMLApplicationLogic(self._application.application)
        for name in self.MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._group = factory.InstantiateDisplayableManagers(self._renderer)
        self._group.UnRegister(None)
        self._style = getattr(slicer, self.STYLE)()
        self._style.SetDisplayableManagers(self._group)
        self._style.SetInteractor(self._interactor)
        self._connect()
        self._group.SetMRMLDisplayableNode(self._node)
        self._interactor.Initialize()

    def _decorate(self) -> None:
        """Actors that lie under those of the managers."""

    def _connect(self) -> None:
        """What the style has to know besides the managers."""

    def renderWindow(self) -> Any:
        self._build()
        return self._window

    def renderer(self) -> Any:
        self._build()
        return self._renderer

    def interactor(self) -> Any:
        self._build()
        return self._interactor

    def displayableManagerByClassName(self, name: str) -> Any:
        self._build()
        return self._group.GetDisplayableManagerByClassName(name)

    def forceRender(self) -> None:
        self._build()
        self._window.Render()

    def scheduleRender(self) -> None:
        """The host renders when a picture is taken."""

    def picture(self) -> QtGui.QImage:
        """What the view shows, at its size in pixels."""
        self._build()
        self._window.SetSize(max(self.width(), 80), max(self.height(), 80))
        self._interactor.UpdateSize(*self._window.GetSize())
        self._window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.ReadFrontBufferOff()
        grab.ShouldRerenderOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        pixels = (
            vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()
        )
        return QtGui.QImage(pixels.data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888).copy()

    def draw(self, wanted: bool) -> None:
        """Render for the next paint events, or stop showing what was rendered."""
        self._drawn = self.picture() if wanted else None

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        if self._drawn is not None:
            QtGui.QPainter(self).drawImage(self.rect(), self._drawn)

    def click(self, x: float, y: float) -> None:
        """A click of the left button, x and y in pixels from the lower left corner."""
        self._build()
        self.forceRender()
        at = (round(x), round(y))
        self._interactor.SetEventInformation(*at, 0, 0, "\0", 0, None)
        for event in ("EnterEvent", "MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            self._interactor.InvokeEvent(event)

    def wheel(self, steps: int) -> None:
        """Turn the mouse wheel in the middle of the view, forwards or backwards."""
        self._build()
        self.forceRender()
        width, height = self._window.GetSize()
        self._interactor.SetEventInformation(width // 2, height // 2, 0, 0, "\0", 0, None)
        self._interactor.InvokeEvent("EnterEvent")
        self._interactor.InvokeEvent("MouseMoveEvent")
        for _ in range(abs(steps)):
            self._interactor.InvokeEvent("MouseWheelForwardEvent" if steps > 0 else "MouseWheelBackwardEvent")

    def close_view(self) -> None:
        if self._window is not None:
            self._group.SetMRMLDisplayableNode(None)
            self._style.SetInteractor(None)
            self._window.Finalize()


class qMRMLSliceView(_View):
    API = ("mrmlSliceNode", "convertDeviceToXYZ", "convertRASToXYZ", "sliceViewInteractorStyle")
    FACTORY = "vtkMRMLSliceViewDisplayableManagerFactory"
    MANAGERS, STYLE = SLICE_MANAGERS, "vtkMRMLSliceViewInteractorStyle"

    def __init__(self, application: Any, node: Any, logic: Any) -> None:
        super().__init__(application, node)
        self._logic = logic

    def _decorate(self) -> None:
        # The image first, so that markups lie over it.
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(self._image)

    def _connect(self) -> None:
        self._style.SetSliceLogic(self._logic)

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        self._logic.ResizeSliceNode(event.size().width(), event.size().height())

    def picture(self) -> QtGui.QImage:
        self._build()
        connection = self._logic.GetImageDataConnection()
        self._image.SetVisibility(connection is not None)
        if connection is not self._mapper.GetInputConnection(0, 0):
            self._mapper.SetInputConnection(connection)
        return super().picture()

    def mrmlSliceNode(self) -> Any:
        return self._node

    def sliceViewInteractorStyle(self) -> Any:
        self._build()
        return self._style

    def convertDeviceToXYZ(self, point: Any) -> list[float]:
        return [float(point[0]), float(point[1]), 0.0]

    def convertRASToXYZ(self, point: Any) -> list[float]:
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._node.GetXYToRAS(), inverse)
        return list(inverse.MultiplyPoint([*point, 1.0])[:3])


class qMRMLThreeDView(_View):
    API = ("mrmlViewNode", "resetFocalPoint", "rotateToViewAxis", "resetCamera", "cameraNode")
    FACTORY = "vtkMRMLThreeDViewDisplayableManagerFactory"
    MANAGERS, STYLE = THREED_MANAGERS, "vtkMRMLThreeDViewInteractorStyle"
    AXES: ClassVar = {0: (-1, 0, 0), 1: (1, 0, 0), 2: (0, -1, 0), 3: (0, 1, 0), 4: (0, 0, -1), 5: (0, 0, 1)}

    def _decorate(self) -> None:
        self._renderer.GradientBackgroundOn()

    def mrmlViewNode(self) -> Any:
        return self._node

    def cameraNode(self) -> Any:
        manager = self.displayableManagerByClassName("vtkMRMLCameraDisplayableManager")
        return manager.GetCameraNode()

    def resetFocalPoint(self) -> None:
        self._build()
        self._renderer.ResetCamera()

    resetCamera = resetFocalPoint

    def rotateToViewAxis(self, axis: int) -> None:
        self._build()
        camera, away = self._renderer.GetActiveCamera(), self.AXES[axis]
        focus, distance = camera.GetFocalPoint(), camera.GetDistance()
        camera.SetPosition(*(f + a * distance for f, a in zip(focus, away, strict=True)))
        camera.SetViewUp(*((0, 1, 0) if axis > 3 else (0, 0, 1)))
        self._renderer.ResetCamera()


class _Framed(QtWidgets.QFrame):
    """A view under the bar that Slicer puts over it."""

    def __init__(self, view: _View, label: str, color: QtGui.QColor) -> None:
        super().__init__()
        self._view = view
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._bar = QtWidgets.QWidget()
        self._bar.setStyleSheet(f"background-color: {color.name()}; color: black;")
        self._bar.setFixedHeight(20)
        row = QtWidgets.QHBoxLayout(self._bar)
        row.setContentsMargins(6, 0, 6, 0)
        row.addWidget(QtWidgets.QLabel(f"<b>{label}</b>"))
        self._text = QtWidgets.QLabel()
        self._text.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._text, 1)
        layout.addWidget(self._bar)
        layout.addWidget(view, 1)


class qMRMLSliceWidget(_Framed):
    API = ("sliceLogic", "mrmlSliceNode", "mrmlSliceCompositeNode", "sliceView", "viewWidget", "logic",
           "sliceController", "fitSliceToBackground", "interactorStyle", "setSliceOrientation")  # fmt: skip

    def __init__(self, application: Any, node: Any) -> None:
        self._node, self._logic = node, slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application.application)
        self._logic.SetMRMLScene(application.scene)
        self._logic.SetSliceNode(node)
        application.application.GetSliceLogics().AddItem(self._logic)
        color = QtGui.QColor.fromRgbF(*node.GetLayoutColor())
        super().__init__(qMRMLSliceView(application, node, self._logic), node.GetLayoutLabel(), color)
        self._controller = qMRMLSliceControllerWidget(self, self._logic)

    def mrmlNode(self) -> Any:
        return self._node

    def sliceController(self) -> Any:
        return self._controller

    def describe(self) -> None:
        volume = self._logic.GetSliceCompositeNode().GetBackgroundVolumeID()
        volume = self._node.GetScene().GetNodeByID(volume) if volume else None
        name = f"{volume.GetName()}   " if volume is not None else ""
        self._text.setText(f"{name}{self._node.GetOrientation()}: {self._logic.GetSliceOffset():.1f} mm")

    sliceViewName = Property(str, lambda self: self._node.GetLayoutName())
    sliceOrientation = Property(str, lambda self: self._node.GetOrientation(),
                                lambda self, name: self._node.SetOrientation(name))  # fmt: skip

    def sliceLogic(self) -> Any:
        return self._logic

    logic = sliceLogic

    def mrmlSliceNode(self) -> Any:
        return self._node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceView(self) -> Any:
        return self._view

    viewWidget = sliceView

    def interactorStyle(self) -> Any:
        return self._view.sliceViewInteractorStyle()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class qMRMLThreeDWidget(_Framed):
    API = ("threeDView", "mrmlViewNode", "viewWidget")

    def __init__(self, application: Any, node: Any) -> None:
        self._node = node
        color = QtGui.QColor.fromRgbF(*node.GetLayoutColor())
        super().__init__(qMRMLThreeDView(application, node), node.GetLayoutLabel() or "1", color)

    def describe(self) -> None:
        self._text.setText("")

    def mrmlNode(self) -> Any:
        return self._node

    def threeDView(self) -> Any:
        return self._view

    viewWidget = threeDView

    def mrmlViewNode(self) -> Any:
        return self._node
