"""Work that ends soon after it was called off, however deep in it the thread is at that moment.

Progress is told at steps that people can follow, which may take seconds. What computes calls `checkpoint` in between, and
knows neither who waits nor why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
