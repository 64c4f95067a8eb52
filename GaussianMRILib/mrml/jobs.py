"""Long work beside an event loop: it computes in a thread, the loop polls it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import GaussianMRIError
from ..interruption import interruptible

if TYPE_CHECKING:
    from ..fitting import Fitter, Progress
    from ..gaussians import GaussianField


#: Jobs whose threads may still run.
_alive: weakref.WeakSet[Job] = weakref.WeakSet()


def end_jobs(patience: float = 10.0) -> bool:
    """Cancel every job and wait for their threads, for up to `patience` seconds; whether all have ended.

    For a module that goes: Slicer ends Python next, and native code must not be on its way back into it.
    """
    end = time.monotonic() + patience
    jobs = list(_alive)
    for job in jobs:
        job.cancel()
    return all([job.wait(end - time.monotonic()) for job in jobs])


class Job:
    """Work in a thread of its own.

    Poll it from a timer: Slicer's event loop lets no Python thread run unless Python code waits for it, and `poll`
    does, for a moment at most. The thread knows no scene and no widget, so scenes may close while it computes.

    An interpreter that ends cancels the job and waits for its thread, which hears that at its next step. A daemon would
    come back from native code into an interpreter that is gone, which aborts the application.

    Args:
        work: what is done; it is given the job, looks at its `cancelled` and calls its `report`.
        name: of the work, for messages: "fit".
    """

    def __init__(self, work: Callable[[Any], Any], name: str = "job") -> None:
        self._work, self._name = work, name
        self._started = time.perf_counter()
        self._result: Any = None
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._stage, self._fraction = "starting", 0.0
        self._thread = threading.Thread(target=self._run, name=f"GaussianMRI {name}", daemon=False)

    def start(self) -> None:
        """Begin to compute."""
        _alive.add(self)
        self._thread.start()
        threading.Thread(target=self._end_with_interpreter, daemon=False).start()

    def run(self, progress: Callable[[float], object] | None = None) -> None:
        """Compute and wait for it, for a console.

        Args:
            progress: called with the fraction that is done, first with 0 before any work; when it returns False the
                work is cancelled.
        """
        if progress is not None and progress(0.0) is False:
            self.cancel()
            return
        self.start()
        while not self.poll():
            if progress is not None and progress(self.fraction) is False:
                self.cancel()

    def poll(self, patience: float = 0.03) -> bool:
        """Whether the work has ended (done, failed or cancelled), waiting for up to `patience` seconds."""
        if self._cancelled.is_set():
            return True
        self._thread.join(patience)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Give up, at once: the thread ends within moments, and its result is dropped."""
        self._cancelled.set()

    def wait(self, patience: float) -> bool:
        """Wait up to `patience` seconds for the thread itself, also of a cancelled job; whether it has ended."""
        if self._thread.ident is not None:
            self._thread.join(max(patience, 0.0))
        return not self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return self._fraction

    def report(self, fraction: float, stage: str) -> None:
        """Tell how far the work is; what works in the thread calls this."""
        self._stage, self._fraction = stage, min(max(float(fraction), 0.0), 1.0)

    def result(self) -> Any:
        """What the work made, once `poll` says that it has ended.

        Raises:
            GaussianMRIError: it was cancelled, or what it raised.
        """
        self._check()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise GaussianMRIError(f"The {self._name} has not ended yet.")
        return self._result

    def describe(self) -> str:
        """One line for a status label: stage, share and seconds."""
        return " · ".join([self._stage, f"{self.fraction:.0%}", self._elapsed()])

    def _check(self) -> None:
        if self.cancelled:
            raise GaussianMRIError(f"The {self._name} was cancelled.")

    def _elapsed(self) -> str:
        return f"{time.perf_counter() - self._started:.0f} s"

    def _end_with_interpreter(self) -> None:
        # Python stops its main thread first, then waits for the others.
        main = threading.main_thread()
        while self._thread.is_alive():
            if main.is_alive():
                self._thread.join(0.2)
            else:
                self.cancel()
                return

    def _run(self) -> None:
        try:
            with interruptible(self._check):
                result = self._work(self)
            if not self._cancelled.is_set():
                self._result = result
        except BaseException as error:  # handed to the caller of `result`
            self._error = error
        finally:
            _alive.discard(self)


class FitJob(Job):
    """A fit in a thread of its own.

    Example:
        >>> job = FitJob(mrml.fitter_from_nodes([volumeNode]))       # doctest: +SKIP
        >>> job.start()                                              # doctest: +SKIP
        >>> while not job.poll():                                    # doctest: +SKIP
        ...     slicer.app.processEvents()
        >>> field = job.field()                                      # doctest: +SKIP
    """

    def __init__(self, fitter: Fitter) -> None:
        super().__init__(FitJob._fit, "fit")
        self._fitter = fitter
        self._enough = threading.Event()

    @property
    def progress(self) -> Progress | None:
        """The last report of the fit, or None before the first."""
        return self._fitter.progress

    @property
    def first_guess(self) -> GaussianField | None:
        """A field to look at while the fit goes on, as soon as it is there, where the `Fitter` makes one; no result."""
        return None if self.cancelled else self._fitter.first_guess

    @property
    def fraction(self) -> float:
        return 0.0 if self.progress is None else self.progress.fraction

    def cancel(self) -> None:
        super().cancel()
        self._fitter.cancel()

    def finish_early(self) -> None:
        """End after the present step and keep the field as it then stands."""
        self._enough.set()

    def field(self) -> GaussianField:
        """The fitted field, once `poll` says that the fit has ended.

        Raises:
            GaussianMRIError: it was cancelled, or what the fit raised.
        """
        field: GaussianField = self.result()
        return field

    def describe(self) -> str:
        """One line for a status label: stage, share, seconds and, once known, the error on left-out slices."""
        now = self.progress
        parts = ["starting", "0%"] if now is None else [now.stage, f"{now.fraction:.0%}"]
        parts.append(self._elapsed())
        if now is not None and now.held_out_psnr is not None:
            parts.append(f"left-out slices: {now.held_out_psnr:.1f} dB PSNR")
        return " · ".join(parts)

    def _fit(self) -> GaussianField | None:
        for _ in self._fitter:
            if self._enough.is_set():
                break
        return None if self.cancelled else self._fitter.field
