import importlib.util
import os
import sys

import ctk
import qt
import slicer
import vtk
from GaussianMRICinematicLib.jobController import JobController
from GaussianMRICinematicLib.logic import GaussianMRICinematicLogic
from GaussianMRICinematicLib.selfTest import GaussianMRICinematicTest  # noqa: F401  Slicer looks for it here
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

# Run from a source checkout, the library lies beside the modules' folder; the installed extension has it on the path.
if importlib.util.find_spec("GaussianMRILib") is None:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


class GaussianMRICinematic(ScriptedLoadableModule):
    """Cinematic renderings that a plane cuts open."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Gaussian MRI Cinematic")
        self.parent.categories = ["Gaussian MRI"]
        self.parent.dependencies = ["Markups", "Volumes", "VolumeRendering"]
        self.parent.contributors = ["GaussianMRI developers"]
        self.parent.helpText = _(
            "Renders a volume with path-traced light and lets you cut it open in real time. "
            'See the <a href="https://github.com/GaussianMRI/SlicerGaussianMRI#readme">documentation</a>. '
            "Not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Implements and extends: ClipGS: Clippable Gaussian Splatting for Interactive Cinematic Visualization of "
            "Volumetric Medical Data, MICCAI 2025."
        )


class GaussianMRICinematicWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._view = None
        self._shown = None
        self._folder = ""

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/GaussianMRICinematic.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = GaussianMRICinematicLogic()
        self.jobController = JobController(self.onReport, self.onEnd)
        for name in self.logic.lookNames():
            self.ui.lookSelector.addItem(name)
        notice = self.logic.kernelNotice()
        if notice:
            self.ui.researchLabel.text = f"{notice}\n{self.ui.researchLabel.text}"
        # Nothing may be chosen in a list of nodes while the scene is being filled: such lists are then half filled.
        for event, slot in (
            (slicer.mrmlScene.StartBatchProcessEvent, self.onSceneStartFilling),
            (slicer.mrmlScene.StartImportEvent, self.onSceneStartClearing),
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClearing),
            (slicer.mrmlScene.EndBatchProcessEvent, self.onSceneFilled),
        ):
            self.addObserver(slicer.mrmlScene, event, slot)
        ui = self.ui
        ui.folderEdit.filters = ctk.ctkPathLineEdit.Dirs
        ui.modelEdit.filters = ctk.ctkPathLineEdit.Files
        ui.lookSelector.connect("currentTextChanged(QString)", self.onLook)
        # The fields' own signal is not emitted when they become empty.
        ui.folderEdit.comboBox().connect("editTextChanged(QString)", self.onFolder)
        ui.modelEdit.comboBox().connect("editTextChanged(QString)", self.onModel)
        for button, slot in (
            (ui.applyButton, self.onApply),
            (ui.cancelButton, self.onCancel),
            (ui.snapshotButton, self.onSnapshot),
        ):
            button.connect("clicked(bool)", slot)
        self.initializeParameterNode()

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()
        self._hide()
        self.jobController.cancel()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        """The 3D view belongs to the next module; the model comes back with `enter`."""
        self.setParameterNode(None)
        self._hide()

    # Scene and parameters

    def onSceneStartFilling(self, caller, event):
        self.setParameterNode(None)

    def onSceneStartClearing(self, caller, event):
        self.setParameterNode(None)
        self._hide()

    def onSceneFilled(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = self.logic.defaultVolume()

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
        if parameters is None:
            return
        ui.lookSelector.setCurrentText(parameters.look)
        for edit, path in ((ui.folderEdit, parameters.folder), (ui.modelEdit, parameters.modelPath)):
            if edit.currentPath != path:
                edit.currentPath = path
        running = self.jobController.running
        ui.applyButton.enabled = bool(parameters.inputVolume and parameters.folder) and not running
        ui.applyButton.toolTip = (
            _("Render pictures and learn the model from them, in the background.")
            if parameters.folder
            else _("Choose a folder for the pictures and the model first.")
        )
        ui.cancelButton.enabled = ui.progressBar.visible = running
        self._update()

    def onLook(self, text):
        if self._parameterNode:
            self._parameterNode.look = text

    def onFolder(self, path):
        if self._parameterNode:
            self._parameterNode.folder = path

    def onModel(self, path):
        if self._parameterNode:
            self._parameterNode.modelPath = path

    # Making a model

    def onApply(self, checked=False):
        parameters = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("Packages are missing.")):
            self.logic.ensurePackages()
        with slicer.util.tryWithErrorDisplay(_("The model cannot be made."), waitCursor=True):
            job = self.logic.startJob(
                parameters.inputVolume,
                parameters.look,
                parameters.folder,
                parameters.region,
                parameters.quality.name,
                parameters.frames,
                parameters.size,
                parameters.planes.name,
            )
            self._folder = parameters.folder
            self.jobController.start(job)
        self.ui.statusLabel.text = _("starting")
        self.onParametersChanged()

    def onReport(self, report):
        ui = self.ui
        ui.progressBar.value = round(100 * report.get("fraction", 0))
        ui.statusLabel.text = report.get("text", "")
        picture = report.get("picture")
        if picture and os.path.isfile(picture):
            ui.thumbnailLabel.setPixmap(qt.QPixmap(picture).scaledToWidth(160))

    def onEnd(self, problem):
        if problem:
            self.ui.statusLabel.text = _("Stopped; Start goes on from what is there.")
            slicer.util.errorDisplay(_("The model was not finished.") + f"\n\n{problem}")
        else:
            self.ui.statusLabel.text = _("The model is ready.")
            # Another module may be open, or another scene.
            parameters = self._parameterNode or self.logic.getParameterNode()
            if parameters.folder == self._folder:
                parameters.modelPath = os.path.join(self._folder, self.logic.MODEL)
        self.onParametersChanged()

    def onCancel(self, checked=False):
        self.jobController.cancel()
        self.ui.statusLabel.text = _("Cancelled; Start goes on from what is there.")
        self.onParametersChanged()

    # View

    def _update(self):
        """Show, change or hide the model as the parameters say."""
        parameters = self._parameterNode
        path = parameters.modelPath if parameters.show else ""
        stamp = (path, os.path.getmtime(path)) if path and os.path.isfile(path) else None
        if stamp != self._shown:
            self._hide()
            self._shown = stamp
            if stamp is not None:
                self._open(path)
        elif path and stamp is None:
            self.ui.viewLabel.text = _("There is no model {path}.").format(path=path)
        view = self._view
        if view is not None:
            plane = parameters.plane or parameters.sliceView
            view.most_pixels = parameters.pixels**2
            if view.plane_node is not plane or view.flipped != parameters.flip:
                view.follow(plane, parameters.flip)
            self._report()
        self.ui.snapshotButton.enabled = view is not None

    def _open(self, path):
        parameters = self._parameterNode
        plane = parameters.plane or parameters.sliceView
        try:
            self._view = self.logic.showModel(path, plane, parameters.flip, parameters.pixels, self._report)
        except Exception as error:
            self.ui.viewLabel.text = str(error)
            return
        if plane is None:
            parameters.plane = self.logic.addPlane(self._view.model)

    def _hide(self):
        view, self._view, self._shown = self._view, None, None
        self.ui.viewLabel.text = ""
        if view is not None:
            view.stop()

    def _report(self):
        view = self._view
        if view is None or view.milliseconds is None:
            return
        faces = _("cut faces of the volume") if view.model.face else _("cut faces of the splats")
        self.ui.viewLabel.text = view.problem or _(
            "{count} splats · {faces} · {time:.0f} ms a picture"
        ).format(count=f"{len(view.model):,}", faces=faces, time=view.milliseconds)

    def onSnapshot(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("There is no snapshot.")):
            from GaussianMRILib.mrml.cinematic import snapshot

            snapshot(self._view.picture(), slicer.mrmlScene)
