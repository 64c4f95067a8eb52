"""Parts of the Gaussian MRI Grading module's panel."""

import sys

import qt
import slicer
from slicer.i18n import tr as _


class GradeController:
    """A grading in a thread, which a timer polls.

    :param onProgress: called with a line of text and per cent.
    :param onEnd: called with the result, or None, and a line of text, once the grading is done or has failed.
    """

    INTERVAL_MS = 100

    def __init__(self, onProgress, onEnd):
        self._onProgress = onProgress
        self._onEnd = onEnd
        self._job = None
        self._timer = qt.QTimer()
        self._timer.setInterval(self.INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self):
        return self._job is not None

    def start(self, request):
        from GaussianMRILib.mrml.grading import GradingJob

        self.cancel()
        self._job = GradingJob(request)
        self._job.start()
        self._timer.start()
        self._onProgress(self._job.describe(), 0)

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
        if jobs:  # something was graded
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
            result, text = job.result(), job.describe()
        except Exception as error:
            slicer.util.errorDisplay(_("There is no grade.") + f"\n\n{error}")
            result, text = None, str(error)
        self._onEnd(result, text)
