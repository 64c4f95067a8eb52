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
from GaussianMRIPanelLib.placing import placeRegion, startPlacing


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
    CHECKED = (("morePlanesSelector", "morePlanes"),)

    def __init__(self, parent=None):
        Panel.__init__(self, parent)
        self._view = None
        self._threeD = None  # where it is
        self._shown = self._state = self._moved = None
        self._note = self._warning = ""
        self._timer = qt.QTimer()
        self._timer.setInterval(15)
        self._timer.connect("timeout()", self._advance)

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
        ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", placeRegion)
        ui.planeSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onPlaneAddedByUser)
        self.connectButtons(
            (ui.applyButton, self.onApply), (ui.cancelButton, self.onCancel), (ui.snapshotButton, self.onSnapshot),
            (ui.addPlaneButton, self.onAddPlane), (ui.showCheckBox, self.onShow),
        )  # fmt: skip
        if slicer.app.layoutManager() is not None:  # else there is no main window
            slicer.app.layoutManager().connect("layoutChanged(int)", self.onLayoutChanged)
        self.initializeParameterNode()

    def cleanup(self):
        if slicer.app.layoutManager() is not None:
            slicer.app.layoutManager().disconnect("layoutChanged(int)", self.onLayoutChanged)
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
        self.logic.askForPackages(cuda=True)
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
                bodyOnly=parameters.bodyOnly,
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

    def onShow(self, checked=False):
        """A click: what is missing may be asked for. The parameter follows by itself."""
        if checked:
            self.logic.askForPackages()
            self._update()

    def onLayoutChanged(self, layout):
        """The picture goes to a view that is shown."""
        if self._threeD is None or not self._threeD.mrmlViewNode().IsMappedInLayout():
            self._hide()
            if self._parameterNode is not None:
                self._update()

    def _update(self):
        """Show, change or hide volume and model as the parameters say."""
        parameters = self._parameterNode
        path = parameters.modelPath if parameters.show else ""
        model = (path, os.path.getmtime(path)) if path and os.path.isfile(path) else None
        volume = parameters.inputVolume if parameters.show else None
        shown = None if model is None and volume is None else (model, volume is not None)
        if shown != self._shown:
            self._hide()
            self._shown = shown
            if shown is not None:
                self._open(path if model else "", volume)
        elif volume is not None:
            self._renew(volume)
        if path and model is None:
            self._note = _("There is no model {path}.").format(path=path)
            self.ui.viewLabel.text = self._note
        view = self._view
        if view is not None:
            plane = parameters.plane or parameters.sliceView
            view.most_pixels = parameters.pixels**2
            cut = (plane, parameters.flip, list(parameters.morePlanes), parameters.clipType.name, parameters.clipNode)
            if (view.plane_node, view.flipped, view.more_planes, view.clip_type, view.clip_node) != cut:
                view.follow(*cut)
            self._report()
        self.ui.snapshotButton.enabled = view is not None
        self.ui.addPlaneButton.enabled = view is not None and bool(view.live or view.model is not None)

    def _open(self, path, volume):
        """Show a model (its path, or ""), a volume (or None), or both."""
        parameters = self._parameterNode
        if volume is not None:
            # Also where there is nothing to see yet: nodes are added to a scene before they have voxels.
            self._state = self._stateOf(volume)
            self._timer.start()
        missing = self.logic.packagesMissing()
        if missing:
            self.ui.viewLabel.text = _("Switch the view off and on again to install {names}.").format(
                names=", ".join(missing)
            )
            return
        plane = parameters.plane or parameters.sliceView
        try:
            self._threeD = self.logic.threeDView()
            model = None
            if path:
                from GaussianMRILib.cinematic import load_model

                model = load_model(path)
            live = self._live(volume, model)
            if model is None and live is None:
                return
            self._view = self.logic.showPicture(
                model,
                live,
                plane,
                parameters.flip,
                parameters.pixels,
                self._report,
                self._threeD,
                morePlanes=list(parameters.morePlanes),
                clipType=parameters.clipType.name,
                clipNode=parameters.clipNode,
            )
        except Exception as error:
            self.ui.viewLabel.text = str(error)
            return
        if model is not None and plane is None:
            parameters.plane = self.logic.addPlane(model.center, model.unit)

    def _live(self, volume, model):
        """The path-traced picture of a volume; None without a volume, and where it cannot be shown, which is then said."""
        if volume is None:
            return None
        parameters = self._parameterNode
        self._state = self._stateOf(volume)
        self._note = self._warning = ""
        try:
            with slicer.util.WaitCursor(parameters.bodyOnly):
                live = self.logic.livePicture(
                    volume, parameters.look, parameters.region, parameters.samples, model, parameters.bodyOnly
                )
            if model is None or not model.face:
                self._warning = self.logic.lookWarning(volume, parameters.look)
        except Exception as error:
            self._note = str(error)
            self.ui.viewLabel.text = self._note
            return None
        if model is None:
            from GaussianMRILib.mrml.cinematic_live import bring_into_view

            self._moved = bring_into_view(self.logic.renderer(self._threeD), live) or self._moved
        return live

    def _stateOf(self, volume):
        parameters = self._parameterNode
        state = self.logic.pictureState(volume, parameters.look, parameters.region)
        return (parameters.samples, parameters.bodyOnly, *state)

    def _renew(self, volume):
        """Another volume, look, region or place: the same view with a new picture."""
        if self._stateOf(volume) == self._state:
            return
        if self._view is None:
            self._shown = None
            self._update()
            return
        self._view.show(self._live(volume, self._view.model))

    def _advance(self):
        if self._parameterNode is None or slicer.mrmlScene.IsBatchProcessing():
            return
        if self._parameterNode.inputVolume and self._parameterNode.show:
            self._renew(self._parameterNode.inputVolume)
        if self._view is not None:
            self._view.advance()

    def _hide(self):
        self._timer.stop()
        view, self._view, self._shown, self._state, self._note = self._view, None, None, None, ""
        self.ui.viewLabel.text = ""
        if view is not None:
            from GaussianMRILib.mrml.cinematic_live import take_back

            view.stop()
            take_back(self.logic.renderer(self._threeD), self._moved)
        self._threeD = self._moved = None

    def _report(self):
        view = self._view
        if view is None or view.milliseconds is None:
            return
        parts = [view.problem or self._note]
        if view.model is not None and not parts[0]:
            faces = _("cut faces of the volume") if view.model.face else _("cut faces of the splats")
            parts = [_("{count} splats").format(count=f"{len(view.model):,}"), faces]
        if view.live is not None and not view.problem:
            parts.extend([self._describe(view.live), self._warning])
        parts.append(_("{time:.0f} ms a picture while moving").format(time=view.milliseconds))
        self.ui.viewLabel.text = " · ".join(filter(None, parts))

    @staticmethod
    def _describe(live):
        if live.nothing:
            return _("nothing is left to see here: move the planes, or cut away the other side")
        if not live.ready:
            return _("preparing the volume; shown with fewer voxels until then")
        return _("{done} of {samples} paths per pixel").format(done=live.done, samples=live.samples)

    def onPlaneAddedByUser(self, node):
        """The user asked for an empty plane and places it next."""
        self.logic.showCut(node)
        startPlacing(node)

    def onAddPlane(self, checked=False):
        """A plane through the middle of what is shown."""
        view, parameters = self._view, self._parameterNode
        middle, side = (
            (view.live.centre, view.live.radius) if view.live else (view.model.center, view.model.unit)
        )
        plane = self.logic.addPlane(middle, side)
        if parameters.plane is None:
            parameters.sliceView = None
            parameters.plane = plane
        else:
            parameters.morePlanes = [*parameters.morePlanes, plane]

    def onSnapshot(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("There is no snapshot.")):
            from GaussianMRILib.mrml.cinematic import snapshot

            snapshot(self._view.picture(), slicer.mrmlScene)
