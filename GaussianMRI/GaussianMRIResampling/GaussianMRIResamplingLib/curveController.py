import slicer
from GaussianMRIPanelLib.jobController import JobController
from GaussianMRIPanelLib.placing import startPlacing
from GaussianMRIPanelLib.timing import Later
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from GaussianMRIResamplingLib.previewController import PreviewController, describeError


class CurveController(VTKObservationMixin):
    """What lies along a curve: its straightened image in a slice view, and what is made of it.

    :param ui: widgets of the panel.
    :param logic: of the module.
    :param fields: the panel's PreviewController, which keeps the field of a node, and gives up the view that is needed here.
    """

    def __init__(self, ui, logic, fields):
        VTKObservationMixin.__init__(self)
        self._ui, self._logic, self._fields = ui, logic, fields
        self._taken = ""
        self._parameters = None
        self._curve = None
        self._preview = None
        self._shown = None
        self._made = ""
        self._update, self._sharpening = Later(), Later()
        self._volume = JobController(self._showProgress, self._onWorkEnd, _("There is no volume."), interval=50)
        self._along = JobController(self._showProgress, self._onWorkEnd, _("Nothing was copied."), interval=50)
        self._backwards = False
        ui.curveSpaceSelector.addAttribute("vtkMRMLScalarVolumeNode", "GaussianMRI.StraightSpace")
        ui.curveSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self.onCurveAddedByUser)
        for button, slot in (
            (ui.curveImageButton, self.onImage),
            (ui.curveVolumeButton, self.onVolume),
            (ui.curvePlanesButton, self.onPlanes),
            (ui.curveTransformButton, self.onTransform),
            (ui.curveAlongButton, self.onAlong),
            (ui.curveBackButton, self.onBack),
        ):
            button.connect("clicked(bool)", slot)

    @property
    def preview(self):
        """The running preview, or None."""
        return self._preview if self._preview is not None and self._preview.running else None

    @property
    def running(self):
        """Whether a volume is being rendered, or something copied."""
        return self._volume.running or self._along.running

    def refresh(self, parameters):
        """Show what the parameter node asks for; None: no preview."""
        self._parameters = parameters
        self._observe(parameters.curve if parameters else None)
        self._updateButtons()
        self._updatePreview()

    def stop(self):
        """End the preview; the view shows again what it showed before."""
        self.refresh(None)

    def giveUp(self, views):
        """End the preview if it has one of these views, where something else is about to be shown."""
        if self.preview is not None and self.preview.slice_node in views:
            self._end(_("The plane's images took the view."))

    def _end(self, why):
        """Leave the view to others until the user asks for it again."""
        self._taken = _("{why} Check 'Follow the curve' to see its image again.").format(why=why)
        self._parameters.curvePreview = False

    def forget(self):
        """After the scene was closed nothing of it may be held."""
        self._made = ""
        self.refresh(None)

    def end(self):
        """For a panel that goes."""
        self._volume.end()
        self._along.end()
        self.forget()

    def onCurveAddedByUser(self, node):
        """The user asked for an empty curve and places its points next."""
        node.CreateDefaultDisplayNodes()
        startPlacing(node, several=True)

    # Preview

    def _observe(self, curve):
        if curve is self._curve:
            return
        self.removeObservers()
        self._curve, self._made = curve, ""
        if curve is not None:  # the second point makes it a curve
            self.addObserver(curve, curve.PointPositionDefinedEvent, self._onPoints)
            self.addObserver(curve, curve.PointRemovedEvent, self._onPoints)

    def _onPoints(self, caller, event):
        if self.preview is None:
            self.refresh(self._parameters)

    def _hasCurve(self):
        return bool(self._curve and self._curve.GetNumberOfDefinedControlPoints() > 1)

    def _how(self):
        """Options of whatever is made along the curve."""
        parameters = self._parameters
        across = parameters.curveAcross.name
        return {
            "width": parameters.curveWidth,
            "across": None if across == "automatic" else across,
            "fixed": parameters.curveKeepAcross,
            "turn": parameters.curveTurn,
        }

    def _image(self):
        """Options of images and volumes."""
        return {**self._how(), "spacing": self._parameters.curveSpacing or None}

    def _slab(self):
        return {"slab": self._parameters.curveSlab, "projection": self._parameters.curveProjection.name}

    def _wanted(self):
        """What a preview is of; None where there is nothing to show."""
        parameters = self._parameters
        if not (parameters and parameters.curvePreview and parameters.field and parameters.curveView):
            return None
        if not self._hasCurve():
            return None
        return self._fields.stamp(parameters.field), self._curve.GetID(), parameters.curveView.GetID()

    def _updatePreview(self):
        wanted = self._wanted()
        if wanted is not None and wanted != self._shown:
            self._fields.giveUp([self._parameters.curveView])  # which may come back to here
        if wanted == self._shown and self.preview is not None:
            self._preview.change(**self._image(), **self._slab())
            return
        preview, self._preview = self._preview, None
        if preview is not None:
            preview.stop()
        for later in (self._update, self._sharpening):
            later.cancel()
        self._shown = wanted
        try:
            if wanted is not None:
                self._taken = ""
                self._preview = self._start()
        except Exception as error:
            self._say(describeError(error))
            return
        self._report()

    def _start(self):
        from GaussianMRILib.mrml.curve_preview import CurvePreview
        from GaussianMRILib.mrml.fields import volumes_of

        parameters = self._parameters
        volumes = volumes_of(parameters.field)
        return CurvePreview(
            self._fields.field(parameters.field),
            parameters.curve,
            parameters.curveView,
            source=volumes[0] if volumes else None,
            **self._image(),
            **self._slab(),
            name=_("Straightened, live"),
            schedule=lambda update: self._update.start(0, update),
            changed=self._report,
            settle=lambda sharpen: self._sharpening.start(PreviewController.SETTLE_MS, sharpen),
        )

    def _report(self):
        preview = self._preview
        if preview is None:
            self._say(self._hint())
            return
        if preview.taken and not preview.running:
            self._end(_("Another volume was chosen for the view."))
        elif preview.problem:
            self._say(preview.problem)
        elif preview.running:
            self._say(self._facts(preview))
        else:
            self._say("")

    def _hint(self):
        if self._parameters is None or self._parameters.curve is None:
            return ""
        if not self._hasCurve():
            return _("Place two or more points of the curve in the views.")
        return self._taken if self._parameters.field else _("Fit a volume first, above.")

    @staticmethod
    def _facts(preview):
        facts = preview.facts
        lines = [
            _("{length:.0f} mm long · {rows} x {columns} pixels of {spacing:.2f} mm · {time:.0f} ms").format(
                length=preview.straight.curve.length,
                rows=facts.shape[0],
                columns=facts.shape[1],
                spacing=min(facts.spacing),
                time=facts.milliseconds,
            ),
            _("{outside:.0%} of the image lies outside the scan").format(outside=facts.outside),
        ]
        if abs(preview.aside) > 0.05:
            lines[1] += _(" · {aside:.0f} mm beside the curve").format(aside=abs(preview.aside))
        lines.append(
            preview.folding or _("Drag the curve's points; the mouse wheel in the view moves the image aside.")
        )
        return "\n".join(lines)

    def _say(self, text):
        self._ui.curveLabel.text = "\n".join(line for line in (text, self._made) if line)

    # Results

    def _updateButtons(self):
        ui, curve = self._ui, self._hasCurve()
        field = bool(self._parameters and self._parameters.field)
        ui.curveImageButton.enabled = curve and field and not self.running
        volume, copying = self._volume.running, self._along.running
        ui.curveVolumeButton.enabled = (curve and field and not copying) or volume
        ui.curveVolumeButton.text = _("Cancel") if volume else _("Make volume")
        ui.curvePlanesButton.enabled = ui.curveTransformButton.enabled = curve
        along = self._parameters and any(self._parameters.curveAlong) and (curve or self._parameters.curveSpace)
        for button, back, text in (
            (ui.curveAlongButton, False, _("Copy to the straight space")),
            (ui.curveBackButton, True, _("Copy back to the patient")),
        ):
            mine = copying and self._backwards == back
            button.enabled = bool(along and not self.running) or mine
            button.text = _("Cancel") if mine else text
        ui.curveProgressBar.visible = self.running

    def _tell(self, text):
        self._made = text
        self._report()

    def onImage(self, checked=False):
        parameters = self._parameters
        self._logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("There is no image."), waitCursor=True):
            from GaussianMRILib.mrml.curves import straight_images

            straight, slab = self._straight(), self._slab()
            nodes = parameters.field, parameters.curve, parameters.curveOutput
            folding = straight.curve.folding(straight.width, aside=slab["slab"])
            self._tell(self._keep(straight, *straight_images(straight, **slab), *nodes, folding)[1])

    def onVolume(self, checked=False):
        """Render the volume beside the user interface; while it is rendered the same button cancels it."""
        if self._cancelled(self._volume):
            return
        parameters = self._parameters
        self._logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("There is no volume."), waitCursor=True):
            from GaussianMRILib.mrml.curves import straight_images
            from GaussianMRILib.mrml.jobs import Job

            straight = self._straight()  # the curve may be moved meanwhile
            nodes = parameters.field, parameters.curve, parameters.curveOutput
            self._volume.begin(
                Job(lambda job: straight_images(straight, job=job), "straightened volume"),
                lambda job: self._keep(straight, *job.result(), *nodes, straight.folding),
            )
        self._updateButtons()

    def _showProgress(self, text, percent):
        self._ui.curveProgressBar.value = percent

    def _onWorkEnd(self, node, text, job):
        self._tell(text)
        self._updateButtons()

    def _cancelled(self, work):
        """Cancel work that runs, whose button was pressed again; whether it ran."""
        if not work.running:
            return False
        work.cancel()
        self._onWorkEnd(None, _("Cancelled; the scene is as it was."), None)
        return True

    def _straight(self):
        from GaussianMRILib import mrml

        return mrml.straight_field(
            self._fields.field(self._parameters.field), self._parameters.curve, **self._image()
        )

    def _keep(self, straight, images, planes, fieldNode, curveNode, output, folding):
        from GaussianMRILib.mrml.curves import straight_to_node

        if not (fieldNode.GetScene() and curveNode.GetScene()):
            return None, _("The fit or the curve was removed meanwhile; nothing is kept.")
        output = output if output is not None and output.GetScene() else None
        made = straight_to_node(straight, images, planes, fieldNode, curveNode, output)
        return made, "\n".join(line for line in (self._logic.describe([made]), folding) if line)

    def onPlanes(self, checked=False):
        """Planes across the curve, which are checked to be resampled."""
        parameters = self._parameters
        self._logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("No plane was made."), waitCursor=True):
            planes = self._logic.addPlanesAlongCurve(parameters.curve, parameters.curveStep, **self._how())
            self._tell(_("{count} planes, checked below to be resampled.").format(count=len(planes)))
            parameters.outputPlanes = planes

    def onTransform(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("There is no transform."), waitCursor=True):
            node = self._logic.straighteningTransform(self._parameters.curve, **self._how())
            self._tell(
                _(
                    "Put models or volumes under '{name}' (Transforms module): they come to lie in the straightened "
                    "volume. Inverted, it takes them back."
                ).format(name=node.GetName())
            )

    def onAlong(self, checked=False):
        self._copy(back=False)

    def onBack(self, checked=False):
        self._copy(back=True)

    def _copy(self, back):
        """Copies of the checked nodes in the straight space, or in the patient; the same button cancels them."""
        if self._cancelled(self._along):
            return
        parameters = self._parameters
        self._logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(_("Nothing was copied."), waitCursor=True):
            others = [] if parameters.curveSpace else self._logic.changedSince(parameters.curve, **self._how())
            job = self._logic.alongJob(
                [node for node in parameters.curveAlong if node],
                parameters.curveSpace or parameters.curve,
                back,
                None if back else parameters.curveView,
                **self._how(),
            )
            self._backwards = back
            self._along.begin(job, lambda job: self._copied(*job.nodes(), others))
        self._updateButtons()

    @staticmethod
    def _copied(copies, lines, others):
        if others:
            said = _("By the curve as it is now. What belongs to {names}, made before it changed: choose that above.")
            lines.append(said.format(names=", ".join(others)))
        names = ", ".join(node.GetName() for node in copies)
        return copies, "\n".join([_("Copied: {names}").format(names=names), *lines])
