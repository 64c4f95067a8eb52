"""A small stand-in for the Slicer application around the real MRML libraries of slicer-core."""

from __future__ import annotations

from .scene import Host

__all__ = ["Host"]
