"""Acquired slices and their readers."""

from __future__ import annotations

from .agreement import apart, check_same_contrast, check_same_frame, check_same_patient
from .poses import SliceColumns, slice_columns
from .reader import read_stacks
from .slice_stack import SliceStack, hulls_of

__all__ = [
    "SliceColumns",
    "SliceStack",
    "apart",
    "check_same_contrast",
    "check_same_frame",
    "check_same_patient",
    "hulls_of",
    "read_stacks",
    "slice_columns",
]
