"""The state of a training on disk."""

from __future__ import annotations

import os
from typing import Any

from ..tensor_files import read_state, write_state

FORMAT = "GaussianMRI cinematic training"
VERSION = 1
DAMAGED = "Take a copy of it, or delete it and train anew; the data set is not affected."


def write_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text and containers of them); see `tensor_files.write_state`."""
    write_state(path, {"format": FORMAT, "version": VERSION, **state})


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_checkpoint` wrote, with tensors on the CPU; see `tensor_files.read_state`."""
    return read_state(
        path,
        FORMAT,
        VERSION,
        "a checkpoint of a training",
        "Start the training without it.",
        DAMAGED,
    )[0]
