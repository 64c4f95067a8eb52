"""A user's session with the Resampling module, step by step, with a picture of each.

In Slicer:              Slicer --python-script Testing/Slicer/user_session.py [folder for the pictures]
On the tests' stand-in: python Testing/Slicer/user_session.py [folder]

The steps are the same code in both, and every step checks what it did. The session ends by quitting during a fit, so the
exit status is that of the application: 0 where all is well.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULE = "GaussianMRIResampling"
#: Seconds that a fit of the sample may take.
PATIENCE = 900


class Session:
    """The steps, in order; each leaves the application as the next one needs it.

    Args:
        folder: for pictures and the saved scene.
        screenshot: writes a picture of the window to a path.
        wait: runs the event loop for some seconds.
    """

    def __init__(self, folder: Path, screenshot: Any, wait: Any) -> None:
        self.folder, self._screenshot, self._wait = folder, screenshot, wait
        self.done: list[str] = []

    def run(self) -> None:
        """Every step that ends before the application does."""
        for name in (
            "load", "fit", "drag", "wheel", "orientation", "side_by_side", "slab", "resample", "plane_set",
            "plane_table", "isotropic", "labels", "report", "curve", "save", "reload", "leave_module",
            "close_scene_mid_fit", "begin_to_quit_mid_fit",
        ):  # fmt: skip
            started = time.monotonic()
            getattr(self, name)()
            self.wait(0.3)
            self.done.append(name)
            self._screenshot(self.folder / f"{len(self.done):02d}_{name}.png")
            print(f"{len(self.done):2d} {name}: {time.monotonic() - started:.1f} s", flush=True)

    # What the steps share

    def wait(self, seconds: float, until: Any = None) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (until and until()):
            self._wait(0.05)
        assert until is None or until(), f"not true after {seconds} s"

    @property
    def panel(self) -> Any:
        import slicer

        return slicer.util.getModuleWidget(MODULE)

    @property
    def parameters(self) -> Any:
        return self.panel.logic.getParameterNode()

    @property
    def red(self) -> Any:
        import slicer

        return slicer.app.layoutManager().sliceWidget("Red")

    def previews(self) -> list[Any]:
        import slicer

        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return [node for node in nodes if node.GetAttribute("GaussianMRI.Kind") == "preview"]

    def check_preview(self) -> None:
        """The view is turned to the plane and shows an image that is not empty."""
        import numpy as np
        import slicer

        self.wait(0.4)
        assert self.previews(), self.panel.ui.previewLabel.text
        matrix, plane = self.red.mrmlSliceNode().GetSliceToRAS(), self.parameters.plane
        normal = [matrix.GetElement(row, 2) for row in range(3)]
        place = [matrix.GetElement(row, 3) for row in range(3)]
        assert abs(np.dot(normal, plane.GetNormalWorld())) > 1 - 1e-6
        assert abs(np.dot(np.subtract(place, plane.GetCenterWorld()), normal)) < 1e-3
        shown = self.red.mrmlSliceCompositeNode().GetBackgroundVolumeID()
        assert shown in {node.GetID() for node in self.previews()}
        image = slicer.util.arrayFromVolume(slicer.mrmlScene.GetNodeByID(shown))
        assert np.ptp(image) > 0 and "outside the scan" in self.panel.ui.previewLabel.text

    def _open(self, section: str) -> None:
        """One of the panel's sections; on a small screen the others have to be closed."""
        for name in ("inputs", "planes", "preview", "results", "planeSet", "planeTable", "isotropic", "labels"):
            getattr(self.panel.ui, f"{name}CollapsibleButton").collapsed = name != section

    def _fit(self) -> None:
        self.panel.ui.applyButton.click()
        assert self.panel.fitController.running

    # Steps

    def load(self) -> None:
        import qt
        import slicer

        axial, *_, disc = sys.modules[MODULE].loadLumbarPhantom()
        slicer.util.selectModule(MODULE)
        self.panel.ui.inputSelector.setCheckState(axial, qt.Qt.Checked)
        region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Disc")  # so that fits take seconds
        region.SetCenter(disc.GetCenterWorld())
        region.SetSize(50, 50, 40)
        region.CreateDefaultDisplayNodes()
        region.SetDisplayVisibility(False)
        self.panel.ui.regionSelector.setCurrentNode(region)
        assert list(self.parameters.inputVolumes) == [axial] and self.panel.ui.applyButton.enabled

    def fit(self) -> None:
        self._fit()
        self.wait(PATIENCE, lambda: not self.panel.fitController.running)
        assert self.parameters.field is not None, self.panel.ui.statusLabel.text
        assert self.panel.ui.statusLabel.text.startswith("Fitted: ")
        self.check_preview()

    def drag(self) -> None:
        import numpy as np

        plane = self.parameters.plane
        center, normal = np.array(plane.GetCenterWorld()), np.array(plane.GetNormalWorld())
        started = time.monotonic()
        for n in range(20):
            plane.SetCenterWorld(center + 0.4 * n * normal)
            self._wait(0.0)
        print(f"   {20 / (time.monotonic() - started):.0f} pictures a second", flush=True)
        self.check_preview()

    def wheel(self) -> None:
        import numpy as np

        before = np.array(self.parameters.plane.GetCenterWorld())
        interactor = self.red.sliceView().interactor()
        width, height = interactor.GetRenderWindow().GetSize()
        interactor.SetEventInformation(width // 2, height // 2, 0, 0, "\0", 0, None)
        for event in ("EnterEvent", "MouseMoveEvent", *["MouseWheelForwardEvent"] * 3):
            interactor.InvokeEvent(event)
        self.check_preview()
        moved = np.linalg.norm(np.array(self.parameters.plane.GetCenterWorld()) - before)
        assert abs(moved - 3.0) < 1e-3, moved

    def orientation(self) -> None:
        for name in ("Coronal", "Sagittal", "Axial"):
            self.red.setSliceOrientation(name)
            self.check_preview()
            assert self.red.mrmlSliceNode().GetOrientation() == name

    def side_by_side(self) -> None:
        self.panel.ui.compareCheckBox.checked = True
        self.wait(10, lambda: len(self.previews()) == 3)
        self._screenshot(self.folder / "side_by_side.png")
        self.panel.ui.compareCheckBox.checked = False
        self.check_preview()

    def resample(self) -> None:
        self.panel.ui.resampleButton.click()
        assert "outside the scan" in self.panel.ui.resultLabel.text

    def slab(self) -> None:
        import numpy as np
        import slicer

        def shown() -> Any:
            self.check_preview()
            return slicer.util.arrayFromVolume(self.previews()[0]).astype(float)

        self.panel.ui.thicknessSpinBox.value = 8.0
        images = {}
        for number, name in enumerate(("mean", "max", "min")):
            self.panel.ui.projectionSelector.currentIndex = number
            images[name] = shown()
            self._screenshot(self.folder / f"slab_{name}.png")
        assert np.all(images["min"] <= images["max"] + 1e-3) and images["max"].mean() > images["mean"].mean() + 1
        self.panel.ui.projectionSelector.currentIndex = 0
        self.panel.ui.thicknessSpinBox.value = 0.0
        self.check_preview()

    def plane_set(self) -> None:
        import slicer

        line = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", "Axis")
        center = self.parameters.plane.GetCenterWorld()
        for shift in (-12.0, 12.0):
            line.AddControlPointWorld(center[0], center[1], center[2] + shift)
        ui = self.panel.ui
        self._open("planeSet")
        ui.setKindSelector.currentIndex = 1
        ui.setSourceSelector.setCurrentNode(line)
        ui.setCountSpinBox.value = 4
        ui.setSizeSpinBox.value = 40.0
        ui.makeSetButton.click()
        planes = list(self.parameters.outputPlanes)
        assert len(planes) == 4 and self.parameters.plane is planes[0]
        for plane in planes:
            assert abs(plane.GetNormalWorld()[2]) < 1e-6  # they hold the axis
        self.check_preview()

    def plane_table(self) -> None:
        import slicer

        table = self.panel.ui.planesTable
        self._open("planeTable")
        self.wait(5, lambda: table.rowCount == slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsPlaneNode"))
        last = table.rowCount - 1
        table.item(last, 0).setText("Oblique sagittal")
        table.selectRow(last)
        self.panel.ui.showPlaneButton.click()
        assert self.parameters.plane.GetName() == "Oblique sagittal"
        self.check_preview()
        table.selectRow(last - 1)
        self.panel.ui.deletePlanesButton.click()
        self.wait(5, lambda: table.rowCount == last)

    def isotropic(self) -> None:
        import numpy as np
        import slicer

        self._open("isotropic")
        ui = self.panel.ui
        ui.isotropicSpacingSpinBox.value = 1.0
        ui.isotropicButton.click()
        self.wait(60, lambda: not ui.isotropicCancelButton.visible)
        assert "voxels of 1.00 mm" in ui.isotropicLabel.text, ui.isotropicLabel.text
        (made,) = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if node.GetAttribute("GaussianMRI.Kind") == "isotropic"
        ]
        assert np.allclose(made.GetSpacing(), 1.0) and np.ptp(slicer.util.arrayFromVolume(made)) > 0
        self.volume = made

    def labels(self) -> None:
        """A ball about the disc goes into the isotropic volume and onto the plane."""
        import numpy as np
        import slicer
        import vtk

        ball = vtk.vtkSphereSource()
        ball.SetCenter(*self.parameters.plane.GetCenterWorld())
        ball.SetRadius(10.0)
        ball.SetThetaResolution(60)
        ball.SetPhiResolution(60)
        ball.Update()
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Ball")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "ball", [0.9, 0.2, 0.1])
        self._open("labels")
        ui = self.panel.ui
        ui.segmentationSelector.setCurrentNode(node)
        for onto, wanted, unit in ((self.volume, 4 / 3 * np.pi * 10**3, 1.0), (None, np.pi * 10**2, None)):
            ui.labelsOntoSelector.setCurrentNode(onto)
            ui.labelsButton.click()
            self.wait(60, lambda: not ui.labelsCancelButton.visible)
            made = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[-1]
            image = made.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            sides = [np.linalg.norm([matrix.GetElement(row, column) for row in range(3)]) for column in range(3)]
            count = np.count_nonzero(vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()))
            size = count * (unit if unit is not None else sides[0] * sides[1])
            assert abs(size / wanted - 1) < 0.06, (made.GetName(), size, wanted)
            made.SetDisplayVisibility(onto is None)
        node.SetDisplayVisibility(False)

    def report(self) -> None:
        import slicer

        self.panel.ui.reportButton.click()
        self.wait(1.0)
        view = slicer.app.layoutManager().tableWidget(0)
        tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
        shown = [node.GetTableNode() for node in slicer.util.getNodesByClass("vtkMRMLTableViewNode")]
        assert view is not None and tables and tables[-1] in shown

    def curve(self) -> None:
        """Along the canal through the fitted box: image, volume, planes, transform and points, while a point is dragged."""
        import numpy as np
        import qt
        import slicer

        from GaussianMRILib.phantom import Phantom

        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        panel, back = self.panel, np.array([0.0, -1.0, 0.0])
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "Canal")
        node.CreateDefaultDisplayNodes()
        points = [Phantom(0).frame.to_ras(0, -22, s) for s in (-18.0, -6.0, 6.0, 18.0)]
        for point in points:
            node.AddControlPointWorld(*point)
        for section in (panel.ui.inputsCollapsibleButton, panel.ui.planesCollapsibleButton):
            section.collapsed = True
        panel.ui.curveCollapsibleButton.collapsed = False
        panel.ui.curveSelector.setCurrentNode(node)
        panel.ui.curveWidthSpinBox.value = 30.0
        self.wait(2.0, lambda: panel.curveController.preview is not None)
        before, started = slicer.util.arrayFromVolume(panel.curveController.preview.volume).copy(), time.monotonic()
        for n in range(20):
            node.SetNthControlPointPositionWorld(1, *(points[1] + 0.2 * (10 - abs(n - 10)) * back))  # and back
            self._wait(0.0)
        print(f"   {20 / (time.monotonic() - started):.0f} straightened images a second", flush=True)
        self.wait(0.3)
        after = slicer.util.arrayFromVolume(panel.curveController.preview.volume)
        assert after.shape != before.shape or not np.array_equal(after, before)
        assert "mm long" in panel.ui.curveLabel.text
        panel.ui.curveImageButton.click()
        panel.ui.curveVolumeButton.click()
        self.wait(60.0, lambda: not panel.curveController.running)
        panel.ui.curvePlanesButton.click()
        panel.ui.curveTransformButton.click()
        roots = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Roots")
        for point in points[1:3]:
            roots.AddControlPointWorld(*(point + 4 * back))
        panel.ui.curveAlongSelector.setCheckState(roots, qt.Qt.Checked)
        panel.ui.curveAlongButton.click()
        self.wait(60.0, lambda: not panel.curveController.running)
        assert "Copied: Roots straightened" in panel.ui.curveLabel.text, panel.ui.curveLabel.text
        roots.SetDisplayVisibility(False)  # the curve's view draws it as well, at its place in the patient beside the copy
        for name in ("Canal image", "Canal straightened", "Canal to straight", "Roots straightened"):
            assert slicer.mrmlScene.GetFirstNodeByName(name) is not None, name
        assert len(self.previews()) == 2

    def save(self) -> None:
        import slicer

        self.scene = self.folder / "session.mrb"
        assert slicer.util.saveScene(str(self.scene))

    def reload(self) -> None:
        import slicer

        slicer.mrmlScene.Clear(0)
        self.wait(0.5)
        assert not self.previews() and self.parameters.field is None
        slicer.util.loadScene(str(self.scene))
        self.wait(10, lambda: self.parameters.field is not None and bool(self.previews()))
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self.check_preview()

    def leave_module(self) -> None:
        import slicer

        slicer.util.selectModule("Data")
        self.wait(0.5)
        assert not self.previews()
        slicer.util.selectModule(MODULE)
        self.check_preview()

    def close_scene_mid_fit(self) -> None:
        import slicer

        self._fit()
        self.wait(1.5)
        slicer.mrmlScene.Clear(0)
        self.wait(1.0)
        assert not self.panel.fitController.running and not self.previews()

    def begin_to_quit_mid_fit(self) -> None:
        self.load()
        self._fit()
        self.wait(1.0)


def in_slicer(folder: Path) -> None:
    import slicer

    def screenshot(path: Path) -> None:
        slicer.util.forceRenderAllViews()
        slicer.app.processEvents()
        slicer.util.mainWindow().grab().save(str(path))

    def wait(seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            slicer.app.processEvents()
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    if not hasattr(slicer.modules, MODULE.lower()):
        factory = slicer.app.moduleManager().factoryManager()
        factory.registerModule(__import__("qt").QFileInfo(str(ROOT / "GaussianMRI" / MODULE / f"{MODULE}.py")))
        factory.loadModules([MODULE])
    try:
        Session(folder, screenshot, wait).run()
    except BaseException:
        traceback.print_exc()
        slicer.util.exit(1)
    else:
        slicer.util.exit(0)


def on_the_host(folder: Path) -> None:
    sys.path[:0] = [str(ROOT), str(HERE)]
    from host.application import Application

    with tempfile.TemporaryDirectory() as scratch:
        app = Application(Path(scratch))
        try:
            app.load_module(ROOT / "GaussianMRI" / MODULE / f"{MODULE}.py")
            app.load_module(HERE / "host" / "Data.py")
            app.start()
            Session(folder, lambda path: app.screenshot(path, size=(1280, 800)), app.wait).run()
            assert not app.errors, "\n".join(app.errors)
            assert not app.messages, app.messages
        finally:
            app.quit()


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("-") and not word.endswith(".py")]
    folder = Path(words[0]) if words else Path(tempfile.mkdtemp(prefix="session-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Pictures: {folder}", flush=True)
    try:
        import slicer

        real = hasattr(slicer, "app")
    except ImportError:
        real = False
    (in_slicer if real else on_the_host)(folder)


if __name__ == "__main__":
    main()
