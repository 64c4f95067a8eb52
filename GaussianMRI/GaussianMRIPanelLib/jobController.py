import sys
import time

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin


class JobController(VTKObservationMixin):
    """Work that goes on beside the user interface and ends in the scene in which it began.

    A scene that is closed ends it, without a word: the next scene has nothing to do with it.

    :param onProgress: called with a line of text and a percentage while the work runs.
    :param onEnd: called with what was made, a line of text and the job; when nothing was made the text says why.
    :param failed: what the error message says first.
    :param interval: ms between two looks at the work.
    """

    def __init__(self, onProgress, onEnd, failed, interval=10):
        VTKObservationMixin.__init__(self)
        self._onProgress = onProgress
        self._onEnd = onEnd
        self._failed = failed
        self._job = None
        self._keep = None
        self._timer = qt.QTimer()
        self._timer.setInterval(interval)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self):
        return self._job is not None

    @property
    def job(self):
        """The job that runs, or None."""
        return self._job

    def begin(self, job, keep):
        """Start a `GaussianMRILib.mrml.jobs.Job` or `GaussianMRILib.mrml.process.ProcessJob`.

        :param keep: is given the job that has ended, puts its result into the scene, and returns what was made and a text.
            What it needs of the panel's parameters is taken when the work begins: they change meanwhile.
        """
        self.cancel()
        job.start()
        self._job, self._keep = job, keep
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneStartClose)
        self._timer.start()
        self._onProgress(job.describe(), 0)

    def cancel(self):
        """End at once. The scene stays as it is, and `onEnd` is not called."""
        job = self._release()
        if job:
            job.cancel()

    def end(self):
        """For a panel that goes, as when Slicer is closed: cancel, and wait some seconds for the threads."""
        self.cancel()
        jobs = sys.modules.get("GaussianMRILib.mrml.jobs")
        if jobs:  # something was computed
            jobs.end_jobs()

    def _release(self):
        self._timer.stop()
        self.removeObservers()
        job, self._job, self._keep = self._job, None, None
        return job

    def _onSceneStartClose(self, caller, event):
        self.cancel()

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
        keep = self._keep
        self._release()
        try:
            made, message = keep(job)
        except Exception as error:
            slicer.util.errorDisplay(f"{self._failed}\n\n{error}")
            made, message = None, str(error)
        self._onEnd(made, message, job)


def finished(job):
    """The job, started and ended, for a console: the application stays responsive meanwhile.

    A scene that is closed cancels it, so that its result raises.
    """
    scene = slicer.mrmlScene
    tag = scene.AddObserver(scene.StartCloseEvent, lambda *_unused: job.cancel())
    try:
        job.start()
        while not job.poll():
            slicer.app.processEvents()
            time.sleep(0.01)  # a program that is polled does not wait
    except BaseException:  # also the user's Ctrl+C
        job.cancel()
        raise
    finally:
        scene.RemoveObserver(tag)
    return job


class StatusLine:
    """The line of text, the progress bar and the Cancel button of a job."""

    def __init__(self, label, bar, cancel):
        self._label, self._bar, self._cancel = label, bar, cancel

    def show(self, text, percent=None):
        """Say how far the job is, or how it ended."""
        self._label.text = text
        if percent is not None:
            self._bar.value = percent

    def showCancelled(self):
        self.show(_("Cancelled; the scene is as it was."))

    def update(self, running):
        """Offer Cancel while the job runs."""
        self._bar.visible = self._cancel.enabled = running


class JobSection:
    """A section of the panel whose button starts a job, with a progress bar, a Cancel button and a line of text.

    :param panel: the module's widget.
    :param name: with which the section's widgets begin: `nameButton`, `nameProgressBar`, `nameCancelButton`, `nameLabel`.
    :param failed: what an error message says first.
    """

    def __init__(self, panel, name, failed):
        self._panel = panel
        self._failed = failed
        self._button, label, bar, self._cancel = (
            getattr(panel.ui, name + part) for part in ("Button", "Label", "ProgressBar", "CancelButton")
        )
        self._status = StatusLine(label, bar, self._cancel)
        self._showRunning(False)
        self._controller = JobController(self._status.show, self._ended, failed)
        panel.connectButtons((self._button, self._start), (self._cancel, self._onCancel))

    @property
    def running(self):
        return self._controller.running

    def update(self, parameters):
        """Enable what can be pressed; the button's tooltip says what is missing."""
        missing = self.missing(parameters)
        self._button.enabled = not missing and not self.running
        self._button.toolTip = missing or self.toolTip
        self._showRunning(self.running)

    def forget(self):
        """The scene is being closed."""
        self._status.show("")
        self._showRunning(False)

    def end(self):
        self._controller.end()

    def _showRunning(self, running):
        self._cancel.visible = running
        self._status.update(running)

    def _start(self, checked=False):
        parameters = self._panel.parameters
        self._panel.logic.askForPackages()
        with slicer.util.tryWithErrorDisplay(self._failed, waitCursor=True):
            self._controller.begin(*self.job(parameters))
        self.update(parameters)

    def _onCancel(self, checked=False):
        self._controller.cancel()
        self._status.showCancelled()
        self._updatePanel()

    def _ended(self, node, message, job):
        self._status.show(message)
        self._updatePanel()

    def _updatePanel(self):
        if self._panel.parameters:
            self.update(self._panel.parameters)
