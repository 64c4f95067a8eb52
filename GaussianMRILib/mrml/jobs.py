"""A fit beside an event loop: it computes in a thread, the loop polls it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..errors import GaussianMRIError

if TYPE_CHECKING:
    from ..fitting import Fitter, Progress
    from ..gaussians import GaussianField


class FitJob:
    """A fit in a thread of its own.

    Poll it from a timer: Slicer's event loop lets no Python thread run unless Python code waits for it, and `poll`
    does, for a moment at most. The thread knows no scene and no widget, so scenes may close while it computes.

    Example:
        >>> job = FitJob(mrml.fitter_from_nodes([volumeNode]))       # doctest: +SKIP
        >>> job.start()                                              # doctest: +SKIP
        >>> while not job.poll():                                    # doctest: +SKIP
        ...     slicer.app.processEvents()
        >>> field = job.field()                                      # doctest: +SKIP
    """

    def __init__(self, fitter: Fitter) -> None:
        self._fitter = fitter
        self._started = time.perf_counter()
        self._field: GaussianField | None = None
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._enough = threading.Event()
        # A daemon: an application that is closed does not wait for it.
        self._thread = threading.Thread(target=self._run, name="GaussianMRI fit", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def poll(self, patience: float = 0.03) -> bool:
        """Whether the fit has ended (done, failed or cancelled), waiting for up to `patience` seconds."""
        if self._cancelled.is_set():
            return True
        self._thread.join(patience)
        return not self._thread.is_alive()

    @property
    def progress(self) -> Progress | None:
        """The last report of the fit, or None before the first."""
        return self._fitter.progress

    def cancel(self) -> None:
        """Give up, at once: the thread ends within moments, and its result is dropped."""
        self._cancelled.set()
        self._fitter.cancel()

    def finish_early(self) -> None:
        """End after the present step and keep the field as it then stands."""
        self._enough.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def field(self) -> GaussianField:
        """The fitted field, once `poll` says that the fit has ended.

        Raises:
            GaussianMRIError: it was cancelled, or what the fit raised.
        """
        if self.cancelled:
            raise GaussianMRIError("The fit was cancelled.")
        if self._error is not None:
            raise self._error
        if self._field is None:
            raise GaussianMRIError("The fit has not ended yet.")
        return self._field

    def describe(self) -> str:
        """One line for a status label: stage, share, seconds and, once known, the error on left-out slices."""
        now = self.progress
        parts = ["starting", "0%"] if now is None else [now.stage, f"{now.fraction:.0%}"]
        parts.append(f"{time.perf_counter() - self._started:.0f} s")
        if now is not None and now.held_out_psnr is not None:
            parts.append(f"left-out slices: {now.held_out_psnr:.1f} dB PSNR")
        return " · ".join(parts)

    def _run(self) -> None:
        try:
            for _ in self._fitter:
                if self._enough.is_set():
                    break
            if not self._cancelled.is_set():
                self._field = self._fitter.field
        except BaseException as error:  # handed to the caller of `field`
            self._error = error
