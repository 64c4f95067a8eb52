"""A procedural lumbar spine that is scanned into DICOM: input with a known truth."""

from __future__ import annotations

from .anatomy import Phantom
from .scanner import Scan, acquire
from .tissues import T1, T2, Contrast
from .write import PhantomFiles, lumbar_scans, write_lumbar_phantom

__all__ = [
    "T1",
    "T2",
    "Contrast",
    "Phantom",
    "PhantomFiles",
    "Scan",
    "acquire",
    "lumbar_scans",
    "write_lumbar_phantom",
]
