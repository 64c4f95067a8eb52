import slicer
from GaussianMRIPanelLib.timing import Later
from slicer.i18n import tr as _

from GaussianMRIResamplingLib import sideBySide

#: What the three views show side by side, from the left.
COMPARED = ("gaussians", "spline", "voxel")


def describeError(error):
    """Why there is no preview. In a fresh Slicer a scene with a fit may be opened before there are the packages for it."""
    if not isinstance(error, ImportError):
        return str(error)
    return _(
        "The package {name} is missing. Press 'Report', which installs it after asking, then choose 'Follow' again."
    ).format(name=error.name)


class PreviewController:
    """The slice views that follow the plane, as the parameter node says.

    :param onChanged: called with a line of text when the images have changed.
    :param onTaken: called with a sentence when the previews ended because a view shows something else.
    :param onViews: called with the views in which previews are about to start; nothing else may follow anything there.
    """

    #: A pause in a movement after which images that take long are made sharp.
    SETTLE_MS = 250

    def __init__(self, onChanged, onTaken, onViews):
        self._onChanged = onChanged
        self._onTaken = onTaken
        self._onViews = onViews
        self._previews = []
        self._wanted = None
        self._guess = None
        self._renderers = {}
        self._layoutBefore = None
        self._refreshing = False
        self._asked = None
        self._again = False
        # One for each preview that there may be at once, and one for the one that becomes sharp.
        self._updates = {method: Later() for method in COMPARED}
        self._sharpening = Later()

    @property
    def previews(self):
        """The running previews."""
        return [preview for preview in self._previews if preview.running]

    def keep(self, fieldNode, field):
        """The field that a node was made from, which then need not be read from the node."""
        self._renderers = {(fieldNode.GetID(), "gaussians"): (self.stamp(fieldNode), field)}

    def guess(self, field, volumes, besides):
        """A field to show while a fit of volumes goes on, for as long as `besides` is the field that is chosen, or None."""
        self._guess = field, volumes, besides

    def dropGuess(self):
        """The fit has ended; `refresh` then shows the chosen field in the guess's place, or gives the view back."""
        self._guess = None

    def _guessFor(self, parameters):
        """The guess and its volumes, where they are what is to be shown."""
        if not (parameters and self._guess) or self._guess[2] is not parameters.field:
            return None
        return self._guess[:2]

    def field(self, fieldNode):
        """The field of a node, which is read from it once."""
        return self._renderer(fieldNode, "gaussians")

    def refresh(self, parameters):
        """Start, change or stop previews so that they are what the parameter node asks for; None: no preview."""
        self._asked, self._again = parameters, True
        if self._refreshing:  # called from events that are handled while views are arranged
            return
        self._refreshing = True
        try:
            while self._again:
                self._again = False
                self._refresh(self._asked)
        finally:
            self._refreshing = False

    def _refresh(self, parameters):
        wanted = self._describe(parameters)
        running = all(preview.running for preview in self._previews)
        if wanted == self._wanted and (running or wanted is None):
            for preview in self._previews:
                preview.set_opacity(parameters.overlayOpacity)
            return
        before, self._wanted = self._wanted, wanted
        # Another field of the same volumes: the picture changes, the view stays as it is.
        exchanged = wanted and before and wanted[1:] == before[1:] and len(self.previews) == 1
        if not exchanged:
            self._remove()
        if wanted is None:
            self._onChanged("")
            return
        try:
            if exchanged:
                ((method, _view),) = self._views(parameters)
                self._previews[0].exchange(**self._shown(parameters, method))
                return
            self._onViews([view for _method, view in self._views(parameters)])
            if self._compares(parameters):
                self._layoutBefore = sideBySide.showViews(len(COMPARED))
                slicer.app.processEvents()  # the views get their new sizes
                if self._again:  # something else is wanted meanwhile
                    self._remove()
                    self._wanted = None
                    return
            for method, view in self._views(parameters):
                self._previews.append(self._start(parameters, method, view))
        except Exception as error:
            self._remove()
            self._onChanged(describeError(error))
            return
        self._report()

    def stop(self):
        """End the previews; the views show again what they showed before."""
        self.refresh(None)

    def giveUp(self, views):
        """End the previews if one of them has one of these views, where something else is about to be shown."""
        if any(preview.slice_node in views for preview in self.previews):
            self.stop()
            self._onTaken(_("The image along the curve took the view."))

    def forget(self):
        """After the scene was closed nothing of it may be held."""
        self._guess = None
        self.stop()
        self._remove()
        self._wanted = None
        self._renderers = {}

    def _remove(self):
        previews, self._previews = self._previews, []
        for preview in previews:
            preview.stop()
        for later in (*self._updates.values(), self._sharpening):
            later.cancel()
        layout, self._layoutBefore = self._layoutBefore, None
        sideBySide.showLayout(layout)

    def _compares(self, parameters):
        return parameters.compare and not self._guessFor(parameters)

    def _views(self, parameters):
        if self._compares(parameters):
            return [
                (method, view) for method, view in zip(COMPARED, sideBySide.sliceNodes(), strict=True) if view
            ]
        return [(COMPARED[0] if self._guessFor(parameters) else parameters.method.name, parameters.previewView)]

    def _volumes(self, parameters):
        """What was fitted and is in the scene."""
        from GaussianMRILib.mrml.fields import volumes_of

        guess = self._guessFor(parameters)
        return [node for node in guess[1] if node.GetScene()] if guess else volumes_of(parameters.field)

    def _describe(self, parameters):
        """Everything that a preview depends on but the plane's place, the field first; None: nothing to show."""
        guess = self._guessFor(parameters)
        if not (parameters and parameters.preview and (guess or parameters.field) and parameters.plane):
            return None
        if not (parameters.plane.GetIsPlaneValid() and parameters.previewView):
            return None
        return (
            guess[0] if guess else self.stamp(parameters.field),
            parameters.plane.GetID(),
            tuple(node.GetID() for node in self._volumes(parameters)[:1]),
            tuple((method, view.GetID()) for method, view in self._views(parameters)),
            self._compares(parameters),
            parameters.spacing,
            parameters.thickness,
            parameters.projection.name if parameters.thickness else None,
            parameters.overlay.name,
        )

    @staticmethod
    def stamp(fieldNode):
        """Changes when another field comes into the node, or the node under another transform, where it is refused."""
        mesh = fieldNode.GetMesh()
        return fieldNode.GetID(), mesh.GetMTime() if mesh else 0, fieldNode.GetTransformNodeID()

    def _renderer(self, fieldNode, method):
        from GaussianMRILib import mrml

        stamp, key = self.stamp(fieldNode), (fieldNode.GetID(), method)
        if self._renderers.get(key, (None,))[0] != stamp:
            self._renderers[key] = stamp, mrml.resampler(fieldNode, method=method)
        return self._renderers[key][1]

    @staticmethod
    def _name(method):
        return {
            "gaussians": _("Gaussians, live"),
            "spline": _("Cubic spline, live"),
            "voxel": _("Voxels, live"),
        }[method]

    def _shown(self, parameters, method):
        """What a preview shows by a method."""
        guess = self._guessFor(parameters)
        if guess:
            return {"renderer": guess[0], "field": guess[0], "name": _("First guess; the fit goes on")}
        return {
            "renderer": self._renderer(parameters.field, method),
            "field": self.field(parameters.field) if parameters.overlay.name != "none" else None,
            "name": self._name(method),
        }

    def _start(self, parameters, method, view):
        from GaussianMRILib.mrml.preview import Preview

        volumes = self._volumes(parameters)
        compares = self._compares(parameters)

        def schedule(update):
            # Interpolations are slow: beside the Gaussians they follow at a quarter of the time at most.
            delay = 3 * preview.facts.milliseconds if compares and method != COMPARED[0] else 0
            self._updates[method].start(delay, update)

        preview = Preview(
            plane_node=parameters.plane,
            slice_node=view,
            source=volumes[0] if volumes else None,
            spacing=parameters.spacing or None,
            thickness=parameters.thickness,
            overlay=parameters.overlay.name if parameters.overlay.name != "none" else None,
            opacity=parameters.overlayOpacity,
            schedule=schedule,
            changed=self._report,
            projection=parameters.projection.name,
            # Side by side, images differ by their methods alone.
            settle=None if compares else lambda sharpen: self._sharpening.start(self.SETTLE_MS, sharpen),
            **self._shown(parameters, method),
        )
        return preview

    def _report(self):
        if any(preview.taken and not preview.running for preview in self._previews):
            self.stop()
            self._onTaken(_("Another volume was chosen for the view."))
            return
        ended = next((preview.problem for preview in self._previews if not preview.running), None)
        if ended:
            self._onChanged(ended)
            return
        running = self.previews
        if not running:
            self._onChanged("")
            return
        problem = next((preview.problem for preview in running if preview.problem), None)
        facts = running[0].facts
        if problem:
            text = problem
        elif facts.outside >= 1:
            text = _("The plane lies outside the scan; nothing is known there.")
        else:
            text = _(
                "{outside:.0%} of the plane lies outside the scan · {rows} x {columns} pixels of {spacing:.2f} mm"
                " · {time:.0f} ms\nDrag the plane's handles, or turn the mouse wheel in the view."
            ).format(
                outside=facts.outside,
                rows=facts.shape[0],
                columns=facts.shape[1],
                spacing=min(facts.spacing),
                time=facts.milliseconds,
            )
        if self._guessFor(self._asked):
            guess = _("First guess, by interpolation between the slices. The fit goes on; its image takes this place.")
            text = f"{guess}\n{text}"
        self._onChanged(text)
