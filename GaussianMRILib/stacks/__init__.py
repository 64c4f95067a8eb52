"""Acquired slices and their readers."""

from __future__ import annotations

from .reader import read_stacks
from .slice_stack import SliceStack, check_same_frame

__all__ = ["SliceStack", "check_same_frame", "read_stacks"]
