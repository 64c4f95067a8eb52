"""A small stand-in for the Slicer application around the real MRML libraries of slicer-core.

`Host` is a scene with its logics. `Application` adds Qt, by PySide6: it loads a module's file and panel as Slicer does.
It stands in for Slicer in tests; what runs here has not run in Slicer.
"""

from __future__ import annotations

from typing import Any

from .scene import Host

__all__ = ["Application", "Host"]


def __getattr__(name: str) -> Any:
    # Host needs no Qt.
    if name == "Application":
        from .application import Application

        return Application
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
