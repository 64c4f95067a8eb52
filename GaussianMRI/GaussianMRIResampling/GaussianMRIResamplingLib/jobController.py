import sys

import qt
import slicer
from slicer.i18n import tr as _


class JobController:
    """Work that computes beside the user interface and ends in the scene.

    :param onProgress: called with a line of text and a percentage while the work runs.
    :param onEnd: called with the node that was made, a line of text and the job; without a node the text says why.
    :param failed: what the error message says first.
    """

    INTERVAL_MS = 10

    def __init__(self, onProgress, onEnd, failed):
        self._onProgress = onProgress
        self._onEnd = onEnd
        self._failed = failed
        self._job = None
        self._keep = None
        self._timer = qt.QTimer()
        self._timer.setInterval(self.INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self):
        return self._job is not None

    def begin(self, job, keep):
        """Start a `GaussianMRILib.mrml.jobs.Job`.

        :param keep: is given the job that has ended, puts its result into the scene, and returns node and text.
        """
        self.cancel()
        self._job, self._keep = job, keep
        job.start()
        self._timer.start()
        self._onProgress(job.describe(), 0)

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
        if jobs:  # something was computed
            jobs.end_jobs()

    def _poll(self):
        job = self._job
        if job is None or slicer.mrmlScene.IsBatchProcessing():  # nothing is put into a scene that is being filled
            return
        ended = job.poll()
        if job is not self._job:  # cancelled by an event meanwhile
            return
        if not ended:
            self._onProgress(job.describe(), round(100 * job.fraction))
            return
        self._timer.stop()
        self._job = None
        try:
            node, message = self._keep(job)
        except Exception as error:
            slicer.util.errorDisplay(f"{self._failed}\n\n{error}")
            node, message = None, str(error)
        self._onEnd(node, message, job)


class JobSection:
    """A section of the panel whose button starts a job, with a progress bar, a Cancel button and a line of text.

    :param panel: the module's widget.
    :param name: with which the section's widgets begin: `nameButton`, `nameProgressBar`, `nameCancelButton`, `nameLabel`.
    :param failed: what an error message says first.
    """

    def __init__(self, panel, name, failed):
        self._panel = panel
        self._failed = failed
        self._button, self._bar, self._cancel, self._label = (
            getattr(panel.ui, name + part) for part in ("Button", "ProgressBar", "CancelButton", "Label")
        )
        self._cancel.visible = False
        self._controller = JobController(self._show, self._ended, failed)
        self._button.connect("clicked(bool)", self._start)
        self._cancel.connect("clicked(bool)", self._onCancel)

    @property
    def running(self):
        return self._controller.running

    def update(self, parameters):
        """Enable what can be pressed; the button's tooltip says what is missing."""
        missing = self.missing(parameters)
        running = self.running
        self._button.enabled = not missing and not running
        self._button.toolTip = missing or self.toolTip
        self._bar.visible = self._cancel.visible = self._cancel.enabled = running

    def forget(self):
        """The scene is being closed."""
        self._controller.cancel()
        self._label.text = ""
        self._bar.visible = self._cancel.visible = False

    def end(self):
        self._controller.end()

    def _start(self, checked=False):
        parameters = self._panel.parameters
        with slicer.util.tryWithErrorDisplay(self._failed, waitCursor=True):
            self._panel.logic.ensurePackages()
            self._controller.begin(*self.job(parameters))
        self.update(parameters)

    def _onCancel(self, checked=False):
        self._controller.cancel()
        self._ended(None, _("Cancelled; the scene is as it was."), None)

    def _show(self, text, percent):
        self._label.text = text
        self._bar.value = percent

    def _ended(self, node, message, job):
        self._label.text = message
        if self._panel.parameters:
            self.update(self._panel.parameters)
