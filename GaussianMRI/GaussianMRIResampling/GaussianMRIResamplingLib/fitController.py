from GaussianMRIPanelLib.jobController import JobController
from slicer.i18n import tr as _


class FitController(JobController):
    """A fit that computes beside the user interface and ends in the scene; see `JobController`.

    :param onFirstGuess: called once with a field to look at while the fit goes on, and the volumes, as soon as it is there.
    """

    def __init__(self, onProgress, onEnd, onFirstGuess):
        JobController.__init__(self, self._progressed, onEnd, _("The fit failed."))
        self._tell = onProgress
        self._onFirstGuess = onFirstGuess
        self._guessed = False
        self._volumes, self._states = [], []
        self._node = None

    def start(self, fitter, volumes, node=None):
        """Begin a fit of volumes; `node` is the field that it replaces, None: a new one."""
        from GaussianMRILib.mrml.jobs import FitJob
        from GaussianMRILib.mrml.volume_state import states_of

        self._volumes, self._node, self._guessed = list(volumes), node, False
        self._states = states_of(self._volumes)
        self.begin(FitJob(fitter), self._keepField)

    def finishEarly(self):
        """End after the present step, keeping the field as it stands."""
        if self._job:
            self._job.finish_early()

    def _progressed(self, text, percent):
        self._tell(text, percent)
        guess = None if self._guessed or self._job is None else self._job.first_guess
        volumes = [node for node in self._volumes if node.GetScene()]
        if guess is not None and volumes:
            self._guessed = True
            self._onFirstGuess(guess, volumes)

    def _keepField(self, job):
        from GaussianMRILib import mrml

        field = job.field()
        volumes = [node for node in self._volumes if node.GetScene()]
        if not volumes:
            return None, _("The volumes were removed while they were fitted; nothing is kept.")
        node = self._node if self._node is not None and self._node.GetScene() else None
        name = f"{volumes[0].GetName()} field"
        node = mrml.field_to_model(field, node=node, volumes=volumes, states=self._states, name=name)
        return node, describeField(field, [node.GetName() for node in volumes])


def describeField(field, names):
    """What was fitted, how well, and what to do next: a line each.

    :param names: of the volumes.
    """
    from GaussianMRILib.fitting.quality import Quality, why_unmeasured

    report = field.report
    lines = [_("Fitted: {names}").format(names=", ".join(names))]
    if report.get("elapsed_s"):
        lines[0] += _(" ({time:.0f} s)").format(time=report["elapsed_s"])
    quality = Quality.of(report)
    if quality is None:
        lines.append(_("How good it is was not measured: {why}.").format(why=why_unmeasured(report)))
    else:
        gain = quality.psnr - quality.other_psnr
        if gain >= 1:
            word = _("Good: left-out slices are predicted clearly better than by {other}")
        elif gain >= 0.2:
            word = _("Fair: left-out slices are predicted a little better than by {other}")
        else:
            word = _("Weak: left-out slices are predicted no better than by {other}; compare side by side")
        other = _("interpolation") if quality.other == "cubic spline" else quality.other
        of = "" if quality.series is None else _(" of {name}, fitted alone").format(name=quality.series)
        lines.append(f"{word.format(other=other)} ({quality.psnr:.1f} dB PSNR{of}, {gain:+.1f} dB).")
    lines += [_("Warning: {text}.").format(text=text) for text in report.get("warnings", [])]
    lines.append(_("Next: move the plane in the views, then press Resample to keep its image."))
    return "\n".join(lines)
