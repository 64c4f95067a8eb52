import sys

import qt
import slicer
from slicer.i18n import tr as _


class FitController:
    """A fit that computes beside the user interface and ends in the scene.

    :param onProgress: called with a line of text and a percentage while the fit runs.
    :param onEnd: called with the new field's node, or with None and a message where there is none.
    """

    INTERVAL_MS = 10

    def __init__(self, onProgress, onEnd):
        self._onProgress = onProgress
        self._onEnd = onEnd
        self._job = None
        self._volumes = []
        self._node = None
        self._timer = qt.QTimer()
        self._timer.setInterval(self.INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self):
        return self._job is not None

    def start(self, fitter, volumes, node=None):
        """Begin a fit of volumes; `node` is the field that it replaces, None: a new one."""
        from GaussianMRILib.mrml.jobs import FitJob

        self.cancel()
        self._volumes, self._node = list(volumes), node
        self._job = FitJob(fitter)
        self._job.start()
        self._timer.start()
        self._onProgress(self._job.describe(), 0)

    def finishEarly(self):
        """End after the present step, keeping the field as it stands."""
        if self._job:
            self._job.finish_early()

    def cancel(self):
        """End at once. The scene stays as it is, and `onEnd` is not called."""
        self._timer.stop()
        job, self._job = self._job, None
        if job:
            job.cancel()

    def end(self):
        """For a panel that goes, as when Slicer is closed: cancel, and wait some seconds for the threads."""
        self.cancel()
        jobs = sys.modules.get("GaussianMRILib.mrml.jobs")
        if jobs:  # something was fitted
            jobs.end_jobs()

    def _poll(self):
        job = self._job
        if job is None or slicer.mrmlScene.IsBatchProcessing():  # nothing is put into a scene that is being filled
            return
        ended = job.poll()
        if job is not self._job:  # cancelled by an event meanwhile
            return
        if not ended:
            fraction = job.progress.fraction if job.progress else 0.0
            self._onProgress(job.describe(), round(100 * fraction))
            return
        self._timer.stop()
        self._job = None
        try:
            node, message, field = self._keep(job)
        except Exception as error:
            slicer.util.errorDisplay(_("The fit failed.") + f"\n\n{error}")
            node, message, field = None, str(error), None
        self._onEnd(node, message, field)

    def _keep(self, job):
        from GaussianMRILib import mrml

        field = job.field()
        volumes = [node for node in self._volumes if node.GetScene()]
        if not volumes:
            return None, _("The volumes were removed while they were fitted; nothing is kept."), None
        node = self._node if self._node is not None and self._node.GetScene() else None
        node = mrml.field_to_model(field, node=node, volumes=volumes, name=f"{volumes[0].GetName()} field")
        return node, describeField(field, [node.GetName() for node in volumes]), field


def describeField(field, names):
    """What was fitted, how well, and what to do next: a line each.

    :param names: of the volumes.
    """
    report = field.report
    lines = [_("Fitted: {names}").format(names=", ".join(names))]
    if report.get("elapsed_s"):
        lines[0] += _(" ({time:.0f} s)").format(time=report["elapsed_s"])
    heldOut = report.get("held_out")
    if heldOut:
        gain = heldOut["psnr_db"] - heldOut["spline_psnr_db"]
        if gain >= 1:
            word = _("Good: left-out slices are predicted clearly better than by interpolation")
        elif gain >= 0.2:
            word = _("Fair: left-out slices are predicted a little better than by interpolation")
        else:
            word = _("Weak: left-out slices are predicted no better than by interpolation; compare side by side")
        lines.append(f"{word} ({heldOut['psnr_db']:.1f} dB PSNR, {gain:+.1f} dB).")
    else:
        lines.append(_("How good it is was not measured: there are too few slices to leave any out."))
    lines.append(_("Next: move the plane in the views, then press Resample to keep its image."))
    return "\n".join(lines)
