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
        self._timer = qt.QTimer()
        self._timer.setInterval(self.INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self):
        return self._job is not None

    def start(self, fitter, volumes):
        from GaussianMRILib.mrml.jobs import FitJob

        self.cancel()
        self._volumes = list(volumes)
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

    def _poll(self):
        job = self._job
        if job is None:
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
        node = mrml.field_to_model(field, volumes=volumes, name=f"{volumes[0].GetName()} field")
        return node, describeField(field), field


def describeField(field):
    """One line about a fitted field."""
    report = field.report
    parts = [_("{count} Gaussians").format(count=f"{report.get('gaussians', len(field.colours)):,}")]
    if report.get("elapsed_s"):
        parts.append(f"{report['elapsed_s']:.1f} s")
    heldOut = report.get("held_out")
    if heldOut:
        parts.append(_("left-out slices: {psnr:.1f} dB PSNR").format(psnr=heldOut["psnr_db"]))
    return " · ".join(parts)
