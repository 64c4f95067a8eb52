"""Rendered planes as files: volumes, pictures, derived DICOM series."""

from __future__ import annotations

from .dicom import SERIES_NUMBER, write_dicom_series
from .png import write_png
from .volume import write_volume

__all__ = ["SERIES_NUMBER", "write_dicom_series", "write_png", "write_volume"]
