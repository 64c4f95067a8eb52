import qt
from slicer.i18n import tr as _


class JobController:
    """A model that is made in a process of its own, which a timer polls.

    :param onReport: called with each report of the process, a dictionary: stage, fraction (0 to 1), text, picture (a path).
    :param onEnd: called with an empty text when the job is done, or with why it is not.
    """

    INTERVAL_MS = 300

    def __init__(self, onReport, onEnd):
        self._onReport = onReport
        self._onEnd = onEnd
        self._job = None
        self._timer = qt.QTimer()
        self._timer.setInterval(self.INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)

    @property
    def running(self):
        return self._job is not None

    def start(self, job):
        self.cancel()
        self._job = job
        self._timer.start()

    def cancel(self):
        """End the process and what it has started. What is on disk stays."""
        self._timer.stop()
        job, self._job = self._job, None
        if job:
            job.cancel()

    def _poll(self):
        job = self._job
        if job is None:
            return
        status = job.poll()  # before the reports: a process that has ended has written them all
        for report in job.reports():
            self._onReport(report)
            if job is not self._job:  # cancelled meanwhile
                return
        if status is None:
            return
        self._timer.stop()
        self._job = None
        if status == 0:
            self._onEnd("")
        else:
            self._onEnd(job.tail() or _("The process ended with status {status}.").format(status=status))
