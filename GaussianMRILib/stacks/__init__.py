"""Acquired slices and their readers."""

from __future__ import annotations

from .agreement import (
    apart,
    belonging_together,
    check_depth,
    check_same_contrast,
    check_same_frame,
    check_same_patient,
    copies,
    in_one_frame,
    why_apart,
    why_groups_apart,
)
from .poses import SliceColumns
from .reader import read_stacks
from .slice_stack import SliceStack, as_stacks, hulls_of, slice_columns

__all__ = [
    "SliceColumns",
    "SliceStack",
    "apart",
    "as_stacks",
    "belonging_together",
    "check_depth",
    "check_same_contrast",
    "check_same_frame",
    "check_same_patient",
    "copies",
    "hulls_of",
    "in_one_frame",
    "read_stacks",
    "slice_columns",
    "why_apart",
    "why_groups_apart",
]
