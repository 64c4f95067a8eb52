import re
import sys
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *

# In a checkout what the modules share lies beside their folders; in the installed extension it is on the path.
if (Path(__file__).resolve().parents[1] / "GaussianMRIPanelLib").is_dir():
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from GaussianMRIGradingLib.gradeWatch import GradeWatch
from GaussianMRIGradingLib.logic import GaussianMRIGradingLogic
from GaussianMRIGradingLib.selfTest import GaussianMRIGradingTest  # noqa: F401  Slicer looks for it here
from GaussianMRIPanelLib.jobController import JobController, StatusLine
from GaussianMRIPanelLib.observing import NodesObserver
from GaussianMRIPanelLib.panel import Panel
from GaussianMRIPanelLib.placing import startPlacing
from GaussianMRIPanelLib.startup import whenStarted


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
        whenStarted(self.watch.start)


class GaussianMRIGradingWidget(Panel):
    """The panel."""

    LOGIC = GaussianMRIGradingLogic
    NOTICE = "noticeLabel"
    PATHS = (("checkpointEdit", "checkpoints", "Dirs"),)
    CHECKED = (("inputSelector", "inputVolumes"),)
    PICTURE_WIDTH = 420

    def __init__(self, parent=None):
        Panel.__init__(self, parent)
        self._gradedObserver = NodesObserver(self._showGrades, "ModifiedEvent")

    def setup(self):
        Panel.setup(self)
        ui = self.ui
        self.statusLine = StatusLine(ui.statusLabel, ui.progressBar, ui.cancelButton)
        self.gradeController = JobController(self.statusLine.show, self.onEnd, _("There is no grade."))
        self.canalController = JobController(
            self.statusLine.show, self.onMeasured, _("The canal was not measured.")
        )
        self.studyController = JobController(
            self.statusLine.show, self.onMeasured, _("The discs were not graded.")
        )
        ui.pointsSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPointsAddedByUser)
        ui.lineSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPointsAddedByUser)
        ui.discPlaneSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPlaneAddedByUser)
        ui.segmentSelector.connect("currentSegmentChanged(QString)", self.updateButtons)
        self.connectButtons(
            (ui.checkButton, self.onCheck),
            (ui.gradeButton, self.onGrade),
            (ui.gradeAllButton, self.onGradeAll),
            (ui.measureButton, self.onMeasure),
            (ui.cancelButton, self.onCancel),
            (ui.tableButton, self.onTable),
            (ui.cropsButton, self.onCrops),
            (ui.reportButton, self.onReport),
            (ui.removeButton, self.onRemove),
        )
        self.initializeParameterNode()

    def cleanup(self):
        Panel.cleanup(self)
        self.canalController.cancel()
        self.studyController.cancel()
        self.gradeController.end()

    # Scene and parameters

    def forgetScene(self):
        self.statusLine.show("")
        self.ui.pictureLabel.text = ""

    def setDefaults(self, parameters):
        if not any(parameters.inputVolumes):
            first = self.logic.defaultVolume()
            if first:
                parameters.inputVolumes = [first]

    def showParameters(self, parameters):
        ui = self.ui
        # The label of the plane that is shown in the panel is followed.
        self._gradedObserver.observe([parameters.gradedPlane if parameters else None])
        self._showGrades()
        if parameters is None:
            return
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

    def updateButtons(self, *unused):
        parameters, ui = self._parameterNode, self.ui
        if parameters is None:
            return
        controllers = (self.gradeController, self.canalController, self.studyController)
        running = any(controller.running for controller in controllers)
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
        segmentation = parameters.discSource.name == "segment" and ui.segmentSelector.currentNode()
        ui.measureButton.enabled = bool(segmentation) and not running
        ui.gradeAllButton.enabled = bool(segmentation) and bool(self._volumes()) and found and not running
        self.statusLine.update(running)
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
        startPlacing(node, several=True)

    def onPlaneAddedByUser(self, node):
        from GaussianMRILib.mrml.planes import show_handles

        show_handles(node)
        startPlacing(node)

    def _disc(self):
        """The disc, the plane to label (None for a new one) and where the disc comes from, as `show` wants it."""
        parameters = self._parameterNode
        level, source = parameters.level, parameters.discSource.name
        if source == "plane":
            return self.logic.discFromPlane(parameters.discPlane, level), parameters.discPlane, None
        if source != "segment":
            node, segment = self._discNode(), ""
            disc = self.logic.discFromPoints(node, level)
        else:
            node, segment = self.ui.segmentSelector.currentNode(), self.ui.segmentSelector.currentSegmentID()
            disc = self.logic.discFromSegment(node, segment, level, parameters.sagittalVolume)
        return disc, None, (node, f"{segment} {level} {parameters.inputType.name}")

    # Grading

    def onCheck(self, checked=False):
        self._start("")

    def onGrade(self, checked=False):
        self._start(self._parameterNode.checkpoints)

    def _start(self, checkpoints):
        parameters = self._parameterNode
        self.logic.askForPackages(cuda=parameters.device.name != "cpu")
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
                plane_node=plane,
                device=parameters.device.name,
            )
            self.gradeController.begin(
                self.logic.gradingJob(request), lambda job: self._keep(job.result(), volumes, plane, origin)
            )
        self.updateButtons()

    def onEnd(self, plane, text, job):
        self.statusLine.show(text)
        self.updateButtons()

    def _keep(self, result, volumes, plane, origin):
        picture = qt.QPixmap(self.logic.savePicture(result))
        self.ui.pictureLabel.setPixmap(picture.scaledToWidth(self.PICTURE_WIDTH, qt.Qt.SmoothTransformation))
        text = self.logic.describeInput(result)
        if not result.grades:
            return None, text
        gone = not any(node.GetScene() for node in volumes) or (plane is not None and not plane.GetScene())
        if gone:
            raise ValueError(
                _("The volumes or the plane were removed while they were graded; nothing is kept.")
            )
        # Another module may be open: then the panel is connected to no parameter node.
        parameters = self._parameterNode or self.logic.getParameterNode()
        parameters.gradedPlane = self.logic.show(result, volumes, plane, origin)
        return parameters.gradedPlane, text

    def onCancel(self, checked=False):
        for controller in (self.gradeController, self.canalController, self.studyController):
            controller.cancel()
        self.statusLine.showCancelled()
        self.updateButtons()

    # All discs of a segmentation

    def _volumes(self):
        """The volumes of the study that are chosen."""
        parameters = self._parameterNode
        return [node for node in (parameters.sagittalVolume, *parameters.inputVolumes) if node]

    def onGradeAll(self, checked=False):
        parameters = self._parameterNode
        self.logic.askForPackages(cuda=parameters.device.name != "cpu")
        with slicer.util.tryWithErrorDisplay(_("The discs cannot be graded."), waitCursor=True):
            job = self.logic.studyJob(
                self.ui.segmentSelector.currentNode(),
                self._volumes(),
                parameters.checkpoints,
                parameters.inputType.name,
                parameters.device.name,
            )
            self.studyController.begin(job, self._keepStudy)
        self.updateButtons()

    def _keepStudy(self, job):
        table = job.node(slicer.mrmlScene)
        return table, self.logic.describeStudy(table)

    def onMeasure(self, checked=False):
        self.logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("The canal cannot be measured."), waitCursor=True):
            job = self.logic.canalJob(self.ui.segmentSelector.currentNode(), self._volumes())
            self.canalController.begin(job, self._keepMeasures)
        self.updateButtons()

    def _keepMeasures(self, job):
        table = job.node(slicer.mrmlScene)
        return table, self.logic.describeMeasures(table)

    def onMeasured(self, table, text, job):
        self.statusLine.show(text)
        if table:
            self.logic.showTable(table)
        self.updateButtons()

    # Results

    def _showGrades(self, caller=None, event=None):
        text = "".join(self.logic.describe(plane) for plane in self._gradedObserver.nodes) or _("No grade.")
        # A hash has no place to break a line; all of it is in the tool tip, the table and the report.
        self.ui.resultLabel.text = re.sub(r"\b([0-9a-f]{16})[0-9a-f]{48}\b", r"\1...", text)
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
            self.logic.askForPackages(others=[self.logic.REPORTS])
            with slicer.util.tryWithErrorDisplay(_("The report was not written."), waitCursor=True):
                self.logic.exportReport(self._parameterNode.gradedPlane, path)
                self.ui.statusLabel.text = _("Report: {path} (unverified, preliminary)").format(path=path)

    def onRemove(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("The grades were not removed.")):
            plane, self._parameterNode.gradedPlane = self._parameterNode.gradedPlane, None
            self.logic.remove(plane)
        self.updateButtons()
