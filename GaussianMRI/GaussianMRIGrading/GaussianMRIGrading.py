import importlib.util
import os
import re
import sys

import ctk
import qt
import slicer
import vtk
from GaussianMRIGradingLib.gradeController import GradeController
from GaussianMRIGradingLib.gradeWatch import GradeWatch
from GaussianMRIGradingLib.logic import GaussianMRIGradingLogic
from GaussianMRIGradingLib.selfTest import GaussianMRIGradingTest  # noqa: F401  Slicer looks for it here
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

# Run from a source checkout, the library lies beside the modules' folder; the installed extension has it on the path.
if importlib.util.find_spec("GaussianMRILib") is None:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


class GaussianMRIGrading(ScriptedLoadableModule):
    """Stenosis grades tied to planes."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Gaussian MRI Grading")
        self.parent.categories = ["Gaussian MRI"]
        self.parent.dependencies = ["Markups", "Volumes", "Segmentations", "Tables"]
        self.parent.contributors = ["GaussianMRI developers"]
        self.parent.helpText = _(
            "Grades stenosis at lumbar discs with a network of yours, on acquired slices or on planes aligned with the "
            "disc, and keeps the label on the plane. It brings no network and shows no grade without one. "
            'See the <a href="https://github.com/GaussianMRI/SlicerGaussianMRI#readme">documentation</a>. '
            "Research use only, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Implements and extends: R. Y. Park et al., Rendering Novel Views of MRI using 3D Gaussian Splatting, "
            "arXiv:2606.26236 (2026)."
        )
        self.watch = GradeWatch()
        # A label must go stale with its plane also where this module was never opened.
        slicer.app.connect("startupCompleted()", self.watch.start)


class GaussianMRIGradingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    PICTURE_WIDTH = 420

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._graded = None
        self._pending = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/GaussianMRIGrading.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.ui.fieldSelector.addAttribute("vtkMRMLModelNode", "GaussianMRI.Kind", "field")
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = GaussianMRIGradingLogic()
        self.gradeController = GradeController(self.onProgress, self.onEnd)

        notice = self.logic.kernelNotice()
        if notice:
            self.ui.noticeLabel.text = f"{notice}\n{self.ui.noticeLabel.text}"

        # Nothing may be chosen in a list of nodes while the scene is being filled: such lists are then half filled.
        for event, slot in (
            (slicer.mrmlScene.StartBatchProcessEvent, self.onSceneStartFilling),
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndBatchProcessEvent, self.onSceneFilled),
        ):
            self.addObserver(slicer.mrmlScene, event, slot)
        ui = self.ui
        ui.checkpointEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.inputSelector.connect("checkedNodesChanged()", self.onInputsChecked)
        # The field's own signal is not emitted when it becomes empty.
        ui.checkpointEdit.comboBox().connect("editTextChanged(QString)", self.onCheckpoints)
        ui.pointsSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPointsAddedByUser)
        ui.lineSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPointsAddedByUser)
        ui.discPlaneSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPlaneAddedByUser)
        ui.segmentSelector.connect("currentSegmentChanged(QString)", self.updateButtons)
        for button, slot in (
            (ui.checkButton, self.onCheck),
            (ui.gradeButton, self.onGrade),
            (ui.cancelButton, self.onCancel),
            (ui.tableButton, self.onTable),
            (ui.cropsButton, self.onCrops),
            (ui.reportButton, self.onReport),
            (ui.removeButton, self.onRemove),
        ):
            button.connect("clicked(bool)", slot)
        self.initializeParameterNode()

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()
        self.gradeController.end()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    # Scene and parameters

    def onSceneStartFilling(self, caller, event):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)
        self.gradeController.cancel()
        self.ui.statusLabel.text = self.ui.pictureLabel.text = ""
        self._pending = None

    def onSceneFilled(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Take the scene's parameter node, with defaults where the user has chosen nothing."""
        self.setParameterNode(self.logic.getParameterNode())
        parameters = self._parameterNode
        if not any(parameters.inputVolumes):
            first = self.logic.defaultVolume()
            if first:
                parameters.inputVolumes = [first]

    def setParameterNode(self, parameterNode):
        if self._parameterNode:
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.onParametersChanged()

    def onParametersChanged(self, caller=None, event=None):
        parameters, ui = self._parameterNode, self.ui
        self._observeGraded(parameters.gradedPlane if parameters else None)
        if parameters is None:
            return
        blocked = ui.inputSelector.blockSignals(True)
        present = [node for node in parameters.inputVolumes if node]
        for node in ui.inputSelector.checkedNodes():
            if node not in present:
                ui.inputSelector.setCheckState(node, qt.Qt.Unchecked)
        for node in present:
            ui.inputSelector.setCheckState(node, qt.Qt.Checked)
        ui.inputSelector.blockSignals(blocked)
        if ui.checkpointEdit.currentPath != parameters.checkpoints:
            ui.checkpointEdit.currentPath = parameters.checkpoints
        for source, widgets in (
            ("segment", (ui.segmentLabel, ui.segmentSelector)),
            ("points", (ui.pointsLabel, ui.pointsSelector)),
            ("line", (ui.lineLabel, ui.lineSelector)),
            ("plane", (ui.discPlaneLabel, ui.discPlaneSelector)),
        ):
            for widget in widgets:
                widget.visible = parameters.discSource.name == source
        ui.fieldSelector.enabled = parameters.inputType.name == "R-GS"
        self.updateButtons()

    def onInputsChecked(self):
        if self._parameterNode:
            self._parameterNode.inputVolumes = list(self.ui.inputSelector.checkedNodes())

    def onCheckpoints(self, path):
        if self._parameterNode:
            self._parameterNode.checkpoints = path

    def updateButtons(self, *unused):
        parameters, ui = self._parameterNode, self.ui
        if parameters is None:
            return
        running = self.gradeController.running
        ready = any(parameters.inputVolumes) and self._hasDisc()
        text, found = self.logic.describeCheckpoints(parameters.checkpoints)
        ui.checkpointLabel.text = text
        ui.checkButton.enabled = ready and not running
        ui.gradeButton.enabled = ready and found and not running
        if not ready:
            hint = _("Check an axial volume and choose a disc first.")
        elif not found:
            hint = _("Choose checkpoints first.")
        else:
            hint = _("Grade the disc with every checkpoint and put the labels on a plane.")
        ui.gradeButton.toolTip = hint
        ui.cancelButton.enabled = ui.progressBar.visible = running
        graded = bool(parameters.gradedPlane and parameters.gradedPlane.GetAttribute(self.logic.GRADES))
        for button in (ui.cropsButton, ui.reportButton, ui.removeButton):
            button.enabled = graded and not running
        ui.tableButton.enabled = self.logic.table() is not None

    def _hasDisc(self):
        if self._parameterNode.discSource.name == "segment":
            return bool(self.ui.segmentSelector.currentSegmentID())
        return self._discNode() is not None

    def _discNode(self):
        """The points, line or plane that is chosen."""
        parameters = self._parameterNode
        nodes = {"points": parameters.points, "line": parameters.line, "plane": parameters.discPlane}
        return nodes.get(parameters.discSource.name)

    # Disc

    def onPointsAddedByUser(self, node):
        """The user asked for a new point list and clicks front and back of the disc next, then its borders."""
        node.CreateDefaultDisplayNodes()
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            node.SetMaximumNumberOfControlPoints(4)
            text = _(
                "Click the disc's front and back in a sagittal view; then, if you like, its left and right border."
            )
        else:
            text = _("Click the disc's front and back in a sagittal view.")
        self.ui.statusLabel.text = text
        self._place(node, True)

    def onPlaneAddedByUser(self, node):
        from GaussianMRILib.mrml.planes import show_handles

        show_handles(node)
        self._place(node, False)

    @staticmethod
    def _place(node, several):
        markupsLogic = slicer.modules.markups.logic()
        markupsLogic.SetActiveList(node)
        markupsLogic.StartPlaceMode(several)

    def _disc(self):
        """The disc, the plane to label (None for a new one) and where the disc comes from."""
        parameters = self._parameterNode
        level, source = parameters.level, parameters.discSource.name
        if source == "plane":
            return self.logic.discFromPlane(parameters.discPlane, level), parameters.discPlane, ""
        if source != "segment":
            disc, origin = self.logic.discFromPoints(self._discNode(), level), self._discNode().GetID()
        else:
            node, segment = self.ui.segmentSelector.currentNode(), self.ui.segmentSelector.currentSegmentID()
            disc = self.logic.discFromSegment(node, segment, level, parameters.sagittalVolume)
            origin = f"{node.GetID()} {segment}"
        return disc, None, f"{origin} {level} {parameters.inputType.name}"

    # Grading

    def onCheck(self, checked=False):
        self._start("")

    def onGrade(self, checked=False):
        self._start(self._parameterNode.checkpoints)

    def _start(self, checkpoints):
        parameters = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("Packages are missing.")):
            self.logic.ensurePackages(cuda=parameters.device.name != "cpu")
        with slicer.util.tryWithErrorDisplay(_("The disc cannot be graded."), waitCursor=True):
            volumes = [node for node in parameters.inputVolumes if node]
            disc, plane, origin = self._disc()
            request = self.logic.request(
                volumes,
                disc,
                checkpoints,
                parameters.inputType.name,
                sagittal=parameters.sagittalVolume,
                gaussians=parameters.field,
                device=parameters.device.name,
            )
            self._pending = volumes, plane, origin
            self.gradeController.start(request)
        self.updateButtons()

    def onProgress(self, text, percent):
        self.ui.statusLabel.text = text
        self.ui.progressBar.value = percent

    def onEnd(self, result, text):
        self.ui.statusLabel.text = text
        pending, self._pending = self._pending, None
        if result is not None:
            with slicer.util.tryWithErrorDisplay(_("The grades cannot be shown.")):
                self._keep(result, *pending)
        self.updateButtons()

    def _keep(self, result, volumes, plane, origin):
        self.ui.statusLabel.text = self.logic.describeInput(result)
        picture = qt.QPixmap(self.logic.savePicture(result))
        self.ui.pictureLabel.setPixmap(picture.scaledToWidth(self.PICTURE_WIDTH, qt.Qt.SmoothTransformation))
        if not result.grades:
            return
        gone = not any(node.GetScene() for node in volumes) or (plane is not None and not plane.GetScene())
        if gone:
            raise ValueError(
                _("The volumes or the plane were removed while they were graded; nothing is kept.")
            )
        # Another module may be open: then the panel is connected to no parameter node.
        parameters = self._parameterNode or self.logic.getParameterNode()
        parameters.gradedPlane = self.logic.show(result, volumes, plane, origin)

    def onCancel(self, checked=False):
        self.gradeController.cancel()
        self.ui.statusLabel.text = _("Cancelled; the scene is as it was.")
        self.updateButtons()

    # Results

    def _observeGraded(self, planeNode):
        """Follow the label of the plane that is shown in the panel."""
        if self._graded is not planeNode:
            if self._graded:
                self.removeObserver(self._graded, vtk.vtkCommand.ModifiedEvent, self._showGrades)
            self._graded = planeNode
            if planeNode:
                self.addObserver(planeNode, vtk.vtkCommand.ModifiedEvent, self._showGrades)
        self._showGrades()

    def _showGrades(self, caller=None, event=None):
        text = self.logic.describe(self._graded) if self._graded else _("No grade.")
        # A hash has no place to break a line; all of it is in the tool tip, the table and the report.
        self.ui.resultLabel.text = re.sub(r"\b([0-9a-f]{16})[0-9a-f]{48}\b", r"\1...", text) or _("No grade.")
        self.ui.resultLabel.toolTip = text
        self.ui.resultLabel.styleSheet = "color: #b06000" if text.startswith("STALE") else ""

    def onTable(self, checked=False):
        self.logic.showTable(self.logic.table())

    def onCrops(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("There are no crops.")):
            self.logic.showCrops(self._parameterNode.gradedPlane)

    def onReport(self, checked=False):
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Save report"),
            self.logic.inSceneFolder("grades.dcm"),
            _("DICOM Structured Report (*.dcm)"),
        )
        if path:
            with slicer.util.tryWithErrorDisplay(_("The report was not written."), waitCursor=True):
                self.logic.ensurePackages(report=True)
                self.logic.exportReport(self._parameterNode.gradedPlane, path)
                self.ui.statusLabel.text = _("Report: {path} (unverified, preliminary)").format(path=path)

    def onRemove(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("The grades were not removed.")):
            plane, self._parameterNode.gradedPlane = self._parameterNode.gradedPlane, None
            self.logic.remove(plane)
        self.updateButtons()
