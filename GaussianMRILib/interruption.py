"""Work that ends soon after it was called off, however deep in it the thread is at that moment.

Progress is told at steps that people can follow, which may take seconds. What computes calls `checkpoint` in between, and
knows neither who waits nor why.
"""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_here = threading.local()


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Within this block `checkpoint` calls `check`, in this thread only; it raises where the work has been called off."""
    before = getattr(_here, "check", None)
    _here.check = check
    try:
        yield
    finally:
        _here.check = before


def checkpoint() -> None:
    """A place to end at: between kernels, layers and passes, a fraction of a second apart.

    Raises:
        GaussianMRIError: this thread's work has been called off; nothing may have been changed that others see.
    """
    check = getattr(_here, "check", None)
    if check is not None:
        check()


def termination_interrupts() -> None:
    """From now on a polite kill ends this process like Ctrl-C, so that what has to be is cleaned up or kept."""

    def cancel(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, cancel)


def end_of_input_terminates() -> None:
    """From now on the end of standard input is heard as a polite kill: the program that started this one called it off.

    Unlike a signal that works on Windows, too, and where the other program crashed. Call `termination_interrupts` before.
    """

    # A copy is read, and programs that this one starts get an empty input: on Windows they would wait for the read to end.
    given = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(given, 4096):
                pass
        _thread.interrupt_main(signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def end_with_parent(tidy: Callable[[], object] = lambda: None) -> None:
    """From now on this process of `multiprocessing` ends when the one that started it has ended, in whatever way.

    A parent that was killed tells nobody: its workers would go on with what they have, and then wait for more for ever.

    Args:
        tidy: called in a thread before this process ends; returns when what runs has ended in good order, or was given
            the time for that.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        tidy()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def signals_later() -> Iterator[None]:
    """Ctrl-C and a polite kill within this block are heard at its end, so that a step is done whole or not at all.

    Handlers wait, not the signals: blocked in one thread, a signal goes to another, of kernels for instance.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not None}  # else not Python's
    try:
        for number in before:
            signal.signal(number, lambda got, _frame: heard.append(got))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
