"""SimpleITK without its warnings on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_itk() -> Iterator[Any]:
    """Yield the SimpleITK module with its warnings switched off; errors are raised as ever."""
    import SimpleITK

    process: Any = SimpleITK.ProcessObject
    shown = process.GetGlobalWarningDisplay()
    process.SetGlobalWarningDisplay(False)
    try:
        yield SimpleITK
    finally:
        process.SetGlobalWarningDisplay(shown)
