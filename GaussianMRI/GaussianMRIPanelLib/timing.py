import qt


class Later:
    """Calls a function after a pause, by one timer that is used again; a later call takes the place of one that waits.

    Slicer's `qt.QTimer.singleShot` makes a timer for each call that lives, with the function and all that belongs to it,
    until Slicer is closed.
    """

    def __init__(self):
        self._call = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._fire)

    def start(self, msec, call):
        """Call it so many ms from now; 0: once the event loop is idle."""
        self._call = call
        self._timer.start(int(msec))

    def cancel(self):
        """Call nothing, and hold nothing."""
        self._timer.stop()
        self._call = None

    def _fire(self):
        call, self._call = self._call, None
        if call is not None:
            call()
