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

from GaussianMRICinematicLib.logic import GaussianMRICinematicLogic
from GaussianMRICinematicLib.selfTest import GaussianMRICinematicTest  # noqa: F401  Slicer looks for it here
from GaussianMRIPanelLib.jobController import JobController, StatusLine
from GaussianMRIPanelLib.panel import Panel


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


class GaussianMRICinematicWidget(Panel):
    """The panel."""

    LOGIC = GaussianMRICinematicLogic
    PATHS = (("folderEdit", "folder", "Dirs"), ("modelEdit", "modelPath", "Files"))

    def __init__(self, parent=None):
        Panel.__init__(self, parent)
        self._view = None
        self._shown = None

    def setup(self):
        Panel.setup(self)
        ui = self.ui
        self.statusLine = StatusLine(ui.statusLabel, ui.progressBar, ui.cancelButton)
        self.jobController = JobController(
            self.onProgress, self.onEnd, _("The model was not finished."), interval=300
        )
        for name in self.logic.lookNames():
            ui.lookSelector.addItem(name)
        ui.lookSelector.connect("currentTextChanged(QString)", self.onLook)
        self.connectButtons(
            (ui.applyButton, self.onApply), (ui.cancelButton, self.onCancel), (ui.snapshotButton, self.onSnapshot)
        )
        self.initializeParameterNode()

    def cleanup(self):
        Panel.cleanup(self)
        self._hide()
        self.jobController.end()

    def exit(self):
        """The 3D view belongs to the next module; the model comes back with `enter`."""
        Panel.exit(self)
        self._hide()

    # Scene and parameters

    def releaseScene(self):
        self._hide()

    def forgetScene(self):
        self.statusLine.show("")
        self.ui.thumbnailLabel.clear()

    def setDefaults(self, parameters):
        if not parameters.inputVolume:
            parameters.inputVolume = self.logic.defaultVolume()

    def showParameters(self, parameters):
        ui = self.ui
        if parameters is None:
            return
        ui.lookSelector.setCurrentText(parameters.look)
        running = self.jobController.running
        ui.applyButton.enabled = bool(parameters.inputVolume and parameters.folder) and not running
        ui.applyButton.toolTip = (
            _("Render pictures and learn the model from them, in the background.")
            if parameters.folder
            else _("Choose a folder for the pictures and the model first.")
        )
        self.statusLine.update(running)
        self._update()

    def onLook(self, text):
        if self._parameterNode:
            self._parameterNode.look = text

    # Making a model

    def onApply(self, checked=False):
        parameters = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("Packages are missing.")):
            self.logic.ensurePackages(cuda=True)
        with slicer.util.tryWithErrorDisplay(_("The model cannot be made."), waitCursor=True):
            job = self.logic.modelJob(
                parameters.inputVolume,
                parameters.look,
                parameters.folder,
                parameters.region,
                parameters.quality.name,
                parameters.frames,
                parameters.size,
                parameters.planes.name,
            )
            self.jobController.begin(job, self._keep)
        self.onParametersChanged()

    def _keep(self, job):
        """The model belongs to the scene that asked for it, whichever folder the panel shows by now."""
        path = str(job.result())
        # Another module may be open: then the panel is connected to no parameter node.
        parameters = self._parameterNode or self.logic.getParameterNode()
        parameters.modelPath = path
        return path, _("The model is ready: {path}").format(path=path)

    def onProgress(self, text, percent):
        self.statusLine.show(text, percent)
        picture = self.jobController.job.last.get("picture")
        if picture and os.path.isfile(picture):
            self.ui.thumbnailLabel.setPixmap(qt.QPixmap(picture).scaledToWidth(160))

    def onEnd(self, path, text, job):
        self.statusLine.show(text if path else _("Stopped; Start goes on from what is there."))
        self.onParametersChanged()

    def onCancel(self, checked=False):
        self.jobController.cancel()
        self.statusLine.show(_("Cancelled; Start goes on from what is there."))
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
