import os
import sys
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *

# In a checkout what the modules share lies beside their folders; in the installed extension it is on the path.
if (Path(__file__).resolve().parents[1] / "GaussianMRIPanelLib").is_dir():
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from GaussianMRIPanelLib.jobController import StatusLine
from GaussianMRIPanelLib.observing import NodesObserver
from GaussianMRIPanelLib.panel import Panel
from GaussianMRIPanelLib.placing import isPlacing, placeRegion, startPlacing
from GaussianMRIPanelLib.startup import whenStarted
from GaussianMRIResamplingLib import sideBySide
from GaussianMRIResamplingLib.curveController import CurveController
from GaussianMRIResamplingLib.fitController import FitController
from GaussianMRIResamplingLib.isotropicController import IsotropicController
from GaussianMRIResamplingLib.labelsController import LabelsController
from GaussianMRIResamplingLib.logic import GaussianMRIResamplingLogic
from GaussianMRIResamplingLib.planeSetController import PlaneSetController
from GaussianMRIResamplingLib.pointPlacer import PointPlacer
from GaussianMRIResamplingLib.previewController import PreviewController
from GaussianMRIResamplingLib.selfTest import GaussianMRIResamplingTest  # noqa: F401  Slicer looks for it here


class GaussianMRIResampling(ScriptedLoadableModule):
    """Oblique planes from thick-slice MRI."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Gaussian MRI Resampling")
        self.parent.categories = ["Gaussian MRI"]
        self.parent.dependencies = ["Markups", "Volumes", "Models", "Segmentations"]
        self.parent.contributors = ["GaussianMRI developers"]
        self.parent.helpText = _(
            "Fits 3D Gaussians to thick-slice MRI and shows the image on any plane while you drag it. "
            'See the <a href="https://github.com/GaussianMRI/SlicerGaussianMRI#readme">documentation</a>. '
            "Research use only, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Implements and extends: R. Y. Park et al., Rendering Novel Views of MRI using 3D Gaussian Splatting, "
            "arXiv:2606.26236 (2026)."
        )
        whenStarted(registerSampleData)
        whenStarted(prepareScene)


def prepareScene():
    """What a scene from a file needs of this module also where the panel is never opened."""
    sideBySide.registerLayouts()
    slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, endSavedPreviews)
    endSavedPreviews(slicer.mrmlScene, None)  # of a scene that was loaded before this module


def endSavedPreviews(scene, _event):
    """A scene that was saved while a preview ran: its views show what they showed before."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    if any(view.GetAttribute("GaussianMRI.ViewBefore") for view in views):
        from GaussianMRILib.mrml.preview import end_saved_previews

        end_saved_previews(scene)


def registerSampleData():
    """Offer the synthetic lumbar spine in the Sample Data module. It is computed, not downloaded."""
    try:
        import SampleData
    except ImportError:  # Slicer can run without that module
        return

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Gaussian MRI",
        sampleName="SyntheticLumbarSpine",
        thumbnailFileName=os.path.join(os.path.dirname(__file__), "Resources", "Icons", "LumbarPhantom.png"),
        uris="",
        fileNames="",
        nodeNames="SyntheticLumbarSpine",
        customDownloader=lambda source=None: loadLumbarPhantom(),
    )


def loadLumbarPhantom():
    """Add the synthetic lumbar spine to the scene.

    :return: volume nodes axial, sagittal and truth, and the plane node of the L5-S1 disc.
    """
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be made."), waitCursor=True):
        from GaussianMRILib.mrml.sample import load_lumbar_phantom

        nodes = load_lumbar_phantom(slicer.mrmlScene)
        GaussianMRIResamplingLogic.showHandles(nodes[-1])
        views = slicer.app.layoutManager() is not None  # else there is no main window
        slicer.util.setSliceViewerLayers(background=nodes[0], foreground=None, fit=views)
        return nodes


class GaussianMRIResamplingWidget(Panel):
    """The panel."""

    LOGIC = GaussianMRIResamplingLogic
    CHECKED = (
        ("inputSelector", "inputVolumes"),
        ("outputPlanesSelector", "outputPlanes"),
        ("curveAlongSelector", "curveAlong"),
    )

    def __init__(self, parent=None):
        Panel.__init__(self, parent)
        self._results = []
        self._guessPlane = None
        self._warnedOf = None
        # Nothing is made of a field under a transform; previews end when it is put there.
        self._fieldObserver = NodesObserver(self.onParametersChanged, "TransformModifiedEvent")
        self._placedObserver = NodesObserver(self.onParametersChanged, "PointPositionDefinedEvent")

    def setup(self):
        Panel.setup(self)
        ui = self.ui
        self.statusLine = StatusLine(ui.statusLabel, ui.progressBar, ui.cancelButton)
        self.fitController = FitController(self.onFitProgress, self.onFitEnd, self.onFirstGuess)
        self.previewController = PreviewController(
            self._setPreviewText, self.onPreviewTaken, lambda views: self.curveController.giveUp(views)
        )
        self.curveController = CurveController(ui, self.logic, self.previewController)
        self.pointPlacer = PointPlacer(self.onPointsPlaced)
        self.sections = [PlaneSetController(self), IsotropicController(self), LabelsController(self)]
        ui.planeSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPlaneAddedByUser)
        ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", placeRegion)
        ui.planeViewSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.updateButtons)
        ui.segmentSelector.connect("currentSegmentChanged(QString)", self.updateButtons)
        self.connectButtons(
            (ui.applyButton, self.onApply),
            (ui.cancelButton, self.onCancel),
            (ui.finishButton, self.onFinish),
            (ui.fromViewButton, self.onPlaneFromView),
            (ui.fromPointsButton, self.onPlaneFromPoints),
            (ui.fromSegmentButton, self.onPlaneFromSegment),
            (ui.savePlanesButton, self.onSavePlanes),
            (ui.loadPlanesButton, self.onLoadPlanes),
            (ui.resampleButton, self.onResample),
            (ui.reportButton, self.onReport),
            (ui.exportButton, self.onExport),
        )
        self.initializeParameterNode()

    def cleanup(self):
        Panel.cleanup(self)
        self._placedObserver.observe([])
        self.pointPlacer.stop()
        self.previewController.forget()
        for section in self.sections:
            section.end()
        self.curveController.end()
        self.fitController.end()

    def exit(self):
        """The views belong to the next module; the preview comes back with `enter`."""
        Panel.exit(self)
        self.previewController.stop()
        self.curveController.stop()

    # Scene and parameters

    def releaseScene(self):
        self._warnedOf = None  # a volume of the next scene may have the ID of one of this
        self.previewController.forget()
        self.curveController.forget()

    def forgetScene(self):
        self._placedObserver.observe([])
        self._guessPlane = None
        self._showFit("", None)
        for section in self.sections:
            section.forget()
        self._results = []

    def setDefaults(self, parameters):
        if not parameters.previewView:
            parameters.previewView = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
        if not parameters.curveView:
            parameters.curveView = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeGreen")
        if not self.ui.planeViewSelector.currentNode():
            self.ui.planeViewSelector.setCurrentNode(parameters.previewView)
        if not any(parameters.inputVolumes):
            first = self.logic.defaultVolume()
            if first:
                parameters.inputVolumes = [first]
        if not parameters.plane:
            parameters.plane = self.logic.defaultPlane()

    def showParameters(self, parameters):
        self._fieldObserver.observe([parameters.field if parameters else None])
        if parameters is None:
            return
        self._warnOfInputs([node for node in parameters.inputVolumes if node])
        self.updateButtons()
        shown = parameters if self.parent.isEntered else None
        self.previewController.refresh(shown)
        self.curveController.refresh(shown)

    def _warnOfInputs(self, volumes):
        """Say by name which volumes do not belong together; headers are read when the choice has changed."""
        chosen = [(node.GetID(), node.GetName()) for node in volumes]
        if chosen != self._warnedOf:
            self._warnedOf = chosen
            self.ui.inputWarningLabel.text = self.logic.inputWarnings(volumes)

    def updateButtons(self, *unused):
        parameters, ui = self._parameterNode, self.ui
        if parameters is None:
            return
        fitting = self.fitController.running
        volumes = [node for node in parameters.inputVolumes if node]
        ui.applyButton.enabled = bool(volumes) and not fitting
        ui.applyButton.toolTip = (
            _("Fit Gaussians to the checked volumes, then show their image on a plane that you move.")
            if volumes
            else _("Check at least one volume above; the Sample Data module has a synthetic spine.")
        )
        self.statusLine.update(fitting)
        ui.finishButton.enabled = ui.fitButtons.visible = fitting
        outputs = self._chosenPlanes()
        methods = [name for name in self.logic.IMAGES if getattr(parameters, name)]
        ui.outputSelector.enabled = len(outputs) * len(methods) == 1
        ui.outputPlanesHint.text = self._planesHint()
        ui.previewViewSelector.enabled = ui.methodSelector.enabled = not parameters.compare
        ui.fromViewButton.enabled = ui.planeViewSelector.currentNode() is not None
        ui.fromSegmentButton.enabled = bool(ui.segmentSelector.currentSegmentID())
        ui.savePlanesButton.enabled = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsPlaneNode") > 0
        ui.resampleButton.enabled = bool(parameters.field and outputs and methods)
        ui.reportButton.enabled = parameters.field is not None
        ui.exportButton.enabled = bool(self.logic.exportable(self._presentResults()))
        ui.projectionSelector.enabled = parameters.thickness > 0
        for section in self.sections:
            section.update(parameters)

    def _planesHint(self):
        """What is resampled when no plane is checked."""
        parameters = self._parameterNode
        if any(parameters.outputPlanes):
            return ""
        if not self._chosenPlanes():
            return _("None checked: the plane above, once there is one.")
        return _("None checked: the plane above, {name}.").format(name=parameters.plane.GetName())

    # Fit

    def onApply(self, checked=False):
        parameters = self._parameterNode
        self.logic.askForPackages(cuda=parameters.device.name != "cpu")
        with slicer.util.tryWithErrorDisplay(_("The volumes cannot be fitted."), waitCursor=True):
            volumes = [node for node in parameters.inputVolumes if node]
            fitter = self.logic.fitter(
                volumes,
                preset=parameters.preset.name,
                roi=parameters.region,
                device=parameters.device.name,
                poses=parameters.poses.name,
                refine=parameters.refine,
                first_guess=True,
            )
            self.fitController.start(fitter, volumes, self.logic.fieldOf(volumes, parameters.field))
        self.updateButtons()

    def onFitProgress(self, text, percent):
        self._showFit(text, percent)

    def onFitEnd(self, fieldNode, text, job):
        self._endFirstGuess(keepPlane=fieldNode is not None)
        self._showFit(text, None)
        if fieldNode is None:
            return
        field = job.field()
        self.previewController.keep(fieldNode, field)
        # Another module may be open: then the panel is connected to no parameter node.
        parameters = self._parameterNode or self.logic.getParameterNode()
        with slicer.util.NodeModify(parameters):
            parameters.field = fieldNode
            if self._lacksPlane(parameters):
                parameters.plane = self.logic.addDefaultPlane(field)
        self.onParametersChanged()  # a field that was filled again is the same node

    @staticmethod
    def _lacksPlane(parameters):
        """Whether no plane is chosen, or one whose placing was given up, on which nothing could be shown."""
        plane = parameters.plane
        return not plane or not (plane.GetIsPlaneValid() or isPlacing(plane))

    def onFirstGuess(self, field, volumes):
        """Show what there is while the fit goes on, unless an earlier fit of the same volumes is shown."""
        parameters = self._parameterNode or self.logic.getParameterNode()
        if not parameters.preview or self.logic.fieldOf(volumes, parameters.field):
            return
        self.previewController.guess(field, volumes, besides=parameters.field)
        if self._lacksPlane(parameters):
            self._guessPlane = parameters.plane = self.logic.addDefaultPlane(field)
        self.onParametersChanged()

    def _endFirstGuess(self, keepPlane):
        """The fit's field, which comes next, takes the guess's place; without one the scene is as it was."""
        self.previewController.dropGuess()
        plane, self._guessPlane = self._guessPlane, None
        if not keepPlane:
            self.onParametersChanged()
            if plane:
                self.logic.removePlanes([plane])

    def onCancel(self, checked=False):
        self.fitController.cancel()
        self._endFirstGuess(keepPlane=False)
        self.statusLine.showCancelled()
        self.updateButtons()

    def onFinish(self, checked=False):
        self.fitController.finishEarly()
        self.ui.finishButton.enabled = False

    def _showFit(self, text, percent):
        self.statusLine.show(text, percent)
        if percent is None:
            self.updateButtons()

    def _setPreviewText(self, text):
        self.ui.previewLabel.text = text

    def onPreviewTaken(self, why):
        """Something else is shown in the preview's view, which it has from then on."""
        if self._parameterNode:
            self._parameterNode.preview = False
        self._setPreviewText(
            _("{why} Check 'Follow the plane' to see the plane's image again.").format(why=why)
        )

    # Planes

    def onPlaneAddedByUser(self, node):
        """The user asked for an empty plane and places it next."""
        self.logic.showHandles(node)
        startPlacing(node)
        self._placedObserver.observe([*(plane for plane in self._placedObserver.nodes if plane.GetScene()), node])

    def onPlaneFromView(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("No plane was made.")):
            self._parameterNode.plane = self.logic.addPlaneFromView(self.ui.planeViewSelector.currentNode())

    def onPlaneFromPoints(self, checked=False):
        points = self._parameterNode.points
        if points is None:
            self.pointPlacer.start()
            self._setPreviewText(
                _("Click three points in the views; for a disc: anterior, posterior, lateral.")
            )
        else:
            self.onPointsPlaced(points)

    def onPointsPlaced(self, points):
        with slicer.util.tryWithErrorDisplay(_("No plane was made.")):
            self._parameterNode.plane = self.logic.addPlaneFromPoints(points)

    def onPlaneFromSegment(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("No plane was made."), waitCursor=True):
            self._parameterNode.plane = self.logic.addPlaneFromSegment(
                self.ui.segmentSelector.currentNode(), self.ui.segmentSelector.currentSegmentID()
            )

    def onSavePlanes(self, checked=False):
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Save planes"),
            self.logic.inSceneFolder("planes.mrk.json"),
            _("Markups (*.mrk.json)"),
        )
        if path:
            with slicer.util.tryWithErrorDisplay(_("The planes were not saved.")):
                self.logic.savePlanes(path)

    def onLoadPlanes(self, checked=False):
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Load planes"), self.logic.inSceneFolder(""), _("Markups (*.mrk.json *.json)")
        )
        if path:
            with slicer.util.tryWithErrorDisplay(_("The planes were not loaded.")):
                planes = self.logic.loadPlanes(path)
                self._parameterNode.plane = planes[0]
                self._parameterNode.outputPlanes = planes

    # Results

    def _presentResults(self):
        self._results = [node for node in self._results if node.GetScene()]
        return self._results

    def _chosenPlanes(self):
        parameters = self._parameterNode
        checked = [node for node in parameters.outputPlanes if node]
        plane = parameters.plane
        return checked or ([plane] if plane and plane.GetIsPlaneValid() else [])

    def onResample(self, checked=False):
        parameters = self._parameterNode
        self.logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("Nothing was resampled."), waitCursor=True):
            methods = [name for name in self.logic.IMAGES if getattr(parameters, name)]
            self._results = self.logic.resample(
                parameters.field,
                self._chosenPlanes(),
                methods,
                count=parameters.count,
                step=parameters.step,
                spacing=parameters.spacing or None,
                thickness=parameters.thickness,
                projection=parameters.projection.name,
                node=parameters.output if self.ui.outputSelector.enabled else None,
            )
            lines = self.logic.changesSinceFit(parameters.field, methods), self.logic.describe(self._results)
            self.ui.resultLabel.text = "\n".join(line for line in lines if line)
            if parameters.sideBySide:
                parameters.preview = False
                self.curveController.giveUp(sideBySide.sliceNodes()[: len(self._results)])
                sideBySide.showVolumes(self._results)
        self.updateButtons()

    def onReport(self, checked=False):
        parameters = self._parameterNode
        self.logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("There is no report."), waitCursor=True):
            shown = self._presentResults() or self._chosenPlanes()
            table = self.logic.report(parameters.field, shown, parameters.reference)
            self.logic.showTable(table)

    def onExport(self, checked=False):
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder for the DICOM series"), self.logic.inSceneFolder("")
        )
        if folder:
            self.logic.askForPackages()
            with slicer.util.tryWithErrorDisplay(_("Not every series was written."), waitCursor=True):
                results = self._presentResults()
                images = self.logic.exportable(results)
                written = self.logic.exportDicom(images, folder)
                text = _("{count} DICOM series in {folder}").format(count=len(written), folder=folder)
                maps = ", ".join(node.GetName() for node in results if node not in images)
                if maps:
                    text += "\n" + _("Maps are no images and were left out: {names}").format(names=maps)
                self.ui.resultLabel.text = text
